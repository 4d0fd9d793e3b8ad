/* SPDX-License-Identifier: MIT */
/* Before an upgrade lets go of anything: can the program that would be executed start, and does it
 * accept the configuration? It is run once with --check. */
#ifndef HOLDFAST_SUPERVISOR_REHEARSAL_H
#define HOLDFAST_SUPERVISOR_REHEARSAL_H

#include "supervisor/supervisor.h"

/* why: NULL when the program is fit, else what is wrong with it. The rehearsal is over when this is
 * called. */
typedef void (*rehearsal_done)(struct supervisor *supervisor, const char *why);

/* 0: done will be called from the event loop. -errno: it can't even be tried. */
int rehearsal_start(struct supervisor *supervisor, rehearsal_done done);

/* End one that is under way, without a word. Accepts that there is none. */
void rehearsal_cancel(struct supervisor *supervisor);

#endif
