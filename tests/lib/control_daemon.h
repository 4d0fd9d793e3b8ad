/* SPDX-License-Identifier: MIT */
/* The real control socket on a real event loop in a process of its own, around a supervisor that
 * has one channel which never starts; and a client that waits with a deadline. For the tests of the
 * control socket. */
#ifndef HOLDFAST_TESTS_LIB_CONTROL_DAEMON_H
#define HOLDFAST_TESTS_LIB_CONTROL_DAEMON_H

#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

#define CONTROL_DAEMON_CHANNEL   "engine"
#define CONTROL_DAEMON_TIMES_MAX 4000

struct control_daemon {
    char folder[64];    /* made, and removed at the end */
    char socket[108];   /* folder/run/control.sock; the last folder is made by the daemon */
    char log[108];      /* what it says on stderr */
    mode_t mode;        /* 0660 */
    rlim_t descriptors; /* its RLIMIT_NOFILE; 0 = leave it */
    unsigned times;     /* the channel appears so often in status: for large answers; 1 */
    pid_t pid;          /* 0 = not running */
    int result;         /* of control_open() */
    char why[512];
};

/* For main(), around all tests: the folder that theirs are in. A test that fails doesn't come to
 * its own clean-up. */
void control_daemon_begin_all(void);
void control_daemon_end_all(void);

/* Makes the folder, fills in the defaults. */
void control_daemon_init(struct control_daemon *daemon);
/* Returns when control_open() has: 0, or its error with daemon->why. */
int control_daemon_start(struct control_daemon *daemon);
/* In an orderly way: control_close() runs. Then the folder may be looked at. */
void control_daemon_stop(struct control_daemon *daemon);
void control_daemon_kill(struct control_daemon *daemon);
void control_daemon_cleanup(struct control_daemon *daemon);

/* CPU time it has used, in ns. */
unsigned long long control_daemon_cpu_ns(const struct control_daemon *daemon);

/* A connected, nonblocking socket; -errno when it is refused. */
int control_connect(const struct control_daemon *daemon);
/* Send all of it, waiting at most 5 s each time the socket is full. 0 or -errno (-ETIMEDOUT). */
int control_send(int fd, const char *bytes, size_t length);
int control_send_text(int fd, const char *text);
/* One line without its newline, terminated. Its length; 0 = end of stream; -ETIMEDOUT after 5 s. */
long control_read_line(int fd, char *line, size_t size);
/* 0 when the peer has closed within that many ms, and nothing more came before. */
int control_wait_end(int fd, int milliseconds);

#endif
