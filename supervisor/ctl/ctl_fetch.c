/* SPDX-License-Identifier: MIT */
/* Fetches log files from a running daemon, byte by byte as they are, and records by their numbers.
 * Called by main.c. A file that did not come whole never bears its name, and none that is there is
 * replaced unasked. */
#include "supervisor/ctl/ctl_fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/control_protocol.h"
#include "common/fd.h"
#include "supervisor/ctl/ctl_result.h"
#include "supervisor/ctl/ctl_source.h"
#include "supervisor/ctl/ctl_text.h"

#define PARTIAL_SUFFIX ".partial"
#define RANGE_PREFIX   "seq:"
#define TRIES          3 /* of a range, where the process that sends it dies over it */

struct fetching {
    const struct ctl_command *command;
    hf *handle;
    const char *channel;
    enum hf_how how;
    struct hf_log log;         /* the present one; of a range, only its name */
    struct hf_log_range range; /* likewise; */
    uint64_t wanted[2];        /* and what was asked for */
    bool is_range;
    char path[PATH_MAX], partial[PATH_MAX], folder[PATH_MAX];
    bool has_name; /* the file that is being written: `partial` */
    int64_t bytes;
    json_t *list; /* NULL: lines for people */
};

static int parse_how(const char *text, bool is_remote, enum hf_how *ret)
{
    static const char *const names[] = {
        [HF_BY_FD] = "fd", [HF_BY_COPY] = "copy", [HF_BY_SPLICE] = "splice"};
    *ret = is_remote ? HF_BY_SPLICE : HF_BY_FD;
    for (int how = 0; text && how <= HF_BY_SPLICE; how++) {
        if (strcmp(text, names[how]) == 0) {
            *ret = (enum hf_how)how;
            return CTL_OK;
        }
    }
    if (!text)
        return CTL_OK;
    ctl_complain("--how %s: there are fd, copy and splice", text);
    return CTL_USAGE;
}

static int complain(const struct fetching *it, const char *name, int error)
{
    if (error == -ENOENT && !ctl_source_is_channel(it->handle, it->channel))
        ; /* told */
    else if (error == -ENOENT && it->is_range)
        ctl_complain("%s: none of the records %s is there: 'holdfastctl info %s' shows which are",
                     it->channel, name + strlen(RANGE_PREFIX), it->channel);
    else if (error == -ECONNRESET)
        ctl_complain("%s: the process that sends has ended over it, again and again: see "
                     "'holdfastctl check'",
                     name);
    else if (error == -ENOENT || error == -EINVAL)
        ctl_complain(
            "%s: there is no log file '%s': 'holdfastctl logs %s' lists them; first, last, "
            "seq:N and @SECONDS find one, too, and seq:A..B brings records",
            it->channel, name, it->channel);
    else if (error == -EOPNOTSUPP)
        ctl_complain("--how fd: descriptors can't go over TCP: take copy or splice");
    else if (error == -EBUSY && it->how != HF_BY_FD)
        ctl_complain(
            "%s: it is just being sealed, or the daemon sends as many files as it may: try "
            "again",
            name);
    else if (error == -ENOSPC || error == -EDQUOT || error == -EFBIG)
        ctl_complain("%s: it can't be written: %s", it->path, strerror(-error));
    else if (error == -EBUSY)
        ctl_complain("%s is being written: 'holdfastctl rotate %s' finishes it; --how copy takes "
                     "what is in finished blocks",
                     name, it->channel);
    else if (error == -ESTALE)
        ctl_complain("%s was removed while it was fetched: it was the oldest, and the log's limits "
                     "made room",
                     name);
    else
        return ctl_complain_read(name, error);
    return CTL_NO;
}

static int complain_file(const char *path, const char *what, int error)
{
    ctl_complain("%s: %s: %s", path, what, strerror(-error));
    return CTL_NO;
}

static bool is_folder(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* "seq:A..B"; what is no such thing is for the library to refuse. */
static bool parse_range(const char *name, uint64_t ret[2])
{
    int length = 0;
    return sscanf(name, RANGE_PREFIX "%" SCNu64 "..%" SCNu64 "%n", &ret[0], &ret[1], &length) ==
               2 &&
           name[length] == '\0';
}

/* Its path: of a range, -o may name the file itself. */
static int set_path(struct fetching *it)
{
    const char *output = it->command->output;
    const bool is_named = it->is_range && output && !is_folder(output);
    const int length = is_named ? snprintf(it->path, sizeof it->path, "%s", output)
                                : snprintf(it->path, sizeof it->path, "%s/%s",
                                           output ? output : ".", it->log.name);
    const int partial =
        snprintf(it->partial, sizeof it->partial, "%s.XXXXXX" PARTIAL_SUFFIX, it->path);
    if (length >= (int)sizeof it->path || partial >= (int)sizeof it->partial)
        return complain_file(output, "it can't be used", -ENAMETOOLONG);
    snprintf(it->folder, sizeof it->folder, "%s", it->path);
    char *slash = strrchr(it->folder, '/');
    snprintf(slash ? slash + (slash == it->folder) : it->folder, 2, "%s", slash ? "" : ".");
    return CTL_OK;
}

/* Which one it is. */
static int find(struct fetching *it, const char *name)
{
    it->is_range = parse_range(name, it->wanted);
    if (it->is_range) {
        snprintf(it->log.name, sizeof it->log.name, "%.*s-seq-%" PRIu64 "-%" PRIu64 ".avro",
                 HF_NAME_SIZE, it->channel, it->wanted[0], it->wanted[1]);
    } else {
        int result = hf_log_find(it->handle, it->channel, name, &it->log);
        if (result < 0)
            return complain(it, name, result);
    }
    int status = set_path(it);
    if (status != CTL_OK)
        return status;
    if (ctl_result_is_in_recording(it->path)) {
        ctl_complain("%s: that is a recording's own folder: choose another one (-o)",
                     it->command->output ? it->command->output : ".");
        return CTL_NO;
    }
    if (!it->command->force && access(it->path, F_OK) == 0) {
        ctl_complain("%s: it is there already: --force replaces it", it->path);
        return CTL_NO;
    }
    return CTL_OK;
}

static void own_path(int fd, char ret[64])
{
    snprintf(ret, 64, "/proc/self/fd/%d", fd);
}

/* A file without a name, which is gone when this program is; where the file system has none such,
 * one with a name that says so. */
static int make_file(struct fetching *it)
{
    char own[64];
    int fd = open(it->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    own_path(fd, own);
    if (fd >= 0 && access(own, F_OK) < 0)
        fd_close(&fd); /* without /proc it could not be given one */
    it->has_name = fd < 0;
    return fd >= 0 ? fd : mkostemps(it->partial, (int)strlen(PARTIAL_SUFFIX), O_CLOEXEC);
}

/* What has no name yet gets it here. */
static int link_to(int fd, const char *path)
{
    char own[64];
    own_path(fd, own);
    return linkat(AT_FDCWD, own, AT_FDCWD, path, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* Over one that is there: by a name of its own first. */
static int link_over(struct fetching *it, int fd)
{
    int named = mkostemps(it->partial, (int)strlen(PARTIAL_SUFFIX), O_CLOEXEC);
    if (named < 0)
        return -errno;
    fd_close(&named);
    int result = unlink(it->partial) < 0 ? -errno : link_to(fd, it->partial);
    if (result == 0 && rename(it->partial, it->path) < 0)
        result = -errno;
    if (result < 0)
        unlink(it->partial);
    return result;
}

static int name_result(struct fetching *it, int fd)
{
    const bool force = it->command->force;
    int result = it->has_name ? ctl_result_name(it->partial, it->path, force)
                 : force      ? link_over(it, fd)
                              : link_to(fd, it->path);
    if (result < 0)
        return complain_file(it->path, "it can't be given its name", result);
    result = ctl_result_sync_folder(it->path);
    return result < 0 ? complain_file(it->path, "its folder can't be brought to the disk", result)
                      : CTL_OK;
}

/* By copy unless another way was asked for: so what is in an unfinished block comes, too. */
static int64_t copy_range(struct fetching *it, const char *name, int fd)
{
    const unsigned how = it->command->how ? it->how : HF_BY_COPY;
    int64_t bytes = -ECONNRESET;
    for (int i = 0; i < TRIES && bytes == -ECONNRESET; i++) {
        if (ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0)
            return -errno;
        bytes = hf_log_copy(it->handle, it->channel, name, fd, 0, 0, how);
    }
    if (bytes >= 0)
        hf_log_copied(it->handle, &it->range);
    return bytes;
}

static int write_file(struct fetching *it, const char *name, int fd)
{
    const mode_t mask = umask(0);
    umask(mask);
    it->bytes = it->is_range
                    ? copy_range(it, name, fd)
                    : hf_log_copy(it->handle, it->channel, it->log.name, fd, 0, 0, it->how);
    if (it->bytes < 0)
        return complain(it, it->is_range ? name : it->log.name, (int)it->bytes);
    if (fchmod(fd, 0666 & ~mask) < 0 || fsync(fd) < 0)
        return complain_file(it->path, "it can't be brought to the disk", -errno);
    return name_result(it, fd);
}

static void tell_json(const struct fetching *it)
{
    json_t *entry = json_pack("{s:o,s:o,s:o,s:I}", "channel", control_text(it->channel), "name",
                              control_text(it->log.name), "file", control_text(it->path), "bytes",
                              (json_int_t)it->bytes);
    if (it->is_range) {
        json_object_set_new(entry, "first_seq", json_integer((json_int_t)it->range.first_seq));
        json_object_set_new(entry, "last_seq", json_integer((json_int_t)it->range.last_seq));
        json_object_set_new(entry, "records", json_integer((json_int_t)it->range.records));
    }
    json_array_append_new(it->list, entry);
}

/* What is missing is an answer, not a failure; but it is never left unsaid. */
static void tell_range(const struct fetching *it)
{
    const struct hf_log_range *range = &it->range;
    const uint64_t missing = it->wanted[1] - it->wanted[0] + 1 - range->records;
    printf("%s: %" PRId64 " bytes, %" PRIu64 " records, %" PRIu64 " to %" PRIu64 "\n", it->path,
           it->bytes, range->records, range->first_seq, range->last_seq);
    if (missing > 0)
        ctl_complain("%s: %" PRIu64 " of the records %" PRIu64 "..%" PRIu64
                     " are not there: 'holdfastctl info %s' shows why",
                     it->channel, missing, it->wanted[0], it->wanted[1], it->path);
}

static void tell(const struct fetching *it)
{
    if (it->list)
        tell_json(it);
    else if (it->is_range)
        tell_range(it);
    else
        printf("%s: %" PRId64 " bytes\n", it->path, it->bytes);
}

static int fetch(struct fetching *it, const char *name)
{
    int status = find(it, name);
    if (status != CTL_OK)
        return status;
    int fd = make_file(it);
    if (fd < 0)
        return complain_file(it->path, "it can't be made", -errno);
    status = write_file(it, name, fd);
    fd_close(&fd);
    if (status == CTL_OK)
        tell(it);
    else if (it->has_name)
        unlink(it->partial);
    return status;
}

int ctl_fetch(const struct ctl_command *command)
{
    struct fetching it = {.command = command,
                          .channel = command->files[0],
                          .list = command->options.json ? json_array() : NULL};
    int status = parse_how(command->how, ctl_daemon_is_remote(command), &it.how);
    if (status == CTL_OK)
        status = ctl_daemon_open(command, &it.handle);
    int worst = status;
    for (int i = 1; status == CTL_OK && i < command->file_count; i++) {
        const int one = fetch(&it, command->files[i]);
        worst = one > worst ? one : worst;
    }
    if (it.list && status == CTL_OK) {
        json_t *object = json_pack("{s:o}", "fetched", it.list);
        json_dumpf(object, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(object);
    } else {
        json_decref(it.list);
    }
    hf_close(it.handle);
    return worst;
}
