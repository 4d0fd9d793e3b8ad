/* SPDX-License-Identifier: MIT */
/* An outbox mapped, told of, and let go of. The control thread makes and frees it, because mapping
 * may have to wait for another thread's disk; the receiver has it in between. Must never believe
 * what lies in the box. */
#include "worker/channel/intake_box.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/channel_spec.h"
#include "common/fd.h"
#include "common/ring.h"

static void name_source(struct intake_box *box)
{
    const struct outbox_answer *answer = box->consumer.map.answer;
    union socket_address source;
    char name[sizeof answer->name];
    for (size_t i = 0; i < sizeof name; i++)
        name[i] = answer->name[i];
    name[sizeof name - 1] = '\0';
    socket_address_local(answer->uid, answer->pid, name, &source);
    ring_local_words(&source, box->address, &box->origin);
}

/* The page's word counts: it has flipped with the datagrams. The answer's is as far or behind. */
static void go_on(struct intake_box *box, const struct outbox_map *map,
                  const struct outbox_entry *entry, uint32_t max_datagram)
{
    uint64_t at = atomic_load(&map->answer->taken);
    box->count = atomic_load(&map->answer->taken_count);
    if (entry->id == box->id && entry->position >= at && entry->position - at <= map->capacity) {
        at = entry->position;
        box->count = entry->count;
    }
    outbox_consumer_open(&box->consumer, map, at, max_datagram);
}

struct intake_box *intake_box_of_none(const struct message_outbox *outbox)
{
    struct intake_box *box = calloc(1, sizeof *box);
    if (box) {
        box->id = outbox->id;
        box->place = outbox->place;
        box->box = box->answer = box->bell = box->call = -1;
    }
    return box;
}

struct intake_box *intake_box_new(const struct message_outbox *outbox, int fds[OUTBOX_FDS],
                                  const struct outbox_entry *entry, uint32_t max_datagram,
                                  int *ret_error)
{
    struct intake_box *box = intake_box_of_none(outbox);
    struct outbox_map map;
    *ret_error = -ENOMEM;
    if (!box)
        return NULL;
    box->box = fd_take(&fds[0]);
    box->answer = fd_take(&fds[1]);
    box->bell = fd_take(&fds[2]);
    box->call = fd_take(&fds[3]);
    *ret_error = outbox_map(box->box, box->answer, OUTBOX_WORKER, &map);
    if (*ret_error == 0 && map.answer->id != box->id)
        *ret_error = -EBADMSG;
    if (*ret_error < 0) {
        outbox_unmap(&map);
        intake_box_free(&box);
        return NULL;
    }
    go_on(box, &map, entry, max_datagram);
    name_source(box);
    return box;
}

void intake_box_free(struct intake_box **box)
{
    if (!*box)
        return;
    outbox_unmap(&(*box)->consumer.map);
    fd_close(&(*box)->box);
    fd_close(&(*box)->answer);
    fd_close(&(*box)->bell);
    fd_close(&(*box)->call);
    free(*box);
    *box = NULL;
}

void intake_box_ring(const struct intake_box *box)
{
    /* A full socket is rung enough; one that is hung up is found so. */
    const char once = 0;
    ssize_t sent = send(box->bell, &once, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)sent;
}

void intake_box_mark(struct intake_box *box, uint64_t seq)
{
    /* Where there is no room, the last one waits for a little more than it would have to. */
    uint32_t at = box->mark_count < INTAKE_MARKS ? box->mark_count++ : INTAKE_MARKS - 1;
    box->marks[at] = (struct intake_mark){seq, box->count};
}

void intake_box_durable(struct intake_box *box, uint64_t seq)
{
    uint32_t reached = 0;
    while (reached < box->mark_count && box->marks[reached].seq <= seq)
        reached++;
    if (reached == 0)
        return;
    if (outbox_say_durable(&box->consumer, box->marks[reached - 1].count))
        intake_box_ring(box);
    box->mark_count -= reached;
    for (uint32_t i = 0; i < box->mark_count; i++)
        box->marks[i] = box->marks[i + reached];
}
