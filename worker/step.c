/* SPDX-License-Identifier: MIT */
/* Test hooks; an empty file in ordinary builds. Called through REACHED() and TEST_PAYLOAD() by all
 * threads of a channel's worker, which may stop or die here. */
#include "worker/step.h"

#ifdef HOLDFAST_TEST_HOOKS

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void step_reached(struct channel_page *page, enum step step)
{
    uint32_t wanted = atomic_load_explicit(&page->private.test_step, memory_order_relaxed);
    if ((wanted & ~STEP_EXIT) != (uint32_t)step ||
        !atomic_compare_exchange_strong(&page->private.test_step, &wanted, 0))
        return;
    atomic_store(&page->private.test_stopped, step);
    if (wanted & STEP_EXIT)
        _exit(0);
    raise(SIGSTOP); /* the whole process: nobody goes on behind our back */
    for (;;)
        pause();
}

static void misbehave(const char *how, size_t length)
{
    static volatile int *volatile nowhere;
    if (length >= 5 && strncmp(how, "hang-", 5) == 0)
        for (volatile unsigned spin = 0;; spin++)
            ;
    if (length >= 5 && strncmp(how, "stop-", 5) == 0)
        raise(SIGSTOP);
    if (length >= 6 && strncmp(how, "abort-", 6) == 0)
        abort();
    if (length >= 5 && strncmp(how, "exit-", 5) == 0)
        _exit(0);
    if (length >= 7 && strncmp(how, "assert-", 7) == 0)
        assert(!"a datagram asked for this");
    *nowhere =
        0; /* a real fault, not raise(): with an address, and this function's own program counter */
}

void step_payload(enum consumer consumer, const uint8_t *payload, size_t length)
{
    static const char *const names[CONSUMER_COUNT] = {"relay:", "record:", "decimate:"};
    const char *wanted = getenv("HOLDFAST_TEST_CRASH");
    if (!wanted)
        return;
    const char *name = strstr(wanted, names[consumer]);
    if (!name)
        return;
    const char *text = name + strlen(names[consumer]);
    if (length >= strlen(text) && memcmp(payload, text, strlen(text)) == 0)
        misbehave(wanted, (size_t)(name - wanted));
}

#endif
