/* SPDX-License-Identifier: MIT */
/* What the kernel has written into a batch: how many messages, and what each says. For those who
 * publish it and for those who ask whether it was published as it should. Only reads; the batch is
 * shared memory, which may be damaged. */
#ifndef HOLDFAST_COMMON_INFLIGHT_DELIVERED_H
#define HOLDFAST_COMMON_INFLIGHT_DELIVERED_H

#include <stdbool.h>
#include <stdint.h>

#include "common/channel_page.h"
#include "common/inflight_batch.h"

/* How many messages of the batch: the kernel fills from the front, and the first one that it has
 * not delivered ends them. */
uint32_t inflight_delivered(const struct inflight_batch *batch,
                            const struct channel_geometry *geometry);

/* How many datagrams these first `messages` make: more with receive_offload. */
uint32_t inflight_datagrams(const struct inflight_batch *batch,
                            const struct channel_geometry *geometry, uint32_t messages);

/* How many datagrams had the kernel delivered into the page's batch, that nobody has published? For
 * a successor, and for the supervisor. Bounded by the batch's size, whatever the memory says. */
uint32_t inflight_unpublished(const struct channel_page *page,
                              const struct channel_geometry *geometry);
/* How much further is the kernel's drop counter behind these than behind the last published one? */
uint32_t inflight_unpublished_drops(const struct channel_page *page,
                                    const struct channel_geometry *geometry);

/* A delivered message's full length, at most 65,535. */
uint32_t inflight_length(const struct inflight_batch *batch, uint32_t slot);

/* What a message's control data says; every length in it is bounded by what fits. */
struct inflight_control {
    uint64_t time_ns; /* 0 = not told */
    uint32_t drops;
    bool has_drops;
    uint32_t segment_size; /* 0 = not coalesced */
};
void inflight_read_control(const struct inflight_batch *batch, uint32_t slot,
                           struct inflight_control *ret);

#endif
