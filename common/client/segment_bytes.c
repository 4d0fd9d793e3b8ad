/* SPDX-License-Identifier: MIT */
/* Reads a segment ahead. Called by the walk through a segment alone. A file may shrink, or get a
 * hole, while it is read: then there are fewer bytes, or zeros. Must never give out a byte at or
 * behind `end`: what lies there isn't committed, and changes. */
#include "common/client/segment_bytes.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

long segment_bytes_read(int fd, uint64_t offset, uint8_t *to, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = pread(fd, to + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return done > 0 ? (long)done : -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (long)done;
}

static void fill(struct segment_bytes *bytes)
{
    uint64_t at = bytes->offset + bytes->length;
    uint64_t room = SEGMENT_BYTES_SIZE - bytes->length;
    if (at >= bytes->end)
        return;
    if (room > bytes->end - at)
        room = bytes->end - at;
    long length = segment_bytes_read(bytes->fd, at, bytes->bytes + bytes->length, (size_t)room);
    bytes->error = length < 0 ? (int)length : 0;
    bytes->length += length > 0 ? (size_t)length : 0;
}

const uint8_t *segment_bytes_view(struct segment_bytes *bytes, uint64_t offset, uint64_t want,
                                  size_t *ret_size)
{
    *ret_size = 0;
    if (offset >= bytes->end)
        return bytes->bytes;
    if (want > bytes->end - offset)
        want = bytes->end - offset;
    uint64_t held_end = bytes->offset + bytes->length;
    if (offset < bytes->offset || offset + want > held_end) {
        size_t kept =
            offset >= bytes->offset && offset < held_end ? (size_t)(held_end - offset) : 0;
        memmove(bytes->bytes, bytes->bytes + bytes->length - kept, kept);
        bytes->offset = offset;
        bytes->length = kept;
        fill(bytes);
        held_end = bytes->offset + bytes->length;
    }
    if (held_end > bytes->end)
        held_end = bytes->end; /* the file has become shorter */
    *ret_size = held_end > offset ? (size_t)(held_end - offset) : 0;
    return bytes->bytes + (offset - bytes->offset);
}

void segment_bytes_refresh(struct segment_bytes *bytes, uint64_t offset, size_t size)
{
    uint64_t held_end = bytes->offset + bytes->length;
    if (offset + size <= bytes->offset || offset >= held_end)
        return;
    if (offset >= bytes->offset && offset + size <= held_end &&
        segment_bytes_read(bytes->fd, offset, bytes->bytes + (offset - bytes->offset), size) ==
            (long)size)
        return;
    bytes->length = 0;
}
