/* SPDX-License-Identifier: MIT */
/* The supervisor as a whole: builds channels, archive and control socket, runs the event loop, and
 * stops everything in order. Called by main(). Must never block and never die of what a child, an
 * operator or a disk does. */
#include "supervisor/supervisor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/log.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/control/control.h"
#include "supervisor/channel/channel_restore.h"
#include "supervisor/tick.h"
#include "supervisor/status_line.h"
#include "supervisor/rehearsal.h"
#include "supervisor/upgrade.h"

#define STOP_DEADLINE_NS (10 * NS_PER_S)
/* The default of sd-event, 250 ms, is for the idle; a takeover is not. */
#define TIMER_ACCURACY_US 100

/* ---- small services ---- */

uint32_t supervisor_random(void)
{
    uint32_t value = 0;
    if (getrandom(&value, sizeof value, GRND_NONBLOCK) != sizeof value)
        value =
            (uint32_t)(monotonic_now().ns * 2654435761u); /* early at boot: jitter needs no more */
    return value;
}

int supervisor_arm(struct supervisor *supervisor, sd_event_source **timer, uint64_t delay_ns,
                   sd_event_time_handler_t handler, void *userdata)
{
    uint64_t delay_us = delay_ns / NS_PER_US;
    if (!*timer)
        return sd_event_add_time_relative(supervisor->event, timer, CLOCK_MONOTONIC, delay_us,
                                          TIMER_ACCURACY_US, handler, userdata);
    int error = sd_event_source_set_time_relative(*timer, delay_us);
    return error < 0 ? error : sd_event_source_set_enabled(*timer, SD_EVENT_ONESHOT);
}

static int compare_names(const void *a, const void *b)
{
    const struct channel *const *first = a, *const *second = b;
    return strcmp((*first)->spec->name, (*second)->spec->name);
}

static int compare_to_name(const void *name, const void *element)
{
    const struct channel *const *channel = element;
    return strcmp(name, (*channel)->spec->name);
}

struct channel *supervisor_find_channel(struct supervisor *supervisor, const char *name)
{
    struct channel **found = bsearch(name, supervisor->channels_by_name, supervisor->channel_count,
                                     sizeof(struct channel *), compare_to_name);
    return found ? *found : NULL;
}

/* ---- children ---- */

void supervisor_child_message(struct child *child, struct message *message)
{
    switch (child->kind) {
    case CHILD_SPARE:
        child_violated(child, "it speaks before it was assigned");
        break;
    case CHILD_CHANNEL:
        channel_handle_message(child->channel, message);
        break;
    case CHILD_ARCHIVE:
        archive_client_handle(child, message);
        break;
    }
}

void supervisor_child_ended(struct child *child, const siginfo_t *end)
{
    switch (child->kind) {
    case CHILD_SPARE:
        supervisor_spare_ended(child, end);
        break;
    case CHILD_CHANNEL:
        channel_worker_ended(child->channel, end);
        break;
    case CHILD_ARCHIVE:
        archive_client_ended(child, end);
        break;
    }
}

/* ---- the end ---- */

static bool is_log_quiet(const struct supervisor *supervisor)
{
    if (!supervisor->archive)
        return true; /* nobody will answer */
    for (size_t i = 0; i < supervisor->channel_count; i++)
        if (!channel_log_quiet(supervisor->channels[i]))
            return false;
    return true;
}

static void finish_if_done(struct supervisor *supervisor)
{
    if (supervisor->state_counts[CHANNEL_STOPPED] < supervisor->channel_count)
        return;
    if (!supervisor->hurried && (supervisor->seal_count > 0 || !is_log_quiet(supervisor)))
        return;
    archive_client_stop(supervisor);
    if ((supervisor->archive || supervisor->store_behind) && !supervisor->hurried)
        return;
    sd_event_exit(supervisor->event,
                  supervisor->left_unsealed || supervisor->seal_count > 0 ? 1 : 0);
}

/* Everything that still runs gets SIGKILL; what that leaves unsealed, the next start recovers. */
static void hurry(struct supervisor *supervisor, const char *cause)
{
    log_warning("%s: killing what still runs", cause);
    supervisor->hurried = true;
    for (size_t i = 0; i < supervisor->channel_count; i++)
        if (supervisor->channels[i]->worker)
            child_kill(supervisor->channels[i]->worker, SIGKILL);
    if (supervisor->state_counts[CHANNEL_STOPPED] < supervisor->channel_count)
        supervisor->left_unsealed = true;
    sd_event_exit(supervisor->event,
                  supervisor->left_unsealed || supervisor->seal_count > 0 ? 1 : 0);
}

static int on_stop_deadline(sd_event_source *source, uint64_t time_us, void *userdata)
{
    (void)source;
    (void)time_us;
    hurry(userdata, "the stop took too long");
    return 0;
}

void supervisor_stop(struct supervisor *supervisor, const char *cause)
{
    if (supervisor->stopping) {
        if (!supervisor->hurried)
            hurry(supervisor, cause);
        return;
    }
    log_notice("stopping: %s", cause);
    supervisor->stopping = true;
    supervisor->upgrading = false;
    rehearsal_cancel(supervisor);
    notify_stopping(supervisor);
    supervisor_arm(supervisor, &supervisor->stop_timer, STOP_DEADLINE_NS, on_stop_deadline,
                   supervisor);
    for (size_t i = 0; i < supervisor->channel_count; i++)
        channel_handle(supervisor->channels[i], CHANNEL_EVENT_STOP, cause);
    supervisor_changed(supervisor);
}

void supervisor_changed(struct supervisor *supervisor)
{
    notify_changed(supervisor);
    if (supervisor->stopping)
        finish_if_done(supervisor);
    else if (supervisor->upgrading)
        upgrade_progress(supervisor);
}

static int on_stop_signal(sd_event_source *source, const struct signalfd_siginfo *info,
                          void *userdata)
{
    char cause[64];
    (void)source;
    snprintf(cause, sizeof cause, "SIG%s from process %u", sigabbrev_np((int)info->ssi_signo),
             info->ssi_pid);
    supervisor_stop(userdata, cause);
    return 0;
}

static int on_hangup(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
    (void)source;
    (void)info;
    (void)userdata;
    log_notice("SIGHUP: the configuration is read at start only; restart holdfastd to apply a "
               "changed one");
    return 0;
}

/* As in other daemons that can: SIGUSR2 asks for an upgrade in place. */
static int on_upgrade_signal(sd_event_source *source, const struct signalfd_siginfo *info,
                             void *userdata)
{
    const char *why;
    (void)source;
    (void)info;
    if (upgrade_begin(userdata, &why) < 0)
        log_error("no upgrade: %s", why);
    return 0;
}

/* ---- the beginning ---- */

static int make_channels(struct supervisor *supervisor)
{
    size_t count = supervisor->settings->channel_count;
    supervisor->channels = calloc(count + 1, sizeof(struct channel *));
    supervisor->channels_by_name = calloc(count + 1, sizeof(struct channel *));
    if (!supervisor->channels || !supervisor->channels_by_name)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        int error =
            channel_new(supervisor, supervisor->settings->channels[i], &supervisor->channels[i]);
        if (error < 0)
            return error;
        supervisor->channels_by_name[i] = supervisor->channels[i];
        supervisor->channel_count++;
    }
    qsort(supervisor->channels_by_name, count, sizeof(struct channel *), compare_names);
    return 0;
}

static int watch_signals(struct supervisor *supervisor)
{
    int error = sd_event_add_signal(supervisor->event, NULL, SIGTERM, on_stop_signal, supervisor);
    if (error >= 0)
        error = sd_event_add_signal(supervisor->event, NULL, SIGINT, on_stop_signal, supervisor);
    if (error >= 0)
        error = sd_event_add_signal(supervisor->event, NULL, SIGHUP, on_hangup, supervisor);
    if (error >= 0)
        error =
            sd_event_add_signal(supervisor->event, NULL, SIGUSR2, on_upgrade_signal, supervisor);
    return error;
}

static bool records(const struct supervisor *supervisor)
{
    for (size_t i = 0; i < supervisor->channel_count; i++)
        if (supervisor->channels[i]->spec->record.enabled)
            return true;
    return false;
}

static int prepare(struct supervisor *supervisor, char *why, size_t why_size)
{
    const char *step = "the event loop";
    int error = sd_event_default(&supervisor->event);
    if (error >= 0) {
        step = "signals";
        error = watch_signals(supervisor);
    }
    if (error >= 0) {
        step = "channels";
        error = make_channels(supervisor);
    }
    if (error >= 0) {
        handover_restore(supervisor);
        step = "spares";
        supervisor->spares =
            calloc(supervisor->settings->spare_workers + 1, sizeof *supervisor->spares);
        supervisor->spare_count = supervisor->settings->spare_workers;
        error = supervisor->spares ? 0 : -ENOMEM;
    }
    if (error >= 0) {
        step = "health checks";
        error = health_start(supervisor);
    }
    if (error < 0) {
        snprintf(why, why_size, "can't set up %s: %s", step, strerror(-error));
        return error;
    }
    return control_open(supervisor, &supervisor->control, why, why_size);
}

static void start(struct supervisor *supervisor)
{
    log_notice("holdfastd %s: %zu channel%s, log_dir %s", HOLDFAST_VERSION,
               supervisor->channel_count, supervisor->channel_count == 1 ? "" : "s",
               supervisor->settings->log_dir);
    if (records(supervisor))
        archive_client_start(supervisor);
    for (size_t i = 0; i < supervisor->channel_count; i++)
        if (supervisor->channels[i]->wanted)
            channel_handle(supervisor->channels[i], CHANNEL_EVENT_START, "start");
        else
            channel_handle(supervisor->channels[i], CHANNEL_EVENT_STOP,
                           "stopped before the upgrade");
    supervisor_refill_spares(supervisor);
}

static void supervisor_free(struct supervisor *supervisor)
{
    rehearsal_cancel(supervisor);
    control_close(supervisor->control);
    supervisor_drop_spares(supervisor);
    for (size_t i = 0; i < supervisor->channel_count; i++)
        channel_free(supervisor->channels[i]);
    archive_client_free(supervisor);
    health_stop(supervisor);
    notify_stop(supervisor);
    handover_free(supervisor);
    sd_event_source_disable_unref(supervisor->stop_timer);
    free(supervisor->channels);
    free(supervisor->channels_by_name);
    free(supervisor->spares);
    sd_event_unref(supervisor->event);
    settings_free(supervisor->settings);
    free(supervisor);
}

int supervisor_run(struct settings *settings, const struct program *program, char *why,
                   size_t why_size)
{
    struct supervisor *supervisor = calloc(1, sizeof *supervisor);
    int status = 1;
    if (!supervisor) {
        snprintf(why, why_size, "out of memory");
        return 1;
    }
    why[0] = '\0';
    supervisor->settings = settings;
    supervisor->started = monotonic_now();
    supervisor->arguments = program->arguments;
    memcpy(supervisor->worker_path, program->worker_path, sizeof supervisor->worker_path);
    memcpy(supervisor->program_path, program->path, sizeof supervisor->program_path);
    if (prepare(supervisor, why, why_size) >= 0) {
        start(supervisor);
        status = sd_event_loop(supervisor->event);
        if (status < 0) {
            snprintf(why, why_size, "the event loop failed: %s", strerror(-status));
            status = 1;
        }
        if (status == UPGRADE_EXIT) {
            control_close(supervisor->control);
            supervisor->control = NULL;
            upgrade_execute(supervisor);
            status = 1;
        }
        log_notice("ended%s",
                   status == 0 ? "" : "; something was left unsealed, the next start recovers it");
    }
    supervisor_free(supervisor);
    return status;
}
