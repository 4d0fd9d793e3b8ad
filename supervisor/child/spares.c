/* SPDX-License-Identifier: MIT */
/* Spares: workers that are exec'ed already and wait to be told what they are. Taken when a worker
 * or the archive is needed, and replaced afterwards. Must never make processes faster than the
 * restart policy allows. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "supervisor/supervisor.h"

/* Starting a process takes a processor for a millisecond: the worker that was just assigned comes
 * first. */
#define REFILL_AFTER_NS (5 * NS_PER_MS)

static bool is_ending(const struct supervisor *supervisor)
{
    return supervisor->stopping || supervisor->upgrading;
}

static int on_refill(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct supervisor *supervisor = userdata;
    (void)source;
    (void)time_us;
    for (size_t i = 0; i < supervisor->spare_count && !is_ending(supervisor); i++) {
        if (supervisor->spares[i])
            continue;
        int error = child_spawn(supervisor, CHILD_SPARE, &supervisor->spares[i]);
        if (error < 0) {
            log_warning("can't start a spare worker: %s; trying again in a second",
                        strerror(-error));
            supervisor_arm(supervisor, &supervisor->spare_timer, NS_PER_S, on_refill, supervisor);
            return 0;
        }
    }
    return 0;
}

void supervisor_refill_spares(struct supervisor *supervisor)
{
    int enabled = SD_EVENT_OFF;
    if (supervisor->spare_count == 0 || is_ending(supervisor))
        return;
    if (supervisor->spare_timer)
        sd_event_source_get_enabled(supervisor->spare_timer, &enabled);
    if (enabled == SD_EVENT_OFF) /* else it is coming, or waits after deaths */
        supervisor_arm(supervisor, &supervisor->spare_timer, REFILL_AFTER_NS, on_refill,
                       supervisor);
}

struct child *supervisor_take_child(struct supervisor *supervisor, int *ret_error)
{
    struct child *child = NULL;
    for (size_t i = 0; i < supervisor->spare_count; i++) {
        child = supervisor->spares[i];
        if (!child || child->socket_closed.ns) {
            child = NULL;
            continue;
        }
        supervisor->spares[i] = NULL;
        supervisor_refill_spares(supervisor);
        return child;
    }
    *ret_error = child_spawn(supervisor, CHILD_SPARE, &child);
    return *ret_error < 0 ? NULL : child;
}

void supervisor_drop_spares(struct supervisor *supervisor)
{
    supervisor->spare_timer = sd_event_source_disable_unref(supervisor->spare_timer);
    for (size_t i = 0; i < supervisor->spare_count; i++) {
        child_free(supervisor->spares[i]);
        supervisor->spares[i] = NULL;
    }
}

void supervisor_spare_ended(struct child *child, const siginfo_t *end)
{
    struct supervisor *supervisor = child->supervisor;
    char how[64];

    for (size_t i = 0; i < supervisor->spare_count; i++)
        if (supervisor->spares[i] == child)
            supervisor->spares[i] = NULL;
    if (is_ending(supervisor))
        return;
    struct restart_limits limits = supervisor->settings->restart;
    limits.give_up_after = 0;
    struct restart_history history = {supervisor->spare_deaths_in_a_row, child->spawned};
    struct restart_decision decision =
        restart_policy_decide(&limits, &history, monotonic_now(), supervisor_random());
    supervisor->spare_deaths_in_a_row = decision.deaths_in_a_row;
    uint64_t delay = decision.verdict == RESTART_NOW ? 0 : decision.delay_ns;
    child_describe_end(end, how, sizeof how);
    log_warning("%s %s; another one follows in %.3g s", child_describe(child), how,
                (double)delay / 1e9);
    supervisor_arm(supervisor, &supervisor->spare_timer, delay, on_refill, supervisor);
}
