/* SPDX-License-Identifier: MIT */
/* The supervisor and its gate. The story: channels are lent to a gate; it asks for positions, dies,
 * is stopped, says nothing any more, is told to end; its socket's path is taken. Nobody else
 * notices. A real event loop, a real socket, and a real process as gate, whose end of the socket
 * the test has. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/read_wake.h"
#include "supervisor/child/child.h"
#include "supervisor/gate/gate_client.h"
#include "supervisor/system/process.h"
#include "tests/lib/played_child.h"
#include "tests/lib/unit.h"

#define CHANNEL "engine"

static char folder[] = "/tmp/holdfast-gate-XXXXXX";
static struct settings settings;
static sd_event *event;
static struct spares spares;
static struct gate_client client;
static struct {
    int back, room, ended, positions;
    struct message_position_save save;
} heard;

static void on_back(void *data)
{
    (void)data;
    heard.back++;
}

static void on_room(void *data)
{
    (void)data;
    heard.room++;
}

static void on_ended(void *data)
{
    (void)data;
    heard.ended++;
}

static void on_position(void *data, const struct message_position_save *save)
{
    (void)data;
    heard.positions++;
    heard.save = *save;
}

/* Until this is so. */
static void run_until(bool (*is_so)(void), const char *what)
{
    monotonic began = monotonic_now();
    while (!is_so()) {
        ck_assert_msg(monotonic_since(monotonic_now(), began) < 20 * NS_PER_S, "in vain: %s", what);
        ck_assert_int_ge(sd_event_run(event, 100000), 0);
    }
}

static bool has_ended(void)
{
    return heard.ended > 0;
}

static bool is_back(void)
{
    return heard.back > 1;
}

static bool is_back_once(void)
{
    return heard.back > 0;
}

static bool has_room(void)
{
    return heard.room > 0;
}

static bool has_socket(void)
{
    return client.socket.fd >= 0;
}

static void set_up(void)
{
    static const struct program program = {.worker_path = PLAYED_CHILD_PROGRAM};
    const struct gate_owner owner = {
        .back = on_back, .room = on_room, .position = on_position, .ended = on_ended};
    played_child_prepare();
    ck_assert_ptr_nonnull(mkdtemp(folder));
    memset(&heard, 0, sizeof heard);
    settings = (struct settings){.log_dir = "/nowhere",
                                 .read_mode = 0600,
                                 .read_enabled = 1,
                                 .restart = {.healthy_after_ns = NS_PER_S,
                                             .first_delay_ns = NS_PER_MS,
                                             .max_delay_ns = NS_PER_MS}};
    snprintf(settings.read_socket, sizeof settings.read_socket, "%s/read.sock", folder);
    ck_assert_int_ge(sd_event_new(&event), 0);
    ck_assert_int_eq(spares_init(&spares, event, &program, &settings), 0);
    gate_client_init(&client, event, &spares, &settings, &owner);
}

static void tear_down(void)
{
    gate_client_free(&client);
    spares_free(&spares);
    played_child_leave();
    sd_event_unref(event);
    unlink(settings.read_socket);
    ck_assert_int_eq(rmdir(folder), 0);
}

static void start(void)
{
    gate_client_start(&client, -1);
    ck_assert_int_eq(heard.back, 1);
    played_child_take(client.child);
}

static const struct message_channel_lent lent = {
    .channel = CHANNEL, .listen = "127.0.0.1:26000", .records = 1, .has_ring = 1, .ring = 77};

static const struct message_channel_lent without_ring = {.channel = CHANNEL, .records = 1};

/* ---- what it gets ---- */

START_TEST(what_wakes_it_is_shared_and_can_not_be_pulled_away)
{
    ck_assert(gate_client_is_enabled(&client));
    ck_assert_int_eq(fcntl(client.wake, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    ck_assert_int_eq(lseek(client.wake, 0, SEEK_END), (off_t)READ_WAKE_MEMORY_SIZE);
    ck_assert(fcntl(client.bell, F_GETFL) & O_NONBLOCK);
    ck_assert(fcntl(client.bell, F_GETFD) & FD_CLOEXEC);
    struct read_wake_word *words =
        mmap(NULL, READ_WAKE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, client.wake, 0);
    ck_assert_ptr_ne(words, MAP_FAILED);
    uint64_t count = 0;
    read_wake_ring(&words[4095], client.bell, READ_WAKE_ANY); /* nobody sleeps */
    ck_assert_int_eq(read(client.bell, &count, sizeof count), -1);
    read_wake_arm(&words[4095], READ_WAKE_COMMITTED);
    read_wake_ring(&words[4095], client.bell, READ_WAKE_ANY);
    read_wake_ring(&words[4095], client.bell, READ_WAKE_ANY);
    ck_assert_int_eq(read(client.bell, &count, sizeof count), sizeof count);
    ck_assert_uint_eq(count, 1);
    munmap(words, READ_WAKE_SIZE);
}
END_TEST

START_TEST(a_channel_is_lent_with_its_ring_or_without)
{
    start();
    int ring = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(gate_client_lend(&client, &lent, ring), 0);
    struct message *message = played_child_hears(MESSAGE_CHANNEL_LENT);
    ck_assert_str_eq(message->channel_lent->channel, CHANNEL);
    ck_assert_int_ge(message->fds[0], 0);
    message_release(message);
    ck_assert_int_eq(gate_client_lend(&client, &without_ring, -1), 0);
    ck_assert_uint_eq(played_child_hears(MESSAGE_CHANNEL_LENT)->header.fd_count, 0);
    fd_close(&ring);
}
END_TEST

/* One that takes nothing costs no descriptors. */
START_TEST(one_that_is_behind_is_lent_no_more)
{
    start();
    int ring = open("/dev/null", O_RDONLY | O_CLOEXEC), error = 0, count = 0;
    while (error == 0 && count < 100000) {
        error = gate_client_lend(&client, &lent, ring);
        count++;
    }
    ck_assert_int_eq(error, -EAGAIN);
    int descriptors = unit_count_fds();
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(gate_client_lend(&client, &lent, ring), -EAGAIN);
    ck_assert_int_eq(unit_count_fds(), descriptors);
    fd_close(&ring);
    run_until(has_room, "its owner to be told to try again");
}
END_TEST

/* Behind all that was lent, and once. */
START_TEST(it_is_told_when_all_is_lent)
{
    start();
    ck_assert_int_eq(gate_client_lend(&client, &without_ring, -1), 0);
    ck_assert(gate_client_all_lent(&client));
    ck_assert(gate_client_all_lent(&client));
    played_child_hears(MESSAGE_CHANNEL_LENT);
    played_child_hears(MESSAGE_ALL_LENT);
    played_child_hears_nothing();
    child_kill(client.child, SIGKILL);
    run_until(is_back, "another one");
    played_child_take(client.child);
    ck_assert(gate_client_all_lent(&client));
    played_child_hears(MESSAGE_ALL_LENT);
}
END_TEST

/* ---- what it says ---- */

START_TEST(a_position_is_asked_for_and_answered)
{
    start();
    const struct message_position_save save = {.channel = CHANNEL, .name = "store", .turn = 9};
    struct message_position_saved saved = {.channel = CHANNEL, .name = "store", .turn = 9};
    played_child_says(client.child, MESSAGE_POSITION_SAVE, &save, sizeof save);
    ck_assert_int_eq(heard.positions, 1);
    ck_assert_uint_eq(heard.save.turn, 9);
    gate_client_answer(&client, client.child->generation, &saved);
    ck_assert_uint_eq(played_child_hears(MESSAGE_POSITION_SAVED)->position_saved->turn, 9);
    gate_client_answer(&client, client.child->generation - 1, &saved); /* another one asked */
    played_child_hears_nothing();
}
END_TEST

START_TEST(a_name_that_is_none_ends_it)
{
    static const struct message_position_save wrong[] = {
        {.channel = CHANNEL, .name = "../store"},
        {.channel = "../" CHANNEL, .name = "store"},
        {.channel = CHANNEL, .name = ""},
    };
    gate_client_start(&client, -1);
    played_child_says(client.child, MESSAGE_POSITION_SAVE, &wrong[_i], sizeof wrong[_i]);
    ck_assert_int_eq(heard.positions, 0);
    run_until(has_ended, "its end");
}
END_TEST

START_TEST(what_it_counts_is_kept_until_it_dies)
{
    struct message_gate_report report = {.value = {0}};
    report.value[GATE_COUNTER_readers] = 5;
    gate_client_start(&client, -1);
    played_child_says(client.child, MESSAGE_GATE_REPORT, &report, sizeof report);
    ck_assert_uint_eq(client.report.value[GATE_COUNTER_readers], 5);
    child_kill(client.child, SIGKILL);
    run_until(has_ended, "its end");
    ck_assert_uint_eq(client.report.value[GATE_COUNTER_readers], 0);
}
END_TEST

/* ---- how it ends ---- */

START_TEST(one_that_dies_is_followed_by_another)
{
    gate_client_start(&client, -1);
    uint64_t generation = client.child->generation;
    child_kill(client.child, SIGKILL);
    run_until(is_back, "another one");
    ck_assert_uint_gt(client.child->generation, generation);
    ck_assert_uint_eq(client.restarts, 1);
    ck_assert_int_eq(gate_client_state(&client), GATE_RUNNING);
    ck_assert_str_eq(gate_client_trouble(&client, monotonic_now()), "");
    ck_assert_str_ne(gate_client_trouble(&client, monotonic_add(monotonic_now(), 60 * NS_PER_S)),
                     "");
    gate_client_look(&client, monotonic_add(monotonic_now(), 3 * NS_PER_S)); /* it has lived */
    ck_assert_str_eq(gate_client_trouble(&client, monotonic_add(monotonic_now(), 60 * NS_PER_S)),
                     "");
}
END_TEST

START_TEST(one_that_is_stopped_is_replaced)
{
    gate_client_start(&client, -1);
    pid_t pid = client.child->pid;
    child_kill(client.child, SIGSTOP);
    while (process_task_state(pid, (uint32_t)pid) != 'T')
        ck_assert_int_ge(sd_event_run(event, 1000), 0);
    gate_client_look(&client, monotonic_now());
    ck_assert_uint_eq(client.killed.ns, 0); /* that may be over in a moment */
    gate_client_look(&client, monotonic_add(monotonic_now(), 6 * NS_PER_S));
    run_until(is_back, "another one");
    ck_assert_int_ne(client.child->pid, pid);
}
END_TEST

START_TEST(one_that_says_nothing_is_asked_and_replaced)
{
    start();
    monotonic now = monotonic_now();
    gate_client_look(&client, now);
    played_child_hears_nothing(); /* it may have nothing to say */
    gate_client_look(&client, monotonic_add(now, 31 * NS_PER_S));
    played_child_hears(MESSAGE_GATE_ASK);
    gate_client_look(&client, monotonic_add(now, 33 * NS_PER_S));
    played_child_hears_nothing();
    const struct message_gate_report report = {.value = {0}};
    played_child_says(client.child, MESSAGE_GATE_REPORT, &report, sizeof report);
    gate_client_look(&client, monotonic_add(now, 37 * NS_PER_S));
    ck_assert_uint_eq(client.killed.ns, 0);

    now = monotonic_add(now, 80 * NS_PER_S);
    gate_client_look(&client, now);
    played_child_hears(MESSAGE_GATE_ASK);
    gate_client_look(&client, monotonic_add(now, 6 * NS_PER_S));
    ck_assert_uint_ne(client.killed.ns, 0);
    run_until(is_back, "another one");
}
END_TEST

/* Its answer waits in the socket, because this process itself stood still. */
START_TEST(what_it_has_said_counts)
{
    start();
    const struct message_gate_report report = {.value = {0}};
    monotonic later = monotonic_add(monotonic_now(), 31 * NS_PER_S);
    gate_client_look(&client, later);
    played_child_hears(MESSAGE_GATE_ASK);
    played_child_sends(client.child, MESSAGE_GATE_REPORT, &report, sizeof report);
    gate_client_look(&client, monotonic_add(later, 60 * NS_PER_S));
    ck_assert_uint_eq(client.killed.ns, 0);
}
END_TEST

START_TEST(one_that_is_told_to_stop_gets_a_moment)
{
    start(); /* nobody reads STOP */
    gate_client_stop(&client);
    played_child_hears(MESSAGE_STOP);
    ck_assert_int_eq(gate_client_state(&client), GATE_STOPPED);
    ck_assert_int_eq(gate_client_lend(&client, &lent, -1), -ENOTCONN);
    run_until(has_ended, "its end");
    ck_assert(gate_client_has_ended(&client));
    for (int i = 0; i < 20; i++)
        ck_assert_int_ge(sd_event_run(event, 10000), 0);
    ck_assert_int_eq(heard.back, 1); /* none follows */
    gate_client_go_on(&client);
    ck_assert_int_eq(heard.back, 2);
}
END_TEST

/* It goes on, but not with that one, and no crash is told of. */
START_TEST(one_that_was_told_to_stop_in_vain_is_no_crash)
{
    start();
    gate_client_stop(&client);
    played_child_hears(MESSAGE_STOP);
    gate_client_go_on(&client);
    run_until(is_back, "another one");
    ck_assert_ptr_null(obituary_newest(&client.obituaries));
    child_kill(client.child, SIGKILL);
    heard.back = 0;
    run_until(is_back_once, "one more");
    ck_assert_ptr_nonnull(obituary_newest(&client.obituaries));
}
END_TEST

/* Killed in vain: what can be known of it is kept all the same. */
START_TEST(one_that_does_not_end_is_let_go)
{
    start();
    monotonic now = monotonic_add(monotonic_now(), 31 * NS_PER_S);
    uint64_t generation = client.child->generation;
    gate_client_look(&client, now);
    gate_client_look(&client, monotonic_add(now, 6 * NS_PER_S));  /* aborted */
    gate_client_look(&client, monotonic_add(now, 9 * NS_PER_S));  /* killed */
    gate_client_look(&client, monotonic_add(now, 60 * NS_PER_S)); /* nobody has seen its end */
    ck_assert_int_eq(heard.ended, 1);
    const struct obituary *obituary = obituary_newest(&client.obituaries);
    ck_assert_ptr_nonnull(obituary);
    ck_assert_uint_eq(obituary->generation, generation);
    ck_assert_int_eq(obituary->signal, SIGKILL);
    ck_assert_str_eq(obituary->hung_thread, "main loop");
    run_until(is_back, "another one");
}
END_TEST

/* It was asked before, and can't answer because it is stopped. */
START_TEST(what_is_stopped_does_not_hang)
{
    start();
    pid_t pid = client.child->pid;
    monotonic now = monotonic_add(monotonic_now(), 31 * NS_PER_S);
    gate_client_look(&client, now);
    played_child_hears(MESSAGE_GATE_ASK);
    child_kill(client.child, SIGSTOP);
    while (process_task_state(pid, (uint32_t)pid) != 'T')
        ck_assert_int_ge(sd_event_run(event, 1000), 0);
    gate_client_look(&client, monotonic_add(now, 3 * NS_PER_S));
    gate_client_look(&client, monotonic_add(now, 6 * NS_PER_S));
    ck_assert_uint_eq(client.aborted.ns, 0);
    gate_client_look(&client, monotonic_add(now, 9 * NS_PER_S));
    run_until(is_back, "another one");
    ck_assert_str_eq(obituary_newest(&client.obituaries)->hung_thread, "process");
}
END_TEST

START_TEST(without_one_a_stop_is_over_at_once)
{
    gate_client_stop(&client);
    ck_assert(gate_client_has_ended(&client));
}
END_TEST

/* ---- its socket ---- */

START_TEST(a_path_that_is_taken_is_tried_again)
{
    int file = open(settings.read_socket, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    gate_client_start(&client, -1);
    ck_assert_ptr_null(client.child);
    ck_assert_int_eq(gate_client_state(&client), GATE_NO_SOCKET);
    ck_assert_ptr_nonnull(strstr(gate_client_trouble(&client, monotonic_now()), "is no socket"));
    ck_assert(gate_client_is_enabled(&client)); /* workers get what they need for later */
    ck_assert_int_eq(unlink(settings.read_socket), 0);
    run_until(has_socket, "the socket");
    ck_assert_ptr_nonnull(client.child);
    ck_assert_str_eq(gate_client_trouble(&client, monotonic_now()), "");
    fd_close(&file);
}
END_TEST

START_TEST(the_next_program_goes_on_with_it)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat before, after;
    gate_client_start(&client, -1);
    ck_assert_int_eq(stat(settings.read_socket, &before), 0);
    gate_client_stop(&client);
    run_until(has_ended, "its end");
    int left = gate_client_leave(&client);
    ck_assert_int_ge(left, 0);
    int reader = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    strcpy(address.sun_path, settings.read_socket);
    ck_assert_int_eq(connect(reader, (struct sockaddr *)&address, sizeof address), 0);
    gate_client_start(&client, left);
    ck_assert_int_eq(client.socket.fd, left);
    ck_assert_int_eq(stat(settings.read_socket, &after), 0);
    ck_assert_uint_eq(after.st_ino, before.st_ino);
    ck_assert_int_eq(gate_client_state(&client), GATE_RUNNING);
    fd_close(&reader);
}
END_TEST

START_TEST(disabled_there_is_nothing)
{
    gate_client_start(&client, -1);
    gate_client_stop(&client);
    run_until(has_ended, "its end");
    int left = gate_client_leave(&client);
    gate_client_free(&client);
    settings.read_enabled = 0;
    const struct gate_owner owner = {.back = on_back, .position = on_position, .ended = on_ended};
    gate_client_init(&client, event, &spares, &settings, &owner);
    gate_client_start(&client, left);
    ck_assert(!gate_client_is_enabled(&client));
    ck_assert_ptr_null(client.child);
    ck_assert_int_eq(access(settings.read_socket, F_OK), -1);
    ck_assert_int_eq(gate_client_state(&client), GATE_DISABLED);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gate_client");
    TCase *tcase = tcase_create("gate");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, what_wakes_it_is_shared_and_can_not_be_pulled_away);
    tcase_add_test(tcase, a_channel_is_lent_with_its_ring_or_without);
    tcase_add_test(tcase, one_that_is_behind_is_lent_no_more);
    tcase_add_test(tcase, it_is_told_when_all_is_lent);
    tcase_add_test(tcase, a_position_is_asked_for_and_answered);
    tcase_add_loop_test(tcase, a_name_that_is_none_ends_it, 0, 3);
    tcase_add_test(tcase, what_it_counts_is_kept_until_it_dies);
    tcase_add_test(tcase, one_that_dies_is_followed_by_another);
    tcase_add_test(tcase, one_that_is_stopped_is_replaced);
    tcase_add_test(tcase, one_that_says_nothing_is_asked_and_replaced);
    tcase_add_test(tcase, what_it_has_said_counts);
    tcase_add_test(tcase, one_that_is_told_to_stop_gets_a_moment);
    tcase_add_test(tcase, one_that_was_told_to_stop_in_vain_is_no_crash);
    tcase_add_test(tcase, one_that_does_not_end_is_let_go);
    tcase_add_test(tcase, what_is_stopped_does_not_hang);
    tcase_add_test(tcase, without_one_a_stop_is_over_at_once);
    tcase_add_test(tcase, a_path_that_is_taken_is_tried_again);
    tcase_add_test(tcase, the_next_program_goes_on_with_it);
    tcase_add_test(tcase, disabled_there_is_nothing);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
