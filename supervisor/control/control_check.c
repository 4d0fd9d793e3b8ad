/* SPDX-License-Identifier: MIT */
/* What `check` says, as JSON, and the judgements that `status` tells too. Called by control_verbs.c
 * and control_status.c. Values out of a channel page are whatever a worker left there. */
#include "supervisor/control/control_check.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

#include "common/avro_log_format.h"
#include "common/channel_page.h"
#include "common/control_protocol.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/channel/channel.h"
#include "supervisor/channel/channel_former.h"
#include "supervisor/channel/channel_hang.h"
#include "supervisor/channel/channel_ledger.h"
#include "supervisor/channel/channel_silence.h"
#include "supervisor/gate/gate_client.h"
#include "supervisor/hold/hold.h"

/* Why it can't be reached: as the supervisor found when it tried, or as the worker was told when it
 * sent. "" when it can. */
const char *control_check_why_down(const struct channel *channel, uint32_t index)
{
    const char *reason = channel->hold.down[index].reason;
    int place = reason[0] ? -1 : hold_find_destination(&channel->hold, channel->spec, index);
    if (place < 0)
        return reason;
    switch (atomic_load(&channel->hold.page->private.places[place].send_error)) {
    case ENETUNREACH:
    case EHOSTUNREACH:
        return "no route leads there any more: check `ip route`; what is meant for it is counted "
               "as dropped";
    case ENODEV:
    case ENETDOWN:
    case ENXIO:
        return "its interface is down or gone: check `ip link`; what is meant for it is counted as "
               "dropped";
    default:
        return "";
    }
}

const char *control_check_interface_down(const struct channel *channel)
{
    return channel->hold.rx >= 0 ? channel->hold.membership.down : "";
}

/* What an operator should know about the log; "" when all is well. */
const char *control_check_trouble(const struct channel *channel)
{
    if (channel->recording.trouble[0])
        return channel->recording.trouble;
    return channel->hang.disk_warned && !channel->hang.dead
               ? "it waits for the disk; relaying goes on, the ring fills"
               : "";
}

const char *control_check_receive_trouble(const struct channel *channel)
{
    const char *gone = channel->hold.membership.gone;
    return gone[0] ? gone : channel_hang_trouble(channel);
}

static void add_problem(json_t *problems, const struct channel *channel, const char *kind,
                        const char *cause)
{
    json_array_append_new(problems,
                          json_pack("{s:s, s:s, s:s, s:o}", "channel", channel->spec->name, "kind",
                                    kind, "state", channel_state_names[channel->life.state],
                                    "cause", control_text(cause)));
}

/* The current segment is as good as full, and there is no next one. */
static bool is_full(const struct channel *channel)
{
    const struct hold *hold = &channel->hold;
    struct commit_progress commit;
    return hold->segment >= 0 && hold->next < 0 && channel->recording.trouble[0] && hold->page &&
           channel->ledger.last_pending > 0 && channel_page_read_commit(hold->page, &commit) &&
           commit.write_offset + AVRO_LOG_BLOCK_MAX > hold->segment_grant.size;
}

const char *control_check_records_nothing(const struct channel *channel)
{
    if (!channel->spec->record.enabled || channel->life.state != CHANNEL_RUNNING)
        return NULL;
    if (is_full(channel))
        return channel->recording.trouble;
    if (channel->hold.segment >= 0)
        return NULL;
    return channel->recording.state == RECORDING_TROUBLE      ? channel->recording.trouble
           : channel->recording.state == RECORDING_RECOVERING ? "its log is still being recovered"
                                                              : NULL;
}

/* It has no worker because of an upgrade: that is over in a moment, or the channel says why not. */
static bool is_upgraded(const struct channel *channel)
{
    const struct channel_host *host = channel->host;
    enum channel_state state = channel->life.state;
    if (!channel->life.wanted || channel->former.configured || state >= CHANNEL_BACKOFF)
        return false;
    return host->phase == PHASE_PARKS || (host->upgraded && !channel->life.reported);
}

size_t control_check_unsealed(const struct channel *channel, const char **ret_name)
{
    size_t count = archive_client_unsealed(channel->host->archive, channel->spec->name, ret_name);
    if (count > 0)
        return count;
    *ret_name = "unfinished before";
    return channel->recording.unfinished;
}

/* What is in them may be nowhere but in memory. */
static void check_unsealed(json_t *problems, const struct channel *channel)
{
    char cause[SEGMENT_NAME_SIZE + 192];
    const char *name;
    size_t count = control_check_unsealed(channel, &name);
    if (count == 0)
        return;
    snprintf(cause, sizeof cause,
             "%zu of its segments could not be sealed so far (%s): the log says why; what is in "
             "them may not be on the disk; tried again every minute",
             count, name);
    add_problem(problems, channel, "unsealed", cause);
}

/* Of a channel; false when the answer is no because of it. */
static bool check_channel(json_t *problems, const struct channel *channel, monotonic now)
{
    bool healthy = true;
    if (channel_former_is_wanted(channel) &&
        (!channel->life.wanted || channel->life.state != CHANNEL_RUNNING)) {
        healthy = is_upgraded(channel);
        add_problem(problems, channel, healthy ? "upgrading" : "not_running", channel->life.cause);
    }
    const char *gone = channel->hold.membership.gone, *dead = channel_hang_trouble(channel);
    if (gone[0])
        add_problem(problems, channel, "interface_gone", gone);
    if (control_check_interface_down(channel)[0])
        add_problem(problems, channel, "interface_down", control_check_interface_down(channel));
    if (dead[0])
        add_problem(problems, channel, "worker_dead", dead);
    if (channel_silence_of(channel, now))
        add_problem(problems, channel, "silent", "nothing received for longer than `expect`");
    healthy = healthy && !gone[0] && !dead[0] && !channel_silence_of(channel, now);
    if (channel_ledger_is_stuck(channel, now)) {
        healthy = false;
        add_problem(problems, channel, "counters_stuck",
                    "its ring's memory is damaged: what is shown is what was last read; a restart "
                    "of the channel makes a fresh ring");
    }
    const char *nothing = control_check_records_nothing(channel);
    if (nothing) {
        healthy = false;
        add_problem(problems, channel, "not_recording", nothing);
    }
    /* Also while only the next segment can't be had: the current one fills up. */
    if (control_check_trouble(channel)[0] && !nothing)
        add_problem(problems, channel, "degraded", control_check_trouble(channel));
    check_unsealed(problems, channel);
    for (uint32_t k = 0; k < channel->hold.destination_count; k++)
        if (control_check_why_down(channel, k)[0])
            add_problem(problems, channel, "destination_down", control_check_why_down(channel, k));
    return healthy;
}

/* Of them all. Always false. */
static bool add_general_problem(json_t *problems, const char *kind, const char *cause)
{
    json_array_append_new(problems, json_pack("{s:n, s:s, s:n, s:s}", "channel", "kind", kind,
                                              "state", "cause", cause));
    return false;
}

/* The answer is no when a channel that should run, receive or record does not, or can't be counted.
 * What only threatens to be so is told: a next segment that can't be had, one that can't be sealed,
 * a destination or an interface that is down; and an upgrade, and that nobody can read: who starts
 * everything anew for such an answer would lose datagrams over it. */
json_t *control_check(const struct supervisor *supervisor)
{
    bool healthy = true;
    monotonic now = monotonic_now();
    json_t *problems = json_array();
    for (size_t i = 0; i < supervisor->channels.count; i++)
        healthy = check_channel(problems, supervisor->channels.list[i], now) && healthy;
    if (archive_client_silence(&supervisor->archive, now))
        healthy = add_general_problem(problems, "archive_silent",
                                      archive_client_silence_cause(&supervisor->archive));
    const char *unread = gate_client_trouble(&supervisor->gate, now);
    if (unread[0])
        add_general_problem(problems, "nobody_can_read", unread);
    if (supervisor->host.phase >= PHASE_STOPS)
        healthy = add_general_problem(problems, "stopping", "holdfastd is about to end");
    return json_pack("{s:b, s:o}", "healthy", (int)healthy, "problems", problems);
}
