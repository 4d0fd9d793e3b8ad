/* SPDX-License-Identifier: MIT */
/* Lists a channel's folder by names, and finds a number or a time among them. Called by the gate
 * and by libholdfast. Anybody may have put anything there: no name is believed to be a log file
 * before it is opened, and nothing but a regular file of this very folder is ever opened. */
#include "common/log_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/avro_log_header.h"
#include "common/fd.h"

/* ---- names ---- */

/* Sealed or open, and nothing else behind the name's known parts. */
static bool read_name(const char *name, const char *channel, struct log_folder_file *ret)
{
    struct avro_log_name parts;
    if (!avro_log_name_is_of(name, channel) || !avro_log_name_parse(name, channel, &parts))
        return false;
    const char *suffix = parts.utc + AVRO_LOG_UTC_LENGTH + (parts.number > 1 ? 2 : 0);
    ret->open = strcmp(suffix, AVRO_LOG_OPEN_SUFFIX) == 0;
    if (!ret->open && strcmp(suffix, AVRO_LOG_SUFFIX) != 0)
        return false;
    size_t length = strlen(name);
    if (length >= sizeof ret->name)
        return false;
    memcpy(ret->name, name, length + 1);
    ret->first_seq = parts.first_seq;
    ret->number = parts.number;
    return true;
}

/* Where the part behind the channel's name and the number begins; read_name() has seen that the
 * name ends in it. */
static const char *utc_of(const struct log_folder_file *file)
{
    size_t length = strlen(file->name);
    size_t behind = file->open ? strlen(AVRO_LOG_OPEN_SUFFIX) : strlen(AVRO_LOG_SUFFIX);
    behind += AVRO_LOG_UTC_LENGTH + (file->number > 1 ? 2 : 0);
    return file->name + length - behind;
}

static int compare(const void *left, const void *right)
{
    const struct log_folder_file *a = left, *b = right;
    if (a->first_seq != b->first_seq)
        return a->first_seq < b->first_seq ? -1 : 1;
    int order = memcmp(utc_of(a), utc_of(b), AVRO_LOG_UTC_LENGTH);
    if (order != 0)
        return order;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return (int)a->open - (int)b->open; /* the sealed twin first */
}

static bool are_twins(const struct log_folder_file *a, const struct log_folder_file *b)
{
    return a->first_seq == b->first_seq && a->number == b->number &&
           memcmp(utc_of(a), utc_of(b), AVRO_LOG_UTC_LENGTH) == 0;
}

/* An open file behind its sealed twin was copied or is a leftover: the sealed one has its records.
 */
static void drop_twins(struct log_folder *list)
{
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++)
        if (kept == 0 || !are_twins(&list->files[kept - 1], &list->files[i]))
            list->files[kept++] = list->files[i];
    list->count = kept;
}

/* ---- the folder ---- */

static int append(struct log_folder *list, size_t *room, const struct log_folder_file *file)
{
    if (list->count == *room) {
        size_t more = *room ? *room * 2 : 64;
        struct log_folder_file *files = reallocarray(list->files, more, sizeof *files);
        if (!files)
            return -ENOMEM;
        list->files = files;
        *room = more;
    }
    list->files[list->count++] = *file;
    return 0;
}

static int read_entries(DIR *folder, const char *channel, struct log_folder *ret)
{
    struct log_folder_file file;
    size_t room = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (!entry)
            return -errno;
        if (entry->d_type != DT_REG && entry->d_type != DT_UNKNOWN)
            continue;
        if (!read_name(entry->d_name, channel, &file))
            continue;
        int result = append(ret, &room, &file);
        if (result < 0)
            return result;
    }
}

int log_folder_read(int folder, const char *channel, struct log_folder *ret)
{
    *ret = (struct log_folder){0};
    int own = fcntl(folder, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return -errno;
    DIR *stream = fdopendir(own);
    if (!stream) {
        int result = -errno;
        fd_close(&own);
        return result;
    }
    rewinddir(stream); /* the description's offset is the lender's */
    int result = read_entries(stream, channel, ret);
    closedir(stream);
    if (result < 0)
        return result;
    if (ret->count > 0)
        qsort(ret->files, ret->count, sizeof *ret->files, compare);
    drop_twins(ret);
    return 0;
}

void log_folder_free(struct log_folder *folder)
{
    free(folder->files);
    *folder = (struct log_folder){0};
}

int log_folder_open(int folder, const char *name)
{
    /* O_NONBLOCK: a FIFO of that name must not hold anybody up. For a regular file it is nothing.
     */
    const struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    struct stat status;
    if (!name[0] || strchr(name, '/'))
        return -EINVAL;
    int fd = (int)syscall(SYS_openat2, folder, name, &how, sizeof how);
    if (fd < 0)
        return -errno;
    int result = fstat(fd, &status) < 0 ? -errno : S_ISREG(status.st_mode) ? 0 : -EINVAL;
    if (result < 0) {
        fd_close(&fd);
        return result;
    }
    return fd;
}

/* ---- finding ---- */

size_t log_folder_find_seq(const struct log_folder *list, uint64_t seq)
{
    size_t low = 0, high = list->count; /* before low: at or before seq; from high on: after it */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (list->files[middle].first_seq <= seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? low - 1 : 0;
}

enum judgement {
    UNKNOWN, /* its header doesn't say, or it is gone */
    BEFORE,  /* it and all before it hold earlier records only */
    REACHED, /* the time is in it, or before it */
};

static enum judgement judge(int folder, const struct log_folder_file *file, uint64_t time_ns)
{
    struct avro_log_identity identity;
    const char *what;
    if (file->open)
        return UNKNOWN; /* totals are written when it is sealed */
    int fd = log_folder_open(folder, file->name);
    if (fd < 0)
        return UNKNOWN;
    long length = avro_log_load_header(fd, &identity, &what);
    fd_close(&fd);
    if (length <= 0 || !identity.has_totals)
        return UNKNOWN;
    return identity.totals.latest_ns < time_ns ? BEFORE : REACHED;
}

/* The first one in [from, end) whose header says something; end when none does. */
static size_t find_judged(int folder, const struct log_folder *list, size_t from, size_t end,
                          uint64_t time_ns, enum judgement *ret)
{
    for (; from < end; from++) {
        *ret = judge(folder, &list->files[from], time_ns);
        if (*ret != UNKNOWN)
            return from;
    }
    *ret = UNKNOWN;
    return end;
}

size_t log_folder_find_time(int folder, const struct log_folder *list, uint64_t time_ns)
{
    size_t low = 0, high = list->count; /* before low: all are before the time */
    while (low < high) {
        enum judgement judgement;
        size_t middle = low + (high - low) / 2;
        size_t at = find_judged(folder, list, middle, high, time_ns, &judgement);
        if (judgement == BEFORE)
            low = at + 1; /* also those between: what came before it is no later */
        else /* at `at`, the time is reached, and what lies before that may hold it, too */
            high = middle;
    }
    return low;
}
