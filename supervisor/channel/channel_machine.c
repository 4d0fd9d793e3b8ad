/* SPDX-License-Identifier: MIT */
/* A channel's state machine: a state x event table of actions, and one change_state() that does
 * what entering a state means. Fed by operators (channel_verbs.c), by the worker
 * (channel_worker_events.c) and the archive (channel_answers.c), by its own timers, and by whoever
 * starts, upgrades and stops everything. Must never block, and must never leave a worker behind:
 * outside STARTING, RUNNING and STOPPING there is none. */
#include "supervisor/channel/channel_machine.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "supervisor/channel/channel_discard.h"
#include "supervisor/channel/channel_former.h"
#include "supervisor/channel/channel_hang.h"
#include "supervisor/channel/channel_ledger.h"
#include "supervisor/channel/channel_leftovers.h"
#include "supervisor/channel/channel_lend.h"
#include "supervisor/channel/channel_reading.h"
#include "supervisor/channel/channel_recording.h"
#include "supervisor/channel/channel_progress.h"
#include "supervisor/channel/channel_ring.h"
#include "supervisor/channel/channel_segments.h"
#include "supervisor/child/child.h"
#include "supervisor/child/restart.h"
#include "supervisor/hold/hold.h"
#include "supervisor/hold/hold_destinations.h"
#include "supervisor/hold/hold_ring.h"
#include "supervisor/hold/hold_sockets.h"
#include "supervisor/hold/store.h"
#include "supervisor/policy/restart_policy.h"
#include "supervisor/system/timer.h"

#define BACKOFF_LOOK_NS (50 * NS_PER_MS) /* at the kernel's queue */

static const char *const event_names[CHANNEL_EVENT_COUNT] = {
    "START", "OPENED", "OPEN_FAILED", "READY", "DIED", "TIMER", "STOP", "RESTART", "RESET"};

static void change_state(struct channel *channel, enum channel_state to, const char *cause);
static void enter_backoff(struct channel *channel);
static void finish_stop(struct channel *channel, const char *cause);

/* ---- the state's deadline ---- */

static int on_timer(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct channel *channel = userdata;
    (void)source;
    (void)time_us;
    channel_machine_handle(channel, CHANNEL_EVENT_TIMER, "its time has come");
    return 0;
}

static void arm(struct channel *channel, uint64_t delay_ns, sd_event_time_handler_t handler)
{
    if (timer_arm(&channel->life.timer, channel->host->event, delay_ns, handler, channel) < 0)
        log_error("channel %s: no memory for a timer", channel->spec->name);
}

/* ---- actions ---- */

static void ignore(struct channel *channel, const char *cause)
{
    (void)channel;
    (void)cause;
}

static void impossible(struct channel *channel, const char *cause)
{
    log_error("channel %s: an event that can't happen in %s (%s): ignored; please report it",
              channel->spec->name, channel_state_names[channel->life.state], cause);
}

/* A new beginning: what was before doesn't count. */
static void begin(struct channel *channel, const char *cause)
{
    channel->life.wanted = true;
    restart_forget(&channel->life.restart);
    restart_forget(&channel->life.opening);
    channel->life.drains = 0;
    change_state(channel, CHANNEL_OPENING, cause);
}

static void wait_before_start(struct channel *channel, uint64_t delay_ns, const char *cause)
{
    channel->life.worker_waited_for = channel->life.state != CHANNEL_OPENING;
    channel->life.next_start = monotonic_add(monotonic_now(), delay_ns);
    change_state(channel, CHANNEL_BACKOFF, cause);
}

/* A socket that can't be opened is never a reason to give up: interfaces and addresses come and go.
 */
static void retry_opening(struct channel *channel, const char *cause)
{
    uint64_t delay = restart_delay(&channel->life.opening, &channel->host->settings->restart);
    if (channel->life.wanted)
        wait_before_start(channel, delay, cause);
    else /* only to drain what is left, which then can't be */
        finish_stop(channel, cause);
}

static void launch(struct channel *channel, const char *cause)
{
    char why[256];
    if (channel->host->phase == PHASE_PARKS) { /* the supervisor after this one starts it */
        if (channel->life.state != CHANNEL_OPENING)
            change_state(channel, CHANNEL_OPENING, cause);
        return;
    }
    if (hold_destinations_open(&channel->hold, channel->spec, why, sizeof why) < 0 ||
        channel_ring_make(channel, why, sizeof why) < 0) {
        retry_opening(channel, why);
        return;
    }
    change_state(channel, CHANNEL_STARTING, cause);
}

static void launch_without_log(struct channel *channel, const char *cause)
{
    (void)cause;
    if (channel_recording_can_wait_on(channel)) {
        channel_note_reported(channel);
        arm(channel, channel_recording_patience(channel), on_timer);
        return;
    }
    channel_recording_wait_no_longer(channel);
    launch(channel, "started without its log");
}

static void run(struct channel *channel, const char *cause)
{
    restart_forget(&channel->life.opening);
    channel->life.restart.running_since = monotonic_now();
    channel->life.late_starts = 0;
    change_state(channel, CHANNEL_RUNNING, cause);
    if (channel->recording.renumber && channel_recording_settled(channel))
        channel_machine_handle(channel, CHANNEL_EVENT_RESTART, "the log goes on at a later number");
}

static void open_again(struct channel *channel, const char *cause)
{
    change_state(channel, CHANNEL_OPENING, cause);
}

static void open_afresh(struct channel *channel, const char *cause)
{
    restart_forget(&channel->life.restart);
    restart_forget(&channel->life.opening);
    change_state(channel, CHANNEL_OPENING, cause);
}

static void forgive(struct channel *channel, const char *cause)
{
    (void)cause;
    restart_forget(&channel->life.restart);
}

static void kill_late_starter(struct channel *channel, const char *cause)
{
    (void)cause;
    child_listen(channel->lent.worker); /* it may be this process that is late */
    if (channel->life.state == CHANNEL_STARTING)
        channel_hang_kill_starter(channel);
}

/* ---- stopping ---- */

/* Nothing is left of it. What its former settings held up begins, and who was to start it again
 * meanwhile gets that. */
static void conclude_stop(struct channel *channel)
{
    bool start = channel->life.restart_wanted;
    char cause[sizeof channel->life.cause];
    memcpy(cause, channel->life.cause, sizeof cause);
    channel->life.restart_wanted = false;
    hold_close_sockets(&channel->hold);
    change_state(channel, CHANNEL_STOPPED, cause);
    start |= channel_former_finish(channel);
    if (start && !channel->life.kept_stopped && channel->host->phase < PHASE_STOPS)
        begin(channel, "what was left of it is dealt with");
}

static void finish_stop(struct channel *channel, const char *cause)
{
    channel->former.wanted |= channel->life.restart_wanted;
    channel->life.restart_wanted = false;
    bool numbered = channel->recording.recovered && !channel->recording.renumber;
    if (channel->recording.renumber) /* the next start asks where the log goes on */
        channel->recording.recovered = channel->recording.placed = false;
    channel->recording.renumber = channel->recording.waited = false;
    channel->recording.restored = false;
    channel->recording.trouble[0] = '\0'; /* it wants nothing of the disk any more */
    channel_segments_seal_all(channel);
    hold_sockets_mute(&channel->hold);
    if (channel_ledger_retire_ring(channel) > 0 && numbered)
        channel_segments_note_numbers(channel);
    channel->lent.ring_refused = false; /* what it says was not added up */
    snprintf(channel->life.cause, sizeof channel->life.cause, "%s", cause);
    if (channel_discard_begin(channel, conclude_stop))
        conclude_stop(channel);
    else if (channel->life.state != CHANNEL_STOPPING)
        change_state(channel, CHANNEL_STOPPING, cause);
    else
        timer_disarm(&channel->life.timer);
}

/* A ring that is yet to be made begins with the number that the log goes on at. */
static void drain(struct channel *channel, const char *cause)
{
    bool restart = channel->life.restart_wanted;
    channel->life.drains++;
    if (channel->hold.ring >= 0 || !channel->spec->record.enabled || channel->recording.recovered) {
        launch(channel, cause);
        return;
    }
    change_state(channel, CHANNEL_OPENING, cause);
    channel->life.restart_wanted = restart;
}

static void stop_without_worker(struct channel *channel, const char *cause)
{
    channel->life.wanted = false;
    channel->life.drains = 0;
    channel->life.stop_began = monotonic_now();
    channel->lent.bye_received = false; /* whoever said it is long gone */
    if (channel->life.state == CHANNEL_FAILED || !channel_leftovers_can_be_drained(channel)) {
        finish_stop(channel, cause);
        return;
    }
    if (channel->life.state == CHANNEL_DOWN) /* there may be more than its segment has room for */
        channel_recording_begin(channel);
    drain(channel, cause);
}

static void stop_worker(struct channel *channel, const char *cause)
{
    channel->life.wanted = false;
    channel->life.drains = 0;
    channel->life.stop_began = monotonic_now();
    change_state(channel, CHANNEL_STOPPING, cause);
}

static void restart_worker(struct channel *channel, const char *cause)
{
    channel->life.restart_wanted = true;
    change_state(channel, CHANNEL_STOPPING, cause);
}

static void stay_stopped(struct channel *channel, const char *cause)
{
    (void)cause;
    if (channel->life.wanted)
        channel->life.drains = 0;
    if (channel->life.wanted ||
        channel->host->phase >= PHASE_STOPS) /* that has a time of its own */
        channel->life.stop_began = monotonic_now();
    channel->life.wanted = false;
    channel->life.restart_wanted = false;
    /* What waits for a worker waited for longer than an end has time for. */
    if (channel->host->phase >= PHASE_STOPS && !channel->lent.worker &&
        !channel_discard_is_under_way(channel))
        arm(channel, 0, on_timer);
}

static void start_after_stop(struct channel *channel, const char *cause)
{
    (void)cause;
    channel_former_want(channel);
    channel->life.restart_wanted = channel->life.wanted;
}

/* What is left of it, if somebody can still deal with that; else its end. */
static void go_on_with_stop(struct channel *channel, bool unfinished, const char *cause)
{
    if (unfinished && channel_leftovers_can_be_drained(channel)) {
        drain(channel, cause);
    } else if (unfinished && !channel->life.wanted && channel_leftovers_need_a_ring(channel)) {
        channel->life.drains++;
        change_state(channel, CHANNEL_OPENING, cause);
    } else if (channel->life.restart_wanted && !channel->former.configured) {
        if (channel->life.stop_seals)
            channel_segments_seal_and_forget(channel);
        begin(channel, cause);
    } else {
        finish_stop(channel, cause);
    }
}

/* A worker that is late; or there was none, and another attempt is made. */
static void press_for_end(struct channel *channel, const char *cause)
{
    if (channel->lent.worker)
        channel_hang_kill_late_stopper(channel, CHANNEL_STOP_DEADLINE_NS);
    else
        go_on_with_stop(channel, true, cause);
}

static void wait_for_worker(struct channel *channel, uint64_t most_ns, const char *cause)
{
    if (channel->life.drains > 0)
        channel->life.drains--; /* that was none */
    if (channel->life.state != CHANNEL_STOPPING)
        change_state(channel, CHANNEL_STOPPING, cause);
    channel_note_reported(channel);
    arm(channel, channel_progress_drain_delay(channel, most_ns), on_timer);
}

static void end_stop(struct channel *channel, const char *cause)
{
    /* It died over it, or was only to make room for another one and now none follows: what the
     * kernel has queued is still to be received, and what is in the ring to be recorded. */
    bool unfinished =
        !channel->lent.bye_received || (!channel->life.restart_wanted && !channel->life.stop_seals);
    uint64_t patience_ns = channel_leftovers_patience(channel);
    if (patience_ns > 0) {
        wait_for_worker(channel, patience_ns, cause);
        return;
    }
    /* It died over a stop that was to end with a fresh ring, which only a BYE allows: its successor
     * runs until the next attempt. Without a pause that could go on many times a second. */
    if (channel->life.wanted && channel->recording.renumber && !channel->lent.bye_received) {
        uint64_t delay = restart_delay(&channel->life.restart, &channel->host->settings->restart);
        wait_before_start(channel, delay, cause);
        return;
    }
    /* Killed, but not in vain: as often as it takes, within the time that a stop has. */
    if (channel_progress_moved(channel) &&
        monotonic_since(monotonic_now(), channel->life.stop_began) < CHANNEL_STOP_DEADLINE_NS)
        channel->life.drains = 0;
    go_on_with_stop(channel, unfinished, cause);
}

/* The worker is gone though nobody asked for it. */
static void start_again(struct channel *channel, const char *cause)
{
    if (!channel->life.wanted) { /* it was only to drain what is left */
        end_stop(channel, cause);
        return;
    }
    /* Nobody's fault; a worker that refuses a fresh one counts as dead. */
    if (channel->lent.ring_refused) {
        change_state(channel, CHANNEL_OPENING, cause);
        return;
    }
    struct restart_decision decision = channel_progress_decide(channel);
    switch (decision.verdict) {
    case RESTART_NOW:
        if (channel->hold.rx >= 0)
            launch(channel, cause); /* the hold is complete: a spare goes on with it at once */
        else
            change_state(channel, CHANNEL_OPENING, cause);
        break;
    case RESTART_LATER:
        wait_before_start(channel, decision.delay_ns, cause);
        break;
    case RESTART_GIVE_UP:
        change_state(channel, CHANNEL_FAILED, channel_progress_given_up(channel, cause));
        break;
    }
}

/* ---- the table ---- */

struct transition {
    void (*act)(struct channel *channel, const char *cause);
    const char *name;
};

#define DO(action)                                                                                 \
    {                                                                                              \
        action, #action                                                                            \
    }
#define ROW(start, opened, open_failed, ready, died, timer, stop, restart, reset)                  \
    {                                                                                              \
        DO(start), DO(opened), DO(open_failed), DO(ready), DO(died), DO(timer), DO(stop),          \
            DO(restart), DO(reset)                                                                 \
    }

/* clang-format off */
static const struct transition table[CHANNEL_STATE_COUNT][CHANNEL_EVENT_COUNT] = {
    /*                      START             OPENED      OPEN_FAILED    READY       DIED         TIMER               STOP                 RESTART         RESET */
    [CHANNEL_DOWN]     = ROW(begin,            impossible, impossible,    impossible, impossible,  impossible,         stop_without_worker, begin,          ignore),
    [CHANNEL_OPENING]  = ROW(ignore,           launch,     retry_opening, impossible, impossible,  launch_without_log, stop_without_worker, ignore,         forgive),
    [CHANNEL_STARTING] = ROW(ignore,           impossible, impossible,    run,        start_again, kill_late_starter,  stop_worker,         restart_worker, forgive),
    [CHANNEL_RUNNING]  = ROW(ignore,           impossible, impossible,    impossible, start_again, impossible,         stop_worker,         restart_worker, forgive),
    [CHANNEL_STOPPING] = ROW(start_after_stop, impossible, impossible,    ignore,     end_stop,    press_for_end,      stay_stopped,        start_after_stop, forgive),
    [CHANNEL_BACKOFF]  = ROW(open_afresh,      impossible, impossible,    impossible, impossible,  open_again,         stop_without_worker, open_afresh,    open_afresh),
    [CHANNEL_FAILED]   = ROW(begin,            impossible, impossible,    impossible, impossible,  impossible,         stop_without_worker, begin,          begin),
    [CHANNEL_STOPPED]  = ROW(begin,            impossible, impossible,    impossible, impossible,  impossible,         ignore,              begin,          ignore),
};
/* clang-format on */

const char *channel_machine_action(enum channel_state state, enum channel_event event)
{
    return table[state][event].name;
}

void channel_machine_handle(struct channel *channel, enum channel_event event, const char *cause)
{
    log_debug("channel %s: %s in %s: %s (%s)", channel->spec->name, event_names[event],
              channel_state_names[channel->life.state], table[channel->life.state][event].name,
              cause);
    table[channel->life.state][event].act(channel, cause);
    store_follow(&channel->stored);
    channel_reading_follow(channel);
}

/* ---- entering a state; what may raise the next event comes last ---- */

static void enter_opening(struct channel *channel)
{
    char why[320];
    channel->life.restart_wanted = false;
    if (channel->host->phase == PHASE_PARKS)
        return;
    channel_ring_give_up(channel);
    if (hold_sockets_open(&channel->hold, channel->spec, why, sizeof why) < 0) {
        channel_machine_handle(channel, CHANNEL_EVENT_OPEN_FAILED, why);
        return;
    }
    channel_recording_begin(channel);
    if (channel_recording_settled(channel) || channel->recording.waited)
        channel_machine_handle(channel, CHANNEL_EVENT_OPENED,
                               channel_recording_how_opened(channel));
    else
        arm(channel, channel_recording_patience(channel), on_timer);
}

void channel_machine_resume(struct channel *channel)
{
    if (channel->life.state == CHANNEL_OPENING)
        enter_opening(channel);
    store_follow(&channel->stored);
    channel_reading_follow(channel);
}

static void enter_starting(struct channel *channel)
{
    struct child_owner worker = channel->host->worker;
    worker.channel = channel->spec->name;
    worker.data = channel;
    char why[256];
    if (channel->life.wanted)
        channel->life.restart_wanted = false;
    if (channel_lend(channel, &worker, why, sizeof why) < 0) {
        log_error("channel %s: %s", channel->spec->name, why);
        if (!channel->lent.worker)
            channel_machine_handle(channel, CHANNEL_EVENT_DIED, why);
    } else if (!channel->life.wanted || channel->former.configured) {
        change_state(channel, CHANNEL_STOPPING, "to drain what is left");
    } else {
        channel->life.ready_within = channel_progress_ready_deadline(channel);
        arm(channel, channel->life.ready_within, on_timer);
    }
}

static void enter_stopping(struct channel *channel)
{
    if (!channel->lent.worker)
        return; /* nobody is to be asked: what the kernel has queued is counted */
    /* Also when another ring follows: nobody would record what is left in this one. */
    bool ring_goes = channel->host->phase == PHASE_RUNS && channel_ring_can_be_reshaped(channel);
    channel->life.stop_seals = !channel->life.restart_wanted || ring_goes;
    channel_lend_ask_back(channel, channel->life.stop_seals);
    arm(channel, CHANNEL_STOP_DEADLINE_NS, on_timer);
}

/* Is what it waits for here, or do datagrams press? Asked now and then: they may begin to come in
 * while it waits. */
static int on_backoff_look(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct channel *channel = userdata;
    uint64_t left = monotonic_since(channel->life.next_start, monotonic_now());
    if (left == 0)
        return on_timer(source, time_us, userdata);
    if (channel->life.worker_waited_for && channel->life.restart.rule != RESTART_RULE_SHARE &&
        channel_progress_presses(channel)) {
        channel_machine_handle(channel, CHANNEL_EVENT_TIMER, "the kernel's buffer is half full");
        return 0;
    }
    enter_backoff(channel);
    return 0;
}

static void enter_backoff(struct channel *channel)
{
    uint64_t left = monotonic_since(channel->life.next_start, monotonic_now());
    arm(channel, left < BACKOFF_LOOK_NS ? left : BACKOFF_LOOK_NS, on_backoff_look);
}

static void change_state(struct channel *channel, enum channel_state to, const char *cause)
{
    timer_disarm(&channel->life.timer);
    channel_note_state(channel, to, cause);
    channel->host->changed(channel->host->data);
    switch (to) {
    case CHANNEL_OPENING:
        enter_opening(channel);
        break;
    case CHANNEL_STARTING:
        enter_starting(channel);
        break;
    case CHANNEL_STOPPING:
        enter_stopping(channel);
        break;
    case CHANNEL_BACKOFF:
        enter_backoff(channel);
        break;
    default:
        break;
    }
}
