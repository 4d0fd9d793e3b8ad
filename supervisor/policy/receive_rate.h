/* SPDX-License-Identifier: MIT */
/* How fast a channel receives, from its counters read now and then, and what that means for a
 * stall. Pure functions. */
#ifndef HOLDFAST_SUPERVISOR_POLICY_RECEIVE_RATE_H
#define HOLDFAST_SUPERVISOR_POLICY_RECEIVE_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/counters.h"
#include "common/monotonic.h"

struct receive_rate {
    monotonic at; /* of the reading; ns = 0: none yet */
    uint64_t received;
    uint64_t received_bytes;
    bool known; /* two readings were made */
    double datagrams_per_s;
    double bytes_per_s;
};

/* Take one more reading. Readings closer together than 200 ms are passed over: they would only show
 * the jitter. */
void receive_rate_sample(struct receive_rate *rate, const struct counters *counters, monotonic now);

/* What there is to hold back datagrams while somebody stands still. */
struct stall_room {
    uint64_t ring_bytes;     /* free for new datagrams */
    uint64_t ring_datagrams; /* free descriptors */
    uint64_t receive_buffer; /* the socket's, bytes */
};

/* Seconds until the ring would overwrite what a reader that stands still has not read; negative
 * without traffic. */
double receive_rate_ring_lasts(const struct receive_rate *rate, const struct stall_room *room);

/* Seconds until the kernel's buffer is full when no worker receives; negative without traffic. An
 * estimate: the kernel accounts whole buffers, of which only a part is payload. */
double receive_rate_buffer_lasts(const struct receive_rate *rate, const struct stall_room *room);

/* The same for that many bytes of the kernel's own accounting (SK_MEMINFO_RCVBUF less
 * SK_MEMINFO_RMEM_ALLOC). */
double receive_rate_queue_lasts(const struct receive_rate *rate, uint64_t free_bytes);

#endif
