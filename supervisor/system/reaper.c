/* SPDX-License-Identifier: MIT */
/* A child that has ended stays a zombie until its parent waits for it, and some are nobody's: one
 * that was killed because it was of no use and took its time, one of the program that ran in this
 * process before an upgrade, one that became ours because its parent is gone, which the first
 * process of a container is left with. Called by the regular look. Must never take an end away from
 * whoever watches for it. */
#include "supervisor/system/reaper.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "common/log.h"

#define REAPED_AT_ONCE 64 /* the next look takes the rest */

struct watch {
    pid_t pid;
    sd_event_source *source;
};

static struct watch *watched;
static size_t watched_count, watched_room;

static struct watch *find(pid_t pid)
{
    for (size_t i = 0; i < watched_count; i++)
        if (watched[i].pid == pid)
            return &watched[i];
    return NULL;
}

static int make_room(void)
{
    size_t room = watched_room ? 2 * watched_room : 16;
    if (watched_count < watched_room)
        return 0;
    struct watch *larger = realloc(watched, room * sizeof *watched);
    if (!larger)
        return -ENOMEM;
    watched = larger;
    watched_room = room;
    return 0;
}

int reaper_watch(sd_event *event, sd_event_source **ret, pid_t pid,
                 sd_event_child_handler_t handler, void *data)
{
    int error = make_room();
    if (error >= 0)
        error = sd_event_add_child(event, ret, pid, WEXITED, handler, data);
    if (error < 0)
        return error;
    watched[watched_count++] = (struct watch){.pid = pid, .source = *ret};
    return 0;
}

void reaper_unwatch(sd_event_source **source)
{
    pid_t pid;
    struct watch *place =
        *source && sd_event_source_get_child_pid(*source, &pid) >= 0 ? find(pid) : NULL;
    if (place)
        *place = watched[--watched_count];
    *source = sd_event_source_disable_unref(*source);
}

/* The kernel tells of an end once, when it comes; while somebody traces the child (strace, gdb), it
 * has none for its parent yet, and that one event is used up. Whoever can be waited for and has no
 * event waiting gets a new one. */
static void tell_again(const struct watch *watch)
{
    siginfo_t end = {0};
    if (sd_event_source_get_pending(watch->source) == 0 &&
        waitid(P_PID, (id_t)watch->pid, &end, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        end.si_pid == watch->pid && sd_event_source_set_enabled(watch->source, SD_EVENT_OFF) >= 0)
        sd_event_source_set_enabled(watch->source, SD_EVENT_ONESHOT);
}

/* The kernel names the one first that it has had for the longest. If that is somebody's, the event
 * loop deals with it in a moment, and the next look finds who comes behind it. */
void reaper_look(void)
{
    for (int i = 0; i < REAPED_AT_ONCE; i++) {
        siginfo_t end = {0};
        if (waitid(P_ALL, 0, &end, WEXITED | WNOHANG | WNOWAIT) < 0 || end.si_pid == 0)
            return;
        if (find(end.si_pid)) {
            for (size_t one = 0; one < watched_count; one++)
                tell_again(&watched[one]);
            return;
        }
        waitid(P_PID, (id_t)end.si_pid, &end, WEXITED | WNOHANG);
        log_debug("process %d, which was nobody's, has ended", (int)end.si_pid);
    }
}
