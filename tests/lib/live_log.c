/* SPDX-License-Identifier: MIT */
/* Writes a log the way a worker's recorder does it, one step after the other. What fails ends the
 * test. */
#include "tests/lib/live_log.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"

#define SEGMENT_BYTES (256 * 1024)

static void commit(struct live_log *log)
{
    log->commit.block_start = log->maker.block_start;
    log->commit.write_offset = log->maker.write_offset;
    log->commit.block_records = log->maker.block_records;
    log->commit.next_seq = log->maker.next_seq;
    if (log->commit.segment_id == 0)
        log->commit.block_start = log->commit.write_offset = log->commit.block_records = 0;
    /* No less was received than that. */
    if (atomic_load(&log->page->public.published) < log->commit.next_seq)
        atomic_store(&log->page->public.published, log->commit.next_seq);
    channel_page_write_commit(log->page, &log->commit);
}

static void write_from(const struct live_log *log, size_t from)
{
    ck_assert_int_eq(
        fd_write_all(log->fd, log->maker.bytes + from, log->maker.write_offset - from, from), 0);
}

void live_log_open(struct live_log *log, struct fake_gate *gate, struct ring_fixture *ring,
                   uint64_t first_seq)
{
    *log = (struct live_log){.gate = gate, .page = ring->ring.page, .fd = -1};
    log->maker.next_seq = first_seq;
    commit(log);
}

void live_log_close(struct live_log *log)
{
    fd_close(&log->fd);
    log_maker_free(&log->maker);
}

/* The recorder seals what is open: marker first, then the header. */
static void seal_block(struct live_log *log)
{
    size_t from = log->maker.block_start;
    if (log->maker.block_records == 0)
        return;
    log_maker_seal(&log->maker);
    write_from(log, from);
}

void live_log_roll(struct live_log *log)
{
    uint64_t next_seq = log->maker.next_seq;
    if (log->fd >= 0) {
        seal_block(log);
        commit(log);
        log->commit.finished_id = log->commit.segment_id;
        log->commit.finished_length = log->maker.block_start;
    }
    live_log_close(log);
    log_maker_begin(&log->maker, SEGMENT_BYTES, RING_FIXTURE_CHANNEL, next_seq, LIVE_LOG_SEED);
    snprintf(log->path, sizeof log->path, "%s/%03u.avro.open", log->gate->folder, log->files++);
    log->fd = open(log->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ck_assert_int_ge(log->fd, 0);
    ck_assert_int_eq(ftruncate(log->fd, SEGMENT_BYTES), 0);
    write_from(log, 0);
    struct stat about;
    ck_assert_int_eq(fstat(log->fd, &about), 0);
    log->commit.segment_id = about.st_ino;
    log->commit.segment_first_seq = next_seq;
    commit(log);
}

void live_log_name(struct live_log *log)
{
    struct fake_gate *gate = log->gate;
    pthread_mutex_lock(&gate->lock);
    struct fake_segment *segment = &gate->segments[gate->segment_count++];
    *segment = (struct fake_segment){.first_seq = log->commit.segment_first_seq, .is_open = true};
    snprintf(segment->path, sizeof segment->path, "%s", log->path);
    pthread_mutex_unlock(&gate->lock);
}

void live_log_seal(struct live_log *log, size_t index, uint64_t length)
{
    pthread_mutex_lock(&log->gate->lock);
    struct fake_segment *segment = &log->gate->segments[index];
    ck_assert_int_eq(truncate(segment->path, (off_t)length), 0);
    segment->is_open = false;
    pthread_mutex_unlock(&log->gate->lock);
}

void live_log_append(struct live_log *log, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        size_t from = log->maker.write_offset;
        ck_assert(log_maker_append(&log->maker));
        write_from(log, from);
        log->commit.recorded++;
        if (log->maker.write_offset - log->maker.block_start >= AVRO_LOG_BLOCK_SIZE)
            seal_block(log);
    }
    commit(log);
}

void live_log_lose(struct live_log *log, uint64_t count)
{
    if (log->fd >= 0)
        seal_block(log);
    commit(log);
    log->maker.next_seq += count;
    log->commit.record_lost += count;
    commit(log);
}

void live_log_write_in_vain(struct live_log *log)
{
    struct log_maker before = log->maker;
    size_t from = log->maker.write_offset;
    ck_assert(log_maker_append(&log->maker));
    write_from(log, from);
    log->maker = before;
}

void live_log_give_up(struct live_log *log)
{
    log->commit.finished_id = log->commit.segment_id;
    log->commit.finished_length = log->maker.write_offset;
    log->commit.segment_id = 0;
    commit(log);
    fd_close(&log->fd);
}

void live_log_move(struct live_log *log, struct ring_fixture *ring, uint64_t next_seq)
{
    live_log_close(log);
    log->page = ring->ring.page;
    log->commit = (struct commit_progress){0};
    log->maker.next_seq = next_seq;
    commit(log);
}
