/* SPDX-License-Identifier: MIT */
/* Wakes readers of the ring. The receiver does it itself, which costs it one write to an eventfd
 * that never waits; readers that sleep after every datagram can ask that of it ten thousand times a
 * second, in bursts of sixteen, whatever the rate. A channel that does not record has a thread for
 * what comes sooner: it sleeps until the receiver calls it. Must never keep a datagram waiting, nor
 * the worker from running. */
#include "worker/channel/reading.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/monotonic.h"
#include "common/ring.h"
#include "worker/channel/thread.h"
#include "worker/last_words.h"

#define PAUSE_NS (100 * NS_PER_US)
#define BURST    16

void reading_open(struct channel_state *channel)
{
    const struct inheritance *inheritance = channel->inheritance;
    struct channel_reading *reading = &channel->reading;
    const uint64_t one = 1;
    if (inheritance->wake < 0)
        return;
    void *words =
        mmap(NULL, READ_WAKE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, inheritance->wake, 0);
    if (words == MAP_FAILED) {
        log_error("mapping what readers are woken by: %s; they are not woken", strerror(errno));
        return;
    }
    reading->word = (struct read_wake_word *)words + inheritance->assign.wake_index;
    reading->bell = inheritance->bell;
    reading->has_thread = !channel->spec->record.enabled;
    ssize_t written = write(reading->bell, &one, sizeof one);
    (void)written; /* EAGAIN: it is about to be woken anyway */
}

void reading_look(struct channel_state *channel)
{
    struct channel_reading *reading = &channel->reading;
    uint64_t published = ring_published(&channel->ring);
    if (published == reading->looked_at)
        return;
    reading->looked_at = published;
    read_wake_ring(reading->word, reading->bell, READ_WAKE_ANY);
}

/* The thread is called once, until it has looked. */
void reading_wake(struct channel_state *channel)
{
    struct channel_reading *reading = &channel->reading;
    monotonic now = monotonic_now();
    if (reading->rung_until.ns <= now.ns + (BURST - 1) * PAUSE_NS) {
        const monotonic from = reading->rung_until.ns > now.ns ? reading->rung_until : now;
        reading->rung_until = monotonic_add(from, PAUSE_NS);
        read_wake_ring(reading->word, reading->bell, READ_WAKE_PUBLISHED);
    } else if (reading->has_thread &&
               atomic_load_explicit(&reading->called, memory_order_relaxed) == 0) {
        atomic_store_explicit(&reading->called, 1, memory_order_release);
        syscall(SYS_futex, &reading->called, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

static void wait_for_call(struct channel_reading *reading)
{
    while (atomic_load_explicit(&reading->called, memory_order_acquire) == 0)
        syscall(SYS_futex, &reading->called, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

/* Its deaths are the control thread's: no datagram is to blame. For the same reason nobody asks it
 * for signs of life. */
void *reading_main(void *argument)
{
    struct channel_state *channel = argument;
    struct channel_reading *reading = &channel->reading;
    const struct timespec pause = {.tv_nsec = (long)PAUSE_NS};
    last_words_thread(CHANNEL_THREAD_CONTROL);
    pthread_setname_np(pthread_self(), "reading");
    thread_schedule_behind();
    for (;;) {
        wait_for_call(reading);
        nanosleep(&pause, NULL);
        /* From here on the receiver calls again. Whose datagram came before this and was not called
         * for has armed the word, or sees it when it does. */
        atomic_store(&reading->called, 0);
        read_wake_ring(reading->word, reading->bell, READ_WAKE_PUBLISHED);
    }
    return NULL;
}
