/* SPDX-License-Identifier: MIT */
/* Begins what all threads of a channel's worker share. Called once, by channel_worker.c, before
 * there is a second thread. The ground floor: must never know what a thread does with it. */
#include "worker/channel/channel_state.h"

#include "worker/channel/attention.h"

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
