/* SPDX-License-Identifier: MIT */
/* The ring's memory: any span of up to `tail` bytes is contiguous, also across the wrap, whether
 * the pages are mapped twice or the wrap is mirrored. A second, plain mapping of the same memfd is
 * the witness of what really lies where. Then the refusals: address space or descriptors run out,
 * sizes can't be doubled, and the reason is kept. */
#include "common/ring_map.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/monotonic.h"
#include "tests/lib/deny_call.h"
#include "tests/lib/ring_fixture.h"
#include "tests/lib/unit.h"

#define PAGE 4096u

static int make_memfd(uint64_t size)
{
    int memfd = memfd_create("ring-map", MFD_CLOEXEC);
    ck_assert_int_ge(memfd, 0);
    ck_assert_int_eq(ftruncate(memfd, (off_t)size), 0);
    return memfd;
}

static uint8_t *witness_of(int memfd, uint64_t size)
{
    uint8_t *witness = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    ck_assert_ptr_ne(witness, MAP_FAILED);
    return witness;
}

/* What a kernel might do that promises more than it holds: from here on, every second map at a
 * fixed place shows what lies a page further on in the file. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
static void make_kernel_wrong(void)
{
    unit_skip("a sanitizer has an mmap of its own");
}
#else
static bool kernel_is_wrong;

static void make_kernel_wrong(void)
{
    kernel_is_wrong = true;
}

void *mmap(void *at, size_t length, int access, int flags, int fd, off_t offset)
{
    static int fixed_maps;
    if (kernel_is_wrong && flags & MAP_FIXED && fixed_maps++ % 2)
        offset += PAGE;
    return (void *)syscall(SYS_mmap, at, length, access, flags, fd, offset);
}
#endif

#define SPAN_MAX 300

/* Write a span, tell the map, and see it in both views; in a mirror the tail must equal the front
 * afterwards. */
static void check_span(const struct ring_map *map, const uint8_t *witness, uint64_t position,
                       uint32_t length)
{
    static uint8_t got[SPAN_MAX];
    ring_fixture_fill(ring_map_at(map, position), position, length);
    ring_map_mirror(map, position, length);
    uint64_t from = position % map->capacity;
    uint64_t below = from + length <= map->capacity ? length : map->capacity - from;
    memcpy(got, witness + from, below);
    memcpy(got + below, witness, length - below);
    /* One assertion per span: Check notes each of them down, and there are tens of thousands of
     * spans. */
    bool whole = ring_fixture_matches(got, position, length) &&
                 ring_fixture_matches(ring_map_at(map, position), position, length) &&
                 (map->doubled || memcmp(map->base, map->base + map->capacity, map->tail) == 0);
    if (!whole)
        ck_abort_msg("%u bytes at %llu did not arrive as they were written", length,
                     (unsigned long long)position);
}

static void every_offset(enum ring_mapping_wanted wanted, uint64_t capacity, uint32_t tail,
                         uint64_t base_position)
{
    static const uint32_t lengths[] = {1, 64, SPAN_MAX - 1, SPAN_MAX};
    uint64_t size = capacity + tail + PAGE;
    int memfd = make_memfd(size);
    uint8_t *witness = witness_of(memfd, size);
    struct ring_map map;
    ck_assert_int_eq(ring_map_open(memfd, 0, capacity, tail, wanted, &map), 0);
    ck_assert_int_eq(map.doubled, wanted != RING_MAPPING_MIRROR);
    for (uint64_t offset = 0; offset < capacity; offset++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
            check_span(&map, witness, base_position + offset,
                       lengths[i] < tail ? lengths[i] : tail);
    ring_map_mirror(&map, 5, 0); /* an empty datagram changes nothing and is allowed anywhere */
    ring_map_close(&map);
    ck_assert_ptr_null(map.base);
    munmap(witness, size);
    fd_close(&memfd);
}

START_TEST(double_wraps_at_every_offset)
{
    every_offset(RING_MAPPING_DOUBLE, PAGE, 300, 0);
    every_offset(RING_MAPPING_AUTO, PAGE, PAGE, 1ull << 40);
}
END_TEST

START_TEST(mirror_wraps_at_every_offset)
{
    every_offset(RING_MAPPING_MIRROR, PAGE, 300, 0);
    every_offset(RING_MAPPING_MIRROR, PAGE, PAGE, 1ull << 40); /* the longest tail there can be */
}
END_TEST

START_TEST(double_of_any_number_of_pages)
{
    static const uint32_t pages[] = {1, 3, 5, 7, 12};
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        uint64_t capacity = (uint64_t)pages[i] * PAGE, size = capacity + PAGE;
        int memfd = make_memfd(size);
        uint8_t *witness = witness_of(memfd, size);
        struct ring_map map;
        ck_assert_int_eq(ring_map_open(memfd, 0, capacity, PAGE, RING_MAPPING_DOUBLE, &map), 0);
        ck_assert_str_eq(map.reason, "");
        for (uint64_t position = capacity - 2 * 300; position < capacity + 2 * 300; position += 7)
            check_span(&map, witness, position + 11 * capacity, 300);
        ring_map_close(&map);
        munmap(witness, size);
        fd_close(&memfd);
    }
}
END_TEST

START_TEST(mirror_of_any_number_of_bytes)
{
    static const uint32_t capacities[] = {1, 2, 301, 1000, 4095, 4097, 10007};
    for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++)
        every_offset(RING_MAPPING_MIRROR, capacities[i], capacities[i] < 300 ? capacities[i] : 300,
                     1ull << 33);
}
END_TEST

START_TEST(data_lies_behind_an_offset)
{
    uint64_t size = 8 * PAGE;
    int memfd = make_memfd(size);
    uint8_t *witness = witness_of(memfd, size);
    for (int wanted = RING_MAPPING_DOUBLE; wanted <= RING_MAPPING_MIRROR; wanted++) {
        struct ring_map map;
        memset(witness, 0, size);
        ck_assert_int_eq(
            ring_map_open(memfd, 3 * PAGE, 2 * PAGE, PAGE, (enum ring_mapping_wanted)wanted, &map),
            0);
        check_span(&map, witness + 3 * PAGE, 2 * PAGE - 100, 300);
        for (uint64_t i = 0; i < 3 * PAGE; i++)
            ck_assert_int_eq(witness[i], 0);
        ring_map_close(&map);
    }
    munmap(witness, size);
    fd_close(&memfd);
}
END_TEST

START_TEST(opening_changes_nothing)
{
    uint64_t size = 5 * PAGE;
    int memfd = make_memfd(size);
    uint8_t *witness = witness_of(memfd, size), *before = malloc(size);
    ck_assert_ptr_nonnull(before);
    ring_fixture_fill(witness, 7, (uint32_t)size);
    memcpy(before, witness, size);
    for (int wanted = RING_MAPPING_AUTO; wanted <= RING_MAPPING_MIRROR; wanted++) {
        struct ring_map map;
        ck_assert_int_eq(
            ring_map_open(memfd, 0, 4 * PAGE, PAGE, (enum ring_mapping_wanted)wanted, &map), 0);
        ring_map_close(&map);
        ck_assert_int_eq(memcmp(witness, before, size), 0);
    }
    free(before);
    munmap(witness, size);
    fd_close(&memfd);
}
END_TEST

START_TEST(a_mirror_takes_over_from_a_double)
{
    uint64_t size = 3 * PAGE;
    int memfd = make_memfd(size);
    struct ring_map map;
    ck_assert_int_eq(ring_map_open(memfd, 0, 2 * PAGE, PAGE, RING_MAPPING_DOUBLE, &map), 0);
    ring_fixture_fill(ring_map_at(&map, 2 * PAGE - 100), 9, 900);
    ring_map_close(&map);
    ck_assert_int_eq(ring_map_open(memfd, 0, 2 * PAGE, PAGE, RING_MAPPING_MIRROR, &map), 0);
    ck_assert(!ring_fixture_matches(ring_map_at(&map, 2 * PAGE - 100), 9, 900));
    ring_map_refresh_tail(&map);
    ck_assert(ring_fixture_matches(ring_map_at(&map, 2 * PAGE - 100), 9, 900));
    ring_map_close(&map);
    fd_close(&memfd);
}
END_TEST

START_TEST(the_reason_says_why_it_is_a_mirror)
{
    int memfd = make_memfd(4 * PAGE);
    struct ring_map map;
    ck_assert_int_eq(ring_map_open(memfd, 0, PAGE, 100, RING_MAPPING_MIRROR, &map), 0);
    ck_assert_ptr_nonnull(strstr(map.reason, "configured"));
    ring_map_close(&map);
    ck_assert_int_eq(ring_map_open(memfd, 0, PAGE + 64, 100, RING_MAPPING_AUTO, &map), 0);
    ck_assert(!map.doubled);
    ck_assert_str_eq(map.reason, "ring of 4160 bytes is not whole pages");
    ring_map_close(&map);
    ck_assert_int_eq(ring_map_open(memfd, 0, PAGE + 64, 100, RING_MAPPING_DOUBLE, &map), -ENOTSUP);
    ck_assert_ptr_null(map.base);
    ck_assert_str_eq(map.reason, "ring of 4160 bytes is not whole pages");
    ring_map_close(&map); /* closing what never opened is allowed */
    fd_close(&memfd);
}
END_TEST

START_TEST(impossible_sizes_are_refused)
{
    int memfd = make_memfd(PAGE);
    struct ring_map map;
    ck_assert_int_eq(ring_map_open(memfd, 0, 0, 0, RING_MAPPING_AUTO, &map), -EINVAL);
    ck_assert_int_eq(ring_map_open(memfd, 0, PAGE, PAGE + 1, RING_MAPPING_AUTO, &map), -EINVAL);
    ck_assert_int_eq(ring_map_open(memfd, 0, 1ull << 63, 0, RING_MAPPING_AUTO, &map), -EINVAL);
    int closed = dup(memfd);
    close(closed);
    ck_assert_int_eq(ring_map_open(closed, 0, PAGE, 0, RING_MAPPING_AUTO, &map), -EBADF);
    ck_assert_int_eq(ring_map_open(closed, 0, PAGE, 0, RING_MAPPING_DOUBLE, &map), -ENOTSUP);
    fd_close(&memfd);
}
END_TEST

static uint64_t address_space(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%llu", &pages), 1);
    fclose(file);
    return pages * PAGE;
}

static void limit_address_space(uint64_t bytes)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_AS, &limit), 0);
    limit.rlim_cur = bytes;
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
}

START_TEST(address_space_runs_out)
{
    const uint64_t capacity = 256ull << 20;
    int memfd = make_memfd(capacity + PAGE);
    const char *reason;
    struct ring_map map;
    ck_assert_int_eq(ring_map_probe(&reason), 0);
    uint64_t before = address_space();

    limit_address_space(before + capacity + capacity / 2);
    ck_assert_int_eq(ring_map_open(memfd, 0, capacity, PAGE, RING_MAPPING_DOUBLE, &map), -ENOTSUP);
    ck_assert_str_eq(map.reason, "mapping twice: Cannot allocate memory");
    ck_assert_ptr_null(map.base);
    ck_assert_int_eq(ring_map_open(memfd, 0, capacity, PAGE, RING_MAPPING_AUTO, &map), 0);
    ck_assert(!map.doubled);
    ck_assert_str_eq(map.reason, "mapping twice: Cannot allocate memory");
    memset(ring_map_at(&map, capacity - 100), 1, 200);
    ring_map_mirror(&map, capacity - 100, 200);
    ck_assert_int_eq(*ring_map_at(&map, 99), 1);
    ring_map_close(&map);

    limit_address_space(before + capacity / 2);
    ck_assert_int_eq(ring_map_open(memfd, 0, capacity, PAGE, RING_MAPPING_AUTO, &map), -ENOMEM);
    ck_assert_ptr_null(map.base);
    limit_address_space(RLIM_INFINITY);
    ck_assert_msg(address_space() < before + capacity / 2, "a refused map was left behind");
    fd_close(&memfd);
}
END_TEST

/* Returns the limit before. */
static rlim_t limit_fds_to(rlim_t count)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = count;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    return before;
}

START_TEST(descriptors_run_out_before_the_probe)
{
    int memfd = make_memfd(4 * PAGE);
    struct ring_map map;
    rlim_t before = limit_fds_to((rlim_t)memfd + 1);
    while (dup(memfd) >= 0) /* gaps below */
        ;
    ck_assert_int_eq(errno, EMFILE);
    ck_assert_int_eq(ring_map_open(memfd, 0, PAGE, 100, RING_MAPPING_DOUBLE, &map), -ENOTSUP);
    ck_assert_str_eq(map.reason, "memfd_create: Too many open files");
    ck_assert_int_eq(ring_map_open(memfd, 0, PAGE, 100, RING_MAPPING_AUTO, &map), 0);
    ck_assert(!map.doubled);
    ck_assert_str_eq(map.reason, "memfd_create: Too many open files");
    ring_map_close(&map);
    limit_fds_to(before);
}
END_TEST

static void expect_mirror_because(const char *reason)
{
    int memfd = make_memfd(6 * PAGE);
    uint8_t *witness = witness_of(memfd, 6 * PAGE);
    struct ring_map map;
    for (uint32_t i = 0; i < 6 * PAGE; i++)
        witness[i] = (uint8_t)(1 + i / PAGE);
    ck_assert_int_eq(ring_map_open(memfd, 0, 4 * PAGE, PAGE, RING_MAPPING_DOUBLE, &map), -ENOTSUP);
    ck_assert_str_eq(map.reason, reason);
    ck_assert_ptr_null(map.base);
    ck_assert_int_eq(ring_map_open(memfd, 0, 4 * PAGE, PAGE, RING_MAPPING_AUTO, &map), 0);
    ck_assert(!map.doubled);
    ck_assert_str_eq(map.reason, reason);
    ring_map_close(&map);
    for (uint32_t i = 0; i < 6 * PAGE; i++)
        ck_assert_int_eq(witness[i], 1 + i / PAGE);
    munmap(witness, 6 * PAGE);
    fd_close(&memfd);
}

START_TEST(halves_that_differ_are_found_by_the_probe)
{
    make_kernel_wrong();
    expect_mirror_because("the two halves differ at offset 0");
}
END_TEST

START_TEST(halves_that_differ_are_found_in_the_ring)
{
    const char *reason;
    ck_assert_int_eq(ring_map_probe(&reason), 0);
    make_kernel_wrong();
    expect_mirror_because("the two halves differ");
}
END_TEST

static const struct denied_call refused_maps[] = {
    {SYS_mmap, EACCES, 3, 0, MAP_NORESERVE}, /* the room */
    {SYS_mmap, EACCES, 3, 0, MAP_FIXED},     /* a half */
};

START_TEST(a_map_that_is_refused_is_found_by_the_probe)
{
    deny_call(&refused_maps[_i]);
    expect_mirror_because("mapping twice: Permission denied");
}
END_TEST

START_TEST(a_map_that_is_refused_later_too)
{
    const char *reason;
    ck_assert_int_eq(ring_map_probe(&reason), 0);
    deny_call(&refused_maps[_i]);
    expect_mirror_because("mapping twice: Permission denied");
}
END_TEST

START_TEST(the_probe_is_asked_once)
{
    const char *reason, *again;
    ck_assert_int_eq(ring_map_probe(&reason), 0);
    ck_assert_str_eq(reason, "");
    /* Without descriptors a second probe could not succeed: the answer must come from memory. */
    rlim_t before = limit_fds_to(3);
    ck_assert_int_eq(ring_map_probe(&again), 0);
    ck_assert_ptr_eq(reason, again);
    limit_fds_to(before);
    uint64_t best = UINT64_MAX; /* of several rounds: a busy machine can only make one slower */
    for (int round = 0; round < 20; round++) {
        monotonic start = monotonic_now();
        for (int i = 0; i < 1000; i++)
            ring_map_probe(&again);
        uint64_t took = monotonic_since(monotonic_now(), start);
        best = took < best ? took : best;
    }
    ck_assert_msg(best < 1000 * NS_PER_US, "asking again takes %llu ns",
                  (unsigned long long)best / 1000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ring_map");
    TCase *spans = tcase_create("spans");
    TCase *refusals = tcase_create("refusals");
    tcase_set_timeout(spans, 60);
    tcase_add_test(spans, double_wraps_at_every_offset);
    tcase_add_test(spans, mirror_wraps_at_every_offset);
    tcase_add_test(spans, double_of_any_number_of_pages);
    tcase_add_test(spans, mirror_of_any_number_of_bytes);
    tcase_add_test(spans, data_lies_behind_an_offset);
    tcase_add_test(spans, opening_changes_nothing);
    tcase_add_test(spans, a_mirror_takes_over_from_a_double);
    tcase_add_test(refusals, the_reason_says_why_it_is_a_mirror);
    tcase_add_test(refusals, impossible_sizes_are_refused);
    tcase_add_test(refusals, address_space_runs_out);
    tcase_add_test(refusals, halves_that_differ_are_found_by_the_probe);
    tcase_add_test(refusals, halves_that_differ_are_found_in_the_ring);
    tcase_add_loop_test(refusals, a_map_that_is_refused_is_found_by_the_probe, 0, 2);
    tcase_add_loop_test(refusals, a_map_that_is_refused_later_too, 0, 2);
    tcase_add_test(refusals, descriptors_run_out_before_the_probe);
    tcase_add_test(refusals, the_probe_is_asked_once);
    suite_add_tcase(suite, spans);
    suite_add_tcase(suite, refusals);
    return unit_run(suite);
}
