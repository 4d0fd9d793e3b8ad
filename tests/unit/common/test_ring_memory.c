/* SPDX-License-Identifier: MIT */
/* Making a channel's memory on a machine that does not give all it is asked for. The story: a
 * sandbox forbids memfd_create, descriptors run out in the middle, the ring can't be mapped twice:
 * each leaves nothing behind and says what failed. Then what a process that forks does not hand on,
 * and huge pages, where the machine has some. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/channel_memory.h"
#include "common/fd.h"
#include "common/huge_pages.h"
#include "common/inflight.h"
#include "common/memory_page.h"
#include "common/ring.h"
#include "tests/lib/deny_call.h"
#include "tests/lib/ring_fixture.h"
#include "tests/lib/unit.h"

static const struct ring_fixture_settings settings = {.ring_size = 1 << 16, .max_datagram = 1000};
static const struct channel_page_start start = {.channel = RING_FIXTURE_CHANNEL, .pair = 7};

static void expect_no_memory(int error, const char *step)
{
    struct channel_geometry geometry;
    const struct channel_shape shape = {.ring_size = 1 << 20, .max_datagram = 2048};
    struct channel_memory memory;
    const char *failed = "";
    channel_shape_geometry(&shape, &geometry);
    ck_assert_int_eq(channel_memory_make(&geometry, &start, &memory, &failed), -error);
    ck_assert_str_eq(failed, step);
    ck_assert_int_eq(memory.ring, -1);
    ck_assert_int_eq(memory.private_part, -1);
}

static const struct refusal {
    struct denied_call call;
    const char *step;
} refusals[] = {
    {{SYS_memfd_create, EPERM, DENY_ANY_ARGUMENT, 0, 0}, "memfd_create"},
    {{SYS_memfd_create, ENOSYS, DENY_ANY_ARGUMENT, 0, 0}, "memfd_create"},
    {{SYS_ftruncate, EFBIG, DENY_ANY_ARGUMENT, 0, 0}, "ftruncate"},
    {{SYS_ftruncate, EFBIG, 1, CHANNEL_PRIVATE_SIZE, 0}, "ftruncate"}, /* the second memfd's */
    {{SYS_mmap, ENOMEM, 3, 0, MAP_NORESERVE}, "mmap"},
    {{SYS_mmap, ENOMEM, 3, 0, MAP_FIXED}, "mmap"},
    {{SYS_fcntl, EPERM, 1, 1033 /* F_ADD_SEALS */, 0}, "sealing it"},
};

START_TEST(what_a_sandbox_refuses_leaves_nothing_behind)
{
    int before = unit_count_fds();
    deny_call(&refusals[_i].call);
    expect_no_memory(refusals[_i].call.error, refusals[_i].step);
    ck_assert_int_eq(unit_count_fds(), before);
}
END_TEST

START_TEST(descriptors_run_out)
{
    struct rlimit limit;
    int spare = dup(STDIN_FILENO), before = unit_count_fds();
    ck_assert_int_ge(spare, 0);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    struct rlimit few = {(rlim_t)spare + 1, limit.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (dup(STDIN_FILENO) >= 0) /* gaps below */
        before++;
    expect_no_memory(EMFILE, "memfd_create");
    fd_close(&spare); /* one is enough for the first of the two */
    expect_no_memory(EMFILE, "memfd_create");
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(unit_count_fds(), before - 1);
}
END_TEST

/* The worker's side: memory came from the supervisor, the scratch memfd of its own is refused. */
START_TEST(a_worker_without_memfd_goes_on_with_a_mirror)
{
    struct ring_fixture fixture;
    ring_fixture_make(&fixture, &settings);
    deny_call(&(struct denied_call){SYS_memfd_create, EPERM, DENY_ANY_ARGUMENT, 0, 0});
    ck_assert_int_eq(
        ring_attach(&fixture.ring, &fixture.memory, &fixture.geometry, RING_MAPPING_DOUBLE),
        -ENOTSUP);
    ck_assert_str_eq(fixture.ring.data.reason, "memfd_create: Operation not permitted");
    for (int generation = 0; generation < 2; generation++) {
        ring_fixture_attach(&fixture, RING_MAPPING_AUTO);
        ck_assert(!fixture.ring.data.doubled);
        ck_assert_str_eq(fixture.ring.data.reason, "memfd_create: Operation not permitted");
        ck_assert_uint_eq(atomic_load(&fixture.ring.page->private.mapping_fell_back), 1);
        ring_fixture_write(&fixture.writer, "abc", 3);
        ring_detach(&fixture.ring);
    }
    ring_fixture_attach(&fixture, RING_MAPPING_AUTO);
    ck_assert_uint_eq(ring_published(&fixture.ring), 2);
    ring_fixture_close(&fixture);
}
END_TEST

START_TEST(a_mirror_that_is_wanted_is_no_fallback)
{
    struct ring_fixture fixture;
    ring_fixture_make(&fixture, &settings);
    ring_fixture_attach(&fixture, _i ? RING_MAPPING_MIRROR : RING_MAPPING_AUTO);
    ck_assert_uint_eq(atomic_load(&fixture.ring.page->private.mapping_fell_back), 0);
    ring_fixture_close(&fixture);
}
END_TEST

/* ---- fork ---- */

/* Does a child of fork() die of reading there? */
static bool is_foreign_to_a_child(const void *address)
{
    int status;
    pid_t child = unit_fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        _exit(*(const volatile uint8_t *)address & 0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

START_TEST(a_child_of_fork_has_no_ring)
{
    struct ring_fixture fixture;
    struct ring_fixture_settings mapped = settings;
    mapped.mapping = _i ? RING_MAPPING_MIRROR : RING_MAPPING_DOUBLE;
    ring_fixture_open(&fixture, &mapped);
    ring_fixture_write(&fixture.writer, "abc", 3);
    const struct ring *ring = &fixture.ring;
    ck_assert(is_foreign_to_a_child(&ring->page->private));
    ck_assert(is_foreign_to_a_child(&ring->page->public));
    ck_assert(is_foreign_to_a_child(ring->descriptors));
    ck_assert(is_foreign_to_a_child(ring->data.base));
    ck_assert(is_foreign_to_a_child(ring->data.base + ring->data.mapped_size - 1));
    ck_assert_uint_eq(ring_published(ring), 1); /* and here all is as it was */
    ck_assert_int_eq(memcmp(ring->data.base, "abc", 3), 0);
    ring_fixture_close(&fixture);
}
END_TEST

/* ---- huge pages ---- */

START_TEST(room_for_large_pages_lies_on_one)
{
    const size_t size = 6 << 20, offset = CHANNEL_PRIVATE_SIZE;
    uint8_t *rooms[8];
    for (int i = 0; i < 8; i++) {
        ck_assert_int_eq(memory_page_reserve(size, offset, HUGE_PAGE_SIZE, &rooms[i]), 0);
        ck_assert_uint_eq(((uintptr_t)rooms[i] + offset) % HUGE_PAGE_SIZE, 0);
        /* All of it is there, and what was taken for alignment is not. */
        ck_assert_int_eq(mprotect(rooms[i], size, PROT_READ), 0);
        void *shift = mmap(NULL, (size_t)(i + 1) * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                           0); /* so that the next one begins elsewhere */
        ck_assert_ptr_ne(shift, MAP_FAILED);
    }
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(munmap(rooms[i], size), 0);
    setrlimit(RLIMIT_AS, &(struct rlimit){0, RLIM_INFINITY});
    int result = memory_page_reserve(size, offset, HUGE_PAGE_SIZE, &rooms[0]);
    setrlimit(RLIMIT_AS, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY});
    ck_assert_int_eq(result, -ENOMEM);
}
END_TEST

START_TEST(every_part_of_such_a_ring_is_whole_huge_pages)
{
    static const uint64_t sizes[] = {64 << 10, 3 << 20, 32 << 20, (1ull << 30) + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (uint32_t offload = 0; offload < 2; offload++) {
            struct channel_geometry geometry;
            const struct channel_shape shape = {.ring_size = sizes[i],
                                                .max_datagram = 2048,
                                                .receive_offload = offload,
                                                .ring_pages = RING_PAGES_HUGE};
            channel_shape_geometry(&shape, &geometry);
            ck_assert_uint_eq(geometry.data_offset % HUGE_PAGE_SIZE, 0);
            ck_assert_uint_eq(geometry.data_capacity % HUGE_PAGE_SIZE, 0);
            ck_assert_uint_eq(geometry.total_size % HUGE_PAGE_SIZE, 0);
            ck_assert_uint_ge(geometry.data_capacity, sizes[i]);
        }
}
END_TEST

/* Memory as ring_pages = "huge" wants it, of huge pages or, as the fallback, of normal ones. */
static void make_for_huge(struct ring_fixture *fixture, bool huge_pages)
{
    const struct channel_shape shape = {
        .ring_size = 1 << 20, .max_datagram = 1000, .ring_pages = RING_PAGES_HUGE};
    struct channel_page_start wanted = start;
    const char *step;
    wanted.huge_pages = huge_pages;
    *fixture = (struct ring_fixture){0};
    channel_shape_geometry(&shape, &fixture->geometry);
    int result = channel_memory_make(&fixture->geometry, &wanted, &fixture->memory, &step);
    ck_assert_msg(result == 0, "%s: %s", step, strerror(-result));
    ck_assert_uint_eq(memory_page_unit(fixture->memory.ring),
                      huge_pages ? HUGE_PAGE_SIZE : memory_page_size());
}

static void use_ring_for_huge(bool huge_pages)
{
    struct ring_fixture fixture;
    struct channel_shape shape;
    uint8_t payload[1000], copy[1000];
    make_for_huge(&fixture, huge_pages);
    ck_assert(channel_memory_is_ring(fixture.memory.ring, &fixture.geometry));
    ck_assert(channel_memory_find_shape(fixture.memory.ring, RING_FIXTURE_CHANNEL, &shape));
    ck_assert_uint_eq(shape.ring_pages, RING_PAGES_HUGE);
    for (int generation = 0; generation < 4; generation++) {
        /* The second half as a mirror: it takes over from a double, and stays. */
        ring_fixture_attach(&fixture, generation < 2 ? RING_MAPPING_DOUBLE : RING_MAPPING_MIRROR);
        ck_assert_int_eq(fixture.ring.data.doubled, generation < 2);
        for (int i = 0; i < 3000; i++) { /* more than it holds: it wraps */
            uint64_t seq = fixture.writer.seq;
            ring_fixture_fill(payload, seq, sizeof payload);
            ring_fixture_write(&fixture.writer, payload, sizeof payload);
            struct ring_datagram datagram;
            ck_assert(ring_peek(&fixture.ring, seq, &datagram));
            ring_copy(copy, datagram.data, datagram.length);
            ck_assert(ring_intact(&fixture.ring, &datagram));
            ck_assert(ring_fixture_matches(copy, seq, sizeof copy));
        }
        ring_detach(&fixture.ring);
    }
    ring_fixture_attach(&fixture, RING_MAPPING_MIRROR);
    ck_assert_uint_eq(ring_published(&fixture.ring), 12000);
    ring_fixture_close(&fixture);
}

START_TEST(without_huge_pages_it_is_an_ordinary_ring)
{
    use_ring_for_huge(false);
}
END_TEST

START_TEST(with_huge_pages_too)
{
    struct huge_pages before, during, after;
    struct ring_fixture fixture;
    huge_pages_read(&before);
    if (before.free < 5)
        unit_skip("%llu huge pages are free, 5 are needed (vm.nr_hugepages)",
                  (unsigned long long)before.free);
    make_for_huge(&fixture, true);
    huge_pages_read(&during);
    ck_assert_uint_le(during.free, before.free - 3); /* promised, though nobody has touched them */
    fd_close(&fixture.memory.ring);
    fd_close(&fixture.memory.private_part);
    huge_pages_read(&after);
    ck_assert_uint_gt(after.free, during.free);
    use_ring_for_huge(true);
}
END_TEST

START_TEST(too_few_huge_pages_say_how_many)
{
    struct huge_pages pages;
    char text[160], needed[64];
    huge_pages_read(&pages);
    if (!pages.known)
        unit_skip("this kernel has no huge pages of 2 MiB");
    uint64_t size = (pages.free + 1000) * HUGE_PAGE_SIZE;
    int before = unit_count_fds(), result = huge_pages_memfd("too-much", MFD_CLOEXEC, size);
    ck_assert_int_eq(result, -ENOMEM);
    ck_assert_int_eq(unit_count_fds(), before);
    huge_pages_explain(-result, size, text, sizeof text);
    snprintf(needed, sizeof needed, "%llu of 2 MiB needed, ",
             (unsigned long long)pages.free + 1000);
    ck_assert_msg(strncmp(text, needed, strlen(needed)) == 0, "%s", text);
    ck_assert_ptr_nonnull(strstr(text, "raise vm.nr_hugepages"));
    huge_pages_explain(EPERM, size, text, sizeof text);
    ck_assert_str_eq(text, "memfd_create with huge pages: Operation not permitted");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ring memory");
    TCase *making = tcase_create("making"), *forking = tcase_create("forking"),
          *huge = tcase_create("huge pages");
    tcase_add_loop_test(making, what_a_sandbox_refuses_leaves_nothing_behind, 0,
                        sizeof refusals / sizeof *refusals);
    tcase_add_test(making, descriptors_run_out);
    tcase_add_test(making, a_worker_without_memfd_goes_on_with_a_mirror);
    tcase_add_loop_test(making, a_mirror_that_is_wanted_is_no_fallback, 0, 2);
    tcase_add_loop_test(forking, a_child_of_fork_has_no_ring, 0, 2);
    tcase_add_test(huge, room_for_large_pages_lies_on_one);
    tcase_add_test(huge, every_part_of_such_a_ring_is_whole_huge_pages);
    tcase_add_test(huge, without_huge_pages_it_is_an_ordinary_ring);
    tcase_add_test(huge, with_huge_pages_too);
    tcase_add_test(huge, too_few_huge_pages_say_how_many);
    suite_add_tcase(suite, making);
    suite_add_tcase(suite, forking);
    suite_add_tcase(suite, huge);
    return unit_run(suite);
}
