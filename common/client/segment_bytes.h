/* SPDX-License-Identifier: MIT */
/* A segment file seen through memory of our own, for a walk forward that reads each byte once. */
#ifndef HOLDFAST_COMMON_CLIENT_SEGMENT_BYTES_H
#define HOLDFAST_COMMON_CLIENT_SEGMENT_BYTES_H

#include <stddef.h>
#include <stdint.h>

/* Holds the longest block, and some blocks as the recorder writes them. Measured in the page
 * cache: 144 KiB to 512 KiB make no difference. */
#define SEGMENT_BYTES_SIZE ((size_t)256 * 1024)

struct segment_bytes {
    int fd;
    uint64_t end; /* nothing is read from here on */
    uint64_t offset;
    size_t length;
    int error; /* -errno of the last read that failed, or 0 */
    uint8_t *bytes;
};

/* Bytes at offset: *ret_size of them, at least `want` (at most SEGMENT_BYTES_SIZE) unless `end` or
 * the file's end comes before, or the disk can't read them. Valid until the next call. */
const uint8_t *segment_bytes_view(struct segment_bytes *bytes, uint64_t offset, uint64_t want,
                                  size_t *ret_size);
/* [offset, end) when all of it is in memory, else NULL. */
static inline const uint8_t *segment_bytes_held(const struct segment_bytes *bytes, uint64_t offset,
                                                uint64_t end)
{
    if (offset < bytes->offset || end > bytes->offset + bytes->length || end > bytes->end)
        return NULL;
    return bytes->bytes + (offset - bytes->offset);
}
/* [offset, offset + size) was read while it was still being written to: read it again. */
void segment_bytes_refresh(struct segment_bytes *bytes, uint64_t offset, size_t size);

/* So many bytes at offset, past the memory; fewer at the file's end. Or -errno. */
long segment_bytes_read(int fd, uint64_t offset, uint8_t *to, size_t size);

#endif
