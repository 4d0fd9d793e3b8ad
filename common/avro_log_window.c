/* SPDX-License-Identifier: MIT */
/* The window of avro_log_scan.c. Every length is held against what is in memory; a walk that goes
 * forward in small steps must never have the same bytes read again and again. */
#include "common/avro_log_window.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE     ((uint64_t)64 * 1024)
#define DISK_PAGE 4096 /* what a disk can't read, it can't read as a whole */

bool avro_log_window_open(struct avro_log_window *window)
{
    window->size = window->file_size < AVRO_LOG_WINDOW_MAX ? (size_t)window->file_size + 1
                                                           : AVRO_LOG_WINDOW_MAX;
    window->bytes = malloc(window->size);
    return window->bytes != NULL;
}

void avro_log_window_close(struct avro_log_window *window)
{
    free(window->bytes);
    window->bytes = NULL;
}

/* The page at the window's end can't be read: zeros stand for it. */
static void pass_over(struct avro_log_window *window)
{
    uint64_t at = window->offset + window->length;
    uint64_t page_end = at / DISK_PAGE * DISK_PAGE + DISK_PAGE;
    uint64_t end = page_end < window->file_size ? page_end : window->file_size;
    uint64_t room = window->size - window->length;
    size_t length = (size_t)(end - at < room ? end - at : room);
    memset(window->bytes + window->length, 0, length);
    if (window->unreadable++ == 0)
        window->unreadable_offset = at;
    window->length += length;
}

/* Read on behind what is in the window, until it is full. */
static void fill(struct avro_log_window *window)
{
    while (window->length < window->size && window->offset + window->length < window->file_size) {
        ssize_t n = pread(window->fd, window->bytes + window->length, window->size - window->length,
                          (off_t)(window->offset + window->length));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EIO && window->skip_unreadable) {
            pass_over(window);
            continue;
        }
        if (n < 0)
            window->error = -errno;
        if (n <= 0) { /* 0: the file has become shorter under us */
            window->file_size = window->offset + window->length;
            break;
        }
        window->bytes_read += (uint64_t)n;
        window->length += (size_t)n;
    }
}

const uint8_t *avro_log_window_view(struct avro_log_window *window, uint64_t offset, uint64_t want,
                                    size_t *ret_size)
{
    if (offset > window->file_size)
        offset = window->file_size;
    if (want > window->file_size - offset)
        want = window->file_size - offset;
    if (want > window->size)
        want = window->size;
    uint64_t window_end = window->offset + window->length;
    if (offset < window->offset || offset + want > window_end) {
        size_t kept =
            offset >= window->offset && offset < window_end ? (size_t)(window_end - offset) : 0;
        memmove(window->bytes, window->bytes + window->length - kept, kept);
        window->offset = offset;
        window->length = kept;
        fill(window);
        window_end = window->offset + window->length;
    }
    if (offset > window->file_size)
        offset = window->file_size; /* it has become shorter */
    uint64_t size = window_end > offset ? window_end - offset : 0;
    if (size > window->file_size - offset)
        size = window->file_size - offset;
    *ret_size = (size_t)size;
    return window->bytes + (size > 0 ? offset - window->offset : 0);
}

bool avro_log_window_has(struct avro_log_window *window, uint64_t offset, const uint8_t *bytes,
                         size_t size)
{
    size_t available;
    const uint8_t *there = avro_log_window_view(window, offset, size, &available);
    return available >= size && memcmp(there, bytes, size) == 0;
}

size_t avro_log_window_read_again(const struct avro_log_window *window, uint64_t offset,
                                  uint8_t *to, size_t size)
{
    if (offset >= window->file_size)
        return 0;
    if (size > window->file_size - offset)
        size = (size_t)(window->file_size - offset);
    ssize_t n = pread(window->fd, to, size, (off_t)offset);
    return n > 0 ? (size_t)n : 0;
}

void avro_log_window_forget(struct avro_log_window *window)
{
    window->length = 0;
}

uint64_t avro_log_window_find(struct avro_log_window *window, uint64_t from, const uint8_t *bytes,
                              size_t size)
{
    while (window->error == 0 && from + size <= window->file_size) {
        uint64_t window_end = window->offset + window->length;
        if (from < window->offset || from + size > window_end) {
            off_t data = lseek(window->fd, (off_t)from, SEEK_DATA);
            if (data < 0 && errno == ENXIO)
                break; /* a preallocated tail may be most of the file */
            /* Unwritten space begins at whole pages; a marker has no reason to respect these. */
            if (data > (off_t)from && (uint64_t)data - from >= size)
                from = (uint64_t)data - (size - 1);
        }
        size_t length;
        const uint8_t *view = avro_log_window_view(window, from, size, &length);
        if (length < size)
            break;
        const uint8_t *hit = memmem(view, length, bytes, size);
        if (hit)
            return from + (uint64_t)(hit - view) + size;
        from += length - (size - 1);
    }
    return window->file_size;
}

/* ---- the last byte that isn't zero ---- */

/* A file system that can't tell has data everywhere. */
static bool is_hole(int fd, uint64_t from, uint64_t end)
{
    off_t data = lseek(fd, (off_t)from, SEEK_DATA);
    return data < 0 ? errno == ENXIO : (uint64_t)data >= end;
}

/* How much before `end`, which the caller has found to be written to or not to be known, is a hole:
 * in steps that grow, so that a hole of terabytes takes as many calls as it has binary digits. */
static uint64_t skip_hole(int fd, uint64_t end)
{
    uint64_t step = PIECE;
    while (end > 0) {
        uint64_t from = end > step ? end - step : 0;
        if (is_hole(fd, from, end)) {
            end = from;
            step *= 2;
        } else if (step > PIECE) {
            step /= 2;
        } else {
            break;
        }
    }
    return end;
}

/* Much faster than byte by byte: memory that was allocated, and prefaulted, is no hole. */
static bool is_zero(const uint8_t *bytes, size_t size)
{
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

int avro_log_window_extent(int fd, uint64_t *ret_extent)
{
    uint8_t bytes[PIECE];
    struct stat status;
    *ret_extent = 0;
    if (fstat(fd, &status) < 0)
        return -errno;
    for (uint64_t end = skip_hole(fd, (uint64_t)status.st_size); end > 0;) {
        size_t piece = end < sizeof bytes ? (size_t)end : sizeof bytes;
        ssize_t n = pread(fd, bytes, piece, (off_t)(end - piece));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (!is_zero(bytes, (size_t)n)) {
            for (size_t i = (size_t)n; *ret_extent == 0; i--)
                if (bytes[i - 1] != 0)
                    *ret_extent = end - piece + i;
            return 0;
        }
        end = skip_hole(fd, end - piece);
    }
    return 0;
}
