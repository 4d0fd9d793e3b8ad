/* SPDX-License-Identifier: MIT */
/* A child process: a spare, a channel's worker or the archive. One of these per process, from spawn
 * to wait. */
#ifndef HOLDFAST_SUPERVISOR_CHILD_CHILD_H
#define HOLDFAST_SUPERVISOR_CHILD_CHILD_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>

#include "common/message.h"
#include "common/monotonic.h"

struct supervisor;
struct channel;

enum child_kind {
    CHILD_SPARE,
    CHILD_CHANNEL,
    CHILD_ARCHIVE,
};

struct queued_message; /* waits for room in the socket */

struct child {
    struct supervisor *supervisor;
    enum child_kind kind;
    struct channel *channel; /* CHILD_CHANNEL */
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
    bool said_bye;
    bool aborted_for_hang; /* we sent SIGABRT: what follows is a hang's end */
    char hung_thread[16];
    monotonic abort_sent;
    bool killed_for_silence;
    monotonic socket_closed; /* it closed fd 3, or broke the protocol; ns = 0: it did not */
};

/* Spawn holdfast-worker with its end of a socketpair as fd 3, watched by the event loop. 0 or
 * -errno. */
int child_spawn(struct supervisor *supervisor, enum child_kind kind, struct child **ret);

/* Queue or send one message; fds are duplicated if it has to wait. Never blocks. 0 or -errno. */
int child_send(struct child *child, enum message_type type, const void *payload,
               size_t payload_size, const int *fds, uint32_t fd_count);

/* Through the pidfd: never hits a stranger. */
void child_kill(struct child *child, int signal);

/* It said what it must not say: log it and kill it. */
void child_violated(struct child *child, const char *what);

/* "worker 1234 (generation 5)", "spare 77", "archive 78": for log lines. Valid until the next call.
 */
const char *child_describe(const struct child *child);

/* "was killed by SIGSEGV", "exited with status 1": what waitid(2) said. */
void child_describe_end(const siginfo_t *end, char *ret_text, size_t size);

/* After it was waited for: close and forget. One that still runs is killed. */
void child_free(struct child *child);

#endif
