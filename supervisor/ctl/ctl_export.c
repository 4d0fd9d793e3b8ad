/* SPDX-License-Identifier: MIT */
/* Writes what was recorded into a file. Called by main.c. The file gets its name only when all of
 * it is on the disk, has been read again and is what was written; what is unfinished or wrong never
 * bears it, and is removed. */
#include "supervisor/ctl/ctl_export.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "supervisor/ctl/ctl_bound.h"
#include "supervisor/ctl/ctl_export_format.h"
#include "supervisor/ctl/ctl_files.h"
#include "supervisor/ctl/ctl_progress.h"
#include "supervisor/ctl/ctl_result.h"
#include "supervisor/ctl/ctl_source.h"
#include "supervisor/ctl/ctl_stop.h"
#include "supervisor/ctl/ctl_stream.h"
#include "supervisor/ctl/ctl_text.h"

#define PARTIAL_SUFFIX ".partial"

struct job {
    const struct ctl_command *command;
    bool to_stdout;
    char partial[PATH_MAX]; /* "" = there is none */
    struct ctl_bounds bounds;
    struct ctl_sources sources;
    struct ctl_streams streams;
    struct ctl_export export;
    uint64_t lost; /* told as lost, as far as their number is known */
};

/* ---- the command line ---- */

static int parse(struct job *job)
{
    const struct ctl_command *command = job->command;
    struct ctl_export *export = &job->export;
    if (!command->format || !command->output) {
        ctl_complain("export needs %s: holdfastctl export CHANNEL|FILE... --format "
                     "pcapng|csv|json|avro -o FILE",
                     command->format ? "a file to write to, or - for the standard output"
                                     : "a format");
        return CTL_USAGE;
    }
    export->format = ctl_export_format_find(command->format);
    job->to_stdout = strcmp(command->output, "-") == 0;
    if (!export->format) {
        ctl_complain("--format %s: there are pcapng, csv, json and avro", command->format);
        return CTL_USAGE;
    }
    if (job->to_stdout && export->format->needs_file) {
        ctl_complain(
            "-o -: %s can't go to the standard output, since its header is completed last: "
            "name a file",
            command->format);
        return CTL_USAGE;
    }
    if (job->to_stdout && command->options.json) {
        ctl_complain("-o - and --json are two things for the standard output: leave one out");
        return CTL_USAGE;
    }
    if (job->to_stdout && isatty(STDOUT_FILENO) && strcmp(command->format, "pcapng") == 0) {
        ctl_complain(
            "-o -: pcapng is nothing for a terminal: name a file, or send it to a program");
        return CTL_USAGE;
    }
    return ctl_bounds_parse(command, &job->bounds);
}

/* Before anything is read: what can't be written would be read in vain. */
static int check_file(const struct job *job)
{
    const char *path = job->command->output;
    struct stat status;
    if (job->to_stdout)
        return CTL_OK;
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
        ctl_complain("-o %s: this is a folder: name a file in it", path);
        return CTL_USAGE;
    }
    if (lstat(path, &status) == 0 && !S_ISREG(status.st_mode)) {
        ctl_complain("-o %s: this is no ordinary file, and would be replaced by one: name another, "
                     "or send a format that can go there with -o - and >",
                     path);
        return CTL_NO;
    }
    if (lstat(path, &status) == 0 && !job->command->force) {
        ctl_complain("-o %s: this file is there already: name another, or replace it with --force",
                     path);
        return CTL_NO;
    }
    if (ctl_result_is_in_recording(path)) {
        ctl_complain("-o %s: this is a recording's own folder, where it would be taken for a "
                     "segment: name another folder",
                     path);
        return CTL_NO;
    }
    return CTL_OK;
}

static int check_sources(const struct job *job)
{
    if (!job->export.format->one_channel || job->sources.count == 1)
        return CTL_OK;
    ctl_complain("an avro file holds one channel, and these are %zu: name one", job->sources.count);
    return CTL_USAGE;
}

/* ---- writing ---- */

static int fail(struct job *job, int error, const char *what)
{
    ctl_complain("%s: %s: %s", job->to_stdout ? "the standard output" : job->command->output, what,
                 error == -ENODATA   ? "there are no datagrams in this range"
                 : error == -EBADMSG ? "it is not what was written"
                                     : strerror(-error));
    return CTL_NO;
}

/* Beside the file, readable as any new file is. */
static int open_partial(struct job *job)
{
    const char *path = job->command->output;
    if (job->to_stdout) {
        job->export.to = stdout;
        return CTL_OK;
    }
    if (snprintf(job->partial, sizeof job->partial, "%s.XXXXXX" PARTIAL_SUFFIX, path) >=
        (int)sizeof job->partial) {
        job->partial[0] = '\0';
        return fail(job, -ENAMETOOLONG, "it can't be made");
    }
    int fd = mkostemps(job->partial, (int)strlen(PARTIAL_SUFFIX), O_CLOEXEC);
    if (fd < 0) {
        job->partial[0] = '\0';
        return fail(job, -errno, "it can't be made");
    }
    const mode_t mask = umask(0);
    umask(mask);
    int result = fchmod(fd, 0666 & ~mask) < 0 ? -errno : 0;
    job->export.to = result == 0 ? fdopen(fd, "w+e") : NULL;
    if (job->export.to)
        return CTL_OK;
    result = result < 0 ? result : -errno;
    fd_close(&fd);
    return fail(job, result, "it can't be made");
}

static int take_loss(struct job *job, const struct ctl_stream *stream)
{
    struct ctl_export *export = &job->export;
    ctl_streams_tell_loss(&job->streams, stream);
    job->lost += stream->head.lost;
    if (export->format->lost)
        export->format->lost(export, stream);
    return job->command->strict && stream->head.why != HF_UNCOVERED ? CTL_NO : CTL_OK;
}

static int take_datagram(struct job *job, const struct ctl_stream *stream)
{
    struct ctl_export *export = &job->export;
    int result = export->format->put(export, stream);
    if (result < 0)
        return fail(job, result, "writing failed");
    export->records++;
    export->bytes += stream->head.length;
    export->last_seq = stream->head.seq;
    export->last_time_ns = stream->head.time_ns;
    return CTL_OK;
}

static int write_all(struct job *job)
{
    struct ctl_progress progress;
    struct ctl_stream *stream;
    int status = CTL_OK;
    bool any = false;
    ctl_progress_begin(&progress);
    while (status == CTL_OK && !ctl_stop_is_asked()) {
        uint64_t done, total;
        int what = ctl_streams_take(&job->streams, &stream);
        if (what == HF_LOST)
            ctl_progress_clear(&progress);
        if (what != HF_LOST && what != HF_DATAGRAM)
            break;
        any |= what == HF_DATAGRAM;
        status = what == HF_LOST ? take_loss(job, stream) : take_datagram(job, stream);
        if (!progress.on)
            continue;
        ctl_streams_progress(&job->streams, &done, &total);
        ctl_progress_tell(&progress, done, total);
    }
    ctl_progress_clear(&progress);
    if (status == CTL_OK && ctl_stop_is_asked()) {
        ctl_complain("interrupted");
        status = CTL_NO;
    }
    if (status == CTL_OK && !any)
        ctl_streams_tell_nothing(&job->streams);
    return status == CTL_OK && job->streams.failed ? CTL_NO : status;
}

/* All of it, as the disk has it now. */
static int check_result(struct job *job)
{
    struct ctl_export *export = &job->export;
    struct ctl_export_contents found;
    rewind(export->to);
    int result = export->format->read(export->to, &found);
    if (result < 0)
        return fail(job, result, "reading it again failed");
    const bool is_same_end =
        export->records == 0 || (found.has_last_seq ? found.last_seq == export->last_seq
                                                    : found.last_time_ns == export->last_time_ns);
    if (found.records != export->records || !is_same_end) {
        ctl_complain("%s: reading it again found %" PRIu64 " datagrams, and %" PRIu64
                     " were written",
                     job->command->output, found.records, export->records);
        return CTL_NO;
    }
    return CTL_OK;
}

static int name_result(struct job *job)
{
    const char *path = job->command->output;
    int result = ctl_result_name(job->partial, path, job->command->force);
    if (result < 0)
        return fail(job, result, "it can't be given its name");
    job->partial[0] = '\0';
    result = ctl_result_sync_folder(path);
    return result < 0 ? fail(job, result, "its folder can't be brought to the disk") : CTL_OK;
}

static int run(struct job *job)
{
    struct ctl_export *export = &job->export;
    export->streams = &job->streams;
    int result = export->format->begin(export);
    int status = result < 0 ? fail(job, result, "writing failed") : write_all(job);
    if (status != CTL_OK)
        return status;
    if (export->format->end && (result = export->format->end(export)) < 0)
        return fail(job, result, "it can't be completed");
    if (fflush(export->to) != 0 || ferror(export->to))
        return fail(job, errno ? -errno : -EIO, "writing failed");
    if (job->to_stdout)
        return CTL_OK;
    if (fsync(fileno(export->to)) < 0)
        return fail(job, -errno, "it can't be brought to the disk");
    status = check_result(job);
    return status == CTL_OK ? name_result(job) : status;
}

/* ---- what was done ---- */

static void report(const struct job *job)
{
    const struct ctl_export *export = &job->export;
    char records[CTL_TEXT_SIZE], bytes[CTL_TEXT_SIZE];
    if (job->command->options.json) {
        json_t *object =
            json_pack("{s:o,s:s,s:I,s:I,s:I}", "file", ctl_files_json_text(job->command->output),
                      "format", export->format->name, "records", (json_int_t) export->records,
                      "payload_bytes", (json_int_t) export->bytes, "lost", (json_int_t)job->lost);
        ctl_print_json(object);
        json_decref(object);
        return;
    }
    ctl_format_count(export->records, records);
    ctl_format_bytes((double)export->bytes, bytes);
    ctl_print_text(stdout, false, CTL_PLAIN, job->command->output);
    printf(": %s datagram%s, %s of payload, written, read again and sound\n", records,
           export->records == 1 ? "" : "s", bytes);
}

static void release(struct job *job)
{
    if (job->export.to && !job->to_stdout)
        fclose(job->export.to);
    if (job->partial[0])
        unlink(job->partial);
    ctl_export_release(&job->export);
    ctl_streams_close(&job->streams);
    ctl_sources_close(&job->sources);
}

int ctl_export(const struct ctl_command *command)
{
    struct job job = {.command = command};
    int status = parse(&job);
    if (status == CTL_OK)
        status = check_file(&job);
    if (status != CTL_OK)
        return status;
    if (job.to_stdout)
        signal(SIGPIPE, SIG_DFL);
    ctl_stop_begin();
    status = ctl_sources_open(&job.sources, command);
    if (status == CTL_OK)
        status = check_sources(&job);
    if (status == CTL_OK) {
        const struct ctl_streams_setup setup = {.sources = &job.sources, .range = &job.bounds};
        status = ctl_streams_open(&job.streams, &setup);
    }
    if (status == CTL_OK)
        status = open_partial(&job);
    if (status == CTL_OK)
        status = run(&job);
    if (status == CTL_OK && !job.to_stdout)
        report(&job);
    release(&job);
    return status;
}
