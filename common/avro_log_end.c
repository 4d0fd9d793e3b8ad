/* SPDX-License-Identifier: MIT */
/* Looks at the ends of log files, which may be gigabytes long, and of which most may never have
 * been written. Used by the archive and by holdfastctl. What is answered from a part of a file must
 * never differ from what a scan of all of it would say. */
#include "common/avro_log_end.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/avro_log_window.h"

int avro_log_is_blank(int fd)
{
    uint8_t buffer[16 * 1024];
    for (off_t at = 0;;) {
        off_t data = lseek(fd, at, SEEK_DATA); /* skips what was preallocated and never written */
        if (data < 0 && errno == ENXIO)
            return 1;
        at = data > at ? data : at;
        ssize_t n = pread(fd, buffer, sizeof buffer, at);
        if (n <= 0)
            return n < 0 ? -errno : 1;
        for (ssize_t i = 0; i < n; i++)
            if (buffer[i])
                return 0;
        at += n;
    }
}

/* ---- the last block ---- */

static bool sync_is_at(struct avro_log_window *window, uint64_t offset, const uint8_t *sync)
{
    size_t size;
    const uint8_t *bytes = avro_log_window_view(window, offset, AVRO_LOG_SYNC_SIZE, &size);
    return size >= AVRO_LOG_SYNC_SIZE && memcmp(bytes, sync, AVRO_LOG_SYNC_SIZE) == 0;
}

/* Where the last block but one begins, behind a sync marker: what the last one is worth shows only
 * beside another. The last one's place where there is no other; 0 if that can't be told from the
 * file's end. */
static uint64_t find_last_blocks(struct avro_log_window *window, uint64_t header_size,
                                 const uint8_t *sync)
{
    uint64_t from = window->file_size > window->size ? window->file_size - window->size : 0;
    if (from < header_size - AVRO_LOG_SYNC_SIZE)
        from = header_size - AVRO_LOG_SYNC_SIZE;
    uint64_t last = 0, before = 0, next = from;
    if (window->file_size < header_size + AVRO_LOG_SYNC_SIZE ||
        !sync_is_at(window, window->file_size - AVRO_LOG_SYNC_SIZE, sync))
        return 0;
    while ((next = avro_log_window_find(window, next, sync, AVRO_LOG_SYNC_SIZE)) <
           window->file_size) {
        before = last;
        last = next;
    }
    return window->error ? 0 : before > 0 ? before : last;
}

/* The same by a descriptor. 0 also when something fails: all of it is read then, and tells. */
static uint64_t last_blocks_of(int fd)
{
    struct avro_log_identity identity;
    struct stat status;
    const char *what;
    long length = avro_log_load_header(fd, &identity, &what);
    if (length <= 0 || fstat(fd, &status) < 0)
        return 0;
    struct avro_log_window window = {.fd = fd, .file_size = (uint64_t)status.st_size};
    if (!avro_log_window_open(&window))
        return 0;
    uint64_t block = find_last_blocks(&window, (uint64_t)length, identity.sync);
    avro_log_window_close(&window);
    return block;
}

int avro_log_look_at_end(int fd, struct avro_log_summary *ret)
{
    struct avro_log_scan_options options = {.seq_end = UINT64_MAX,
                                            .from_block = last_blocks_of(fd)};
    int result = options.from_block > 0 ? avro_log_scan(fd, &options, NULL, ret) : 0;
    if (options.from_block > 0 && result == 0 && ret->records > 0 && ret->faults == 0)
        return 0;
    options.from_block = 0;
    return avro_log_scan(fd, &options, NULL, ret);
}
