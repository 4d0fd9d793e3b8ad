/* SPDX-License-Identifier: MIT */
/* holdfastctl's command line, taken apart. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_OPTIONS_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_OPTIONS_H

#include "common/control_protocol.h"
#include "supervisor/ctl/ctl.h"

/* Texts are what stands on the line, not judged yet; NULL when it was not given. */
struct ctl_command {
    struct ctl_options options;
    enum control_verb_id verb;
    const char *channel;  /* NULL for none */
    const char *position; /* of forget: the name behind the channel; else --position */
    char **files;         /* of verbs for files, and of those for channels or files */
    int file_count;
    const char *output; /* -o: a file, or cat's format */
    const char *read_socket;
    const char *from, *until, *source;
    const char *to[2]; /* of replay, in any order: where to, and where it ends */
    int to_count;
    const char *count, *format, *how;
    const char *rate, *loop, *interface, *ttl, *skip_silence;
    const char *size; /* of publish */
    bool follow, strict, force, lines, durable;
};

/* CTL_OK: *ret says what to do. Else the exit status with everything printed, except -1: help or
 * version was asked for and printed. */
int ctl_options_parse(int argc, char **argv, struct ctl_command *ret);

#endif
