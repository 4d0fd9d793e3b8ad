/* SPDX-License-Identifier: MIT */
/* The outboxes of a channel's publishers (common/outbox.h), as the hold has them: they outlive
 * workers, gates and, with a store, the supervisor. */
#ifndef HOLDFAST_SUPERVISOR_HOLD_HOLD_OUTBOXES_H
#define HOLDFAST_SUPERVISOR_HOLD_HOLD_OUTBOXES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/outbox.h"
#include "supervisor/hold/hold.h"

struct outbox_publisher {
    uint32_t uid, pid;
    const char *name;
};

/* A new one, at a place that is free. ret_fds: the publisher's, in the order of PUBLISHED; the
 * caller's. The place, -EUSERS when all are taken, or another -errno with why. */
int hold_outbox_make(struct hold *hold, const struct channel_spec *spec,
                     const struct outbox_publisher *publisher, int ret_fds[OUTBOX_FDS], char *why,
                     size_t why_size);

/* Whose it is; NULL when the place is free. How far it is taken, `said` tells: as untrusted as all
 * that a worker can write. */
const struct hold_outbox *hold_outbox_at(const struct hold *hold, uint32_t place);
/* All that was taken is on the disk. */
void hold_outbox_say_durable(const struct hold *hold, uint32_t place);
/* Bytes that are committed and not taken, as its publisher says; 0 when that can't be. */
uint64_t hold_outbox_waiting(const struct hold *hold, uint32_t place);
/* Is its publisher gone, with nothing left in it? For when no worker sees that. */
bool hold_outbox_is_left(const struct hold *hold, uint32_t place);
/* For OUTBOX, in its order; the hold's. */
void hold_outbox_fds(const struct hold *hold, uint32_t place, int ret_fds[OUTBOX_FDS]);

/* All that there was of a supervisor before this one is adopted, and its ring is continued or not:
 * what doesn't fit the channel as it is now is closed. */
void hold_outboxes_adopt(struct hold *hold, const struct channel_spec *spec, bool is_continued);
/* Could this be what the hold has at such a place? */
bool hold_outbox_deserves(const struct hold *hold, const int *place, int fd);

#endif
