/* SPDX-License-Identifier: MIT */
/* What replay is told on its command line. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_REPLAY_OPTIONS_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_REPLAY_OPTIONS_H

#include <stdint.h>

#include "supervisor/ctl/ctl_bound.h"
#include "supervisor/ctl/ctl_replay_socket.h"

#define CTL_REPLAY_RATE_LEAST 0.01
#define CTL_REPLAY_RATE_MOST  1000.0

struct ctl_replay_options {
    struct ctl_bounds bounds;
    struct ctl_replay_target target;
    bool at_once;         /* --rate max */
    double rate;          /* else so many times as fast */
    uint64_t loops;       /* 0 = for ever */
    int64_t silence_ns;   /* no pause is longer; INT64_MAX = as long as it was */
    const char *where_to; /* the address as it was written */
};

/* CTL_OK, or CTL_USAGE with everything printed. */
int ctl_replay_options_parse(const struct ctl_command *command, struct ctl_replay_options *ret);

#endif
