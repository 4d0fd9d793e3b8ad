/* SPDX-License-Identifier: MIT */
/* Keeps spares ready. They are taken when a worker or the archive is needed, and replaced
 * afterwards. Must never make processes faster than the restart policy allows. */
#include "supervisor/child/spares.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "supervisor/system/process.h"

/* Starting a process takes a processor for a millisecond: the worker that was just assigned comes
 * first. */
#define REFILL_AFTER_NS (5 * NS_PER_MS)
/* It has read itself from the disk by then. */
#define USABLE_AFTER_NS NS_PER_S

static int on_refill(sd_event_source *source, uint64_t time_us, void *userdata);

static void arm(struct spares *spares, uint64_t delay_ns)
{
    timer_arm(&spares->timer, spares->event, delay_ns, on_refill, spares);
}

/* ---- what it owns ---- */

static void spare_message(struct child *child, struct message *message)
{
    (void)message;
    child_violated(child, "it speaks before it was assigned");
}

static void spare_ended(struct child *child, const siginfo_t *end)
{
    struct spares *spares = child->owner.data;
    char how[PROCESS_END_SIZE];

    for (size_t i = 0; i < spares->count; i++)
        if (spares->children[i] == child)
            spares->children[i] = NULL;
    if (spares->closed)
        return;
    spares->restart.running_since = child->spawned;
    uint64_t delay = restart_delay(&spares->restart, spares->limits);
    process_describe_end(end, how, sizeof how);
    log_warning("%s %s; another one follows in %.3g s", child_describe(child), how,
                (double)delay / 1e9);
    arm(spares, delay);
}

static int spawn(struct spares *spares, struct child **ret)
{
    const struct child_owner owner = {
        .role = "spare", .message = spare_message, .ended = spare_ended, .data = spares};
    return child_spawn(spares->event, spares->program, &owner, ret);
}

/* ---- keeping their number ---- */

static int on_refill(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct spares *spares = userdata;
    (void)source;
    (void)time_us;
    for (size_t i = 0; i < spares->count && !spares->closed; i++) {
        if (spares->children[i])
            continue;
        int error = spawn(spares, &spares->children[i]);
        if (error < 0) {
            log_warning("can't start a spare worker: %s; trying again in a second",
                        strerror(-error));
            arm(spares, NS_PER_S);
            return 0;
        }
    }
    return 0;
}

void spares_refill(struct spares *spares)
{
    if (spares->count == 0 || spares->closed)
        return;
    if (!timer_is_armed(&spares->timer)) /* else it is coming, or waits after deaths */
        arm(spares, REFILL_AFTER_NS);
}

/* An installation may be under way, or was half done when this program began. */
static void look_at_program(struct spares *spares)
{
    if (!spares->proven && spares->failures_seen != child_exec_failures())
        spares->program = spares->program == spares->installed && spares->beside
                              ? spares->beside
                              : spares->installed;
    spares->failures_seen = child_exec_failures();
}

/* By the process, because its path may be another file's by now, and its disk need not answer. */
void spares_prove(struct spares *spares, const struct child *child)
{
    char running[32];
    if (spares->proven)
        return;
    snprintf(running, sizeof running, "/proc/%d/exe", (int)child->pid);
    if (spares->program == spares->installed || spares->program == spares->beside) {
        if (process_pin(running, spares->pinned) < 0)
            return;
        spares->program = spares->pinned;
    }
    spares->proven = true;
}

void spares_look(struct spares *spares)
{
    look_at_program(spares);
    for (size_t i = 0; i < spares->count && !spares->closed; i++) {
        struct child *child = spares->children[i];
        if (!child || monotonic_since(monotonic_now(), child->spawned) < USABLE_AFTER_NS)
            continue;
        char state = process_task_state(child->pid, (uint32_t)child->pid);
        if (state != 'T' && state != 't' && state != 'D')
            continue;
        log_warning("%s %s; it is killed, and another one started", child_describe(child),
                    state == 'D' ? "waits for a disk" : "is stopped");
        child_kill(child, SIGKILL);
        spares->children[i] = NULL; /* its end may be long in coming */
        spares_refill(spares);
    }
}

static struct child *pick(struct spares *spares)
{
    for (size_t i = 0; i < spares->count; i++) {
        struct child *child = spares->children[i];
        if (!child || child->socket_closed.ns)
            continue;
        spares->children[i] = NULL;
        spares_refill(spares);
        return child;
    }
    return NULL;
}

struct child *spares_take(struct spares *spares, const struct child_owner *owner, int *ret_error)
{
    struct child *child = pick(spares);
    if (!child) {
        *ret_error = spawn(spares, &child);
        if (*ret_error < 0)
            return NULL;
    }
    child->owner = *owner;
    child->generation = ++spares->last_generation;
    child->assigned = monotonic_now();
    return child;
}

/* ---- life ---- */

int spares_init(struct spares *spares, sd_event *event, const struct program *program,
                const struct settings *settings)
{
    bool is_there = program->worker_program[0];
    *spares = (struct spares){.event = event,
                              .program = is_there ? program->worker_program : program->worker_path,
                              .installed = program->worker_path,
                              .beside = program->worker_beside[0] ? program->worker_beside : NULL,
                              .limits = &settings->restart,
                              .count = settings->spare_workers};
    spares->children = calloc(spares->count + 1, sizeof(struct child *));
    if (spares->children)
        return 0;
    spares->count = 0;
    return -ENOMEM;
}

void spares_close(struct spares *spares)
{
    spares->closed = true;
}

void spares_drop(struct spares *spares)
{
    timer_disarm(&spares->timer);
    for (size_t i = 0; i < spares->count; i++) {
        child_free(spares->children[i]);
        spares->children[i] = NULL;
    }
}

void spares_reopen(struct spares *spares)
{
    spares->closed = false;
    spares_refill(spares);
}

void spares_free(struct spares *spares)
{
    spares_drop(spares);
    free(spares->children);
    *spares = (struct spares){0};
}
