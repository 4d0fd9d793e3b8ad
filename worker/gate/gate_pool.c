/* SPDX-License-Identifier: MIT */
/* A queue of jobs and a few threads that run them. The main loop submits and takes back; it
 * never waits for more than the lock, which nobody holds while he waits for anything else. Must
 * never let one dead disk have all threads, nor let the queue grow without end. */
#include "worker/gate/gate_pool.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/fd.h"
#include "worker/last_words.h"

#define THREADS_LEAST 2
#define THREADS_MOST  4

static bool may_run(const struct gate_pool *pool, const struct gate_job *job)
{
    return !job->place_busy || *job->place_busy < pool->threads - 1;
}

static struct gate_job *take_off(struct gate_pool *pool, struct gate_job **at)
{
    struct gate_job *job = *at;
    *at = job->next;
    job->next = NULL;
    pool->count--;
    return job;
}

/* NULL when there is none that may be run now. */
static struct gate_job *pick(struct gate_pool *pool)
{
    for (struct gate_job **at = &pool->first; *at; at = &(*at)->next) {
        struct gate_job *job = *at;
        if (!may_run(pool, job))
            continue;
        take_off(pool, at);
        if (job->turn > pool->turn)
            pool->turn = job->turn;
        return job;
    }
    return NULL;
}

static void hand_back(struct gate_pool *pool, struct gate_job *job)
{
    const uint64_t one = 1;
    bool was_empty = !pool->done;
    *pool->done_end = job;
    pool->done_end = &job->next;
    if (was_empty) {
        ssize_t written = write(pool->bell, &one, sizeof one);
        (void)written; /* EAGAIN: it rings already */
    }
}

static void *finder_main(void *argument)
{
    struct gate_pool *pool = argument;
    pthread_setname_np(pthread_self(), "finder");
    last_words_thread(CHANNEL_THREAD_CONTROL); /* a name is not said of the gate's threads */
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct gate_job *job = pick(pool);
        if (!job) {
            pthread_cond_wait(&pool->work, &pool->lock);
            continue;
        }
        bool silent = job->silent;
        unsigned *place_busy = job->place_busy;
        if (place_busy)
            ++*place_busy;
        pool->busy++;
        job->begun = monotonic_now();
        pthread_mutex_unlock(&pool->lock);
        job->run(job);
        pthread_mutex_lock(&pool->lock);
        pool->busy--;
        if (place_busy)
            --*place_busy;
        if (!silent)
            hand_back(pool, job);
    }
    return NULL;
}

/* Signals are the main thread's. */
static int start_thread(struct gate_pool *pool)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    int result = pthread_attr_init(&attributes);
    if (result != 0)
        return -result;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    result = pthread_create(&thread, &attributes, finder_main, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -result;
}

int gate_pool_open(struct gate_pool *pool, unsigned threads)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    *pool = (struct gate_pool){.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};
    pool->done_end = &pool->done;
    pool->most = GATE_POOL_JOBS_MAX;
    pool->threads = threads                      ? threads
                    : processors < THREADS_LEAST ? THREADS_LEAST
                    : processors > THREADS_MOST  ? THREADS_MOST
                                                 : (unsigned)processors;
    pool->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool->bell < 0)
        return -errno;
    int result = 0;
    for (unsigned i = 0; i < pool->threads && result == 0; i++)
        result = start_thread(pool);
    return result;
}

/* One turn behind what he wanted last, or behind what is being done if that is later. Where his
 * place is held up, what is done elsewhere says nothing: the first that waits there does. */
static void take_turn(struct gate_pool *pool, struct gate_job *job, uint64_t *turn)
{
    uint64_t begun = pool->turn;
    const struct gate_job *it = pool->first;
    while (it && it->place_busy != job->place_busy)
        it = it->next;
    if (it && it->turn <= begun)
        begun = it->turn - 1;
    job->turn = (turn && *turn > begun ? *turn : begun) + 1;
    if (turn)
        *turn = job->turn;
}

static void queue_up(struct gate_pool *pool, struct gate_job *job)
{
    struct gate_job **at = &pool->first;
    while (*at && (*at)->turn <= job->turn)
        at = &(*at)->next;
    job->next = *at;
    *at = job;
    job->submitted = monotonic_now();
    job->begun = (monotonic){0};
    if (++pool->count > pool->count_most)
        pool->count_most = pool->count;
}

bool gate_pool_submit(struct gate_pool *pool, struct gate_job *job, uint64_t *turn)
{
    pthread_mutex_lock(&pool->lock);
    bool room = job->silent || pool->count < pool->most;
    if (room) {
        take_turn(pool, job, turn);
        queue_up(pool, job);
        pthread_cond_signal(&pool->work);
    }
    pthread_mutex_unlock(&pool->lock);
    return room;
}

void gate_pool_look(struct gate_pool *pool, struct gate_pool_look *ret)
{
    pthread_mutex_lock(&pool->lock);
    *ret = (struct gate_pool_look){pool->count, pool->count_most, pool->threads, pool->busy};
    pthread_mutex_unlock(&pool->lock);
}

void gate_pool_forsake(struct gate_pool *pool, struct gate_job *job)
{
    pthread_mutex_lock(&pool->lock);
    struct gate_job **at = &pool->first;
    while (*at && *at != job)
        at = &(*at)->next;
    if (*at) /* no thread has begun with it; none need be free for it to leave the queue */
        hand_back(pool, take_off(pool, at));
    pthread_mutex_unlock(&pool->lock);
}

struct gate_job *gate_pool_take(struct gate_pool *pool)
{
    uint64_t count;
    pthread_mutex_lock(&pool->lock);
    ssize_t result = read(pool->bell, &count, sizeof count);
    (void)result; /* EAGAIN: it did not ring */
    struct gate_job *done = pool->done;
    pool->done = NULL;
    pool->done_end = &pool->done;
    pthread_mutex_unlock(&pool->lock);
    return done;
}

/* ---- closing ---- */

struct closing {
    struct gate_job job; /* first */
    int fd;
};

static void run_closing(struct gate_job *job)
{
    struct closing *closing = (struct closing *)job;
    fd_close(&closing->fd);
    free(closing);
}

void gate_pool_close_fd(struct gate_pool *pool, int *fd)
{
    struct closing *closing = *fd < 0 ? NULL : malloc(sizeof *closing);
    if (!closing) {
        fd_close(fd); /* better late than never */
        return;
    }
    *closing = (struct closing){
        .job = {.run = run_closing, .place_busy = &pool->closing_busy, .silent = true},
        .fd = fd_take(fd)};
    gate_pool_submit(pool, &closing->job, NULL);
}
