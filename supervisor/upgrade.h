/* SPDX-License-Identifier: MIT */
/* Upgrade in place: this process executes the (possibly new) program again and hands it the hold,
 * by the same names and the same restore path as after a death (channel_restore.h). */
#ifndef HOLDFAST_SUPERVISOR_UPGRADE_H
#define HOLDFAST_SUPERVISOR_UPGRADE_H

#include "supervisor/channel/channels.h"
#include "supervisor/rehearsal.h"

/* sd_event_exit() code: the loop ends in order to execute the program again */
#define UPGRADE_EXIT 1000

struct upgrade {
    const struct program *program;
    struct channels *channels;
    struct rehearsal rehearsal;
    int config;  /* the text of the configuration that was rehearsed, which is what counts; or -1 */
    bool drains; /* readers are let go, then the workers are told */
    struct timer deadline;
    rehearsal_done answer; /* whoever waits for it: it begins now, or why not */
    void *data;
};

void upgrade_init(struct upgrade *upgrade, const struct program *program, struct channels *channels,
                  rehearsal_done answer, void *data);

/* See whether the program is fit, then let workers and archive end, then the loop. 0:
 * upgrade->answer follows. -errno with *ret_why: nothing has happened. */
int upgrade_begin(struct upgrade *upgrade, const char **ret_why);

/* Something has changed while it drains, or the phase is PHASE_PARKS: is everybody gone? */
void upgrade_progress(struct upgrade *upgrade);

/* There will be none: what was begun is forgotten. */
void upgrade_cancel(struct upgrade *upgrade);

/* The sockets that clients connect to; -1 for none. */
struct upgrade_sockets {
    int control, read;
};

/* Execute the program with the hold and these as its inheritance. Returns only if that failed. */
void upgrade_execute(const struct upgrade *upgrade, const struct upgrade_sockets *sockets);

#endif
