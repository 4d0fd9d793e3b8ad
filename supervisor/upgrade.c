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
#include <sys/mman.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/channel/channel_hang.h"
#include "supervisor/channel/channel_ledger.h"
#include "supervisor/channel/channel_machine.h"
#include "supervisor/channel/channel_restore.h"
#include "supervisor/child/child.h"
#include "supervisor/child/spares.h"
#include "supervisor/gate/gate_client.h"
#include "supervisor/hold/hold.h"
#include "supervisor/system/log_writer.h"
#include "supervisor/system/process.h"
#include "supervisor/system/timer.h"

#define UPGRADE_DEADLINE_NS (5 * NS_PER_S)
#define STUCK_NS            (2 * NS_PER_S) /* what was killed and lives on for so long waits for a disk */

/* What is handed over, in the order of the descriptors. */
struct inheritance_list {
    int *fds;
    size_t count;
    char *names; /* separated by ':' */
    size_t length;
};

static size_t count_places(const struct channels *channels)
{
    size_t count = 0;
    for (size_t i = 0; i < channels->count; i++)
        count += hold_place_count(&channels->list[i]->hold);
    return count;
}

static bool collect(const struct channels *channels, struct inheritance_list *ret)
{
    size_t most = count_places(channels);
    *ret = (struct inheritance_list){.fds = calloc(most + 2, sizeof(int)), /* and two others */
                                     .names = calloc(most + 2, CHANNEL_NAME_SIZE + HOLD_NAME_SIZE)};
    if (!ret->fds || !ret->names)
        return false;
    for (size_t i = 0; i < channels->count; i++) {
        const struct channel *channel = channels->list[i];
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
    return ret->length < STORE_NAMES_MAX;
}

static void add_socket(struct inheritance_list *list, int fd, const char *name)
{
    if (fd < 0)
        return;
    list->fds[list->count++] = fd;
    list->length +=
        (size_t)sprintf(list->names + list->length, "%s%s", list->length ? ":" : "", name);
}

static void release(struct inheritance_list *list)
{
    free(list->fds);
    free(list->names);
}

/* ---- what nothing can end ---- */

/* A process that waits for a disk dies when the disk answers, whatever it is sent. Its channel's
 * relay would stand still until then, and with it everybody else, who is parked. NULL: there is
 * none. */
static const char *find_disk_wait(const struct channels *channels)
{
    static char why[CHANNEL_NAME_SIZE + 160];
    monotonic now = monotonic_now();
    for (size_t i = 0; i < channels->count; i++) {
        uint64_t wait = channel_hang_disk_wait(channels->list[i], now);
        if (wait == 0)
            continue;
        snprintf(why, sizeof why,
                 "the worker of channel %s has been waiting for its disk for %.1f s and can't be "
                 "ended: upgrade when the disk answers",
                 channels->list[i]->spec->name, (double)wait / 1e9);
        return why;
    }
    return NULL;
}

/* The channels go on as after a restart; what still waits, when its disk answers. */
static int on_stuck(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct upgrade *upgrade = userdata;
    const struct channels *channels = upgrade->channels;
    struct channel_host *host = channels->host;
    (void)source;
    (void)time_us;
    const char *what = channels_any_worker(channels) ? "a worker" : "the archive";
    char why[160];
    snprintf(why, sizeof why,
             "the upgrade is given up: %s waits for a disk and can't be ended; the program that "
             "ran so far goes on",
             what);
    log_error("%s", why);
    setenv(PROGRAM_TROUBLE_VARIABLE, why, 1); /* for who asks: ping */
    host->phase = PHASE_RUNS;
    spares_reopen(host->spares);
    archive_client_go_on(host->archive);
    gate_client_go_on(host->gate);
    for (size_t i = 0; i < channels->count; i++)
        channel_machine_resume(channels->list[i]);
    return 0;
}

/* ---- letting go ---- */

static int on_deadline(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct upgrade *upgrade = userdata;
    struct archive_client *archive = upgrade->channels->host->archive;
    (void)source;
    (void)time_us;
    log_warning("the upgrade waits no longer: killing what still runs; the successor takes over as "
                "after a death");
    channels_kill_workers(upgrade->channels);
    archive_client_stop(archive);
    if (archive->child)
        child_kill(archive->child, SIGKILL);
    timer_arm(&upgrade->deadline, upgrade->channels->host->event, STUCK_NS, on_stuck, upgrade);
    return 0;
}

static void let_go(struct upgrade *upgrade)
{
    const struct channels *channels = upgrade->channels;
    struct channel_host *host = channels->host;
    log_notice("upgrade: executing %s again as soon as the workers have let go",
               upgrade->program->path);
    unsetenv(PROGRAM_TROUBLE_VARIABLE); /* of an upgrade before */
    host->phase = PHASE_PARKS;
    timer_arm(&upgrade->deadline, host->event, UPGRADE_DEADLINE_NS, on_deadline, upgrade);
    spares_close(host->spares);
    spares_drop(host->spares);
    for (size_t i = 0; i < channels->count; i++) {
        struct channel *channel = channels->list[i];
        if (channel->life.state == CHANNEL_STARTING || channel->life.state == CHANNEL_RUNNING)
            channel_machine_handle(channel, CHANNEL_EVENT_RESTART, "upgrade");
    }
    upgrade_progress(upgrade);
}

/* Readers first, while the channels still run: what they have been promised may take a while, and
 * no datagram is to wait for it. They connect to the successor by themselves. */
static void drain(struct upgrade *upgrade)
{
    struct gate_client *gate = upgrade->channels->host->gate;
    upgrade->drains = true;
    log_info("upgrade: readers get what they were promised, for %.3g s at most",
             (double)gate->settings->read_limits.grace_ns / 1e9);
    gate_client_stop(gate);
    upgrade_progress(upgrade);
}

static void on_rehearsed(void *data, const char *why)
{
    struct upgrade *upgrade = data;
    if (!why)
        why = find_disk_wait(upgrade->channels);
    upgrade->answer(upgrade->data, why);
    if (why)
        log_error("no upgrade: %s", why);
    else
        drain(upgrade);
}

/* What stands in the way; NULL when nothing does. */
static const char *find_obstacle(const struct upgrade *upgrade)
{
    enum phase phase = upgrade->channels->host->phase;
    if (phase >= PHASE_STOPS)
        return "the supervisor is shutting down";
    if (phase == PHASE_PARKS || upgrade->drains || rehearsal_is_under_way(&upgrade->rehearsal))
        return "an upgrade is under way";
    if (archive_client_is_busy(upgrade->channels->host->archive, monotonic_now()))
        return "the archive has not answered yet (it recovers a large file, or its disk hangs): an "
               "upgrade would hold up everybody until it does; try again when it has";
    return find_disk_wait(upgrade->channels);
}

int upgrade_begin(struct upgrade *upgrade, const char **ret_why)
{
    struct inheritance_list list;
    *ret_why = find_obstacle(upgrade);
    if (*ret_why)
        return -EINVAL;
    bool fits = collect(upgrade->channels, &list);
    release(&list);
    if (!fits) {
        *ret_why = "there are too many channels to hand over: restart the service instead";
        return -E2BIG;
    }
    fd_close(&upgrade->config);
    upgrade->config = memfd_create("holdfast-config", MFD_CLOEXEC);
    const struct channel_host *host = upgrade->channels->host;
    const struct rehearsal_circumstances circumstances = {.config = upgrade->config,
                                                          .log_dir = host->settings->log_dir};
    int error = rehearsal_start(&upgrade->rehearsal, host->event, upgrade->program, &circumstances);
    if (error < 0)
        *ret_why = "the program can't be tried, see the log";
    if (error < 0)
        log_error("upgrade: can't try %s: %s", upgrade->program->path, strerror(-error));
    return error;
}

void upgrade_progress(struct upgrade *upgrade)
{
    const struct channels *channels = upgrade->channels;
    struct archive_client *archive = channels->host->archive;
    if (upgrade->drains) {
        if (!gate_client_has_ended(channels->host->gate))
            return;
        upgrade->drains = false;
        let_go(upgrade);
        return; /* which has called us again */
    }
    if (channels_any_worker(channels))
        return;
    if (archive->seal_count > 0 && archive->child && !archive->told_to_stop)
        return; /* its answers bring us here again */
    archive_client_stop(archive);
    if (!archive->child && gate_client_has_ended(channels->host->gate))
        sd_event_exit(channels->host->event, UPGRADE_EXIT);
}

void upgrade_init(struct upgrade *upgrade, const struct program *program, struct channels *channels,
                  rehearsal_done answer, void *data)
{
    *upgrade = (struct upgrade){.program = program,
                                .channels = channels,
                                .rehearsal = {.done = on_rehearsed, .data = upgrade},
                                .config = -1,
                                .answer = answer,
                                .data = data};
}

void upgrade_cancel(struct upgrade *upgrade)
{
    rehearsal_cancel(&upgrade->rehearsal);
    upgrade->drains = false;
    timer_disarm(&upgrade->deadline);
    fd_close(&upgrade->config);
}

/* ---- executing ---- */

/* Channels that an operator has stopped stay stopped. */
static char *list_stopped(const struct channels *channels)
{
    char *list = calloc(channels->count + 1, CHANNEL_NAME_SIZE + 1);
    size_t length = 0;
    for (size_t i = 0; list && i < channels->count; i++)
        if (channels->list[i]->life.kept_stopped)
            length += (size_t)sprintf(list + length, "%s:", channels->list[i]->spec->name);
    return list;
}

/* Whatever of the list lies at `number`, but the one that belongs there, gets out of the way. */
static bool make_way(struct inheritance_list *list, size_t from, int number, int first_free)
{
    for (size_t i = from; i < list->count; i++) {
        if (list->fds[i] != number)
            continue;
        list->fds[i] = fcntl(number, F_DUPFD_CLOEXEC, first_free);
        return list->fds[i] >= 0;
    }
    return true;
}

/* sd_listen_fds(3) wants them at 3 and following. One after the other goes to its place, so that
 * one spare number is enough however many there are. dup2 clears CLOEXEC. Whatever else of ours lay
 * there is closed, which is why this program can't go on afterwards: it can only be executed again.
 */
static bool place_fds(struct inheritance_list *list)
{
    int first_free = SD_LISTEN_FDS_START + (int)list->count;
    for (size_t i = 0; i < list->count; i++) {
        int number = SD_LISTEN_FDS_START + (int)i, from = list->fds[i];
        if (from == number) {
            if (fcntl(number, F_SETFD, 0) < 0)
                return false;
            continue;
        }
        if (!make_way(list, i + 1, number, first_free) || dup2(from, number) < 0)
            return false;
        close(from);
        list->fds[i] = number;
    }
    return true;
}

static bool set_environment(const struct inheritance_list *list, const char *stopped)
{
    char number[24], pid[24];
    snprintf(number, sizeof number, "%zu", list->count);
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    return setenv("LISTEN_FDS", number, 1) == 0 && setenv("LISTEN_PID", pid, 1) == 0 &&
           setenv("LISTEN_FDNAMES", list->names, 1) == 0 &&
           setenv(CHANNEL_RESTORE_VARIABLE, stopped, 1) == 0;
}

/* ---- what the next program is told ---- */

static int above_places(size_t count)
{
    return SD_LISTEN_FDS_START + (int)count + 1;
}

/* Above the places of the hold; -1 when there is none. */
static int lift(int fd, size_t count)
{
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, above_places(count));
}

static void hand_on(int fd, const char *variable)
{
    char number[24];
    snprintf(number, sizeof number, "%d", fd);
    if (fd >= 0 && fcntl(fd, F_SETFD, 0) == 0)
        setenv(variable, number, 1);
}

static void hand_on_log_writer(size_t count)
{
    const struct log_writer *writer = log_writer_get();
    char pid[24];
    snprintf(pid, sizeof pid, "%d", (int)writer->pid);
    if (writer->pipe < 0)
        return;
    /* 0: it has just ended, and another one is to begin. */
    setenv(PROGRAM_LOG_PID_VARIABLE, pid, 1);
    hand_on(lift(writer->pipe, count), PROGRAM_LOG_PIPE_VARIABLE);
    hand_on(lift(writer->file, count), PROGRAM_LOG_FILE_VARIABLE);
}

/* The file may have changed since the rehearsal. A program that doesn't know how to keep the text
 * has left this empty. */
static bool has_text(int config)
{
    struct stat about;
    return config >= 0 && fstat(config, &about) == 0 && about.st_size > 0;
}

/* This very program, with the worker and the configuration that it started with, for when the new
 * one can't be executed. */
struct fallback {
    int self;
    int worker;
    int config;
};

/* By now the log's descriptor may be somebody's ring: what there is to say is said after the exec.
 */
static void execute_again(const struct program *program, int error, const struct fallback *fallback)
{
    char why[4400];
    snprintf(why, sizeof why,
             "the upgrade failed: can't execute %s: %s; the program that ran so far goes on",
             program->path, strerror(error));
    setenv(PROGRAM_TROUBLE_VARIABLE, why, 1);
    setenv(PROGRAM_PATH_VARIABLE, program->path, 1);
    unsetenv(PROGRAM_CONFIG_VARIABLE);
    hand_on(fallback->worker, PROGRAM_WORKER_VARIABLE);
    hand_on(fallback->config, PROGRAM_CONFIG_VARIABLE);
    fexecve(fallback->self, program->arguments, environ);
}

void upgrade_execute(const struct upgrade *upgrade, const struct upgrade_sockets *sockets)
{
    const struct program *program = upgrade->program;
    struct inheritance_list list;
    char *stopped = list_stopped(upgrade->channels);
    bool complete = collect(upgrade->channels, &list) && stopped;
    if (complete) {
        add_socket(&list, sockets->control, CHANNEL_RESTORE_CONTROL);
        add_socket(&list, sockets->read, CHANNEL_RESTORE_READ);
    }
    for (size_t i = 0; i < upgrade->channels->count; i++)
        channel_ledger_hand_on(upgrade->channels->list[i]);
    const struct fallback fallback = {
        .self = process_hold("/proc/self/exe", above_places(list.count)),
        .worker = process_hold(upgrade->channels->host->spares->program, above_places(list.count)),
        .config = lift(program->config, list.count)};
    hand_on_log_writer(list.count);
    int config = has_text(upgrade->config) ? lift(upgrade->config, list.count) : -1;
    if (complete && set_environment(&list, stopped) && place_fds(&list)) {
        hand_on(config, PROGRAM_CONFIG_VARIABLE);
        setenv(PROGRAM_WORKER_PATH_VARIABLE, program->worker_path, 1);
        execv(program->path, program->arguments);
        execute_again(program, errno, &fallback);
    }
    int error = complete ? errno : ENOMEM;
    release(&list);
    free(stopped);
    dprintf(STDERR_FILENO,
            "holdfastd: the upgrade failed: %s; the next start recovers what was open\n",
            strerror(error));
    _exit(EXIT_FAILURE); /* nothing of this process is where it was */
}
