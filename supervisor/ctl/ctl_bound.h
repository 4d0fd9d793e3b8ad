/* SPDX-License-Identifier: MIT */
/* What is to be read of a recording: from where, to where, and from whom. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_BOUND_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_BOUND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/channel_spec.h"
#include "common/local_address.h"
#include "supervisor/ctl/ctl_options.h"

enum ctl_bound_kind {
    CTL_BOUND_NONE, /* it was not given */
    CTL_BOUND_FIRST,
    CTL_BOUND_NEW,
    CTL_BOUND_SEQ,
    CTL_BOUND_TIME,
};

struct ctl_bound {
    enum ctl_bound_kind kind;
    uint64_t seq;
    int64_t time_ns;
};

struct ctl_bounds {
    struct ctl_bound from;
    struct ctl_bound to; /* that number is the last one; that time is behind the last one */
    bool has_source;
    union socket_address source; /* port 0: any */
    /* Of family AF_UNIX: "local:UID", "local:UID/PID" or "local:UID/PID/NAME" */
    char local[LOCAL_ADDRESS_TEXT_SIZE];
};

/* Of --from, --to, --until and --source. CTL_OK, or CTL_USAGE with everything printed. */
int ctl_bounds_parse(const struct ctl_command *command, struct ctl_bounds *ret);

/* "seq:12", a time: true, or false with nothing printed. */
bool ctl_bound_is_end(const char *text);

bool ctl_bounds_has_source(const struct ctl_bounds *range, const struct sockaddr_storage *source);

/* A whole number of this option: CTL_OK, or CTL_USAGE with everything printed. */
int ctl_parse_number(const char *option, const char *text, uint64_t most, uint64_t *ret);

#endif
