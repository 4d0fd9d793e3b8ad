/* SPDX-License-Identifier: MIT */
/* RECOVER in a process of its own: whoever waits for something else is served meanwhile, and its
 * death is an answer. A recovery is held up by a file that another process still has. */
#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/avro_log_name.h"
#include "common/fd.h"
#include "tests/lib/archive_rig.h"
#include "worker/archive/file_lock.h"

#define SEGMENT (256 * 1024)

static struct archive_rig rig;
static int held; /* a segment that was begun, locked as its worker would */

static void setup(void)
{
    struct log_maker maker;
    char open_name[SEGMENT_NAME_SIZE], path[512];
    archive_rig_prepare(&rig);
    archive_rig_start(&rig);
    int fd;
    struct segment_grant grant = archive_rig_open(&rig, RIG_CHANNEL, SEGMENT, &fd);
    archive_rig_seal(&rig, grant.name, grant.id, 0);
    fd_close(&fd);

    log_maker_begin(&maker, SEGMENT, RIG_CHANNEL, 7, 99);
    ck_assert(log_maker_append(&maker));
    log_maker_seal(&maker);
    avro_log_segment_name(RIG_CHANNEL, 7, maker.identity.created_ns, open_name);
    log_maker_write(rig.channel, open_name, maker.bytes, maker.size);
    log_maker_free(&maker);
    snprintf(path, sizeof path, "%s/%s", rig.channel, open_name);
    held = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(file_lock_mark_writer(held), 0);
}

static void teardown(void)
{
    fd_close(&held);
    archive_rig_end(&rig);
}

static void ask_to_recover(void)
{
    const struct message_recover request = {.channel = RIG_CHANNEL};
    archive_rig_send(&rig, MESSAGE_RECOVER, &request, sizeof request);
}

/* The process at work on it, when there is one. */
static pid_t find_recovery(void)
{
    char path[64];
    int pid = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)rig.pid, (int)rig.pid);
    FILE *children = fopen(path, "re");
    ck_assert_ptr_nonnull(children);
    if (fscanf(children, "%d", &pid) != 1)
        pid = 0;
    fclose(children);
    return pid;
}

static pid_t wait_for_recovery(void)
{
    pid_t pid = 0;
    for (int i = 0; i < 10000 && pid == 0; i++) {
        pid = find_recovery();
        usleep(pid == 0 ? 1000 : 0);
    }
    ck_assert_msg(pid > 0, "no recovery began");
    return pid;
}

START_TEST(others_are_served_meanwhile)
{
    const struct message_open_segment request = {.channel = "other", .size = SEGMENT};
    const struct message_open_segment same = {.channel = RIG_CHANNEL, .size = SEGMENT};
    ask_to_recover();
    archive_rig_send(&rig, MESSAGE_OPEN_SEGMENT, &same, sizeof same);
    archive_rig_send(&rig, MESSAGE_OPEN_SEGMENT, &request, sizeof request);
    struct message *message = archive_rig_receive(&rig, MESSAGE_SEGMENT);
    ck_assert_str_eq(message->segment->channel, "other");
    message_release(message);
    fd_close(&held);
    message = archive_rig_receive(&rig, MESSAGE_RECOVERED);
    ck_assert_int_eq(message->recovered->error, 0);
    ck_assert_uint_eq(message->recovered->files, 1);
    ck_assert_uint_eq(message->recovered->next_seq, 8);
    message = archive_rig_receive(&rig, MESSAGE_SEGMENT); /* in its own folder only then */
    ck_assert_str_eq(message->segment->channel, RIG_CHANNEL);
    message_release(message);
}
END_TEST

START_TEST(another_one_is_recovered_meanwhile)
{
    const struct message_recover request = {.channel = "other"};
    ask_to_recover();
    wait_for_recovery();
    archive_rig_send(&rig, MESSAGE_RECOVER, &request, sizeof request);
    ck_assert_str_eq(archive_rig_receive(&rig, MESSAGE_RECOVERED)->recovered->channel, "other");
    fd_close(&held);
    struct message *message = archive_rig_receive(&rig, MESSAGE_RECOVERED);
    ck_assert_str_eq(message->recovered->channel, RIG_CHANNEL);
    ck_assert_int_eq(message->recovered->error, 0);
}
END_TEST

/* Whoever may read the folder and what is in it may lock that, too. */
START_TEST(a_readers_locks_hold_nothing_up)
{
    struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", held);
    int file = open(path, O_RDONLY | O_CLOEXEC),
        folder = open(rig.channel, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    fd_close(&held);
    ck_assert_int_eq(fcntl(file, F_OFD_SETLK, &whole), 0);
    ck_assert_int_eq(flock(file, LOCK_EX | LOCK_NB), 0);
    ck_assert_int_eq(flock(folder, LOCK_EX | LOCK_NB), 0);
    ask_to_recover();
    struct message *message = archive_rig_receive(&rig, MESSAGE_RECOVERED);
    ck_assert_int_eq(message->recovered->error, 0);
    ck_assert_uint_eq(message->recovered->files, 1);
    ck_assert_uint_eq(message->recovered->next_seq, 8);
    fd_close(&file);
    fd_close(&folder);
}
END_TEST

START_TEST(its_death_is_an_answer)
{
    ask_to_recover();
    kill(wait_for_recovery(), SIGKILL);
    struct message *message = archive_rig_receive(&rig, MESSAGE_RECOVERED);
    ck_assert_str_eq(message->recovered->channel, RIG_CHANNEL);
    ck_assert_int_ne(message->recovered->error, 0);
    ck_assert_msg(strstr(message->recovered->reason, "signal 9") != NULL, "%s",
                  message->recovered->reason);
    fd_close(&held);
    ask_to_recover();
    message = archive_rig_receive(&rig, MESSAGE_RECOVERED);
    ck_assert_int_eq(message->recovered->error, 0);
    ck_assert_uint_eq(message->recovered->next_seq, 8);
}
END_TEST

/* The next archive must not meet it in the folder. */
START_TEST(it_ends_with_its_archive)
{
    ask_to_recover();
    int recovery = (int)syscall(SYS_pidfd_open, wait_for_recovery(), 0);
    struct pollfd ended = {.fd = recovery, .events = POLLIN};
    ck_assert_int_ge(recovery, 0);
    archive_rig_replace(&rig);
    ck_assert_msg(poll(&ended, 1, 10000) == 1, "it is still at work");
    fd_close(&recovery);
    fd_close(&held);
    ask_to_recover();
    ck_assert_int_eq(archive_rig_receive(&rig, MESSAGE_RECOVERED)->recovered->error, 0);
}
END_TEST

/* Stopped in mid-work: what was asked is still done. */
START_TEST(a_stop_waits_for_it)
{
    const struct message_stop stop = {.seal = 1};
    ask_to_recover();
    wait_for_recovery();
    archive_rig_send(&rig, MESSAGE_STOP, &stop, sizeof stop);
    fd_close(&held);
    ck_assert_int_eq(archive_rig_receive(&rig, MESSAGE_RECOVERED)->recovered->error, 0);
    ck_assert_int_eq(archive_rig_wait(&rig), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("recovery_process");
    TCase *cases = tcase_create("recovery");
    tcase_set_timeout(cases, 60);
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, others_are_served_meanwhile);
    tcase_add_test(cases, another_one_is_recovered_meanwhile);
    tcase_add_test(cases, a_readers_locks_hold_nothing_up);
    tcase_add_test(cases, its_death_is_an_answer);
    tcase_add_test(cases, it_ends_with_its_archive);
    tcase_add_test(cases, a_stop_waits_for_it);
    suite_add_tcase(suite, cases);
    return log_maker_run(suite);
}
