/* SPDX-License-Identifier: MIT */
/* A channel's state machine: a state x event table of actions, and one change_state() that does
 * what entering a state means. Fed by operators (verbs), the worker (channel_worker.c), the archive
 * (channel_log.c) and its own timer. Must never block, and must never leave a worker behind:
 * outside STARTING, RUNNING and STOPPING there is none. */
#include "supervisor/channel/channel.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/units.h"
#include "supervisor/channel/channel_restore.h"
#include "supervisor/supervisor.h"

#define LOG_DEADLINE_NS   (5 * NS_PER_S) /* then the relay starts without its log */
#define READY_DEADLINE_NS (5 * NS_PER_S)
/* For what is still to be written; within the shutdown's deadline */
#define STOP_DEADLINE_NS (8 * NS_PER_S)
#define DRAINS_MAX       2

const char *const channel_state_names[CHANNEL_STATE_COUNT] = {
    "DOWN", "OPENING", "STARTING", "RUNNING", "STOPPING", "BACKOFF", "FAILED", "STOPPED"};
static const char *const event_names[CHANNEL_EVENT_COUNT] = {
    "START", "OPENED", "OPEN_FAILED", "READY", "DIED", "TIMER", "STOP", "RESTART", "RESET"};

static void change_state(struct channel *channel, enum channel_state to, const char *cause);

/* ---- actions ---- */

static void ignore(struct channel *channel, const char *cause)
{
    (void)channel;
    (void)cause;
}

static void impossible(struct channel *channel, const char *cause)
{
    log_error("channel %s: an event that can't happen in %s (%s): ignored; please report it",
              channel->spec->name, channel_state_names[channel->state], cause);
}

/* A new beginning: what was before doesn't count. */
static void begin(struct channel *channel, const char *cause)
{
    channel->wanted = true;
    channel->deaths_in_a_row = 0;
    channel->open_failures = 0;
    channel->drains = 0;
    change_state(channel, CHANNEL_OPENING, cause);
}

static void wait_before_start(struct channel *channel, const struct restart_decision *decision,
                              const char *cause)
{
    channel->next_start = monotonic_add(monotonic_now(), decision->delay_ns);
    change_state(channel, CHANNEL_BACKOFF, cause);
}

/* A socket that can't be opened is never a reason to give up: interfaces and addresses come and go.
 */
static void retry_opening(struct channel *channel, const char *cause)
{
    struct restart_limits limits = channel->supervisor->settings->restart;
    limits.give_up_after = 0;
    struct restart_history history = {.deaths_in_a_row = channel->open_failures};
    struct restart_decision decision =
        restart_policy_decide(&limits, &history, monotonic_now(), supervisor_random());
    channel->open_failures = decision.deaths_in_a_row;
    wait_before_start(channel, &decision, cause);
}

static void launch(struct channel *channel, const char *cause)
{
    char why[256];
    if (channel->supervisor->upgrading) { /* the supervisor after this one starts it */
        if (channel->state != CHANNEL_OPENING)
            change_state(channel, CHANNEL_OPENING, cause);
        return;
    }
    if (channel->hold.ring < 0) {
        if (hold_make_ring(&channel->hold, channel->spec, channel->seq_end, why, sizeof why) < 0) {
            retry_opening(channel, why);
            return;
        }
        channel->ring_start_seq = channel->seq_end;
    }
    change_state(channel, CHANNEL_STARTING, cause);
}

static void launch_without_log(struct channel *channel, const char *cause)
{
    (void)cause;
    log_warning("channel %s: no log within %llu s%s%s; relaying without it, recording begins when "
                "the archive answers",
                channel->spec->name, LOG_DEADLINE_NS / NS_PER_S,
                channel->log_trouble[0] ? ": " : "", channel->log_trouble);
    channel->log_waited = true;
    launch(channel, "started without its log");
}

static void run(struct channel *channel, const char *cause)
{
    channel->open_failures = 0;
    channel->running_since = monotonic_now();
    change_state(channel, CHANNEL_RUNNING, cause);
    if (channel->renumber && channel_log_settled(channel))
        channel_handle(channel, CHANNEL_EVENT_RESTART, "the log goes on at a later number");
}

/* The worker is gone though nobody asked for it. */
static void start_again(struct channel *channel, const char *cause)
{
    if (channel
            ->ring_refused) { /* nobody's fault; a worker that refuses a fresh one counts as dead */
        change_state(channel, CHANNEL_OPENING, cause);
        return;
    }
    struct restart_history history = {.deaths_in_a_row = channel->deaths_in_a_row,
                                      .started = channel->running_since};
    struct restart_decision decision = restart_policy_decide(
        &channel->supervisor->settings->restart, &history, monotonic_now(), supervisor_random());
    channel->deaths_in_a_row = decision.deaths_in_a_row;
    channel->running_since = (monotonic){0};
    switch (decision.verdict) {
    case RESTART_NOW:
        if (channel->hold.rx >= 0)
            launch(channel, cause); /* the hold is complete: a spare goes on with it at once */
        else
            change_state(channel, CHANNEL_OPENING, cause);
        break;
    case RESTART_LATER:
        wait_before_start(channel, &decision, cause);
        break;
    case RESTART_GIVE_UP:
        change_state(channel, CHANNEL_FAILED, cause);
        break;
    }
}

static void open_again(struct channel *channel, const char *cause)
{
    change_state(channel, CHANNEL_OPENING, cause);
}

static void open_afresh(struct channel *channel, const char *cause)
{
    channel->deaths_in_a_row = 0;
    channel->open_failures = 0;
    change_state(channel, CHANNEL_OPENING, cause);
}

static void forgive(struct channel *channel, const char *cause)
{
    (void)cause;
    channel->deaths_in_a_row = 0;
}

static void kill_late_starter(struct channel *channel, const char *cause)
{
    (void)cause;
    log_error("channel %s: %s did not become READY within %llu s; killing it", channel->spec->name,
              child_describe(channel->worker), READY_DEADLINE_NS / NS_PER_S);
    channel->worker->aborted_for_hang = true;
    snprintf(channel->worker->hung_thread, sizeof channel->worker->hung_thread, "start");
    child_kill(channel->worker, SIGKILL);
}

static void kill_late_stopper(struct channel *channel, const char *cause)
{
    (void)cause;
    log_error("channel %s: %s did not finish within %llu s; killing it", channel->spec->name,
              child_describe(channel->worker), STOP_DEADLINE_NS / NS_PER_S);
    channel->drains = DRAINS_MAX;
    child_kill(channel->worker, SIGKILL);
}

/* ---- stopping ---- */

static void finish_stop(struct channel *channel, const char *cause)
{
    channel->restart_wanted = false;
    channel->renumber = false;
    channel->ring_refused = false;
    channel->log_waited = false;
    channel->restored = false;
    channel_log_seal_all(channel);
    channel_retire_ring(channel);
    hold_close_sockets(&channel->hold);
    change_state(channel, CHANNEL_STOPPED, cause);
}

/* A ring that a worker used may hold datagrams that are not recorded yet: one more worker gets the
 * chance to. */
static bool can_drain(const struct channel *channel)
{
    return channel->hold.ring >= 0 && !channel->hold.ring_fresh && !channel->ring_refused &&
           channel->hold.rx >= 0 && channel->drains < DRAINS_MAX && !channel->supervisor->hurried;
}

static void stop_without_worker(struct channel *channel, const char *cause)
{
    channel->wanted = false;
    if (channel->state != CHANNEL_FAILED && can_drain(channel)) {
        channel->drains++;
        change_state(channel, CHANNEL_STARTING, cause);
        return;
    }
    finish_stop(channel, cause);
}

static void stop_worker(struct channel *channel, const char *cause)
{
    channel->wanted = false;
    channel->drains = 0;
    change_state(channel, CHANNEL_STOPPING, cause);
}

static void restart_worker(struct channel *channel, const char *cause)
{
    channel->restart_wanted = true;
    change_state(channel, CHANNEL_STOPPING, cause);
}

static void stay_stopped(struct channel *channel, const char *cause)
{
    (void)cause;
    channel->wanted = false;
    channel->restart_wanted = false;
}

static void start_after_stop(struct channel *channel, const char *cause)
{
    (void)cause;
    channel->wanted = true;
    channel->restart_wanted = true;
}

static void end_stop(struct channel *channel, const char *cause)
{
    if (!channel->bye_said &&
        can_drain(channel)) { /* it died over it: the next one finishes the work */
        channel->drains++;
        launch(channel, cause);
    } else if (channel->restart_wanted) {
        if (channel->stop_seals)
            channel_log_seal_all(channel);
        begin(channel, cause);
    } else {
        finish_stop(channel, cause);
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
    [CHANNEL_STOPPING] = ROW(start_after_stop, impossible, impossible,    ignore,     end_stop,    kill_late_stopper,  stay_stopped,        start_after_stop, forgive),
    [CHANNEL_BACKOFF]  = ROW(open_afresh,      impossible, impossible,    impossible, impossible,  open_again,         stop_without_worker, open_afresh,    open_afresh),
    [CHANNEL_FAILED]   = ROW(begin,            impossible, impossible,    impossible, impossible,  impossible,         stop_without_worker, begin,          begin),
    [CHANNEL_STOPPED]  = ROW(begin,            impossible, impossible,    impossible, impossible,  impossible,         ignore,              begin,          ignore),
};
/* clang-format on */

const char *channel_action_name(enum channel_state state, enum channel_event event)
{
    return table[state][event].name;
}

void channel_handle(struct channel *channel, enum channel_event event, const char *cause)
{
    log_debug("channel %s: %s in %s: %s (%s)", channel->spec->name, event_names[event],
              channel_state_names[channel->state], table[channel->state][event].name, cause);
    table[channel->state][event].act(channel, cause);
    handover_changed(channel);
}

/* ---- entering a state; what may raise the next event comes last ---- */

static int on_timer(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct channel *channel = userdata;
    (void)source;
    (void)time_us;
    channel_handle(channel, CHANNEL_EVENT_TIMER, "its time has come");
    return 0;
}

static void arm(struct channel *channel, uint64_t delay_ns)
{
    if (supervisor_arm(channel->supervisor, &channel->timer, delay_ns, on_timer, channel) < 0)
        log_error("channel %s: no memory for a timer", channel->spec->name);
}

/* A ring that was refused, or whose numbers the log has overtaken, makes room for a fresh one. The
 * latter only after an orderly end: a successor must first save what a dead worker had in flight.
 */
static void replace_ring(struct channel *channel)
{
    if (channel->ring_refused) {
        channel_log_seal_all(channel);
        channel_retire_ring(channel);
        channel->ring_refused = false;
        channel->renumber = false;
        channel->restored = false;
        channel->log_recovered =
            false; /* the archive tells which numbers are in the log, nobody else can */
    } else if (channel->renumber && channel->bye_said) {
        uint64_t given = channel->seq_end;
        channel_retire_ring(channel);
        given = (channel->seq_end > given ? channel->seq_end : given) - channel->ring_start_seq;
        if (channel->log_next_seq > channel->ring_start_seq)
            channel->seq_end = channel->log_next_seq + given;
        log_notice("channel %s: %" PRIu64
                   " datagrams were relayed before the log was recovered and are not in it; "
                   "numbering goes on at %" PRIu64,
                   channel->spec->name, given, channel->seq_end);
        channel->renumber = false;
    }
}

static void enter_opening(struct channel *channel)
{
    char why[320];
    channel->restart_wanted = false;
    if (channel->supervisor->upgrading)
        return;
    replace_ring(channel);
    if (hold_open_sockets(&channel->hold, channel->spec, why, sizeof why) < 0) {
        channel_handle(channel, CHANNEL_EVENT_OPEN_FAILED, why);
        return;
    }
    channel_log_begin(channel);
    if (channel->state != CHANNEL_OPENING)
        return; /* an answer that was a failure at once has moved it on */
    if (channel_log_settled(channel) || channel->log_waited)
        channel_handle(channel, CHANNEL_EVENT_OPENED, "opened");
    else
        arm(channel, LOG_DEADLINE_NS);
}

static void enter_starting(struct channel *channel)
{
    char why[256];
    if (channel->wanted)
        channel->restart_wanted = false;
    if (channel_assign(channel, why, sizeof why) < 0) {
        log_error("channel %s: %s", channel->spec->name, why);
        if (!channel->worker)
            channel_handle(channel, CHANNEL_EVENT_DIED, why);
    } else if (!channel->wanted) {
        change_state(channel, CHANNEL_STOPPING, "to drain what is left");
    } else {
        arm(channel, READY_DEADLINE_NS);
    }
}

static void enter_stopping(struct channel *channel)
{
    struct message_stop stop = {.seal = channel->restart_wanted ? 0 : 1};
    channel->stop_seals = stop.seal;
    int error = child_send(channel->worker, MESSAGE_STOP, &stop, sizeof stop, NULL, 0);
    if (error < 0 && error != -EPIPE)
        child_kill(channel->worker, SIGTERM);
    arm(channel, STOP_DEADLINE_NS);
}

static void enter_backoff(struct channel *channel)
{
    arm(channel, monotonic_since(channel->next_start, monotonic_now()));
}

static void log_change(const struct channel *channel, enum channel_state from)
{
    enum log_level level = channel->state == CHANNEL_FAILED    ? LOG_LEVEL_ERROR
                           : channel->state == CHANNEL_BACKOFF ? LOG_LEVEL_WARNING
                                                               : LOG_LEVEL_INFO;
    char after[160] = "", delay[32];
    units_human_duration(monotonic_since(channel->next_start, monotonic_now()), delay,
                         sizeof delay);
    if (channel->state == CHANNEL_BACKOFF)
        snprintf(after, sizeof after, "; next start in %s", delay);
    else if (channel->state == CHANNEL_FAILED)
        snprintf(after, sizeof after, "; gave up: `holdfastctl reset-failed %s` tries again",
                 channel->spec->name);
    log_line(level, "channel %s: %s -> %s: %s%s", channel->spec->name, channel_state_names[from],
             channel_state_names[channel->state], channel->state_cause, after);
}

static void change_state(struct channel *channel, enum channel_state to, const char *cause)
{
    struct supervisor *supervisor = channel->supervisor;
    enum channel_state from = channel->state;

    snprintf(channel->state_cause, sizeof channel->state_cause, "%s", cause);
    channel->timer = sd_event_source_disable_unref(channel->timer);
    channel->state = to;
    channel->state_since = monotonic_now();
    supervisor->state_counts[from]--;
    supervisor->state_counts[to]++;
    log_change(channel, from);
    if (!channel->reported && (to == CHANNEL_RUNNING || to >= CHANNEL_BACKOFF)) {
        channel->reported = true;
        supervisor->unreported--;
    }
    supervisor_changed(supervisor);
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

/* ---- making one ---- */

int channel_new(struct supervisor *supervisor, struct channel_spec *spec, struct channel **ret)
{
    struct channel *channel = calloc(1, sizeof *channel);
    if (!channel)
        return -ENOMEM;
    channel->supervisor = supervisor;
    channel->spec = spec;
    channel->wanted = true;
    channel->state_since = monotonic_now();
    int error = hold_init(&channel->hold, spec);
    if (error < 0) {
        free(channel);
        return error;
    }
    supervisor->state_counts[CHANNEL_DOWN]++;
    supervisor->unreported++;
    *ret = channel;
    return 0;
}

void channel_free(struct channel *channel)
{
    if (!channel)
        return;
    child_free(channel->worker);
    sd_event_source_disable_unref(channel->timer);
    sd_event_source_disable_unref(channel->log_timer);
    obituary_list_free(&channel->obituaries);
    free(channel->stored);
    hold_close(&channel->hold);
    free(channel);
}
