/* SPDX-License-Identifier: MIT */
/* What a file of a channel's folder tells, asked by its name. Called by everyone in the archive who
 * looks at files of others than his own. Only reads. */
#include "worker/archive/contents.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fd.h"

long contents_load_header(int folder, const char *name, struct avro_log_identity *ret)
{
    const char *what;
    memset(ret, 0, sizeof *ret);
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    long size = avro_log_load_header(fd, ret, &what);
    fd_close(&fd);
    return size;
}

/* What the scan returns, or -errno where the file can't be opened. */
static int scan(int folder, const char *name, const struct avro_log_visitor *visitor,
                struct avro_log_summary *ret)
{
    const struct avro_log_scan_options unlimited = {.open = true, .seq_end = UINT64_MAX};
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    int result = avro_log_scan(fd, &unlimited, visitor, ret);
    fd_close(&fd);
    return result;
}

static int stop_at_first(void *context, const struct avro_log_found *found)
{
    *(uint64_t *)context = (uint64_t)found->record.seq;
    return 1;
}

static uint64_t first_record_of(int folder, const char *name)
{
    uint64_t seq = UINT64_MAX;
    const struct avro_log_visitor visitor = {.context = &seq, .record = stop_at_first};
    struct avro_log_summary summary;
    scan(folder, name, &visitor, &summary);
    return seq;
}

bool contents_have_no_record(int folder, const char *name)
{
    struct avro_log_summary summary;
    const struct avro_log_visitor visitor = {.context = &(uint64_t){0}, .record = stop_at_first};
    return scan(folder, name, &visitor, &summary) == 0;
}

int contents_are_bare(int folder, const char *name)
{
    struct avro_log_identity identity;
    struct stat status;
    if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    if (status.st_size > AVRO_LOG_HEADER_MAX)
        return 0; /* it need not be read */
    long header_size = contents_load_header(folder, name, &identity);
    return header_size == -EBADMSG ? 0
           : header_size < 0       ? (int)header_size
                                   : status.st_size == header_size;
}

uint64_t contents_first_seq(int folder, const struct folder_file *file)
{
    struct avro_log_identity identity;
    if (contents_load_header(folder, file->name, &identity) > 0)
        return identity.first_seq;
    return file->first_seq != UINT64_MAX ? file->first_seq : first_record_of(folder, file->name);
}

uint64_t contents_last_seq(int folder, const char *name)
{
    struct avro_log_summary summary = {0};
    return scan(folder, name, NULL, &summary) == 0 ? summary.last_seq : UINT64_MAX;
}

uint64_t contents_latest_ns(int folder, const char *name)
{
    struct avro_log_summary summary = {0};
    return scan(folder, name, NULL, &summary) == 0 ? summary.latest_ns : 0;
}
