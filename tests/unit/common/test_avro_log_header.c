/* SPDX-License-Identifier: MIT */
/* A file header says what was written into it, or says that it doesn't know. First what is written
 * at begin: round trip, every truncation, every wrong bit. Then the totals, in place: what they
 * change, what a kill between any two writes leaves, and a header of an older version, which has no
 * room for them. */
#include "common/avro_log_header.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/log_maker.h"
#include "tests/lib/unit.h"

static const struct avro_log_totals some = {.last_seq = 899,
                                            .records = 400,
                                            .first_time_ns = 1760000000000000001ull,
                                            .last_time_ns = 1760000000999999999ull,
                                            .latest_ns = 1760000001000000000ull};
static const struct avro_log_totals others = {.last_seq = 7777777,
                                              .records = 2,
                                              .first_time_ns = 1860000000000000001ull,
                                              .last_time_ns = 1860000000999999999ull,
                                              .latest_ns = 1860000001000000000ull};

static struct avro_log_identity longest(void)
{
    struct avro_log_identity identity = {.first_seq = AVRO_LOG_SEQ_MAX, .created_ns = UINT64_MAX};
    memset(identity.channel, 'x', CHANNEL_NAME_SIZE - 1);
    memset(identity.listen, '9', SOCKET_ADDRESS_TEXT_SIZE - 1);
    memset(identity.sync, 0xa5, sizeof identity.sync);
    for (size_t i = 0; i < sizeof identity.log_id; i++)
        identity.log_id[i] = (uint8_t)(i * 17);
    return identity;
}

static struct avro_log_identity engine(void)
{
    return (struct avro_log_identity){.channel = "engine",
                                      .first_seq = 500,
                                      .created_ns = 1760000000123456789ull,
                                      .listen = "10.0.0.7:5000",
                                      .log_id = "0123456789abcdef",
                                      .sync = "fedcba9876543210"};
}

static void check_begin(const struct avro_log_identity *got, const struct avro_log_identity *wanted)
{
    ck_assert_str_eq(got->channel, wanted->channel);
    ck_assert_uint_eq(got->first_seq, wanted->first_seq);
    ck_assert_uint_eq(got->created_ns, wanted->created_ns);
    ck_assert_mem_eq(got->sync, wanted->sync, sizeof got->sync);
    ck_assert_str_eq(got->listen, wanted->listen);
    ck_assert_mem_eq(got->log_id, wanted->log_id, sizeof got->log_id);
}

static bool same_totals(const struct avro_log_totals *got, const struct avro_log_totals *wanted)
{
    return memcmp(got, wanted, sizeof *got) == 0;
}

/* A copy that ends at its allocation's end: with the sanitizer, one byte too far is noticed. */
static long read_exactly(const uint8_t *bytes, size_t size, struct avro_log_identity *ret)
{
    const char *what;
    uint8_t *copy = malloc(size ? size : 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, bytes, size);
    long length = avro_log_read_header(copy, size, ret, &what);
    free(copy);
    ck_assert_int_eq(length > 0, what[0] == '\0');
    return length;
}

START_TEST(test_round_trip_and_every_truncation)
{
    uint8_t header[AVRO_LOG_HEADER_MAX];
    const struct avro_log_identity cases[] = {longest(), engine()};
    struct avro_log_identity got;
    for (size_t i = 0; i < 2; i++) {
        size_t size = avro_log_write_header(header, &cases[i]);
        ck_assert_uint_lt(size, AVRO_LOG_HEADER_MAX);
        ck_assert_int_eq(read_exactly(header, size, &got), (long)size);
        ck_assert_int_eq(read_exactly(header, sizeof header, &got), (long)size);
        check_begin(&got, &cases[i]);
        ck_assert(got.has_check && !got.has_totals);
        for (size_t cut = 0; cut < size; cut++)
            ck_assert_int_eq(read_exactly(header, cut, &got), -EBADMSG);
    }
}
END_TEST

START_TEST(test_from_a_file)
{
    uint8_t header[AVRO_LOG_HEADER_MAX];
    struct avro_log_identity identity = engine(), got;
    const char *what;
    size_t size = avro_log_write_header(header, &identity);
    int fd = log_maker_memfd(header, size);
    ck_assert_int_eq(lseek(fd, 0, SEEK_END), (off_t)size); /* read from the start all the same */
    ck_assert_int_eq(avro_log_load_header(fd, &got, &what), (long)size);
    ck_assert_uint_eq(got.first_seq, 500);
    ck_assert_int_eq(ftruncate(fd, (off_t)size - 1), 0);
    ck_assert_int_eq(avro_log_load_header(fd, &got, &what), -EBADMSG);
    close(fd);
    ck_assert_int_eq(avro_log_load_header(-1, &got, &what), -EBADF);
    ck_assert_str_ne(what, "");
}
END_TEST

/* A wrong bit in what was written at begin makes the header unreadable; one in the totals makes
 * them unknown. None makes a value another one. */
START_TEST(test_every_wrong_bit_is_noticed)
{
    uint8_t bytes[AVRO_LOG_HEADER_MAX];
    struct avro_log_identity identity = engine(), got;
    size_t size = avro_log_write_header(bytes, &identity), readable = 0;
    int fd = log_maker_memfd(bytes, size);
    ck_assert_int_eq(avro_log_write_totals(fd, &some), 1);
    ck_assert_int_eq(pread(fd, bytes, sizeof bytes, 0), (ssize_t)size);
    close(fd);
    ck_assert_int_eq(read_exactly(bytes, size, &got), (long)size);
    ck_assert(got.has_totals && same_totals(&got.totals, &some));
    for (size_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (read_exactly(bytes, size, &got) > 0) {
            readable++;
            check_begin(&got, &identity);
            ck_assert_msg(!got.has_totals, "bit %zu: totals that nobody wrote", bit);
        }
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    ck_assert_uint_ge(readable, (5 * 20 + 8) * 8); /* those in the totals' values */
}
END_TEST

START_TEST(test_totals_move_nothing)
{
    uint8_t before[AVRO_LOG_HEADER_MAX + 64], after[sizeof before];
    struct avro_log_identity identity = engine(), got;
    memset(before, 0x5a, sizeof before);
    size_t size = avro_log_write_header(before, &identity), differ = 0;
    int fd = log_maker_memfd(before, sizeof before);
    for (int i = 0; i < 2; i++) { /* again, over the first ones */
        const struct avro_log_totals *totals = i ? &others : &some;
        ck_assert_int_eq(avro_log_write_totals(fd, totals), 1);
        ck_assert_int_eq(pread(fd, after, sizeof after, 0), (ssize_t)sizeof after);
        ck_assert_int_eq(read_exactly(after, sizeof after, &got), (long)size);
        check_begin(&got, &identity);
        ck_assert(got.has_totals && same_totals(&got.totals, totals));
    }
    ck_assert_int_eq(lseek(fd, 0, SEEK_END), (off_t)sizeof before);
    for (size_t i = 0; i < sizeof before; i++)
        differ += before[i] != after[i];
    ck_assert_uint_le(differ, 5 * 20 + 8);
    ck_assert_mem_eq(before + size, after + size, sizeof before - size);
    close(fd);
}
END_TEST

START_TEST(test_no_header_no_totals)
{
    static const uint8_t zeros[8192];
    uint8_t after[sizeof zeros];
    int fd = log_maker_memfd(zeros, sizeof zeros);
    ck_assert_int_eq(avro_log_write_totals(fd, &some), -EBADMSG);
    ck_assert_int_eq(pread(fd, after, sizeof after, 0), (ssize_t)sizeof after);
    ck_assert_mem_eq(after, zeros, sizeof zeros);
    close(fd);
    ck_assert_int_eq(avro_log_write_totals(-1, &some), -EBADF);
}
END_TEST

/* Run avro_log_write_totals() in a child and kill it when it has left `writes` writes behind.
 * Returns whether it was killed before its end. */
static bool killed_after(int fd, int writes)
{
    int status, done = 0;
    pid_t pid = unit_fork();
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        _exit(avro_log_write_totals(fd, &others) == 1 ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD), 0);
    for (;;) {
        struct __ptrace_syscall_info about = {0};
        bool write_begins = false;
        ck_assert_int_eq(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        if (WIFEXITED(status)) {
            ck_assert_int_eq(WEXITSTATUS(status), 0);
            return false;
        }
        ck_assert(WIFSTOPPED(status));
        if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof about, &about) > 0)
            write_begins = about.op == PTRACE_SYSCALL_INFO_ENTRY && about.entry.nr == SYS_pwrite64;
        if (write_begins && done++ == writes) {
            kill(pid, SIGKILL);
            ck_assert_int_eq(waitpid(pid, &status, 0), pid);
            ck_assert(WIFSIGNALED(status));
            return true;
        }
    }
}

/* The header has totals already: those of a seal that was cut short before the file was given
 * another end. After a kill, either set is vouched for as a whole, or none. */
START_TEST(test_a_kill_between_any_two_writes_leaves_no_lie)
{
    uint8_t header[AVRO_LOG_HEADER_MAX];
    struct avro_log_identity identity = engine(), got;
    const char *what;
    size_t size = avro_log_write_header(header, &identity);
    bool killed = true;
    int unknown = 0, writes = 0;
    for (; killed; writes++) {
        int fd = log_maker_memfd(header, size);
        ck_assert_int_eq(avro_log_write_totals(fd, &some), 1);
        killed = killed_after(fd, writes);
        ck_assert_int_eq(avro_log_load_header(fd, &got, &what), (long)size);
        check_begin(&got, &identity);
        if (got.has_totals)
            ck_assert_msg(same_totals(&got.totals, killed ? &some : &others),
                          "after %d writes: a mixture is vouched for", writes);
        unknown += !got.has_totals;
        close(fd);
    }
    ck_assert(got.has_totals);
    ck_assert_int_eq(unknown, 2); /* blank; values without a sum */
    ck_assert_int_eq(writes, 4);
}
END_TEST

START_TEST(test_an_older_versions_header_stays_readable_and_as_it_is)
{
    struct log_maker maker;
    struct avro_log_identity got;
    uint8_t after[AVRO_LOG_HEADER_MAX];
    log_maker_begin(&maker, 64 * 1024, "engine", 500, 1);
    log_maker_age(&maker);
    ck_assert_int_eq(read_exactly(maker.bytes, maker.header_size, &got), (long)maker.header_size);
    ck_assert_str_eq(got.channel, "engine");
    ck_assert_uint_eq(got.first_seq, 500);
    ck_assert_mem_eq(got.sync, maker.identity.sync, sizeof got.sync);
    ck_assert(!got.has_check && !got.has_totals && !avro_log_id_is_known(got.log_id));
    int fd = log_maker_memfd(maker.bytes, maker.header_size);
    ck_assert_int_eq(avro_log_write_totals(fd, &some), 0);
    ck_assert_int_eq(pread(fd, after, sizeof after, 0), (ssize_t)maker.header_size);
    ck_assert_mem_eq(after, maker.bytes, maker.header_size);
    for (size_t cut = 0; cut < maker.header_size; cut++)
        ck_assert_int_eq(read_exactly(maker.bytes, cut, &got), -EBADMSG);
    close(fd);
    log_maker_free(&maker);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("avro_log_header");
    TCase *begin = tcase_create("begin"), *totals = tcase_create("totals");
    tcase_set_timeout(begin, 60);
    tcase_set_timeout(totals, 60);
    tcase_add_test(begin, test_round_trip_and_every_truncation);
    tcase_add_test(begin, test_from_a_file);
    tcase_add_test(begin, test_every_wrong_bit_is_noticed);
    tcase_add_test(totals, test_totals_move_nothing);
    tcase_add_test(totals, test_no_header_no_totals);
    tcase_add_test(totals, test_a_kill_between_any_two_writes_leaves_no_lie);
    tcase_add_test(totals, test_an_older_versions_header_stays_readable_and_as_it_is);
    suite_add_tcase(suite, begin);
    suite_add_tcase(suite, totals);
    return log_maker_run(suite);
}
