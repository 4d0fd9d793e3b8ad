/* SPDX-License-Identifier: MIT */
/* Runs the program at our own path with --check and keeps what it says. Called by upgrade.c. Must
 * never wait for it: it may hang, write without end, or not be a program at all. */
#include "supervisor/rehearsal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/monotonic.h"

#define REHEARSAL_DEADLINE_NS (5 * NS_PER_S)

/* Its arguments are ours, and one more. It must not speak to the service manager, nor take what is
 * not for it: it gets no environment. */
static int spawn_with(const struct program *program, char *const *arguments, int output,
                      pid_t *ret_pid)
{
    char *environment[] = {NULL};
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere < 0)
        return -errno;
    const struct process_fd fds[] = {{output, STDERR_FILENO}, {nowhere, STDOUT_FILENO}};
    struct process_plan plan = {.path = program->path,
                                .arguments = arguments,
                                .environment = environment,
                                .fds = fds,
                                .fd_count = 2};
    int error = process_spawn(&plan, ret_pid);
    fd_close(&nowhere);
    return error;
}

static int spawn(const struct program *program, int output, pid_t *ret_pid)
{
    char check[] = "--check";
    size_t count = 0;
    while (program->arguments[count])
        count++;
    char **arguments = calloc(count + 2, sizeof *arguments);
    if (!arguments)
        return -ENOMEM;
    memcpy(arguments, program->arguments, count * sizeof *arguments);
    arguments[count] = check;
    int error = spawn_with(program, arguments, output, ret_pid);
    free(arguments);
    return error;
}

/* ---- its end ---- */

/* The first line of what it said, for people. */
static void read_first_line(int fd, char *ret_line, size_t size)
{
    ssize_t length = read(fd, ret_line, size - 1);
    ret_line[length > 0 ? length : 0] = '\0';
    ret_line[strcspn(ret_line, "\n")] = '\0';
}

static int on_exit_seen(sd_event_source *source, const siginfo_t *end, void *userdata)
{
    struct rehearsal *rehearsal = userdata;
    rehearsal_done done = rehearsal->done;
    void *data = rehearsal->data;
    char line[256], how[64], why[640];
    (void)source;

    process_describe_end(end, how, sizeof how);
    read_first_line(rehearsal->output, line, sizeof line);
    bool fit = end->si_code == CLD_EXITED && end->si_status == 0;
    snprintf(why, sizeof why, "%.200s --check %s%s%s; this one goes on", rehearsal->program->path,
             rehearsal->late ? "did not end within 5 s" : how, line[0] ? ": " : "", line);
    rehearsal->exit_source =
        sd_event_source_disable_unref(rehearsal->exit_source); /* it is reaped after this */
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
    return rehearsal->done;
}

void rehearsal_cancel(struct rehearsal *rehearsal)
{
    if (!rehearsal_is_under_way(rehearsal))
        return;
    if (rehearsal->exit_source)
        sd_event_source_send_child_signal(rehearsal->exit_source, SIGKILL, NULL, 0);
    sd_event_source_disable_unref(rehearsal->exit_source);
    timer_disarm(&rehearsal->timer);
    fd_close(&rehearsal->output);
    *rehearsal = (struct rehearsal){0};
}

int rehearsal_start(struct rehearsal *rehearsal, sd_event *event, const struct program *program,
                    rehearsal_done done, void *data)
{
    int ends[2] = {-1, -1};
    int error = pipe2(ends, O_CLOEXEC) < 0 ? -errno : 0;
    *rehearsal =
        (struct rehearsal){.program = program, .done = done, .data = data, .output = ends[0]};
    if (!error)
        error = fd_set_nonblocking(ends[0]);
    if (!error)
        error = spawn(program, ends[1], &rehearsal->pid);
    fd_close(&ends[1]);
    if (!error) {
        error = sd_event_add_child(event, &rehearsal->exit_source, rehearsal->pid, WEXITED,
                                   on_exit_seen, rehearsal);
        if (error < 0) { /* nobody would wait for it */
            kill(rehearsal->pid, SIGKILL);
            waitpid(rehearsal->pid, NULL, WNOHANG);
        }
    }
    if (error >= 0)
        error = timer_arm(&rehearsal->timer, event, REHEARSAL_DEADLINE_NS, on_deadline, rehearsal);
    if (error < 0)
        rehearsal_cancel(rehearsal);
    return error < 0 ? error : 0;
}
