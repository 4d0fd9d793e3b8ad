/* SPDX-License-Identifier: MIT */
/* clang-format off */
/* How far a segment may be read, by everything that a reader knows of it. Called whenever it has
 * read as far as it could. Must never allow what isn't committed, nor hold back what is.
 *
 *   the commit slot names the segment    its write_offset: below it, only the open block's header
 *                                        still changes, and the slot says where that is
 *   ... or says where it was finished    that length
 *   the ring before said one of these    likewise, until it is sealed; nobody writes there any more.
 *                                        One that was not retired may have gone on unseen: then
 *                                        only until another one follows
 *   it is sealed                         its size: it was truncated before it got its name
 *   another one follows it               that one's first number, and what is sound before it
 *   none of these                        not known: the gate is asked again. It was rolled, and the
 *                                        next one has no name yet; or everything has died and it
 *                                        is not mended yet. When that has gone on for a while,
 *                                        what is sound of it, and below what is committed */
/* clang-format on */
#include "common/client/reader_limit.h"

/* Does this slot know it? An inode number alone says little: it is given again once its file has
 * been removed. */
static enum limit_kind limit_by_slot(const struct commit_progress *slot, uint64_t id,
                                     uint64_t first_seq, struct segment_limit *ret)
{
    if (slot->segment_id == id && slot->segment_first_seq == first_seq) {
        ret->end = slot->write_offset;
        ret->open_block = slot->block_start;
        return LIMIT_COMMIT;
    }
    const uint64_t behind_finished = slot->segment_id ? slot->segment_first_seq : slot->next_seq;
    if (slot->finished_id != id || slot->finished_length == UINT64_MAX ||
        first_seq >= behind_finished)
        return LIMIT_UNKNOWN;
    ret->end = slot->finished_length;
    return LIMIT_FINISHED;
}

/* Was it begun before the present ring was there? Then the ring before may know it. Once it is
 * sealed it has what recovery found sound, which may be more than was committed. */
static bool is_of_former_ring(const struct live_ring *ring, const struct read_found *found)
{
    return ring->has_former && found->is_open &&
           (ring->former_is_final || found->next_first_seq == UINT64_MAX) &&
           (!ring->map.page || found->first_seq < ring->map.page->start_seq);
}

enum limit_kind reader_limit_find(const struct live_ring *ring, uint64_t id,
                                  const struct read_found *found, bool patient,
                                  struct segment_limit *ret)
{
    enum limit_kind kind = LIMIT_UNKNOWN;
    *ret = (struct segment_limit){UINT64_MAX, UINT64_MAX, UINT64_MAX};
    if (id == 0)
        return LIMIT_UNKNOWN;
    if (ring->has_commit)
        kind = limit_by_slot(&ring->commit, id, found->first_seq, ret);
    if (kind == LIMIT_UNKNOWN && is_of_former_ring(ring, found) &&
        limit_by_slot(&ring->former, id, found->first_seq, ret) != LIMIT_UNKNOWN)
        kind = LIMIT_FINISHED;
    if (kind != LIMIT_UNKNOWN)
        return kind;
    ret->seq_end = found->next_first_seq;
    if (!found->is_open)
        return LIMIT_FINISHED;
    if (found->next_first_seq != UINT64_MAX)
        return LIMIT_BOUNDED;
    if (!patient)
        return LIMIT_UNKNOWN;
    /* Nobody seals it: the disk refuses, or the archive is held up. What is not committed is not to
     * be read all the same. */
    if (ring->has_commit)
        ret->seq_end = ring->commit.next_seq;
    return LIMIT_BOUNDED;
}
