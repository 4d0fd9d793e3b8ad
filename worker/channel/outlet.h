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
    int fd;           /* connected */
    const char *kind; /* "relay" or "decimate", for messages */
    const char *name;
    bool segmentation;       /* until the destination's path refuses it */
    bool impatient;          /* its queue was full in this round already: don't wait again */
    int last_error;          /* logged when it changes */
    _Atomic uint32_t *state; /* in the channel page: enum segmentation << 16 | errno */
};

void outlet_open(struct outlet *outlet, int fd, const char *kind, const char *name,
                 _Atomic uint32_t *state);

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
