/* SPDX-License-Identifier: MIT */
/* Keeps a copy of a channel's log files elsewhere: copies those that are finished and not there
 * yet, each under its own name. Started again, by a timer for example, it goes on where it was
 * stopped, also in the middle of a file.
 *
 *   fetch_logs CHANNEL FOLDER
 *
 * What has come of a file so far is called FILE.part; when all of it is on the disk, FILE. Build:
 * cc fetch_logs.c $(pkg-config --cflags --libs holdfast) */
#include <errno.h>
#include <fcntl.h>
#include <holdfast.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What isn't there yet is written behind what is; bytes, or -errno. */
static int64_t fetch_rest(hf *daemon, const struct hf_log *log, int file)
{
    struct stat status;
    if (fstat(file, &status) < 0)
        return -errno;
    if ((uint64_t)status.st_size > log->size) { /* it was another one's part */
        status.st_size = 0;
        if (ftruncate(file, 0) < 0)
            return -errno;
    }
    if (lseek(file, status.st_size, SEEK_SET) < 0)
        return -errno;
    if ((uint64_t)status.st_size == log->size)
        return 0;
    return hf_log_copy(daemon, log->channel, log->name, file, (uint64_t)status.st_size, 0,
                       HF_BY_FD);
}

static int finish(int file, const char *part, const char *path, const struct hf_log *log)
{
    struct stat status;
    if (fstat(file, &status) < 0)
        return -errno;
    if ((uint64_t)status.st_size != log->size)
        return -EIO;
    if (fsync(file) < 0 || rename(part, path) < 0)
        return -errno;
    return 0;
}

/* 1: it came, 0: it had come before; or -errno. */
static int fetch(hf *daemon, const struct hf_log *log, const char *folder)
{
    char path[PATH_MAX], part[PATH_MAX];
    struct stat status;
    if (snprintf(path, sizeof path, "%s/%s", folder, log->name) >= (int)sizeof path ||
        snprintf(part, sizeof part, "%s/%s.part", folder, log->name) >= (int)sizeof part)
        return -ENAMETOOLONG;
    if (stat(path, &status) == 0)
        return 0;
    int file = open(part, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0)
        return -errno;
    int64_t copied = fetch_rest(daemon, log, file);
    int result = copied < 0 ? (int)copied : finish(file, part, path, log);
    close(file);
    if (result == -ENOENT || result == -ESTALE) {
        unlink(part); /* the channel's limits have removed it: the rest will never come */
        fprintf(stderr, "%s: removed before it was copied\n", log->name);
        return 0;
    }
    if (result < 0)
        return result;
    printf("%s: %lld bytes\n", log->name, (long long)copied);
    return 1;
}

/* Oldest first: it is the next to be removed. */
static int fetch_all(hf *daemon, const char *channel, const char *folder)
{
    struct hf_log *logs;
    size_t count;
    int result = hf_log_list(daemon, channel, &logs, &count);
    if (result < 0) {
        fprintf(stderr, "channel %s: %s\n", channel, strerror(-result));
        return 1;
    }
    for (size_t i = 0; i < count && result >= 0; i++) {
        if (logs[i].is_open)
            continue;
        result = fetch(daemon, &logs[i], folder);
        if (result < 0)
            fprintf(stderr, "%s/%s: %s\n", folder, logs[i].name, strerror(-result));
    }
    free(logs);
    return result < 0;
}

int main(int argc, char **argv)
{
    hf *daemon;
    if (argc != 3) {
        fprintf(stderr, "usage: fetch_logs CHANNEL FOLDER\n");
        return 2;
    }
    int result = hf_open(&daemon, NULL);
    if (result < 0) {
        fprintf(stderr, "no daemon serves readers here: %s\n", strerror(-result));
        return 1;
    }
    int status = fetch_all(daemon, argv[1], argv[2]);
    hf_close(daemon);
    return status;
}
