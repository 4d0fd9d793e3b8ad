/* SPDX-License-Identifier: MIT */
/* An archive is killed before or behind any of its calls while it seals a segment, or one of them
 * fails; and then the same is asked again, or everything is recovered. Whatever it was that was
 * interrupted, each record is in one sealed file in the end, and nothing else is left but what was
 * set aside; and nobody is told of success before that. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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
#include "worker/archive/segments.h"

#define SEED     99
#define RECORDS  100
#define PREPARED RIG_CHANNEL "-prepared-0123456789abcdef.avro.open"

/* ---- calls that are disturbed ---- */

enum disturbance { KILLED_BEFORE, KILLED_BEHIND, REFUSED };

static struct {
    int at; /* which of all calls; 0: none */
    enum disturbance how;
    int error;
    int count;
} disturbed;

/* Is it this one that is refused? */
static bool is_refused(void)
{
    if (!disturbed.at || ++disturbed.count != disturbed.at)
        return false;
    if (disturbed.how == KILLED_BEFORE)
        kill(getpid(), SIGKILL);
    errno = disturbed.error;
    return disturbed.how == REFUSED;
}

static long then_behind(long result)
{
    if (disturbed.at && disturbed.count == disturbed.at && disturbed.how == KILLED_BEHIND)
        kill(getpid(), SIGKILL);
    return result;
}

#define DISTURBED(call) (is_refused() ? -1 : (int)then_behind(call))

int renameat2(int old_folder, const char *from, int new_folder, const char *to, unsigned flags)
{
    return DISTURBED(syscall(SYS_renameat2, old_folder, from, new_folder, to, flags));
}

int unlinkat(int folder, const char *name, int flags)
{
    return DISTURBED(syscall(SYS_unlinkat, folder, name, flags));
}

int ftruncate(int fd, off_t length)
{
    return DISTURBED(syscall(SYS_ftruncate, fd, length));
}

int fsync(int fd)
{
    return DISTURBED(syscall(SYS_fsync, fd));
}

int openat(int folder, const char *name, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return DISTURBED(syscall(SYS_openat, folder, name, flags, mode));
}

/* ---- what is asked of the archive ---- */

struct shared {
    bool ended; /* it was neither killed nor refused anything: there is no such call any more */
    bool done;
    int error;
};

struct job {
    struct message_seal seal;
    char began_as[SEGMENT_NAME_SIZE]; /* BEGIN goes before */
};

struct scenario {
    const char *name;
    void (*make)(struct job *job);
    bool damaged; /* the first record is, and the original is kept */
};

static char base[64], folder[128];
static struct shared *shared;

/* 100 records, the last of five blocks sealed, too. */
static void make_log(struct log_maker *maker, char ret_open[SEGMENT_NAME_SIZE])
{
    char sealed[SEGMENT_NAME_SIZE];
    archive_rig_make_log(maker, SEED, 0, 5, ret_open, sealed);
    log_maker_seal(maker);
}

static void finish_making(struct job *job, const char *name, const char *open_name, uint64_t length)
{
    char path[sizeof folder + SEGMENT_NAME_SIZE];
    struct stat status;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ck_assert_int_eq(stat(path, &status), 0);
    *job = (struct job){.seal = {.channel = RIG_CHANNEL, .id = status.st_ino, .length = length}};
    snprintf(job->seal.name, sizeof job->seal.name, "%s", open_name);
}

static void make_plain(struct job *job)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE];
    make_log(&maker, open_name);
    log_maker_write(folder, open_name, maker.bytes, maker.size);
    finish_making(job, open_name, open_name, maker.block_start);
    log_maker_free(&maker);
}

static void make_of_unknown_length(struct job *job)
{
    make_plain(job);
    job->seal.length = UINT64_MAX;
}

/* Which was begun in vain, as an earlier version has left it, and bounds nothing. */
static void make_beside_a_bare_one(struct job *job)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    archive_rig_make_log(&maker, SEED, 25, 0, open_name, name);
    log_maker_write(folder, name, maker.bytes, maker.header_size);
    log_maker_free(&maker);
    make_of_unknown_length(job);
}

static void make_not_begun(struct job *job)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE];
    make_log(&maker, open_name);
    log_maker_write(folder, PREPARED, maker.bytes, maker.size);
    finish_making(job, PREPARED, open_name, maker.block_start);
    snprintf(job->began_as, sizeof job->began_as, PREPARED);
    log_maker_free(&maker);
}

static void make_damaged(struct job *job)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE];
    make_log(&maker, open_name);
    maker.bytes[maker.header_size + AVRO_LOG_BLOCK_HEADER_SIZE + 60] ^= 0x10;
    log_maker_write(folder, open_name, maker.bytes, maker.size);
    finish_making(job, open_name, open_name, maker.block_start);
    log_maker_free(&maker);
}

/* As one whose worker died before its name was asked for, while everything was recovered. */
static void make_damaged_and_prepared(struct job *job)
{
    char from[sizeof folder + SEGMENT_NAME_SIZE], to[sizeof from];
    make_damaged(job);
    snprintf(from, sizeof from, "%s/%s", folder, job->seal.name);
    snprintf(to, sizeof to, "%s/" PREPARED, folder);
    ck_assert_int_eq(rename(from, to), 0);
    snprintf(job->seal.name, sizeof job->seal.name, PREPARED);
    job->seal.length = UINT64_MAX;
}

static void make_refused(struct job *job)
{
    make_plain(job);
    job->seal.copy = 1;
}

static void make_refused_when_sealed(struct job *job)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    make_log(&maker, open_name);
    folder_number_name(open_name, AVRO_LOG_SUFFIX, 1, name);
    log_maker_write(folder, name, maker.bytes, maker.block_start);
    finish_making(job, name, open_name, UINT64_MAX);
    job->seal.copy = 1;
    log_maker_free(&maker);
}

static const struct scenario scenarios[] = {
    {"plain", make_plain, false},
    {"of unknown length", make_of_unknown_length, false},
    {"beside a bare one", make_beside_a_bare_one, false},
    {"not begun", make_not_begun, false},
    {"damaged", make_damaged, true},
    {"damaged and prepared", make_damaged_and_prepared, true},
    {"refused", make_refused, false},
    {"refused when sealed", make_refused_when_sealed, false},
};

/* ---- runs ---- */

static void ask_to_seal(const struct job *job)
{
    struct message_sealed sealed;
    struct message_begin_segment begin = {.channel = RIG_CHANNEL};
    snprintf(begin.from, sizeof begin.from, "%s", job->began_as);
    snprintf(begin.to, sizeof begin.to, "%s", job->seal.name);
    if (job->began_as[0])
        segments_begin(base, &begin);
    seal_run(base, &job->seal, &sealed);
    shared->error = sealed.error;
}

static void ask_to_recover(void)
{
    const struct message_recover request = {.channel = RIG_CHANNEL};
    struct message_recovered recovered;
    recovery_run(base, &request, &recovered);
    shared->error = recovered.error;
}

/* In a process of its own. job: NULL = recover. */
static void run(const struct job *job, int at, enum disturbance how, int error)
{
    int status;
    memset(shared, 0, sizeof *shared);
    pid_t pid = unit_fork();
    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, STDERR_FILENO);
        disturbed.how = how;
        disturbed.error = error;
        disturbed.at = at;
        if (job)
            ask_to_seal(job);
        else
            ask_to_recover();
        shared->ended = disturbed.count < disturbed.at;
        shared->done = true;
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
}

static int note_record(void *context, const struct avro_log_found *found)
{
    int *seen = context;
    ck_assert_int_lt(found->record.seq, RECORDS);
    seen[found->record.seq]++;
    return 0;
}

static void look_in(const char *name, int *seen)
{
    const struct avro_log_scan_options sealed = {.seq_end = UINT64_MAX};
    const struct avro_log_visitor visitor = {.context = seen, .record = note_record};
    struct avro_log_summary summary;
    char path[sizeof folder + SEGMENT_NAME_SIZE];
    snprintf(path, sizeof path, "%s/%.*s", folder, SEGMENT_NAME_SIZE - 1, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(avro_log_scan(fd, &sealed, &visitor, &summary), 0);
    ck_assert_uint_eq(summary.faults, 0);
    fd_close(&fd);
}

static void expect_each_record_once(const struct scenario *scenario, const char *when)
{
    int seen[RECORDS] = {0}, kept = 0, left = 0;
    const struct dirent *entry;
    DIR *stream = opendir(folder);
    ck_assert_ptr_nonnull(stream);
    while ((entry = readdir(stream))) {
        if (avro_log_name_ends_in(entry->d_name, AVRO_LOG_SUFFIX))
            look_in(entry->d_name, seen);
        else if (avro_log_name_ends_in(entry->d_name, AVRO_LOG_DAMAGED_SUFFIX))
            kept++;
        else if (entry->d_name[0] != '.')
            left++;
    }
    closedir(stream);
    for (int i = scenario->damaged ? 1 : 0; i < RECORDS; i++)
        ck_assert_msg(seen[i] == 1, "%s: record %d is in %d files", when, i, seen[i]);
    ck_assert_msg(left == 0, "%s: %d files are left", when, left);
    ck_assert_msg(!scenario->damaged || kept == 1, "%s: %d originals are kept", when, kept);
}

static void begin_anew(const struct scenario *scenario, struct job *job)
{
    log_maker_remove_folder(base);
    log_maker_folder(base);
    snprintf(folder, sizeof folder, "%s/" RIG_CHANNEL, base);
    ck_assert_int_eq(mkdir(folder, 0755), 0);
    scenario->make(job);
}

static void setup(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(shared, MAP_FAILED);
    log_maker_folder(base);
}

static void teardown(void)
{
    log_maker_remove_folder(base);
    munmap(shared, sizeof *shared);
}

/* Every call in turn; then what is asked next. */
static void disturb_every_call(const struct scenario *scenario, enum disturbance how, int error,
                               bool recover)
{
    char when[128];
    for (int at = 1;; at++) {
        struct job job;
        begin_anew(scenario, &job);
        run(&job, at, how, error);
        if (shared->ended)
            return;
        snprintf(when, sizeof when, "%s, %s (%d) at call %d, then %s", scenario->name,
                 how == KILLED_BEFORE   ? "killed before"
                 : how == KILLED_BEHIND ? "killed behind"
                                        : "refused",
                 error, at, recover ? "recovered" : "asked again");
        if (shared->done && shared->error == 0)
            expect_each_record_once(scenario, when);
        job.seal.again = 1;
        run(recover ? NULL : &job, 0, how, 0);
        ck_assert_msg(shared->done && shared->error == 0, "%s: error %d", when, shared->error);
        expect_each_record_once(scenario, when);
        run(NULL, 0, how, 0);
        expect_each_record_once(scenario, when);
    }
}

START_TEST(a_death_at_any_call)
{
    for (int then = 0; then < 2; then++) {
        disturb_every_call(&scenarios[_i], KILLED_BEFORE, 0, then);
        disturb_every_call(&scenarios[_i], KILLED_BEHIND, 0, then);
    }
}
END_TEST

START_TEST(a_refusal_of_any_call)
{
    for (int then = 0; then < 2; then++) {
        disturb_every_call(&scenarios[_i], REFUSED, ENOSPC, then);
        disturb_every_call(&scenarios[_i], REFUSED, EIO, then);
    }
}
END_TEST

int main(void)
{
    const int count = sizeof scenarios / sizeof *scenarios;
    Suite *suite = suite_create("archive_interrupted");
    TCase *tcase = tcase_create("interrupted");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, a_death_at_any_call, 0, count);
    tcase_add_loop_test(tcase, a_refusal_of_any_call, 0, count);
    suite_add_tcase(suite, tcase);
    return log_maker_run(suite);
}
