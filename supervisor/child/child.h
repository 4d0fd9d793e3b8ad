/* SPDX-License-Identifier: MIT */
/* A child process, from spawn to wait: its socket, its queue, its pid. What it is for, its owner
 * knows. */
#ifndef HOLDFAST_SUPERVISOR_CHILD_CHILD_H
#define HOLDFAST_SUPERVISOR_CHILD_CHILD_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>

#include "common/message.h"
#include "common/monotonic.h"
#include "supervisor/system/timer.h"

struct child;
struct queued_message; /* waits for room in the socket */

/* Whoever has a use for it. data is child->owner.data. */
struct child_owner {
    const char *role;    /* "spare", "worker", "archive": for log lines */
    const char *channel; /* that it works for, for log lines too; NULL = none. Outlives it */
    void (*message)(struct child *child, struct message *message); /* fds may be taken out of it */
    void (*ended)(struct child *child, const siginfo_t *end); /* waited for; freed afterwards */
    void *data;
};

struct child {
    struct child_owner owner;
    pid_t pid;
    int socket;          /* our end of fd 3 */
    uint64_t generation; /* 0 for a spare; every assignment gets a number never used before */
    monotonic spawned;
    monotonic assigned;
    sd_event_source *exit_source;
    sd_event_source *socket_source;
    struct queued_message *queue;
    struct queued_message **queue_tail;
    uint32_t queue_length;
    struct timer retry;      /* when it is not the socket's room that the queue waits for */
    monotonic socket_closed; /* it closed fd 3, or broke the protocol; ns = 0: it did not */
    bool end_withheld;       /* it was dead at the last look, and could not be waited for */
};

/* Spawn the program at path with its end of a socketpair as fd 3, watched by the event loop. 0 or
 * -errno. */
int child_spawn(sd_event *event, const char *path, const struct child_owner *owner,
                struct child **ret);

/* Queue or send one message; fds are duplicated if it has to wait. Never blocks. 0 or -errno. */
int child_send(struct child *child, enum message_type type, const void *payload,
               size_t payload_size, const int *fds, uint32_t fd_count);

/* Children, so far, whose program could not be executed. */
unsigned child_exec_failures(void);

/* Take what it has said already. Not from a handler of its messages. */
void child_listen(struct child *child);

/* Through the pidfd: never hits a stranger. */
void child_kill(struct child *child, int signal);

/* It said what it must not say: log it and kill it. */
void child_violated(struct child *child, const char *what);

/* "worker 1234 (generation 5)", "spare 77": for log lines. Valid until the next call. */
const char *child_describe(const struct child *child);

/* After it was waited for: close and forget. One that still runs is killed. */
void child_free(struct child *child);

#endif
