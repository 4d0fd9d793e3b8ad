/* SPDX-License-Identifier: MIT */
/* Before an upgrade lets go of anything: can the program that would be executed start, and does it
 * accept the configuration? It is run once with --check, and has to answer as holdfastd does. */
#ifndef HOLDFAST_SUPERVISOR_REHEARSAL_H
#define HOLDFAST_SUPERVISOR_REHEARSAL_H

#include <systemd/sd-event.h>

#include "supervisor/system/process.h"
#include "supervisor/system/timer.h"

/* why: NULL when the program is fit, else what is wrong with it. The rehearsal is over when this is
 * called. */
typedef void (*rehearsal_done)(void *data, const char *why);

/* Who begins one sets done and data. */
struct rehearsal {
    rehearsal_done done;
    void *data;
    const struct program *program; /* NULL: none is under way */
    pid_t pid;
    int answer;     /* what it writes to its standard output; nonblocking */
    int output;     /* ... and to its standard error */
    char said[256]; /* its beginning */
    size_t said_length;
    sd_event_source *exit_source;
    sd_event_source *output_source;
    struct timer timer;
    bool late;
};

struct rehearsal_circumstances {
    /* Gets the text of the configuration that is accepted, of a program that knows how; or -1. */
    int config;
    const char *log_dir; /* at work now: it must not change while segments in it are written */
};

/* 0: done will be called from the event loop. -errno: it can't even be tried. */
int rehearsal_start(struct rehearsal *rehearsal, sd_event *event, const struct program *program,
                    const struct rehearsal_circumstances *circumstances);
bool rehearsal_is_under_way(const struct rehearsal *rehearsal);

/* End one that is under way, without a word. Accepts that there is none. */
void rehearsal_cancel(struct rehearsal *rehearsal);

#endif
