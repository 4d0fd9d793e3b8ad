/* SPDX-License-Identifier: MIT */
/* The public memory alone, as the gate and readers map it: it says what the worker wrote, and what
 * is no such memory is refused before anything in it is looked at. */
#include "common/channel_public.h"

#include <check.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/lib/ring_fixture.h"
#include "tests/lib/unit.h"

static struct ring_fixture fixture;
static struct channel_public_map map;
static const char *what;

static void set_up(void)
{
    const struct ring_fixture_settings settings = {
        .ring_size = 1 << 20, .max_datagram = 1400, .start_seq = 100};
    ring_fixture_open(&fixture, &settings);
}

static void tear_down(void)
{
    channel_public_unmap(&map);
    ring_fixture_close(&fixture);
}

START_TEST(it_says_what_the_worker_wrote)
{
    struct commit_progress commit, wanted = {.segment_id = 7,
                                             .block_start = 600,
                                             .write_offset = 900,
                                             .next_seq = 102,
                                             .segment_first_seq = 100};
    uint64_t end = 0;
    ck_assert_int_eq(channel_public_map(fixture.memory.ring, false, &map, &what), 0);
    ck_assert_uint_eq(channel_public_published(map.page), 100);
    ring_fixture_write(&fixture.writer, "abc", 3);
    ring_fixture_write(&fixture.writer, "def", 3);
    ck_assert_uint_eq(channel_public_published(map.page), 102);
    channel_page_write_commit(fixture.ring.page, &wanted);
    ck_assert(channel_public_read_commit(map.page, &commit));
    ck_assert_mem_eq(&commit, &wanted, sizeof commit);
    ck_assert_uint_eq(channel_public_durable(map.page, 7), 0);
    channel_page_write_durable(fixture.ring.page, 7, 800);
    ck_assert_uint_eq(channel_public_durable(map.page, 7), 800);
    ck_assert_uint_eq(channel_public_durable(map.page, 8), 0);
    ck_assert(!channel_public_is_retired(map.page, &end));
    channel_page_retire(fixture.ring.page, RING_REPLACED, 102);
    ck_assert(channel_public_is_retired(map.page, &end));
    ck_assert_uint_eq(end, 102);
}
END_TEST

START_TEST(descriptors_and_data_can_be_mapped_too)
{
    ring_fixture_write(&fixture.writer, "abc", 3);
    ck_assert_int_eq(channel_public_map(fixture.memory.ring, true, &map, &what), 0);
    ck_assert_uint_ge(map.size, map.geometry.total_size);
    ck_assert_mem_eq((const uint8_t *)map.page + map.geometry.data_offset, "abc", 3);
}
END_TEST

START_TEST(a_scribbled_commit_slot_is_noticed)
{
    struct commit_progress commit;
    ck_assert_int_eq(channel_public_map(fixture.memory.ring, false, &map, &what), 0);
    struct channel_public *page = &fixture.ring.page->public;
    ck_assert(channel_public_read_commit(map.page, &commit));
    atomic_fetch_add(&page->commit[atomic_load(&page->commit_version) & 1].write_offset, 1);
    ck_assert(!channel_public_read_commit(map.page, &commit));
}
END_TEST

static void refused(int fd)
{
    ck_assert_int_eq(channel_public_map(fd, true, &map, &what), -EBADMSG);
    ck_assert_ptr_null(map.page);
    ck_assert_str_ne(what, "");
}

START_TEST(what_is_no_public_memory_is_refused)
{
    int fd = memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct channel_public *page = &fixture.ring.page->public;
    refused(fd); /* nothing in it */
    ck_assert_int_eq(pwrite(fd, page, sizeof *page, 0), sizeof *page);
    refused(fd); /* too short, and not sealed */
    ck_assert_int_eq(ftruncate(fd, (off_t)fixture.geometry.total_size), 0);
    refused(fd); /* its size may change */
    fd_close(&fd);
    refused(fixture.memory.private_part);
    page->geometry.data_capacity *= 2;
    refused(fixture.memory.ring);
    page->geometry.data_capacity /= 2;
    page->version++;
    refused(fixture.memory.ring);
    page->version--;
    ck_assert_int_eq(channel_public_map(fixture.memory.ring, true, &map, &what), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("channel_public");
    TCase *memory = tcase_create("memory");
    tcase_add_checked_fixture(memory, set_up, tear_down);
    tcase_add_test(memory, it_says_what_the_worker_wrote);
    tcase_add_test(memory, descriptors_and_data_can_be_mapped_too);
    tcase_add_test(memory, a_scribbled_commit_slot_is_noticed);
    tcase_add_test(memory, what_is_no_public_memory_is_refused);
    suite_add_tcase(suite, memory);
    return unit_run(suite);
}
