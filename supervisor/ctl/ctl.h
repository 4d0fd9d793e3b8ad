/* SPDX-License-Identifier: MIT */
/* holdfastctl: what its verbs share. Exit statuses are part of the interface (holdfastctl.1). */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_H

#include <stdbool.h>
#include <stdint.h>

enum ctl_exit {
    CTL_OK = 0,
    CTL_NO = 1, /* the answer is no, or not healthy, or not yet */
    CTL_USAGE = 2,
    CTL_NO_DAEMON = 3, /* nobody can be asked */
};

/* What the command line says for every verb. A verb prints its result or its error itself and
 * returns the exit status; where it takes a channel, NULL is none. */
struct ctl_options {
    const char *socket;
    bool json;
    bool no_wait;
    bool watch;
    bool verbose;
    bool colour;
    uint64_t timeout_ns; /* for the whole command; for each round of --watch */
};

#endif
