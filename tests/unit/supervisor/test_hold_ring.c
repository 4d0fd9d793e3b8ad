/* SPDX-License-Identifier: MIT */
/* Ring memory that the machine does not give: each refusal leaves nothing behind and says what to
 * do, huge pages that are missing keep no ring away, and what the kernel drops meanwhile is known.
 */
#include "supervisor/hold/hold_ring.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/lib/deny_call.h"
#include "tests/lib/unit.h"

static struct channel_spec *make_spec(void)
{
    struct channel_spec *spec = calloc(1, channel_spec_size(0));
    ck_assert_ptr_nonnull(spec);
    strcpy(spec->name, "engine");
    spec->ring_size = 1 << 20;
    spec->max_datagram = 2048;
    return spec;
}

static const struct refused_ring {
    struct denied_call call;
    const char *why;
} refused_rings[] = {
    {{SYS_memfd_create, EPERM, DENY_ANY_ARGUMENT, 0, 0},
     "(memfd_create): Operation not permitted; does a sandbox forbid it"},
    {{SYS_memfd_create, EMFILE, DENY_ANY_ARGUMENT, 0, 0},
     "(memfd_create): Too many open files; raise LimitNOFILE="},
    {{SYS_ftruncate, EFBIG, DENY_ANY_ARGUMENT, 0, 0},
     "(ftruncate): File too large; is ring_size too large?"},
};

START_TEST(a_ring_that_is_refused_says_what_to_do)
{
    char why[256];
    struct hold hold;
    struct channel_spec *spec = make_spec();
    ck_assert_int_eq(hold_init(&hold, spec), 0);
    int before = unit_count_fds();
    deny_call(&refused_rings[_i].call);
    ck_assert_int_eq(hold_ring_make(&hold, spec, 1, why, sizeof why),
                     -refused_rings[_i].call.error);
    ck_assert_msg(strstr(why, refused_rings[_i].why) != NULL, "%s", why);
    ck_assert_int_eq(unit_count_fds(), before);
    ck_assert_int_eq(hold.ring, -1);
    ck_assert_int_eq(hold.private_part, -1);
    ck_assert_ptr_null(hold.page);
    hold_close(&hold);
    free(spec);
}
END_TEST

START_TEST(descriptors_run_out_over_a_ring)
{
    char why[256];
    struct hold hold;
    struct rlimit limit;
    struct channel_spec *spec = make_spec();
    ck_assert_int_eq(hold_init(&hold, spec), 0);
    int last = dup(STDIN_FILENO);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    const struct rlimit few = {(rlim_t)last + 1, limit.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (dup(STDIN_FILENO) >= 0) /* gaps below */
        ;
    for (int room = 0; room < 2; room++) { /* for none, and for one of the two */
        ck_assert_int_eq(hold_ring_make(&hold, spec, 1, why, sizeof why), -EMFILE);
        ck_assert_ptr_nonnull(strstr(why, "Too many open files; raise LimitNOFILE="));
        ck_assert_int_eq(hold.ring, -1);
        ck_assert_int_eq(hold.private_part, -1);
        if (room == 0)
            close(last);
    }
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(hold_ring_make(&hold, spec, 1, why, sizeof why), 0);
    hold_close(&hold);
    free(spec);
}
END_TEST

START_TEST(huge_pages_that_are_missing_keep_no_ring_away)
{
    char why[256];
    struct hold hold;
    struct channel_spec *spec = make_spec();
    spec->ring_pages = RING_PAGES_HUGE;
    deny_call(&(struct denied_call){SYS_memfd_create, ENOMEM, 1, 0, MFD_HUGETLB});
    ck_assert_int_eq(hold_init(&hold, spec), 0);
    ck_assert_int_eq(hold_ring_make(&hold, spec, 1, why, sizeof why), 0);
    ck_assert(!hold_ring_is_huge(&hold));
    ck_assert_msg(strstr(hold.pages_reason, "huge pages") || strstr(hold.pages_reason, "needed"),
                  "%s", hold.pages_reason);
    ck_assert(!hold_is_outdated(&hold, spec)); /* or it would be made anew all the time */
    hold_close(&hold);
    free(spec);
}
END_TEST

/* ---- what the kernel drops ---- */

/* A socket that drops, with a buffer that is full. Returns where it is bound. */
static union socket_address open_full_socket(struct hold *hold)
{
    union socket_address address = {
        .v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address.v4;
    const int small = 4096;
    hold->rx = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert(setsockopt(hold->rx, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    ck_assert(bind(hold->rx, &address.any, length) == 0 &&
              getsockname(hold->rx, &address.any, &length) == 0);
    hold->rx_is_new = true;
    return address;
}

static void send_to(const union socket_address *address, int count)
{
    char bytes[512] = "";
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (int i = 0; i < count; i++)
        ck_assert_int_eq(sendto(fd, bytes, sizeof bytes, 0, &address->any, sizeof address->v4),
                         (int)sizeof bytes);
    close(fd);
}

START_TEST(what_is_dropped_while_there_is_no_ring_is_known)
{
    char why[256];
    struct hold hold, next;
    struct channel_spec *spec = make_spec();
    ck_assert_int_eq(hold_init(&hold, spec), 0);
    const union socket_address address = open_full_socket(&hold);
    while (hold_ring_untold_drops(&hold, 0) == 0)
        send_to(&address, 1);
    send_to(&address, 9);
    ck_assert_uint_eq(hold_ring_untold_drops(&hold, 0), 10);
    ck_assert_int_eq(hold_ring_make(&hold, spec, 1, why, sizeof why), 0);
    ck_assert_uint_eq(hold_ring_untold_drops(&hold, 0), 10);

    ck_assert_uint_eq(hold_ring_end_drops(&hold, 0), 10); /* it is given up */
    ck_assert_uint_eq(hold_ring_untold_drops(&hold, 0), 0);
    hold_drop_ring(&hold);
    send_to(&address, 5);
    ck_assert_uint_eq(hold_ring_untold_drops(&hold, 0), 5);
    ck_assert_uint_eq(hold_ring_end_drops(&hold, 0), 5); /* and handed on as it is */
    ck_assert_uint_eq(hold_ring_end_drops(&hold, 0), 0);

    ck_assert_int_eq(hold_init(&next, spec), 0);
    next.rx = fd_take(&hold.rx);
    hold_ring_adopt_drops(&next);
    send_to(&address, 3);
    ck_assert_uint_eq(hold_ring_untold_drops(&next, 0), 3);
    ck_assert_int_eq(hold_ring_make(&next, spec, 1, why, sizeof why), 0);
    ck_assert_uint_eq(hold_ring_untold_drops(&next, 0), 3);
    hold_close(&hold);
    hold_close(&next);
    free(spec);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hold_ring");
    TCase *tests = tcase_create("refusals");
    tcase_add_loop_test(tests, a_ring_that_is_refused_says_what_to_do, 0,
                        sizeof refused_rings / sizeof *refused_rings);
    tcase_add_test(tests, descriptors_run_out_over_a_ring);
    tcase_add_test(tests, huge_pages_that_are_missing_keep_no_ring_away);
    tcase_add_test(tests, what_is_dropped_while_there_is_no_ring_is_known);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
