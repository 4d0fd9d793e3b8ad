/* SPDX-License-Identifier: MIT */
/* The gate's few threads for whatever may wait for a disk. */
#ifndef HOLDFAST_WORKER_GATE_POOL_H
#define HOLDFAST_WORKER_GATE_POOL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/monotonic.h"

#define GATE_POOL_JOBS_MAX 8192 /* that wait for a thread, where nothing else is said */

/* Part of what is to be done. It is the pool's from submit until it is returned by
 * gate_pool_take(). */
struct gate_job {
    struct gate_job *next;
    void (*run)(struct gate_job *job); /* in a thread of the pool */
    /* How many jobs of the same place are being run now; the pool's. A place never has all threads:
     * when its disk is dead, the others go on. NULL = it may have them. */
    unsigned *place_busy;
    uint64_t turn; /* the pool's: those with lower ones go first */
    bool silent;   /* is never returned: run() has freed it */
    /* The pool's. ns 0: no thread has begun with it. */
    monotonic submitted, begun;
};

struct gate_pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct gate_job *first; /* by turn, and of one turn as they came */
    uint64_t turn;          /* the highest that was begun */
    unsigned closing_busy;  /* the place of what only closes files */
    struct gate_job *done, **done_end;
    size_t count;      /* that wait for a thread */
    size_t most;       /* so many may; the main loop's */
    size_t count_most; /* there were at one time */
    unsigned threads, busy;
    int bell; /* eventfd: something is done */
};

/* Starts the threads; 0 of them: as many as suit the machine. 0 or -errno. */
int gate_pool_open(struct gate_pool *pool, unsigned threads);

/* *turn is the memory of whoever wants it, zero at first: one who wants much waits behind himself,
 * not before others. NULL: nobody's. false: too many wait already; the job stays the caller's.
 * Silent ones are always taken. */
bool gate_pool_submit(struct gate_pool *pool, struct gate_job *job, uint64_t *turn);

/* How it is just now; one that is used by nobody yet is all zeros. */
struct gate_pool_look {
    size_t queued, queued_most;
    unsigned threads, busy;
};
void gate_pool_look(struct gate_pool *pool, struct gate_pool_look *ret);

/* Nobody waits for it any more: it comes back soon, and is not run unless that has begun. */
void gate_pool_forsake(struct gate_pool *pool, struct gate_job *job);

/* What is done, or was not wanted any more: a list in `next`, NULL = nothing. Clears the bell. */
struct gate_job *gate_pool_take(struct gate_pool *pool);

/* Close a descriptor of a file there, where closing may wait for a disk. Takes it over. */
void gate_pool_close_fd(struct gate_pool *pool, int *fd);

#endif
