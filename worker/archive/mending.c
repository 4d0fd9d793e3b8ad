/* SPDX-License-Identifier: MIT */
/* Goes on where a copy of sound records (unfinished.c) was interrupted. Called by recovery.c for
 * what lies there, by seal.c for the segment that it was asked for. A copy is complete before its
 * original is set aside; until then, the original has its name and everything that the copy has.
 * Must never let records be in two files, nor remove the only ones. */
#include "worker/archive/mending.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/avro_log_header.h"
#include "common/fd.h"
#include "common/log.h"
#include "worker/archive/folder.h"
#include "worker/archive/leftovers.h"
#include "worker/archive/unfinished.h"

static bool is_there(int folder, const char *name)
{
    struct stat status;
    return fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool has_open_original(int folder, const char *mending)
{
    char original[UNFINISHED_ORIGINAL_SIZE];
    unfinished_original_name(mending, original);
    return is_there(folder, original);
}

/* Also one of a sealed file, which has its name until the copy is complete. 1, 0 or -errno. */
static int is_elsewhere(int folder, const char *channel, const char *mending)
{
    struct avro_log_identity identity;
    const char *what;
    int fd = openat(folder, mending, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    long size = avro_log_load_header(fd, &identity, &what);
    int result =
        size < 0 ? (int)size : leftovers_are_elsewhere(folder, channel, fd, identity.first_seq);
    fd_close(&fd);
    return result;
}

static bool has_sealed_original(int folder, const char *mending)
{
    char open_name[SEGMENT_NAME_SIZE];
    struct stat status;
    folder_open_name(mending, AVRO_LOG_MENDING_SUFFIX, open_name);
    return folder_has(folder, open_name, AVRO_LOG_SUFFIX, 1, &status);
}

int mending_resume(int folder, const char *channel, const char *mending)
{
    char name[SEGMENT_NAME_SIZE];
    if (has_open_original(folder, mending))
        return unfinished_discard(folder, channel, mending,
                                  "an unfinished copy; the original is still there");
    int result = is_elsewhere(folder, channel, mending);
    if (result == -EBADMSG && has_sealed_original(folder, mending))
        result = 1;
    if (result > 0)
        return unfinished_discard(folder, channel, mending,
                                  "a copy whose records are all in another file");
    return result < 0 ? result : unfinished_finish_mending(folder, channel, mending, name);
}

/* "-2" and the like are the file's, not the segment's. */
static void drop_number(const char *channel, const char *open_name,
                        char ret_name[SEGMENT_NAME_SIZE])
{
    struct avro_log_name parts;
    int stem = (int)(strlen(open_name) - strlen(AVRO_LOG_OPEN_SUFFIX));
    if (avro_log_name_parse(open_name, channel, &parts) && parts.number > 1)
        stem = (int)(parts.utc - open_name) + AVRO_LOG_UTC_LENGTH;
    snprintf(ret_name, SEGMENT_NAME_SIZE, "%.*s" AVRO_LOG_OPEN_SUFFIX, stem, open_name);
}

/* Under the original's name, or under the one that this should have had. */
static bool is_copy_of(int folder, const char *channel, const char *mending, const char *open_name)
{
    char begun_name[SEGMENT_NAME_SIZE], copied[SEGMENT_NAME_SIZE];
    if (!avro_log_name_ends_in(mending, AVRO_LOG_MENDING_SUFFIX) ||
        has_open_original(folder, mending) ||
        unfinished_name_of_copy(folder, channel, mending, copied) < 0)
        return false;
    drop_number(channel, open_name, begun_name);
    return strcmp(copied, open_name) == 0 || strcmp(copied, begun_name) == 0;
}

int mending_finish_copy_of(int folder, const char *channel, const char *open_name,
                           char ret_name[SEGMENT_NAME_SIZE])
{
    struct folder_list list;
    int result = folder_list(folder, channel, &list);
    bool found = false;
    for (size_t i = 0; i < list.count && result == 0 && !found; i++) {
        found = is_copy_of(folder, channel, list.files[i].name, open_name);
        if (found)
            result = unfinished_finish_mending(folder, channel, list.files[i].name, ret_name);
    }
    folder_list_free(&list);
    if (result < 0 || !found)
        return result;
    log_notice("channel %s: %s has the sound records of %.*s" AVRO_LOG_DAMAGED_SUFFIX
               ", which an archive before this one had copied",
               channel, ret_name, (int)(strlen(open_name) - strlen(AVRO_LOG_OPEN_SUFFIX)),
               open_name);
    return 1;
}
