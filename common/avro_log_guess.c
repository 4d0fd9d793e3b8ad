/* SPDX-License-Identifier: MIT */
/* Finds out the sync marker of a log file whose header is lost. Called by the scan. One proves
 * itself if a block header follows and either the same 16 bytes stand behind that block or a sound
 * record begins it. But payloads are the senders', who may put such a place into one: it lies
 * inside of a record then, and nobody can forge a record around what others write, for he doesn't
 * know the receive times. */
#include "common/avro_log_guess.h"

#include <string.h>

#include "common/avro_log_format.h"
#include "common/avro_log_window.h"

#define CANDIDATES_MAX 16

#define WASTE_PER_BYTE 8
#define WASTE_LEAST    (16u * 1024 * 1024)

uint64_t avro_log_waste_most(uint64_t file_size)
{
    return file_size > UINT64_MAX / 2 / WASTE_PER_BYTE ? UINT64_MAX / 2
                                                       : WASTE_PER_BYTE * file_size + WASTE_LEAST;
}

struct candidate {
    uint8_t sync[AVRO_LOG_SYNC_SIZE];
    uint64_t first_end; /* where the block behind it begins */
    uint64_t reach;     /* where the last proof is */
    uint64_t proofs;
    bool is_payload;
};

struct guess {
    struct avro_log_window *window;
    struct avro_log_waste *waste;
    bool open;
    uint8_t *sync; /* found */
};

/* Length of the sound record there, or 0. */
static uint64_t record_at(struct guess *guess, const uint8_t *bytes, size_t size)
{
    struct avro_log_record record = {0};
    const char *what;
    if (guess->waste->bytes > guess->waste->most)
        return 0;
    long length = avro_log_read_record(bytes, size, &record, &what);
    if (length > 0)
        return (uint64_t)length;
    guess->waste->bytes += record.payload ? record.payload_length : 0;
    return 0;
}

/* Does a marker end at `end`? */
static bool proves_itself(struct guess *guess, uint64_t end)
{
    const size_t before = AVRO_LOG_SYNC_SIZE + AVRO_LOG_BLOCK_HEADER_SIZE;
    size_t available;
    uint64_t count, size;
    const uint8_t *bytes =
        avro_log_window_view(guess->window, end - AVRO_LOG_SYNC_SIZE,
                             AVRO_LOG_SYNC_SIZE + AVRO_LOG_BLOCK_MAX, &available);
    if (available < before ||
        !avro_log_read_block_header(bytes + AVRO_LOG_SYNC_SIZE, AVRO_LOG_BLOCK_HEADER_SIZE, &count,
                                    &size))
        return false;
    bool chained = size > 0 && size <= AVRO_LOG_BLOCK_MAX &&
                   before + size + AVRO_LOG_SYNC_SIZE <= available &&
                   memcmp(bytes + before + size, bytes, AVRO_LOG_SYNC_SIZE) == 0;
    return chained || record_at(guess, bytes + before, available - before) > 0;
}

/* Is there a sound record around these bytes? */
static bool lies_in_a_record(struct guess *guess, uint64_t from, uint64_t end)
{
    uint64_t at = from > AVRO_LOG_RECORD_MAX ? from - AVRO_LOG_RECORD_MAX : 0;
    for (; at < from && guess->window->error == 0; at++) {
        size_t available;
        const uint8_t *bytes =
            avro_log_window_view(guess->window, at, AVRO_LOG_RECORD_MAX, &available);
        if (at + record_at(guess, bytes, available) >= end)
            return true;
    }
    return false;
}

static struct candidate *take_candidate(struct candidate *candidates, size_t *count,
                                        const uint8_t *sync)
{
    for (size_t i = 0; i < *count; i++)
        if (memcmp(candidates[i].sync, sync, AVRO_LOG_SYNC_SIZE) == 0)
            return &candidates[i];
    if (*count == CANDIDATES_MAX)
        return NULL;
    struct candidate *fresh = &candidates[(*count)++];
    memset(fresh, 0, sizeof *fresh);
    memcpy(fresh->sync, sync, AVRO_LOG_SYNC_SIZE);
    return fresh;
}

static void judge_candidate(struct guess *guess, struct candidate *candidate, uint64_t end)
{
    if (!candidate->is_payload)
        candidate->is_payload = lies_in_a_record(guess, end - AVRO_LOG_SYNC_SIZE, end);
}

/* A sealed file ends with its marker. Returns where the first block behind one begins, or 0. */
static uint64_t guess_by_end(struct guess *guess)
{
    static const uint8_t blank[AVRO_LOG_SYNC_SIZE];
    struct candidate last = {0};
    size_t size;
    if (guess->open || guess->window->file_size < 2 * AVRO_LOG_SYNC_SIZE)
        return 0;
    const uint8_t *bytes = avro_log_window_view(
        guess->window, guess->window->file_size - AVRO_LOG_SYNC_SIZE, AVRO_LOG_SYNC_SIZE, &size);
    if (size < AVRO_LOG_SYNC_SIZE || memcmp(bytes, blank, AVRO_LOG_SYNC_SIZE) == 0)
        return 0;
    memcpy(last.sync, bytes, AVRO_LOG_SYNC_SIZE);
    for (uint64_t end = 0; guess->window->error == 0 && end < guess->window->file_size;) {
        end = avro_log_window_find(guess->window, end, last.sync, AVRO_LOG_SYNC_SIZE);
        if (end >= guess->window->file_size || !proves_itself(guess, end))
            continue;
        judge_candidate(guess, &last, end);
        if (last.is_payload)
            return 0;
        memcpy(guess->sync, last.sync, AVRO_LOG_SYNC_SIZE);
        return end;
    }
    return 0;
}

static uint64_t guess_by_proof(struct guess *guess)
{
    struct candidate candidates[CANDIDATES_MAX];
    size_t count = 0, available;
    for (uint64_t end = AVRO_LOG_SYNC_SIZE;
         end <= guess->window->size && end < guess->window->file_size && guess->window->error == 0;
         end++) {
        if (!proves_itself(guess, end))
            continue;
        struct candidate *candidate =
            take_candidate(candidates, &count,
                           avro_log_window_view(guess->window, end - AVRO_LOG_SYNC_SIZE,
                                                AVRO_LOG_SYNC_SIZE, &available));
        if (!candidate)
            continue;
        if (candidate->proofs++ == 0) {
            candidate->first_end = end;
            judge_candidate(guess, candidate, end);
        }
        candidate->reach = end;
    }
    const struct candidate *best = NULL;
    for (size_t i = 0; i < count; i++) {
        struct candidate *candidate = &candidates[i];
        if (candidate->proofs > 1)
            judge_candidate(guess, candidate, candidate->reach);
        /* One that lies where the record around it is lost, too, doesn't reach as far as the
         * file's own. */
        if (!candidate->is_payload && (!best || candidate->reach > best->reach))
            best = candidate;
    }
    if (!best)
        return 0;
    memcpy(guess->sync, best->sync, AVRO_LOG_SYNC_SIZE);
    return best->first_end;
}

/* The block that ends with the first marker, if its header is there: nothing but the file's header
 * was before it. Returns where it begins, or else `end`. */
static uint64_t block_before(struct guess *guess, uint64_t end)
{
    const size_t overhead = AVRO_LOG_BLOCK_HEADER_SIZE + AVRO_LOG_SYNC_SIZE;
    uint64_t at = end > AVRO_LOG_BLOCK_MAX ? end - AVRO_LOG_BLOCK_MAX : 0;
    for (; at + overhead < end && guess->window->error == 0; at++) {
        size_t available;
        uint64_t count, size;
        const uint8_t *bytes =
            avro_log_window_view(guess->window, at, AVRO_LOG_BLOCK_MAX, &available);
        if (avro_log_read_block_header(bytes, available, &count, &size) &&
            size == end - at - overhead &&
            record_at(guess, bytes + AVRO_LOG_BLOCK_HEADER_SIZE,
                      available - AVRO_LOG_BLOCK_HEADER_SIZE) > 0 &&
            !lies_in_a_record(guess, at, at + AVRO_LOG_BLOCK_HEADER_SIZE))
            return at;
    }
    return end;
}

uint64_t avro_log_guess_sync(struct avro_log_window *window, bool open,
                             struct avro_log_waste *waste, uint8_t ret_sync[AVRO_LOG_SYNC_SIZE])
{
    struct guess guess = {window, waste, open, ret_sync};
    uint64_t end = guess_by_end(&guess);
    if (end == 0)
        end = guess_by_proof(&guess);
    return end > 0 ? block_before(&guess, end) : 0;
}
