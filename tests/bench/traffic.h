/* SPDX-License-Identifier: MIT */
/* The load of all relay benches: a paced sender and a sink in one process, so that both agree about
 * what was sent.
 *
 * A datagram begins with struct traffic_stamp; the rest is a fixed pattern. Numbers run from 0 to
 * count - 1 over all destinations together, so one bit per number tells loss and repetition
 * exactly. */
#ifndef HOLDFAST_TESTS_BENCH_TRAFFIC_H
#define HOLDFAST_TESTS_BENCH_TRAFFIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/channel_spec.h"
#include "tests/bench/histogram.h"

#define TRAFFIC_DESTINATIONS_MAX 1024
#define TRAFFIC_SOCKETS_MAX      64
#define TRAFFIC_COUNT_MAX        (1ull << 28)
#define TRAFFIC_SEGMENTS_MAX     64 /* UDP_MAX_SEGMENTS of older kernels */
#define TRAFFIC_BYTES_MAX        65507

struct traffic_stamp {
    uint64_t number;
    uint64_t sent_ns; /* CLOCK_REALTIME just before the send */
    uint64_t tag;     /* of this run: what is left of an earlier one doesn't count */
};

struct traffic {
    union socket_address to[TRAFFIC_DESTINATIONS_MAX];
    uint32_t to_count;
    union socket_address
        on[TRAFFIC_SOCKETS_MAX]; /* measured ones first, then those that only count */
    uint32_t on_count;
    uint32_t also_count;
    uint64_t count;
    uint64_t rate;     /* datagrams per second over all destinations */
    uint32_t size;     /* bytes of each */
    uint32_t segments; /* at most so many leave with one call (UDP_SEGMENT) */
    uint64_t tag;
    uint64_t idle_ns;     /* the sink ends when nothing came for so long after the last send */
    uint64_t deadline_ns; /* the whole run, from its start */
    uint64_t coalesce_ns; /* the sender never sleeps for less: 0 = on time rather than cheap */
    bool latency;
    int send_cpu;
    int receive_cpu;

    /* sender's results */
    _Atomic uint64_t sent;
    _Atomic uint64_t sent_at_ns; /* monotonic time when the last one was sent; 0 = still sending */
    uint64_t send_ns;
    uint64_t send_cpu_ns;
    uint64_t refused; /* sends that the kernel did not take at once, and took when asked again */
    /* sink's results */
    uint64_t received; /* different numbers */
    uint64_t repeated;
    uint64_t strangers;
    uint64_t also_received[TRAFFIC_SOCKETS_MAX];
    uint64_t dropped; /* by the sink's own sockets: the run is void */
    uint64_t receive_cpu_ns;
    struct histogram *histogram;
};

void *traffic_send(void *traffic);

/* Open the sink's sockets; to be called before anything is sent. */
void traffic_receive_open(struct traffic *traffic);
void *traffic_receive(void *traffic);

#endif
