/* SPDX-License-Identifier: MIT */
/* Stops everything in order: workers drain, segments are sealed, the archive ends, then the loop.
 * Called for signals and operators, and after every change of a channel. Must never wait for
 * anybody without a deadline. */
#include "supervisor/supervisor.h"

#include "common/log.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/channel/channel_machine.h"
#include "supervisor/child/spares.h"
#include "supervisor/gate/gate_client.h"
#include "supervisor/hold/store.h"
#include "supervisor/system/timer.h"

/* More than a channel gives its worker. */
#define STOP_DEADLINE_NS (10 * NS_PER_S)

static bool all_stopped(const struct supervisor *supervisor)
{
    return supervisor->host.counts.in_state[CHANNEL_STOPPED] >= supervisor->channels.count;
}

static void end_loop(struct supervisor *supervisor)
{
    bool left = archive_client_left_unsealed(&supervisor->archive) ||
                channels_left_unfinished(&supervisor->channels);
    sd_event_exit(supervisor->event, left ? 1 : 0);
}

static void finish_if_done(struct supervisor *supervisor)
{
    struct archive_client *archive = &supervisor->archive;
    bool hurried = supervisor->host.phase == PHASE_HURRIES;
    if (!all_stopped(supervisor))
        return;
    /* Without an archive nobody will answer. */
    bool answered = !archive->child || channels_recording_quiet(&supervisor->channels);
    if (!hurried && (archive_client_is_awaited(archive) || !answered))
        return;
    if (!hurried && archive->child && channels_clean_last(&supervisor->channels))
        return;
    channels_let_go(&supervisor->channels);
    archive_client_stop(archive);
    gate_client_stop(&supervisor->gate); /* readers have seen the last records by now, or soon */
    bool ended = !archive->child && gate_client_has_ended(&supervisor->gate);
    if ((!ended || supervisor->store.behind) && !hurried)
        return;
    end_loop(supervisor);
}

/* Everything that still runs gets SIGKILL; what that leaves unsealed, the next start recovers. */
static void hurry(struct supervisor *supervisor, const char *cause)
{
    log_warning("%s: killing what still runs", cause);
    supervisor->host.phase = PHASE_HURRIES;
    channels_kill_workers(&supervisor->channels);
    if (!all_stopped(supervisor))
        supervisor->archive.left_unsealed = true;
    end_loop(supervisor);
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
    struct channel_host *host = &supervisor->host;
    if (host->phase >= PHASE_STOPS) {
        if (host->phase != PHASE_HURRIES)
            hurry(supervisor, cause);
        return;
    }
    log_notice("stopping: %s", cause);
    host->phase = PHASE_STOPS;
    spares_close(&supervisor->spares);
    store_end(&supervisor->store);
    upgrade_cancel(&supervisor->upgrade);
    status_line_stopping(&supervisor->status_line);
    timer_arm(&supervisor->stop_timer, supervisor->event,
              STOP_DEADLINE_NS + supervisor->settings->read_limits.grace_ns, on_stop_deadline,
              supervisor);
    /* Workers may want a last segment. An upgrade that is given up may have told it to end. */
    archive_client_go_on(&supervisor->archive);
    gate_client_close_socket(&supervisor->gate);
    for (size_t i = 0; i < supervisor->channels.count; i++)
        channel_machine_handle(supervisor->channels.list[i], CHANNEL_EVENT_STOP, cause);
    supervisor_changed(supervisor);
}

void supervisor_changed(void *data)
{
    struct supervisor *supervisor = data;
    status_line_changed(&supervisor->status_line);
    if (supervisor->host.phase >= PHASE_STOPS)
        finish_if_done(supervisor);
    else if (supervisor->host.phase == PHASE_PARKS || supervisor->upgrade.drains)
        upgrade_progress(&supervisor->upgrade);
}
