/* SPDX-License-Identifier: MIT */
/* holdfastctl: what its verbs share. Exit statuses are part of the interface (holdfastctl.1). */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/control_protocol.h"

enum ctl_exit {
    CTL_OK = 0,
    CTL_NO = 1, /* the answer is no, or not healthy, or not yet */
    CTL_USAGE = 2,
    CTL_NO_DAEMON = 3, /* nobody can be asked */
};

struct ctl_options {
    const char *socket;
    bool json;
    bool no_wait;
    bool watch;
    bool colour;
    uint64_t timeout_ns; /* for the whole command; for each round of --watch */
};

/* One verb. channel: NULL for none. Prints its result or its error; returns the exit status. */
int ctl_ping(const struct ctl_options *options, const char *channel);
int ctl_status(const struct ctl_options *options, const char *channel);
int ctl_check(const struct ctl_options *options, const char *channel);
int ctl_crashes(const struct ctl_options *options, const char *channel);
int ctl_shutdown(const struct ctl_options *options, const char *channel);
int ctl_upgrade(const struct ctl_options *options, const char *channel);
/* ctl_channel.c: start, stop, restart, reset-failed, rotate */
int ctl_change(const struct ctl_options *options, enum control_verb_id verb, const char *channel);

/* "holdfastctl: ..." on stderr, one line; control characters in it are made harmless. */
void ctl_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
