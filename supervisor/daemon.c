/* SPDX-License-Identifier: MIT */
/* Makes the supervisor's parts, hands each what it needs of the others, runs the event loop, and
 * frees everything. Called by main(). Must never die of what a child, an operator or a disk does.
 */
#include "supervisor/daemon.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/death.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/read_wake.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/channel/channel_machine.h"
#include "supervisor/channel/channel_restore.h"
#include "supervisor/channel/channels.h"
#include "supervisor/child/spares.h"
#include "supervisor/control/control.h"
#include "supervisor/control/control_verbs.h"
#include "supervisor/gate/gate_client.h"
#include "supervisor/hold/hold_destinations.h"
#include "supervisor/hold/membership.h"
#include "supervisor/hold/store.h"
#include "supervisor/status_line.h"
#include "supervisor/supervisor.h"
#include "supervisor/system/links.h"
#include "supervisor/system/log_writer.h"
#include "supervisor/system/manager.h"
#include "supervisor/system/shredder.h"
#include "supervisor/system/timer.h"
#include "supervisor/tick.h"
#include "supervisor/upgrade.h"

#define CONTROL_RETRY_NS NS_PER_S

struct daemon {
    struct supervisor supervisor;
    struct control_setup setup;
    struct control *control; /* NULL while it can't be opened */
    struct timer control_retry;
    struct channel_restored left; /* by the program before an upgrade */
    struct watchdog watchdog;
    struct links links;
};

/* ---- signals ---- */

static int on_stop_signal(sd_event_source *source, const struct signalfd_siginfo *info,
                          void *userdata)
{
    struct daemon *daemon = userdata;
    char name[SIGNAL_NAME_SIZE], cause[64];
    (void)source;
    snprintf(cause, sizeof cause, "%s from process %u", signal_name((int)info->ssi_signo, name),
             info->ssi_pid);
    supervisor_stop(&daemon->supervisor, cause);
    return 0;
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
    (void)source;
    (void)info;
    (void)userdata;
    log_notice(
        "SIGHUP: the configuration is read at start and by an upgrade; apply a changed one with "
        "`holdfastctl upgrade`, or restart holdfastd");
    return 0;
}

/* As in other daemons that can: SIGUSR2 asks for an upgrade in place. */
static int on_upgrade_signal(sd_event_source *source, const struct signalfd_siginfo *info,
                             void *userdata)
{
    struct daemon *daemon = userdata;
    const char *why;
    (void)source;
    (void)info;
    if (upgrade_begin(&daemon->supervisor.upgrade, &why) < 0)
        log_error("no upgrade: %s", why);
    return 0;
}

static int watch_signals(struct daemon *daemon)
{
    sd_event *event = daemon->supervisor.event;
    int error = sd_event_add_signal(event, NULL, SIGTERM, on_stop_signal, daemon);
    if (error >= 0)
        error = sd_event_add_signal(event, NULL, SIGINT, on_stop_signal, daemon);
    if (error >= 0)
        error = sd_event_add_signal(event, NULL, SIGHUP, on_hangup, daemon);
    if (error >= 0)
        error = sd_event_add_signal(event, NULL, SIGUSR2, on_upgrade_signal, daemon);
    return error;
}

/* What an interface that is gone had joined and connected; the regular look finds it out. */
static void on_interface_gone(void *data, unsigned index)
{
    const struct channels *channels = data;
    for (size_t i = 0; i < channels->count; i++) {
        membership_interface_gone(&channels->list[i]->hold.membership, index);
        hold_destinations_interface_gone(&channels->list[i]->hold, index);
    }
}

/* ---- the beginning ---- */

static void answer_upgrade(void *data, const char *why)
{
    struct daemon *daemon = data;
    control_answer_upgrade(daemon->control, why);
}

/* Who needs whom. */
static int make_parts(struct daemon *daemon, const struct program *program)
{
    struct supervisor *supervisor = &daemon->supervisor;
    struct settings *settings = supervisor->settings;
    sd_event *event = supervisor->event;
    struct archive_owner archive_owner = channels_as_archive_owner(&supervisor->channels);
    struct gate_owner gate_owner = channels_as_gate_owner(&supervisor->channels);

    supervisor->host = (struct channel_host){.event = event,
                                             .settings = settings,
                                             .spares = &supervisor->spares,
                                             .archive = &supervisor->archive,
                                             .gate = &supervisor->gate,
                                             .store = &supervisor->store,
                                             .shredder = &supervisor->shredder,
                                             .changed = supervisor_changed,
                                             .data = supervisor};
    store_init(&supervisor->store, event, supervisor_changed, supervisor);
    shredder_init(&supervisor->shredder, event);
    archive_client_init(&supervisor->archive, event, &supervisor->spares, settings, &archive_owner);
    gate_client_init(&supervisor->gate, event, &supervisor->spares, settings, &gate_owner);
    upgrade_init(&supervisor->upgrade, program, &supervisor->channels, answer_upgrade, daemon);
    status_line_init(&supervisor->status_line, &supervisor->channels);
    return spares_init(&supervisor->spares, event, program, settings);
}

/* ---- the control socket ---- */

static int on_control_retry(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct daemon *daemon = userdata;
    char why[256];
    (void)source;
    (void)time_us;
    if (control_open(&daemon->setup, &daemon->control, why, sizeof why) < 0)
        return timer_arm(&daemon->control_retry, daemon->setup.event, CONTROL_RETRY_NS,
                         on_control_retry, daemon);
    log_notice("the control socket is open: %s", daemon->setup.settings->control_socket);
    return 0;
}

/* Who has taken over datagrams and sockets from a supervisor before doesn't let go of them because
 * nobody can ask how they are. Everybody else had better not begin. */
static int open_control(struct daemon *daemon, bool restored, char *why, size_t why_size)
{
    daemon->setup = (struct control_setup){.event = daemon->supervisor.event,
                                           .settings = daemon->supervisor.settings,
                                           .serve = control_verb,
                                           .patient = !restored,
                                           .left = &daemon->left.control,
                                           .data = &daemon->supervisor};
    int error = control_open(&daemon->setup, &daemon->control, why, why_size);
    if (error >= 0 || !restored)
        return error;
    log_error("%s; the channels go on, and it is tried again every second", why);
    why[0] = '\0'; /* it is told, and no reason to end */
    return timer_arm(&daemon->control_retry, daemon->setup.event, CONTROL_RETRY_NS,
                     on_control_retry, daemon);
}

static int prepare(struct daemon *daemon, const struct program *program, char *why, size_t why_size)
{
    struct supervisor *supervisor = &daemon->supervisor;
    const char *step = "the event loop";
    bool restored = false;
    int error = sd_event_default(&supervisor->event);
    if (error >= 0) {
        step = "signals";
        error = watch_signals(daemon);
    }
    if (error >= 0) {
        step = "spares";
        error = make_parts(daemon, program);
    }
    if (error >= 0) {
        step = "channels";
        error = channels_make(&supervisor->channels, &supervisor->host);
    }
    if (error >= 0) {
        supervisor->host.upgraded = getenv(CHANNEL_RESTORE_VARIABLE) != NULL;
        restored = channel_restore_all(&supervisor->channels, &daemon->left);
        step = "health checks";
        error = tick_start(&supervisor->tick, &supervisor->channels);
    }
    if (error < 0) {
        snprintf(why, why_size, "can't set up %s: %s", step, strerror(-error));
        return error;
    }
    error =
        links_watch(&daemon->links, supervisor->event, on_interface_gone, &supervisor->channels);
    if (error < 0)
        log_warning("the kernel doesn't tell of interfaces that go: %s; one that is back within a "
                    "second under its number will not be noticed",
                    strerror(-error));
    log_writer_watch(supervisor->event);
    error = watchdog_start(&daemon->watchdog, supervisor->event);
    if (error < 0)
        log_warning("systemd's watchdog can't be served: %s", strerror(-error));
    return open_control(daemon, restored, why, why_size);
}

static void start_channel(struct channel *channel)
{
    channel->former.wanted = channel->life.wanted;
    if (channel->former.removed)
        channel_machine_handle(channel, CHANNEL_EVENT_STOP,
                               "the configuration doesn't have it any more: what is left of it is "
                               "recorded");
    else if (channel->former.configured)
        channel_machine_handle(channel, CHANNEL_EVENT_STOP,
                               "its listen, interface or source has changed: what its former "
                               "socket has comes first");
    else if (channel->life.wanted)
        channel_machine_handle(channel, CHANNEL_EVENT_START, "start");
    else
        channel_machine_handle(channel, CHANNEL_EVENT_STOP, "an operator stopped it");
}

static void start(struct daemon *daemon)
{
    struct supervisor *supervisor = &daemon->supervisor;
    const struct channels *channels = &supervisor->channels;
    const size_t count = supervisor->settings->channel_count;
    log_notice("holdfastd %s: %zu channel%s, log_dir %s", HOLDFAST_VERSION, count,
               count == 1 ? "" : "s", supervisor->settings->log_dir);
    if (count > READ_WAKE_CHANNELS)
        log_warning("there are more than %d channels: those behind can't be read",
                    READ_WAKE_CHANNELS);
    /* Also where nobody records any more: what was recorded may have to be finished. */
    archive_client_start(&supervisor->archive);
    for (size_t i = 0; i < channels->count; i++)
        start_channel(channels->list[i]);
    gate_client_start(&supervisor->gate, fd_take(&daemon->left.read));
    spares_refill(&supervisor->spares);
}

/* ---- the end ---- */

static void daemon_free(struct daemon *daemon)
{
    struct supervisor *supervisor = &daemon->supervisor;
    upgrade_cancel(&supervisor->upgrade);
    timer_disarm(&daemon->control_retry);
    control_close(daemon->control);
    fd_close(&daemon->left.control);
    fd_close(&daemon->left.read);
    gate_client_free(&supervisor->gate);
    spares_free(&supervisor->spares);
    channels_free(&supervisor->channels);
    shredder_free(&supervisor->shredder);
    archive_client_free(&supervisor->archive);
    watchdog_stop(&daemon->watchdog);
    links_stop(&daemon->links);
    log_writer_unwatch();
    tick_stop(&supervisor->tick);
    status_line_stop(&supervisor->status_line);
    store_free(&supervisor->store);
    timer_disarm(&supervisor->stop_timer);
    sd_event_unref(supervisor->event);
    settings_free(supervisor->settings);
    free(daemon);
}

int daemon_run(struct settings *settings, const struct program *program, char *why, size_t why_size)
{
    struct daemon *daemon = calloc(1, sizeof *daemon);
    int status = 1;
    if (!daemon) {
        snprintf(why, why_size, "out of memory");
        return 1;
    }
    why[0] = '\0';
    struct supervisor *supervisor = &daemon->supervisor;
    daemon->links.fd = -1;
    daemon->left = (struct channel_restored){-1, -1};
    supervisor->gate = (struct gate_client){.socket = {.fd = -1}, .wake = -1, .bell = -1};
    supervisor->settings = settings;
    supervisor->started = monotonic_now();
    if (prepare(daemon, program, why, why_size) >= 0) {
        start(daemon);
        status = sd_event_loop(supervisor->event);
        const char *left =
            status == 1 ? "; something was left unsealed, the next start recovers it" : "";
        if (status < 0)
            snprintf(why, why_size, "the event loop failed: %s", strerror(-status));
        if (status == UPGRADE_EXIT) {
            const struct upgrade_sockets sockets = {.control = control_leave(daemon->control),
                                                    .read = gate_client_leave(&supervisor->gate)};
            daemon->control = NULL;
            upgrade_execute(&supervisor->upgrade, &sockets);
        }
        log_notice("ended%s", left);
        status = status == 0 ? 0 : 1;
    }
    daemon_free(daemon);
    return status;
}
