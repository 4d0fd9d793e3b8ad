/* SPDX-License-Identifier: MIT */
/* The hold: everything of a channel that must outlive its workers. The supervisor owns it and lends it. */
#ifndef HOLDFAST_SUPERVISOR_HOLD_H
#define HOLDFAST_SUPERVISOR_HOLD_H

#include <stdbool.h>

#include "common/channel_page.h"
#include "common/channel_spec.h"
#include "common/message.h"

struct hold {
    int rx;
    int ring;
    int log;  /* -1 while there is none */
    int next; /* -1 while there is none */
    int *destinations; /* relays first, then decimates; -1 where not open */
    uint32_t destination_count;
    struct segment_grant log_grant;
    struct segment_grant next_grant;
    struct channel_geometry geometry;
    struct channel_page *page; /* the channel page alone, mapped; untrusted. NULL when not mapped */
    bool ring_fresh;           /* no worker has attached to it yet */
    uint64_t receive_buffer;   /* bytes the kernel gave, as getsockopt says, halved back to payload */
};

/* Every fd is -1 afterwards. 0 or -ENOMEM. */
int hold_init(struct hold *hold, const struct channel_spec *spec);

/* Open what is missing of rx and destinations. 0, or -errno with why set to what was attempted and what to do. */
int hold_open_sockets(struct hold *hold, const struct channel_spec *spec, char *why, size_t why_size);

/* Make a fresh ring whose first datagram gets start_seq. Replaces an earlier one. */
int hold_make_ring(struct hold *hold, const struct channel_spec *spec, uint64_t start_seq, char *why, size_t why_size);

/* Close everything. Accepts a hold that is half built. */
void hold_close(struct hold *hold);

#endif
