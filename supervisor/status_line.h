/* SPDX-License-Identifier: MIT */
/* What the service manager is told (sd_notify(3)): READY, STATUS, STOPPING. */
#ifndef HOLDFAST_SUPERVISOR_STATUS_LINE_H
#define HOLDFAST_SUPERVISOR_STATUS_LINE_H

#include "supervisor/channel/channels.h"

struct status_line {
    const struct channels *channels;
    struct timer timer;
    char text[256]; /* as last told */
    bool ready_told;
    bool stopping_told;
};

void status_line_init(struct status_line *line, const struct channels *channels);

/* READY=1 as soon as every channel runs or has said why not; STATUS= soon, when its text has
 * changed. */
void status_line_changed(struct status_line *line);
/* The phase has become PHASE_STOPS. */
void status_line_stopping(struct status_line *line);
void status_line_stop(struct status_line *line);

#endif
