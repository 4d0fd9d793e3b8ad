/* SPDX-License-Identifier: MIT */
/* The channels that the supervisor has lent: found by name, and looked at. */
#ifndef HOLDFAST_WORKER_GATE_CHANNELS_H
#define HOLDFAST_WORKER_GATE_CHANNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/gate/gate_state.h"

/* Where a channel is now, as its own memory says: untrusted. */
struct gate_view {
    bool has_commit, has_ring;
    struct commit_progress commit;
    uint64_t published;
    bool retired;
};

/* NULL when there is none. */
struct gate_channel *gate_channels_find(const struct gate *gate, const char *name);
/* The place of the first one behind this name, in gate->channels. */
size_t gate_channels_find_after(const struct gate *gate, const char *name);

/* CHANNEL_LENT. The fd (-1 = none) is taken over. NULL: out of memory; it is as before then. */
struct gate_channel *gate_channels_lend(struct gate *gate, const struct message_channel_lent *lent,
                                        int *fd);
/* CHANNEL_GONE, when no connection reads it any more. */
void gate_channels_remove(struct gate *gate, struct gate_channel *channel);

/* The number of its ring, for one who reads in this mode. 0: there is none, or none for him: who
 * reads the log goes by the log's numbers, and a ring that has others is only for those who read
 * nothing else. */
uint64_t gate_channels_ring(const struct gate_channel *channel, uint32_t mode);

/* What its ring says, whoever may have it. */
void gate_channels_view(const struct gate_channel *channel, struct gate_view *ret);
/* Behind the newest record, or, where nothing is recorded or `mode` is HF_NEWEST, behind the newest
 * datagram. 0 = not known. */
uint64_t gate_channels_end(const struct gate_channel *channel, uint32_t mode);

/* A descriptor of its public memory for one reader: read only, and a description of its own. -1 in
 * *ret_fd: there is none for him. 0 or -errno. */
int gate_channels_open_memory(struct gate_channel *channel, uint32_t mode, int *ret_fd);

#endif
