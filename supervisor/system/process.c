/* SPDX-License-Identifier: MIT */
/* Starts programs with posix_spawn(3), which never copies this process. Used for workers, the
 * archive and rehearsals. Must never let a descriptor or a word of the service manager slip into a
 * process that it was not meant for. */
#include "supervisor/system/process.h"

#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/death.h"
#include "common/fd.h"

/* A process group of its own: Ctrl-C on a terminal is meant for the supervisor, which stops its
 * workers in order. */
static int set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    sigdelset(&all,
              SIGPIPE); /* stays ignored: who logs to a reader that is gone must not die of it */
    int error = posix_spawnattr_setflags(
        attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    if (!error)
        error = posix_spawnattr_setsigmask(attributes, &none);
    if (!error)
        error = posix_spawnattr_setsigdefault(attributes, &all);
    if (!error)
        error = posix_spawnattr_setpgroup(attributes, 0);
    return error;
}

int process_spawn(const struct process_plan *plan, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;

    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    int error = set_attributes(&attributes);
    /* dup2 clears CLOEXEC, also (POSIX.1-2024, glibc 2.29) when the descriptor has this number
     * already. Everything else closes. */
    for (uint32_t i = 0; i < plan->fd_count && !error; i++)
        error = posix_spawn_file_actions_adddup2(&actions, plan->fds[i].fd, plan->fds[i].as);
    if (!error)
        error = posix_spawn(ret_pid, plan->path, &actions, &attributes, plan->arguments,
                            plan->environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return -error;
}

/* What systemd told the supervisor is not for its children: they must not speak to it in our name.
 */
static bool is_private_variable(const char *entry)
{
    static const char *const names[] = {"NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=",
                                        "LISTEN_FDS=",    "LISTEN_PID=",    "LISTEN_FDNAMES="};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strncmp(entry, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

char **process_child_environment(void)
{
    size_t count = 0, kept = 0;
    while (environ[count])
        count++;
    char **copy = calloc(count + 1, sizeof *copy);
    for (size_t i = 0; copy && i < count; i++)
        if (!is_private_variable(environ[i]))
            copy[kept++] = environ[i];
    return copy;
}

char process_task_state(pid_t pid, uint32_t thread_id)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/task/%u/stat", (int)pid, thread_id);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return '?';
    ssize_t length = read(fd, text, sizeof text - 1);
    fd_close(&fd);
    text[length > 0 ? length : 0] = '\0';
    const char *end = strrchr(text, ')'); /* of the name, which may hold anything */
    return end && end[1] == ' ' && end[2] ? end[2] : '?';
}

void process_describe_end(const siginfo_t *end, char *ret_text, size_t size)
{
    if (end->si_code == CLD_EXITED) {
        snprintf(ret_text, size, "exited with status %d", end->si_status);
        return;
    }
    char name[SIGNAL_NAME_SIZE];
    snprintf(ret_text, size, "was killed by %s%s", signal_name(end->si_status, name),
             end->si_code == CLD_DUMPED ? " (core dumped)" : "");
}
