/* SPDX-License-Identifier: MIT */
/* holdfastctl's command line, taken apart. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_OPTIONS_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_OPTIONS_H

#include "common/control_protocol.h"
#include "supervisor/ctl/ctl.h"

struct ctl_command {
    struct ctl_options options;
    enum control_verb_id verb;
    const char *channel; /* NULL for none */
    char **files;        /* of verify and recover */
    int file_count;
    const char *output; /* -o of recover; NULL when it was not given */
};

/* CTL_OK: *ret says what to do. Else the exit status with everything printed, except -1: help or
 * version was asked for and printed. */
int ctl_options_parse(int argc, char **argv, struct ctl_command *ret);

#endif
