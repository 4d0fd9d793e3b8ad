/* SPDX-License-Identifier: MIT */
/* Workers that give no sign of life. */
#ifndef HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_HANG_H
#define HOLDFAST_SUPERVISOR_CHANNEL_CHANNEL_HANG_H

#include "supervisor/channel/channel.h"

/* So often this is called. */
#define CHANNEL_HANG_LOOK_NS (250 * NS_PER_MS)

/* The channel has a worker: abort it if it hangs, kill it if it should be gone. */
void channel_hang_look(struct channel *channel, monotonic now);

/* Its worker was killed, and can't end: why, and what that means; "" when it is not so. */
const char *channel_hang_trouble(const struct channel *channel);

/* One of its threads waits for a disk, and not just for a moment: nothing could end it now.
 * Nanoseconds since its last sign of life; 0 when it is not so. */
uint64_t channel_hang_disk_wait(const struct channel *channel, monotonic now);

/* It did not become READY within the time that it had. */
void channel_hang_kill_starter(struct channel *channel);
/* It did not finish within deadline_ns. */
void channel_hang_kill_stopper(const struct channel *channel, uint64_t deadline_ns);

/* The same for one that was to leave within this time; how often it is tried again is bounded. */
void channel_hang_kill_late_stopper(struct channel *channel, uint64_t deadline_ns);

#endif
