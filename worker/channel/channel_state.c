/* SPDX-License-Identifier: MIT */
/* The ground floor of a channel's worker: everything that more than one of its threads touches.
 * Knows no thread; what a word means is said where it is declared, who may write it follows from
 * that. */
#include "worker/channel/channel_state.h"

int channel_state_open(struct channel_state *channel, struct inheritance *inheritance)
{
    channel->inheritance = inheritance;
    channel->spec = inheritance->spec;
    atomic_store(&channel->recorder_cursor, UINT64_MAX);
    atomic_store(&channel->decimator_cursor, UINT64_MAX);
    atomic_store(&channel->recorder_wakeup.wake_at, WAKEUP_NEVER);
    atomic_store(&channel->decimator_wakeup.wake_at, WAKEUP_NEVER);
    atomic_store(&channel->space_wakeup.wake_at, WAKEUP_NEVER);
    return attention_open(&channel->attention);
}
