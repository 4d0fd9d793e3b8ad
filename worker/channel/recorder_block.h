/* SPDX-License-Identifier: MIT */
/* What is written into the segment: records and blocks. Every function returns through the
 * recorder's guard if the file fails. */
#ifndef HOLDFAST_WORKER_CHANNEL_RECORDER_BLOCK_H
#define HOLDFAST_WORKER_CHANNEL_RECORDER_BLOCK_H

#include <stdint.h>

#include "common/channel_page.h"
#include "common/channel_spec.h"
#include "common/monotonic.h"

#define SOURCES_CACHED 64

struct channel_state;
struct segment;

/* A source address as text, so that it is printed once and not per datagram. */
struct source_text {
    uint64_t address[2];
    uint64_t origin; /* scope, port, family */
    uint32_t length;
    char text[SOCKET_ADDRESS_TEXT_SIZE];
};

struct recorder_block {
    struct channel_state *channel;
    monotonic opened; /* first record of the open block */
    struct source_text sources[SOURCES_CACHED];
};

enum append_result { APPEND_DONE, APPEND_LAPPED, APPEND_FULL };

/* `work` is what the caller commits afterwards, or throws away. */
void recorder_block_open(struct recorder_block *block, struct channel_state *channel);

/* Append the datagram. The function's name is what a crash over a datagram shows. */
enum append_result recorder_append(struct recorder_block *block, struct segment *segment,
                                   struct commit_progress *work, uint64_t seq);

/* Seal the open block, which must have records, and open the next one. */
void recorder_block_seal(struct recorder_block *block, struct segment *segment,
                         struct commit_progress *work);

/* Start writing into a segment: file header, first block header. */
void recorder_block_begin_segment(struct recorder_block *block, struct segment *segment,
                                  struct commit_progress *work);

#endif
