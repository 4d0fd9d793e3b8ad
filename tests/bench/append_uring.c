/* SPDX-License-Identifier: MIT */
/* io_uring: as append_write, but the kernel is handed a piece while the next ones are encoded; what
 * is in flight is a few pieces at most. Registered file and buffers. */
#include "tests/bench/append_blocks.h"
#include "tests/bench/support.h"

#if __has_include(<liburing.h>)
#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <string.h>

#define PIECES 4

static uint8_t pieces[PIECES][APPEND_BLOCKS_ROOM];
static size_t sizes[PIECES];

/* Wait for one to be written. Returns its place. */
static unsigned take_one(struct io_uring *uring)
{
    struct io_uring_cqe *done;
    int result = io_uring_wait_cqe(uring, &done);
    while (result == -EINTR)
        result = io_uring_wait_cqe(uring, &done);
    support_check(result, "io_uring_wait_cqe");
    unsigned place = (unsigned)(uintptr_t)io_uring_cqe_get_data(done);
    support_check(done->res, "io_uring write");
    if ((size_t)done->res != sizes[place])
        support_refuse("io_uring wrote a part only");
    io_uring_cqe_seen(uring, done);
    return place;
}

static void submit(struct io_uring *uring, unsigned place, uint64_t at)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(uring);
    if (!entry)
        support_refuse("io_uring has no entry left");
    io_uring_prep_write_fixed(entry, 0, pieces[place], (unsigned)sizes[place], at, (int)place);
    entry->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data(entry, (void *)(uintptr_t)place);
    int result = io_uring_submit(uring);
    support_check(result, "io_uring_submit");
}

static const char *why_not(void)
{
    static char why[96];
    struct io_uring uring;
    int result = io_uring_queue_init(PIECES, &uring, 0);
    if (result == 0) {
        io_uring_queue_exit(&uring);
        return NULL;
    }
    snprintf(why, sizeof why, "io_uring: %s (kernel.io_uring_disabled?)", strerror(-result));
    return why;
}

static void run(struct append_job *job)
{
    struct io_uring uring;
    struct iovec buffers[PIECES];
    uint64_t at;
    unsigned used = 0;
    support_check(io_uring_queue_init(PIECES, &uring, 0), "io_uring_queue_init");
    int fd = append_blocks_begin(job, &at);
    for (unsigned i = 0; i < PIECES; i++)
        buffers[i] = (struct iovec){pieces[i], sizeof pieces[i]};
    support_check(io_uring_register_files(&uring, &fd, 1), "io_uring_register_files");
    support_check(io_uring_register_buffers(&uring, buffers, PIECES), "io_uring_register_buffers");
    append_clock_begin(job);
    while (at + sizeof pieces[0] <= job->size) {
        unsigned place = used < PIECES ? used++ : take_one(&uring);
        sizes[place] = append_blocks_next(job, pieces[place]);
        submit(&uring, place, at);
        at += sizes[place];
        if (append_clock_over(job))
            break;
    }
    for (; used > 0; used--)
        take_one(&uring);
    append_clock_end(job);
    io_uring_queue_exit(&uring);
    append_blocks_end(job, &fd, at);
}

const struct append_backend append_uring = {"io_uring", "Avro log through io_uring", false, run,
                                            why_not};
#else
const struct append_backend append_uring = {"io_uring", "Avro log through io_uring", false, NULL,
                                            NULL};
#endif
