/* SPDX-License-Identifier: MIT */
/* Judges inherited segments by the commit slot and, where that does not tell, by the file's header.
 * Called by the recorder's thread, before its first round. Must never take for unused a
 * segment that, by the slot's numbers, holds records that were committed: one that is begun is
 * written over from its start. */
#include "worker/channel/recorder_inherit.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "worker/channel/segment.h"

static bool slot_tells(const struct commit_progress *committed, uint64_t id, uint64_t next_id)
{
    return id == committed->segment_id || (next_id && next_id == committed->segment_id);
}

enum inherited recorder_inherit_judge(const struct commit_progress *committed, uint64_t id,
                                      uint64_t next_id, const struct inherited_file *file)
{
    if (slot_tells(committed, id, next_id))
        return id == committed->segment_id ? INHERITED_CONTINUE : INHERITED_BEGUN_ALREADY;
    /* With records, its worker failed over it, or finished it, and died before that was heard. One
     * that was only just begun holds none: it begins with what is to be recorded next, or did when
     * a worker died over it whose successor then went on in the segment before. */
    return file->unreadable || (file->begun && !file->bare && file->first_seq < committed->next_seq)
               ? INHERITED_USED_UP
               : INHERITED_UNUSED;
}

/* A record is never all zeros, and a fresh file is nothing else. An open block's header may be
 * there already. */
static bool is_bare(int fd, long header_size)
{
    static const uint8_t zeros[AVRO_LOG_RECORD_LEAST];
    uint8_t record[AVRO_LOG_RECORD_LEAST];
    ssize_t length =
        pread(fd, record, sizeof record, (off_t)(header_size + AVRO_LOG_BLOCK_HEADER_SIZE));
    return length >= 0 && memcmp(record, zeros, (size_t)length) == 0;
}

enum inherited recorder_inherit_ask(const struct commit_progress *committed, uint64_t id,
                                    uint64_t next_id, int fd)
{
    struct avro_log_identity identity = {0};
    struct inherited_file file = {0};
    if (!slot_tells(committed, id, next_id)) {
        const char *what;
        long size = avro_log_load_header(fd, &identity, &what);
        file.unreadable = size < 0 && size != -EBADMSG;
        file.begun = size > 0;
        file.first_seq = identity.first_seq;
        file.bare = size > 0 && is_bare(fd, size);
    }
    return recorder_inherit_judge(committed, id, next_id, &file);
}

bool recorder_inherit_fits(const struct commit_progress *committed, const struct segment *segment)
{
    struct avro_log_identity identity;
    const char *what;
    long header_size = avro_log_load_header(segment->fd, &identity, &what);
    uint64_t least = committed->block_records /* of the open block */
                         ? AVRO_LOG_BLOCK_HEADER_SIZE + committed->block_records
                         : 0;
    return header_size > 0 && memcmp(identity.sync, segment->grant.sync, AVRO_LOG_SYNC_SIZE) == 0 &&
           committed->block_start >= (uint64_t)header_size &&
           committed->write_offset <= segment->grant.size &&
           committed->write_offset - committed->block_start >= least;
}
