/* SPDX-License-Identifier: MIT */
/* Has a part of a segment scanned and notes where its sound records are. Called by the walk for
 * each block that deviates. What the scan calls sound is what is noted, never more and never less,
 * so that a damaged file gives the records that holdfastctl verify counts. */
#include "common/client/segment_slow.h"

#include <errno.h>
#include <stdlib.h>

#include "common/avro_log_scan.h"

#define STOPPED 1
/* Of one block: a file that is made so might have any number. The rest is then scanned for again.
 */
#define FOUND_MAX ((size_t)1 << 20)

struct collecting {
    struct segment_slow *slow;
    const struct segment_stretch *stretch;
    uint64_t due; /* behind the last sound record */
};

static int note(struct segment_slow *slow, const struct avro_log_found *found, bool after_fault)
{
    if (slow->count == slow->room) {
        size_t room = slow->room ? slow->room * 2 : 256;
        struct segment_found *more = reallocarray(slow->found, room, sizeof *more);
        if (!more)
            return -ENOMEM;
        slow->found = more;
        slow->room = room;
    }
    slow->found[slow->count++] = (struct segment_found){.seq = (uint64_t)found->record.seq,
                                                        .offset = found->offset,
                                                        .length = (uint32_t)found->length,
                                                        .after_fault = after_fault};
    return 0;
}

static int collect(void *context, const struct avro_log_found *found)
{
    struct collecting *collecting = context;
    struct segment_slow *slow = collecting->slow;
    const struct segment_stretch *stretch = collecting->stretch;
    const uint64_t seq = (uint64_t)found->record.seq;

    if (found->block != slow->then.block) {
        bool looks_sound = found->offset == found->block + AVRO_LOG_BLOCK_HEADER_SIZE;
        slow->then = (struct segment_place){.block = found->block, .due = collecting->due};
        if (found->block > stretch->from.block && looks_sound && slow->count >= stretch->most)
            return STOPPED;
    }
    /* Not beyond it: the same block, from its first wanted record on, is scanned once more. */
    if (slow->count == FOUND_MAX)
        return STOPPED;
    const bool after_fault = slow->fault_behind;
    slow->fault_behind = false;
    collecting->due = seq + 1;
    return seq < stretch->floor ? 0 : note(slow, found, after_fault);
}

static int note_fault(void *context, uint64_t offset, const char *what)
{
    struct collecting *collecting = context;
    (void)offset;
    (void)what;
    collecting->slow->faults = collecting->slow->fault_behind = true;
    return 0;
}

int segment_slow_collect(struct segment_slow *slow, const struct segment_stretch *stretch)
{
    struct collecting collecting = {.slow = slow, .stretch = stretch, .due = stretch->from.due};
    const struct avro_log_visitor visitor = {
        .context = &collecting, .record = collect, .fault = note_fault};
    const struct avro_log_scan_options options = {.open = stretch->open,
                                                  .seq_end = stretch->seq_end,
                                                  .size_end = stretch->size_end,
                                                  .from_block = stretch->from.block,
                                                  .from_seq = stretch->from.due,
                                                  .effort = &slow->effort,
                                                  .skip_unreadable = true};
    struct avro_log_summary summary;

    slow->count = slow->next = 0;
    slow->then = stretch->from;
    slow->faults = slow->fault_behind = false;
    int result = avro_log_scan(stretch->fd, &options, &visitor, &summary);
    slow->at_end = result == 0;
    return result == STOPPED ? 0 : result;
}
