/* SPDX-License-Identifier: MIT */
/* The ordinary way: encode APPEND_STEP records into a buffer, and hand it over with one write. */
#include <unistd.h>

#include "common/fd.h"
#include "tests/bench/append_blocks.h"
#include "tests/bench/support.h"

static void run(struct append_job *job)
{
    static uint8_t piece[APPEND_BLOCKS_ROOM];
    uint64_t at;
    int fd = append_blocks_begin(job, &at);
    append_clock_begin(job);
    while (at + sizeof piece <= job->size) {
        size_t size = append_blocks_next(job, piece);
        support_check(fd_write_all(fd, piece, size, at), "write");
        at += size;
        if (append_clock_over(job))
            break;
    }
    append_clock_end(job);
    append_blocks_end(job, &fd, at);
}

const struct append_backend append_write = {"write", "Avro log through write()", false, run, NULL};
