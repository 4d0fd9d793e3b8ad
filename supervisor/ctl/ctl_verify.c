/* SPDX-License-Identifier: MIT */
/* `holdfastctl verify FILE...`: is every block and record of these log files sound, and what do
 * they say about losses? Called by main.c. Reads only. A loss that the log admits to is no fault; a
 * byte that isn't as written is one. */
#include "supervisor/ctl/ctl_verify.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/avro_log_scan.h"
#include "common/fd.h"
#include "common/units.h"
#include "supervisor/ctl/ctl.h"
#include "supervisor/ctl/ctl_files.h"
#include "supervisor/ctl/ctl_ranges.h"

#define TIME_TEXT_SIZE 40

struct verification {
    const char *path;
    bool open;
    int error; /* the file could not be read: errno */
    struct avro_log_summary summary;
    struct ctl_ranges gaps, quarantined, cut,
        dropped;        /* dropped: before these numbers the kernel dropped some */
    bool follows;       /* the file before it is of the same channel */
    uint64_t gap_first; /* between that file and this one: [gap_first, gap_end) */
    uint64_t gap_end;
    bool overlaps; /* it holds numbers that are in the file before it */
};

static int take_record(void *context, const struct avro_log_found *found)
{
    struct verification *file = context;
    const struct avro_log_record *record = &found->record;
    uint64_t seq = (uint64_t)record->seq;
    int result = 0;
    if (record->lost_before > 0)
        result = ctl_ranges_add(&file->dropped, seq, seq);
    if (record->cut > 0 && result == 0)
        result = ctl_ranges_add(&file->cut, seq, seq);
    if ((record->flags & 1) && result == 0)
        result = ctl_ranges_add(&file->quarantined, seq, seq);
    return result;
}

static int take_gap(void *context, uint64_t first_seq, uint64_t end_seq)
{
    return ctl_ranges_add(&((struct verification *)context)->gaps, first_seq, end_seq - 1);
}

static void read_file(struct verification *file)
{
    const struct avro_log_visitor visitor = {file, take_record, take_gap, NULL};
    const struct avro_log_scan_options options = ctl_files_scan_options(file->path);
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int result = fd < 0 ? -errno : avro_log_scan(fd, &options, &visitor, &file->summary);
    fd_close(&fd);
    file->open = options.open;
    file->error = -result;
}

static void compare_with_previous(struct verification *file, const struct verification *previous)
{
    const struct avro_log_summary *here = &file->summary, *there = &previous->summary;
    if (previous->error || file->error || !here->records || !there->records || !here->has_header ||
        strcmp(here->identity.channel, there->identity.channel) != 0)
        return;
    file->follows = true;
    uint64_t first =
        here->identity.first_seq < here->first_seq ? here->identity.first_seq : here->first_seq;
    if (first > there->last_seq + 1) {
        file->gap_first = there->last_seq + 1;
        file->gap_end = first;
    }
    file->overlaps = here->first_seq <= there->last_seq && here->last_seq >= there->first_seq;
}

static bool is_faulty(const struct verification *file)
{
    return file->error || file->overlaps || file->summary.faults > 0;
}

/* ---- for people ---- */

static void print_time(int64_t us, char text[TIME_TEXT_SIZE])
{
    time_t seconds = (time_t)(us / 1000000);
    struct tm utc;
    if (!gmtime_r(&seconds, &utc) ||
        strftime(text, TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
        snprintf(text, TIME_TEXT_SIZE, "?");
}

static void print_verdict(const struct verification *file)
{
    const struct avro_log_summary *summary = &file->summary;
    char records[32], first[TIME_TEXT_SIZE], last[TIME_TEXT_SIZE], bytes[32];
    units_human_count(summary->records, records, sizeof records);
    units_human_bytes(summary->payload_bytes, bytes, sizeof bytes);
    if (summary->faults > 0)
        printf("%s: FAULT at byte %" PRIu64 ": %s", file->path, summary->fault_offset,
               summary->fault_what);
    else
        printf("%s: ok%s", file->path, file->open ? ", still open" : "");
    if (summary->faults > 1)
        printf(" (and %" PRIu64 " more)", summary->faults - 1);
    printf("%s%s%s records", summary->faults ? "; " : ", ", records,
           summary->faults ? " sound" : "");
    if (summary->records > 0) {
        print_time(summary->first_received_us, first);
        print_time(summary->last_received_us, last);
        printf(", seq %" PRIu64 "..%" PRIu64 ", %s of payload, %s to %s", summary->first_seq,
               summary->last_seq, bytes, first, last);
    }
    printf("\n");
}

static void print_file(const struct verification *file)
{
    char count[32], bytes[32], title[96];
    if (file->error) {
        printf("%s: can't be read: %s\n", file->path, strerror(file->error));
        return;
    }
    print_verdict(file);
    if (file->gap_end > file->gap_first)
        printf("  between the file before and this one: seq %" PRIu64 "..%" PRIu64 " in neither\n",
               file->gap_first, file->gap_end - 1);
    if (file->overlaps)
        printf("  FAULT: it holds sequence numbers that are in the file before it too\n");
    ctl_ranges_print(&file->gaps, file->summary.faults > 0
                                      ? "missing, because not recorded or damaged"
                                      : "received but not recorded");
    units_human_count(file->summary.lost_before, count, sizeof count);
    snprintf(title, sizeof title,
             "dropped by the kernel: %s datagrams, just before this many records", count);
    ctl_ranges_print(&file->dropped, title);
    ctl_ranges_print(&file->quarantined, "quarantined");
    units_human_bytes(file->summary.cut_bytes, bytes, sizeof bytes);
    snprintf(title, sizeof title, "cut to max_datagram, %s missing", bytes);
    ctl_ranges_print(&file->cut, title);
    if (file->summary.faults > 0 && file->summary.records > 0)
        printf("  holdfastctl recover writes what is sound into a new file\n");
}

/* ---- for programs ---- */

static json_t *json_count(uint64_t count)
{
    return json_integer((json_int_t)count);
}

static json_t *json_ranges(const struct ctl_ranges *ranges)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ranges->kept; i++)
        json_array_append_new(list, json_pack("[I,I]", (json_int_t)ranges->list[i].first,
                                              (json_int_t)ranges->list[i].last));
    return json_pack("{s:o,s:o,s:o}", "count", json_count(ranges->numbers), "range_count",
                     json_count(ranges->ranges), "ranges", list);
}

static json_t *json_losses(const struct verification *file)
{
    json_t *losses = json_object();
    json_object_set_new(losses, "not_recorded", json_ranges(&file->gaps));
    json_object_set_new(losses, "kernel_dropped", json_count(file->summary.lost_before));
    json_object_set_new(losses, "kernel_dropped_before", json_ranges(&file->dropped));
    json_object_set_new(losses, "quarantined", json_ranges(&file->quarantined));
    json_object_set_new(losses, "cut", json_ranges(&file->cut));
    json_object_set_new(losses, "cut_bytes", json_count(file->summary.cut_bytes));
    return losses;
}

static json_t *json_file(const struct verification *file)
{
    const struct avro_log_summary *summary = &file->summary;
    json_t *object =
        json_pack("{s:s%,s:b}", "file", file->path, strlen(file->path), "ok", !is_faulty(file));
    if (!object) /* a path that is no UTF-8 */
        object = json_pack("{s:s,s:b}", "file", "?", "ok", !is_faulty(file));
    if (file->error) {
        json_object_set_new(object, "error", json_string(strerror(file->error)));
        return object;
    }
    json_object_set_new(object, "open", json_boolean(file->open));
    json_object_set_new(object, "channel", json_string(summary->identity.channel));
    json_object_set_new(object, "bytes", json_count(summary->file_size));
    json_object_set_new(object, "blocks", json_count(summary->blocks));
    json_object_set_new(object, "records", json_count(summary->records));
    json_object_set_new(object, "payload_bytes", json_count(summary->payload_bytes));
    json_object_set_new(object, "first_seq",
                        summary->records ? json_count(summary->first_seq) : json_null());
    json_object_set_new(object, "last_seq",
                        summary->records ? json_count(summary->last_seq) : json_null());
    json_object_set_new(object, "faults", json_count(summary->faults));
    json_object_set_new(object, "first_fault",
                        summary->faults == 0
                            ? json_null()
                            : json_pack("{s:I,s:s}", "offset", (json_int_t)summary->fault_offset,
                                        "what", summary->fault_what));
    json_object_set_new(object, "losses", json_losses(file));
    json_object_set_new(object, "missing_since_previous_file",
                        json_count(file->gap_end - file->gap_first));
    json_object_set_new(object, "overlaps_previous_file", json_boolean(file->overlaps));
    return object;
}

/* ---- the verb ---- */

static void verification_free(struct verification *file)
{
    ctl_ranges_free(&file->gaps);
    ctl_ranges_free(&file->quarantined);
    ctl_ranges_free(&file->cut);
    ctl_ranges_free(&file->dropped);
}

static bool verify_file(void *context, const char *path, json_t **ret_report)
{
    struct verification *previous = context;
    struct verification file = {.path = path};
    read_file(&file);
    compare_with_previous(&file, previous);
    if (ret_report)
        *ret_report = json_file(&file);
    else
        print_file(&file);
    verification_free(&file);
    *previous = file; /* what the next file is compared with: the summary */
    return !is_faulty(&file);
}

int ctl_verify(int argc, char **argv, bool json)
{
    struct verification previous = {.error = ENOENT};
    struct ctl_files files;
    if (ctl_files_take(argc, argv, false, &files) < 0 || files.count < 1) {
        fprintf(stderr,
                "holdfastctl: verify needs the log files to look at: holdfastctl verify FILE...\n");
        return CTL_USAGE;
    }
    return ctl_files_each(&files, json, verify_file, &previous);
}
