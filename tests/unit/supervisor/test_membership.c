/* SPDX-License-Identifier: MIT */
/* A group at lo, joined by a supervisor before this one: that nobody can be asked about its
 * interface is not the same as its being gone. */
#include "supervisor/hold/membership.h"

#include <arpa/inet.h>
#include <check.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "supervisor/hold/hold_ring.h"
#include "supervisor/hold/hold_sockets.h"
#include "tests/lib/unit.h"

#define PUBLISHED 5

static struct channel_spec *make_spec(void)
{
    struct channel_spec *spec = calloc(1, channel_spec_size(0));
    ck_assert_ptr_nonnull(spec);
    strcpy(spec->name, "engine");
    strcpy(spec->interface, "lo");
    /* Several may receive at the port of a group. */
    ck_assert_int_eq(socket_address_parse("239.77.1.9:41009", &spec->listen), 0);
    spec->receive_buffer = 1 << 16;
    spec->ring_size = 1 << 20;
    spec->max_datagram = 2048;
    return spec;
}

static void allow_descriptors(rlim_t count)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = count < limit.rlim_max ? count : limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

START_TEST(an_adopted_group_is_looked_at_again_when_nobody_could_be_asked)
{
    char why[320] = "";
    struct hold hold;
    struct channel_spec *spec = make_spec();
    ck_assert_int_eq(hold_init(&hold, spec), 0);
    ck_assert_msg(hold_sockets_open(&hold, spec, why, sizeof why) == 0, "%s", why);
    ck_assert_msg(hold_ring_make(&hold, spec, 1, why, sizeof why) == 0, "%s", why);
    atomic_store(&hold.page->public.published, PUBLISHED);
    atomic_store(&hold.page->private.gap_before, 0);

    hold.receive_buffer = 0; /* as it is after an upgrade */
    allow_descriptors(0);
    ck_assert_int_eq(hold_sockets_open(&hold, spec, why, sizeof why), 0);
    ck_assert(!membership_look(&hold, spec));
    ck_assert_str_eq(hold.membership.gone, "");
    allow_descriptors(1024);
    for (int i = 0; i < 2; i++) {
        ck_assert(!membership_look(&hold, spec));
        ck_assert_str_eq(hold.membership.gone, "");
        ck_assert_str_eq(hold.membership.interface, "lo");
        ck_assert_uint_eq(hold.membership.index, if_nametoindex("lo"));
        ck_assert(!hold.membership.lost);
    }
    ck_assert_uint_eq(atomic_load(&hold.page->private.gap_before), 0);
    hold_close(&hold);
    free(spec);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("membership");
    TCase *tests = tcase_create("adopted");
    tcase_add_test(tests, an_adopted_group_is_looked_at_again_when_nobody_could_be_asked);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
