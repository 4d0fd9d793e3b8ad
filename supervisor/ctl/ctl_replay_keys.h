/* SPDX-License-Identifier: MIT */
/* A terminal's keys while replay runs. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_REPLAY_KEYS_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_REPLAY_KEYS_H

#include <stdbool.h>

enum ctl_key {
    CTL_KEY_NONE,
    CTL_KEY_PAUSE,   /* space */
    CTL_KEY_FASTER,  /* + */
    CTL_KEY_SLOWER,  /* - */
    CTL_KEY_BACK,    /* arrow left */
    CTL_KEY_FORWARD, /* arrow right */
    CTL_KEY_END,     /* q */
};

/* Keys come one by one and aren't shown, until ctl_keys_end(), the program's end, or a signal that
 * stops it. False: standard input is no terminal, or not ours. */
bool ctl_keys_begin(void);
void ctl_keys_end(void);

/* What standard input has; never waits. */
enum ctl_key ctl_keys_take(void);

#endif
