/* SPDX-License-Identifier: MIT */
/* Runs the program at our own path with --check and keeps what it says. Called by upgrade.c. Must
 * never wait for it: it may hang, write without end, or not be a program at all. */
#include "supervisor/rehearsal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/monotonic.h"
#include "supervisor/system/reaper.h"

#define REHEARSAL_DEADLINE_NS (5 * NS_PER_S)
#define READS_PER_DISPATCH    64 /* then the event loop looks after the others */

#define CONFIG_FD             3

/* What a rehearsal writes to. */
struct outlets {
    int answer;
    int output;
    int config; /* or -1 */
    const char *log_dir;
};

/* Its arguments are ours, and one more. It must not speak to the service manager, nor take what is
 * not for it: of the environment it gets only where the configuration's text is to go, and where
 * this one records. */
static int spawn_with(const struct program *program, char *const *arguments,
                      const struct outlets *outlets, pid_t *ret_pid)
{
    char copy[64], log_dir[sizeof PROGRAM_FORMER_LOG_DIR_VARIABLE + PATH_MAX];
    snprintf(copy, sizeof copy, PROGRAM_CONFIG_COPY_VARIABLE "=%d", CONFIG_FD);
    snprintf(log_dir, sizeof log_dir, PROGRAM_FORMER_LOG_DIR_VARIABLE "=%s", outlets->log_dir);
    char *environment[] = {log_dir, outlets->config >= 0 ? copy : NULL, NULL};
    const struct process_fd fds[] = {{outlets->output, STDERR_FILENO},
                                     {outlets->answer, STDOUT_FILENO},
                                     {outlets->config, CONFIG_FD}};
    struct process_plan plan = {.path = program->path,
                                .arguments = arguments,
                                .environment = environment,
                                .fds = fds,
                                .fd_count = outlets->config >= 0 ? 3 : 2};
    return process_spawn(&plan, ret_pid);
}

static int spawn(const struct program *program, const struct outlets *outlets, pid_t *ret_pid)
{
    char check[] = "--check";
    size_t count = 0;
    while (program->arguments[count])
        count++;
    char **arguments = calloc(count + 2, sizeof *arguments);
    if (!arguments)
        return -ENOMEM;
    /* Before the others: behind "--" it would be none. */
    arguments[0] = program->arguments[0];
    arguments[1] = check;
    memcpy(arguments + 2, program->arguments + 1, (count - 1) * sizeof *arguments);
    int error = spawn_with(program, arguments, outlets, ret_pid);
    free(arguments);
    return error;
}

/* ---- its end ---- */

/* The beginning is kept, for people; the rest is taken too, because a full pipe would hold it up.
 */
static void take_output(struct rehearsal *rehearsal)
{
    char rest[4096];
    for (int i = 0; i < READS_PER_DISPATCH; i++) {
        size_t room = sizeof rehearsal->said - 1 - rehearsal->said_length;
        ssize_t length =
            room > 0 ? read(rehearsal->output, rehearsal->said + rehearsal->said_length, room)
                     : read(rehearsal->output, rest, sizeof rest);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0 && errno == EAGAIN)
            return;
        if (length <= 0) {
            rehearsal->output_source = sd_event_source_disable_unref(rehearsal->output_source);
            return;
        }
        if (room > 0)
            rehearsal->said_length += (size_t)length;
    }
}

static int on_output(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    (void)source;
    (void)fd;
    (void)events;
    take_output(userdata);
    return 0;
}

/* "/etc/holdfast/holdfast.conf: ok, 3 channels", as every version says it: other programs end with
 * 0 too, whatever they are asked. More than a pipe holds, it would not have ended. */
static bool is_holdfastd(const struct rehearsal *rehearsal)
{
    static const char mark[] = ": ok, ";
    static char answer[1 << 16];
    ssize_t length = read(rehearsal->answer, answer, sizeof answer - 1);
    answer[length > 0 ? length : 0] = '\0';
    const char *at = strstr(answer, mark);
    if (!at)
        return false;
    at += strlen(mark);
    size_t digits = strspn(at, "0123456789");
    return digits > 0 && strncmp(at + digits, " channel", strlen(" channel")) == 0;
}

static void describe_failure(const struct rehearsal *rehearsal, const siginfo_t *end, char *ret_why,
                             size_t size)
{
    const char *path = rehearsal->program->path, *said = rehearsal->said;
    char how[PROCESS_END_SIZE];
    int error = process_exec_error(end);
    process_describe_end(end, how, sizeof how);
    if (error == ENOENT || error == ENOTDIR || error == EACCES)
        snprintf(ret_why, size,
                 "the program is not where it was started from (%.200s: %s): install it first",
                 path, strerror(error));
    else if (error)
        snprintf(
            ret_why, size,
            "the program can't be executed (%.200s: %s): it is damaged, or for another machine",
            path, strerror(error));
    else
        snprintf(ret_why, size, "%.200s --check %s%s%s; this one goes on", path,
                 rehearsal->late ? "did not end within 5 s" : how, said[0] ? ": " : "", said);
}

static int on_exit_seen(sd_event_source *source, const siginfo_t *end, void *userdata)
{
    struct rehearsal *rehearsal = userdata;
    rehearsal_done done = rehearsal->done;
    void *data = rehearsal->data;
    char why[768];
    (void)source;

    take_output(rehearsal);
    rehearsal->said[strcspn(rehearsal->said, "\n")] = '\0';
    bool fit = end->si_code == CLD_EXITED && end->si_status == 0;
    if (!fit)
        describe_failure(rehearsal, end, why, sizeof why);
    else if (!is_holdfastd(rehearsal)) {
        snprintf(why, sizeof why,
                 "%.200s is another program: it doesn't answer --check as holdfastd",
                 rehearsal->program->path);
        fit = false;
    }
    reaper_unwatch(&rehearsal->exit_source); /* it is reaped after this */
    rehearsal_cancel(rehearsal);
    done(data, fit ? NULL : why);
    return 0;
}

static int on_deadline(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct rehearsal *rehearsal = userdata;
    (void)source;
    (void)time_us;
    rehearsal->late = true;
    sd_event_source_send_child_signal(rehearsal->exit_source, SIGKILL, NULL, 0);
    return 0;
}

bool rehearsal_is_under_way(const struct rehearsal *rehearsal)
{
    return rehearsal->program;
}

void rehearsal_cancel(struct rehearsal *rehearsal)
{
    if (!rehearsal_is_under_way(rehearsal))
        return;
    if (rehearsal->exit_source)
        sd_event_source_send_child_signal(rehearsal->exit_source, SIGKILL, NULL, 0);
    reaper_unwatch(&rehearsal->exit_source);
    sd_event_source_disable_unref(rehearsal->output_source);
    timer_disarm(&rehearsal->timer);
    fd_close(&rehearsal->answer);
    fd_close(&rehearsal->output);
    *rehearsal = (struct rehearsal){.done = rehearsal->done, .data = rehearsal->data};
}

/* Our ends don't wait. */
static int make_pipes(struct rehearsal *rehearsal, struct outlets *outlets)
{
    int answer[2] = {-1, -1}, output[2] = {-1, -1};
    int error = pipe2(answer, O_CLOEXEC) < 0 || pipe2(output, O_CLOEXEC) < 0 ? -errno : 0;
    rehearsal->answer = answer[0];
    rehearsal->output = output[0];
    outlets->answer = answer[1];
    outlets->output = output[1];
    if (!error)
        error = fd_set_nonblocking(answer[0]);
    if (!error)
        error = fd_set_nonblocking(output[0]);
    return error;
}

int rehearsal_start(struct rehearsal *rehearsal, sd_event *event, const struct program *program,
                    const struct rehearsal_circumstances *circumstances)
{
    struct outlets outlets = {.config = circumstances->config, .log_dir = circumstances->log_dir};
    *rehearsal =
        (struct rehearsal){.program = program, .done = rehearsal->done, .data = rehearsal->data};
    int error = make_pipes(rehearsal, &outlets);
    if (!error)
        error = spawn(program, &outlets, &rehearsal->pid);
    fd_close(&outlets.answer);
    fd_close(&outlets.output);
    if (!error) {
        error =
            reaper_watch(event, &rehearsal->exit_source, rehearsal->pid, on_exit_seen, rehearsal);
        if (error < 0) /* nobody would know of its end */
            kill(rehearsal->pid, SIGKILL);
    }
    if (error >= 0)
        error = sd_event_add_io(event, &rehearsal->output_source, rehearsal->output, EPOLLIN,
                                on_output, rehearsal);
    if (error >= 0)
        error = timer_arm(&rehearsal->timer, event, REHEARSAL_DEADLINE_NS, on_deadline, rehearsal);
    if (error < 0)
        rehearsal_cancel(rehearsal);
    return error < 0 ? error : 0;
}
