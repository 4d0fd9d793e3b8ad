/* SPDX-License-Identifier: MIT */
/* The sender: paced by the clock, runs of equal datagrams in one call (UDP_SEGMENT, udp(7)) so that
 * it costs little beside the system under test. Must never send more than `count` datagrams, nor
 * faster than `rate`. */
#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/support.h"
#include "tests/bench/traffic.h"

#define CALLS_PER_SECOND 4000 /* below it, runs stay short: a trickle shall not come in bursts */
#define SEND_BUFFER      (8 << 20)

struct sender {
    struct traffic *traffic;
    int sockets[TRAFFIC_DESTINATIONS_MAX];
    uint8_t *bytes;
    uint32_t run; /* datagrams per call */
};

static uint32_t choose_run(const struct traffic *traffic)
{
    uint64_t run = traffic->rate / CALLS_PER_SECOND;
    if (run > traffic->segments)
        run = traffic->segments;
    if (run > TRAFFIC_BYTES_MAX / traffic->size)
        run = TRAFFIC_BYTES_MAX / traffic->size;
    return run ? (uint32_t)run : 1;
}

static void open_sender(struct sender *sender)
{
    struct traffic *traffic = sender->traffic;
    int size = SEND_BUFFER;
    sender->run = choose_run(traffic);
    sender->bytes = malloc(TRAFFIC_BYTES_MAX);
    if (!sender->bytes)
        support_fail("malloc");
    for (uint32_t i = 0; i < TRAFFIC_BYTES_MAX; i++)
        sender->bytes[i] = (uint8_t)(i * 131 >> 3);
    for (uint32_t i = 0; i < traffic->to_count; i++) {
        sender->sockets[i] = support_connect(&traffic->to[i]);
        if (setsockopt(sender->sockets[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
            setsockopt(sender->sockets[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    }
}

static void send_run(struct sender *sender, uint64_t first, uint32_t count)
{
    struct traffic *traffic = sender->traffic;
    struct traffic_stamp stamp = {.tag = traffic->tag, .sent_ns = realtime_now_ns()};
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))] = {0};
    struct iovec vector = {sender->bytes, (size_t)count * traffic->size};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};

    for (uint32_t i = 0; i < count; i++) {
        stamp.number = first + i;
        memcpy(sender->bytes + (size_t)i * traffic->size, &stamp, sizeof stamp);
    }
    if (count > 1) {
        uint16_t segment = (uint16_t)traffic->size;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_UDP;
        header->cmsg_type = UDP_SEGMENT;
        header->cmsg_len = CMSG_LEN(sizeof segment);
        memcpy(CMSG_DATA(header), &segment, sizeof segment);
    }
    int socket = sender->sockets[first / sender->run % traffic->to_count];
    while (sendmsg(socket, &message, 0) < 0) {
        /* An ICMP error about an earlier datagram is told in place of this one; a full queue clears
         * by itself. */
        if (errno != ECONNREFUSED && errno != EAGAIN && errno != ENOBUFS && errno != EINTR)
            support_fail("sendmsg");
        traffic->refused++;
    }
}

void *traffic_send(void *argument)
{
    struct traffic *traffic = argument;
    static struct sender sender;
    sender.traffic = traffic;
    support_pin(traffic->send_cpu);
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    open_sender(&sender);

    uint64_t started = monotonic_now().ns, now = started, sent = 0;
    double ns_each = 1e9 / (double)traffic->rate;
    while (sent < traffic->count) {
        uint64_t due = started + (uint64_t)((double)sent * ns_each);
        if (due > now) {
            support_sleep_until(due > now + traffic->coalesce_ns ? due
                                                                 : now + traffic->coalesce_ns);
            now = monotonic_now().ns;
            continue;
        }
        if (now - started > traffic->deadline_ns)
            break;
        uint32_t count =
            traffic->count - sent < sender.run ? (uint32_t)(traffic->count - sent) : sender.run;
        send_run(&sender, sent, count);
        sent += count;
        now = monotonic_now().ns;
    }
    traffic->send_ns = now - started;
    traffic->send_cpu_ns = support_thread_cpu_ns();
    atomic_store(&traffic->sent, sent);
    atomic_store(&traffic->sent_at_ns, now);
    for (uint32_t i = 0; i < traffic->to_count; i++)
        close(sender.sockets[i]);
    free(sender.bytes);
    return NULL;
}
