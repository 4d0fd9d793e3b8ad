/* SPDX-License-Identifier: MIT */
/* The supervisor as a whole: its parts, and how it ends. Single-threaded, never blocks. */
#ifndef HOLDFAST_SUPERVISOR_SUPERVISOR_H
#define HOLDFAST_SUPERVISOR_SUPERVISOR_H

#include "supervisor/channel/channels.h"
#include "supervisor/status_line.h"
#include "supervisor/tick.h"
#include "supervisor/upgrade.h"

struct supervisor {
    sd_event *event;
    struct settings *settings;
    monotonic started;
    struct channel_host host;
    struct channels channels;
    struct spares spares;
    struct archive_client archive;
    struct gate_client gate;
    struct store store;
    struct shredder shredder;
    struct tick tick;
    struct status_line status_line;
    struct upgrade upgrade;
    struct timer stop_timer;
};

/* Begin an orderly stop: workers drain, segments are sealed, the loop ends. A second call hurries.
 */
void supervisor_stop(struct supervisor *supervisor, const char *cause);

/* Whatever changed may complete READY, STATUS, an upgrade or the stop. data: the supervisor. */
void supervisor_changed(void *data);

#endif
