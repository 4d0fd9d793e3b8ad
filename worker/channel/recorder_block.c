/* SPDX-License-Identifier: MIT */
/* Records and blocks: what the recorder writes into the mapped segment, and in which order. Nothing
 * counts before the commit slot has flipped: a successor starts at the committed offset and writes
 * over whatever lies behind it. Called by the recorder's thread, under its guard; must never
 * commit. See avro_log_format.h for the order inside a block, and holdfast-internals.7 for what
 * each crash leaves. */
#include "worker/channel/recorder_block.h"

#include <string.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/channel_spec.h"
#include "common/monotonic.h"
#include "common/ring.h"
#include "worker/channel/channel_state.h"
#include "worker/channel/segment.h"
#include "worker/step.h"

void recorder_block_open(struct recorder_block *block, struct channel_state *channel)
{
    block->channel = channel;
    block->opened = monotonic_now();
}

static const struct source_text *source_of(struct recorder_block *block,
                                           const struct ring_datagram *datagram)
{
    uint64_t origin =
        (uint64_t)datagram->scope << 32 | (uint64_t)datagram->port << 16 | datagram->family;
    uint64_t mix = (datagram->address[0] ^ datagram->address[1] ^ origin) * 0x9e3779b97f4a7c15ull;
    struct source_text *entry = &block->sources[mix >> 58];
    _Static_assert(SOURCES_CACHED == 64, "the index is the top six bits");

    if (entry->origin != origin || entry->address[0] != datagram->address[0] ||
        entry->address[1] != datagram->address[1]) {
        union socket_address address;
        ring_source(datagram, &address);
        entry->length = (uint32_t)socket_address_print(&address, entry->text, sizeof entry->text);
        entry->address[0] = datagram->address[0];
        entry->address[1] = datagram->address[1];
        entry->origin = origin;
    }
    return entry;
}

static int32_t as_int(uint32_t value)
{
    return value > INT32_MAX ? INT32_MAX : (int32_t)value;
}

enum append_result recorder_append(struct recorder_block *block, struct segment *segment,
                                   struct commit_progress *work, uint64_t seq)
{
    const struct ring *ring = &block->channel->ring;
    struct ring_datagram datagram;

    if (!ring_peek(ring, seq, &datagram))
        return APPEND_LAPPED;
    const struct source_text *source = source_of(block, &datagram);
    struct avro_log_record record = {
        .seq = (int64_t)seq,
        .received_at_us = (int64_t)(datagram.time_ns / NS_PER_US),
        .received_ns = (int32_t)(datagram.time_ns % NS_PER_US),
        .source = source->text,
        .source_length = source->length,
        .lost_before = as_int(datagram.lost_before),
        .cut = as_int(datagram.cut),
        .flags = (int32_t)datagram.flags,
        .payload_length = datagram.length,
    };
    size_t most = AVRO_LOG_RECORD_OVERHEAD + record.source_length + record.payload_length;
    if (work->write_offset == work->block_start ||
        work->write_offset + most + AVRO_LOG_SYNC_SIZE > segment->grant.size)
        return APPEND_FULL;

    uint8_t *start = segment->map + work->write_offset;
    uint8_t *payload = avro_log_write_record_head(start, &record);
    ring_copy(payload, datagram.data, datagram.length);
    if (!ring_intact(ring, &datagram))
        return APPEND_LAPPED; /* and the next record is written over this one */
    if (!(datagram.flags & DATAGRAM_QUARANTINED))
        TEST_PAYLOAD(CONSUMER_RECORD, payload, datagram.length);
    uint8_t *end = avro_log_write_record_crc(start, payload + datagram.length);
    if (work->block_records == 0)
        block->opened = monotonic_now();
    work->write_offset += (uint64_t)(end - start);
    work->block_records++;
    work->next_seq = seq + 1;
    work->recorded++;
    return APPEND_DONE;
}

/* An open block's header says zero records. Without room for one, write_offset == block_start: the
 * segment is full. */
static void open_block(struct segment *segment, struct commit_progress *work, uint64_t at)
{
    work->block_start = work->write_offset = at;
    work->block_records = 0;
    if (at + AVRO_LOG_BLOCK_HEADER_SIZE > segment->grant.size)
        return;
    avro_log_write_block_header(segment->map + at, 0, 0);
    work->write_offset = at + AVRO_LOG_BLOCK_HEADER_SIZE;
}

void recorder_block_seal(struct recorder_block *block, struct segment *segment,
                         struct commit_progress *work)
{
    uint64_t size = work->write_offset - work->block_start - AVRO_LOG_BLOCK_HEADER_SIZE;
    memcpy(segment->map + work->write_offset, segment->grant.sync, AVRO_LOG_SYNC_SIZE);
    REACHED(block->channel->ring.page, seal_synced);
    /* The header last: a count that promises records must find them, and the sync marker, in place.
     */
    atomic_thread_fence(memory_order_release);
    avro_log_write_block_header(segment->map + work->block_start, work->block_records, size);
    REACHED(block->channel->ring.page, seal_headed);
    open_block(segment, work, work->write_offset + AVRO_LOG_SYNC_SIZE);
}

void recorder_block_begin_segment(struct recorder_block *block, struct segment *segment,
                                  struct commit_progress *work)
{
    struct avro_log_identity identity = {.first_seq = work->next_seq,
                                         .created_ns = realtime_now_ns()};
    memcpy(identity.channel, block->channel->spec->name, sizeof identity.channel);
    memcpy(identity.sync, segment->grant.sync, AVRO_LOG_SYNC_SIZE);
    memcpy(identity.log_id, segment->grant.log_id, AVRO_LOG_ID_SIZE);
    channel_spec_print_listen(block->channel->spec, identity.listen, sizeof identity.listen);
    size_t header = avro_log_write_header(segment->map, &identity);
    REACHED(block->channel->ring.page, roll_headed);
    work->segment_id = segment->grant.id;
    work->segment_first_seq = identity.first_seq;
    work->segment_created_ns = identity.created_ns;
    open_block(segment, work, header);
}
