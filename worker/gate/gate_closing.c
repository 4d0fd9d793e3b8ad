/* SPDX-License-Identifier: MIT */
/* Whoever closes a socket lets go of the descriptors that are on their way in it, and that may take
 * as long as who sent them likes: a TCP socket that lingers is enough. Linux 6.16 and later keep
 * descriptors away (SO_PASSRIGHTS). Before it, the main loop never receives one, and where one may
 * be left in a socket, a thread of its own closes that. Called by the main loop. */
#include "worker/gate/gate_closing.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "worker/gate/gate_peer.h"
#include "worker/gate/gate_pool.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

/* Of those that were turned away: when so many are stuck, no more are taken for a while. */
#define TURNED_AWAY_MOST 64

int gate_closing_prepare(struct gate *gate)
{
    const int none = 0;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = GATE_SOURCE_CLOSER};
    gate->keeps_away =
        setsockopt(gate->listening, SOL_SOCKET, SO_PASSRIGHTS, &none, sizeof none) == 0;
    if (gate->keeps_away)
        return 0;
    int result = gate_pool_open(&gate->closer, 1);
    gate->closer.most = GATE_SLOTS + TURNED_AWAY_MOST;
    if (result == 0 && epoll_ctl(gate->epoll, EPOLL_CTL_ADD, gate->closer.bell, &event) < 0)
        result = -errno;
    return result;
}

/* Looks at the next packet, with no room for what rides on it: is there something that rides? That
 * it is cut off is told, and it stays in the socket. -1: there is no packet, and none can be. */
static int peek(int fd, bool *ret_cut)
{
    char byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t length = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);
    *ret_cut = length >= 0 && (message.msg_flags & MSG_CTRUNC);
    return length < 0 ? -1 : 0;
}

bool gate_closing_has_descriptors(const struct gate *gate, int fd)
{
    bool cut;
    return !gate->keeps_away && peek(fd, &cut) == 0 && cut;
}

/* Nothing is left in it, and nothing more can come. An empty packet looks like the end, unless
 * credentials are to ride on every packet. */
static bool is_empty(int fd)
{
    const int yes = 1;
    bool cut;
    return shutdown(fd, SHUT_RD) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) == 0 && peek(fd, &cut) == 0 &&
           !cut;
}

#define NO_SLOT UINT32_MAX

struct closing {
    struct gate_job job; /* first */
    int fd;
    uint32_t slot; /* of its connection; NO_SLOT: it had none */
};

static void run_closing(struct gate_job *job)
{
    fd_close(&((struct closing *)job)->fd);
}

/* false: it is closed already. */
static bool close_apart(struct gate *gate, int *fd, uint32_t slot)
{
    struct closing *closing = NULL;
    if (!gate->keeps_away && !is_empty(*fd))
        closing = calloc(1, sizeof *closing);
    if (!closing) {
        fd_close(fd);
        return false;
    }
    *closing = (struct closing){.job = {.run = run_closing}, .fd = fd_take(fd), .slot = slot};
    if (gate_pool_submit(&gate->closer, &closing->job, NULL))
        return true;
    fd_close(&closing->fd); /* can't be: there is room for every connection */
    free(closing);
    return false;
}

bool gate_closing_close(struct gate *gate, struct gate_connection *connection)
{
    if (gate_peer_is_remote(connection)) { /* no descriptor can be left in it */
        epoll_ctl(gate->epoll, EPOLL_CTL_DEL, connection->fd, NULL);
        shutdown(connection->fd, SHUT_RDWR); /* a thread may have another one of it, to send */
        fd_close(&connection->fd);
        return true;
    }
    if (!gate->keeps_away)
        epoll_ctl(gate->epoll, EPOLL_CTL_DEL, connection->fd, NULL);
    return !close_apart(gate, &connection->fd, connection->slot);
}

void gate_closing_take(struct gate *gate, void done(struct gate *, struct gate_connection *))
{
    for (struct gate_job *next, *job = gate_pool_take(&gate->closer); job; job = next) {
        uint32_t slot = ((struct closing *)job)->slot;
        next = job->next;
        free(job);
        if (slot == NO_SLOT)
            gate->turned_away--;
        else
            done(gate, gate->connections[slot]);
    }
}

void gate_closing_turn_away(struct gate *gate, int *fd)
{
    if (close_apart(gate, fd, NO_SLOT))
        gate->turned_away++;
}

bool gate_closing_is_held_up(const struct gate *gate)
{
    return gate->turned_away >= TURNED_AWAY_MOST;
}
