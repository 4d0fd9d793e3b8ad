/* SPDX-License-Identifier: MIT */
/* The supervisor's whole: settings, channels, children, the archive, the control socket.
 * Single-threaded, never blocks. */
#ifndef HOLDFAST_SUPERVISOR_SUPERVISOR_H
#define HOLDFAST_SUPERVISOR_SUPERVISOR_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "common/monotonic.h"
#include "supervisor/channel/channel.h"
#include "supervisor/child/child.h"
#include "supervisor/config/settings.h"

struct control;      /* control.c */
struct seal_request; /* archive_client.c */
struct rehearsal;    /* rehearsal.c */

struct supervisor {
    sd_event *event;
    struct settings *settings;
    char worker_path[4096];
    char program_path[4096]; /* of this program, as it was when it started */
    char **arguments;        /* main()'s */
    monotonic started;
    struct channel **channels; /* in the order of the configuration */
    size_t channel_count;
    struct channel **channels_by_name; /* sorted */
    size_t state_counts[CHANNEL_STATE_COUNT];
    size_t unreported; /* channels that have neither run nor said why not */
    /* spares.c */
    struct child **spares; /* settings->spare_workers of them, NULL where being made */
    size_t spare_count;
    uint32_t spare_deaths_in_a_row;
    sd_event_source *spare_timer;
    uint64_t next_generation;
    /* archive_client.c */
    struct child *archive; /* NULL while none runs */
    monotonic archive_running_since;
    uint32_t archive_deaths_in_a_row;
    sd_event_source *archive_timer;
    struct seal_request *seals; /* asked for and not answered */
    size_t seal_count;
    bool archive_told_to_stop;
    struct control *control;
    /* health.c, notify.c */
    sd_event_source *health_timer;
    monotonic last_tick;
    uint64_t ticks;
    monotonic last_expire;
    sd_event_source *status_timer;
    char status_text[256];
    sd_event_source *store_timer; /* handover.c */
    size_t store_length; /* handover.c: bytes of the names that the manager may have to give back */
    bool store_behind;   /* the manager could not take everything yet */
    uint32_t store_patience;
    /* shutdown */
    bool stopping;
    struct rehearsal *rehearsal; /* of an upgrade that may follow; NULL when there is none */
    bool upgrading;              /* upgrade.c: channels park in OPENING, nothing is started */
    bool hurried;                /* a second signal came */
    bool left_unsealed;          /* a segment could not be sealed: the next start recovers it */
    sd_event_source *stop_timer;
    bool ready_notified;
};

/* Where this program and its worker are, and how it was called. */
struct program {
    char path[4096];
    char worker_path[4096];
    char **arguments;
};

/* Run until a signal or an operator ends it. The settings become the supervisor's. Returns the exit
 * status; *why holds the reason when it could not start. */
int supervisor_run(struct settings *settings, const struct program *program, char *why,
                   size_t why_size);

/* By name; NULL when there is none. */
struct channel *supervisor_find_channel(struct supervisor *supervisor, const char *name);

/* Begin an orderly stop: workers drain, segments are sealed, the loop ends. A second call hurries.
 */
void supervisor_stop(struct supervisor *supervisor, const char *cause);

/* Whatever changed may complete READY, STATUS or the stop: called by channels after every change of
 * state. */
void supervisor_changed(struct supervisor *supervisor);

/* spares.c: take a spare or spawn a child; replaces the spare. NULL with -errno in *ret_error. */
struct child *supervisor_take_child(struct supervisor *supervisor, int *ret_error);
/* spares.c: bring the spares up to their number, soon: what is under way now goes first. */
void supervisor_refill_spares(struct supervisor *supervisor);
void supervisor_drop_spares(struct supervisor *supervisor);
void supervisor_spare_ended(struct child *child, const siginfo_t *end);

/* Set by upgrade.c for the program that it executes: the names of channels that stay stopped, each
 * followed by ':'. */
#define UPGRADE_VARIABLE "HOLDFAST_UPGRADE"

/* child.c calls these two: one dispatcher for all kinds. */
void supervisor_child_message(struct child *child, struct message *message);
void supervisor_child_ended(struct child *child, const siginfo_t *end);

/* Arm *timer (made when NULL) to call handler once after delay_ns. Returns 0 or -errno. */
int supervisor_arm(struct supervisor *supervisor, sd_event_source **timer, uint64_t delay_ns,
                   sd_event_time_handler_t handler, void *userdata);

uint32_t supervisor_random(void);

#endif
