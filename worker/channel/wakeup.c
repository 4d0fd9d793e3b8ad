/* SPDX-License-Identifier: MIT */
/* An event count on a futex(2), private to the worker. The receiver pays one fence and one load per
 * batch; a system call only when somebody sleeps. Must never lose a wake-up: both sides store first
 * and look at the other's word after a full fence. */
#include "worker/channel/wakeup.h"

#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/monotonic.h"

void wakeup_wait(struct wakeup *wakeup, uint32_t ticket, const _Atomic uint64_t *cursor,
                 uint64_t at, uint64_t timeout_ns)
{
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / NS_PER_S),
                               .tv_nsec = (long)(timeout_ns % NS_PER_S)};

    atomic_store_explicit(&wakeup->wake_at, at, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(cursor, memory_order_relaxed) < at)
        syscall(SYS_futex, &wakeup->ticket, FUTEX_WAIT_PRIVATE, ticket,
                timeout_ns ? &timeout : NULL, NULL, 0);
    atomic_store_explicit(&wakeup->wake_at, WAKEUP_NEVER, memory_order_relaxed);
}

void wakeup_reached(struct wakeup *wakeup, uint64_t cursor)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (cursor >= atomic_load_explicit(&wakeup->wake_at, memory_order_relaxed))
        wakeup_now(wakeup);
}

void wakeup_now(struct wakeup *wakeup)
{
    atomic_store_explicit(&wakeup->wake_at, WAKEUP_NEVER, memory_order_relaxed);
    atomic_fetch_add_explicit(&wakeup->ticket, 1, memory_order_release);
    syscall(SYS_futex, &wakeup->ticket, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
