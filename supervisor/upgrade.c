/* SPDX-License-Identifier: MIT */
/* Upgrade in place. Workers are asked to leave their segments open and go; the archive finishes
 * what it was asked; then the program is executed again with every descriptor of the hold under its
 * name. Datagrams wait in the sockets meanwhile. Must never execute while a worker is alive: two
 * would write the same ring. */
#include "supervisor/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "common/log.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/control/control.h"
#include "supervisor/rehearsal.h"

#define UPGRADE_DEADLINE_NS (5 * NS_PER_S)
#define NAMES_MAX           120000 /* one environment variable holds 128 KiB (execve(2)) */

/* What is handed over, in the order of the descriptors. */
struct inheritance_list {
    int *fds;
    size_t count;
    char *names; /* separated by ':' */
    size_t length;
};

static size_t count_places(const struct supervisor *supervisor)
{
    size_t count = 0;
    for (size_t i = 0; i < supervisor->channel_count; i++)
        count += hold_place_count(&supervisor->channels[i]->hold);
    return count;
}

static bool collect(const struct supervisor *supervisor, struct inheritance_list *ret)
{
    size_t most = count_places(supervisor);
    *ret = (struct inheritance_list){.fds = calloc(most + 1, sizeof(int)),
                                     .names = calloc(most + 1, CHANNEL_NAME_SIZE + HOLD_NAME_SIZE)};
    if (!ret->fds || !ret->names)
        return false;
    for (size_t i = 0; i < supervisor->channel_count; i++) {
        const struct channel *channel = supervisor->channels[i];
        for (uint32_t place = 0; place < hold_place_count(&channel->hold); place++) {
            char name[HOLD_NAME_SIZE];
            int fd = hold_place(&channel->hold, place, name);
            if (fd < 0)
                continue;
            ret->fds[ret->count++] = fd;
            ret->length += (size_t)sprintf(ret->names + ret->length, "%s%s.%s",
                                           ret->length ? ":" : "", channel->spec->name, name);
        }
    }
    return ret->length < NAMES_MAX;
}

static void release(struct inheritance_list *list)
{
    free(list->fds);
    free(list->names);
}

/* ---- letting go ---- */

static int on_deadline(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct supervisor *supervisor = userdata;
    (void)source;
    (void)time_us;
    log_warning("the upgrade waits no longer: killing what still runs; the successor takes over as "
                "after a death");
    for (size_t i = 0; i < supervisor->channel_count; i++)
        if (supervisor->channels[i]->worker)
            child_kill(supervisor->channels[i]->worker, SIGKILL);
    archive_client_stop(supervisor);
    if (supervisor->archive)
        child_kill(supervisor->archive, SIGKILL);
    return 0;
}

static void let_go(struct supervisor *supervisor)
{
    log_notice("upgrade: executing %s again as soon as the workers have let go",
               supervisor->program_path);
    supervisor->upgrading = true;
    supervisor_arm(supervisor, &supervisor->stop_timer, UPGRADE_DEADLINE_NS, on_deadline,
                   supervisor);
    supervisor_drop_spares(supervisor);
    for (size_t i = 0; i < supervisor->channel_count; i++) {
        struct channel *channel = supervisor->channels[i];
        if (channel->state == CHANNEL_STARTING || channel->state == CHANNEL_RUNNING)
            channel_handle(channel, CHANNEL_EVENT_RESTART, "upgrade");
    }
    upgrade_progress(supervisor);
}

static void on_rehearsed(struct supervisor *supervisor, const char *why)
{
    control_answer_upgrade(supervisor->control, why);
    if (why)
        log_error("no upgrade: %s", why);
    else
        let_go(supervisor);
}

int upgrade_begin(struct supervisor *supervisor, const char **ret_why)
{
    struct inheritance_list list;
    *ret_why = NULL;
    if (supervisor->stopping || supervisor->upgrading || supervisor->rehearsal)
        *ret_why =
            supervisor->stopping ? "the supervisor is shutting down" : "an upgrade is under way";
    else if (access(supervisor->program_path, X_OK) < 0)
        *ret_why = "the program is not where it was started from: install it first";
    else if (access(supervisor->worker_path, X_OK) < 0)
        *ret_why = "holdfast-worker is not where it was: install it first";
    if (*ret_why)
        return -EINVAL;
    bool fits = collect(supervisor, &list);
    release(&list);
    if (!fits) {
        *ret_why = "there are too many channels to hand over: restart the service instead";
        return -E2BIG;
    }
    int error = rehearsal_start(supervisor, on_rehearsed);
    if (error < 0)
        *ret_why = error == -ENOEXEC
                       ? "the program can't be executed: it is damaged, or for another machine"
                       : "the program can't be executed, see the log";
    if (error < 0)
        log_error("upgrade: can't execute %s: %s", supervisor->program_path, strerror(-error));
    return error;
}

void upgrade_progress(struct supervisor *supervisor)
{
    for (size_t i = 0; i < supervisor->channel_count; i++)
        if (supervisor->channels[i]->worker)
            return;
    if (supervisor->seal_count > 0 && supervisor->archive && !supervisor->archive_told_to_stop)
        return; /* its answers bring us here again */
    archive_client_stop(supervisor);
    if (!supervisor->archive)
        sd_event_exit(supervisor->event, UPGRADE_EXIT);
}

/* ---- executing ---- */

/* Channels that an operator has stopped stay stopped. */
static char *list_stopped(const struct supervisor *supervisor)
{
    char *list = calloc(supervisor->channel_count + 1, CHANNEL_NAME_SIZE + 1);
    size_t length = 0;
    for (size_t i = 0; list && i < supervisor->channel_count; i++)
        if (!supervisor->channels[i]->wanted)
            length += (size_t)sprintf(list + length, "%s:", supervisor->channels[i]->spec->name);
    return list;
}

/* sd_listen_fds(3) wants them at 3 and following. First out of the way of each other, then into
 * place; dup2 clears CLOEXEC. Whatever of ours lay there is closed, which is why there is no way
 * back from here. */
static bool place_fds(struct inheritance_list *list)
{
    int first_free = SD_LISTEN_FDS_START + (int)list->count;
    for (size_t i = 0; i < list->count; i++) {
        list->fds[i] = fcntl(list->fds[i], F_DUPFD_CLOEXEC, first_free);
        if (list->fds[i] < 0)
            return false;
    }
    for (size_t i = 0; i < list->count; i++)
        if (dup2(list->fds[i], SD_LISTEN_FDS_START + (int)i) < 0)
            return false;
    return true;
}

static bool set_environment(const struct inheritance_list *list, const char *stopped)
{
    char number[24], pid[24];
    snprintf(number, sizeof number, "%zu", list->count);
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    return setenv("LISTEN_FDS", number, 1) == 0 && setenv("LISTEN_PID", pid, 1) == 0 &&
           setenv("LISTEN_FDNAMES", list->names, 1) == 0 &&
           setenv(UPGRADE_VARIABLE, stopped, 1) == 0;
}

void upgrade_execute(struct supervisor *supervisor)
{
    struct inheritance_list list;
    char *stopped = list_stopped(supervisor);
    bool complete = collect(supervisor, &list) && stopped;
    if (complete && set_environment(&list, stopped) && place_fds(&list))
        execv(supervisor->program_path, supervisor->arguments);
    int error = complete ? errno : ENOMEM;
    release(&list);
    free(stopped);
    log_error("the upgrade failed: can't execute %s: %s; the next start recovers what was open",
              supervisor->program_path, strerror(error));
}
