/* SPDX-License-Identifier: MIT */
/* Makes segments durable whose worker is gone, by their inode numbers: their names may be about to
 * change. Called by archive.c for SYNC. Opens each file anew: an error that the disk has for it is
 * then told to the worker that goes on with it, too, but to nobody who opens it later. */
#include "worker/archive/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/disk_refusal.h"
#include "common/fd.h"
#include "worker/archive/folder.h"

static int sync_file(int folder, const char *name, uint64_t id, bool *ret_refused)
{
    struct stat status;
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    int result = fstat(fd, &status) < 0 ? -errno : status.st_ino != id ? -ESTALE : 0;
    if (result == 0) {
        result = disk_refusal_sync(fd, fdatasync);
        *ret_refused |= result < 0;
    }
    fd_close(&fd);
    return result;
}

static int sync_one(int folder, const char *channel, uint64_t id, bool *ret_refused)
{
    struct folder_list list;
    int result = folder_list(folder, channel, &list);
    bool found = false;
    for (size_t i = 0; result == 0 && i < list.count && !found; i++) {
        found = list.files[i].id == id;
        if (found)
            result = sync_file(folder, list.files[i].name, id, ret_refused);
    }
    folder_list_free(&list);
    return result == 0 && !found ? -ENOENT : result;
}

void durable_make(const char *log_dir, const struct message_sync *request,
                  struct message_synced *ret)
{
    memset(ret, 0, sizeof *ret);
    snprintf(ret->channel, sizeof ret->channel, "%s", request->channel);
    ret->turn = request->turn;
    int folder = folder_open(log_dir, request->channel, false);
    int result = folder < 0 ? folder : 0;
    bool refused = false;
    for (int i = 0; i < 2 && result == 0; i++)
        if (request->id[i])
            result = sync_one(folder, request->channel, request->id[i], &refused);
    fd_close(&folder);
    ret->error = -result;
    ret->refused = refused;
}
