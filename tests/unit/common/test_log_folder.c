/* SPDX-License-Identifier: MIT */
/* A channel's folder, listed by names and searched by number and time. First ordinary folders, then
 * large ones, then what anybody may put there, last a folder that changes meanwhile. */
#include "common/log_folder.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_header.h"
#include "common/monotonic.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/unit.h"

#define BEGIN (1760000000ull * NS_PER_S)

static char path[64];
static int folder = -1;
static struct log_folder list;

static void set_up(void)
{
    log_maker_folder(path);
    folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(folder, 0);
}

static void tear_down(void)
{
    log_folder_free(&list);
    close(folder);
    log_maker_remove_folder(path);
}

static void read_folder(void)
{
    log_folder_free(&list);
    ck_assert_int_eq(log_folder_read(folder, "engine", &list), 0);
}

static void name_of(uint64_t seq, bool open, char ret_name[SEGMENT_NAME_SIZE])
{
    avro_log_segment_name("engine", seq, BEGIN, ret_name);
    if (!open)
        *strstr(ret_name, ".open") = '\0';
}

/* A file with a header alone; latest_ns: what its totals say, 0 = it has none. */
static void put(uint64_t seq, bool open, uint64_t latest_ns)
{
    uint8_t bytes[AVRO_LOG_HEADER_MAX];
    char name[SEGMENT_NAME_SIZE];
    struct avro_log_identity identity = {.channel = "engine", .first_seq = seq};
    size_t size = avro_log_write_header(bytes, &identity);
    name_of(seq, open, name);
    log_maker_write(path, name, bytes, size);
    if (latest_ns > 0) {
        const struct avro_log_totals totals = {.last_seq = seq, .latest_ns = latest_ns};
        int fd = openat(folder, name, O_RDWR | O_CLOEXEC);
        ck_assert_int_eq(avro_log_write_totals(fd, &totals), 1);
        close(fd);
    }
}

/* ---- listing ---- */

START_TEST(test_in_the_order_of_their_numbers)
{
    static const char *const names[] = {"engine-00000000000000000200-20251009T085320Z.avro",
                                        "engine-00000000000000000100-20251009T085320Z-3.avro",
                                        "engine-00000000000000000100-20251009T085320Z.avro",
                                        "engine-00000000000000000100-20251009T085319Z-2.avro",
                                        "engine-00000000000000000100-20251009T085320Z-2.avro",
                                        "engine-00000000000000000300-20251009T085320Z.avro.open"};
    static const int order[] = {3, 2, 4, 1, 0, 5};
    for (size_t i = 0; i < 6; i++)
        log_maker_write(path, names[i], "", 0);
    read_folder();
    ck_assert_uint_eq(list.count, 6);
    for (size_t i = 0; i < 6; i++) {
        ck_assert_str_eq(list.files[i].name, names[order[i]]);
        ck_assert_int_eq(list.files[i].open, i == 5);
    }
    ck_assert_uint_eq(list.files[3].number, 3);
    read_folder(); /* the folder's offset doesn't matter */
    ck_assert_uint_eq(list.count, 6);
}
END_TEST

START_TEST(test_an_open_twin_is_left_out)
{
    put(100, false, 0);
    put(100, true, 0);
    put(200, true, 0);
    read_folder();
    ck_assert_uint_eq(list.count, 2);
    ck_assert(!list.files[0].open);
    ck_assert(list.files[1].open);
}
END_TEST

START_TEST(test_what_is_no_segment)
{
    static const char *const names[] = {
        "engine-prepared-0000000000000abc.avro.open",
        "engine-00000000000000000100-20251009T085320Z.avro.damaged",
        "engine-00000000000000000100-20251009T085320Z.avro.mending",
        "engine-00000000000000000100-20251009T085320Z.avro.x.avro",
        "engine-00000000000000000100-20251009T085320Z-1.avro",
        "engine-00000000000000000100-20251009T085320Z-22.avro",
        "engine-00000000000000000100-20251009T085320Z",
        "engine-99999999999999999999-20251009T085320Z.avro", /* beyond 64 bits */
        "engine-100-20251009T085320Z.avro",
        "engine-00000000000000000100-2025.avro",
        "engine-00000000000000000100-20251009T085320Z.avro.openx",
        "engine2-00000000000000000100-20251009T085320Z.avro",
        "engin-00000000000000000100-20251009T085320Z.avro",
        "engine-",
        "engine",
        ".avro",
        "engine-.avro",
        "-00000000000000000100-20251009T085320Z.avro"};
    char full[512];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        log_maker_write(path, names[i], "", 0);
    snprintf(full, sizeof full, "%s/engine-00000000000000000500-20251009T085320Z.avro", path);
    ck_assert_int_eq(mkdir(full, 0700), 0);
    snprintf(full, sizeof full, "%s/engine-00000000000000000600-20251009T085320Z.avro", path);
    ck_assert_int_eq(symlink("/etc/passwd", full), 0);
    snprintf(full, sizeof full, "%s/engine-00000000000000000700-20251009T085320Z.avro", path);
    ck_assert_int_eq(mkfifo(full, 0600), 0);
    read_folder();
    ck_assert_msg(list.count == 0, "%s", list.files ? list.files[0].name : "");
    ck_assert_int_eq(log_folder_open(folder, "engine-00000000000000000600-20251009T085320Z.avro"),
                     -ELOOP);
    ck_assert_int_eq(log_folder_open(folder, "engine-00000000000000000500-20251009T085320Z.avro"),
                     -EINVAL);
    ck_assert_int_eq(log_folder_open(folder, "engine-00000000000000000700-20251009T085320Z.avro"),
                     -EINVAL);
}
END_TEST

START_TEST(test_opens_nothing_outside)
{
    char name[SEGMENT_NAME_SIZE];
    put(100, false, 0);
    name_of(100, false, name);
    int fd = log_folder_open(folder, name), other;
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(lseek(fd, 7, SEEK_SET), 7); /* another description each time */
    other = log_folder_open(folder, name);
    ck_assert_int_eq(lseek(other, 0, SEEK_CUR), 0);
    close(other);
    close(fd);
    ck_assert_int_eq(log_folder_open(folder, "../passwd"), -EINVAL);
    ck_assert_int_eq(log_folder_open(folder, "/etc/passwd"), -EINVAL);
    ck_assert_int_lt(log_folder_open(folder, ".."), 0);
    ck_assert_int_eq(log_folder_open(folder, ""), -EINVAL);
    ck_assert_int_eq(log_folder_open(folder, "engine-none.avro"), -ENOENT);
}
END_TEST

START_TEST(test_no_folder)
{
    ck_assert_int_eq(log_folder_read(-1, "engine", &list), -EBADF);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(log_folder_read(fd, "engine", &list), -ENOTDIR);
    ck_assert_uint_eq(list.count, 0);
    close(fd);
}
END_TEST

/* ---- finding ---- */

START_TEST(test_find_a_number)
{
    put(100, false, 0);
    put(200, false, 0);
    put(300, true, 0);
    read_folder();
    static const uint64_t seqs[] = {0, 99, 100, 199, 200, 299, 300, 1000, UINT64_MAX};
    static const size_t wanted[] = {0, 0, 0, 0, 1, 1, 2, 2, 2};
    for (size_t i = 0; i < 9; i++)
        ck_assert_uint_eq(log_folder_find_seq(&list, seqs[i]), wanted[i]);
}
END_TEST

/* Those without totals are judged by others: the first one behind the last that ends before. */
static size_t expected(const uint64_t *latest, size_t count, uint64_t time_ns)
{
    size_t result = 0;
    for (size_t i = 0; i < count; i++)
        if (latest[i] > 0 && latest[i] < time_ns)
            result = i + 1;
    return result;
}

START_TEST(test_find_a_time)
{
    uint64_t state = log_maker_seed(20261127);
    for (int round = 0; round < 60; round++) {
        uint64_t latest[40], last = BEGIN;
        size_t count = 1 + log_maker_random(&state) % 40;
        for (size_t i = 0; i < count; i++) {
            last += log_maker_random(&state) % 3 * NS_PER_S; /* a clock that was set back: equal */
            bool known = log_maker_random(&state) % (1 + (uint64_t)round % 5) == 0;
            latest[i] = known ? last : 0;
            put(100 * i, !known && log_maker_random(&state) % 2, latest[i]);
        }
        read_folder();
        ck_assert_uint_eq(list.count, count);
        for (uint64_t time_ns = BEGIN - 1; time_ns < last + 3 * NS_PER_S; time_ns += NS_PER_S / 2)
            ck_assert_uint_eq(log_folder_find_time(folder, &list, time_ns),
                              expected(latest, count, time_ns));
        tear_down();
        set_up();
    }
}
END_TEST

START_TEST(test_ten_thousand)
{
    enum { COUNT = 10000 };
    char name[SEGMENT_NAME_SIZE], first[SEGMENT_NAME_SIZE], full[256];
    for (uint64_t i = 0; i < 16; i++)
        put(i * COUNT / 16 * 100, false, BEGIN + i * COUNT / 16 * NS_PER_S);
    for (uint64_t i = 0; i < COUNT; i++) { /* names alone; the rest is as if it were older */
        name_of(i * 100, false, name);
        int fd = openat(folder, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0640);
        ck_assert_int_ge(fd, 0);
        close(fd);
    }
    read_folder();
    ck_assert_uint_eq(list.count, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        if (list.files[i].first_seq != i * 100)
            ck_abort_msg("%zu: %s", i, list.files[i].name);
    ck_assert_uint_eq(log_folder_find_seq(&list, 555555), 5555);
    ck_assert_uint_eq(log_folder_find_time(folder, &list, BEGIN + 5000 * NS_PER_S), 4376);
    /* All by header. */
    name_of(0, false, first);
    log_folder_free(&list);
    for (uint64_t i = 0; i < COUNT; i++)
        put(i * 100, false, BEGIN + i * NS_PER_S);
    snprintf(full, sizeof full, "%s/%s", path, first);
    read_folder();
    for (uint64_t i = 0; i < COUNT; i += 777)
        ck_assert_uint_eq(log_folder_find_time(folder, &list, BEGIN + i * NS_PER_S), i);
    ck_assert_uint_eq(log_folder_find_time(folder, &list, BEGIN + COUNT * NS_PER_S), COUNT);
}
END_TEST

/* ---- a folder that changes ---- */

static atomic_bool stop;

static void *remove_and_put(void *context)
{
    uint64_t state = 1;
    (void)context;
    while (!atomic_load(&stop)) {
        char name[SEGMENT_NAME_SIZE], sealed[SEGMENT_NAME_SIZE];
        uint64_t seq = log_maker_random(&state) % 50 * 100;
        name_of(seq, true, name);
        name_of(seq, false, sealed);
        unlinkat(folder, sealed, 0);
        int fd = openat(folder, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0640);
        close(fd);
        renameat(folder, name, folder, sealed);
    }
    return NULL;
}

START_TEST(test_files_that_vanish)
{
    pthread_t thread;
    for (uint64_t i = 0; i < 50; i++)
        put(i * 100, false, BEGIN + i * NS_PER_S);
    ck_assert_int_eq(pthread_create(&thread, NULL, remove_and_put, NULL), 0);
    for (int i = 0; i < 500; i++) {
        read_folder();
        ck_assert_uint_ge(list.count, 49);
        for (size_t j = 1; j < list.count; j++)
            ck_assert_uint_lt(list.files[j - 1].first_seq, list.files[j].first_seq);
        size_t found = log_folder_find_time(folder, &list, BEGIN + 25 * NS_PER_S);
        ck_assert_uint_le(found, list.count);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    /* All but the one that has it. */
    read_folder();
    for (uint64_t i = 0; i < 50; i++) {
        char name[SEGMENT_NAME_SIZE];
        put(i * 100, false, BEGIN + i * NS_PER_S);
        name_of(i * 100, false, name);
        if (i != 30)
            unlinkat(folder, name, 0);
    }
    size_t found = log_folder_find_time(folder, &list, BEGIN + 30 * NS_PER_S);
    ck_assert_uint_le(found, 30); /* those before it are gone: they are no answer, but no harm */
    ck_assert_uint_ge(log_folder_find_time(folder, &list, BEGIN + 31 * NS_PER_S), 31);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log_folder");
    TCase *tests = tcase_create("folder");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_in_the_order_of_their_numbers);
    tcase_add_test(tests, test_an_open_twin_is_left_out);
    tcase_add_test(tests, test_what_is_no_segment);
    tcase_add_test(tests, test_opens_nothing_outside);
    tcase_add_test(tests, test_no_folder);
    tcase_add_test(tests, test_find_a_number);
    tcase_add_test(tests, test_find_a_time);
    tcase_add_test(tests, test_ten_thousand);
    tcase_add_test(tests, test_files_that_vanish);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
