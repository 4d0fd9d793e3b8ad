/* SPDX-License-Identifier: MIT */
/* Folders below log_dir and the files in them. Called by the rest of the archive. No name that came
 * in a message may ever lead outside the channel's own folder. */
#include "worker/archive/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_name.h"
#include "common/channel_spec.h"
#include "common/disk_refusal.h"
#include "common/fd.h"
#include "common/file_name.h"
#include "worker/archive/file_lock.h"

#define LOCK_NAME ".lock"

void folder_number_name(const char *open_name, const char *suffix, int n,
                        char ret_name[SEGMENT_NAME_SIZE])
{
    char number[16] = "";
    int stem = (int)(strlen(open_name) - strlen(AVRO_LOG_OPEN_SUFFIX));
    if (n > 1)
        snprintf(number, sizeof number, "-%d", n);
    snprintf(ret_name, SEGMENT_NAME_SIZE, "%.*s%s%s", stem, open_name, number, suffix);
}

void folder_open_name(const char *name, const char *suffix, char ret_name[SEGMENT_NAME_SIZE])
{
    int stem = (int)(strlen(name) - strlen(suffix));
    snprintf(ret_name, SEGMENT_NAME_SIZE, "%.*s" AVRO_LOG_OPEN_SUFFIX, stem, name);
}

bool folder_is_open_name(const char *channel, const char *name)
{
    return channel_name_is_valid(channel) && avro_log_name_is_of(name, channel) &&
           avro_log_name_ends_in(name, AVRO_LOG_OPEN_SUFFIX);
}

bool folder_file_is_segment(const struct folder_file *file)
{
    return avro_log_name_ends_in(file->name, AVRO_LOG_SUFFIX) ||
           avro_log_name_ends_in(file->name, AVRO_LOG_OPEN_SUFFIX);
}

bool folder_has(int folder, const char *open_name, const char *suffix, int n, struct stat *ret)
{
    char name[SEGMENT_NAME_SIZE];
    folder_number_name(open_name, suffix, n, name);
    return fstatat(folder, name, ret, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool is_taken(int folder, const char *open_name, const char *suffix, int n, ino_t own)
{
    struct stat other;
    return folder_has(folder, open_name, suffix, n, &other) && other.st_ino != own;
}

/* Behind those that are there, sealed or set aside: one name is one segment's, also where only its
 * damaged original is left. The file's own, when a crash has left it with two names. */
static int free_number(int folder, const char *from, const char *open_name, const char *suffix)
{
    struct stat own, other;
    int last = 0;
    if (fstatat(folder, from, &own, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    for (int n = 1; n <= FOLDER_NUMBERS; n++) {
        if (folder_has(folder, open_name, suffix, n, &other) && other.st_ino == own.st_ino)
            return n;
        if (is_taken(folder, open_name, AVRO_LOG_SUFFIX, n, own.st_ino) ||
            is_taken(folder, open_name, AVRO_LOG_DAMAGED_SUFFIX, n, own.st_ino))
            last = n;
    }
    return last + 1;
}

int folder_rename_to(int folder, const char *from, const char *name)
{
    int result = file_name_change(folder, from, name);
    return result == 0 && fsync(folder) < 0 ? -errno : result;
}

int folder_rename(int folder, const char *from, const char *open_name, const char *suffix,
                  char ret_name[SEGMENT_NAME_SIZE])
{
    int result = -EEXIST;
    int first = free_number(folder, from, open_name, suffix);
    if (first < 0)
        return first;
    for (int n = first; n <= FOLDER_NUMBERS && result == -EEXIST; n++) {
        folder_number_name(open_name, suffix, n, ret_name);
        result = folder_rename_to(folder, from, ret_name);
    }
    return result;
}

int folder_rename_copy(int folder, const char *from, const char *open_name,
                       char ret_name[SEGMENT_NAME_SIZE])
{
    struct stat status;
    for (int n = FOLDER_NUMBERS; n > 0; n--) {
        if (!folder_has(folder, open_name, AVRO_LOG_DAMAGED_SUFFIX, n, &status) ||
            folder_has(folder, open_name, AVRO_LOG_SUFFIX, n, &status))
            continue;
        folder_number_name(open_name, AVRO_LOG_SUFFIX, n, ret_name);
        return folder_rename_to(folder, from, ret_name);
    }
    return folder_rename(folder, from, open_name, AVRO_LOG_SUFFIX, ret_name);
}

/* mkdir(2). A channel's folder survives a power cut: its parent is synced, unless that fails or the
 * archive is killed between the two. log_dir itself, where it has to be made, is not synced. */
static int make_folder(int parent, const char *path)
{
    if (mkdirat(parent, path, 0750) < 0)
        return errno == EEXIST ? 0 : -errno;
    if (parent != AT_FDCWD)
        fsync(parent); /* a failure of it is no reason not to record */
    return 0;
}

int folder_open(const char *log_dir, const char *channel, bool create)
{
    if (!channel_name_is_valid(channel))
        return -EINVAL;
    int result = create ? make_folder(AT_FDCWD, log_dir) : 0;
    if (result < 0)
        return result;
    int base = open(log_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (base < 0)
        return -errno;
    result = create ? make_folder(base, channel) : 0;
    if (result == 0) {
        result = openat(base, channel, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (result < 0)
            result = -errno;
    }
    fd_close(&base);
    return result;
}

/* A file of its own for that, which nobody else may open: whoever may read the folder could lock
 * that, too. */
int folder_lock(int folder, uint64_t patience_ns, int *ret_fd)
{
    int fd = openat(folder, LOCK_NAME, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
                    S_IRUSR | S_IWUSR);
    bool busy = file_lock_wait(fd < 0 ? folder : fd, patience_ns) == -EBUSY;
    if (busy)
        fd_close(&fd);
    *ret_fd = fd;
    return busy ? -EBUSY : 0;
}

static int compare_files(const void *a, const void *b)
{
    const struct folder_file *left = a, *right = b;
    if (left->first_seq != right->first_seq)
        return left->first_seq < right->first_seq ? -1 : 1;
    /* One second's numbers before the next second's. */
    int result = strncmp(left->utc, right->utc, sizeof left->utc);
    if (result == 0 && left->number != right->number)
        result = left->number < right->number ? -1 : 1;
    return result ? result : strcmp(left->name, right->name);
}

static int add_file(struct folder_list *list, size_t *capacity, const char *channel,
                    const char *name, const struct stat *status)
{
    struct avro_log_name parts;
    if (list->count == *capacity) {
        size_t wanted = *capacity ? *capacity * 2 : 64;
        struct folder_file *files = realloc(list->files, wanted * sizeof *files);
        if (!files)
            return -ENOMEM;
        list->files = files;
        *capacity = wanted;
    }
    struct folder_file *file = &list->files[list->count++];
    memset(file, 0, sizeof *file);
    snprintf(file->name, sizeof file->name, "%s", name);
    file->first_seq = UINT64_MAX;
    if (avro_log_name_parse(name, channel, &parts)) {
        file->first_seq = parts.first_seq;
        file->number = parts.number;
        memcpy(file->utc, parts.utc, sizeof file->utc);
    }
    file->id = status->st_ino;
    file->refused = disk_refusal_in_mode(status->st_mode);
    file->links = status->st_nlink;
    file->size = (uint64_t)status->st_size;
    file->disk_size = (uint64_t)status->st_blocks * 512;
    file->modified_s = status->st_mtim.tv_sec;
    return 0;
}

int folder_list(int folder, const char *channel, struct folder_list *ret)
{
    size_t capacity = 0;
    struct dirent *entry;
    struct stat status;
    int result = 0;

    ret->files = NULL;
    ret->count = 0;
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* a position of its own */
    if (fd < 0)
        return -errno;
    DIR *stream = fdopendir(fd);
    if (!stream) {
        result = -errno;
        fd_close(&fd);
        return result;
    }
    while (result == 0 && (errno = 0, entry = readdir(stream))) {
        if (!avro_log_name_is_of(entry->d_name, channel) ||
            strlen(entry->d_name) >= SEGMENT_NAME_SIZE)
            continue;
        if (fstatat(folder, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(status.st_mode))
            result = add_file(ret, &capacity, channel, entry->d_name, &status);
    }
    if (result == 0 && errno != 0)
        result = -errno;
    closedir(stream);
    if (ret->count > 0)
        qsort(ret->files, ret->count, sizeof *ret->files, compare_files);
    return result;
}

void folder_list_free(struct folder_list *list)
{
    free(list->files);
    list->files = NULL;
    list->count = 0;
}

void folder_explain(const char *log_dir, const char *channel, int error,
                    char reason[MESSAGE_REASON_SIZE])
{
    const char *advice = "look at the folder and its file system";
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        advice = "free some space, or set keep_at_most or keep_free";
        break;
    case EACCES:
    case EPERM:
        advice = "give the user that holdfastd runs as write access to it";
        break;
    case EROFS:
        advice = "remount the file system writable, or choose another log_dir";
        break;
    case ENOENT:
        advice = "make its parent folder, or choose another log_dir";
        break;
    case ENOTDIR:
    case EEXIST:
        advice = "something that is no folder is in the way: move it, or choose another log_dir";
        break;
    case EMFILE:
    case ENFILE:
        advice = FD_SHORTAGE_ADVICE;
        break;
    case EBUSY:
        advice = "somebody else works there just now";
        break;
    case EIO:
        advice = "the disk reports errors: see the kernel's log";
        break;
    default:
        break;
    }
    snprintf(reason, MESSAGE_REASON_SIZE, "%.48s/%s: %s; %s", log_dir, channel, strerror(error),
             advice);
}
