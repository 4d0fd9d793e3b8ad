/* SPDX-License-Identifier: MIT */
/* A segment's map: aligned as large pages are, whatever size the file has; what is written through
 * it reaches the file however pages come and go; positions from shared memory that lie behind the
 * file do nothing; and nothing stays mapped. */
#include "worker/channel/segment.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/unit.h"

#define MIB (1024u * 1024)

static char path[] = "/tmp/holdfast-segment-XXXXXX";
static int witness = -1; /* of the same file */

static struct segment *open_segment(uint64_t size)
{
    struct stat status;
    int error = 0;
    ck_assert_int_eq(posix_fallocate(witness, 0, (off_t)size), 0);
    ck_assert_int_eq(fstat(witness, &status), 0);
    struct segment_grant grant = {.id = status.st_ino, .size = size};
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct segment *segment = segment_open(&fd, &grant, &error);
    ck_assert_msg(segment != NULL, "%s", strerror(error));
    ck_assert_int_eq(fd, -1);
    return segment;
}

static void setup(void)
{
    strcpy(path + sizeof path - 7, "XXXXXX");
    witness = mkostemp(path, O_CLOEXEC);
    ck_assert_int_ge(witness, 0);
}

static void teardown(void)
{
    unlink(path);
    close(witness);
}

/* Lines of this process's maps that name the file. */
static unsigned count_maps(void)
{
    char line[512];
    unsigned count = 0;
    FILE *maps = fopen("/proc/self/maps", "re");
    ck_assert_ptr_nonnull(maps);
    while (fgets(line, sizeof line, maps))
        count += strstr(line, path) != NULL;
    fclose(maps);
    return count;
}

/* Bytes of address space. */
static uint64_t space_used(void)
{
    unsigned long long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    ck_assert_ptr_nonnull(statm);
    ck_assert_int_eq(fscanf(statm, "%llu", &pages), 1);
    fclose(statm);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint8_t byte_at(uint64_t offset)
{
    return (uint8_t)(offset * 2654435761u >> 13);
}

static void check_file(uint64_t size)
{
    uint8_t *whole = malloc(size);
    ck_assert_ptr_nonnull(whole);
    ck_assert_int_eq(pread(witness, whole, size, 0), (ssize_t)size);
    for (uint64_t i = 0; i < size; i++)
        if (whole[i] != byte_at(i))
            ck_abort_msg("byte %llu of %llu did not reach the file", (unsigned long long)i,
                         (unsigned long long)size);
    free(whole);
}

static const uint64_t sizes[] = {1, 4096, 5000, MIB, 2 * MIB, 2 * MIB + 1, 5 * MIB + 12345};
#define SIZES (int)(sizeof sizes / sizeof *sizes)

START_TEST(a_map_is_aligned_and_leaves_nothing_behind)
{
    uint64_t size = sizes[_i];
    struct segment *segment = open_segment(size);
    segment_release(&segment); /* whatever the allocator needs is there by now */
    uint64_t before = space_used();
    segment = open_segment(size);
    ck_assert_uint_eq((uintptr_t)segment->map % (2 * MIB), 0);
    ck_assert_uint_eq(count_maps(), 1);
    ck_assert_uint_lt(space_used(), before + size + 2 * MIB); /* the room for aligning went back */
    for (uint64_t i = 0; i < size; i++)
        segment->map[i] = byte_at(i);
    check_file(size);
    segment_release(&segment);
    ck_assert_ptr_null(segment);
    ck_assert_uint_eq(count_maps(), 0);
}
END_TEST

/* As recorder and syncer do it, with every change of preference, in pieces of an odd size. */
START_TEST(pages_come_and_go_but_the_bytes_stay)
{
    const uint64_t size = 9 * MIB + 777, piece = 150001;
    struct segment *segment = open_segment(size);
    unsigned round = 0;
    for (uint64_t at = 0; at < size; round++) {
        uint64_t end = size - at < piece ? size : at + piece;
        segment_prefer(segment, round / 7 % 2 ? SEGMENT_CHEAP : SEGMENT_SHORT_CALLS);
        segment_populate(segment, at, round % 3 * MIB);
        for (; at < end; at++)
            segment->map[at] = byte_at(at);
        segment_write_back(segment, at);
        segment_let_go(segment, at);
        if (round % 5 == 0)
            ck_assert_int_eq(segment_sync(segment, at), 0);
    }
    ck_assert_uint_le(segment->written_back, size);
    ck_assert_uint_ge(segment->written_back, size - 4 * MIB);
    ck_assert_uint_ge(segment->let_go, size - 4 * MIB);
    ck_assert_uint_le(segment->populated, size);
    ck_assert_int_eq(segment_sync(segment, size), 0);
    check_file(size);
    segment_release(&segment);
}
END_TEST

START_TEST(a_position_behind_the_file_does_nothing)
{
    static const uint64_t behind[] = {MIB + 1, 3 * MIB, 1ull << 40, UINT64_MAX};
    struct segment *segment = open_segment(MIB);
    for (size_t i = 0; i < sizeof behind / sizeof *behind; i++) {
        segment_populate(segment, behind[i], 4 * MIB);
        segment_write_back(segment, behind[i]);
        segment_let_go(segment, behind[i]);
        ck_assert_uint_eq(segment->populated, 0);
        ck_assert_uint_eq(segment->written_back, 0);
        ck_assert_uint_eq(segment->let_go, 0);
        ck_assert_int_eq(segment_sync(segment, behind[i]), 0);
    }
    segment_release(&segment);
}
END_TEST

/* "rr": no read-ahead; "hg": large pages, where the kernel has them for files at all. */
START_TEST(a_preference_can_be_taken_back)
{
    char line[512];
    struct segment *segment = open_segment(4 * MIB);
    for (int i = 0; i < 4; i++) {
        bool mine = false, short_calls = false, large = false, seen = false;
        segment_prefer(segment, i % 2 ? SEGMENT_CHEAP : SEGMENT_SHORT_CALLS);
        FILE *maps = fopen("/proc/self/smaps", "re");
        ck_assert_ptr_nonnull(maps);
        while (fgets(line, sizeof line, maps)) {
            if (strchr(line, '-') && strstr(line, " rw-s "))
                mine = strstr(line, path) != NULL;
            if (!mine || strncmp(line, "VmFlags:", 8) != 0)
                continue;
            short_calls = strstr(line, " rr") != NULL;
            large = strstr(line, " hg") != NULL;
            seen = true;
            mine = false;
        }
        fclose(maps);
        ck_assert(seen);
        ck_assert_int_eq(short_calls, i % 2 == 0);
        ck_assert_int_eq(large && i % 2 == 0, 0);
    }
    segment_release(&segment);
}
END_TEST

START_TEST(another_file_is_refused)
{
    struct stat status;
    int error = 0;
    ck_assert_int_eq(ftruncate(witness, MIB), 0);
    ck_assert_int_eq(fstat(witness, &status), 0);
    struct segment_grant grant = {.id = status.st_ino + (_i == 0), .size = MIB + (_i == 1)};
    if (_i == 2)
        grant.size = 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_ptr_null(segment_open(&fd, &grant, &error));
    ck_assert_int_eq(error, ESTALE);
    ck_assert_int_eq(fd, -1);
    ck_assert_uint_eq(count_maps(), 0);
}
END_TEST

/* What was reserved for it is given back. */
START_TEST(a_file_that_cant_be_mapped_is_an_error)
{
    struct stat status;
    int error = 0;
    ck_assert_int_eq(ftruncate(witness, MIB), 0);
    ck_assert_int_eq(fstat(witness, &status), 0);
    struct segment_grant grant = {.id = status.st_ino, .size = MIB};
    uint64_t before = 0;
    for (int again = 0; again < 2; again++) {
        before = space_used(); /* the second time, what the allocator needs is there */
        int fd = open(path, O_RDONLY | O_CLOEXEC); /* can't be mapped for writing */
        ck_assert_ptr_null(segment_open(&fd, &grant, &error));
        ck_assert_int_eq(error, EACCES);
        ck_assert_int_eq(fd, -1);
    }
    ck_assert_uint_lt(space_used(), before + 2 * MIB);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("segment");
    TCase *maps = tcase_create("maps");
    tcase_add_checked_fixture(maps, setup, teardown);
    tcase_add_loop_test(maps, a_map_is_aligned_and_leaves_nothing_behind, 0, SIZES);
    tcase_add_test(maps, pages_come_and_go_but_the_bytes_stay);
    tcase_add_test(maps, a_position_behind_the_file_does_nothing);
    tcase_add_test(maps, a_preference_can_be_taken_back);
    tcase_add_loop_test(maps, another_file_is_refused, 0, 3);
    tcase_add_test(maps, a_file_that_cant_be_mapped_is_an_error);
    suite_add_tcase(suite, maps);
    return unit_run(suite);
}
