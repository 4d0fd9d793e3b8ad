/* SPDX-License-Identifier: MIT */
/* Runs the program at our own path with --check and keeps what it says. Called by upgrade.c. Must
 * never wait for it: it may hang, write without end, or not be a program at all. */
#include "supervisor/rehearsal.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"

#define REHEARSAL_DEADLINE_NS (5 * NS_PER_S)

struct rehearsal {
    rehearsal_done done;
    pid_t pid;
    int output; /* what it writes to its standard error; nonblocking */
    sd_event_source *exit_source;
    sd_event_source *timer;
    bool late;
};

/* Its arguments are ours, and one more. It must not speak to the service manager, nor take what is
 * not for it. */
static int spawn_with(const struct supervisor *supervisor, char **arguments, int output,
                      pid_t *ret_pid)
{
    char *environment[] = {NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    int error = posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
    if (!error)
        error = posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (!error)
        error = posix_spawnattr_setflags(
            &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    if (!error)
        error = posix_spawnattr_setsigmask(&attributes, &none);
    if (!error)
        error = posix_spawnattr_setsigdefault(&attributes, &all);
    if (!error)
        error = posix_spawnattr_setpgroup(&attributes, 0);
    if (!error)
        error = posix_spawn(ret_pid, supervisor->program_path, &actions, &attributes, arguments,
                            environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return -error;
}

static int spawn(const struct supervisor *supervisor, int output, pid_t *ret_pid)
{
    char check[] = "--check";
    size_t count = 0;
    while (supervisor->arguments[count])
        count++;
    char **arguments = calloc(count + 2, sizeof *arguments);
    if (!arguments)
        return -ENOMEM;
    memcpy(arguments, supervisor->arguments, count * sizeof *arguments);
    arguments[count] = check;
    int error = spawn_with(supervisor, arguments, output, ret_pid);
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
    struct supervisor *supervisor = userdata;
    struct rehearsal *rehearsal = supervisor->rehearsal;
    rehearsal_done done = rehearsal->done;
    char line[256], how[64], why[640];
    (void)source;

    child_describe_end(end, how, sizeof how);
    read_first_line(rehearsal->output, line, sizeof line);
    bool fit = end->si_code == CLD_EXITED && end->si_status == 0;
    snprintf(why, sizeof why, "%.200s --check %s%s%s; this one goes on", supervisor->program_path,
             rehearsal->late ? "did not end within 5 s" : how, line[0] ? ": " : "", line);
    rehearsal->exit_source =
        sd_event_source_disable_unref(rehearsal->exit_source); /* it is reaped after this */
    rehearsal_cancel(supervisor);
    done(supervisor, fit ? NULL : why);
    return 0;
}

static int on_deadline(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct supervisor *supervisor = userdata;
    (void)source;
    (void)time_us;
    supervisor->rehearsal->late = true;
    sd_event_source_send_child_signal(supervisor->rehearsal->exit_source, SIGKILL, NULL, 0);
    return 0;
}

void rehearsal_cancel(struct supervisor *supervisor)
{
    struct rehearsal *rehearsal = supervisor->rehearsal;
    supervisor->rehearsal = NULL;
    if (!rehearsal)
        return;
    if (rehearsal->exit_source)
        sd_event_source_send_child_signal(rehearsal->exit_source, SIGKILL, NULL, 0);
    sd_event_source_disable_unref(rehearsal->exit_source);
    sd_event_source_disable_unref(rehearsal->timer);
    fd_close(&rehearsal->output);
    free(rehearsal);
}

int rehearsal_start(struct supervisor *supervisor, rehearsal_done done)
{
    int ends[2] = {-1, -1};
    struct rehearsal *rehearsal = calloc(1, sizeof *rehearsal);
    if (!rehearsal)
        return -ENOMEM;
    int error = pipe2(ends, O_CLOEXEC) < 0 ? -errno : 0;
    rehearsal->done = done;
    rehearsal->output = ends[0];
    supervisor->rehearsal = rehearsal;
    if (!error)
        error = fd_set_nonblocking(ends[0]);
    if (!error)
        error = spawn(supervisor, ends[1], &rehearsal->pid);
    fd_close(&ends[1]);
    if (!error) {
        error = sd_event_add_child(supervisor->event, &rehearsal->exit_source, rehearsal->pid,
                                   WEXITED, on_exit_seen, supervisor);
        if (error < 0) { /* nobody would wait for it */
            kill(rehearsal->pid, SIGKILL);
            waitpid(rehearsal->pid, NULL, WNOHANG);
        }
    }
    if (error >= 0)
        error = supervisor_arm(supervisor, &rehearsal->timer, REHEARSAL_DEADLINE_NS, on_deadline,
                               supervisor);
    if (error < 0)
        rehearsal_cancel(supervisor);
    return error < 0 ? error : 0;
}
