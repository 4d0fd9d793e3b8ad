/* SPDX-License-Identifier: MIT */
/* A live reader's own connection to the gate, which ends and is made again without its owner
 * noticing: one epoll descriptor stands for socket and retry timer as long as the reader lives.
 * Requests are sent and never waited for; their answers are kept here until the owner takes them.
 */
#ifndef HOLDFAST_COMMON_CLIENT_READER_LINK_H
#define HOLDFAST_COMMON_CLIENT_READER_LINK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "common/monotonic.h"
#include "common/read_protocol.h"

/* What can be asked, one of each at a time. */
enum question {
    ASK_HELLO,
    ASK_ATTACH,
    ASK_CLAIM,
    ASK_FIND,
    ASK_SAVE,
    QUESTION_COUNT,
};

struct question_state {
    uint32_t request; /* its number while it is out; 0 = it isn't */
    bool answered;    /* and the answer was not taken yet */
    int error;        /* of the answer: 0, or -errno as the gate said */
};

struct reader_link {
    int epoll, socket, timer;
    monotonic timer_at;  /* 0 = not set */
    monotonic retry_at;  /* connect again, not before */
    unsigned failures;   /* since a channel was attached */
    int error;           /* why there is no connection: -errno, 0 while there is one */
    int refused;         /* what the gate has said of the connection itself: -errno */
    int turned_away;     /* the last one that was said, until a gate has welcomed us */
    bool greeted;        /* WELCOME came: requests may be sent */
    bool attached_now;   /* so did ATTACHED, on this connection */
    bool armed;          /* ARM is out */
    bool woken;          /* WOKEN came, and nobody has looked yet */
    bool stirred;        /* something has come or changed since hf_next() found nothing */
    uint64_t woken_ring; /* what it said */
    uint32_t last_request;
    struct question_state questions[QUESTION_COUNT];
    struct read_attached attached; /* the answers, by their questions */
    int attached_fd;               /* owned until it is taken; -1 = none came */
    struct read_found found;
    int found_fd;
    struct read_position claimed;
    struct sockaddr_un address;
    struct read_attach attach;  /* sent again with each connection, */
    struct read_position claim; /* and this, if it has a name */
    struct read_packet packet;
};

/* Everything to ask for is said before; nothing is sent yet. 0 or -errno; to be closed in both
 * cases. */
int reader_link_open(struct reader_link *link, const struct sockaddr_un *address,
                     const struct read_attach *attach, const struct read_position *claim);
void reader_link_close(struct reader_link *link);

/* Connect if it is time to, and receive what has come. Never waits. */
void reader_link_pump(struct reader_link *link);

/* Send it unless it is out already. 0; -EAGAIN: not now, the epoll descriptor will tell. */
int reader_link_ask(struct reader_link *link, enum question question, const void *payload);
/* Has an answer come that was not taken yet? With *ret_error, 0 or -errno. Afterwards it is taken;
 * descriptors that it brought are still to be fetched. */
bool reader_link_take(struct reader_link *link, enum question question, int *ret_error);
/* Whatever answer comes to it isn't wanted any more. */
void reader_link_forget(struct reader_link *link, enum question question);

/* Be woken when there is more than this, or another ring. 0 or -EAGAIN as above. */
int reader_link_arm(struct reader_link *link, const struct read_arm *arm);
void reader_link_tell_progress(struct reader_link *link, uint64_t next_seq);

/* Make the epoll descriptor readable at this time, or sooner. */
void reader_link_wake_at(struct reader_link *link, monotonic when);

#endif
