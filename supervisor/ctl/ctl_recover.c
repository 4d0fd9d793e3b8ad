/* SPDX-License-Identifier: MIT */
/* `holdfastctl recover FILE...`: a sound log file out of a damaged one. Called by main.c. The
 * original is opened for reading only, and no existing file is ever overwritten; an unfinished
 * result never bears the result's name. */
#include "supervisor/ctl/ctl_recover.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_copy.h"
#include "common/avro_log_end.h"
#include "common/avro_log_name.h"
#include "common/avro_log_summary.h"
#include "common/fd.h"
#include "common/file_name.h"
#include "common/units.h"
#include "supervisor/ctl/ctl.h"
#include "supervisor/ctl/ctl_files.h"
#include "supervisor/ctl/ctl_ranges.h"
#include "supervisor/ctl/ctl_result.h"
#include "supervisor/ctl/ctl_text.h"
#include "supervisor/ctl/ctl_window.h"

#define RESULT_SUFFIX  ".recovered.avro"
#define PARTIAL_SUFFIX ".partial"

struct rescue {
    const char *path;
    char result[PATH_MAX];
    struct avro_log_summary summary;
    struct ctl_ranges gaps;
    bool blank; /* made and not begun: there is nothing to be recovered */
    int error;  /* errno; what failed is in `what` */
    const char *what;
    bool at_result; /* it is about the result, not about the file */
};

static int take_gap(void *context, uint64_t first_seq, uint64_t end_seq)
{
    return ctl_ranges_add(&((struct rescue *)context)->gaps, first_seq, end_seq - 1);
}

static bool is_folder(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* x.avro.open, x.avro.damaged, x.avro, x -> x.recovered.avro: beside it, or in the folder that was
 * named. */
static int name_result(const char *path, const char *wanted, char ret_result[PATH_MAX])
{
    static const char *const suffixes[] = {AVRO_LOG_OPEN_SUFFIX, AVRO_LOG_DAMAGED_SUFFIX,
                                           AVRO_LOG_SUFFIX};
    const char *from = wanted ? ctl_result_base_name(path) : path;
    size_t stem = strlen(from);
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        if (avro_log_name_ends_in(from, suffixes[i])) {
            stem -= strlen(suffixes[i]);
            break;
        }
    }
    int length;
    if (wanted && !is_folder(wanted))
        length = snprintf(ret_result, PATH_MAX, "%s", wanted);
    else
        length = snprintf(ret_result, PATH_MAX, "%s%s%.*s" RESULT_SUFFIX, wanted ? wanted : "",
                          wanted ? "/" : "", (int)stem, from);
    return length >= PATH_MAX - (int)sizeof PARTIAL_SUFFIX ? -ENAMETOOLONG : 0;
}

static int fail(struct rescue *rescue, int error, const char *what)
{
    rescue->error = error;
    rescue->what = what;
    return -error;
}

static int fail_at_result(struct rescue *rescue, int error, const char *what)
{
    rescue->at_result = true;
    return fail(rescue, error, what);
}

/* Behind the last sound one, as the header says that there are. */
static int add_end(struct rescue *rescue)
{
    const struct avro_log_summary *summary = &rescue->summary;
    uint64_t last = avro_log_summary_last(summary);
    return last > summary->last_seq ? ctl_ranges_add(&rescue->gaps, summary->last_seq + 1, last)
                                    : 0;
}

static int write_result(struct rescue *rescue, int from_fd, int to_fd)
{
    char channel[CHANNEL_NAME_SIZE];
    const struct avro_log_visitor visitor = {rescue, NULL, take_gap, NULL};
    const struct avro_log_copy copy = {.from_fd = from_fd,
                                       .to_fd = to_fd,
                                       .options = ctl_files_scan_options(rescue->path),
                                       .channel = channel,
                                       .visitor = &visitor};
    avro_log_name_channel(ctl_result_base_name(rescue->path), channel);
    int result = avro_log_copy(&copy, &rescue->summary);
    if (result < 0)
        return fail(rescue, -result, "copying the sound records failed");
    rescue->blank = copy.options.open && avro_log_is_blank(from_fd) == 1;
    if (rescue->blank)
        return -ENODATA;
    if (rescue->summary.records == 0)
        return fail(rescue, ENODATA, "there is no sound record in it");
    if (fsync(to_fd) < 0)
        return fail_at_result(rescue, errno, "the result can't be brought to the disk");
    return add_end(rescue) < 0 ? fail(rescue, ENOMEM, "memory is short") : 0;
}

static void rescue_file(struct rescue *rescue)
{
    char partial[PATH_MAX + sizeof PARTIAL_SUFFIX];
    int from_fd = open(rescue->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (from_fd < 0) {
        fail(rescue, errno, "it can't be opened");
        return;
    }
    snprintf(partial, sizeof partial, "%s" PARTIAL_SUFFIX, rescue->result);
    int to_fd = -1, named = 0;
    if (is_folder(rescue->path)) {
        fail(rescue, EISDIR, "a folder is not recovered: name the log files in it");
    } else if (ctl_result_is_in_recording(rescue->result)) {
        fail_at_result(
            rescue, EINVAL,
            "the result would lie in the recording's own folder, and be taken for a segment: name "
            "another folder, or a file elsewhere, with -o");
    } else if (access(rescue->result, F_OK) == 0) {
        fail_at_result(
            rescue, EEXIST,
            "the result exists already and is not overwritten: move it, or name another with -o");
    } else if ((to_fd = open(partial, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0640)) < 0) {
        fail_at_result(rescue, errno,
                       errno == EEXIST ? "the partial result of another run is there: remove it"
                                       : "the result can't be made: name another place with -o");
    } else if (write_result(rescue, from_fd, to_fd) < 0) {
        unlink(partial);
    } else if ((named = file_name_change(AT_FDCWD, partial, rescue->result)) < 0) {
        fail_at_result(rescue, -named, "the result can't be given its name");
        unlink(partial);
    } else if (ctl_result_sync_folder(rescue->result) < 0) {
        fail_at_result(rescue, errno, "the result's folder can't be brought to the disk");
    }
    fd_close(&to_fd);
    fd_close(&from_fd);
}

/* The system's word for it, where it says more. */
static const char *cause_of(const struct rescue *rescue)
{
    const int error = rescue->error;
    bool is_said = error == ENODATA || error == EISDIR || error == EEXIST || error == EINVAL ||
                   error == ENAMETOOLONG;
    return is_said ? "" : strerror(error);
}

static void complain(const struct rescue *rescue)
{
    const char *cause = cause_of(rescue);
    if (rescue->at_result)
        ctl_complain("%s: %s (%s%s%s)", rescue->path, rescue->what, rescue->result,
                     cause[0] ? ": " : "", cause);
    else
        ctl_complain("%s: %s%s%s", rescue->path, rescue->what, cause[0] ? ": " : "", cause);
}

static void print_rescue(FILE *to, const struct rescue *rescue)
{
    const struct avro_log_summary *summary = &rescue->summary;
    char records[32];
    if (rescue->error) {
        complain(rescue);
        return;
    }
    if (rescue->blank) {
        fprintf(to, "%s: prepared and not begun, there is nothing in it\n", rescue->path);
        return;
    }
    units_human_count(summary->records, records, sizeof records);
    fprintf(to, "%s: %s records, seq %" PRIu64 "..%" PRIu64 ", written to %s\n", rescue->path,
            records, summary->first_seq, summary->last_seq, rescue->result);
    if (summary->faults > 0)
        fprintf(to,
                "  left out: what is damaged, in %" PRIu64 " place%s, the first at byte %" PRIu64
                ": %s\n",
                summary->faults, summary->faults > 1 ? "s" : "", summary->fault_offset,
                summary->fault_what);
    else
        fprintf(to, "  nothing was left out: every block is sound\n");
    ctl_ranges_print(to, &rescue->gaps, "not in it");
}

static json_t *json_rescue(const struct rescue *rescue)
{
    const struct avro_log_summary *summary = &rescue->summary;
    json_t *object = json_object();
    json_object_set_new(object, "file", ctl_files_json_text(rescue->path));
    json_object_set_new(object, "ok", json_boolean(!rescue->error));
    if (rescue->error) {
        json_object_set_new(object, "error", json_string(rescue->what));
        json_object_set_new(object, "cause", json_string(strerror(rescue->error)));
        return object;
    }
    json_object_set_new(object, "result",
                        rescue->blank ? json_null() : ctl_files_json_text(rescue->result));
    json_object_set_new(object, "records", json_integer((json_int_t)summary->records));
    json_object_set_new(object, "first_seq", json_integer((json_int_t)summary->first_seq));
    json_object_set_new(object, "last_seq", json_integer((json_int_t)summary->last_seq));
    json_object_set_new(object, "faults", json_integer((json_int_t)summary->faults));
    json_object_set_new(object, "unreadable_pages",
                        json_integer((json_int_t)summary->unreadable_pages));
    json_object_set_new(object, "not_in_it", json_integer((json_int_t)rescue->gaps.numbers));
    return object;
}

static int usage(const char *why)
{
    fprintf(stderr, "holdfastctl: recover: %s\nusage: holdfastctl recover [-o OUT] FILE...\n", why);
    return CTL_USAGE;
}

static enum ctl_files_verdict recover_file(void *context, const struct ctl_file *what,
                                           json_t **ret_report)
{
    const char *wanted = context;
    struct rescue rescue = {.path = what->path, .what = ""};
    if (name_result(what->path, wanted, rescue.result) < 0)
        fail(&rescue, ENAMETOOLONG, "the result's name would be too long");
    else
        rescue_file(&rescue);
    if (ret_report) {
        *ret_report = json_rescue(&rescue);
    } else {
        print_rescue(ctl_window_text(&(struct ctl_look){0}), &rescue);
        ctl_window_print();
    }
    ctl_ranges_free(&rescue.gaps);
    return rescue.error ? CTL_FILES_FAULTY : CTL_FILES_OK;
}

int ctl_recover(const struct ctl_files *files, const char *output, bool json)
{
    if (files->count < 1)
        return usage("it needs the damaged log files");
    if (output && files->count != 1 && !is_folder(output))
        return usage("with several FILEs, OUT must be a folder");
    return ctl_files_each(files, json, recover_file, (void *)output);
}
