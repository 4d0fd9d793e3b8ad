/* SPDX-License-Identifier: MIT */
/* The hold: everything of a channel that must outlive its workers. The supervisor owns it and lends
 * it. */
#ifndef HOLDFAST_SUPERVISOR_HOLD_HOLD_H
#define HOLDFAST_SUPERVISOR_HOLD_HOLD_H

#include <fcntl.h>
#include <net/if.h>
#include <stdbool.h>

#include "common/channel_page.h"
#include "common/channel_spec.h"
#include "common/message.h"
#include "common/monotonic.h"
#include "common/outbox.h"
#include "supervisor/system/shredder.h"

/* A destination that can't be reached: its socket is there, but leads nowhere yet. */
struct destination_down {
    unsigned interface; /* index of the one that it was connected with; 0 = by routing table */
    int place;          /* where it was found last in the page */
    bool stand_in;      /* its own socket can't be had: one that leads nowhere is in its place */
    uint64_t dropped;   /* when it was last tried because its worker was refused */
    char reason[256];   /* what was attempted, why it failed, what to do; "" = it is up */
    monotonic told;     /* when the log last said so */
};

/* Where the channel's multicast group was joined, or its link-local address is. The kernel forgets
 * that when the interface is deleted, and doesn't remember when one of the same name comes back. */
struct membership {
    char interface[IF_NAMESIZE]; /* as configured, or as the kernel chose; "" = not known */
    unsigned index;
    bool lost;      /* the kernel has said that the interface is gone, whoever has its number now */
    bool uncertain; /* it may have said so unheard */
    char gone[160]; /* why nothing can come in, what to do; "" = it is joined */
    char down[96];  /* the same of an interface that is there; "" = it is up */
};

/* Of every memory in a hold: nobody who is handed it can change its size. */
#define HOLD_MEMORY_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* What one publisher writes into: hold_outboxes.h. */
struct hold_outbox {
    int box, answer, bell, call;
    struct outbox_answer *said; /* the answer, mapped; NULL: the place is free. Its worker may have
                                   written what it likes there */
    uint64_t id, capacity;      /* what it said when it was made, or adopted */
    uint32_t uid, pid;
    char name[16];
    uint64_t lent_to; /* generation of the worker that has it; 0 = none */
};

/* How far a ring has come. */
struct ring_stand {
    uint64_t end;            /* behind all that the kernel has given to its workers */
    uint64_t kernel_dropped; /* as these tell, sooner or later */
};

struct hold {
    struct shredder *shredder; /* for what is in a ring that is dropped; NULL: it is closed */
    int rx;
    int ring;         /* public memory */
    int private_part; /* the private memory beside it; both or none, but while they are restored */
    int old_ring; /* of an older layout, until a worker has brought what is in it into this one */
    int history;  /* the supervisors' own: channel_history.c */
    int segment;  /* that is written; -1 while there is none */
    int next;     /* segment after it; -1 while there is none */
    int *destinations;             /* relays first, then decimates; -1 where not open */
    struct destination_down *down; /* of each destination */
    uint32_t destination_count;
    uint32_t relay_count;
    struct hold_outbox *outboxes; /* by place; of a channel with publishers */
    uint32_t outbox_count;
    struct segment_grant segment_grant;
    struct segment_grant next_grant;
    struct channel_shape shape; /* of the ring: of the settings, or those it was once made with */
    struct channel_geometry geometry;
    struct channel_page
        *page;                /* the ring up to its data, mapped; untrusted. NULL when not mapped */
    struct ring_stand before; /* how far old_ring had come, until it is in this one */
    char pages_reason[160]; /* why the ring is of normal pages although huge ones are wanted; "" */
    bool ring_fresh;        /* no worker has attached to it yet */
    uint32_t
        drops_base; /* the socket's drop counter minus what this ring has told of it; modulo 2^32 */
    bool drops_known; /* drops_base is set, for this socket and this ring */
    bool drops_ended; /* this socket's drops up to drops_told are counted, with a ring before */
    uint32_t drops_told;
    struct membership membership;
    uint64_t socket_settings; /* what rx was made from, for the page */
    bool offloads;            /* rx joins runs */
    bool offload_stays; /* whatever the settings say: runs that the kernel has joined may wait in rx
                         */
    bool rx_is_new;     /* what it has dropped so far is in no ring's count */
    bool owes_gap;      /* nobody was receiving before, and no datagram says so yet */
    uint64_t receive_buffer; /* bytes the kernel gave, as getsockopt says, halved back to payload */
};

/* Every fd is -1 afterwards. 0 or -ENOMEM. */
int hold_init(struct hold *hold, const struct channel_spec *spec);

/* The next ring is made as the settings say. While there is none. */
void hold_take_shape(struct hold *hold, const struct channel_spec *spec);
/* The ring was made with other settings: what is in it comes first. */
bool hold_is_outdated(const struct hold *hold, const struct channel_spec *spec);

/* Every descriptor has a place, and each place a name by which it survives the supervisor: "rx",
 * "ring", "private", "old", "history", "log", "next", "out.<i>", "dec.<i>"; of outboxes "box.<i>",
 * "said.<i>", "bell.<i>", "call.<i>". */
#define HOLD_NAME_SIZE 16
uint32_t hold_place_count(const struct hold *hold);
/* The descriptor at a place, -1 when there is none; its name in any case. */
int hold_place(const struct hold *hold, uint32_t place, char ret_name[HOLD_NAME_SIZE]);
/* Where descriptors of this name belong; NULL when it is no name of this hold. A destination's
 * index goes to *ret_destination, for others it is -1. Outboxes have a place however many the
 * settings allow: before they are closed, the ring may have to tell how far they are taken. */
int *hold_place_named(struct hold *hold, const char *name, int *ret_destination);

/* A destination's place in the ring's private memory; -1 when it has none. */
int hold_find_destination(const struct hold *hold, const struct channel_spec *spec, uint32_t index);

/* Letting go. What is in the ring is lost, also to those who were lent it. How far outboxes are
 * taken is what their answers say from then on: what a worker had taken and not published is not
 * taken. */
void hold_drop_ring(struct hold *hold);
void hold_close_sockets(struct hold *hold);
/* As far as this says that it is taken, its answer says as well. While no worker has it. */
struct outbox_progress;
void hold_outbox_settle(struct hold *hold, uint32_t place, const struct outbox_progress *progress);
/* No worker has it any more: what is not taken stays its publisher's, who sees the bell hang up. */
void hold_outbox_drop(struct hold *hold, uint32_t place, enum outbox_state state);
void hold_outboxes_close(struct hold *hold);
void hold_outbox_close(struct hold_outbox *outbox); /* and says nothing */
/* Of everything. Accepts a hold that is half built. */
void hold_close(struct hold *hold);

#endif
