/* SPDX-License-Identifier: MIT */
/* Kills relays and measures how long it takes until a datagram comes through again. For every line
 * "PID LISTEN" on stdin: makes sure that the relay works, sends SIGKILL, sends a probe every 100
 * us, and prints one line of JSON with the time from the kill to the kernel's receipt of the first
 * probe that was sent after it.
 *
 * The relay is idle when it is killed. A process that sleeps in the kernel dies before it returns
 * from there, so that a probe can only come through its successor. Must never kill anything but the
 * pid it was told. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/support.h"

#define PROBE_NS (100 * NS_PER_US)
#define GIVE_UP  (8 * NS_PER_S)
#define QUIET_NS (30 * NS_PER_MS)
#define PROBES   (GIVE_UP / PROBE_NS + 16)

struct probe {
    uint64_t number;
    uint64_t round;
    uint8_t rest[784]; /* 800 bytes, as in the other benches */
};

static int sink;
static uint64_t round_number;
static bool arrived[PROBES];

static void send_probe(int out, uint64_t number)
{
    struct probe probe = {.number = number, .round = round_number};
    /* Nobody listening is what this bench is about: the error is the probe's loss. */
    if (send(out, &probe, sizeof probe, MSG_DONTWAIT) < 0 && errno != ECONNREFUSED &&
        errno != EAGAIN)
        support_fail("send");
}

/* Wait for one probe of this round until `until`. Returns its kernel receive time, or 0. */
static uint64_t take_probe(uint64_t until)
{
    struct probe probe;
    _Alignas(struct cmsghdr) uint8_t control[64];
    for (;;) {
        struct iovec vector = {&probe, sizeof probe};
        struct msghdr message = {.msg_iov = &vector,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = sizeof control};
        ssize_t length = recvmsg(sink, &message, MSG_DONTWAIT);
        if (length == (ssize_t)sizeof probe && probe.round == round_number &&
            probe.number < PROBES) {
            struct timespec time = {0, 0};
            for (struct cmsghdr *item = CMSG_FIRSTHDR(&message); item;
                 item = CMSG_NXTHDR(&message, item))
                if (item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_TIMESTAMPNS)
                    memcpy(&time, CMSG_DATA(item), sizeof time);
            arrived[probe.number] = true;
            return timespec_ns(&time);
        }
        if (length >= 0)
            continue; /* of an earlier round */
        uint64_t now = monotonic_now().ns;
        if (now >= until)
            return 0;
        struct timespec wait = {(time_t)((until - now) / NS_PER_S),
                                (long)((until - now) % NS_PER_S)};
        struct pollfd readable = {.fd = sink, .events = POLLIN};
        ppoll(&readable, 1, &wait, NULL);
    }
}

static void require_relay(int out)
{
    for (uint64_t deadline = monotonic_now().ns + GIVE_UP; monotonic_now().ns < deadline;) {
        round_number++;
        send_probe(out, 0);
        if (take_probe(monotonic_now().ns + 2 * NS_PER_MS))
            return;
    }
    support_refuse("the relay does not relay");
}

static void measure(pid_t pid, int out)
{
    uint64_t probes = 0, first = 0, lost = 0;
    require_relay(out);
    support_sleep_until(monotonic_now().ns + 3 * NS_PER_MS); /* it is idle now */
    round_number++;
    memset(arrived, 0, sizeof arrived);
    uint64_t killed = realtime_now_ns();
    if (kill(pid, SIGKILL) < 0)
        support_fail("kill");
    uint64_t next = monotonic_now().ns;
    while (first == 0 && probes < GIVE_UP / PROBE_NS) {
        send_probe(out, probes++);
        next += PROBE_NS;
        first = take_probe(next);
    }
    while (first != 0 && take_probe(monotonic_now().ns + QUIET_NS) != 0)
        continue;
    for (uint64_t i = 0; i < probes; i++)
        lost += !arrived[i];
    printf("{\"takeover_ns\": %" PRIu64 ", \"probes\": %" PRIu64 ", \"lost\": %" PRIu64 "}\n",
           first > killed ? first - killed : 0, probes, lost);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char line[128], listen_text[SOCKET_ADDRESS_TEXT_SIZE];
    union socket_address on, listen;
    int one = 1, pid;
    support_address(support_option(argc, argv, "--on", ""), &on);
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    sink = support_bind(&on, 4 << 20);
    if (setsockopt(sink, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one) < 0)
        support_fail("SO_TIMESTAMPNS");
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%d %79s", &pid, listen_text) != 2 || pid <= 1)
            support_refuse("a line is PID ADDRESS:PORT");
        support_address(listen_text, &listen);
        int out = support_connect(&listen);
        measure(pid, out);
        close(out);
    }
    return 0;
}
