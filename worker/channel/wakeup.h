/* SPDX-License-Identifier: MIT */
/* How a thread sleeps until another one's cursor has come far enough: recorder and decimator behind
 * the relay's, the syncer and a receiver without space behind the recorder's. It is woken only when
 * it sleeps, and only when what it waits for is there. */
#ifndef HOLDFAST_WORKER_CHANNEL_WAKEUP_H
#define HOLDFAST_WORKER_CHANNEL_WAKEUP_H

#include <stdatomic.h>
#include <stdint.h>

#define WAKEUP_NEVER UINT64_MAX

struct wakeup {
    _Alignas(64) _Atomic uint64_t
        wake_at;             /* the sleep ends when the cursor has come here; NEVER = awake */
    _Atomic uint32_t ticket; /* futex word, counts wake-ups */
};

/* To be taken before looking whether there is something to do: a wakeup_now() after it ends the
 * next sleep at once. */
static inline uint32_t wakeup_ticket(struct wakeup *wakeup)
{
    return atomic_load_explicit(&wakeup->ticket, memory_order_acquire);
}

/* Sleep until `*cursor >= at`, a wakeup_now() since the ticket was taken, or timeout_ns (0 = no
 * limit). May also return for no reason. */
void wakeup_wait(struct wakeup *wakeup, uint32_t ticket, const _Atomic uint64_t *cursor,
                 uint64_t at, uint64_t timeout_ns);

/* From the thread that moves the cursor, after it stored it: wakes the sleeper if that is what it
 * waits for. */
void wakeup_reached(struct wakeup *wakeup, uint64_t cursor);

/* For any other reason: a stop, a new segment. */
void wakeup_now(struct wakeup *wakeup);

#endif
