/* SPDX-License-Identifier: MIT */
/* Sending many datagrams to one destination with few calls: the relay's and the decimator's way
 * out. */
#ifndef HOLDFAST_WORKER_CHANNEL_OUTLET_H
#define HOLDFAST_WORKER_CHANNEL_OUTLET_H

#include <netinet/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/channel_page.h"
#include "common/monotonic.h"

/* Datagrams per parcel: also what the kernel cuts out of one message at most */
#define PARCEL_MAX      64
#define SEGMENT_CONTROL CMSG_SPACE(sizeof(uint16_t))

/* Datagrams that leave together, in order. Cut once into runs of equal length, sent to any number
 * of outlets. */
struct parcel {
    struct iovec vectors[PARCEL_MAX];
    uint32_t count;
    struct {
        uint32_t first;
        uint32_t count;
    } runs[PARCEL_MAX]; /* the last datagram of a run may be shorter; an empty one is a run of its
                           own */
    uint32_t run_count;
    struct mmsghdr messages[PARCEL_MAX];
    _Alignas(struct cmsghdr) uint8_t control[PARCEL_MAX][SEGMENT_CONTROL];
};

struct outlet {
    /* The caller's to fill, before outlet_open(): */
    int fd;           /* connected, or of a destination that is down */
    int receives;     /* what must not be kept waiting for this outlet; -1 = nothing */
    const char *kind; /* "relay" or "decimate", for messages */
    const char *name;
    uint64_t every;                  /* takes seq % every == every - 1; 0 = doesn't go by number */
    uint64_t from_seq;               /* nothing before it is for this destination */
    struct destination_place *place; /* in the channel page: what status tells of it */

    bool segmentation;      /* until the destination's path can't do it at all */
    size_t segment_refused; /* segments of this length, or longer, are more than the path takes */
    bool impatient; /* its queue was full, and waiting was in vain: don't, until it takes one */
    int last_error; /* logged when it changes, and then once an hour */
    monotonic told;
};

void outlet_open(struct outlet *outlet);

/* The first datagram at or after seq that goes to this destination by its number; UINT64_MAX when
 * none does. */
static inline uint64_t outlet_next(const struct outlet *outlet, uint64_t seq)
{
    if (seq < outlet->from_seq)
        seq = outlet->from_seq;
    return outlet->every ? seq + (outlet->every - 1 - seq % outlet->every) : UINT64_MAX;
}

/* What the predecessor had begun to send, up to `attempted`, and did not note as sent goes out
 * again from `from` on. To be counted, and the counts to be committed, before it does: a successor
 * that dies over the same datagrams repeats them once more. false when there is nothing of that
 * kind. */
bool outlet_count_repeats(const struct outlet *outlets, struct destination_progress *counts,
                          uint32_t count, uint64_t from, uint64_t attempted);

static inline void parcel_add(struct parcel *parcel, const void *data, size_t length)
{
    parcel->vectors[parcel->count++] = (struct iovec){(void *)(uintptr_t)data, length};
}

/* After the last parcel_add(), before the first outlet_send(). */
void parcel_cut(struct parcel *parcel);

/* Offer the parcel; what the kernel takes is added to counts->sent, what it refuses to
 * counts->dropped. */
void outlet_send(struct outlet *outlet, struct parcel *parcel, struct destination_progress *counts);

#endif
