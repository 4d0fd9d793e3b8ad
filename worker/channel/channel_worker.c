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

static void beat(struct channel_worker *worker, enum channel_thread thread, enum thread_state state)
{
    struct thread_beat *own = &worker->ring.page->beats[thread];
    atomic_store_explicit(&own->beat_ns, monotonic_now().ns, memory_order_relaxed);
    atomic_store_explicit(&own->state, state, memory_order_release);
}

void thread_begin(struct channel_worker *worker, enum channel_thread thread)
{
    last_words_thread(thread);
    pthread_setname_np(pthread_self(), channel_thread_names[thread]);
    atomic_store(&worker->ring.page->beats[thread].thread_id, (uint32_t)gettid());
}

void beat_busy(struct channel_worker *worker, enum channel_thread thread)
{
    beat(worker, thread, THREAD_BUSY);
}

void beat_parked(struct channel_worker *worker, enum channel_thread thread)
{
    beat(worker, thread, THREAD_PARKED);
}

void beat_disk(struct channel_worker *worker, enum channel_thread thread)
{
    beat(worker, thread, THREAD_DISK);
}

void beat_work(struct channel_worker *worker, enum channel_thread thread, uint64_t first,
               uint64_t end)
{
    struct thread_beat *own = &worker->ring.page->beats[thread];
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

static int start_thread(pthread_t *thread, void *(*run)(void *), struct channel_worker *worker)
{
    int error = pthread_create(thread, NULL, run, worker);
    if (error)
        log_error("starting a thread: %s", strerror(error));
    return -error;
}

/* Where the readers stand, before there are any: the receiver asks them before it starts over at
 * the ring's front. */
static void note_cursors(struct channel_worker *worker)
{
    struct commit_progress committed;
    struct decimate_progress decimated;
    if (worker->spec->record.enabled && channel_page_read_commit(worker->ring.page, &committed))
        atomic_store(&worker->recorder_cursor, committed.next_seq);
    if (worker->spec->decimate_count > 0 &&
        channel_page_read_decimate(worker->ring.page, &decimated))
        atomic_store(&worker->decimator_cursor, decimated.next_seq);
}

/* The relay first: datagrams wait for it. Recorder and decimator find theirs in the ring. */
static int start_parts(struct channel_worker *worker)
{
    note_cursors(worker);
    atomic_store(&worker->recorder_done, !worker->spec->record.enabled);
    atomic_store(&worker->decimator_done, worker->spec->decimate_count == 0);
    int result = relay_open(worker);
    if (result == 0)
        result = start_thread(&worker->receiver_thread, receiver_main, worker);
    sched_yield(); /* on one processor, the receiver would wait until this thread is done */
    if (result == 0 && worker->spec->decimate_count > 0) {
        result = decimator_open(worker);
        if (result == 0)
            result = start_thread(&worker->decimator_thread, decimator_main, worker);
    }
    if (result == 0 && worker->spec->record.enabled) {
        result = recorder_open(worker);
        if (result == 0)
            result = start_thread(&worker->recorder_thread, recorder_main, worker);
        if (result == 0)
            result = start_thread(&worker->syncer_thread, syncer_main, worker);
    }
    return result;
}

static void say_ready(struct channel_worker *worker, const char *refused)
{
    struct message_ready ready = {.recovered = worker->recovered,
                                  .ring_refused = refused != NULL,
                                  .mapping_double = worker->ring.data.doubled};
    strncpy(ready.reason, refused ? refused : worker->ring.data.reason, sizeof ready.reason - 1);
    int result = message_send(MESSAGE_FD, MESSAGE_READY, worker->inheritance->generation, &ready,
                              sizeof ready, NULL, 0);
    if (result < 0)
        log_error("telling the supervisor READY: %s",
                  strerror(-result)); /* it has a deadline for that */
}

int channel_worker_run(struct inheritance *inheritance)
{
    static struct channel_worker only_one; /* its threads use it as long as the process lives */
    struct channel_worker *worker = &only_one;
    char who[CHANNEL_NAME_SIZE + 16] = "channel ";
    const char *what;

    strcat(who, inheritance->spec->name);
    log_open(who);
    worker->inheritance = inheritance;
    worker->spec = inheritance->spec;
    atomic_store(&worker->recorder_cursor, UINT64_MAX);
    atomic_store(&worker->decimator_cursor, UINT64_MAX);
    atomic_store(&worker->recorder_wakeup.wake_at, WAKEUP_NEVER);
    atomic_store(&worker->decimator_wakeup.wake_at, WAKEUP_NEVER);
    atomic_store(&worker->space_wakeup.wake_at, WAKEUP_NEVER);
    worker->control_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (worker->control_event < 0) {
        log_error("eventfd: %s", strerror(errno));
        return 1;
    }
    apply_cpus(worker->spec);

    int result = takeover_attach(worker, &what);
    if (result == -EBADMSG) {
        log_error("the ring can't be trusted: %s; a fresh one is needed", what);
        say_ready(worker, what);
        return 0;
    }
    if (result == 0) {
        /* From READY on the supervisor watches: every thread beats before that. */
        beat_busy(worker, CHANNEL_THREAD_CONTROL);
        atomic_store(&worker->ring.page->beats[CHANNEL_THREAD_CONTROL].thread_id,
                     (uint32_t)gettid());
        result = start_parts(worker);
    }
    if (result < 0) {
        log_error("can't start: %s", strerror(-result));
        return 1;
    }
    say_ready(worker, NULL);
    return control_run(worker);
}
