/* SPDX-License-Identifier: MIT */
/* Does a running worker give signs of life? A thread that gives none is a hang: SIGABRT, so that it
 * leaves last words, and SIGKILL if it does not even die. Slow disks are not hangs: a thread that
 * sleeps in the kernel without interruption is waited for, because nothing can end it, not even
 * SIGKILL. Called by the regular look. Beats are read from the channel page, which is untrusted: a
 * beat from the future counts as one of now. */
#include "supervisor/channel/channel_hang.h"

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/channel_page.h"
#include "common/log.h"
#include "supervisor/channel/channel_leftovers.h"
#include "supervisor/child/child.h"
#include "supervisor/hold/hold_ring.h"
#include "supervisor/system/process.h"

#define ABORT_GRACE_NS  (500 * NS_PER_MS)
#define SILENT_GRACE_NS NS_PER_S           /* between closing fd 3 and the exit */
#define DISK_WAIT_NS    (1500 * NS_PER_MS) /* signs of life come at least once a second */

static uint32_t thread_id(const struct channel *channel, enum channel_thread thread)
{
    return atomic_load_explicit(&channel->hold.page->private.beats[thread].thread_id,
                                memory_order_relaxed);
}

/* The thread's number is the worker's word: only threads of its own process are looked at. */
static char task_state(const struct child *worker, uint32_t thread_id)
{
    return process_task_state(worker->pid, thread_id);
}

static bool is_at_disk(const struct channel *channel, enum channel_thread thread, uint32_t state)
{
    return state == THREAD_DISK ||
           task_state(channel->lent.worker, thread_id(channel, thread)) == 'D';
}

static uint64_t silence_of(const struct channel *channel, enum channel_thread thread, monotonic now)
{
    uint64_t beat_ns = atomic_load_explicit(&channel->hold.page->private.beats[thread].beat_ns,
                                            memory_order_relaxed);
    return monotonic_since(now, (monotonic){beat_ns});
}

/* Whoever killed it: all threads are gone but those that sleep in the kernel without interruption,
 * and the first one, which waits for them. */
static bool is_dead(const struct channel *channel, monotonic now)
{
    const struct child *worker = channel->lent.worker;
    uint64_t limit = channel->host->settings->hang_timeout_ns;
    if (channel->hang.kill_sent.ns)
        return monotonic_since(now, channel->hang.kill_sent) >= SILENT_GRACE_NS;
    if (!channel->lent.ready || !channel->hold.page)
        return false;
    if (silence_of(channel, CHANNEL_THREAD_CONTROL, now) <
        (limit < DISK_WAIT_NS ? limit : DISK_WAIT_NS))
        return false;
    return task_state(worker, (uint32_t)worker->pid) == 'Z';
}

static void note_dead(struct channel *channel)
{
    if (!channel->hang.dead)
        log_error("channel %s: %s was killed and can't end: one of its threads waits in the "
                  "kernel, as for a disk that does not answer. Until it ends, nobody receives, and "
                  "what comes in is queued as far as the kernel's buffer goes",
                  channel->spec->name, child_describe(channel->lent.worker));
    channel->hang.dead = true;
}

const char *channel_hang_trouble(const struct channel *channel)
{
    return channel->lent.worker && channel->hang.dead
               ? "its worker was killed, and can't end as long as what one of its threads waits "
                 "for, such as a disk, does not answer: until then nothing is received or relayed"
               : "";
}

/* To the thread itself, so that the last words tell where it hangs. Not yet waited for, so the pid
 * is no stranger's. */
static void abort_thread(struct child *worker, uint32_t thread_id)
{
    if (thread_id == 0 || thread_id > INT32_MAX ||
        syscall(SYS_tgkill, worker->pid, (pid_t)thread_id, SIGABRT) < 0)
        child_kill(worker, SIGABRT);
    child_kill(worker, SIGCONT); /* a stopped process would say nothing */
}

static void abort_for_hang(struct channel *channel, enum channel_thread thread, uint64_t silent_ns,
                           monotonic now)
{
    struct child *worker = channel->lent.worker;
    uint32_t id = thread_id(channel, thread);
    char state = task_state(worker, id);
    log_error("channel %s: the %s of %s gave no sign of life for %.1f s%s; aborting it",
              channel->spec->name, channel_thread_names[thread], child_describe(worker),
              (double)silent_ns / 1e9, state == 'T' ? " (the process is stopped)" : "");
    channel->hang.aborted = true;
    snprintf(channel->hang.thread, sizeof channel->hang.thread, "%s", channel_thread_names[thread]);
    channel->hang.abort_sent = now;
    abort_thread(worker, id);
}

static void note_disk(struct channel *channel, enum channel_thread thread, uint64_t silent_ns)
{
    bool writes = thread == CHANNEL_THREAD_RECORDER || thread == CHANNEL_THREAD_SYNCER;
    if (!channel->hang.disk_warned)
        log_warning("channel %s: its %s has been waiting for the %s for %.1f s%s",
                    channel->spec->name, channel_thread_names[thread], writes ? "disk" : "kernel",
                    (double)silent_ns / 1e9, writes ? "; relaying goes on, the ring fills" : "");
    channel->hang.disk_warned = true;
}

/* The control thread beats for those that are parked: when it is silent too, it is the one that
 * hangs. */
static bool vouches(const struct channel *channel, monotonic now)
{
    return silence_of(channel, CHANNEL_THREAD_CONTROL, now) + CHANNEL_HANG_LOOK_NS <
           channel->host->settings->hang_timeout_ns;
}

uint64_t channel_hang_disk_wait(const struct channel *channel, monotonic now)
{
    uint64_t longest = 0;
    if (!channel->lent.worker || !channel->hold.page)
        return 0;
    for (int i = 0; i < CHANNEL_THREAD_COUNT; i++) {
        const struct thread_beat *beat = &channel->hold.page->private.beats[i];
        uint32_t state = atomic_load_explicit(&beat->state, memory_order_relaxed);
        uint64_t beat_ns = atomic_load_explicit(&beat->beat_ns, memory_order_relaxed);
        uint64_t silent = monotonic_since(now, (monotonic){beat_ns});
        if (state == THREAD_ABSENT || beat_ns == 0 || silent < DISK_WAIT_NS || silent <= longest)
            continue;
        if (is_at_disk(channel, (enum channel_thread)i, state))
            longest = silent;
    }
    return longest;
}

/* A thread that has been silent for too long, one that was at work before one that was parked;
 * CHANNEL_THREAD_COUNT when all is well. */
static enum channel_thread find_silent(struct channel *channel, monotonic now,
                                       uint64_t *ret_silent_ns)
{
    uint64_t limit = channel->host->settings->hang_timeout_ns;
    enum channel_thread parked = CHANNEL_THREAD_COUNT;
    bool disk = false, control_waits = false;
    for (int i = 0; i < CHANNEL_THREAD_COUNT; i++) {
        const struct thread_beat *beat = &channel->hold.page->private.beats[i];
        uint32_t state = atomic_load_explicit(&beat->state, memory_order_relaxed);
        uint64_t beat_ns = atomic_load_explicit(&beat->beat_ns, memory_order_relaxed);
        uint64_t silent = monotonic_since(now, (monotonic){beat_ns});
        if (state == THREAD_ABSENT || beat_ns == 0 || silent <= limit)
            continue;
        monotonic *at_disk = &channel->hang.at_disk[i];
        if (is_at_disk(channel, (enum channel_thread)i, state)) {
            *at_disk = now;
            disk = true;
            note_disk(channel, (enum channel_thread)i, silent);
        }
        /* Also when the disk has answered only now: it has had no time yet to go on. */
        if (at_disk->ns && monotonic_since(now, *at_disk) <= limit) {
            control_waits |= i == CHANNEL_THREAD_CONTROL;
            continue;
        }
        if (state == THREAD_PARKED && parked != CHANNEL_THREAD_COUNT)
            continue;
        *ret_silent_ns = silent;
        if (state != THREAD_PARKED) /* a state that does not exist is no excuse either */
            return (enum channel_thread)i;
        parked = (enum channel_thread)i;
    }
    if (parked != CHANNEL_THREAD_COUNT && control_waits)
        return CHANNEL_THREAD_COUNT; /* nobody is there to beat for it */
    if (parked != CHANNEL_THREAD_COUNT)
        return vouches(channel, now) ? parked : CHANNEL_THREAD_CONTROL;
    if (!disk && channel->hang.disk_warned) {
        channel->hang.disk_warned = false;
        log_notice("channel %s: the disk answers again", channel->spec->name);
    }
    return CHANNEL_THREAD_COUNT;
}

void channel_hang_look(struct channel *channel, monotonic now)
{
    struct child *worker = channel->lent.worker;
    struct channel_hang *hang = &channel->hang;
    uint64_t silent = 0;

    if (is_dead(channel, now))
        note_dead(channel);
    if (hang->aborted) {
        if (hang->abort_sent.ns && monotonic_since(now, hang->abort_sent) >= ABORT_GRACE_NS) {
            log_error("channel %s: %s did not die of SIGABRT; killing it", channel->spec->name,
                      child_describe(worker));
            hang->abort_sent = (monotonic){0};
            hang->kill_sent = now;
            child_kill(worker, SIGKILL);
        }
        return;
    }
    if (worker->socket_closed.ns &&
        monotonic_since(now, worker->socket_closed) >= SILENT_GRACE_NS) {
        if (!hang->killed_for_silence) /* one that waits for a disk dies when the disk answers */
            log_error("channel %s: %s hung up but did not exit; killing it", channel->spec->name,
                      child_describe(worker));
        if (!hang->killed_for_silence)
            hang->kill_sent = now;
        hang->killed_for_silence = true;
        child_kill(worker, SIGKILL);
        return;
    }
    if (!channel->lent.ready || !channel->hold.page || hang->dead)
        return;
    enum channel_thread thread = find_silent(channel, now, &silent);
    if (thread != CHANNEL_THREAD_COUNT)
        abort_for_hang(channel, thread, silent, now);
}

void channel_hang_kill_starter(struct channel *channel)
{
    log_error("channel %s: %s did not become READY within %.3g s; killing it", channel->spec->name,
              child_describe(channel->lent.worker), (double)channel->life.ready_within / 1e9);
    channel->life.late_starts++;
    channel->hang.aborted = true;
    snprintf(channel->hang.thread, sizeof channel->hang.thread, "start");
    child_kill(channel->lent.worker, SIGKILL);
}

void channel_hang_kill_stopper(const struct channel *channel, uint64_t deadline_ns)
{
    log_error("channel %s: %s did not finish within %llu s; killing it", channel->spec->name,
              child_describe(channel->lent.worker), (unsigned long long)(deadline_ns / NS_PER_S));
    child_kill(channel->lent.worker, SIGKILL);
}

/* Another one would be as late with what is in the ring; what the kernel has queued it may still
 * receive. */
void channel_hang_kill_late_stopper(struct channel *channel, uint64_t deadline_ns)
{
    struct hold_queue queue;
    bool queued = hold_ring_queue(&channel->hold, &queue) && queue.used > 0;
    if (!queued)
        channel->life.drains = CHANNEL_DRAINS_MAX;
    else if (channel->life.drains < CHANNEL_DRAINS_MAX - 1)
        channel->life.drains = CHANNEL_DRAINS_MAX - 1;
    channel_hang_kill_stopper(channel, deadline_ns);
}
