/* SPDX-License-Identifier: MIT */
/* Writes and removes the files of readers' positions. Called by archive.c for POSITION_SAVE, and by
 * the process that recovers a channel's log, whose end may be before some of them. Must never lead
 * outside the folder of positions, whatever a name says or a link leads to, nor leave
 * half of a file under a position's name: at every instant it is the old one or the new one. And
 * never touch what is another user's, whatever the gate knew when it asked. */
#include "worker/archive/positions.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/channel_spec.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "common/position_file.h"
#include "worker/archive/file_lock.h"
#include "worker/archive/folder.h"

/* What recording waits for must not wait for whoever locks a folder of positions. */
#define KEEP_PATIENCE_NS    (50 * NS_PER_MS)
#define GO_BACK_PATIENCE_NS NS_PER_S

/* The folder of this name, made first if that is wanted. Or -errno. */
static int enter(int parent, const char *name, bool make)
{
    if (make && mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
        return -errno;
    if (make && fsync(parent) < 0) /* also where one was made that a power cut may still take */
        return -errno;
    int folder = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return folder < 0 ? -errno : folder;
}

static int enter_channel(const char *log_dir, const char *channel, bool make)
{
    int base = open(log_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int all = base < 0 ? -errno : enter(base, POSITION_FOLDER, make);
    int folder = all < 0 ? all : enter(all, channel, make);
    fd_close(&base);
    if (all >= 0)
        fd_close(&all);
    return folder;
}

/* Not over one that is there: it may be that of an archive that is about to end. */
static int write_file(int folder, const struct position_file *position)
{
    char text[POSITION_FILE_SIZE_MAX];
    size_t length = position_file_print(position, text);
    if (unlinkat(folder, POSITION_TEMPORARY, 0) < 0 && errno != ENOENT)
        return -errno;
    int fd = openat(folder, POSITION_TEMPORARY,
                    O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
    int result = fd < 0 ? -errno : fd_write_all(fd, text, length, 0);
    if (result == 0 && fsync(fd) < 0)
        result = -errno;
    fd_close(&fd);
    return result;
}

/* The old one or the new one is there at every instant. */
static int replace(int folder, const char *name, const struct position_file *position)
{
    int result = write_file(folder, position);
    if (result == 0 && renameat(folder, POSITION_TEMPORARY, folder, name) < 0)
        result = -errno;
    return result;
}

/* Whose file it is that will be replaced or removed. One that is damaged, or no file, is nobody's:
 * the gate asks only for who may have it. 0, -ENOENT: there is none; -EACCES: another user's, who
 * was first; or another -errno. */
static int check_owner(int folder, const struct message_position_save *request,
                       char reason[MESSAGE_REASON_SIZE])
{
    struct position_file kept;
    int result = position_file_read(folder, request->name, &kept);
    if (result == -EBADMSG || result == -EINVAL || result == -ELOOP)
        return 0;
    if (result < 0 || kept.uid == request->uid)
        return result;
    snprintf(reason, MESSAGE_REASON_SIZE,
             "position %s is another user's (uid %" PRIu32 "): choose another name", request->name,
             kept.uid);
    return -EACCES;
}

/* Looks at no more than may be. of_user: only this one's, as far as that can be read. */
static int count_positions(DIR *stream, const uint32_t *of_user)
{
    struct position_file kept;
    int count = 0;
    rewinddir(stream);
    for (const struct dirent *entry; count < POSITIONS_MOST && (entry = readdir(stream));)
        count += position_name_is_valid(entry->d_name) &&
                 (!of_user || (position_file_read(dirfd(stream), entry->d_name, &kept) == 0 &&
                               kept.uid == *of_user));
    return count;
}

/* 0, -EDQUOT or another -errno. Looked up in the folder each time that there is a new one: nothing
 * else knows what a killed archive, or an earlier one, has left. */
static int check_room(int folder, const struct message_position_save *request,
                      char reason[MESSAGE_REASON_SIZE])
{
    int own = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = own < 0 ? NULL : fdopendir(own);
    if (!stream) {
        int result = -errno;
        fd_close(&own);
        return result;
    }
    int count = count_positions(stream, NULL);
    bool is_full = count >= POSITIONS_MOST;
    bool has_most = !is_full && count >= POSITIONS_MOST_OF_USER &&
                    count_positions(stream, &request->uid) >= POSITIONS_MOST_OF_USER;
    closedir(stream);
    if (is_full)
        snprintf(reason, MESSAGE_REASON_SIZE,
                 "channel %s has %d positions, and no more are kept: remove some that nobody needs "
                 "(holdfastctl positions, forget)",
                 request->channel, count);
    if (has_most)
        snprintf(reason, MESSAGE_REASON_SIZE,
                 "uid %" PRIu32 " has %d positions in channel %s, and one user gets no more: "
                 "remove some (holdfastctl positions, forget)",
                 request->uid, POSITIONS_MOST_OF_USER, request->channel);
    return is_full || has_most ? -EDQUOT : 0;
}

static int save(int folder, const struct message_position_save *request,
                char reason[MESSAGE_REASON_SIZE])
{
    const struct position_file position = {
        .seq = request->seq, .saved_ns = request->saved_ns, .uid = request->uid};
    int result = check_owner(folder, request, reason);
    if (result == -ENOENT)
        result = check_room(folder, request, reason);
    return result == 0 ? replace(folder, request->name, &position) : result;
}

static int forget(int folder, const struct message_position_save *request,
                  char reason[MESSAGE_REASON_SIZE])
{
    int result = check_owner(folder, request, reason);
    if (result < 0)
        return result == -ENOENT ? 0 : result;
    return unlinkat(folder, request->name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* From here until the folder is closed, nobody else writes: an archive that is about to end, and
 * its processes, may want to as well. Whoever else holds it must not hold up more than this. */
static int lock(int folder, uint64_t patience_ns, char reason[MESSAGE_REASON_SIZE])
{
    int result = file_lock_wait(folder, patience_ns);
    if (result == -EBUSY)
        snprintf(reason, MESSAGE_REASON_SIZE,
                 "somebody has locked the channel's folder below " POSITION_FOLDER
                 " in log_dir: end that (lslocks), and save again");
    return result;
}

/* reason stays empty where the error says enough. */
static int keep(const char *log_dir, const struct message_position_save *request,
                char reason[MESSAGE_REASON_SIZE])
{
    if (!channel_name_is_valid(request->channel) || !position_name_is_valid(request->name))
        return -EINVAL;
    int folder = enter_channel(log_dir, request->channel, !request->forget);
    if (folder == -ENOENT && request->forget)
        return 0;
    if (folder < 0)
        return folder;
    int result = lock(folder, KEEP_PATIENCE_NS, reason);
    if (result == 0)
        result = request->forget ? forget(folder, request, reason) : save(folder, request, reason);
    if (result == 0 && fsync(folder) < 0)
        result = -errno;
    fd_close(&folder);
    return result;
}

void positions_keep(const char *log_dir, const struct message_position_save *request,
                    struct message_position_saved *ret)
{
    memset(ret, 0, sizeof *ret);
    int result = keep(log_dir, request, ret->reason);
    snprintf(ret->channel, sizeof ret->channel, "%s", request->channel);
    snprintf(ret->name, sizeof ret->name, "%s", request->name);
    ret->turn = request->turn;
    ret->error = -result;
    if (result < 0 && !ret->reason[0])
        folder_explain(log_dir, POSITION_FOLDER, -result, ret->reason);
}

/* ---- the log goes on before them ---- */

/* In the room that it has: a smaller number is no longer. */
static int write_over(int folder, const char *name, const struct position_file *position)
{
    char text[POSITION_FILE_SIZE_MAX];
    size_t length = position_file_print(position, text);
    int fd = openat(folder, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int result = fd < 0 ? -errno : fd_write_all(fd, text, length, 0);
    if (result == 0 && (ftruncate(fd, (off_t)length) < 0 || fsync(fd) < 0))
        result = -errno;
    fd_close(&fd);
    return result;
}

/* 1: it was beyond that, and is there now. 0: it was not. Or -errno. */
static int go_back(int folder, const char *name, uint64_t next_seq)
{
    struct position_file kept = {0};
    int result = position_file_read(folder, name, &kept);
    if (result < 0 || kept.seq <= next_seq)
        return result;
    kept.seq = next_seq;
    result = replace(folder, name, &kept);
    if (result == -ENOSPC || result == -EDQUOT)
        result = write_over(folder, name, &kept);
    return result == 0 ? 1 : result;
}

/* name: "" for all of them. What isn't there or belongs to nobody needs no telling. */
static void tell_stuck(const char *channel, const char *name, int result, uint64_t next_seq)
{
    if (result < 0 && result != -ENOENT && result != -EBADMSG && result != -EINVAL)
        log_warning("channel %s: the log goes on at %" PRIu64
                    ", and whether position%s%s %s beyond "
                    "that can't be seen or mended: %s; %s may pass over datagrams without being "
                    "told",
                    channel, next_seq, name[0] ? " " : "s of readers", name, name[0] ? "is" : "are",
                    result == -EBUSY ? "somebody has locked their folder" : strerror(-result),
                    name[0] ? "its reader" : "they");
}

/* How many. All are on the disk before the answer that lets the log go on. */
static unsigned take_back(DIR *stream, const char *channel, uint64_t next_seq)
{
    const struct dirent *entry;
    unsigned moved = 0;
    while ((entry = readdir(stream))) {
        if (!position_name_is_valid(entry->d_name))
            continue;
        int result = go_back(dirfd(stream), entry->d_name, next_seq);
        tell_stuck(channel, entry->d_name, result, next_seq);
        moved += result == 1;
    }
    if (moved && fsync(dirfd(stream)) < 0)
        tell_stuck(channel, "", -errno, next_seq);
    return moved;
}

void positions_go_back(const char *log_dir, const char *channel, uint64_t next_seq)
{
    char reason[MESSAGE_REASON_SIZE];
    int folder = enter_channel(log_dir, channel, false);
    int result = folder < 0 ? folder : lock(folder, GO_BACK_PATIENCE_NS, reason);
    DIR *stream = result == 0 ? fdopendir(folder) : NULL;
    if (!stream) {
        tell_stuck(channel, "", result < 0 ? result : -errno, next_seq);
        fd_close(&folder);
        return;
    }
    const unsigned moved = take_back(stream, channel, next_seq);
    closedir(stream);
    if (moved)
        log_notice("channel %s: %u position%s of readers %s beyond the log's end, as after a power "
                   "cut; %s back to it, to %" PRIu64,
                   channel, moved, moved == 1 ? "" : "s", moved == 1 ? "was" : "were",
                   moved == 1 ? "it goes" : "they go", next_seq);
}
