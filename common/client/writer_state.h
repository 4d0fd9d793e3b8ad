/* SPDX-License-Identifier: MIT */
/* A writer from inside: the outbox that it writes into, and what is to be carried over from the one
 * before. */
#ifndef HOLDFAST_COMMON_CLIENT_WRITER_STATE_H
#define HOLDFAST_COMMON_CLIENT_WRITER_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/client/client.h"
#include "common/client/writer_link.h"
#include "common/outbox.h"

struct writer {
    struct hf_writer base; /* first */
    /* Where reservations are made. Where the daemon has let go of it, nobody takes from it. */
    struct outbox_producer producer;
    bool slow;               /* something is to be done before the next reservation */
    uint32_t until_look;     /* reservations */
    bool awaits_room;        /* the last one, of so many bytes, found none: the descriptor is to */
    uint32_t awaited;        /* ... tell when there is */
    uint64_t awaits_durable; /* likewise when so many datagrams are; 0: it is not waited for */
    uint64_t committed;      /* datagrams, over all outboxes */
    int64_t looked_ns;       /* wall clock, when the bell was looked at last */
    int bell;                /* of `next`, or of the producer's box; -1: that has ended */
    int call;                /* likewise, by which its worker is woken */
    pid_t owner;             /* who may use it, and end it for the daemon */
    int error;               /* for ever: -errno */
    uint64_t taken;          /* the producer's box has ended: this far it is the channel's */
    uint64_t base_count;     /* datagrams before the first one of the producer's box */
    uint64_t durable;        /* of the boxes that have ended, so many are known to be on the disk */
    uint64_t known_count;    /* behind it, nobody knows of the next one; UINT64_MAX: nothing such */
    struct outbox_map next;  /* has come while a reservation was open in the producer's */
    /* What it had when it ended, from carry_from on: everything before carry_at lies in the
     * producer's box, too, and nothing else does. head NULL: nothing is to be carried. */
    struct outbox_producer carried;
    uint64_t carry_from, carry_at;
    struct writer_link link;
};

static inline struct writer *writer_of(hf_writer *writer)
{
    return (struct writer *)writer;
}

#endif
