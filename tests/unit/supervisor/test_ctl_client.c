/* SPDX-License-Identifier: MIT */
/* holdfastctl when things are not as they should be. The story: every way in which nobody can be
 * asked ends with exit status 3 and a sentence that says which socket and what to do; a supervisor
 * that says no ends with 1; a wrong command line with 2; and nothing of it takes longer than the
 * timeout. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/monotonic.h"
#include "supervisor/ctl/ctl.h"
#include "supervisor/ctl/ctl_channel.h"
#include "supervisor/ctl/ctl_client.h"
#include "supervisor/ctl/ctl_daemon.h"
#include "supervisor/ctl/ctl_options.h"
#include "supervisor/ctl/ctl_status.h"
#include "tests/lib/control_daemon.h"
#include "tests/lib/unit.h"

static struct control_daemon daemon_;
static char said[4096];

static void set_up(void)
{
    control_daemon_init(&daemon_);
}

static void tear_down(void)
{
    control_daemon_cleanup(&daemon_);
}

/* Run with stdout and stderr in a file; what was printed is in `said`. */
static int capture(int (*run)(void *), void *context)
{
    FILE *file = tmpfile();
    int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);
    fflush(NULL);
    dup2(fileno(file), STDOUT_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    int status = run(context);
    fflush(NULL);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    close(out);
    close(err);
    rewind(file);
    said[fread(said, 1, sizeof said - 1, file)] = '\0';
    fclose(file);
    return status;
}

static int run_ping(void *context)
{
    return ctl_ping(context, NULL);
}

static void expect_ping(const char *socket_path, int status, const char *part)
{
    struct ctl_options options = {.socket = socket_path, .timeout_ns = 300 * NS_PER_MS};
    monotonic begun = monotonic_now();
    int actual = capture(run_ping, &options);
    ck_assert_msg(actual == status, "%d: %s", actual, said);
    ck_assert_msg(strstr(said, part) != NULL, "'%s' is not in: %s", part, said);
    ck_assert_uint_lt(monotonic_since(monotonic_now(), begun), 3 * NS_PER_S);
}

/* A listening socket that nobody serves, in the daemon's folder. */
static int listen_there(char path[108])
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/other.sock", daemon_.folder);
    memcpy(path, address.sun_path, sizeof address.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(fd, 4), 0);
    return fd;
}

/* ---- nobody to ask ---- */

START_TEST(no_socket)
{
    expect_ping(daemon_.socket, CTL_NO_DAEMON, "there is no such socket. Start it");
    ck_assert_ptr_nonnull(strstr(said, daemon_.socket));
}
END_TEST

START_TEST(a_socket_left_behind)
{
    ck_assert_int_eq(control_daemon_start(&daemon_), 0);
    control_daemon_kill(&daemon_);
    expect_ping(daemon_.socket, CTL_NO_DAEMON, "left its socket behind");
}
END_TEST

START_TEST(a_file_that_is_no_socket)
{
    expect_ping("/etc/passwd", CTL_NO_DAEMON, "at /etc/passwd: this is no socket");
    expect_ping("/tmp", CTL_NO_DAEMON, "at /tmp: this is no socket");
    uid_t user = geteuid();
    ck_assert(user != 0 || seteuid(65534) == 0); /* who may not write to it */
    expect_ping("/etc/passwd", CTL_NO_DAEMON, "at /etc/passwd: this is no socket");
    ck_assert(seteuid(user) == 0);
}
END_TEST

START_TEST(a_path_that_is_too_long)
{
    char path[200];
    memset(path, 'x', sizeof path);
    path[sizeof path - 1] = '\0';
    expect_ping(path, CTL_USAGE, "longer than 107 bytes");
}
END_TEST

START_TEST(a_peer_that_never_answers)
{
    char path[108];
    int fd = listen_there(path);
    expect_ping(path, CTL_NO_DAEMON, "has not answered for 300 ms");
    close(fd);
}
END_TEST

#define DEEP_16 "[[[[[[[[[[[[[[[["
#define DEEP_256                                                                                   \
    DEEP_16 DEEP_16 DEEP_16 DEEP_16 DEEP_16 DEEP_16 DEEP_16 DEEP_16 DEEP_16 DEEP_16 DEEP_16        \
        DEEP_16 DEEP_16 DEEP_16 DEEP_16 DEEP_16
#define ANSWER(rest) "{\"jsonrpc\":\"2.0\",\"id\":1," rest "}\n"

enum then {
    CLOSES,
    CLOSES_AGAIN, /* it is asked once more */
    STAYS,        /* silent */
    REPEATS,      /* the same without an end */
};

static const struct {
    const char *answer;
    const char *part;
    enum then then;
} strangers[] = {
    {"", "closed the connection without an answer", CLOSES_AGAIN},
    {"{\"jsonrpc\":\"2.0\",", "closed the connection without an answer", CLOSES_AGAIN},
    {"SSH-2.0-OpenSSH\r\n", "no holdfastd: its answer is not JSON", CLOSES},
    {"\x01\x80\xff\x7f"
     "ELF\x02\n",
     "no holdfastd: its answer is not JSON", CLOSES},
    {"[]\n", "no holdfastd: its answer is no JSON object", CLOSES},
    {"7\n", "no holdfastd: its answer is no JSON object", CLOSES},
    {"[" ANSWER("\"result\":{\"pid\":1,\"version\":\"0.1.0\"}"), "no holdfastd", CLOSES},
    {"{}\n", "it does not speak JSON-RPC 2.0", CLOSES},
    {"{\"id\":1,\"result\":{\"pid\":1,\"version\":\"1\"}}\n", "not speak JSON-RPC 2.0", CLOSES},
    {"{\"jsonrpc\":2.0,\"id\":1,\"result\":{}}\n", "it does not speak JSON-RPC 2.0", CLOSES},
    {"{\"jsonrpc\":\"2.0\",\"id\":1}\n", "no holdfastd: its answer has neither or both", CLOSES},
    {ANSWER("\"result\":{},\"error\":{\"code\":1,\"message\":\"\"}"), "neither or both", CLOSES},
    {"{\"jsonrpc\":\"2.0\",\"id\":99,\"result\":{\"pid\":1,\"version\":\"1\"}}\n",
     "another request", CLOSES},
    {"{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"result\":{\"pid\":1,\"version\":\"1\"}}\n",
     "another request", CLOSES},
    {"{\"jsonrpc\":\"2.0\",\"id\":null,\"result\":{\"pid\":1,\"version\":\"1\"}}\n",
     "another request", CLOSES},
    {ANSWER("\"result\":[]"), "its result is no object", CLOSES},
    {ANSWER("\"result\":true"), "its result is no object", CLOSES},
    {ANSWER("\"result\":{}"), "its answer to ping has no pid", CLOSES},
    {ANSWER("\"result\":{\"pid\":\"1\",\"version\":\"1\"}"), "has no pid", CLOSES},
    {ANSWER("\"result\":{\"pid\":1}"), "its answer to ping has no version", CLOSES},
    {ANSWER("\"error\":null"), "its error has no code or no message", CLOSES},
    {ANSWER("\"error\":{\"code\":\"x\",\"message\":\"y\"}"), "no code or no message", CLOSES},
    {ANSWER("\"id\":1,\"result\":{\"pid\":1,\"version\":\"1\"}"), "not JSON", CLOSES},
    {"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32001,\"message\":\"512 clients\"}}\n",
     "512 clients", CLOSES},
    {DEEP_256 DEEP_256 DEEP_256 DEEP_256 DEEP_256 DEEP_256 DEEP_256 DEEP_256 DEEP_256 "\n",
     "no holdfastd: its answer is not JSON", STAYS},
    {"{\"jsonrpc\":\"2.0\",", "began an answer and did not end it within 300 ms", STAYS},
    {"no end ", "began an answer and did not end it within 300 ms", REPEATS},
};

/* Answers one request, in a process of its own. */
static void answer_like(int listening, int stranger)
{
    char request[512];
    const char *answer = strangers[stranger].answer;
    const size_t length = strlen(answer);
    int connection = accept(listening, NULL, NULL);
    if (read(connection, request, sizeof request) <= 0)
        _exit(1);
    for (ssize_t sent = 0; (size_t)sent < length;) {
        ssize_t n = send(connection, answer + sent, length - (size_t)sent, MSG_NOSIGNAL);
        if (n < 0)
            break;
        sent += n;
    }
    while (strangers[stranger].then == REPEATS && send(connection, answer, 1, MSG_NOSIGNAL) == 1)
        continue;
    while (strangers[stranger].then == STAYS && read(connection, request, sizeof request) > 0)
        continue;
    close(connection);
    if (strangers[stranger].then == CLOSES_AGAIN && accept(listening, NULL, NULL) < 0)
        _exit(1);
    _exit(0);
}

START_TEST(a_peer_that_is_something_else)
{
    char path[108];
    int fd = listen_there(path);
    pid_t peer = fork();
    if (peer == 0)
        answer_like(fd, _i);
    expect_ping(path, CTL_NO_DAEMON, strangers[_i].part);
    ck_assert_ptr_nonnull(strchr(said, '\n'));
    ck_assert_str_eq(strchr(said, '\n'), "\n"); /* one line */
    waitpid(peer, NULL, 0);
    close(fd);
}
END_TEST

/* More than any holdfastd sends: it is neither kept nor waited for. */
START_TEST(a_line_without_an_end)
{
    static char much[1 << 20];
    char path[108], request[512];
    struct ctl_options options = {.socket = path, .timeout_ns = 20 * NS_PER_S};
    int fd = listen_there(path);
    pid_t peer = fork();
    if (peer == 0) {
        int connection = accept(fd, NULL, NULL);
        memset(much, ' ', sizeof much);
        if (read(connection, request, sizeof request) > 0)
            while (send(connection, much, sizeof much, MSG_NOSIGNAL) > 0)
                continue;
        _exit(0);
    }
    ck_assert_int_eq(capture(run_ping, &options), CTL_NO_DAEMON);
    ck_assert_msg(strstr(said, "is no holdfastd: its answer has more than 33554432 bytes") != NULL,
                  "%s", said);
    waitpid(peer, NULL, 0);
    close(fd);
}
END_TEST

static gid_t group_of(const char *name)
{
    const struct group *group = getgrnam(name);
    ck_assert_msg(group != NULL, "there is no group %s", name);
    return group->gr_gid;
}

START_TEST(permission_denied_names_the_group)
{
    if (geteuid() != 0)
        unit_skip("only root can become somebody who may not");
    ck_assert_int_eq(control_daemon_start(&daemon_), 0);
    ck_assert_int_eq(chmod(daemon_.folder, 0755), 0);
    ck_assert_int_eq(setegid(65534), 0);
    ck_assert_int_eq(seteuid(65534), 0);
    expect_ping(daemon_.socket, CTL_NO_DAEMON, "only its owner (uid 0) and root may use it");
    ck_assert_msg(!strstr(said, "usermod"), "nobody shall join root's group: %s", said);
    ck_assert_int_eq(seteuid(0), 0);
    ck_assert_int_eq(chown(daemon_.socket, 0, group_of("daemon")), 0);
    ck_assert_int_eq(chmod(daemon_.socket, 0660), 0);
    ck_assert_int_eq(seteuid(65534), 0);
    expect_ping(daemon_.socket, CTL_NO_DAEMON, "its group 'daemon' may use it");
    ck_assert_ptr_nonnull(strstr(said, "usermod -aG daemon"));
    ck_assert_int_eq(seteuid(0), 0);
    chmod(daemon_.socket, 0600);
    ck_assert_int_eq(seteuid(65534), 0);
    expect_ping(daemon_.socket, CTL_NO_DAEMON, "only its owner (uid 0) and root may use it");
    ck_assert_int_eq(seteuid(0), 0);
    chmod(daemon_.folder, 0700);
    ck_assert_int_eq(seteuid(65534), 0);
    expect_ping(daemon_.socket, CTL_NO_DAEMON, "may not enter the folder");
    ck_assert_int_eq(seteuid(0), 0);
}
END_TEST

/* ---- somebody answers ---- */

static int run_status_of_nobody(void *context)
{
    return ctl_status(context, "nobody");
}

static int run_stop_of_nobody(void *context)
{
    return ctl_change(context, VERB_stop, "nobody");
}

START_TEST(a_living_daemon)
{
    struct ctl_options options = {.socket = daemon_.socket, .timeout_ns = 2 * NS_PER_S};
    ck_assert_int_eq(control_daemon_start(&daemon_), 0);
    expect_ping(daemon_.socket, CTL_OK, "answers, pid");
    ck_assert_int_eq(capture(run_status_of_nobody, &options), CTL_NO);
    ck_assert_str_eq(said, "holdfastctl: no channel 'nobody'; there are: engine\n");
    ck_assert_int_eq(capture(run_stop_of_nobody, &options), CTL_NO);
}
END_TEST

/* ---- the command line ---- */

static const struct {
    const char *line;
    int status; /* -1: help or version was printed */
    const char *part;
} lines[] = {
    {"", CTL_USAGE, "no verb"},
    {"frobnicate", CTL_USAGE, "there are: ping, status"},
    {"ping engine", CTL_USAGE, "usage: holdfastctl ping"},
    {"stop", CTL_USAGE, "usage: holdfastctl stop CHANNEL"},
    {"stop a b", CTL_USAGE, "usage: holdfastctl stop CHANNEL"},
    {"--timeout 10 ping", CTL_USAGE, "with its unit"},
    {"--timeout 0 ping", CTL_USAGE, "more than 0"},
    {"--timeout 2d ping", CTL_USAGE, "at most 1d"},
    {"--nonsense ping", CTL_USAGE, "no option '--nonsense'"},
    {"ping --nonsense", CTL_USAGE, "no option '--nonsense'"},
    {"--watch ping", CTL_USAGE, "--watch is no option of ping, which has: --socket, --json, "},
    {"ping --watch", CTL_USAGE, "--watch is no option of ping"},
    {"stop engine -v", CTL_USAGE, "--verbose is no option of stop"},
    {"status --no-wait", CTL_USAGE, "--no-wait is no option of status"},
    {"verify a.avro --timeout 3s", CTL_USAGE, "--timeout is no option of verify"},
    {"verify a.avro -o b", CTL_USAGE, "-o is no option of verify, which has: --socket, --json"},
    {"stop engine -o b", CTL_USAGE, "-o is no option of stop"},
    {"verify a.avro -j", CTL_USAGE, "no option '-j'; a file whose name begins with '-'"},
    {"verify --jsno a.avro", CTL_USAGE, "no option '--jsno'"},
    {"recover a.avro -o", CTL_USAGE, "missing behind '-o'"},
    {"--socket= ping", CTL_USAGE, "--socket: what stands behind it is empty"},
    {"stop engine --socket", CTL_USAGE, "missing behind '--socket'"},
    {"status --json=1", CTL_USAGE, "'--json=1': this option takes no value"},
    {"ping -- --json", CTL_USAGE, "usage: holdfastctl ping"},
    {"-- --json", CTL_USAGE, "no verb '--json'"},
    {"--", CTL_USAGE, "no verb was given"},
    {"--watch status", CTL_USAGE, "on a terminal"}, /* which the test's stdout is not */
    {"cat", CTL_USAGE, "usage: holdfastctl cat CHANNEL|FILE..."},
    {"forget engine", CTL_USAGE, "usage: holdfastctl forget CHANNEL NAME"},
    {"readers engine", CTL_USAGE, "usage: holdfastctl readers"},
    {"status --from now", CTL_USAGE, "--from is no option of status"},
    {"replay engine --to a --to b --to c", CTL_USAGE, "once too often"},
    {"cat engine --from=", CTL_USAGE, "--from: what stands behind it is empty"},
    {"cat -f engine ./gps/ -n 3 -o raw", CTL_OK, "2:engine:./gps/"},
    {"--help", -1, "usage: holdfastctl"},
    {"-h", -1, "usage: holdfastctl"},
    {"verify --help", -1, "usage: holdfastctl"},
    {"status --version", -1, "holdfastctl " HOLDFAST_VERSION},
};

struct parse {
    char text[128];
    struct ctl_command command;
};

static int run_parse(void *context)
{
    struct parse *parse = context;
    static char name[] = "holdfastctl";
    char *argv[16] = {name};
    int argc = 1;
    for (char *word = strtok(parse->text, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    int status = ctl_options_parse(argc, argv, &parse->command);
    if (status == CTL_OK)
        printf("%d:%s:%s", parse->command.file_count,
               parse->command.file_count > 0 ? parse->command.files[0] : "",
               parse->command.file_count > 1 ? parse->command.files[1] : "");
    return status;
}

START_TEST(wrong_lines_say_what_would_be_right)
{
    struct parse parse;
    strcpy(parse.text, lines[_i].line);
    ck_assert_int_eq(capture(run_parse, &parse), lines[_i].status);
    ck_assert_msg(strstr(said, lines[_i].part) != NULL, "'%s' is not in: %s", lines[_i].part, said);
}
END_TEST

START_TEST(the_help_fits_a_terminal)
{
    struct parse parse;
    strcpy(parse.text, "--help");
    ck_assert_int_eq(capture(run_parse, &parse), -1);
    for (char *line = strtok(said, "\n"); line; line = strtok(NULL, "\n"))
        ck_assert_msg(strlen(line) <= 80, "%s", line);
}
END_TEST

START_TEST(options_are_understood_on_both_sides_of_the_verb)
{
    struct parse parse;
    setenv(CONTROL_SOCKET_VARIABLE, "/from/environment", 1);
    strcpy(parse.text, "--json restart engine --no-wait --timeout 30s");
    ck_assert_int_eq(capture(run_parse, &parse), CTL_OK);
    ck_assert_int_eq(parse.command.verb, VERB_restart);
    ck_assert_str_eq(parse.command.channel, "engine");
    ck_assert(parse.command.options.json && parse.command.options.no_wait &&
              !parse.command.options.colour);
    ck_assert_uint_eq(parse.command.options.timeout_ns, 30 * NS_PER_S);
    ck_assert_str_eq(parse.command.options.socket, "/from/environment");
    strcpy(parse.text, "reset-failed --socket /from/line engine");
    ck_assert_int_eq(capture(run_parse, &parse), CTL_OK);
    ck_assert_int_eq(parse.command.verb, VERB_reset_failed);
    ck_assert_str_eq(parse.command.options.socket, "/from/line");
}
END_TEST

/* The same behind and between what the verb works on; and with a shell that wants it otherwise. */
static const struct {
    const char *line, *files, *output;
} offline[] = {
    {"recover --json -o out", "0::", "out"},
    {"recover a b -o out --json", "2:a:b", "out"},
    {"recover a -oout b --json", "2:a:b", "out"},
    {"--json -o out recover a b", "2:a:b", "out"},
    {"--socket /s --json verify a b", "2:a:b", NULL},
    {"verify a --json b --socket /s", "2:a:b", NULL},
    {"verify --json -- -o --json", "2:-o:--json", NULL},
    {"--json -- verify -a -", "2:-a:-", NULL},
    {"verify - --json", "1:-:", NULL},
};

START_TEST(options_behind_files)
{
    struct parse parse;
    if (_i % 2)
        setenv("POSIXLY_CORRECT", "1", 1);
    else
        unsetenv("POSIXLY_CORRECT");
    strcpy(parse.text, offline[_i / 2].line);
    ck_assert_int_eq(capture(run_parse, &parse), CTL_OK);
    ck_assert_str_eq(said, offline[_i / 2].files);
    ck_assert(parse.command.options.json);
    if (offline[_i / 2].output)
        ck_assert_str_eq(parse.command.output, offline[_i / 2].output);
    else
        ck_assert_ptr_null(parse.command.output);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("holdfastctl");
    TCase *tests = tcase_create("client");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, no_socket);
    tcase_add_test(tests, a_socket_left_behind);
    tcase_add_test(tests, a_file_that_is_no_socket);
    tcase_add_test(tests, a_path_that_is_too_long);
    tcase_add_test(tests, a_peer_that_never_answers);
    tcase_add_loop_test(tests, a_peer_that_is_something_else, 0,
                        sizeof strangers / sizeof strangers[0]);
    tcase_add_test(tests, a_line_without_an_end);
    tcase_add_test(tests, permission_denied_names_the_group);
    tcase_add_test(tests, a_living_daemon);
    tcase_add_loop_test(tests, wrong_lines_say_what_would_be_right, 0,
                        sizeof lines / sizeof lines[0]);
    tcase_add_test(tests, the_help_fits_a_terminal);
    tcase_add_test(tests, options_are_understood_on_both_sides_of_the_verb);
    tcase_add_loop_test(tests, options_behind_files, 0, 2 * sizeof offline / sizeof offline[0]);
    suite_add_tcase(suite, tests);
    control_daemon_begin_all();
    int status = unit_run(suite);
    control_daemon_end_all();
    return status;
}
