/* SPDX-License-Identifier: MIT */
/* The control socket under clients of every kind. The story: a well-behaved client gets its
 * answers; a confused one gets an error that helps; a broken or hostile one gets at most an error;
 * and through all of it another client's ping is answered within its deadline. Real sockets, the
 * real control.c in a process of its own. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/control_protocol.h"
#include "common/monotonic.h"
#include "supervisor/control/control_client.h"
#include "tests/lib/control_daemon.h"
#include "tests/lib/unit.h"

#define PING "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n"

static struct control_daemon daemon_;

static void set_up(void)
{
    control_daemon_init(&daemon_);
    ck_assert_msg(control_daemon_start(&daemon_) == 0, "%s", daemon_.why);
}

static void tear_down(void)
{
    control_daemon_cleanup(&daemon_);
}

static int client(void)
{
    int fd = control_connect(&daemon_);
    ck_assert_msg(fd >= 0, "connect: %s", strerror(-fd));
    return fd;
}

static json_t *read_answer(int fd)
{
    static char line[1 << 20];
    json_error_t error;
    long length = control_read_line(fd, line, sizeof line);
    ck_assert_msg(length > 0, "no answer: %ld", length);
    json_t *answer = json_loads(line, 0, &error);
    ck_assert_msg(answer != NULL, "not JSON: %s: %s", error.text, line);
    ck_assert_str_eq(json_string_value(json_object_get(answer, "jsonrpc")), "2.0");
    ck_assert_ptr_nonnull(json_object_get(answer, "id"));
    return answer;
}

static json_t *ask(int fd, const char *request)
{
    ck_assert_int_eq(control_send_text(fd, request), 0);
    return read_answer(fd);
}

/* A new client's ping, to be answered within 2 s whatever else is going on. */
static void expect_service(void)
{
    monotonic begun = monotonic_now();
    int fd = client();
    json_t *answer = ask(fd, PING);
    ck_assert_ptr_nonnull(json_object_get(answer, "result"));
    json_decref(answer);
    close(fd);
    ck_assert_uint_lt(monotonic_since(monotonic_now(), begun), 2 * NS_PER_S);
}

static void expect_error(json_t *answer, int code, const char *part)
{
    json_t *error = json_object_get(answer, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    ck_assert_ptr_nonnull(error);
    ck_assert_msg(json_integer_value(json_object_get(error, "code")) == code, "code %lld: %s",
                  json_integer_value(json_object_get(error, "code")), message);
    ck_assert_msg(message && strstr(message, part), "'%s' is not in: %s", part, message);
    json_decref(answer);
}

/* ---- well-behaved ---- */

START_TEST(answers_carry_the_id_of_the_request)
{
    int fd = client();
    json_t *answer = ask(fd, "{\"jsonrpc\":\"2.0\",\"id\":\"a \\u00fc\",\"method\":\"ping\"}\n");
    ck_assert_str_eq(json_string_value(json_object_get(answer, "id")), "a \xc3\xbc");
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(answer, "result"), "pid")),
                     daemon_.pid);
    json_decref(answer);
    answer =
        ask(fd, "  {\"jsonrpc\": \"2.0\", \"method\": \"ping\", \"params\": [], \"id\": null}\r\n");
    ck_assert(json_is_null(json_object_get(answer, "id")));
    json_decref(answer);
    answer = ask(fd, "\n \n{\"jsonrpc\":\"2.0\",\"id\":-7,\"method\":\"ping\",\"params\":{}}\n");
    ck_assert_int_eq(json_integer_value(json_object_get(answer, "id")), -7);
    json_decref(answer);
    close(fd);
}
END_TEST

START_TEST(notifications_get_no_answer)
{
    int fd = client();
    ck_assert_int_eq(control_send_text(fd, "{\"jsonrpc\":\"2.0\",\"method\":\"ping\"}\n"
                                           "{\"jsonrpc\":\"2.0\",\"method\":\"no such verb\"}\n"),
                     0);
    json_t *answer = ask(fd, "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"ping\"}\n");
    ck_assert_int_eq(json_integer_value(json_object_get(answer, "id")), 3);
    json_decref(answer);
    close(fd);
}
END_TEST

START_TEST(status_and_check_tell_about_channels)
{
    int fd = client();
    json_t *answer = ask(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\",\"params\":{"
                             "\"channel\":\"engine\"}}\n");
    json_t *channel =
        json_array_get(json_object_get(json_object_get(answer, "result"), "channels"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(channel, "name")), "engine");
    ck_assert_str_eq(json_string_value(json_object_get(channel, "state")), "STOPPED");
    ck_assert_str_eq(json_string_value(json_object_get(channel, "listen")), "127.0.0.1:26000");
    ck_assert(json_is_null(json_object_get(channel, "pid")));
    ck_assert(json_is_null(json_object_get(channel, "log")));
    ck_assert(json_is_null(json_object_get(channel, "last_death")));
    ck_assert(json_is_null(json_object_get(channel, "stall_tolerance_s")));
    ck_assert_int_eq(
        json_integer_value(json_object_get(json_object_get(channel, "counters"), "received")), 0);
    ck_assert_int_eq(
        json_integer_value(json_object_get(json_object_get(channel, "ring"), "capacity_bytes")),
        1 << 20);
    json_decref(answer);
    answer = ask(
        fd,
        "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"check\"}\n"); /* it is not wanted: healthy */
    ck_assert(json_is_true(json_object_get(json_object_get(answer, "result"), "healthy")));
    json_decref(answer);
    answer = ask(fd, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"crashes\"}\n");
    ck_assert(json_is_array(json_object_get(json_object_get(answer, "result"), "crashes")));
    json_decref(answer);
    close(fd);
}
END_TEST

START_TEST(one_byte_at_a_time)
{
    int fd = client();
    for (const char *c = PING; *c; c++)
        ck_assert_int_eq(control_send(fd, c, 1), 0);
    json_decref(read_answer(fd));
    close(fd);
}
END_TEST

START_TEST(a_client_that_sends_its_end_still_gets_its_answers)
{
    int fd = client();
    ck_assert_int_eq(control_send_text(fd, PING PING "{\"jsonrpc\":"),
                     0); /* and half a line, which is nobody's */
    shutdown(fd, SHUT_WR);
    json_decref(read_answer(fd));
    json_decref(read_answer(fd));
    ck_assert_int_eq(control_wait_end(fd, 2000), 0);
    close(fd);
}
END_TEST

START_TEST(many_requests_in_one_write_are_answered_in_order)
{
    enum { COUNT = 900 };
    static char requests[COUNT * 64];
    size_t length = 0;
    int fd = client();
    for (int i = 0; i < COUNT; i++)
        length += (size_t)sprintf(requests + length,
                                  "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"ping\"}\n", i);
    ck_assert_int_eq(control_send(fd, requests, length), 0);
    expect_service();
    for (int i = 0; i < COUNT; i++) {
        json_t *answer = read_answer(fd);
        ck_assert_int_eq(json_integer_value(json_object_get(answer, "id")), i);
        json_decref(answer);
    }
    close(fd);
}
END_TEST

START_TEST(what_changes_something_is_logged_with_who_asked)
{
    char log[4096] = "", expected[128];
    int fd = client();
    expect_error(
        ask(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stop\",\"params\":[\"no\\nsuch\"]}\n"),
        CONTROL_ERROR_PARAMS, "no channel 'no?such'; there are: engine");
    json_decref(ask(fd, PING));
    int file = open(daemon_.log, O_RDONLY | O_CLOEXEC);
    ck_assert_int_gt(read(file, log, sizeof log - 1), 0);
    close(file);
    snprintf(expected, sizeof expected, "pid %d, uid %u, gid %u: stop no?such: refused: no channel",
             getpid(), getuid(), getgid());
    ck_assert_msg(strstr(log, expected) != NULL, "'%s' is not in: %s", expected, log);
    ck_assert_ptr_null(strstr(log, "ping"));
    close(fd);
}
END_TEST

/* ---- confused ---- */

static const struct {
    const char *request;
    int code;
    const char *part;
} confused[] = {
    {"hello", CONTROL_ERROR_PARSE, "not JSON"},
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"", CONTROL_ERROR_PARSE, "not JSON"},
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}", CONTROL_ERROR_PARSE,
     "duplicate"},
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"p\xff\xfe\"}", CONTROL_ERROR_PARSE,
     "decode byte 0xff"},
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"pi\\u0000ng\"}", CONTROL_ERROR_PARSE, "NUL"},
    {"{\"jsonrpc\":\"2.0\",\"id\":1e999,\"method\":\"ping\"}", CONTROL_ERROR_REQUEST,
     "beyond 64 bits"},
    {"{\"jsonrpc\":\"2.0\",\"id\":18446744073709551616,\"method\":\"ping\"}", CONTROL_ERROR_REQUEST,
     "beyond 64 bits"},
    {"[]", CONTROL_ERROR_REQUEST, "batch"},
    {"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]", CONTROL_ERROR_REQUEST, "batch"},
    {"42", CONTROL_ERROR_REQUEST, "object"},
    {"{}", CONTROL_ERROR_REQUEST, "jsonrpc"},
    {"{\"jsonrpc\":2.0,\"id\":1,\"method\":\"ping\"}", CONTROL_ERROR_REQUEST, "jsonrpc"},
    {"{\"jsonrpc\":\"2.0\",\"id\":1}", CONTROL_ERROR_REQUEST, "method"},
    {"{\"jsonrpc\":\"2.0\",\"id\":[],\"method\":\"ping\"}", CONTROL_ERROR_REQUEST, "id"},
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":7}", CONTROL_ERROR_REQUEST,
     "params"},
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"Ping\"}", CONTROL_ERROR_METHOD,
     "ping, status, check"},
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"verify\"}", CONTROL_ERROR_METHOD,
     "no verb 'verify'"},
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"capabilities\"}", CONTROL_ERROR_METHOD,
     "no verb 'capabilities'"},
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":[1]}", CONTROL_ERROR_PARAMS,
     "no parameters"},
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\",\"params\":{\"chanel\":\"engine\"}}",
     CONTROL_ERROR_PARAMS, "channel"},
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\",\"params\":[\"engine\",\"b\"]}",
     CONTROL_ERROR_PARAMS, "one parameter"},
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"restart\"}", CONTROL_ERROR_PARAMS,
     "needs a channel"},
    {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"crashes\",\"params\":[\"x\"]}",
     CONTROL_ERROR_PARAMS, "no channel 'x'"},
};

START_TEST(confused_requests_get_an_error_that_helps)
{
    int fd = client();
    ck_assert_int_eq(control_send_text(fd, confused[_i].request), 0);
    json_t *answer = ask(fd, "\n");
    if (confused[_i].code == CONTROL_ERROR_PARSE)
        ck_assert(json_is_null(json_object_get(answer, "id")));
    expect_error(answer, confused[_i].code, confused[_i].part);
    json_decref(ask(fd, PING)); /* and the connection is as good as before */
    close(fd);
}
END_TEST

/* ---- broken and hostile ---- */

START_TEST(zero_bytes_are_an_error_and_no_more)
{
    static const char request[] = "{\"jsonrpc\":\"2.0\",\0\"id\":1,\"method\":\"ping\"}\n\0\0\0\n";
    int fd = client();
    ck_assert_int_eq(control_send(fd, request, sizeof request - 1), 0);
    expect_error(read_answer(fd), CONTROL_ERROR_PARSE, "not JSON");
    expect_error(read_answer(fd), CONTROL_ERROR_PARSE, "not JSON");
    json_decref(ask(fd, PING));
    close(fd);
}
END_TEST

START_TEST(deep_nesting_is_an_error_and_no_more)
{
    static char request[CONTROL_REQUEST_MAX];
    static const char *const openings[] = {"[", "{\"a\":"};
    for (size_t i = 0; i < 2; i++) {
        size_t unit = strlen(openings[i]), length = 0;
        for (; length + unit < sizeof request - 1; length += unit)
            memcpy(request + length, openings[i], unit);
        request[length++] = '\n';
        int fd = client();
        ck_assert_int_eq(control_send(fd, request, length), 0);
        expect_error(read_answer(fd), CONTROL_ERROR_PARSE, "depth");
        json_decref(ask(fd, PING));
        close(fd);
    }
}
END_TEST

START_TEST(the_longest_line_is_taken_and_a_byte_more_is_not)
{
    static char request[CONTROL_REQUEST_MAX + 2];
    for (int extra = 0; extra < 2; extra++) {
        memset(request, ' ', sizeof request);
        memcpy(request, PING, strlen(PING) - 1);
        request[CONTROL_REQUEST_MAX + extra] = '\n';
        int fd = client();
        ck_assert_int_eq(control_send(fd, request, CONTROL_REQUEST_MAX + (size_t)extra + 1), 0);
        json_t *answer = read_answer(fd);
        if (extra == 0)
            ck_assert_ptr_nonnull(json_object_get(answer, "result"));
        else
            expect_error(json_incref(answer), CONTROL_ERROR_REQUEST, "at most 65536 bytes");
        json_decref(answer);
        close(fd);
    }
}
END_TEST

START_TEST(a_line_of_a_megabyte_is_refused_and_the_connection_closed)
{
    static char megabyte[1 << 20];
    memset(megabyte, 'x', sizeof megabyte);
    int fd = client();
    ck_assert_int_eq(control_send(fd, megabyte, sizeof megabyte),
                     0); /* all of it is taken, so the error is seen */
    expect_error(read_answer(fd), CONTROL_ERROR_REQUEST, "at most 65536 bytes");
    ck_assert_int_eq(control_wait_end(fd, 2000), 0);
    expect_service();
    close(fd);
}
END_TEST

START_TEST(a_client_that_never_stops_sending_is_cut_off)
{
    static char block[1 << 16];
    monotonic begun = monotonic_now();
    int fd = client(), error = 0;
    memset(block, 'x', sizeof block);
    while (error == 0 && monotonic_since(monotonic_now(), begun) < 10 * NS_PER_S)
        error = control_send(fd, block, sizeof block);
    ck_assert_int_eq(error, -EPIPE);
    expect_service();
    close(fd);
}
END_TEST

START_TEST(a_client_that_never_reads_is_dropped_and_disturbs_nobody)
{
    static const char request[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}\n";
    monotonic begun = monotonic_now();
    int fd = client();
    while (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) >
           0) /* until nothing more is taken from it */
        ;
    ck_assert_int_eq(errno, EAGAIN);
    expect_service();
    int error;
    while ((error = control_send(fd, request, sizeof request - 1)) == -ETIMEDOUT || error == 0) {
        ck_assert_uint_lt(monotonic_since(monotonic_now(), begun), 20 * NS_PER_S);
        expect_service();
    }
    ck_assert_int_eq(error, -EPIPE);
    close(fd);
    expect_service();
}
END_TEST

/* 64 MiB of answers may wait in all; these clients ask for more than that and read nothing. */
START_TEST(large_answers_that_nobody_reads_cost_the_oldest_first)
{
    enum { COUNT = 40 };
    static char line[8 << 20];
    int fds[COUNT];
    control_daemon_stop(&daemon_);
    daemon_.times = CONTROL_DAEMON_TIMES_MAX;
    ck_assert_msg(control_daemon_start(&daemon_) == 0, "%s", daemon_.why);
    for (int i = 0; i < COUNT; i++) {
        struct pollfd begun = {.fd = fds[i] = client(), .events = POLLIN};
        ck_assert_int_eq(
            control_send_text(fds[i], "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"status\"}\n"), 0);
        ck_assert_int_eq(poll(&begun, 1, 5000), 1); /* its answer has begun to arrive */
    }
    expect_service();
    ck_assert_int_eq(control_read_line(fds[0], line, sizeof line),
                     0); /* dropped: its answer ends in the middle */
    long length = control_read_line(fds[COUNT - 1], line, sizeof line);
    ck_assert_int_gt(length, 2 << 20);
    ck_assert_int_gt(COUNT * length, 64 << 20); /* or this test would show nothing */
    for (int i = 0; i < COUNT; i++)
        close(fds[i]);
    expect_service();
}
END_TEST

START_TEST(two_hundred_clients_at_once)
{
    enum { COUNT = 200 };
    int fds[COUNT];
    for (int i = 0; i < COUNT; i++)
        fds[i] = client();
    for (int i = 0; i < COUNT; i++)
        ck_assert_int_eq(control_send_text(fds[i], PING), 0);
    for (int i = COUNT - 1; i >= 0; i--)
        json_decref(read_answer(fds[i]));
    for (int i = 0; i < COUNT; i++)
        close(fds[i]);
}
END_TEST

/* What each asks for is in the daemon's log, in the order of their turns. Nothing is answered, so
 * that nobody waits for room. */
START_TEST(who_asks_for_a_thousand_things_at_once_is_served_in_turns)
{
    static const char many[] = "{\"jsonrpc\":\"2.0\",\"method\":\"stop\",\"params\":[\"many\"]}\n";
    static char log[1 << 20], requests[1000 * sizeof many];
    size_t length = 0;
    for (int i = 0; i < 1000; i++)
        length += (size_t)sprintf(requests + length, "%s", many);
    int first = client(), second = client();
    json_decref(ask(first, PING)); /* both have come */
    json_decref(ask(second, PING));
    kill(daemon_.pid, SIGSTOP);
    ck_assert_int_eq(control_send(first, requests, length), 0);
    ck_assert_int_eq(
        control_send_text(
            second, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"stop\",\"params\":[\"one\"]}\n"),
        0);
    kill(daemon_.pid, SIGCONT);
    expect_error(read_answer(second), CONTROL_ERROR_PARAMS, "no channel 'one'");
    int file = open(daemon_.log, O_RDONLY | O_CLOEXEC);
    ck_assert_int_gt(read(file, log, sizeof log - 1), 0);
    close(file);
    char *one = strstr(log, "stop one: refused");
    ck_assert_ptr_nonnull(one);
    *one = '\0';
    int before = 0;
    for (const char *at = log; (at = strstr(at, "stop many: refused")); at++)
        before++;
    ck_assert_msg(before <= 2 * CONTROL_TURN_REQUESTS,
                  "%d requests of another client were served first", before);
    close(first);
    close(second);
}
END_TEST

START_TEST(one_client_too_many_is_refused_politely)
{
    enum { MOST = 512 };
    static int fds[MOST];
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){1024, 1024});
    for (int i = 0; i < MOST; i++) {
        fds[i] = client();
        json_decref(ask(fds[i], PING)); /* it has been accepted */
    }
    int fd = client();
    expect_error(read_answer(fd), CONTROL_ERROR_BUSY, "512 clients");
    ck_assert_int_eq(control_wait_end(fd, 2000), 0);
    close(fd);
    json_decref(ask(fds[0], PING));
    close(fds[MOST - 1]);
    json_decref(ask(fds[1], PING)); /* by now it has seen that there is room again */
    expect_service();
    for (int i = 0; i < MOST - 1; i++)
        close(fds[i]);
}
END_TEST

/* Nobody locks an operator out by doing nothing. */
START_TEST(the_idlest_client_makes_room)
{
    enum { MOST = 512 };
    static int fds[MOST];
    json_t *answer = NULL;
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){1024, 1024});
    for (int i = 0; i < MOST; i++) {
        fds[i] = client();
        json_decref(ask(fds[i], PING));
    }
    for (int attempt = 0; attempt < 600 && !answer; attempt++) {
        json_decref(ask(fds[1], PING)); /* this one is not idle */
        int fd = client();
        send(fd, PING, strlen(PING), MSG_NOSIGNAL);
        json_t *now = read_answer(fd); /* that it is refused, or an answer */
        answer = json_incref(json_object_get(now, "result"));
        json_decref(now);
        close(fd);
        poll(NULL, 0, 100);
    }
    ck_assert_ptr_nonnull(answer);
    json_decref(answer);
    ck_assert_int_eq(control_wait_end(fds[0], 2000), 0);
    json_decref(ask(fds[1], PING));
    for (int i = 0; i < MOST; i++)
        close(fds[i]);
}
END_TEST

/* Four have a place in any case, and the fifth is told why it has none. */
START_TEST(without_descriptors_some_are_served_and_the_rest_is_told)
{
    int fds[24];
    control_daemon_stop(&daemon_);
    daemon_.descriptors = 20;
    ck_assert_msg(control_daemon_start(&daemon_) == 0, "%s", daemon_.why);
    int first = client();
    json_decref(ask(first, PING));
    for (int i = 0; i < 24; i++) { /* more than it has descriptors */
        fds[i] = client();
        if (i < 3)
            json_decref(ask(fds[i], PING));
    }
    expect_error(read_answer(fds[23]), CONTROL_ERROR_BUSY, "no more descriptors");
    json_decref(ask(first, PING));
    unsigned long long used = control_daemon_cpu_ns(&daemon_);
    nanosleep(&(struct timespec){.tv_nsec = 600 * 1000 * 1000},
              NULL); /* time in which a spinning loop would show */
    ck_assert_uint_lt(control_daemon_cpu_ns(&daemon_) - used, 200 * NS_PER_MS);
    json_decref(ask(first, PING));
    for (int i = 0; i < 24; i++)
        close(fds[i]);
    expect_service();
    close(first);
}
END_TEST

START_TEST(random_bytes_hurt_nobody)
{
    unsigned seed = 20260117;
    for (int round = 0; round < 200; round++) {
        char bytes[512] = PING;
        size_t length = (size_t)rand_r(&seed) % sizeof bytes;
        for (int changes = rand_r(&seed) % 40; changes >= 0; changes--)
            bytes[(size_t)rand_r(&seed) % sizeof bytes] = (char)rand_r(&seed);
        int fd = client();
        ck_assert_int_eq(control_send(fd, bytes, length), 0);
        close(fd); /* often before the answer was read */
    }
    expect_service();
    control_daemon_stop(&daemon_); /* ended well: no sanitizer has complained */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("control socket");
    TCase *tests = tcase_create("clients");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, answers_carry_the_id_of_the_request);
    tcase_add_test(tests, notifications_get_no_answer);
    tcase_add_test(tests, status_and_check_tell_about_channels);
    tcase_add_test(tests, one_byte_at_a_time);
    tcase_add_test(tests, a_client_that_sends_its_end_still_gets_its_answers);
    tcase_add_test(tests, many_requests_in_one_write_are_answered_in_order);
    tcase_add_test(tests, what_changes_something_is_logged_with_who_asked);
    tcase_add_loop_test(tests, confused_requests_get_an_error_that_helps, 0,
                        sizeof confused / sizeof confused[0]);
    tcase_add_test(tests, zero_bytes_are_an_error_and_no_more);
    tcase_add_test(tests, deep_nesting_is_an_error_and_no_more);
    tcase_add_test(tests, the_longest_line_is_taken_and_a_byte_more_is_not);
    tcase_add_test(tests, a_line_of_a_megabyte_is_refused_and_the_connection_closed);
    tcase_add_test(tests, a_client_that_never_stops_sending_is_cut_off);
    tcase_add_test(tests, a_client_that_never_reads_is_dropped_and_disturbs_nobody);
    tcase_add_test(tests, large_answers_that_nobody_reads_cost_the_oldest_first);
    tcase_add_test(tests, two_hundred_clients_at_once);
    tcase_add_test(tests, who_asks_for_a_thousand_things_at_once_is_served_in_turns);
    tcase_add_test(tests, one_client_too_many_is_refused_politely);
    tcase_add_test(tests, the_idlest_client_makes_room);
    tcase_add_test(tests, without_descriptors_some_are_served_and_the_rest_is_told);
    tcase_add_test(tests, random_bytes_hurt_nobody);
    suite_add_tcase(suite, tests);
    control_daemon_begin_all();
    int status = unit_run(suite);
    control_daemon_end_all();
    return status;
}
