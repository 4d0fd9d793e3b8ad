/* SPDX-License-Identifier: MIT */
/* Setting up a socket, step by step, so that a failure can be told completely: what was to be done,
 * which step failed, and what to do about it. */
#ifndef HOLDFAST_SUPERVISOR_HOLD_SOCKET_ATTEMPT_H
#define HOLDFAST_SUPERVISOR_HOLD_SOCKET_ATTEMPT_H

#include <stdbool.h>
#include <stddef.h>

struct attempt {
    int fd;
    bool is_v6;
    char what[160];   /* "listen on 239.1.1.1:6000" */
    const char *step; /* "bind" */
};

/* setsockopt(2) with an int; step names it. 0 or -errno. */
int attempt_set(struct attempt *attempt, int level, int option, int value, const char *step);

/* Its number, 0 when there is no such interface. 0, or -errno when nobody could be asked. */
int attempt_find_interface(const char *name, unsigned *ret_index);

/* "" is no interface, index 0. 0, -ENODEV, or -errno when nobody could be asked. */
int attempt_interface(struct attempt *attempt, const char *name, unsigned *ret_index);

/* "can't listen on ... (bind): ...; what to do" */
void attempt_describe(const struct attempt *attempt, int error, char *why, size_t why_size);

/* That, and the socket is closed. Returns error. */
int attempt_fail(struct attempt *attempt, int error, char *why, size_t why_size);

#endif
