/* SPDX-License-Identifier: MIT */
/* Spares: workers that are exec'ed already and wait to be told what they are. */
#ifndef HOLDFAST_SUPERVISOR_CHILD_SPARES_H
#define HOLDFAST_SUPERVISOR_CHILD_SPARES_H

#include "supervisor/child/child.h"
#include "supervisor/child/restart.h"
#include "supervisor/config/settings.h"
#include "supervisor/system/process.h"
#include "supervisor/system/timer.h"

struct spares {
    sd_event *event;
    const char *program;   /* that each of them executes */
    const char *installed; /* where it is to be found if that can't be executed */
    const char *beside;    /* ... or here; NULL: nowhere else */
    char pinned[PROCESS_PIN_SIZE];
    bool proven;            /* it has been executed */
    unsigned failures_seen; /* of child_exec_failures() */
    const struct restart_limits *limits;
    struct child **children; /* count of them, NULL where being made */
    size_t count;
    struct restart restart;
    struct timer timer;
    bool closed;              /* no more are kept ready */
    uint64_t last_generation; /* that was given to anybody */
};

/* 0 or -ENOMEM. None is made before the first spares_refill(). */
int spares_init(struct spares *spares, sd_event *event, const struct program *program,
                const struct settings *settings);

/* A child of it works: whatever is installed there from now on, others are made of the same one. */
void spares_prove(struct spares *spares, const struct child *child);

/* Take a spare, or spawn a child: it gets this owner and a new generation. Replaces the spare,
 * soon. NULL with -errno in *ret_error. */
struct child *spares_take(struct spares *spares, const struct child_owner *owner, int *ret_error);

/* Bring them up to their number, soon: what is under way now goes first. */
void spares_refill(struct spares *spares);

/* One that somebody has stopped, or that waits for a disk before it has anything to do, is of no
 * use: another one takes its place. Nor is a program that nobody could execute yet: it is looked
 * for anew where it is installed. Called now and then. */
void spares_look(struct spares *spares);

/* The end is near: those that there are stay, and no more are kept ready. */
void spares_close(struct spares *spares);
void spares_drop(struct spares *spares);
/* There is no end after all. */
void spares_reopen(struct spares *spares);
void spares_free(struct spares *spares);

#endif
