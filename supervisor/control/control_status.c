/* SPDX-License-Identifier: MIT */
/* What `status` says, as JSON. Called by control_verbs.c. Values out of a channel page
 * are whatever a worker left there: they are read through channel_page_*(), bounded, and reported,
 * never followed. */
#include "supervisor/control/control_status.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/channel_page.h"
#include "common/channel_spec.h"
#include "common/control_protocol.h"
#include "common/counters.h"
#include "common/message.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/channel/channel.h"
#include "supervisor/channel/channel_former.h"
#include "supervisor/channel/channel_ledger.h"
#include "supervisor/channel/channel_progress.h"
#include "supervisor/channel/channel_silence.h"
#include "supervisor/control/control_check.h"
#include "supervisor/control/control_crashes.h"
#include "supervisor/control/control_json.h"
#include "supervisor/control/control_publishers.h"
#include "supervisor/control/control_reading.h"
#include "supervisor/hold/hold.h"
#include "supervisor/hold/hold_ring.h"
#include "supervisor/policy/receive_rate.h"
#include "supervisor/policy/restart_policy.h"

static json_t *counters_json(const struct counters *counters, uint32_t restarts)
{
    json_t *report = json_object();
    for (int i = 0; i < COUNTER_COUNT; i++)
        control_json_set_number(report, counter_infos[i].name,
                                i == COUNTER_restarts ? restarts : counters->value[i]);
    return report;
}

/* ---- destinations ---- */

/* Whether a relay sends runs of datagrams with one call; null where that can't be said. */
static json_t *segmentation(const struct channel *channel, int place)
{
    static const char *const names[] = {[SEGMENTATION_UNTRIED] = "untried",
                                        [SEGMENTATION_USED] = "used",
                                        [SEGMENTATION_REFUSED] = "refused"};
    if (place < 0)
        return json_null();
    uint32_t state = atomic_load_explicit(&channel->hold.page->private.places[place].segmentation,
                                          memory_order_relaxed) >>
                     16;
    return state < sizeof names / sizeof names[0] ? json_string(names[state]) : json_null();
}

static json_t *destination(const struct channel *channel, uint32_t index)
{
    const struct destination_spec *spec = &channel->spec->destinations[index];
    struct destination_progress progress;
    char to[SOCKET_ADDRESS_TEXT_SIZE];
    json_t *report = json_object();

    socket_address_print_at(&spec->to, spec->interface, to, sizeof to);
    json_object_set_new(report, "name", json_string(spec->name));
    json_object_set_new(report, "to", json_string(to));
    int place = hold_find_destination(&channel->hold, channel->spec, index);
    channel_ledger_destination(channel, index, &progress);
    control_json_set_number(report, "sent", progress.sent);
    control_json_set_number(report, "dropped", progress.dropped);
    control_json_set_number(report, "repeated", progress.repeated);
    const char *down = control_check_why_down(channel, index);
    json_object_set_new(report, "state", json_string(down[0] ? "down" : "up"));
    json_object_set_new(report, "reason", down[0] ? control_text(down) : json_null());
    if (index < channel->spec->relay_count)
        json_object_set_new(report, "segmentation", segmentation(channel, place));
    if (spec->keep_every)
        control_json_set_number(report, "keep_every", spec->keep_every);
    if (spec->max_rate)
        control_json_set_number(report, "max_rate", spec->max_rate);
    return report;
}

static json_t *destinations(const struct channel *channel, uint32_t first, uint32_t count)
{
    json_t *list = json_array();
    for (uint32_t i = first; i < first + count; i++)
        json_array_append_new(list, destination(channel, i));
    return list;
}

/* ---- log ---- */

static const char *recording_state_name(enum recording_state state)
{
    switch (state) {
    case RECORDING_NONE:
        return "none";
    case RECORDING_RECOVERING:
        return "recovering";
    case RECORDING_OPENING:
        return "opening";
    case RECORDING_OPEN:
        return "open";
    case RECORDING_TROUBLE:
        return "trouble";
    }
    return "unknown";
}

json_t *control_status_segment(const struct channel *channel)
{
    return channel->hold.segment >= 0 ? control_text(channel->hold.segment_grant.name)
                                      : json_null();
}

/* The first number of the segment that the supervisor names, once it is begun. */
static json_t *first_seq(const struct channel *channel, const struct commit_progress *commit)
{
    if (!channel->recording.begun || commit->segment_id != channel->hold.segment_grant.id)
        return json_null();
    return control_json_number(commit->segment_first_seq);
}

/* What the worker writes to may be newer than what the supervisor has heard of. */
json_t *control_status_worker_segment(const struct channel *channel)
{
    struct commit_progress commit;
    if (!channel->hold.page || !channel_page_read_commit(channel->hold.page, &commit))
        return json_null();
    return control_json_number(commit.segment_id ? commit.segment_first_seq : commit.next_seq);
}

static uint64_t at_most(uint64_t value, uint64_t limit)
{
    return value < limit ? value : limit;
}

/* Where its segments lie, as somebody in another folder would name it. Asks no disk. */
static json_t *folder_of(const struct channel *channel)
{
    const char *log_dir = channel->host->settings->log_dir;
    char here[PATH_MAX], folder[2 * PATH_MAX];
    bool relative = log_dir[0] != '/' && getcwd(here, sizeof here) && here[0] == '/';
    snprintf(folder, sizeof folder, "%s%s%s/%s", relative ? here : "", relative ? "/" : "", log_dir,
             channel->spec->name);
    return control_text(folder);
}

static json_t *recording_report(const struct channel *channel)
{
    const struct channel_page *page = channel->hold.page;
    const struct segment_grant *grant = &channel->hold.segment_grant;
    struct commit_progress commit = {0};
    uint64_t committed = 0, durable = 0;
    const char *unsealed_name;

    if (!channel->spec->record.enabled)
        return json_null();
    bool known = page && channel_page_read_commit(page, &commit);
    /* Positions count for the segment they were written for: the worker may be one roll ahead of
     * us. */
    if (known && channel->hold.segment >= 0 && commit.segment_id == grant->id)
        committed = at_most(commit.write_offset, grant->size);
    size_t unsealed =
        archive_client_unsealed(channel->host->archive, channel->spec->name, &unsealed_name);
    if (page && channel->hold.segment >= 0 && unsealed == 0) /* what was before may not be there */
        durable = at_most(channel_page_durable(page, grant->id), committed);

    json_t *report = json_object();
    json_object_set_new(report, "state",
                        json_string(recording_state_name(channel->recording.state)));
    json_object_set_new(report, "segment", control_status_segment(channel));
    json_object_set_new(report, "segment_first_seq",
                        known ? first_seq(channel, &commit) : json_null());
    control_json_set_number(report, "committed_bytes", committed);
    control_json_set_number(report, "durable_bytes", durable);
    control_json_set_number(report, "next_seq",
                            known && commit.next_seq > channel->recording.next_seq
                                ? commit.next_seq
                                : channel->recording.next_seq);
    json_object_set_new(report, "folder", folder_of(channel));
    const char *trouble = control_check_trouble(channel);
    json_object_set_new(report, "trouble", trouble[0] ? control_text(trouble) : json_null());
    json_object_set_new(report, "recording",
                        json_boolean(channel->life.state == CHANNEL_RUNNING &&
                                     !control_check_records_nothing(channel)));
    control_json_set_number(report, "unsealed", control_check_unsealed(channel, &unsealed_name));
    return report;
}

/* ---- ring ---- */

static const char *mapping_name(const struct channel_page *page)
{
    uint32_t mapping =
        page ? atomic_load_explicit(&page->private.mapping, memory_order_relaxed) : 0;
    return mapping == 1 ? "double" : mapping == 2 ? "mirror" : "none";
}

/* Why it is not what it could be: the mapping, the pages. */
static json_t *ring_reason(const struct channel *channel, bool huge)
{
    const char *mapping = channel->lent.ring_reason, *pages = "";
    char text[MESSAGE_REASON_SIZE + 256];
    if (channel->spec->ring_pages == RING_PAGES_HUGE && !huge && channel->hold.ring >= 0)
        pages = channel->hold.pages_reason[0] ? channel->hold.pages_reason
                                              : "this ring was made of normal pages before";
    snprintf(text, sizeof text, "%s%s%s%s", mapping, mapping[0] && pages[0] ? "; " : "",
             pages[0] ? "no huge pages: " : "", pages);
    return control_text(text);
}

static json_t *ring_report(const struct channel *channel, uint64_t pending)
{
    json_t *report = json_object();
    json_object_set_new(report, "mapping", json_string(mapping_name(channel->hold.page)));
    bool huge = hold_ring_is_huge(&channel->hold);
    json_object_set_new(report, "pages", json_string(huge ? "huge" : "normal"));
    json_object_set_new(report, "reason", ring_reason(channel, huge));
    control_json_set_number(report, "capacity_bytes", channel->hold.geometry.data_capacity);
    control_json_set_number(report, "pending", pending);
    return report;
}

/* ---- rate and what it means ---- */

static json_t *duration_or_null(double value)
{
    return value < 0 ? json_null() : json_real(value);
}

static void add_rate(json_t *report, const struct channel *channel, uint64_t pending)
{
    const struct channel_geometry *geometry = &channel->hold.geometry;
    const struct receive_rate *rate = &channel->ledger.rate;
    /* Pending datagrams take their part of the ring; their bytes are taken to be the same part. */
    double free_part = pending < geometry->descriptor_count
                           ? 1 - (double)pending / (double)geometry->descriptor_count
                           : 0;
    struct stall_room room = {.ring_bytes = (uint64_t)((double)geometry->data_capacity * free_part),
                              .ring_datagrams =
                                  (uint64_t)((double)geometry->descriptor_count * free_part),
                              .receive_buffer = channel->hold.receive_buffer};
    double ring = receive_rate_ring_lasts(rate, &room);
    double buffer = receive_rate_buffer_lasts(rate, &room);
    double tolerance = buffer;
    if (channel->spec->record.enabled)
        tolerance = channel->spec->record.on_full == RECORD_ON_FULL_WAIT && ring >= 0
                        ? ring + buffer
                        : ring;

    json_object_set_new(report, "rate",
                        rate->known
                            ? json_pack("{s:f, s:f}", "datagrams_per_s", rate->datagrams_per_s,
                                        "bytes_per_s", rate->bytes_per_s)
                            : json_null());
    json_object_set_new(report, "stall_tolerance_s", duration_or_null(tolerance));
    json_object_set_new(report, "ring_lasts_s", duration_or_null(ring));
    json_object_set_new(report, "receive_buffer_lasts_s", duration_or_null(buffer));
    control_json_set_number(report, "receive_buffer_bytes", channel->hold.receive_buffer);
}

/* ---- a channel, all of them ---- */

static json_t *next_start(const struct channel *channel, monotonic now)
{
    if (channel->life.state != CHANNEL_BACKOFF)
        return json_null();
    return control_json_number(monotonic_since(channel->life.next_start, now) / NS_PER_MS);
}

/* Which rule decided when the next worker starts, or when this one did, and what that costs. */
static json_t *restart_report(const struct channel *channel, monotonic now)
{
    const struct restart *restart = &channel->life.restart;
    uint64_t budget = channel_progress_stall_budget(channel);
    json_t *report = json_object();
    json_object_set_new(report, "rule", json_string(restart_rule_names[restart->rule]));
    control_json_set_number(report, "deaths_without_progress", restart->fruitless);
    json_object_set_new(report, "stall_budget_ms",
                        budget == RESTART_NO_STALL ? json_null()
                                                   : control_json_number(budget / NS_PER_MS));
    control_json_set_number(report, "expected_drops",
                            channel_progress_expected_drops(channel, now));
    return report;
}

/* What it takes datagrams from: null where the settings leave that open. */
static void add_origin(json_t *report, const struct channel_spec *spec)
{
    char source[SOCKET_ADDRESS_TEXT_SIZE];
    socket_address_print_host(&spec->source, source, sizeof source);
    json_object_set_new(report, "interface",
                        spec->interface[0] ? json_string(spec->interface) : json_null());
    json_object_set_new(report, "source", spec->source.family ? json_string(source) : json_null());
}

static json_t *last_datagram(const struct channel *channel)
{
    struct channel_newest newest = channel_ledger_newest(channel);
    uint64_t now = realtime_now_ns();
    char source[SOCKET_ADDRESS_TEXT_SIZE];
    if (!newest.known)
        return json_null();
    socket_address_print(&newest.source, source, sizeof source);
    json_t *report = json_object();
    control_json_set_number(report, "seq", newest.seq);
    json_object_set_new(report, "time", control_json_seconds(newest.time_ns));
    /* A clock that was set back makes no age. */
    json_object_set_new(report, "age_s",
                        control_json_seconds(now > newest.time_ns ? now - newest.time_ns : 0));
    json_object_set_new(report, "source", json_string(source));
    return report;
}

static void add_identity(json_t *report, const struct channel *channel, monotonic now)
{
    char listen[SOCKET_ADDRESS_TEXT_SIZE];
    channel_spec_print_listen(channel->spec, listen, sizeof listen);
    json_object_set_new(report, "name", json_string(channel->spec->name));
    json_object_set_new(report, "state", json_string(channel_state_names[channel->life.state]));
    json_object_set_new(report, "state_since_s",
                        control_json_seconds(monotonic_since(now, channel->life.since)));
    json_object_set_new(report, "cause", control_text(channel->life.cause));
    json_object_set_new(report, "wanted", json_boolean(channel_former_is_wanted(channel)));
    json_object_set_new(report, "listen", json_string(listen));
    add_origin(report, channel->spec);
    json_object_set_new(report, "pid",
                        channel->lent.worker ? json_integer(channel->lent.worker->pid)
                                             : json_null());
    control_json_set_number(report, "generation", channel->lent.generation);
    control_json_set_number(report, "restarts", channel->ledger.restarts);
    control_json_set_number(report, "deaths_in_a_row", channel->life.restart.deaths_in_a_row);
    json_object_set_new(report, "last_death", control_crashes_last(&channel->obituaries));
    json_object_set_new(report, "next_start_ms", next_start(channel, now));
    json_object_set_new(report, "restart", restart_report(channel, now));
}

/* The newest gap that this ring knows of: the number of the datagram after it. */
static json_t *not_covered_before(const struct channel *channel)
{
    uint64_t gap =
        channel->hold.page
            ? atomic_load_explicit(&channel->hold.page->private.gap_before, memory_order_relaxed)
            : 0;
    return gap ? control_json_number(gap - 1) : json_null();
}

static json_t *channel_report(struct channel *channel, monotonic now)
{
    struct counters counters;
    uint64_t pending = 0;
    json_t *report = json_object();

    bool current = channel_ledger_read(channel, &counters, &pending);
    add_identity(report, channel, now);
    json_object_set_new(report, "counters", counters_json(&counters, channel->ledger.restarts));
    json_object_set_new(report, "counters_current", json_boolean(current));
    json_object_set_new(report, "kernel_dropped_at_least",
                        json_boolean(channel->spec->receive_offload != 0));
    json_object_set_new(report, "not_covered_before", not_covered_before(channel));
    const char *trouble = control_check_receive_trouble(channel);
    json_object_set_new(report, "receive_trouble",
                        trouble[0] ? control_text(trouble) : json_null());
    const char *down = control_check_interface_down(channel);
    json_object_set_new(report, "interface_down", down[0] ? control_text(down) : json_null());
    uint64_t silent = channel_silence_of(channel, now);
    json_object_set_new(report, "silent_s", silent ? control_json_seconds(silent) : json_null());
    json_object_set_new(report, "last_datagram", last_datagram(channel));
    add_rate(report, channel, pending);
    json_object_set_new(report, "relays", destinations(channel, 0, channel->spec->relay_count));
    json_object_set_new(
        report, "decimates",
        destinations(channel, channel->spec->relay_count, channel->spec->decimate_count));
    json_object_set_new(report, "publishers", control_publishers(channel));
    json_object_set_new(report, "log", recording_report(channel));
    json_object_set_new(report, "ring", ring_report(channel, pending));
    return report;
}

json_t *control_status(const struct supervisor *supervisor, const struct channel *channel)
{
    monotonic now = monotonic_now();
    json_t *channels = json_array();
    for (size_t i = 0; i < supervisor->channels.count; i++)
        if (!channel_former_is_gone(supervisor->channels.list[i]) &&
            (!channel || supervisor->channels.list[i] == channel))
            json_array_append_new(channels, channel_report(supervisor->channels.list[i], now));
    return json_pack("{s:{s:i, s:s, s:o, s:b}, s:o, s:o}", "supervisor", "pid", (int)getpid(),
                     "version", HOLDFAST_VERSION, "uptime_s",
                     control_json_seconds(monotonic_since(now, supervisor->started)), "stopping",
                     supervisor->host.phase >= PHASE_STOPS, "read", control_reading(supervisor),
                     "channels", channels);
}
