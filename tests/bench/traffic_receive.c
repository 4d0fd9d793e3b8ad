/* SPDX-License-Identifier: MIT */
/* The sink: takes what the system under test relays, in coalesced runs where the kernel has them
 * (UDP_GRO, udp(7)), and ticks off every number. It looks twice per millisecond instead of being
 * woken: the kernel's receive time is what counts, and a wake-up per datagram would be paid by the
 * system under test. */
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/support.h"
#include "tests/bench/traffic.h"

#define BATCH          32
#define ROOM           65536
#define CONTROL_ROOM   128
#define RECEIVE_BUFFER (256ull << 20)
#define LOOK_NS        (500 * NS_PER_US)

struct sink {
    struct traffic *traffic;
    uint64_t *seen; /* one bit per number */
    uint8_t *bytes;
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    _Alignas(struct cmsghdr) uint8_t control[BATCH][CONTROL_ROOM];
    uint32_t drops[TRAFFIC_SOCKETS_MAX];
};

static int sockets[TRAFFIC_SOCKETS_MAX];

void traffic_receive_open(struct traffic *traffic)
{
    int one = 1;
    for (uint32_t i = 0; i < traffic->on_count; i++) {
        sockets[i] = support_bind(&traffic->on[i], RECEIVE_BUFFER);
        setsockopt(sockets[i], SOL_UDP, UDP_GRO, &one, sizeof one);
        setsockopt(sockets[i], SOL_SOCKET, SO_RXQ_OVFL, &one, sizeof one);
        if (traffic->latency)
            setsockopt(sockets[i], SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one);
    }
}

struct arrival {
    uint64_t time_ns;
    uint32_t segment; /* bytes of each datagram in a coalesced run; 0 = it is one datagram */
};

static struct arrival read_control(struct sink *sink, uint32_t index, struct msghdr *header)
{
    struct arrival arrival = {0};
    for (struct cmsghdr *item = CMSG_FIRSTHDR(header); item; item = CMSG_NXTHDR(header, item)) {
        if (item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec time;
            memcpy(&time, CMSG_DATA(item), sizeof time);
            arrival.time_ns = timespec_ns(&time);
        } else if (item->cmsg_level == SOL_SOCKET && item->cmsg_type == SO_RXQ_OVFL) {
            memcpy(&sink->drops[index], CMSG_DATA(item), sizeof sink->drops[index]);
        } else if (item->cmsg_level == SOL_UDP && item->cmsg_type == UDP_GRO) {
            int segment;
            memcpy(&segment, CMSG_DATA(item), sizeof segment);
            arrival.segment = segment > 0 ? (uint32_t)segment : 0;
        }
    }
    return arrival;
}

static void tick_off(struct sink *sink, const uint8_t *bytes, uint32_t length, uint64_t time_ns)
{
    struct traffic *traffic = sink->traffic;
    struct traffic_stamp stamp;
    if (length != traffic->size) {
        traffic->strangers++;
        return;
    }
    memcpy(&stamp, bytes, sizeof stamp);
    if (stamp.tag != traffic->tag || stamp.number >= traffic->count) {
        traffic->strangers++;
        return;
    }
    uint64_t bit = 1ull << stamp.number % 64;
    if (sink->seen[stamp.number / 64] & bit) {
        traffic->repeated++;
        return;
    }
    sink->seen[stamp.number / 64] |= bit;
    traffic->received++;
    if (traffic->latency)
        histogram_add(traffic->histogram, time_ns > stamp.sent_ns ? time_ns - stamp.sent_ns : 0);
}

/* One batch of one socket. Returns the number of messages. */
static int take_batch(struct sink *sink, uint32_t index)
{
    struct traffic *traffic = sink->traffic;
    uint32_t measured = traffic->on_count - traffic->also_count;
    for (int i = 0; i < BATCH; i++) {
        sink->vectors[i] = (struct iovec){sink->bytes + (size_t)i * ROOM, ROOM};
        sink->messages[i].msg_hdr = (struct msghdr){.msg_iov = &sink->vectors[i],
                                                    .msg_iovlen = 1,
                                                    .msg_control = sink->control[i],
                                                    .msg_controllen = CONTROL_ROOM};
    }
    int count = recvmmsg(sockets[index], sink->messages, BATCH, MSG_DONTWAIT, NULL);
    if (count < 0) {
        if (errno != EAGAIN && errno != EINTR)
            support_fail("recvmmsg");
        return 0;
    }
    for (int i = 0; i < count; i++) {
        struct arrival arrival = read_control(sink, index, &sink->messages[i].msg_hdr);
        uint32_t length = sink->messages[i].msg_len;
        uint32_t step = arrival.segment ? arrival.segment : length;
        const uint8_t *bytes = sink->vectors[i].iov_base;
        for (uint32_t at = 0; at < length; at += step) {
            uint32_t here = length - at < step ? length - at : step;
            if (index < measured)
                tick_off(sink, bytes + at, here, arrival.time_ns);
            else
                traffic->also_received[index - measured]++;
        }
    }
    return count;
}

static bool is_over(const struct traffic *traffic, uint64_t started, uint64_t last)
{
    uint64_t now = monotonic_now().ns;
    uint64_t sent_at = atomic_load(&traffic->sent_at_ns);
    if (now - started > traffic->deadline_ns + traffic->idle_ns)
        return true;
    if (sent_at == 0)
        return false;
    uint64_t quiet_since = last > sent_at ? last : sent_at;
    bool complete = traffic->also_count == 0 && traffic->received == atomic_load(&traffic->sent);
    return complete || now - quiet_since > traffic->idle_ns;
}

void *traffic_receive(void *argument)
{
    struct traffic *traffic = argument;
    static struct sink sink;
    sink.traffic = traffic;
    support_pin(traffic->receive_cpu);
    sink.bytes = aligned_alloc(4096, (size_t)BATCH * ROOM);
    sink.seen = calloc(traffic->count / 64 + 1, sizeof *sink.seen);
    if (!sink.bytes || !sink.seen)
        support_fail("malloc");

    uint64_t started = monotonic_now().ns, last = started;
    while (!is_over(traffic, started, last)) {
        int total = 0;
        for (uint32_t i = 0; i < traffic->on_count; i++)
            for (int count = BATCH; count == BATCH;) {
                count = take_batch(&sink, i);
                total += count;
            }
        uint64_t now = monotonic_now().ns;
        if (total > 0)
            last = now;
        support_sleep_until(now + LOOK_NS);
    }
    for (uint32_t i = 0; i < traffic->on_count; i++) {
        traffic->dropped += sink.drops[i];
        close(sockets[i]);
    }
    traffic->receive_cpu_ns = support_thread_cpu_ns();
    free(sink.seen);
    free(sink.bytes);
    return NULL;
}
