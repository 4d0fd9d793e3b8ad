/* SPDX-License-Identifier: MIT */
/* The look at a worker's beats: a process of its own is the worker, its page is the test's. */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/channel_page.h"
#include "supervisor/channel/channel.h"
#include "supervisor/channel/channel_hang.h"
#include "supervisor/child/child.h"
#include "supervisor/config/settings.h"
#include "tests/lib/unit.h"

static struct settings settings = {.hang_timeout_ns = 4 * NS_PER_S};
static struct channel_host host = {.settings = &settings};
static struct channel_spec spec = {.name = "engine"};
static struct child worker;
static struct channel channel;

static void beat(enum channel_thread thread, uint32_t state, monotonic at)
{
    struct thread_beat *it = &channel.hold.page->private.beats[thread];
    atomic_store(&it->state, state);
    atomic_store(&it->beat_ns, at.ns);
    atomic_store(&it->thread_id, (uint32_t)worker.pid);
}

/* The control thread, which beats for the parked receiver, waited for a disk (as a page fault
 * does), which has just answered. */
START_TEST(whoever_beats_for_others_has_time_to_go_on_too)
{
    const monotonic began = monotonic_now();
    channel.hold.page = calloc(1, sizeof *channel.hold.page);
    channel.host = &host;
    channel.spec = &spec;
    worker.pid = unit_fork();
    if (worker.pid == 0) {
        pause();
        _exit(0);
    }
    channel.lent.worker = &worker;
    channel.lent.ready = true;
    beat(CHANNEL_THREAD_CONTROL, THREAD_DISK, began);
    beat(CHANNEL_THREAD_RECEIVER, THREAD_PARKED, began);
    channel_hang_look(&channel, monotonic_add(began, 5 * NS_PER_S));
    ck_assert(!channel.hang.aborted);
    beat(CHANNEL_THREAD_CONTROL, THREAD_BUSY, began); /* released, and not yet at its beat */
    channel_hang_look(&channel, monotonic_add(began, 5 * NS_PER_S + 100 * NS_PER_MS));
    bool aborted = channel.hang.aborted;
    kill(worker.pid, SIGKILL);
    waitpid(worker.pid, NULL, 0);
    ck_assert_msg(!aborted, "the %s was aborted", channel.hang.thread);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("channel_hang");
    TCase *part = tcase_create("hang");
    tcase_add_test(part, whoever_beats_for_others_has_time_to_go_on_too);
    suite_add_tcase(suite, part);
    return unit_run(suite);
}
