/* SPDX-License-Identifier: MIT */
/* The life of one generation: take over, start the threads, say READY, then be the control thread
 * until the end. The roof of this folder: called by main() alone. Must never say READY
 * before all threads are started: what fails until then ends the process. */
#include "worker/channel/channel_worker.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "common/channel_page.h"
#include "common/log.h"
#include "common/message.h"
#include "worker/channel/beat.h"
#include "worker/channel/channel_state.h"
#include "worker/channel/control.h"
#include "worker/channel/decimator.h"
#include "worker/channel/intake.h"
#include "worker/channel/reading.h"
#include "worker/channel/receiver.h"
#include "worker/channel/recorder.h"
#include "worker/channel/relay.h"
#include "worker/channel/syncer.h"
#include "worker/channel/takeover.h"
#include "worker/inherit.h"

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
    if (result == 0 && channel_spec_is_local(channel->spec))
        result = intake_open(channel);
    if (result == 0)
        result = start_thread(&channel->receiver_thread, receiver_main, channel);
    sched_yield(); /* on one processor, the receiver would wait until this thread is done */
    if (result == 0 && channel->spec->decimate_count > 0) {
        result = decimator_open(channel);
        if (result == 0)
            result = start_thread(&channel->decimator_thread, decimator_main, channel);
    }
    if (result == 0 && channel->spec->record.enabled) {
        result = syncer_open(channel);
        if (result == 0)
            result = recorder_open(channel);
        if (result == 0)
            result = start_thread(&channel->syncer_thread, syncer_main, channel);
        /* Last: it asks the disk at once, and while that does not answer, the address space may be
         * locked against another thread's stack. */
        if (result == 0)
            result = start_thread(&channel->recorder_thread, recorder_main, channel);
    }
    if (result == 0 && channel->reading.has_thread &&
        start_thread(&channel->reading_thread, reading_main, channel) < 0)
        log_error("readers of this channel are woken late"); /* by the control thread's looks */
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
    int result = channel_state_open(channel, inheritance);
    if (result < 0) {
        log_error("eventfd: %s", strerror(-result));
        return 1;
    }
    apply_cpus(channel->spec);

    result = takeover_attach(channel, &what);
    if (result == -EBADMSG) {
        log_error("the ring can't be trusted: %s; a fresh one is needed", what);
        say_ready(channel, what);
        return 0;
    }
    if (result == 0) {
        /* From READY on the supervisor watches: every thread beats before that. */
        beat_busy(channel, CHANNEL_THREAD_CONTROL);
        beat_begin(channel, CHANNEL_THREAD_CONTROL);
        reading_open(channel);
        result = start_parts(channel);
    }
    if (result < 0) {
        log_error("can't start: %s", strerror(-result));
        return 1;
    }
    say_ready(channel, NULL);
    return control_run(channel);
}
