/* SPDX-License-Identifier: MIT */
/* Counts a recording by reading all of it. Called by main.c. What it says was found in records, not
 * believed from names or headers. */
#include "supervisor/ctl/ctl_info.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/client/holdfast.h"
#include "common/control_protocol.h"
#include "common/units.h"
#include "supervisor/ctl/ctl_bound.h"
#include "supervisor/ctl/ctl_progress.h"
#include "supervisor/ctl/ctl_ranges.h"
#include "supervisor/ctl/ctl_source.h"
#include "supervisor/ctl/ctl_stream.h"
#include "supervisor/ctl/ctl_tally.h"
#include "supervisor/ctl/ctl_text.h"
#include "supervisor/ctl/ctl_time.h"
#include "supervisor/ctl/ctl_window.h"

#define SOURCES_SHOWN 10

struct info {
    const struct ctl_source *source;
    uint64_t records, bytes;
    uint64_t first_seq, last_seq;
    int64_t first_ns, last_ns; /* the smallest and the largest receive time */
    uint64_t kernel_dropped, cut, cut_bytes, quarantined, uncovered;
    struct ctl_ranges lost[HF_UNCOVERED]; /* by enum hf_why */
    uint64_t lost_unknown;                /* events that don't say how many */
    struct ctl_tally tally;
    bool failed;
};

/* ---- counting ---- */

static bool take_datagram(struct info *info, const struct hf_datagram *datagram)
{
    if (info->records == 0) {
        info->first_seq = datagram->seq;
        info->first_ns = info->last_ns = datagram->time_ns;
    }
    info->records++;
    info->bytes += datagram->length;
    info->last_seq = datagram->seq;
    if (datagram->time_ns < info->first_ns)
        info->first_ns = datagram->time_ns;
    if (datagram->time_ns > info->last_ns)
        info->last_ns = datagram->time_ns;
    info->kernel_dropped += datagram->lost_before;
    info->cut += datagram->cut > 0;
    info->cut_bytes += datagram->cut;
    info->quarantined += (datagram->flags & HF_FLAG_QUARANTINED) != 0;
    info->uncovered += (datagram->flags & HF_FLAG_UNCOVERED) != 0;
    return ctl_tally_add(&info->tally, &datagram->source, datagram->length) == 0;
}

static bool take_loss(struct info *info, const struct hf_datagram *loss)
{
    if (loss->why < HF_EXPIRED || loss->why >= HF_UNCOVERED)
        return true; /* datagrams say what was not covered */
    if (loss->lost == 0) {
        info->lost_unknown++;
        return true;
    }
    return ctl_ranges_add(&info->lost[loss->why], loss->seq, loss->seq + loss->lost - 1) == 0;
}

/* False: memory is short. */
static bool count(struct ctl_streams *streams, struct info *info)
{
    struct ctl_progress progress;
    struct ctl_stream *stream;
    bool is_well = true;
    int what;
    ctl_progress_begin(&progress);
    while (is_well &&
           ((what = ctl_streams_take(streams, &stream)) == HF_DATAGRAM || what == HF_LOST)) {
        uint64_t done, total;
        is_well =
            what == HF_LOST ? take_loss(info, &stream->head) : take_datagram(info, &stream->head);
        if (!progress.on)
            continue;
        ctl_streams_progress(streams, &done, &total);
        ctl_progress_tell(&progress, done, total);
    }
    ctl_progress_clear(&progress);
    info->failed = streams->failed;
    return is_well;
}

/* ---- for people ---- */

static double seconds_of(const struct info *info)
{
    return (double)(info->last_ns - info->first_ns) / 1e9;
}

static void print_when(FILE *to, const struct info *info)
{
    char first[CTL_TIME_TEXT_SIZE], last[CTL_TIME_TEXT_SIZE], span[CTL_TEXT_SIZE];
    char rate[CTL_TEXT_SIZE], bytes[CTL_TEXT_SIZE];
    const double seconds = seconds_of(info);
    ctl_time_print_local(info->first_ns, first);
    ctl_time_print_local(info->last_ns, last);
    ctl_format_seconds(seconds, span);
    fprintf(to, "  numbers     %" PRIu64 " to %" PRIu64 "\n", info->first_seq, info->last_seq);
    fprintf(to, "  received    %s\n           to %s\n", first, last);
    if (seconds <= 0)
        return;
    ctl_format_rate((double)(info->records - 1) / seconds, rate);
    ctl_format_byte_rate((double)info->bytes / seconds, bytes);
    fprintf(to, "  mean rate   %s, %s over %s\n", rate, bytes, span);
}

static void print_losses(FILE *to, const struct info *info)
{
    char text[CTL_TEXT_SIZE], title[CTL_TEXT_SIZE];
    bool any = info->lost_unknown > 0;
    for (int why = HF_EXPIRED; why < HF_UNCOVERED; why++) {
        any |= info->lost[why].numbers > 0;
        snprintf(title, sizeof title, "missing, %s", hf_why_text((uint32_t)why));
        ctl_ranges_print(to, &info->lost[why], title);
    }
    if (info->lost_unknown)
        fprintf(to, "  missing, and nobody knows how many: %" PRIu64 " times\n",
                info->lost_unknown);
    if (!any)
        fputs(info->first_seq > 0 ? "  missing     none of these\n" : "  missing     none\n", to);
    if (info->kernel_dropped) {
        ctl_format_count(info->kernel_dropped, text);
        fprintf(to, "  dropped by the kernel before they were received: %s, or more\n", text);
    }
    if (info->uncovered)
        fprintf(to, "  nobody was receiving for a while: %" PRIu64 " times\n", info->uncovered);
    if (info->cut) {
        ctl_format_bytes((double)info->cut_bytes, text);
        fprintf(to, "  cut to max_datagram: %" PRIu64 ", by %s\n", info->cut, text);
    }
    if (info->quarantined)
        fprintf(to, "  quarantined: %" PRIu64 "\n", info->quarantined);
}

static void print_sources(FILE *to, const struct info *info)
{
    static const struct ctl_column columns[] = {
        {"SOURCE", false}, {"DATAGRAMS", true}, {"SHARE", true}, {"BYTES", true}};
    struct ctl_table table;
    size_t top_count;
    const struct ctl_tally_entry **top = ctl_tally_top(&info->tally, SOURCES_SHOWN, &top_count);
    ctl_table_init(&table, columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < top_count; i++) {
        char text[HF_ADDRESS_SIZE];
        hf_format_source(&top[i]->source, text);
        ctl_table_add(&table, CTL_PLAIN, text);
        ctl_format_count(top[i]->datagrams, text);
        ctl_table_add(&table, CTL_PLAIN, text);
        snprintf(text, sizeof text, "%.1f %%",
                 100.0 * (double)top[i]->datagrams / (double)info->records);
        ctl_table_add(&table, CTL_PLAIN, text);
        ctl_format_bytes((double)top[i]->bytes, text);
        ctl_table_add(&table, CTL_PLAIN, text);
    }
    free(top);
    if (top_count > 0)
        ctl_table_print(&table, to, "  ", false);
    ctl_table_free(&table);
    if (info->tally.count > top_count)
        fprintf(to, "  and %zu other%s\n", info->tally.count - top_count,
                info->tally.count - top_count == 1 ? "" : "s");
    if (info->tally.others)
        fprintf(to, "  and %" PRIu64 " datagrams from still others\n", info->tally.others);
}

static void print_info(FILE *to, const struct info *info)
{
    char records[CTL_TEXT_SIZE], bytes[CTL_TEXT_SIZE];
    ctl_print_text(to, false, CTL_PLAIN, info->source->info.name);
    if (info->source->info.listen[0]) {
        fputs(", at ", to);
        ctl_print_text(to, false, CTL_PLAIN, info->source->info.listen);
    }
    ctl_format_count(info->records, records);
    ctl_format_bytes((double)info->bytes, bytes);
    fprintf(to, "\n  records     %s, %s of payload\n", records, bytes);
    if (info->records > 0)
        print_when(to, info);
    print_losses(to, info);
    if (info->records > 0)
        print_sources(to, info);
}

/* ---- for programs ---- */

static json_t *json_number(uint64_t number)
{
    return json_integer((json_int_t)number);
}

static json_t *json_lost(const struct ctl_ranges *ranges)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ranges->kept; i++)
        json_array_append_new(list, json_pack("[I,I]", (json_int_t)ranges->list[i].first,
                                              (json_int_t)ranges->list[i].last));
    return json_pack("{s:o,s:o,s:o}", "count", json_number(ranges->numbers), "range_count",
                     json_number(ranges->ranges), "ranges", list);
}

static json_t *json_losses(const struct info *info)
{
    json_t *lost = json_object();
    for (int why = HF_EXPIRED; why < HF_UNCOVERED; why++)
        json_object_set_new(lost, hf_why_text((uint32_t)why), json_lost(&info->lost[why]));
    json_object_set_new(lost, "events_without_count", json_number(info->lost_unknown));
    return lost;
}

static json_t *json_sources(const struct info *info)
{
    size_t top_count;
    const struct ctl_tally_entry **top = ctl_tally_top(&info->tally, SOURCES_SHOWN, &top_count);
    json_t *list = json_array();
    for (size_t i = 0; i < top_count; i++) {
        char text[HF_ADDRESS_SIZE];
        hf_format_source(&top[i]->source, text);
        json_array_append_new(list, json_pack("{s:o,s:o,s:o}", "source", control_text(text),
                                              "datagrams", json_number(top[i]->datagrams),
                                              "payload_bytes", json_number(top[i]->bytes)));
    }
    free(top);
    return list;
}

static json_t *json_time(const struct info *info, int64_t time_ns)
{
    char text[CTL_TIME_TEXT_SIZE];
    ctl_time_print_utc(time_ns, text);
    return info->records ? json_string(text) : json_null();
}

static json_t *json_if_any(const struct info *info, uint64_t number)
{
    return info->records ? json_number(number) : json_null();
}

static json_t *json_info(const struct info *info)
{
    const double seconds = seconds_of(info);
    json_t *object = json_pack(
        "{s:o,s:o}", "channel", control_text(info->source->info.name), "listen",
        info->source->info.listen[0] ? control_text(info->source->info.listen) : json_null());
    json_object_set_new(object, "records", json_number(info->records));
    json_object_set_new(object, "payload_bytes", json_number(info->bytes));
    json_object_set_new(object, "first_seq", json_if_any(info, info->first_seq));
    json_object_set_new(object, "last_seq", json_if_any(info, info->last_seq));
    json_object_set_new(object, "first_time", json_time(info, info->first_ns));
    json_object_set_new(object, "last_time", json_time(info, info->last_ns));
    json_object_set_new(object, "first_time_ns", json_if_any(info, (uint64_t)info->first_ns));
    json_object_set_new(object, "last_time_ns", json_if_any(info, (uint64_t)info->last_ns));
    json_object_set_new(object, "mean_rate",
                        info->records > 1 && seconds > 0
                            ? json_pack("{s:f,s:f,s:f}", "datagrams_per_s",
                                        (double)(info->records - 1) / seconds, "bytes_per_s",
                                        (double)info->bytes / seconds, "over_s", seconds)
                            : json_null());
    json_object_set_new(object, "lost", json_losses(info));
    json_object_set_new(object, "kernel_dropped", json_number(info->kernel_dropped));
    json_object_set_new(object, "not_covered", json_number(info->uncovered));
    json_object_set_new(object, "quarantined", json_number(info->quarantined));
    json_object_set_new(object, "cut", json_number(info->cut));
    json_object_set_new(object, "cut_bytes", json_number(info->cut_bytes));
    json_object_set_new(object, "source_count", json_number(info->tally.count));
    json_object_set_new(object, "sources", json_sources(info));
    json_object_set_new(object, "complete", json_boolean(!info->failed));
    return object;
}

/* ---- the verb ---- */

static void info_free(struct info *info)
{
    for (int why = 0; why < HF_UNCOVERED; why++)
        ctl_ranges_free(&info->lost[why]);
    ctl_tally_free(&info->tally);
}

/* One channel. With a list: into it. */
static int report(const struct ctl_source *source, const struct ctl_bounds *bounds, json_t *list)
{
    struct ctl_source one = *source;
    struct ctl_sources sources = {.list = &one, .count = 1};
    const struct ctl_streams_setup setup = {.sources = &sources, .range = bounds};
    struct ctl_streams streams;
    struct info info = {.source = source};
    int status = ctl_streams_open(&streams, &setup);
    if (status == CTL_OK && !count(&streams, &info)) {
        ctl_complain("memory is short");
        status = CTL_NO;
    } else if (status == CTL_OK) {
        status = info.failed ? CTL_NO : CTL_OK;
        if (list) {
            json_array_append_new(list, json_info(&info));
        } else {
            print_info(ctl_window_text(&(struct ctl_look){0}), &info);
            ctl_window_print();
        }
    }
    info_free(&info);
    ctl_streams_close(&streams);
    return status;
}

int ctl_info(const struct ctl_command *command)
{
    struct ctl_bounds bounds;
    struct ctl_sources sources = {0};
    json_t *list = command->options.json ? json_array() : NULL;
    int worst = CTL_OK;
    int status = ctl_bounds_parse(command, &bounds);
    if (status == CTL_OK)
        status = ctl_sources_open(&sources, command);
    for (size_t i = 0; i < sources.count && status == CTL_OK; i++) {
        int one = report(&sources.list[i], &bounds, list);
        worst = one != CTL_OK ? one : worst;
    }
    if (list && status == CTL_OK) {
        json_t *whole = json_pack("{s:O}", "channels", list);
        ctl_print_json(whole);
        json_decref(whole);
    }
    json_decref(list);
    ctl_sources_close(&sources);
    return status == CTL_OK ? worst : status;
}
