/* SPDX-License-Identifier: MIT */
/* The supervisor's whole: settings, channels, children, the archive, the control socket. Single-threaded, never blocks. */
#ifndef HOLDFAST_SUPERVISOR_SUPERVISOR_H
#define HOLDFAST_SUPERVISOR_SUPERVISOR_H

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "common/monotonic.h"
#include "supervisor/channel.h"
#include "supervisor/child.h"
#include "supervisor/config.h"

struct control; /* control.c */

struct supervisor {
    sd_event *event;
    struct settings *settings;
    char worker_path[4096];
    monotonic started;
    struct channel **channels;
    size_t channel_count;
    /* children */
    struct child **spares; /* settings->spare_workers of them, NULL where being made */
    size_t spare_count;
    uint64_t next_generation;
    /* archive_client.c */
    struct child *archive; /* NULL while none runs */
    uint32_t archive_deaths_in_a_row;
    sd_event_source *archive_timer;
    struct control *control;
    /* shutdown */
    bool stopping;
    bool hurried; /* a second signal came */
    sd_event_source *stop_timer;
    bool ready_notified;
};

/* By name; NULL when there is none. */
struct channel *supervisor_find_channel(struct supervisor *supervisor, const char *name);

/* Begin an orderly stop: workers drain, segments are sealed, the loop ends. A second call hurries. */
void supervisor_stop(struct supervisor *supervisor, const char *cause);

/* Whatever changed may complete READY, STATUS or the stop: called by channels after every change of state. */
void supervisor_changed(struct supervisor *supervisor);

/* Take a spare or spawn a child; replaces the spare. NULL with -errno in *ret_error. */
struct child *supervisor_take_child(struct supervisor *supervisor, int *ret_error);

#endif
