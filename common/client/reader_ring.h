/* SPDX-License-Identifier: MIT */
/* What a live reader gets out of the channel's ring. */
#ifndef HOLDFAST_COMMON_CLIENT_READER_RING_H
#define HOLDFAST_COMMON_CLIENT_READER_RING_H

#include <stdbool.h>

#include "common/client/holdfast.h"

struct live_reader;

/* As hf_next(): the newest datagram, or, of HF_NEW, the one at next_seq. */
int reader_ring_next(struct live_reader *reader, struct hf_datagram *ret);

/* What of the ring that was read is gone with it, and was not returned; false: nothing. */
bool reader_ring_tell_rest(struct live_reader *reader, struct hf_datagram *ret);

/* What was read as a log goes on out of the ring: its end so far is in ring.former_end. */
void reader_ring_follow_log(struct live_reader *reader);

/* Was this datagram there all the time until now? */
bool reader_ring_is_whole(struct live_reader *reader, const struct hf_datagram *datagram);

#endif
