/* SPDX-License-Identifier: MIT */
/* What the append backends share: the records they write, their clock, their readers. Nothing here
 * may cost a backend more than another. */
#include "tests/bench/append.h"

#include <stdlib.h>
#include <time.h>

#include "tests/bench/support.h"

#define PAYLOADS 64 /* different ones: warm memory, as a ring is when its reader keeps up */
#define FIRST_US 1700000000000000ll

static uint8_t payloads[PAYLOADS * APPEND_PAYLOAD_MAX];
static struct append_reader readers[APPEND_READERS_MAX];
static uint64_t clock_started, clock_cpu_started;

void append_prepare(void)
{
    for (uint32_t i = 0; i < sizeof payloads; i++)
        payloads[i] = (uint8_t)(i * 131 % 251);
}

void append_fill(const struct append_job *job, uint64_t seq, struct avro_log_record *ret)
{
    static const char source[] = "127.0.0.1:50123";
    *ret = (struct avro_log_record){.seq = (int64_t)seq,
                                    .received_at_us = FIRST_US + (int64_t)seq,
                                    .received_ns = (int32_t)(seq % 1000),
                                    .source = source,
                                    .source_length = sizeof source - 1,
                                    .payload = payloads + seq % PAYLOADS * job->payload,
                                    .payload_length = job->payload};
}

static void *reader_main(void *argument)
{
    struct append_reader *reader = argument;
    reader->follow(reader);
    return NULL;
}

void append_readers_start(struct append_job *job, void (*follow)(struct append_reader *reader),
                          void *context)
{
    for (uint32_t i = 0; i < job->readers; i++) {
        readers[i] = (struct append_reader){
            .job = job, .context = context, .count = &job->reader_records[i], .follow = follow};
        if (pthread_create(&readers[i].thread, NULL, reader_main, &readers[i]) != 0)
            support_fail("pthread_create");
    }
}

void append_readers_stop(struct append_job *job)
{
    atomic_store(&job->done, true);
    for (uint32_t i = 0; i < job->readers; i++)
        pthread_join(readers[i].thread, NULL);
}

void append_reader_rest(void)
{
    struct timespec pause = {0, 200 * NS_PER_US};
    nanosleep(&pause, NULL);
}

void append_clock_begin(struct append_job *job)
{
    support_pin(job->writer_cpu);
    counts_begin(&job->counts);
    clock_cpu_started = support_thread_cpu_ns();
    clock_started = monotonic_now().ns;
}

bool append_clock_over(const struct append_job *job)
{
    return monotonic_now().ns - clock_started >= job->deadline_ns;
}

void append_clock_end(struct append_job *job)
{
    job->ns = monotonic_now().ns - clock_started;
    job->cpu_ns = support_thread_cpu_ns() - clock_cpu_started;
    counts_end(&job->counts);
}
