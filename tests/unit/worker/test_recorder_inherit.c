/* SPDX-License-Identifier: MIT */
/* What becomes of the two segments that a recorder may inherit, as a table: what the commit slot
 * says, what the files say, and what must follow. Then the same with files: one that the slot tells
 * about is not read, and one that can't be read is never taken for unused. Last, whether a
 * committed position can be in a file. */
#include "worker/channel/recorder_inherit.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/monotonic.h"
#include "tests/lib/unit.h"
#include "worker/channel/segment.h"

#define NONE 0u
#define LOG  11u /* inode numbers */
#define NEXT 12u
#define OLD  10u

/* clang-format off */
#define EMPTY         {.begun = false}
#define UNREADABLE    {.unreadable = true}
#define BEGUN_AT(seq) {.begun = true, .first_seq = (seq)}
#define BARE_AT(seq)  {.begun = true, .first_seq = (seq), .bare = true}
/* clang-format on */

struct row {
    const char *story;
    uint64_t slot_id, slot_next_seq;
    uint64_t next_id; /* NONE: only one segment is inherited */
    struct inherited_file log_file, next_file;
    enum inherited log, next; /* next: only if there is one */
};

/* clang-format off */
static const struct row rows[] = {
    {"the usual death, no next segment yet", LOG, 500, NONE, BEGUN_AT(100), EMPTY,
     INHERITED_CONTINUE, 0},
    {"the usual death, the next one waits", LOG, 500, NEXT, BEGUN_AT(100), EMPTY,
     INHERITED_CONTINUE, INHERITED_UNUSED},
    {"died while beginning the next one", LOG, 500, NEXT, BEGUN_AT(100), BARE_AT(500),
     INHERITED_CONTINUE, INHERITED_UNUSED},
    {"one before it did, and it went on in the old one", LOG, 510, NEXT, BEGUN_AT(100),
     BARE_AT(500), INHERITED_CONTINUE, INHERITED_UNUSED},
    {"rolled, and died before that was heard", NEXT, 500, NEXT, BEGUN_AT(100), BEGUN_AT(500),
     INHERITED_BEGUN_ALREADY, INHERITED_CONTINUE},
    {"the same, with records in the new one", NEXT, 700, NEXT, BEGUN_AT(100), BEGUN_AT(500),
     INHERITED_BEGUN_ALREADY, INHERITED_CONTINUE},
    {"rolled with nothing in the old one", NEXT, 500, NEXT, BEGUN_AT(500), BEGUN_AT(500),
     INHERITED_BEGUN_ALREADY, INHERITED_CONTINUE},
    {"rolled, but what it rolled to did not come along", OLD, 500, NONE, BEGUN_AT(100), EMPTY,
     INHERITED_USED_UP, 0},
    {"a fresh ring, a fresh segment", NONE, 0, NONE, EMPTY, EMPTY, INHERITED_UNUSED, 0},
    {"a fresh ring, two fresh segments", NONE, 0, NEXT, EMPTY, EMPTY,
     INHERITED_UNUSED, INHERITED_UNUSED},
    {"died while beginning the very first one", NONE, 0, NONE, BEGUN_AT(0), EMPTY,
     INHERITED_UNUSED, 0},
    {"gave it up, and died before that was heard", NONE, 500, NONE, BEGUN_AT(100), EMPTY,
     INHERITED_USED_UP, 0},
    {"gave it up, the next one is untouched", NONE, 500, NEXT, BEGUN_AT(100), EMPTY,
     INHERITED_USED_UP, INHERITED_UNUSED},
    {"gave both up", NONE, 500, NEXT, BEGUN_AT(100), BEGUN_AT(300),
     INHERITED_USED_UP, INHERITED_USED_UP},
    {"gave it up with a single record", NONE, 101, NONE, BEGUN_AT(100), EMPTY,
     INHERITED_USED_UP, 0},
    {"gave it up before its first record", NONE, 100, NONE, BARE_AT(100), EMPTY,
     INHERITED_UNUSED, 0},
    {"gave it up before its first record, and the ring was lapped since", NONE, 500, NONE,
     BARE_AT(100), EMPTY, INHERITED_UNUSED, 0},
    {"gave it up with records that were never committed", NONE, 100, NONE, BEGUN_AT(100), EMPTY,
     INHERITED_UNUSED, 0},
    {"given up, and begins behind the ring (a ring that was replaced)", NONE, 100, NONE,
     BEGUN_AT(900), EMPTY, INHERITED_UNUSED, 0},
    {"can't be read: rather lost to us than written over", NONE, 500, NONE, UNREADABLE, EMPTY,
     INHERITED_USED_UP, 0},
    {"can't be read, and nothing was ever recorded", NONE, 0, NEXT, UNREADABLE, UNREADABLE,
     INHERITED_USED_UP, INHERITED_USED_UP},
    {"the slot's word counts, whatever the file says", LOG, 500, NONE, UNREADABLE, EMPTY,
     INHERITED_CONTINUE, 0},
};
/* clang-format on */

START_TEST(every_row_of_the_table_holds)
{
    const struct row *row = &rows[_i];
    struct commit_progress slot = {.segment_id = row->slot_id, .next_seq = row->slot_next_seq};
    enum inherited log = recorder_inherit_judge(&slot, LOG, row->next_id, &row->log_file);
    ck_assert_msg(log == row->log, "%s: log %d, not %d", row->story, log, row->log);
    if (row->next_id == NONE)
        return;
    enum inherited next = recorder_inherit_judge(&slot, row->next_id, NONE, &row->next_file);
    ck_assert_msg(next == row->next, "%s: next %d, not %d", row->story, next, row->next);
}
END_TEST

/* ---- files ---- */

static const struct avro_log_identity identity = {
    .channel = "engine", .first_seq = 100, .created_ns = 1700000000ull * NS_PER_S, .sync = "sync"};

static int make_file(size_t *ret_header_size)
{
    uint8_t header[AVRO_LOG_HEADER_MAX];
    int fd = memfd_create("segment", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    *ret_header_size = avro_log_write_header(header, &identity);
    ck_assert_int_eq(pwrite(fd, header, *ret_header_size, 0), (ssize_t)*ret_header_size);
    return fd;
}

/* An open block with one record. */
static void put_record(int fd, size_t header_size, int64_t seq)
{
    uint8_t block[AVRO_LOG_BLOCK_HEADER_SIZE], bytes[256];
    const struct avro_log_record record = {.seq = seq, .source = "", .received_at_us = 1};
    avro_log_write_block_header(block, 0, 0);
    uint8_t *end = avro_log_write_record_crc(bytes, avro_log_write_record_head(bytes, &record));
    ck_assert_int_eq(pwrite(fd, block, sizeof block, (off_t)header_size), (ssize_t)sizeof block);
    ck_assert_int_eq(pwrite(fd, bytes, (size_t)(end - bytes), (off_t)(header_size + sizeof block)),
                     end - bytes);
}

START_TEST(the_file_is_asked_where_the_slot_does_not_tell)
{
    size_t header_size;
    int fd = make_file(&header_size), empty = memfd_create("segment", MFD_CLOEXEC), broken = -1;
    struct commit_progress slot = {.segment_id = LOG, .next_seq = 101};

    ck_assert_int_eq(recorder_inherit_ask(&slot, LOG, NEXT, broken), INHERITED_CONTINUE);
    ck_assert_int_eq(recorder_inherit_ask(&slot, OLD, LOG, broken), INHERITED_BEGUN_ALREADY);
    ck_assert_int_eq(recorder_inherit_ask(&slot, NEXT, NONE, broken), INHERITED_USED_UP);
    ck_assert_int_eq(recorder_inherit_ask(&slot, NEXT, NONE, empty), INHERITED_UNUSED);
    ck_assert_int_eq(recorder_inherit_ask(&slot, NEXT, NONE, fd), INHERITED_UNUSED);
    put_record(fd, header_size, 100);
    ck_assert_int_eq(recorder_inherit_ask(&slot, NEXT, NONE, fd), INHERITED_USED_UP);
    slot.next_seq = 100;
    ck_assert_int_eq(recorder_inherit_ask(&slot, NEXT, NONE, fd), INHERITED_UNUSED);
    ck_assert_int_eq(ftruncate(fd, (off_t)header_size), 0);
    put_record(fd, header_size, 0);
    slot.next_seq = 101; /* number 0 is a zero byte, the rest of its record is not */
    ck_assert_int_eq(recorder_inherit_ask(&slot, NEXT, NONE, fd), INHERITED_USED_UP);
    ck_assert_int_eq(ftruncate(fd, (off_t)header_size - 1), 0);
    slot.next_seq = 500; /* half a header: it was never begun */
    ck_assert_int_eq(recorder_inherit_ask(&slot, NEXT, NONE, fd), INHERITED_UNUSED);
    close(fd);
    close(empty);
}
END_TEST

START_TEST(a_committed_position_must_fit_its_file)
{
    size_t header_size;
    struct segment segment = {.fd = make_file(&header_size), .grant = {.id = LOG, .size = 1 << 20}};
    uint64_t start = header_size;
    memcpy(segment.grant.sync, identity.sync, sizeof segment.grant.sync);

#define FITS(block_start_, write_offset_, block_records_)                                          \
    recorder_inherit_fits(&(struct commit_progress){.segment_id = LOG,                             \
                                                    .block_start = (block_start_),                 \
                                                    .write_offset = (write_offset_),               \
                                                    .block_records = (block_records_)},            \
                          &segment)
    ck_assert(FITS(start, start + AVRO_LOG_BLOCK_HEADER_SIZE, 0));
    ck_assert(FITS(start, start + AVRO_LOG_BLOCK_HEADER_SIZE + 60, 1));
    ck_assert(FITS(start, start, 0)); /* full: no room for a block */
    ck_assert(FITS(start, 1 << 20, 5));
    ck_assert(!FITS(start - 1, start + 100, 0));
    ck_assert(!FITS(0, 0, 0));
    ck_assert(!FITS(start, (1 << 20) + 1, 5));
    ck_assert(!FITS(start, start + AVRO_LOG_BLOCK_HEADER_SIZE + 1, 2)); /* no room for two */
    segment.grant.sync[0]++;
    ck_assert(!FITS(start, start + 100, 0)); /* another file */
    segment.grant.sync[0]--;
    ck_assert_int_eq(ftruncate(segment.fd, 10), 0);
    ck_assert(!FITS(start, start + 100, 0));
    close(segment.fd);
    segment.fd = -1;
    ck_assert(!FITS(start, start + 100, 0));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("recorder_inherit");
    TCase *cases = tcase_create("inherit");
    tcase_add_loop_test(cases, every_row_of_the_table_holds, 0,
                        (int)(sizeof rows / sizeof rows[0]));
    tcase_add_test(cases, the_file_is_asked_where_the_slot_does_not_tell);
    tcase_add_test(cases, a_committed_position_must_fit_its_file);
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
