/* SPDX-License-Identifier: MIT */
/* The supervisor's side of the gate, the process that serves readers: its socket, the memory by
 * which workers wake it, and the process itself. It knows the names of channels, not channels;
 * what it asks goes to its owner. Nobody waits for a gate: without one nobody reads, and everything
 * else goes on. */
#ifndef HOLDFAST_SUPERVISOR_GATE_GATE_CLIENT_H
#define HOLDFAST_SUPERVISOR_GATE_GATE_CLIENT_H

#include <stdbool.h>

#include "common/message.h"
#include "supervisor/child/obituary.h"
#include "supervisor/child/restart.h"
#include "supervisor/child/spares.h"
#include "supervisor/gate/gate_tcp.h"
#include "supervisor/system/listening.h"

/* For the program that an upgrade executes: listening.h. */
#define GATE_GROUP_VARIABLE "HOLDFAST_READ_GROUP"
#define GATE_KEPT_VARIABLE  "HOLDFAST_READ_KEPT"

struct gate_owner {
    /* A new gate runs: it is to be lent every channel, and told when that is done. */
    void (*back)(void *data);
    /* It was behind, and may have room again: go on lending. */
    void (*room)(void *data);
    /* A reader's position is to be kept or removed, to be answered with gate_client_answer(). The
     * names are such that no path leads anywhere by them. */
    void (*position)(void *data, const struct message_position_save *save);
    /* A program wants to write into a channel, to be answered with gate_client_answer_publish(). */
    void (*publish)(void *data, const struct message_publish *wanted);
    /* It has ended; or it was told to stop, and nobody waits for its end any more. */
    void (*ended)(void *data);
    void *data;
};

enum gate_state {
    GATE_DISABLED,  /* by the configuration */
    GATE_NO_SOCKET, /* it can't be made: tried again every second */
    GATE_RUNNING,
    GATE_WAITING, /* for its restart */
    GATE_STOPPED, /* told to */
};

struct gate_client {
    sd_event *event;
    struct spares *spares;
    const struct settings *settings;
    struct gate_owner owner;
    struct listening socket; /* fd -1 while there is none */
    struct timer socket_retry;
    struct gate_tcp tcp;
    int wake, bell;           /* read_wake.h; -1 where nobody can read */
    struct last_words *words; /* in `wake`, of the gate; NULL: none can be had */
    char trouble[256];        /* why there is no socket; "" = there is, or none is wanted */
    struct child *child;      /* NULL while none runs */
    struct restart restart;
    struct timer timer; /* until the next one starts, or one that is told to stop is killed */
    struct timer room;  /* until it is looked whether it can be lent more */
    bool all_lent;      /* this one was told so */
    bool told_to_stop;
    bool leaves;  /* the present one was told to: also where another one follows after all */
    bool started; /* once at least */
    uint32_t restarts;
    monotonic down_since;    /* it ended by itself, and none has lived since; ns = 0: no */
    monotonic heard;         /* when it last said something */
    monotonic asked;         /* whether its main loop is at work; ns = 0: it owes no answer */
    monotonic stopped_since; /* somebody has stopped it; ns = 0: no */
    monotonic aborted;       /* since it did not answer; ns = 0: no */
    monotonic killed;        /* ns = 0: no */
    const char *hung;        /* why it was killed: what gave no sign of life; NULL: it was not */
    struct obituary_list obituaries;
    struct message_gate_report report; /* its last one */
};

/* Makes what workers and gate share. Where that can't be had, nobody can read. */
void gate_client_init(struct gate_client *client, sd_event *event, struct spares *spares,
                      const struct settings *settings, const struct gate_owner *owner);

/* Make the socket, or go on with what gate_client_leave() of the program before has left (-1:
 * nothing), and start the gate; again after its death, by the restart policy. left is taken over.
 */
void gate_client_start(struct gate_client *client, int left);

/* Are readers to be served, whether a gate runs or not? Workers then get wake and bell. */
bool gate_client_is_enabled(const struct gate_client *client);

/* Announce a channel, or that its ring is another one now. ring: a descriptor of the public memory
 * by which nothing can be changed; -1 when there is none. 0; -EAGAIN: it is behind, ask again
 * when owner->room() is called; or -errno. */
int gate_client_lend(struct gate_client *client, const struct message_channel_lent *lent, int ring);

/* Every channel has been lent: who asks for another one is told that there is none. Once for each
 * gate, however often it is called; false: not yet, call again. */
bool gate_client_all_lent(struct gate_client *client);

/* A position that the gate of this generation has asked for; nothing if that one is gone. */
void gate_client_answer(struct gate_client *client, uint64_t generation,
                        const struct message_position_saved *saved);

/* Likewise; the descriptors stay the caller's, none where it is an error. */
void gate_client_answer_publish(struct gate_client *client,
                                const struct message_published *published, const int *fds);

/* One that somebody has stopped, or whose main loop does not answer, is replaced. Called now and
 * then. */
void gate_client_look(struct gate_client *client, monotonic now);

/* Let it end; whoever reads gets what it has asked for, for as long as `grace` says, and sees its
 * connection end. Then it gets a moment, then it is killed, and after another one nobody waits for
 * it: owner->ended() in any case. */
void gate_client_stop(struct gate_client *client);
/* It was told to stop, and there is no end after all. */
void gate_client_go_on(struct gate_client *client);
/* It is gone, or nobody waits for it. */
bool gate_client_has_ended(const struct gate_client *client);
/* For the end of everything: no new connections, and no path. */
void gate_client_close_socket(struct gate_client *client);
/* The socket for the program that is executed next, which is the caller's; -1 for none. */
int gate_client_leave(struct gate_client *client);
void gate_client_free(struct gate_client *client);

/* ---- for reports ---- */

enum gate_state gate_client_state(const struct gate_client *client);
extern const char *const gate_state_names[];
/* Why nobody can read, or nobody over TCP, for people; "" when somebody can, or soon. */
const char *gate_client_trouble(const struct gate_client *client, monotonic now);

#endif
