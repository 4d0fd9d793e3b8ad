/* SPDX-License-Identifier: MIT */
/* What a child inherits, once it is told what it is: everything it will ever work with. */
#ifndef HOLDFAST_WORKER_INHERIT_H
#define HOLDFAST_WORKER_INHERIT_H

#include "common/channel_memory.h"
#include "common/channel_page.h"
#include "common/message.h"

struct inheritance {
    uint64_t generation;
    struct message_assign assign;
    struct channel_spec *spec; /* NULL for the archive and the gate */
    struct channel_geometry geometry;
    int rx;
    struct channel_memory memory;
    int old_ring;      /* of an older layout; -1 when there is none */
    int segment;       /* being recorded to; -1 when there is none */
    int next_segment;  /* -1 when there is none */
    int wake, bell;    /* read_wake.h; -1 where nobody reads */
    int listening;     /* the read socket, for the gate */
    int lock;          /* log_dir's, for the archive; -1 when there is none */
    int *destinations; /* relays first, then decimates */
};

/* Wait for ASSIGN on fd 3. 1 = *ret is filled; 0 = the supervisor closed the connection; -errno.
 * Messages that are refused are logged and skipped. */
int inherit_wait(struct inheritance *ret);

#endif
