/* SPDX-License-Identifier: MIT */
/* The life of one generation: take over, start the threads, say READY, then be the control thread
 * until the end. */
#include "worker/channel/channel_state.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/log.h"
#include "worker/channel/recorder.h"
#include "worker/last_words.h"

static void beat(struct channel_state *channel, enum channel_thread thread, enum thread_state state)
{
    struct thread_beat *own = &channel->ring.page->beats[thread];
    atomic_store_explicit(&own->beat_ns, monotonic_now().ns, memory_order_relaxed);
    atomic_store_explicit(&own->state, state, memory_order_release);
}

void thread_begin(struct channel_state *channel, enum channel_thread thread)
{
    last_words_thread(thread);
    pthread_setname_np(pthread_self(), channel_thread_names[thread]);
    atomic_store(&channel->ring.page->beats[thread].thread_id, (uint32_t)gettid());
}

void beat_busy(struct channel_state *channel, enum channel_thread thread)
{
    beat(channel, thread, THREAD_BUSY);
}

void beat_parked(struct channel_state *channel, enum channel_thread thread)
{
    beat(channel, thread, THREAD_PARKED);
}

void beat_disk(struct channel_state *channel, enum channel_thread thread)
{
    beat(channel, thread, THREAD_DISK);
}

void beat_work(struct channel_state *channel, enum channel_thread thread, uint64_t first,
               uint64_t end)
{
    struct thread_beat *own = &channel->ring.page->beats[thread];
    atomic_store_explicit(&own->work_first, first, memory_order_relaxed);
    atomic_store_explicit(&own->work_end, end, memory_order_release);
}

/* All threads of the worker inherit this from the main thread. */
static void apply_cpus(const struct channel_spec *spec)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    for (unsigned cpu = 0; cpu < CHANNEL_CPUS_MAX; cpu++)
        if (spec->cpus[cpu / 64] >> (cpu % 64) & 1)
            CPU_SET(cpu, &cpus);
    if (CPU_COUNT(&cpus) == 0 || sched_setaffinity(0, sizeof cpus, &cpus) == 0)
        return;
    if (errno == EINVAL)
        log_warning("cpus: this machine, or holdfastd's cpuset, has none of them; the worker runs "
                    "on any CPU. lscpu(1) "
                    "and AllowedCPUs= of the unit tell which there are");
    else
        log_warning("cpus: %s; the worker runs on any CPU (see sched_setaffinity(2))",
                    strerror(errno));
}

void schedule_behind(void)
{
    struct sched_param none = {0};
    sched_setscheduler(0, SCHED_BATCH, &none); /* a courtesy: nothing depends on it */
}

static int start_thread(pthread_t *thread, void *(*run)(void *), struct channel_state *channel)
{
    int error = pthread_create(thread, NULL, run, channel);
    if (error)
        log_error("starting a thread: %s", strerror(error));
    return -error;
}

/* Where the readers stand, before there are any: the receiver asks them before it starts over at
 * the ring's front. */
static void note_cursors(struct channel_state *channel)
{
    struct commit_progress committed;
    struct decimate_progress decimated;
    if (channel->spec->record.enabled && channel_page_read_commit(channel->ring.page, &committed))
        atomic_store(&channel->recorder_cursor, committed.next_seq);
    if (channel->spec->decimate_count > 0 &&
        channel_page_read_decimate(channel->ring.page, &decimated))
        atomic_store(&channel->decimator_cursor, decimated.next_seq);
}

/* The relay first: datagrams wait for it. Recorder and decimator find theirs in the ring. */
static int start_parts(struct channel_state *channel)
{
    note_cursors(channel);
    atomic_store(&channel->recorder_done, !channel->spec->record.enabled);
    atomic_store(&channel->decimator_done, channel->spec->decimate_count == 0);
    int result = relay_open(channel);
    if (result == 0)
        result = start_thread(&channel->receiver_thread, receiver_main, channel);
    sched_yield(); /* on one processor, the receiver would wait until this thread is done */
    if (result == 0 && channel->spec->decimate_count > 0) {
        result = decimator_open(channel);
        if (result == 0)
            result = start_thread(&channel->decimator_thread, decimator_main, channel);
    }
    if (result == 0 && channel->spec->record.enabled) {
        result = recorder_open(channel);
        if (result == 0)
            result = start_thread(&channel->recorder_thread, recorder_main, channel);
        if (result == 0)
            result = start_thread(&channel->syncer_thread, syncer_main, channel);
    }
    return result;
}

static void say_ready(struct channel_state *channel, const char *refused)
{
    struct message_ready ready = {.recovered = channel->recovered,
                                  .ring_refused = refused != NULL,
                                  .mapping_double = channel->ring.data.doubled};
    strncpy(ready.reason, refused ? refused : channel->ring.data.reason, sizeof ready.reason - 1);
    int result = message_send(MESSAGE_FD, MESSAGE_READY, channel->inheritance->generation, &ready,
                              sizeof ready, NULL, 0);
    if (result < 0)
        log_error("telling the supervisor READY: %s",
                  strerror(-result)); /* it has a deadline for that */
}

int channel_worker_run(struct inheritance *inheritance)
{
    static struct channel_state only_one; /* its threads use it as long as the process lives */
    struct channel_state *channel = &only_one;
    char who[CHANNEL_NAME_SIZE + 16] = "channel ";
    const char *what;

    strcat(who, inheritance->spec->name);
    log_open(who);
    channel->inheritance = inheritance;
    channel->spec = inheritance->spec;
    atomic_store(&channel->recorder_cursor, UINT64_MAX);
    atomic_store(&channel->decimator_cursor, UINT64_MAX);
    atomic_store(&channel->recorder_wakeup.wake_at, WAKEUP_NEVER);
    atomic_store(&channel->decimator_wakeup.wake_at, WAKEUP_NEVER);
    atomic_store(&channel->space_wakeup.wake_at, WAKEUP_NEVER);
    channel->control_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (channel->control_event < 0) {
        log_error("eventfd: %s", strerror(errno));
        return 1;
    }
    apply_cpus(channel->spec);

    int result = takeover_attach(channel, &what);
    if (result == -EBADMSG) {
        log_error("the ring can't be trusted: %s; a fresh one is needed", what);
        say_ready(channel, what);
        return 0;
    }
    if (result == 0) {
        /* From READY on the supervisor watches: every thread beats before that. */
        beat_busy(channel, CHANNEL_THREAD_CONTROL);
        atomic_store(&channel->ring.page->beats[CHANNEL_THREAD_CONTROL].thread_id,
                     (uint32_t)gettid());
        result = start_parts(channel);
    }
    if (result < 0) {
        log_error("can't start: %s", strerror(-result));
        return 1;
    }
    say_ready(channel, NULL);
    return control_run(channel);
}
