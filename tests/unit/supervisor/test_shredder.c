/* SPDX-License-Identifier: MIT */
/* Large memory files are let go of. The story: it is done bit by bit while nobody else has anything
 * to do, and also while somebody has, without a pause, who then still gets turns between. */
#include <check.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/monotonic.h"
#include "supervisor/control/control_client.h"
#include "supervisor/system/shredder.h"
#include "tests/lib/unit.h"

#define SIZE        (256ll << 20)
#define DEADLINE_NS (30 * NS_PER_S)

static int make_file(void)
{
    int fd = memfd_create("ring", MFD_CLOEXEC);
    ck_assert(fd >= 0 && ftruncate(fd, SIZE) == 0);
    return fd;
}

static void run_until_gone(sd_event *event, const struct shredder *shredder)
{
    monotonic began = monotonic_now();
    while (shredder->first && monotonic_since(monotonic_now(), began) < DEADLINE_NS)
        ck_assert(sd_event_run(event, 10000) >= 0);
    ck_assert_msg(!shredder->first, "a file that nobody needs was still there");
}

static int on_turn(sd_event_source *source, void *userdata)
{
    unsigned *turns = userdata;
    (void)source;
    ++*turns;
    return 0;
}

static void ask_without_a_pause(sd_event *event, sd_event_source **ret, unsigned *turns)
{
    ck_assert(sd_event_add_defer(event, ret, on_turn, turns) >= 0);
    ck_assert(sd_event_source_set_priority(*ret, CONTROL_PRIORITY) >= 0);
    ck_assert(sd_event_source_set_enabled(*ret, SD_EVENT_ON) >= 0);
}

START_TEST(a_large_file_is_let_go_of_in_turns)
{
    struct shredder shredder;
    sd_event *event = NULL;
    ck_assert(sd_event_new(&event) >= 0);
    shredder_init(&shredder, event);
    int before = unit_count_fds();
    for (int i = 0; i < 2; i++) {
        int fd = make_file();
        shredder_take(&shredder, &fd);
        ck_assert_int_eq(fd, -1);
    }
    ck_assert(shredder.first);
    run_until_gone(event, &shredder);
    ck_assert_int_le(unit_count_fds(), before + 1); /* the timer of the event loop stays */
    int again = make_file();
    shredder_take(&shredder, &again);
    ck_assert(shredder.first);
    shredder_free(&shredder);
    sd_event_unref(event);
}
END_TEST

START_TEST(who_asks_without_a_pause_keeps_no_file_and_gets_turns)
{
    struct shredder shredder;
    sd_event_source *busy = NULL;
    unsigned turns = 0;
    sd_event *event = NULL;
    ck_assert(sd_event_new(&event) >= 0);
    ask_without_a_pause(event, &busy, &turns);
    shredder_init(&shredder, event);
    int fd = make_file();
    shredder_take(&shredder, &fd);
    run_until_gone(event, &shredder);
    ck_assert_msg(turns > 10, "%u turns for others in the meantime", turns);
    sd_event_source_disable_unref(busy);
    shredder_free(&shredder);
    sd_event_unref(event);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shredder");
    TCase *turns = tcase_create("turns");
    tcase_add_test(turns, a_large_file_is_let_go_of_in_turns);
    tcase_add_test(turns, who_asks_without_a_pause_keeps_no_file_and_gets_turns);
    tcase_set_timeout(turns, 60);
    suite_add_tcase(suite, turns);
    return unit_run(suite);
}
