/* SPDX-License-Identifier: MIT */
/* Upgrade in place: this process executes the (possibly new) program again and hands it the hold,
 * by the same names and the same restore path as after a death (handover.h). */
#ifndef HOLDFAST_SUPERVISOR_UPGRADE_H
#define HOLDFAST_SUPERVISOR_UPGRADE_H

#include "supervisor/supervisor.h"

/* sd_event_exit() code: the loop ends in order to execute the program again */
#define UPGRADE_EXIT 1000

/* See whether the program is fit, then let workers and archive end, then the loop. 0: who asked is
 * told by control_answer_upgrade(). -errno with *ret_why: nothing has happened. */
int upgrade_begin(struct supervisor *supervisor, const char **ret_why);

/* Something has changed: is everybody gone? */
void upgrade_progress(struct supervisor *supervisor);

/* Execute the program with the hold as its inheritance. Returns only if that failed. */
void upgrade_execute(struct supervisor *supervisor);

#endif
