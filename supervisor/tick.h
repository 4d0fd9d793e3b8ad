/* SPDX-License-Identifier: MIT */
/* The regular look after everything, four times a second. */
#ifndef HOLDFAST_SUPERVISOR_TICK_H
#define HOLDFAST_SUPERVISOR_TICK_H

#include "supervisor/channel/channels.h"

struct tick {
    const struct channels *channels;
    struct timer timer;
    monotonic last;
    uint64_t count;
    monotonic last_expire;
    uint32_t looks;    /* until the first sweep */
    bool archive_told; /* that it does not answer */
};

/* 0 or -errno. */
int tick_start(struct tick *tick, const struct channels *channels);
void tick_stop(struct tick *tick);

#endif
