/* SPDX-License-Identifier: MIT */
/* Headers of a channel's segments: which recording they are part of, what they hold. Called by
 * recovery.c and segments.c. Reads other segments, and only writes to the one it is given. */
#include "worker/archive/segment_header.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/avro_log_end.h"
#include "common/avro_log_header.h"
#include "common/avro_log_name.h"
#include "common/avro_log_summary.h"
#include "common/fd.h"
#include "common/monotonic.h"
#include "worker/archive/contents.h"
#include "worker/archive/folder.h"

/* Files of an older version say nothing, and there may be thousands of them on a slow disk. */
#define LOOKED_AT_MOST 16

/* Is it a segment that is begun (sealed or not)? */
static bool is_segment(const char *name, const char *channel, struct avro_log_name *ret)
{
    return avro_log_name_parse(name, channel, ret) &&
           (avro_log_name_ends_in(name, AVRO_LOG_SUFFIX) ||
            avro_log_name_ends_in(name, AVRO_LOG_OPEN_SUFFIX));
}

/* Its header; a file that can't be read is as good as one that says nothing. */
static bool read_header(int folder, const char *name, const char *channel,
                        struct avro_log_identity *ret)
{
    return contents_load_header(folder, name, ret) > 0 && strcmp(ret->channel, channel) == 0;
}

int segment_header_log_id(int folder, const char *channel, uint8_t ret[AVRO_LOG_ID_SIZE])
{
    struct avro_log_identity identity;
    struct avro_log_name parts;
    struct folder_list list;
    int result = folder_list(folder, channel, &list), looked = 0;
    for (size_t i = list.count; result == 0 && looked < LOOKED_AT_MOST && i-- > 0;) {
        const char *name = list.files[i].name;
        /* One that has just been begun may still bear the name of a prepared one. */
        if (!is_segment(name, channel, &parts) && !avro_log_name_is_prepared(name, channel))
            continue;
        looked++;
        if (read_header(folder, name, channel, &identity) &&
            avro_log_id_is_known(identity.log_id)) {
            memcpy(ret, identity.log_id, AVRO_LOG_ID_SIZE);
            result = 1;
        }
    }
    folder_list_free(&list);
    return result;
}

/* 0 = it doesn't say. */
static uint64_t latest_of(int folder, const char *channel, const char *name)
{
    struct avro_log_identity identity;
    if (!avro_log_name_ends_in(name, AVRO_LOG_SUFFIX))
        return contents_latest_ns(folder, name);
    return read_header(folder, name, channel, &identity) && identity.has_totals
               ? identity.totals.latest_ns
               : 0;
}

uint64_t segment_header_latest_before(int folder, const char *channel, uint64_t first_seq)
{
    struct avro_log_name parts;
    struct folder_list list;
    uint64_t latest = 0;
    bool said = false;
    int result = folder_list(folder, channel, &list), looked = 0;
    for (size_t i = list.count; result == 0 && !said && looked < LOOKED_AT_MOST && i-- > 0;) {
        const char *name = list.files[i].name;
        if (!is_segment(name, channel, &parts) || parts.first_seq >= first_seq)
            continue;
        looked++;
        uint64_t here = latest_of(folder, channel, name);
        latest = here > latest ? here : latest;
        /* An open one says nothing about what is before it. */
        said = here > 0 && avro_log_name_ends_in(name, AVRO_LOG_SUFFIX);
    }
    folder_list_free(&list);
    return latest;
}

int segment_header_finish(int folder, const char *channel, int fd,
                          const struct avro_log_summary *summary)
{
    struct avro_log_totals totals;
    if (summary->records == 0 || !summary->has_header)
        return 0;
    avro_log_totals_of(summary,
                       segment_header_latest_before(folder, channel, summary->identity.first_seq),
                       &totals);
    int result = avro_log_write_totals(fd, &totals);
    return result < 0 ? result : 0;
}

int segment_header_new_identity(int folder, struct avro_log_identity *identity)
{
    identity->created_ns = realtime_now_ns();
    segment_header_log_id(folder, identity->channel, identity->log_id);
    return getrandom(identity->sync, sizeof identity->sync, 0) == sizeof identity->sync ? 0 : -EIO;
}

int segment_header_begin(int fd, const struct avro_log_identity *identity)
{
    uint8_t header[AVRO_LOG_HEADER_MAX];
    return fd_write_all(fd, header, avro_log_write_header(header, identity), 0);
}

static bool holds_up_to(int folder, const char *name, uint64_t seq)
{
    struct avro_log_last last;
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    avro_log_find_last(fd, &last);
    fd_close(&fd);
    return last.found && last.seq >= seq;
}

bool segment_header_is_remembered(int folder, const char *channel, uint64_t first_seq, ino_t own)
{
    struct folder_list list;
    bool found = first_seq == 0;
    if (found || folder_list(folder, channel, &list) < 0)
        return found;
    for (size_t i = list.count; i-- > 0 && !found;) {
        const struct folder_file *other = &list.files[i];
        if (other->id == own || other->first_seq == UINT64_MAX)
            continue;
        found =
            other->first_seq >= first_seq || (avro_log_name_ends_in(other->name, AVRO_LOG_SUFFIX) &&
                                              holds_up_to(folder, other->name, first_seq - 1));
    }
    folder_list_free(&list);
    return found;
}
