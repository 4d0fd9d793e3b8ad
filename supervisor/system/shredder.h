/* SPDX-License-Identifier: MIT */
/* Lets go of large memory files without standing still over it. */
#ifndef HOLDFAST_SUPERVISOR_SYSTEM_SHREDDER_H
#define HOLDFAST_SUPERVISOR_SYSTEM_SHREDDER_H

#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "supervisor/system/slices.h"

struct shredded;

/* All zero: everything is closed at once. */
struct shredder {
    sd_event *event;
    struct slices slices;
    struct shredded *first;
};

void shredder_init(struct shredder *shredder, sd_event *event);

/* Close a memory file that nobody needs any more, whoever else may have it: what is in it is gone,
 * but for its beginning. *fd is -1 afterwards. Accepts -1. */
void shredder_take(struct shredder *shredder, int *fd);

/* Closes what is left, for as long as that takes. */
void shredder_free(struct shredder *shredder);

#endif
