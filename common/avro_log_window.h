/* SPDX-License-Identifier: MIT */
/* A log file seen through a window of our own memory: files may be damaged in any way, and may
 * shrink meanwhile. For a walk forward: each byte is read once, whatever the walk's steps are. */
#ifndef HOLDFAST_COMMON_AVRO_LOG_WINDOW_H
#define HOLDFAST_COMMON_AVRO_LOG_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AVRO_LOG_WINDOW_MAX (1024 * 1024) /* holds a block of the recorder several times over */

struct avro_log_window {
    int fd;
    uint64_t file_size;   /* becomes less when the file does */
    bool skip_unreadable; /* a page that the disk can't read is zeros, and counted */
    uint64_t unreadable, unreadable_offset; /* pages, and where the first one is */
    uint64_t bytes_read;
    int error; /* -errno of a read; then the file ends there */
    uint8_t *bytes;
    size_t size; /* at most the file's */
    uint64_t offset;
    size_t length;
};

/* fd, file_size and skip_unreadable are set. False: no memory. */
bool avro_log_window_open(struct avro_log_window *window);
void avro_log_window_close(struct avro_log_window *window);

/* Are these bytes there? */
bool avro_log_window_has(struct avro_log_window *window, uint64_t offset, const uint8_t *bytes,
                         size_t size);

/* Bytes at offset: *ret_size of them, at least `want` (at most AVRO_LOG_WINDOW_MAX) unless the file
 * ends before. Valid until the next call. */
const uint8_t *avro_log_window_view(struct avro_log_window *window, uint64_t offset, uint64_t want,
                                    size_t *ret_size);

/* What the file has there now, beside what is in view, which stays as it was read. Returns how many
 * bytes. */
size_t avro_log_window_read_again(const struct avro_log_window *window, uint64_t offset,
                                  uint8_t *to, size_t size);
/* The same for what is in view. */
void avro_log_window_forget(struct avro_log_window *window);

/* The offset behind the next place at or after `from` where these bytes are, or the file's end.
 * What was never written is not read. */
uint64_t avro_log_window_find(struct avro_log_window *window, uint64_t from, const uint8_t *bytes,
                              size_t size);

/* Where the zeros at a file's end begin. Holes are not read. 0 or -errno. */
int avro_log_window_extent(int fd, uint64_t *ret_extent);

#endif
