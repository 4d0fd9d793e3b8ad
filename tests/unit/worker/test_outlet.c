/* SPDX-License-Identifier: MIT */
/* An outlet whose send queue is full. The story: it waits a moment in silence, and what ends the
 * wait early without need, a signal, costs no datagram. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/channel_page.h"
#include "tests/lib/unit.h"
#include "worker/channel/outlet.h"

#define ROUNDS 50

static int peer_;
static atomic_uint room_made_; /* by the handler */

static void make_room(int number)
{
    char byte[64];
    int saved = errno;
    (void)number;
    while (recv(peer_, byte, sizeof byte, MSG_DONTWAIT) > 0)
        ;
    atomic_fetch_add(&room_made_, 1);
    errno = saved;
}

static void fill(int fd)
{
    char bytes[64] = "";
    while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        ;
    ck_assert_int_eq(errno, EAGAIN);
}

START_TEST(a_signal_while_it_waits_for_room_drops_nothing)
{
    static struct destination_place place;
    static struct parcel parcel;
    const struct sigaction action = {.sa_handler = make_room};
    const struct itimerval soon = {.it_value.tv_usec = 300};
    int pair[2], silent[2];
    char payload[64] = "";
    unsigned waits = 0;

    ck_assert(sigaction(SIGALRM, &action, NULL) == 0);
    ck_assert(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) == 0);
    ck_assert(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, silent) == 0);
    peer_ = pair[1];
    for (int i = 0; i < ROUNDS; i++) {
        struct outlet outlet = {
            .fd = pair[0], .receives = silent[0], .kind = "relay", .name = "a", .place = &place};
        struct destination_progress counts = {0};
        outlet_open(&outlet);
        fill(pair[0]);
        parcel.count = 0;
        parcel_add(&parcel, (const uint8_t *)payload, sizeof payload);
        parcel_cut(&parcel);
        unsigned before = atomic_load(&room_made_);
        ck_assert(setitimer(ITIMER_REAL, &soon, NULL) == 0);
        outlet_send(&outlet, &parcel, &counts);
        bool in_time = atomic_load(&room_made_) > before;
        while (atomic_load(&room_made_) == before)
            ;
        if (!in_time)
            continue; /* this machine was busy for longer than the outlet is patient */
        waits++;
        ck_assert_msg(counts.sent == 1 && counts.dropped == 0, "round %d: sent %llu, dropped %llu",
                      i, (unsigned long long)counts.sent, (unsigned long long)counts.dropped);
    }
    if (waits == 0)
        unit_skip("no signal came within the patience of an outlet");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("outlet");
    TCase *room = tcase_create("room");
    tcase_add_test(room, a_signal_while_it_waits_for_room_drops_nothing);
    tcase_set_timeout(room, 60);
    suite_add_tcase(suite, room);
    return unit_run(suite);
}
