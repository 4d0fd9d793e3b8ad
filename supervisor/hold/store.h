/* SPDX-License-Identifier: MIT */
/* The hold outlives the supervisor too: the service manager keeps a duplicate of every descriptor
 * (sd_notify(3), FDSTORE=1) under "<channel>.<place>", and gives them back at the next start
 * (sd_listen_fds_with_names(3)). */
#ifndef HOLDFAST_SUPERVISOR_HOLD_STORE_H
#define HOLDFAST_SUPERVISOR_HOLD_STORE_H

#include <stddef.h>

#include "supervisor/hold/hold.h"
#include "supervisor/system/timer.h"

/* All names come back in one environment variable, which may hold 128 KiB (execve(2)): with more of
 * them, no supervisor could be started again. */
#define STORE_NAMES_MAX 120000

/* What the manager keeps of one hold. */
struct stored {
    struct store *store;
    struct stored *next; /* in the order in which they were added */
    const char *channel;
    const struct hold *hold;
    uint64_t
        *identities; /* at each place of the hold; 0 = nothing. NULL: no room was asked for yet */
    bool behind;     /* not all of it is there yet */
    bool refused;    /* the manager can't keep so many */
};

struct store {
    sd_event *event;
    struct stored *first;
    struct stored **last;
    size_t names_length; /* bytes of the names that the manager may have to give back */
    bool behind;         /* the manager could not take everything yet */
    bool ending;
    uint32_t patience; /* attempts since the end began */
    struct timer timer;
    void (*settled)(void *data); /* ending: it is no longer waited for */
    void *data;
};

void store_init(struct store *store, sd_event *event, void (*settled)(void *data), void *data);
void store_add(struct store *store, struct stored *stored, const char *channel,
               const struct hold *hold);

/* The hold may have changed: bring the manager's copy up to date. Does nothing without a manager.
 */
void store_follow(struct stored *stored);

/* The hold came out of the store: what is kept at its places is replaced by the next
 * store_follow(). */
void store_note_restored(struct stored *stored);
/* What the manager keeps under a name that is not used again. */
void store_forget(const char *full_name);

/* An orderly end: a manager that stays busy is waited for, but not for long. */
void store_end(struct store *store);
void stored_free(struct stored *stored);
void store_free(struct store *store);

#endif
