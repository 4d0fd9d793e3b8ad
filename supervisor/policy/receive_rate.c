/* SPDX-License-Identifier: MIT */
/* Receive rates and how long a stall they leave room for. Called by the regular look and by
 * status; no clock of its own, no memory but the struct it is given. */
#include "supervisor/policy/receive_rate.h"

#define SAMPLE_APART_NS (200 * NS_PER_MS)

void receive_rate_sample(struct receive_rate *rate, const struct counters *counters, monotonic now)
{
    uint64_t received = counters->value[COUNTER_received];
    uint64_t bytes = counters->value[COUNTER_received_bytes];
    uint64_t elapsed = monotonic_since(now, rate->at);

    if (rate->at.ns != 0 && elapsed < SAMPLE_APART_NS)
        return;
    /* Counters go back when a ring was given up: begin anew rather than show nonsense. */
    if (rate->at.ns != 0 && received >= rate->received && bytes >= rate->received_bytes) {
        double seconds = (double)elapsed / 1e9;
        rate->datagrams_per_s = (double)(received - rate->received) / seconds;
        rate->bytes_per_s = (double)(bytes - rate->received_bytes) / seconds;
        rate->known = true;
    } else {
        rate->known = false;
    }
    rate->at = now;
    rate->received = received;
    rate->received_bytes = bytes;
}

double receive_rate_ring_lasts(const struct receive_rate *rate, const struct stall_room *room)
{
    if (!rate->known || rate->datagrams_per_s <= 0)
        return -1;
    double by_count = (double)room->ring_datagrams / rate->datagrams_per_s;
    if (rate->bytes_per_s <= 0)
        return by_count;
    double by_bytes = (double)room->ring_bytes / rate->bytes_per_s;
    return by_bytes < by_count ? by_bytes : by_count;
}

double receive_rate_queue_lasts(const struct receive_rate *rate, uint64_t free_bytes)
{
    if (!rate->known || rate->datagrams_per_s <= 0)
        return -1;
    /* Each datagram is charged its whole buffer ("truesize"): the payload rounded up plus roughly
     * 832 bytes of bookkeeping. */
    double payload = rate->bytes_per_s / rate->datagrams_per_s;
    if (payload > 65535) /* counters come from shared memory: no nonsense into the integer below */
        payload = 65535;
    double charged = 832 + 512 * (double)(uint64_t)((payload + 511) / 512);
    return (double)free_bytes / charged / rate->datagrams_per_s;
}

double receive_rate_buffer_lasts(const struct receive_rate *rate, const struct stall_room *room)
{
    /* socket(7): the kernel doubles what was asked for */
    return receive_rate_queue_lasts(rate, 2 * room->receive_buffer);
}
