/* SPDX-License-Identifier: MIT */
/* The archive dies, or one call is refused, at each of the calls by which it recovers a folder or
 * seals a segment; then it is asked again. Afterwards each record is in one sealed file, none is in
 * two, and no number is given again. The calls are this program's own: what it defines here, the
 * archive's code calls. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/avro_log_format.h"
#include "common/avro_log_name.h"
#include "common/avro_log_scan.h"
#include "common/fd.h"
#include "common/message.h"
#include "tests/lib/archive_rig.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/unit.h"
#include "worker/archive/folder.h"
#include "worker/archive/recovery.h"
#include "worker/archive/seal.h"

#define SEED     99
#define PREPARED RIG_CHANNEL "-prepared-0123456789abcdef.avro.open"
#define SEQ_MOST 256

/* ---- calls ---- */

static struct {
    int at;    /* the call that fails, from 1 on; 0 = none */
    int error; /* what with; 0 = the process ends there */
    int count;
} calls;

/* -1 with errno, or what the call returns. */
static long call(long number, long a, long b, long c, long d)
{
    if (calls.at == 0 || ++calls.count != calls.at)
        return syscall(number, a, b, c, d, number == SYS_renameat2 ? RENAME_NOREPLACE : 0);
    if (calls.error == 0)
        kill(getpid(), SIGKILL);
    errno = calls.error;
    return -1;
}

int renameat2(int from, const char *name, int to, const char *new_name, unsigned flags)
{
    ck_assert_uint_eq(flags, RENAME_NOREPLACE);
    return (int)call(SYS_renameat2, from, (long)name, to, (long)new_name);
}

int unlinkat(int folder, const char *name, int flags)
{
    return (int)call(SYS_unlinkat, folder, (long)name, flags, 0);
}

int ftruncate(int fd, off_t size)
{
    return (int)call(SYS_ftruncate, fd, size, 0, 0);
}

int fsync(int fd)
{
    return (int)call(SYS_fsync, fd, 0, 0, 0);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at)
{
    return call(SYS_pwrite64, fd, (long)bytes, (long)size, at);
}

int openat(int folder, const char *name, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return (int)call(SYS_openat, folder, (long)name, flags, mode);
}

/* ---- what is asked of the archive ---- */

static char base[64], folder[128];

/* What the child answers; in shared memory. */
static struct answers {
    struct message_recovered recovered;
    struct message_sealed sealed;
} * answers;

struct job {
    bool seal; /* else recover */
    struct message_recover recover;
    struct message_seal request;
};

/* True if the call was reached. */
static bool run(const struct job *job, int at, int error)
{
    int *reached = (int *)(answers + 1), status;
    *reached = 0;
    memset(answers, 0, sizeof *answers);
    pid_t pid = unit_fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, STDERR_FILENO);
        calls.at = at;
        calls.error = error;
        if (job->seal)
            seal_run(base, &job->request, &answers->sealed);
        else
            recovery_run(base, &job->recover, &answers->recovered);
        *reached = calls.count;
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return at > 0 && (WIFSIGNALED(status) || *reached >= at);
}

/* ---- folders ---- */

enum damage { WHOLE, IN_THE_FIRST_BLOCK, IN_THE_LAST_BLOCK }; /* a byte of its first record */

static void make_and_write(const char *name, uint64_t first_seq, int blocks, enum damage damage)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], sealed[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&maker, SEED, first_seq, blocks, open_name, sealed);
    size_t block = damage == IN_THE_LAST_BLOCK ? maker.block_start : maker.header_size;
    if (damage != WHOLE)
        maker.bytes[block + AVRO_LOG_BLOCK_HEADER_SIZE + 60] ^= 0x10;
    log_maker_write(folder, name ? name : open_name, maker.bytes, maker.size);
    log_maker_free(&maker);
}

static void one_segment(struct job *job)
{
    (void)job;
    make_and_write(NULL, 0, 5, WHOLE);
}

static void one_damaged(struct job *job)
{
    (void)job;
    make_and_write(NULL, 0, 5, IN_THE_FIRST_BLOCK);
}

static void one_not_renamed(struct job *job)
{
    (void)job;
    make_and_write(PREPARED, 0, 5, WHOLE);
}

static void damaged_and_not_renamed(struct job *job)
{
    (void)job;
    make_and_write(PREPARED, 0, 5, IN_THE_FIRST_BLOCK);
}

static void next_begun_in_vain(struct job *job)
{
    (void)job;
    make_and_write(NULL, 0, 5, WHOLE);
    make_and_write(PREPARED, 25, 0, WHOLE);
}

static void next_begun_in_vain_behind_damage(struct job *job)
{
    (void)job;
    make_and_write(NULL, 0, 5, IN_THE_FIRST_BLOCK);
    make_and_write(PREPARED, 25, 0, WHOLE);
}

static void leftovers(struct job *job)
{
    (void)job;
    make_and_write(NULL, 0, 3, WHOLE);
    make_and_write(NULL, 50, 3, WHOLE);
}

static void leftovers_of_a_damaged_one(struct job *job)
{
    (void)job;
    make_and_write(NULL, 0, 3, WHOLE);
    make_and_write(NULL, 50, 3, IN_THE_LAST_BLOCK);
}

static void twins(struct job *job)
{
    (void)job;
    make_and_write(NULL, 0, 3, WHOLE);
    make_and_write(PREPARED, 0, 5, WHOLE);
}

static void two_damaged(struct job *job)
{
    (void)job;
    make_and_write(NULL, 0, 3, IN_THE_FIRST_BLOCK);
    make_and_write(NULL, 60, 3, IN_THE_FIRST_BLOCK);
}

static void ask_seal(struct job *job, const char *name, uint64_t length)
{
    char path[256];
    struct stat status;
    snprintf(path, sizeof path, "%s/%.100s", folder, name);
    ck_assert_int_eq(stat(path, &status), 0);
    job->seal = true;
    job->request =
        (struct message_seal){.channel = RIG_CHANNEL, .id = status.st_ino, .length = length};
    snprintf(job->request.name, sizeof job->request.name, "%s", name);
}

/* damage: of a sealed block. The block that was open is sealed, too, if the end is known. */
static void write_and_ask_seal(struct job *job, enum damage damage, bool known)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], sealed[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&maker, SEED, 0, 5, open_name, sealed);
    if (known)
        log_maker_seal(&maker);
    if (damage != WHOLE)
        maker.bytes[maker.header_size + AVRO_LOG_BLOCK_HEADER_SIZE + 60] ^= 0x10;
    log_maker_write(folder, open_name, maker.bytes, maker.size);
    ask_seal(job, open_name, known ? maker.block_start : UINT64_MAX);
    log_maker_free(&maker);
}

static void sealed_at(struct job *job)
{
    write_and_ask_seal(job, WHOLE, true);
}

static void sealed_and_damaged(struct job *job)
{
    write_and_ask_seal(job, IN_THE_FIRST_BLOCK, true);
}

static void sealed_wherever_it_ends(struct job *job)
{
    write_and_ask_seal(job, WHOLE, false);
}

/* The disk has refused a part of it. */
static void copied(struct job *job)
{
    write_and_ask_seal(job, WHOLE, true);
    job->request.copy = 1;
}

/* ... and that is known only after it was sealed. */
static void copied_when_it_was_sealed(struct job *job)
{
    char open_path[256], path[256], name[SEGMENT_NAME_SIZE];
    copied(job);
    job->request.length = UINT64_MAX;
    folder_number_name(job->request.name, AVRO_LOG_SUFFIX, 1, name);
    snprintf(open_path, sizeof open_path, "%s/%.100s", folder, job->request.name);
    snprintf(path, sizeof path, "%s/%.100s", folder, name);
    ck_assert_int_eq(rename(open_path, path), 0);
}

/* clang-format off */
static const struct scenario {
    const char *name;
    void (*make)(struct job *job);
    uint64_t end;     /* records [0, end), */
    uint64_t lost[2]; /* but for this one, and this one; end where there is none */
    bool dies_only;   /* an error leaves what is described in .avro.damaged only */
} scenarios[] = {
    {"one segment", one_segment, 100, {100, 100}, false},
    {"one that is damaged", one_damaged, 100, {0, 100}, false},
    {"one that has its first name", one_not_renamed, 100, {100, 100}, false},
    {"one that is damaged and has its first name", damaged_and_not_renamed, 100, {0, 100}, false},
    {"the next one begun in vain", next_begun_in_vain, 100, {100, 100}, false},
    {"the same behind damage", next_begun_in_vain_behind_damage, 100, {0, 100}, false},
    {"leftovers behind its end", leftovers, 110, {110, 110}, false},
    {"leftovers of one that is damaged", leftovers_of_a_damaged_one, 110, {90, 110}, false},
    {"two that begin at one number", twins, 100, {100, 100}, true},
    {"two that are damaged", two_damaged, 120, {0, 60}, false},
    {"sealed", sealed_at, 100, {100, 100}, false},
    {"sealed and damaged", sealed_and_damaged, 100, {0, 100}, false},
    {"copied", copied, 100, {100, 100}, false},
    {"copied when it was sealed", copied_when_it_was_sealed, 100, {100, 100}, false},
    {"sealed wherever it ends", sealed_wherever_it_ends, 100, {100, 100}, false},
};
/* clang-format on */

static void begin(const struct scenario *scenario, struct job *job)
{
    log_maker_remove_folder(folder);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    memset(job, 0, sizeof *job);
    snprintf(job->recover.channel, sizeof job->recover.channel, RIG_CHANNEL);
    scenario->make(job);
}

/* ---- what became of them ---- */

static int take(void *context, const struct avro_log_found *found)
{
    unsigned *seen = context;
    if (found->record.seq < SEQ_MOST)
        seen[found->record.seq]++;
    return 0;
}

static void read_sealed(const char *name, unsigned *seen)
{
    const struct avro_log_scan_options sealed = {.seq_end = UINT64_MAX};
    const struct avro_log_visitor visitor = {.context = seen, .record = take};
    struct avro_log_summary summary;
    char path[256];
    snprintf(path, sizeof path, "%s/%.100s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(avro_log_scan(fd, &sealed, &visitor, &summary), 0);
    ck_assert_uint_eq(summary.faults, 0);
    fd_close(&fd);
}

static void check_records(const struct scenario *scenario, const char *what)
{
    unsigned seen[SEQ_MOST] = {0};
    const struct dirent *entry;
    DIR *stream = opendir(folder);
    ck_assert_ptr_nonnull(stream);
    while ((entry = readdir(stream))) {
        if (avro_log_name_ends_in(entry->d_name, AVRO_LOG_SUFFIX))
            read_sealed(entry->d_name, seen);
        else if (entry->d_name[0] != '.' &&
                 !avro_log_name_ends_in(entry->d_name, AVRO_LOG_DAMAGED_SUFFIX))
            ck_abort_msg("%s: %s is left", what, entry->d_name);
    }
    closedir(stream);
    for (uint64_t seq = 0; seq < scenario->end; seq++) {
        unsigned wanted = seq == scenario->lost[0] || seq == scenario->lost[1] ? 0 : 1;
        if (seen[seq] != wanted)
            ck_abort_msg("%s: record %llu is there %u times", what, (unsigned long long)seq,
                         seen[seq]);
    }
}

/* Asked again, by another archive; and when the daemon starts next. */
static void settle(const struct scenario *scenario, struct job *job, const char *what)
{
    struct job next_start = *job;
    job->request.again = 1;
    run(job, 0, 0);
    ck_assert_msg(answers->sealed.error == 0 && answers->recovered.error == 0, "%s: error", what);
    check_records(scenario, what);
    next_start.seal = false;
    run(&next_start, 0, 0);
    ck_assert_msg(answers->recovered.next_seq >= scenario->end, "%s: goes on at %llu", what,
                  (unsigned long long)answers->recovered.next_seq);
    check_records(scenario, what);
}

static void disturb_each_call(const struct scenario *scenario, int error)
{
    struct job job;
    char what[200];
    int at = 0;
    for (;;) {
        at++;
        begin(scenario, &job);
        bool reached = run(&job, at, error);
        snprintf(what, sizeof what, "%s, %s at call %d", scenario->name,
                 error ? strerror(error) : "killed", at);
        settle(scenario, &job, what);
        if (!reached)
            break;
    }
    ck_assert_int_gt(at, 10);
}

static void setup(void)
{
    answers = mmap(NULL, sizeof *answers + sizeof(int), PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(answers, MAP_FAILED);
    log_maker_folder(base);
    snprintf(folder, sizeof folder, "%s/" RIG_CHANNEL, base);
}

static void teardown(void)
{
    log_maker_remove_folder(base);
}

START_TEST(test_killed_at_every_call)
{
    disturb_each_call(&scenarios[_i], 0);
}
END_TEST

START_TEST(test_no_space_at_every_call)
{
    if (!scenarios[_i].dies_only)
        disturb_each_call(&scenarios[_i], ENOSPC);
}
END_TEST

START_TEST(test_refused_at_every_call)
{
    if (!scenarios[_i].dies_only)
        disturb_each_call(&scenarios[_i], EIO);
}
END_TEST

int main(void)
{
    const int count = (int)(sizeof scenarios / sizeof *scenarios);
    Suite *suite = suite_create("archive_every_call");
    TCase *tests = tcase_create("everything");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_killed_at_every_call, 0, count);
    tcase_add_loop_test(tests, test_no_space_at_every_call, 0, count);
    tcase_add_loop_test(tests, test_refused_at_every_call, 0, count);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
