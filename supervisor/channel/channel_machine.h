/* SPDX-License-Identifier: MIT */
/* A channel's state machine. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_MACHINE_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_MACHINE_H

#include "supervisor/channel/channel.h"

enum channel_event {
    CHANNEL_EVENT_START,  /* an operator or the beginning */
    CHANNEL_EVENT_OPENED, /* sockets and ring are there, the segment is there or is known to fail */
    CHANNEL_EVENT_OPEN_FAILED, /* a socket or the ring can't be had now */
    CHANNEL_EVENT_READY,
    CHANNEL_EVENT_DIED,  /* the worker has been waited for */
    CHANNEL_EVENT_TIMER, /* the state's deadline or backoff has passed */
    CHANNEL_EVENT_STOP,
    CHANNEL_EVENT_RESTART,
    CHANNEL_EVENT_RESET,
    CHANNEL_EVENT_COUNT
};

/* Feed one event to the state machine. cause says why, for the log and for status. */
void channel_machine_handle(struct channel *channel, enum channel_event event, const char *cause);

/* The phase is PHASE_RUNS again: what waited in OPENING goes on. */
void channel_machine_resume(struct channel *channel);

/* What the table does for an event in a state: the action's name, "impossible" where it can't
 * happen. */
const char *channel_machine_action(enum channel_state state, enum channel_event event);

#endif
