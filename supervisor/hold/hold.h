/* SPDX-License-Identifier: MIT */
/* The hold: everything of a channel that must outlive its workers. The supervisor owns it and lends
 * it. */
#ifndef HOLDFAST_SUPERVISOR_HOLD_HOLD_H
#define HOLDFAST_SUPERVISOR_HOLD_HOLD_H

#include <stdbool.h>

#include "common/channel_page.h"
#include "common/channel_spec.h"
#include "common/message.h"

struct hold {
    int rx;
    int ring;
    int log;           /* -1 while there is none */
    int next;          /* -1 while there is none */
    int *destinations; /* relays first, then decimates; -1 where not open */
    uint32_t destination_count;
    uint32_t relay_count;
    struct segment_grant log_grant;
    struct segment_grant next_grant;
    struct channel_geometry geometry;
    struct channel_page
        *page;       /* the ring up to its data, mapped; untrusted. NULL when not mapped */
    bool ring_fresh; /* no worker has attached to it yet */
    uint32_t
        drops_base; /* the socket's drop counter minus what this ring has told of it; modulo 2^32 */
    bool drops_known;        /* drops_base is set, for this socket and this ring */
    uint64_t receive_buffer; /* bytes the kernel gave, as getsockopt says, halved back to payload */
};

/* Every fd is -1 afterwards. 0 or -ENOMEM. */
int hold_init(struct hold *hold, const struct channel_spec *spec);

/* hold_sockets.c: open what is missing of rx and destinations. 0, or -errno with why set to what
 * was attempted and what to do. */
int hold_open_sockets(struct hold *hold, const struct channel_spec *spec, char *why,
                      size_t why_size);
void hold_close_sockets(struct hold *hold);

/* Make a fresh ring whose first datagram gets start_seq. Replaces an earlier one. */
int hold_make_ring(struct hold *hold, const struct channel_spec *spec, uint64_t start_seq,
                   char *why, size_t why_size);
void hold_drop_ring(struct hold *hold);

/* Datagrams that the kernel has dropped in front of this ring and not yet told with a datagram;
 * `told` is the ring's kernel_dropped. 0 when it can't be known. */
uint32_t hold_untold_drops(const struct hold *hold, uint64_t told);
/* A socket has come to this ring, or a ring to this socket: from here on drops count. */
void hold_begin_drops(struct hold *hold);

/* Close everything. Accepts a hold that is half built. */
void hold_close(struct hold *hold);

/* Every descriptor has a place, and each place a name by which it survives the supervisor: "rx",
 * "ring", "log", "next", "out.<i>", "dec.<i>". */
#define HOLD_NAME_SIZE 16
uint32_t hold_place_count(const struct hold *hold);
/* The descriptor at a place, -1 when there is none; its name in any case. */
int hold_place(const struct hold *hold, uint32_t place, char ret_name[HOLD_NAME_SIZE]);

/* Take a descriptor that a supervisor before this one held. Checks that it is what its name says (a
 * socket bound or connected as the spec wants, a sealed memfd of the right size, a regular file).
 * 0: it is the hold's now. -EINVAL: it is not wanted; the caller closes it. Grants stay empty:
 * channel_log.c finds out about segments. */
int hold_adopt_fd(struct hold *hold, const struct channel_spec *spec, const char *name, int fd);

#endif
