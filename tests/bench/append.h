/* SPDX-License-Identifier: MIT */
/* One record per datagram into a file, by different means; each means is one backend of
 * bench_append.
 *
 * All of them store the same fields, the same CRC, and make what they wrote visible to readers
 * every APPEND_STEP records. None of them syncs: writeback is the kernel's in every one. */
#ifndef HOLDFAST_TESTS_BENCH_APPEND_H
#define HOLDFAST_TESTS_BENCH_APPEND_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/avro_log_format.h"
#include "tests/bench/counts.h"

#define APPEND_STEP        256 /* as many as the recorder commits at once */
#define APPEND_READERS_MAX 16
#define APPEND_PAYLOAD_MAX 4096

struct append_job {
    const char *path; /* a file or folder that does not exist yet; the backend leaves it behind */
    uint64_t size;    /* bytes of file to fill at most */
    uint64_t deadline_ns; /* for the writer, once its clock runs */
    uint32_t payload;
    uint32_t readers;
    int writer_cpu;

    /* results */
    uint64_t records;
    uint64_t bytes; /* of the file that hold records */
    uint64_t ns;    /* the writer's, by the clock */
    uint64_t cpu_ns;
    struct counts counts; /* the writer's */
    uint64_t reader_records[APPEND_READERS_MAX];
    _Atomic bool done; /* tells readers to leave */
};

struct append_backend {
    const char *name;
    const char *what;
    bool live_readers;                   /* can readers follow the writer? */
    void (*run)(struct append_job *job); /* NULL: its library was not there */
    const char *(*why_not)(void); /* why this kernel can't; NULL: it can. May be NULL itself */
};

extern const struct append_backend append_memcpy, append_map, append_map_ahead, append_write,
    append_uring, append_avro, append_lmdb, append_sqlite;

/* Once, before any backend runs. */
void append_prepare(void);

/* ---- for the backends ---- */

/* The next datagram as a record: numbers that grow, one of many payloads, source and time as they
 * come in practice. Its CRC is left out. */
void append_fill(const struct append_job *job, uint64_t seq, struct avro_log_record *ret);

/* Readers: `follow` runs in job->readers threads until job->done, and counts into *count. */
struct append_reader {
    struct append_job *job;
    void *context;
    uint64_t *count;
    void (*follow)(struct append_reader *reader);
    pthread_t thread;
};
void append_readers_start(struct append_job *job, void (*follow)(struct append_reader *reader),
                          void *context);
/* Tell them to leave, and wait for them. */
void append_readers_stop(struct append_job *job);
/* A reader that has nothing to read now. */
void append_reader_rest(void);

/* The writer's clock: begin on the writer's thread when everything is prepared; ask every
 * APPEND_STEP records. */
void append_clock_begin(struct append_job *job);
bool append_clock_over(const struct append_job *job);
void append_clock_end(struct append_job *job);

#endif
