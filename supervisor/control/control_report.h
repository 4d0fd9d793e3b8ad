/* SPDX-License-Identifier: MIT */
/* What the control socket tells about channels, as JSON (holdfastctl.1). Every call returns a new
 * reference. */
#ifndef HOLDFAST_SUPERVISOR_CONTROL_CONTROL_REPORT_H
#define HOLDFAST_SUPERVISOR_CONTROL_CONTROL_REPORT_H

#include <jansson.h>

struct supervisor;
struct channel;
struct obituary;

/* control_status.c. channel: NULL = all of them. */
json_t *control_report_status(struct supervisor *supervisor, const struct channel *channel);
json_t *control_report_check(struct supervisor *supervisor);
/* The segment that is being written, by name; JSON null while there is none. */
json_t *control_report_segment(const struct channel *channel);

/* control_crashes.c. channel: NULL = the newest of all. */
json_t *control_report_crashes(struct supervisor *supervisor, const struct channel *channel);
/* The last death in short, for status; JSON null when nobody died. */
json_t *control_report_last_death(const struct channel *channel);

#endif
