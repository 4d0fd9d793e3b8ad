/* SPDX-License-Identifier: MIT */
/* How a writer comes by an outbox: it connects to the gate, asks, and lets the connection go;
 * later, where that outbox has ended, again, ever more rarely, until there is another one. Nothing
 * waits; socket and retry timer are in the writer's epoll descriptor. */
#ifndef HOLDFAST_COMMON_CLIENT_WRITER_LINK_H
#define HOLDFAST_COMMON_CLIENT_WRITER_LINK_H

#include <stdbool.h>
#include <sys/un.h>

#include "common/monotonic.h"
#include "common/read_protocol.h"

struct writer_link {
    int epoll, socket, timer;
    bool wanted;        /* there is to be an outbox, and none has come yet */
    bool is_timed;      /* the timer is set */
    bool is_reminding;  /* ... and not for connecting again */
    monotonic retry_at; /* connect again, not before */
    unsigned failures;  /* since an outbox came */
    int error;          /* what became of the last attempt: -errno; 0 = it is under way */
    int refused;        /* the gate has said that there is no publishing: -errno; 0 = it has not */
    struct sockaddr_un address;
    struct read_publish publish;
    struct read_packet packet;
};

/* 0 or -errno; to be closed in both cases. */
int writer_link_open(struct writer_link *link, const struct sockaddr_un *address,
                     const char *channel);
void writer_link_close(struct writer_link *link);

/* An outbox is needed from now on. */
void writer_link_want(struct writer_link *link);
/* What has come is of no use: in a second again. */
void writer_link_put_off(struct writer_link *link, int error);
/* Keep the epoll descriptor readable, or don't. Only while nothing is wanted, or never will be. */
void writer_link_remind(struct writer_link *link, bool is_due);
/* Go on with it. 1: it has come, and ret_fds are the caller's: box, answer, bell, call. 0: not yet;
 * the epoll descriptor becomes readable when there is more to do. */
int writer_link_pump(struct writer_link *link, int ret_fds[READ_FDS_MAX]);

#endif
