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
#include <unistd.h>

#include "common/avro_log_end.h"
#include "common/avro_log_header.h"
#include "common/avro_log_scan.h"
#include "common/avro_log_summary.h"
#include "common/fd.h"
#include "common/monotonic.h"
#include "common/units.h"
#include "supervisor/ctl/ctl.h"
#include "supervisor/ctl/ctl_files.h"
#include "supervisor/ctl/ctl_ranges.h"
#include "supervisor/ctl/ctl_text.h"
#include "supervisor/ctl/ctl_uncovered.h"
#include "supervisor/ctl/ctl_window.h"

/* A header is written at once; so long it is waited for. */
#define BEGINNING_PAUSE_NS (5 * NS_PER_MS)
#define BEGINNING_PAUSES   20

struct verification {
    const char *path;
    const struct verification *previous; /* the file before it; its summary is there */
    bool open;
    bool has_last; /* last_us: receive time of the last record so far */
    int64_t last_us;
    bool blank; /* made and not begun: nothing but zeros */
    int error;  /* the file could not be read: errno */
    struct avro_log_summary summary;
    struct ctl_ranges gaps, quarantined, cut,
        dropped; /* dropped: before these numbers the kernel dropped some */
    struct ctl_uncovered uncovered;
    bool follows;       /* the file before it is of the same channel */
    uint64_t gap_first; /* between that file and this one: [gap_first, gap_end) */
    uint64_t gap_end;
    bool overlaps;            /* it holds numbers that are in the file before it */
    const char *totals_fault; /* what its header says wrongly about it, or NULL */
};

/* Two machines may have a channel of one name. */
static bool is_of_same_recording(const struct verification *file)
{
    const struct avro_log_identity *here = &file->summary.identity,
                                   *there = &file->previous->summary.identity;
    return !file->previous->error && file->previous->summary.records > 0 &&
           strcmp(here->channel, there->channel) == 0 &&
           (!avro_log_id_is_known(here->log_id) || !avro_log_id_is_known(there->log_id) ||
            memcmp(here->log_id, there->log_id, AVRO_LOG_ID_SIZE) == 0);
}

static int add_uncovered(struct verification *file, const struct avro_log_record *record)
{
    struct ctl_uncovered_time time = {.seq = (uint64_t)record->seq,
                                      .from_known = file->has_last,
                                      .from_us = file->last_us,
                                      .until_us = record->received_at_us};
    if (!file->has_last && is_of_same_recording(file)) {
        time.from_known = true;
        time.from_us = file->previous->summary.last_received_us;
    }
    return ctl_uncovered_add(&file->uncovered, &time);
}

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
    if ((record->flags & AVRO_LOG_QUARANTINED) && result == 0)
        result = ctl_ranges_add(&file->quarantined, seq, seq);
    if ((record->flags & AVRO_LOG_NOT_COVERED) && result == 0)
        result = add_uncovered(file, record);
    file->last_us = record->received_at_us;
    file->has_last = true;
    return result;
}

static int take_gap(void *context, uint64_t first_seq, uint64_t end_seq)
{
    return ctl_ranges_add(&((struct verification *)context)->gaps, first_seq, end_seq - 1);
}

/* One that is just being begun is neither blank nor has it a header yet: it is read once more. */
static int read_open_file(struct verification *file, int fd,
                          const struct avro_log_scan_options *options,
                          const struct avro_log_visitor *visitor)
{
    const struct timespec pause = {.tv_nsec = BEGINNING_PAUSE_NS};
    for (int i = 0;; i++) {
        int result = avro_log_scan(fd, options, visitor, &file->summary);
        if (result < 0 || file->summary.has_header || file->summary.records > 0)
            return result;
        result = avro_log_is_blank(fd);
        file->blank = result == 1;
        if (result != 0 || i == BEGINNING_PAUSES)
            return result < 0 ? result : 0;
        nanosleep(&pause, NULL);
    }
}

/* Behind the last sound one, as the header says that there are. */
static int add_end(struct verification *file)
{
    uint64_t found = file->summary.last_seq, last = avro_log_summary_last(&file->summary);
    return last > found ? take_gap(file, found + 1, last + 1) : 0;
}

static void read_file(struct verification *file)
{
    const struct avro_log_visitor visitor = {file, take_record, take_gap, NULL};
    const struct avro_log_scan_options options = ctl_files_scan_options(file->path);
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), result = -errno;
    if (fd >= 0 && options.open)
        result = read_open_file(file, fd, &options, &visitor);
    else if (fd >= 0)
        result = avro_log_scan(fd, &options, &visitor, &file->summary);
    fd_close(&fd);
    file->open = options.open;
    if (result == 0 && file->summary.records > 0 && !file->open)
        result = add_end(file);
    file->error = -result;
}

static void compare_with_previous(struct verification *file)
{
    const struct avro_log_summary *here = &file->summary, *there = &file->previous->summary;
    if (file->error || !here->records || !here->has_header || !is_of_same_recording(file))
        return;
    file->follows = true;
    uint64_t first =
        here->identity.first_seq < here->first_seq ? here->identity.first_seq : here->first_seq;
    uint64_t last_before = avro_log_summary_last(there);
    if (first > last_before + 1) {
        file->gap_first = last_before + 1;
        file->gap_end = first;
    }
    file->overlaps = here->first_seq <= there->last_seq && here->last_seq >= there->first_seq;
}

/* Of a sealed file without a fault: what its header says must be what is in it. */
static const char *judge_totals(const struct verification *file)
{
    const struct avro_log_summary *summary = &file->summary, *before = &file->previous->summary;
    const struct avro_log_totals *said = &summary->identity.totals;
    if (file->open || file->error || summary->faults > 0)
        return NULL;
    if (summary->identity.totals_damaged)
        return "what its header says is in it is damaged (holdfast.sum)";
    if (!summary->identity.has_totals)
        return NULL;
    if (said->records != summary->records)
        return "its header says another number of records (holdfast.records)";
    if (said->last_seq != summary->last_seq)
        return "its header says another last number (holdfast.last_seq)";
    if (summary->records > 0 &&
        (said->first_time_ns != summary->earliest_ns || said->last_time_ns != summary->latest_ns))
        return "its header says other receive times (holdfast.first_time, holdfast.last_time)";
    if (said->latest_ns < said->last_time_ns ||
        (file->follows && before->identity.has_totals &&
         said->latest_ns < before->identity.totals.latest_ns))
        return "the latest receive time in its header (holdfast.latest) is earlier than one before";
    return NULL;
}

static bool is_faulty(const struct verification *file)
{
    return file->error || file->overlaps || file->totals_fault ||
           (file->summary.faults > 0 && !file->blank);
}

/* ---- for people ---- */

static void print_verdict(FILE *to, const struct verification *file)
{
    const struct avro_log_summary *summary = &file->summary;
    char records[32], first[CTL_TIME_TEXT_SIZE], last[CTL_TIME_TEXT_SIZE], bytes[32];
    units_human_count(summary->records, records, sizeof records);
    units_human_bytes(summary->payload_bytes, bytes, sizeof bytes);
    if (summary->faults > 0)
        fprintf(to, "FAULT at byte %" PRIu64 ": %s", summary->fault_offset, summary->fault_what);
    else if (file->totals_fault || file->overlaps)
        fprintf(to, "FAULT: %s",
                file->totals_fault
                    ? file->totals_fault
                    : "it holds sequence numbers that are in the file before it too");
    else
        fprintf(to, "ok%s", file->open ? ", still open" : "");
    if (summary->faults > 1)
        fprintf(to, " (and %" PRIu64 " more)", summary->faults - 1);
    fprintf(to, "%s%s%s records", summary->faults ? "; " : ", ", records,
            summary->faults ? " sound" : "");
    if (summary->records > 0) {
        ctl_print_time(summary->first_received_us, first);
        ctl_print_time(summary->last_received_us, last);
        fprintf(to, ", seq %" PRIu64 "..%" PRIu64 ", %s of payload, %s to %s", summary->first_seq,
                summary->last_seq, bytes, first, last);
    }
    fprintf(to, "\n");
}

static void print_id(const uint8_t log_id[AVRO_LOG_ID_SIZE], char ret_text[])
{
    for (size_t i = 0; i < AVRO_LOG_ID_SIZE; i++)
        snprintf(ret_text + 2 * i, 3, "%02x", log_id[i]);
}

static void print_header(FILE *to, const struct verification *file)
{
    const struct avro_log_identity *identity = &file->summary.identity;
    char text[2 * AVRO_LOG_ID_SIZE + 1], records[32];
    if (!file->summary.has_header || !identity->has_check)
        return; /* an older version's: there is no more in it */
    print_id(identity->log_id, text);
    fprintf(to, "  recording %s, received on ",
            avro_log_id_is_known(identity->log_id) ? text : "?");
    ctl_print_text(to, false, CTL_PLAIN, identity->listen[0] ? identity->listen : "?");
    if (file->open) {
        fprintf(to, "\n");
    } else if (!identity->has_totals) {
        fprintf(to, "; its header does not say what is in it\n");
    } else if (file->summary.faults > 0) {
        units_human_count(identity->totals.records, records, sizeof records);
        fprintf(to, "; its header says %s records, up to seq %" PRIu64 "\n", records,
                identity->totals.last_seq);
    } else {
        fprintf(to, "%s\n", file->totals_fault ? "" : "; its header says the same");
    }
}

static void print_file(FILE *to, const struct verification *file)
{
    char count[32], bytes[32], title[128];
    ctl_print_text(to, false, CTL_PLAIN, file->path);
    fprintf(to, ": ");
    if (file->error) {
        fprintf(to, "can't be read: %s\n", strerror(file->error));
        return;
    }
    if (file->blank) {
        fprintf(to, "ok, prepared and not begun\n");
        return;
    }
    print_verdict(to, file);
    print_header(to, file);
    if (file->gap_end > file->gap_first)
        fprintf(to,
                "  between the file before and this one: seq %" PRIu64 "..%" PRIu64 " in neither\n",
                file->gap_first, file->gap_end - 1);
    ctl_ranges_print(to, &file->gaps,
                     file->summary.faults > 0 ? "missing, because not recorded or damaged"
                                              : "received but not recorded");
    units_human_count(file->summary.lost_before, count, sizeof count);
    snprintf(title, sizeof title,
             "dropped by the kernel, %s datagrams, or more with receive_offload; just before these "
             "records",
             count);
    ctl_ranges_print(to, &file->dropped, title);
    ctl_uncovered_print(to, &file->uncovered);
    ctl_ranges_print(to, &file->quarantined, "quarantined");
    units_human_bytes(file->summary.cut_bytes, bytes, sizeof bytes);
    snprintf(title, sizeof title, "cut to max_datagram, %s missing", bytes);
    ctl_ranges_print(to, &file->cut, title);
    if (file->summary.faults > 0 && file->summary.records > 0)
        fprintf(to, "  holdfastctl recover writes what is sound into a new file\n");
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
    json_object_set_new(losses, "not_covered", ctl_uncovered_json(&file->uncovered));
    json_object_set_new(losses, "quarantined", json_ranges(&file->quarantined));
    json_object_set_new(losses, "cut", json_ranges(&file->cut));
    json_object_set_new(losses, "cut_bytes", json_count(file->summary.cut_bytes));
    return losses;
}

static void json_set_header(json_t *object, const struct verification *file)
{
    const struct avro_log_identity *identity = &file->summary.identity;
    const struct avro_log_totals *totals = &identity->totals;
    char text[2 * AVRO_LOG_ID_SIZE + 1];
    print_id(identity->log_id, text);
    json_object_set_new(object, "log",
                        avro_log_id_is_known(identity->log_id) ? json_string(text) : json_null());
    json_object_set_new(object, "listen",
                        identity->listen[0] ? ctl_files_json_text(identity->listen) : json_null());
    json_object_set_new(object, "totals",
                        identity->has_totals
                            ? json_pack("{s:o,s:o,s:o,s:o,s:o}", "last_seq",
                                        json_count(totals->last_seq), "records",
                                        json_count(totals->records), "first_time_ns",
                                        json_count(totals->first_time_ns), "last_time_ns",
                                        json_count(totals->last_time_ns), "latest_ns",
                                        json_count(totals->latest_ns))
                            : json_null());
    json_object_set_new(object, "totals_fault",
                        file->totals_fault ? json_string(file->totals_fault) : json_null());
}

static json_t *json_file(const struct verification *file)
{
    const struct avro_log_summary *summary = &file->summary;
    json_t *object =
        json_pack("{s:o,s:b}", "file", ctl_files_json_text(file->path), "ok", !is_faulty(file));
    if (file->error) {
        json_object_set_new(object, "error", json_string(strerror(file->error)));
        return object;
    }
    json_object_set_new(object, "open", json_boolean(file->open));
    json_object_set_new(object, "channel", ctl_files_json_text(summary->identity.channel));
    json_object_set_new(object, "begun", json_boolean(!file->blank));
    json_set_header(object, file);
    json_object_set_new(object, "bytes", json_count(summary->file_size));
    json_object_set_new(object, "blocks", json_count(summary->blocks));
    json_object_set_new(object, "records", json_count(summary->records));
    json_object_set_new(object, "payload_bytes", json_count(summary->payload_bytes));
    json_object_set_new(object, "first_seq",
                        summary->records ? json_count(summary->first_seq) : json_null());
    json_object_set_new(object, "last_seq",
                        summary->records ? json_count(summary->last_seq) : json_null());
    json_object_set_new(object, "faults", json_count(file->blank ? 0 : summary->faults));
    json_object_set_new(object, "first_fault",
                        file->blank || summary->faults == 0
                            ? json_null()
                            : json_pack("{s:I,s:s}", "offset", (json_int_t)summary->fault_offset,
                                        "what", summary->fault_what));
    json_object_set_new(object, "unreadable_pages", json_count(summary->unreadable_pages));
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
    ctl_uncovered_free(&file->uncovered);
}

static enum ctl_files_verdict verify_file(void *context, const struct ctl_file *what,
                                          json_t **ret_report)
{
    struct verification *previous = context;
    struct verification file = {.path = what->path, .previous = previous};
    read_file(&file);
    if (file.error == ENOENT && what->listed) {
        verification_free(&file);
        return CTL_FILES_GONE;
    }
    compare_with_previous(&file);
    file.totals_fault = judge_totals(&file);
    if (ret_report) {
        *ret_report = json_file(&file);
    } else {
        print_file(ctl_window_text(&(struct ctl_look){0}), &file);
        ctl_window_print();
    }
    verification_free(&file);
    enum ctl_files_verdict verdict = is_faulty(&file) ? CTL_FILES_FAULTY : CTL_FILES_OK;
    if (file.error || file.summary.records > 0)
        *previous = file; /* what the next file is compared with: the summary */
    return verdict;
}

int ctl_verify(struct ctl_files *files, bool json)
{
    struct verification previous = {.error = ENOENT};
    if (files->count < 1) {
        ctl_complain("verify needs the log files to look at: holdfastctl verify FILE...");
        return CTL_USAGE;
    }
    files->takes_folders = true;
    return ctl_files_each(files, json, verify_file, &previous);
}
