/* SPDX-License-Identifier: MIT */
/* A segment's life in the hands of the archive: opened, begun, sealed; each request repeated, also
 * to a successor of a killed archive. Then what it must refuse, what it says when it can't, in
 * which order it works, what it removes when limits say so, and how it ends. Recovery has a test of
 * its own. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/avro_log_header.h"
#include "common/avro_log_name.h"
#include "common/fd.h"
#include "common/monotonic.h"
#include "tests/lib/archive_rig.h"
#include "tests/lib/deny_call.h"
#include "tests/lib/unit.h"
#include "worker/archive/folder.h"

#define SEED 99

static struct archive_rig rig;

static void setup(void)
{
    archive_rig_prepare(&rig);
    archive_rig_start(&rig);
}

static void teardown(void)
{
    archive_rig_end(&rig);
}

/* A log of `records` records with the segment's own sync marker, the last block sealed. */
static void make_log(struct log_maker *maker, const struct segment_grant *grant, uint64_t first_seq,
                     int records)
{
    log_maker_begin(maker, RIG_SEGMENT, RIG_CHANNEL, first_seq, SEED);
    memcpy(maker->identity.sync, grant->sync, sizeof grant->sync);
    avro_log_write_header(maker->bytes, &maker->identity);
    for (int i = 0; i < records; i++)
        ck_assert(log_maker_append(maker));
    log_maker_seal(maker);
}

static void write_log(int fd, const struct log_maker *maker)
{
    ck_assert_int_eq(pwrite(fd, maker->bytes, maker->size, 0), (ssize_t)maker->size);
}

static void sealed_name(const struct log_maker *maker, char ret_open[SEGMENT_NAME_SIZE],
                        char ret_name[SEGMENT_NAME_SIZE])
{
    avro_log_segment_name(RIG_CHANNEL, maker->identity.first_seq, maker->identity.created_ns,
                          ret_open);
    folder_number_name(ret_open, AVRO_LOG_SUFFIX, 1, ret_name);
}

/* ---- a segment's life ---- */

START_TEST(test_open_gives_a_preallocated_file)
{
    struct stat status;
    int first_fd, second_fd;
    struct segment_grant first = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &first_fd);
    struct segment_grant second = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &second_fd);
    ck_assert_int_eq(fstat(first_fd, &status), 0);
    ck_assert_int_eq(status.st_size, RIG_SEGMENT);
    ck_assert_int_ge(status.st_blocks * 512, RIG_SEGMENT); /* not sparse */
    ck_assert_uint_eq(status.st_mode & 07777, 0640);
    ck_assert_uint_eq(first.id, status.st_ino);
    ck_assert_uint_eq(first.size, RIG_SEGMENT);
    ck_assert_int_eq(fcntl(first_fd, F_GETFL) & O_ACCMODE, O_RDWR);
    ck_assert(fcntl(first_fd, F_GETFD) & FD_CLOEXEC);
    ck_assert(avro_log_name_is_prepared(first.name, RIG_CHANNEL));
    ck_assert(archive_rig_has(&rig, first.name) && archive_rig_has(&rig, second.name));
    ck_assert_str_ne(first.name, second.name);
    ck_assert_mem_ne(first.sync, second.sync, sizeof first.sync);
    fd_close(&first_fd);
    fd_close(&second_fd);
}
END_TEST

START_TEST(test_begin_and_seal)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    int fd;
    struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    make_log(&maker, &grant, 500, 30);
    write_log(fd, &maker);
    sealed_name(&maker, open_name, name);
    archive_rig_begin(&rig, grant.name, open_name);
    struct message_sealed sealed = archive_rig_seal(&rig, open_name, grant.id, maker.block_start);
    ck_assert_msg(sealed.error == 0, "%s", sealed.reason);
    ck_assert_str_eq(sealed.name, name);
    ck_assert_uint_eq(sealed.id, grant.id);
    ck_assert_uint_eq(sealed.length, maker.block_start);
    ck_assert_int_eq(archive_rig_read(&rig, name, NULL), (long)maker.block_start);
    ck_assert_int_eq(archive_rig_count(&rig, ""), 1);
    archive_rig_check_sealed(&rig, &maker, name, 500, 30);
    fd_close(&fd);
    log_maker_free(&maker);
}
END_TEST

/* Every request a second time, to a successor too: the answer is the same and nothing changes. */
START_TEST(test_requests_may_be_repeated)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    int fd;
    struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    make_log(&maker, &grant, 0, 10);
    write_log(fd, &maker);
    sealed_name(&maker, open_name, name);
    archive_rig_begin(&rig, grant.name, open_name);
    archive_rig_begin(&rig, grant.name, open_name);
    ck_assert_int_eq(archive_rig_seal(&rig, open_name, grant.id, maker.block_start).error, 0);
    archive_rig_replace(&rig);
    archive_rig_begin(&rig, grant.name, open_name);
    for (int i = 0; i < 2; i++) {
        struct message_sealed again =
            archive_rig_seal(&rig, open_name, grant.id, maker.block_start);
        ck_assert_int_eq(again.error, 0);
        ck_assert_str_eq(again.name, name);
        ck_assert_uint_eq(again.length, maker.block_start);
    }
    archive_rig_check_sealed(&rig, &maker, name, 0, 10);
    ck_assert_int_eq(archive_rig_count(&rig, ""), 1);
    fd_close(&fd);
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_seal_of_an_unused_segment_removes_it)
{
    int fd;
    struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    fd_close(&fd);
    for (int i = 0; i < 2; i++) {
        struct message_sealed sealed = archive_rig_seal(&rig, grant.name, grant.id, 0);
        ck_assert_int_eq(sealed.error, 0);
        ck_assert_str_eq(sealed.name, "");
        ck_assert_int_eq(archive_rig_count(&rig, ""), 0);
    }
}
END_TEST

START_TEST(test_two_segments_of_one_name_both_stay)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE], second[SEGMENT_NAME_SIZE];
    for (int i = 0; i < 2; i++) {
        int fd;
        struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
        make_log(&maker, &grant, 3, 10 + i);
        write_log(fd, &maker);
        sealed_name(&maker, open_name, name);
        archive_rig_begin(&rig, grant.name, open_name);
        struct message_sealed sealed =
            archive_rig_seal(&rig, open_name, grant.id, maker.block_start);
        ck_assert_int_eq(sealed.error, 0);
        snprintf(second, sizeof second, "%s", sealed.name);
        fd_close(&fd);
        log_maker_free(&maker);
    }
    ck_assert_str_ne(second, name);
    archive_rig_check_sealed(&rig, &maker, name, 3, 10);
    archive_rig_check_sealed(&rig, &maker, second, 3, 11);
}
END_TEST

/* A length that is no block's end comes from a worker that failed: what it committed stays, what
 * lies behind goes. */
START_TEST(test_seal_inside_a_block_keeps_what_was_committed)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
    int fd;
    struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    make_log(&maker, &grant, 0, 20);
    for (int i = 0; i < 5; i++)
        ck_assert(log_maker_append(&maker));
    size_t committed = maker.write_offset;
    for (int i = 0; i < 5; i++)
        ck_assert(log_maker_append(&maker));
    write_log(fd, &maker);
    fd_close(&fd);
    sealed_name(&maker, open_name, name);
    archive_rig_begin(&rig, grant.name, open_name);
    struct message_sealed sealed = archive_rig_seal(&rig, open_name, grant.id, committed);
    ck_assert_msg(sealed.error == 0, "%s", sealed.reason);
    archive_rig_check_sealed(&rig, &maker, sealed.name, 0, 25);
    log_maker_free(&maker);
}
END_TEST

/* It could not be renamed when it was begun, and is sealed under the name it should have had. */
START_TEST(test_a_segment_that_kept_its_first_name_is_sealed)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], path[sizeof rig.channel + SEGMENT_NAME_SIZE + 1];
    int fd;
    struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    log_maker_begin(&maker, RIG_SEGMENT, RIG_CHANNEL, 500, SEED);
    ck_assert(log_maker_append(&maker));
    log_maker_seal(&maker);
    ck_assert_int_eq(pwrite(fd, maker.bytes, maker.block_start, 0), (ssize_t)maker.block_start);
    fd_close(&fd);
    avro_log_segment_name(RIG_CHANNEL, 500, maker.identity.created_ns, open_name);
    struct message_sealed sealed =
        archive_rig_seal(&rig, open_name, grant.id, (uint64_t)maker.block_start);
    ck_assert_msg(sealed.error == 0, "%s", sealed.reason);
    snprintf(path, sizeof path, "%s/%s", rig.channel, sealed.name);
    ck_assert_int_eq(access(path, F_OK), 0);
    ck_assert_int_eq(archive_rig_count(&rig, ".open"), 0);
    log_maker_free(&maker);
}
END_TEST

/* Inode numbers are used again: a segment that is gone must not be taken for the next one. */
START_TEST(test_an_inode_number_alone_is_no_segment)
{
    int fd;
    struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    struct message_seal request = {.channel = RIG_CHANNEL,
                                   .name = RIG_CHANNEL
                                   "-00000000000000000500-20251009T085320Z.avro.open",
                                   .id = grant.id,
                                   .length = UINT64_MAX};
    /* Nobody knows what was in it, unless an archive was asked before, which may have found out
     * that it was nothing. */
    for (request.again = 0; request.again < 2; request.again++) {
        archive_rig_send(&rig, MESSAGE_SEAL, &request, sizeof request);
        ck_assert_int_eq(archive_rig_receive(&rig, MESSAGE_SEALED)->sealed->error,
                         request.again ? 0 : ENOENT);
    }
    ck_assert_msg(archive_rig_has(&rig, grant.name), "the next segment was removed in its place");
    fd_close(&fd);
}
END_TEST

START_TEST(test_seal_of_unknown_length_recovers)
{
    struct log_maker maker;
    int fd;
    struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    make_log(&maker, &grant, 0, 20);
    ck_assert(log_maker_append(&maker));
    write_log(fd, &maker);
    fd_close(&fd);
    struct message_sealed sealed = archive_rig_seal(&rig, grant.name, grant.id, UINT64_MAX);
    ck_assert_msg(sealed.error == 0, "%s", sealed.reason);
    archive_rig_check_sealed(&rig, &maker, sealed.name, 0, 21);
    ck_assert(!avro_log_name_is_prepared(sealed.name, RIG_CHANNEL));
    log_maker_free(&maker);
}
END_TEST

START_TEST(test_segments_that_nobody_got_are_removed)
{
    static const uint8_t begun[] = "Obj\1";
    int fd, next_fd;
    struct segment_grant orphan = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    struct segment_grant used = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &next_fd);
    ck_assert(archive_rig_has(&rig, orphan.name)); /* somebody has it */
    fd_close(&fd);
    log_maker_write(rig.channel, RIG_CHANNEL "-prepared-1.avro.open", begun, sizeof begun);
    archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    ck_assert(!archive_rig_has(&rig, orphan.name));
    ck_assert(archive_rig_has(&rig, used.name));
    ck_assert(archive_rig_has(&rig, RIG_CHANNEL "-prepared-1.avro.open"));
    fd_close(&fd);
    fd_close(&next_fd);
}
END_TEST

/* ---- refusals ---- */

START_TEST(test_names_that_lead_elsewhere_are_refused)
{
    static const char *const names[] = {
        "../engine-x.avro.open", "engine-/../x.avro.open", "other-x.avro.open", "engine-x.avro", "",
        "engine-.avro.open/"};
    char victim[160], target[256];
    int fd;
    struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    snprintf(victim, sizeof victim, "%s/engine-x.avro.open", rig.log_dir);
    fd_close(&fd);
    close(open(victim, O_CREAT | O_WRONLY, 0600));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ck_assert_int_ne(archive_rig_seal(&rig, names[i], 1, 0).error, 0);
        archive_rig_begin(&rig, grant.name, names[i]);
        archive_rig_begin(&rig, names[i], "engine-y.avro.open");
    }
    ck_assert_int_eq(archive_rig_seal(&rig, grant.name, grant.id + 1, 0).error, ESTALE);
    ck_assert_int_eq(access(victim, F_OK), 0);
    ck_assert(archive_rig_has(&rig, grant.name));
    snprintf(target, sizeof target, "%s/engine-y.avro.open", rig.channel);
    ck_assert_int_ne(access(target, F_OK), 0);
    struct message_open_segment elsewhere = {.channel = "../elsewhere", .size = RIG_SEGMENT};
    archive_rig_send(&rig, MESSAGE_OPEN_SEGMENT, &elsewhere, sizeof elsewhere);
    ck_assert_int_eq(archive_rig_receive(&rig, MESSAGE_SEGMENT)->segment->error, EINVAL);
}
END_TEST

START_TEST(test_missing_file_and_missing_folder_are_told)
{
    struct message_sealed sealed = archive_rig_seal(&rig, "engine-x.avro.open", 5, 4096);
    ck_assert_int_eq(sealed.error, ENOENT);
    ck_assert_str_ne(sealed.reason, "");
    int fd;
    struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    log_maker_remove_folder(rig.log_dir); /* and it goes on where there is a way */
    ck_assert_int_eq(archive_rig_seal(&rig, grant.name, grant.id, RIG_SEGMENT).error, ENOENT);
    fd_close(&fd);
    archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    fd_close(&fd);
}
END_TEST

static void expect_no_segment(uint64_t size, int error, const char *reason)
{
    struct message_open_segment request = {.channel = RIG_CHANNEL, .size = size};
    archive_rig_send(&rig, MESSAGE_OPEN_SEGMENT, &request, sizeof request);
    const struct message_segment *answer = archive_rig_receive(&rig, MESSAGE_SEGMENT)->segment;
    ck_assert_msg(answer->error == error, "%s instead of %s", strerror(answer->error),
                  strerror(error));
    ck_assert_msg(strstr(answer->reason, reason) != NULL, "\"%s\" does not say \"%s\"",
                  answer->reason, reason);
}

START_TEST(test_a_file_in_place_of_the_folder)
{
    close(open(rig.log_dir, O_CREAT | O_WRONLY, 0600));
    expect_no_segment(RIG_SEGMENT, ENOTDIR, "in the way");
    ck_assert_int_eq(unlink(rig.log_dir), 0);
    int fd;
    archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd); /* the trouble is over */
    fd_close(&fd);
}
END_TEST

/* log_dir on a file system of its own. */
static void begin_own_disk(const char *size)
{
    ck_assert_int_eq(mkdir(rig.log_dir, 0755), 0);
    archive_rig_end(&rig); /* the mount must be seen by the archive: start it inside */
    unit_private_mounts();
    archive_rig_prepare(&rig);
    ck_assert_int_eq(mkdir(rig.log_dir, 0755), 0);
    ck_assert_int_eq(mount("none", rig.log_dir, "tmpfs", 0, size), 0);
    archive_rig_start(&rig);
}

static void end_own_disk(void)
{
    fd_close(&rig.socket);
    fd_close(&rig.lock);
    ck_assert_int_eq(archive_rig_wait(&rig), 0);
    ck_assert_int_eq(umount(rig.log_dir), 0);
}

START_TEST(test_a_full_disk)
{
    int fd;
    begin_own_disk("size=600k");
    archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    expect_no_segment(1024 * 1024, ENOSPC, "1.0 MiB wanted");
    ck_assert_int_eq(archive_rig_count(&rig, ""), 1); /* the failed one left nothing behind */
    fd_close(&fd);
    archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    fd_close(&fd);
    end_own_disk();
}
END_TEST

/* A worker may be wrong about a length. */
START_TEST(test_what_has_records_is_not_removed_on_a_word)
{
    struct log_maker maker;
    int fd;
    struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    make_log(&maker, &grant, 500, 30);
    write_log(fd, &maker);
    fd_close(&fd);
    struct message_sealed sealed = archive_rig_seal(&rig, grant.name, grant.id, 0);
    ck_assert_msg(sealed.error == 0, "%s", sealed.reason);
    archive_rig_check_sealed(&rig, &maker, sealed.name, 500, 30);
    log_maker_free(&maker);
}
END_TEST

/* ---- order of work ---- */

START_TEST(test_what_a_recorder_waits_for_comes_first)
{
    const struct message_recover recover = {.channel = RIG_CHANNEL};
    const struct message_seal seal = {
        .channel = "other", .name = "other-x.avro.open", .id = 1, .length = 1};
    const struct message_open_segment here = {.channel = RIG_CHANNEL, .size = RIG_SEGMENT};
    const struct message_open_segment there = {.channel = "other", .size = RIG_SEGMENT};
    archive_rig_end(&rig);
    archive_rig_prepare(&rig); /* everything is queued before it begins */
    archive_rig_send(&rig, MESSAGE_SEAL, &seal, sizeof seal);
    archive_rig_send(&rig, MESSAGE_RECOVER, &recover, sizeof recover);
    archive_rig_send(&rig, MESSAGE_OPEN_SEGMENT, &here, sizeof here);
    archive_rig_send(&rig, MESSAGE_OPEN_SEGMENT, &there, sizeof there);
    archive_rig_start(&rig);
    struct message *message = archive_rig_receive(&rig, MESSAGE_SEGMENT);
    ck_assert_str_eq(message->segment->channel, "other");
    message_release(message);
    archive_rig_receive(&rig, MESSAGE_SEALED);
    archive_rig_receive(&rig, MESSAGE_RECOVERED);
    message = archive_rig_receive(&rig, MESSAGE_SEGMENT);
    ck_assert_str_eq(message->segment->channel, RIG_CHANNEL);
    message_release(message);
}
END_TEST

static int count_descriptors(pid_t pid)
{
    char path[64];
    int count = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *folder = opendir(path);
    ck_assert_ptr_nonnull(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

START_TEST(test_nothing_is_leaked)
{
    int before = 0;
    for (int round = 0; round < 20; round++) {
        int fd;
        struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
        fd_close(&fd);
        archive_rig_recover(&rig, grant.name, NULL);
        archive_rig_seal(&rig, grant.name, grant.id + 1, 0);
        archive_rig_seal(&rig, grant.name, grant.id, 0);
        archive_rig_seal(&rig, "engine-none.avro.open", 1, 77);
        archive_rig_expire(&rig,
                           &(struct message_expire){.channel = RIG_CHANNEL, .keep_free_ppm = 1});
        if (round == 0)
            before = count_descriptors(rig.pid);
    }
    ck_assert_int_eq(count_descriptors(rig.pid), before);
}
END_TEST

START_TEST(test_stop_finishes_what_is_queued)
{
    const struct message_stop stop = {.seal = 1};
    const struct message_recover recover = {.channel = RIG_CHANNEL};
    archive_rig_send(&rig, MESSAGE_RECOVER, &recover, sizeof recover);
    archive_rig_send(&rig, MESSAGE_STOP, &stop, sizeof stop);
    archive_rig_receive(&rig, MESSAGE_RECOVERED);
    ck_assert_int_eq(archive_rig_wait(&rig), 0);
}
END_TEST

/* ---- retention ---- */

/* A sealed file of one record at a given number and age; its name says the age too. */
static void add_sealed(const char *channel, uint64_t seq, uint64_t age_s,
                       char ret_name[SEGMENT_NAME_SIZE])
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], folder[200], path[400];
    uint64_t now_s = realtime_now_ns() / NS_PER_S;
    log_maker_begin(&maker, RIG_SEGMENT, channel, seq, SEED);
    ck_assert(log_maker_append(&maker));
    log_maker_seal(&maker);
    avro_log_segment_name(channel, seq, (now_s - age_s) * NS_PER_S, open_name);
    folder_number_name(open_name, AVRO_LOG_SUFFIX, 1, ret_name);
    mkdir(rig.log_dir, 0755);
    snprintf(folder, sizeof folder, "%s/%s", rig.log_dir, channel);
    mkdir(folder, 0755);
    log_maker_write(folder, ret_name, maker.bytes, 2000);
    snprintf(path, sizeof path, "%s/%s", folder, ret_name);
    const struct timespec times[2] = {{.tv_sec = (time_t)(now_s - age_s)},
                                      {.tv_sec = (time_t)(now_s - age_s)}};
    ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
    log_maker_free(&maker);
}

START_TEST(test_keep_at_most_removes_the_oldest)
{
    char names[5][SEGMENT_NAME_SIZE];
    int fd;
    for (uint64_t i = 0; i < 5; i++)
        add_sealed(RIG_CHANNEL, i, 500 - i, names[i]);
    struct segment_grant open_one = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    fd_close(&fd);
    archive_rig_expire(&rig,
                       &(struct message_expire){.channel = RIG_CHANNEL, .keep_at_most = 10000});
    ck_assert_int_eq(archive_rig_count(&rig, ".avro"),
                     5); /* 5 times 2000: just enough, open ones don't count */
    archive_rig_expire(&rig,
                       &(struct message_expire){.channel = RIG_CHANNEL, .keep_at_most = 5000});
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(archive_rig_has(&rig, names[i]), i >= 3);
    ck_assert(archive_rig_has(&rig, open_one.name));
    ck_assert(archive_rig_said(&rig, names[0]) && archive_rig_said(&rig, "keep_at_most"));
}
END_TEST

START_TEST(test_keep_for_removes_what_is_too_old)
{
    char old[SEGMENT_NAME_SIZE], young[SEGMENT_NAME_SIZE];
    add_sealed(RIG_CHANNEL, 0, 7200, old);
    add_sealed(RIG_CHANNEL, 1, 1800, young);
    archive_rig_expire(
        &rig, &(struct message_expire){.channel = RIG_CHANNEL, .keep_for_ns = 7300 * NS_PER_S});
    ck_assert(archive_rig_has(&rig, old));
    archive_rig_expire(
        &rig, &(struct message_expire){.channel = RIG_CHANNEL, .keep_for_ns = 3600 * NS_PER_S});
    ck_assert(!archive_rig_has(&rig, old));
    ck_assert(archive_rig_has(&rig, young));
    ck_assert(archive_rig_said(&rig, "older than keep_for"));
}
END_TEST

START_TEST(test_keep_free_removes_the_oldest_of_all_that_have_it)
{
    char mine[SEGMENT_NAME_SIZE], theirs[SEGMENT_NAME_SIZE], exempt[SEGMENT_NAME_SIZE], path[400];
    int fd;
    begin_own_disk("size=4m");
    char newest[SEGMENT_NAME_SIZE];
    add_sealed(RIG_CHANNEL, 0, 100, mine);
    add_sealed(RIG_CHANNEL, 9, 50, newest); /* says which numbers were given */
    add_sealed("other", 0, 900, theirs);
    add_sealed("other", 9, 800, newest);
    add_sealed("exempt", 0, 5000, exempt);
    struct segment_grant open_one = archive_rig_open(&rig, RIG_CHANNEL, RIG_SEGMENT, &fd);
    fd_close(&fd);
    archive_rig_expire(&rig, &(struct message_expire){.channel = "exempt"});
    archive_rig_expire(&rig, &(struct message_expire){.channel = "other", .keep_free_ppm = 1});
    archive_rig_expire(&rig, &(struct message_expire){.channel = RIG_CHANNEL, .keep_free_ppm = 1});
    ck_assert(archive_rig_has(&rig, mine)); /* a millionth is free */
    archive_rig_expire(&rig,
                       &(struct message_expire){.channel = RIG_CHANNEL, .keep_free_ppm = 1000000});
    ck_assert(!archive_rig_has(&rig, mine));
    snprintf(path, sizeof path, "%s/other/%s", rig.log_dir, theirs);
    ck_assert_int_ne(access(path, F_OK), 0);
    snprintf(path, sizeof path, "%s/exempt/%s", rig.log_dir, exempt);
    ck_assert_int_eq(access(path, F_OK), 0);
    ck_assert_int_eq(archive_rig_count(&rig, ".avro"), 1);
    ck_assert(archive_rig_has(&rig, open_one.name));
    ck_assert(archive_rig_said(&rig, "no sealed segment is left to remove"));
    end_own_disk();
}
END_TEST

/* Where the file system can't take space from a file that somebody reads. */
START_TEST(test_removing_ends_when_it_makes_no_room)
{
    static const struct denied_call no_holes = {.number = SYS_fallocate,
                                                .error = EOPNOTSUPP,
                                                .argument = 1,
                                                .has_bit = FALLOC_FL_PUNCH_HOLE};
    const struct message_expire all = {.channel = RIG_CHANNEL, .keep_free_ppm = 1000000};
    char names[8][SEGMENT_NAME_SIZE], path[sizeof rig.channel + sizeof names + 1];
    int held[8];
    begin_own_disk("size=4m");
    rig.denied = &no_holes;
    archive_rig_replace(&rig);
    for (uint64_t i = 0; i < 8; i++) {
        add_sealed(RIG_CHANNEL, i, 800 - i, names[i]);
        snprintf(path, sizeof path, "%s/%s", rig.channel, names[i]);
        held[i] = open(path, O_RDONLY | O_CLOEXEC);
    }
    for (int round = 0; round < 3; round++)
        archive_rig_expire(&rig, &all);
    ck_assert_int_eq(archive_rig_count(&rig, ".avro"), 5);
    ck_assert(archive_rig_said(&rig, "made no room"));
    for (int i = 0; i < 8; i++)
        fd_close(&held[i]); /* now there is more room, and removing makes some */
    archive_rig_expire(&rig, &all);
    ck_assert_int_eq(archive_rig_count(&rig, ".avro"), 1); /* the newest always stays */
    end_own_disk();
}
END_TEST

/* A reader may hold a file for as long as it likes: the disk does not wait for it. */
START_TEST(test_what_somebody_still_reads_takes_no_room)
{
    char names[3][SEGMENT_NAME_SIZE], path[sizeof rig.channel + sizeof names + 1], saved[400];
    uint8_t bytes[2000], nothing[sizeof bytes] = {0};
    struct stat about;
    int held[2];
    begin_own_disk("size=4m");
    for (uint64_t i = 0; i < 3; i++)
        add_sealed(RIG_CHANNEL, i, 800 - i, names[i]);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", rig.channel, names[i]);
        held[i] = open(path, O_RDONLY | O_CLOEXEC);
        ck_assert_int_ge(held[i], 0);
    }
    snprintf(saved, sizeof saved, "%s/saved", rig.log_dir);
    ck_assert_int_eq(link(path, saved), 0); /* the second one is somebody's own by now */
    archive_rig_expire(&rig, &(struct message_expire){.channel = RIG_CHANNEL, .keep_at_most = 1});
    ck_assert_int_eq(archive_rig_count(&rig, ".avro"), 1);

    ck_assert_int_eq(fstat(held[0], &about), 0);
    ck_assert_int_eq(about.st_nlink, 0);
    ck_assert_int_eq(about.st_size, 2000);
    ck_assert_int_eq(about.st_blocks, 0);
    ck_assert_int_eq(pread(held[0], bytes, sizeof bytes, 0), sizeof bytes);
    ck_assert_mem_eq(bytes, nothing, sizeof bytes);

    ck_assert_int_eq(fstat(held[1], &about), 0);
    ck_assert_int_eq(about.st_nlink, 1);
    ck_assert_int_gt(about.st_blocks, 0);
    ck_assert_int_eq(pread(held[1], bytes, sizeof bytes, 0), sizeof bytes);
    ck_assert_mem_ne(bytes, nothing, sizeof bytes);
    fd_close(&held[0]);
    fd_close(&held[1]);
    end_own_disk();
}
END_TEST

START_TEST(test_age_is_a_matter_of_sequence_numbers)
{
    const uint64_t years = 365ull * 86400;
    char first[SEGMENT_NAME_SIZE], second[SEGMENT_NAME_SIZE], third[SEGMENT_NAME_SIZE];
    begin_own_disk("size=4m");
    add_sealed(RIG_CHANNEL, 100, 7200, first);
    add_sealed(RIG_CHANNEL, 200, 5000, second);
    add_sealed(RIG_CHANNEL, 300, 50 * years, third); /* after a boot without a clock */
    /* By the clock all three are too old, but nothing newer has come: */
    archive_rig_expire(
        &rig, &(struct message_expire){.channel = RIG_CHANNEL, .keep_for_ns = 3600 * NS_PER_S});
    ck_assert_int_eq(archive_rig_count(&rig, ".avro"), 3);
    struct statvfs space;
    ck_assert_int_eq(statvfs(rig.log_dir, &space), 0);
    archive_rig_expire(/* room for two files more */
                       &rig, &(struct message_expire){
                                 .channel = RIG_CHANNEL,
                                 .keep_free_ppm = (uint32_t)(((space.f_bavail + 2) * 1000000 +
                                                              space.f_blocks - 1) /
                                                             space.f_blocks)});
    ck_assert(!archive_rig_has(&rig, first) && !archive_rig_has(&rig, second));
    ck_assert_msg(archive_rig_has(&rig, third), "the newest was removed before older ones");
    end_own_disk();
}
END_TEST

/* Somebody keeps the oldest file under a name of his own: that must not end retention. */
START_TEST(test_a_second_name_stops_nothing)
{
    char names[6][SEGMENT_NAME_SIZE], path[sizeof rig.channel + sizeof names + 1], saved[400];
    begin_own_disk("size=4m");
    for (uint64_t i = 0; i < 6; i++)
        add_sealed(RIG_CHANNEL, i, 800 - i, names[i]);
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", rig.channel, names[i]);
        snprintf(saved, sizeof saved, "%s/saved-%d", rig.log_dir, i);
        ck_assert_int_eq(link(path, saved), 0);
    }
    archive_rig_expire(&rig,
                       &(struct message_expire){.channel = RIG_CHANNEL, .keep_free_ppm = 1000000});
    ck_assert_int_eq(archive_rig_count(&rig, ".avro"), 1);
    ck_assert(!archive_rig_said(&rig, "made no room"));
    end_own_disk();
}
END_TEST

START_TEST(test_what_is_none_of_ours_stays)
{
    static const char *const foreign[] = {
        RIG_CHANNEL "-best-flight.avro", RIG_CHANNEL "-00000000000000000000-best.avro",
        RIG_CHANNEL "-00000000000000000000-20251009T085320Z-best.avro"};
    char own[SEGMENT_NAME_SIZE];
    add_sealed(RIG_CHANNEL, 1, 7200, own);
    add_sealed(RIG_CHANNEL, 2, 10, own);
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        log_maker_write(rig.channel, foreign[i], (const uint8_t *)"precious", 8);
    archive_rig_expire(&rig, &(struct message_expire){.channel = RIG_CHANNEL,
                                                      .keep_at_most = 1,
                                                      .keep_for_ns = NS_PER_S});
    ck_assert_int_eq(archive_rig_count(&rig, ".avro"), 1 + (int)(sizeof foreign / sizeof *foreign));
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        ck_assert(archive_rig_has(&rig, foreign[i]));
}
END_TEST

static void add(Suite *suite, const char *name, const TTest *const *tests, size_t count)
{
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    for (size_t i = 0; i < count; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
}

#define ADD(suite, name, ...)                                                                      \
    add(suite, name, (const TTest *const[]){__VA_ARGS__},                                          \
        sizeof((const TTest *const[]){__VA_ARGS__}) / sizeof(const TTest *))

int main(void)
{
    Suite *suite = suite_create("archive");
    ADD(suite, "a segment's life", test_open_gives_a_preallocated_file, test_begin_and_seal,
        test_requests_may_be_repeated, test_seal_of_an_unused_segment_removes_it,
        test_two_segments_of_one_name_both_stay, test_seal_inside_a_block_keeps_what_was_committed,
        test_seal_of_unknown_length_recovers, test_a_segment_that_kept_its_first_name_is_sealed,
        test_an_inode_number_alone_is_no_segment, test_segments_that_nobody_got_are_removed);
    ADD(suite, "refusals", test_names_that_lead_elsewhere_are_refused,
        test_missing_file_and_missing_folder_are_told, test_a_file_in_place_of_the_folder,
        test_a_full_disk);
    ADD(suite, "order", test_what_has_records_is_not_removed_on_a_word,
        test_what_a_recorder_waits_for_comes_first, test_nothing_is_leaked,
        test_stop_finishes_what_is_queued);
    ADD(suite, "retention", test_keep_at_most_removes_the_oldest,
        test_keep_for_removes_what_is_too_old,
        test_keep_free_removes_the_oldest_of_all_that_have_it,
        test_removing_ends_when_it_makes_no_room, test_what_somebody_still_reads_takes_no_room,
        test_age_is_a_matter_of_sequence_numbers, test_a_second_name_stops_nothing,
        test_what_is_none_of_ours_stays);
    return log_maker_run(suite);
}
