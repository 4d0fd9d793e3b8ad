/* SPDX-License-Identifier: MIT */
/* Four times a second: does every running worker give signs of life? A thread that gives none is a
 * hang: SIGABRT, so that it leaves last words, and SIGKILL if it does not even die. Slow disks are
 * not hangs: a thread that sleeps in the kernel without interruption is waited for, because nothing
 * can end it, not even SIGKILL. Beats are read from the channel page, which is untrusted: a beat
 * from the future counts as one of now. */
#include "supervisor/tick.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "supervisor/archive/archive_client.h"

#define TICK_NS         (250 * NS_PER_MS)
#define ABORT_GRACE_NS  (500 * NS_PER_MS)
#define SILENT_GRACE_NS NS_PER_S          /* between closing fd 3 and the exit */
#define SETTLE_NS       (100 * NS_PER_MS) /* a successor has by then taken what waited for it */
/* At the ledger: what is known of a ring that is scribbled over later */
#define LOOK_EVERY_TICKS 4
#define EXPIRE_EVERY_NS  (60 * NS_PER_S)

static uint32_t thread_id(const struct channel *channel, enum channel_thread thread)
{
    return atomic_load_explicit(&channel->hold.page->beats[thread].thread_id, memory_order_relaxed);
}

/* The state letter of proc(5): 'D' sleeps without interruption, 'T' is stopped; '?' when there is
 * no such thread in this worker. The thread's number is the worker's word: only threads of its own
 * process are looked at. Reading this file takes no lock that a thread could hold while it waits
 * for a disk. */
static char task_state(const struct child *worker, uint32_t thread_id)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/task/%u/stat", (int)worker->pid, thread_id);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return '?';
    ssize_t length = read(fd, text, sizeof text - 1);
    fd_close(&fd);
    text[length > 0 ? length : 0] = '\0';
    const char *end = strrchr(text, ')'); /* of the name, which may hold anything */
    return end && end[1] == ' ' && end[2] ? end[2] : '?';
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
    struct child *worker = channel->worker;
    uint32_t id = thread_id(channel, thread);
    char state = task_state(worker, id);
    log_error("channel %s: the %s of %s gave no sign of life for %.1f s%s; aborting it",
              channel->spec->name, channel_thread_names[thread], child_describe(worker),
              (double)silent_ns / 1e9, state == 'T' ? " (the process is stopped)" : "");
    worker->aborted_for_hang = true;
    snprintf(worker->hung_thread, sizeof worker->hung_thread, "%s", channel_thread_names[thread]);
    worker->abort_sent = now;
    abort_thread(worker, id);
}

static void note_disk(struct channel *channel, enum channel_thread thread, uint64_t silent_ns)
{
    bool writes = thread == CHANNEL_THREAD_RECORDER || thread == CHANNEL_THREAD_SYNCER;
    if (!channel->disk_warned)
        log_warning("channel %s: its %s has been waiting for the %s for %.1f s%s",
                    channel->spec->name, channel_thread_names[thread], writes ? "disk" : "kernel",
                    (double)silent_ns / 1e9, writes ? "; relaying goes on, the ring fills" : "");
    channel->disk_warned = true;
}

/* The control thread beats for those that are parked: when it is silent too, it is the one that
 * hangs. */
static bool vouches(const struct channel *channel, monotonic now)
{
    uint64_t beat_ns = atomic_load_explicit(
        &channel->hold.page->beats[CHANNEL_THREAD_CONTROL].beat_ns, memory_order_relaxed);
    return monotonic_since(now, (monotonic){beat_ns}) + TICK_NS <
           channel->supervisor->settings->hang_timeout_ns;
}

/* A thread that has been silent for too long, one that was at work before one that was parked;
 * CHANNEL_THREAD_COUNT when all is well. */
static enum channel_thread find_silent(struct channel *channel, monotonic now,
                                       uint64_t *ret_silent_ns)
{
    uint64_t limit = channel->supervisor->settings->hang_timeout_ns;
    enum channel_thread parked = CHANNEL_THREAD_COUNT;
    bool disk = false, control_waits = false;
    for (int i = 0; i < CHANNEL_THREAD_COUNT; i++) {
        const struct thread_beat *beat = &channel->hold.page->beats[i];
        uint32_t state = atomic_load_explicit(&beat->state, memory_order_relaxed);
        uint64_t beat_ns = atomic_load_explicit(&beat->beat_ns, memory_order_relaxed);
        uint64_t silent = monotonic_since(now, (monotonic){beat_ns});
        if (state == THREAD_ABSENT || beat_ns == 0 || silent <= limit)
            continue;
        if (state == THREAD_DISK || task_state(channel->worker, thread_id(channel, i)) == 'D') {
            disk = true;
            control_waits |= i == CHANNEL_THREAD_CONTROL;
            note_disk(channel, (enum channel_thread)i, silent);
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
    if (!disk && channel->disk_warned) {
        channel->disk_warned = false;
        log_notice("channel %s: the disk answers again", channel->spec->name);
    }
    return CHANNEL_THREAD_COUNT;
}

static void look_after_worker(struct channel *channel, monotonic now)
{
    struct child *worker = channel->worker;
    uint64_t silent = 0;

    if (worker->aborted_for_hang) {
        if (worker->abort_sent.ns && monotonic_since(now, worker->abort_sent) >= ABORT_GRACE_NS) {
            log_error("channel %s: %s did not die of SIGABRT; killing it", channel->spec->name,
                      child_describe(worker));
            worker->abort_sent = (monotonic){0};
            child_kill(worker, SIGKILL);
        }
        return;
    }
    if (worker->socket_closed.ns &&
        monotonic_since(now, worker->socket_closed) >= SILENT_GRACE_NS) {
        if (!worker->killed_for_silence) /* one that waits for a disk dies when the disk answers */
            log_error("channel %s: %s hung up but did not exit; killing it", channel->spec->name,
                      child_describe(worker));
        worker->killed_for_silence = true;
        child_kill(worker, SIGKILL);
        return;
    }
    if (channel->state != CHANNEL_RUNNING || !channel->hold.page)
        return;
    enum channel_thread thread = find_silent(channel, now, &silent);
    if (thread != CHANNEL_THREAD_COUNT)
        abort_for_hang(channel, thread, silent, now);
}

static int on_tick(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct supervisor *supervisor = userdata;
    monotonic now = monotonic_now();
    struct counters counters;
    uint64_t pending;
    (void)time_us;

    bool look = ++supervisor->ticks % LOOK_EVERY_TICKS == 0;
    /* If this process itself was stopped (or the machine), so were the workers: give them time to
     * beat. */
    bool was_away = monotonic_since(now, supervisor->last_tick) >
                    TICK_NS + supervisor->settings->hang_timeout_ns / 2;
    supervisor->last_tick = now;
    bool expire = monotonic_since(now, supervisor->last_expire) >= EXPIRE_EVERY_NS;
    if (expire)
        supervisor->last_expire = now;
    for (size_t i = 0; i < supervisor->channel_count; i++) {
        struct channel *channel = supervisor->channels[i];
        if (channel->worker && !was_away)
            look_after_worker(channel, now);
        if (channel->state == CHANNEL_RUNNING &&
            monotonic_since(now, channel->running_since) >= SETTLE_NS)
            channel_complete_obituary(channel);
        if (look && channel->state == CHANNEL_RUNNING)
            channel_read_counters(channel, &counters, &pending);
        if (expire && !supervisor->stopping)
            archive_client_expire(channel);
    }
    sd_event_source_set_time_relative(source, TICK_NS / NS_PER_US);
    return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int health_start(struct supervisor *supervisor)
{
    supervisor->last_tick = supervisor->last_expire = monotonic_now();
    int error = sd_event_set_watchdog(supervisor->event,
                                      true); /* does nothing unless systemd asks for it */
    if (error < 0)
        log_warning("systemd's watchdog can't be served: %s", strerror(-error));
    return supervisor_arm(supervisor, &supervisor->health_timer, TICK_NS, on_tick, supervisor);
}

void health_stop(struct supervisor *supervisor)
{
    supervisor->health_timer = sd_event_source_disable_unref(supervisor->health_timer);
}
