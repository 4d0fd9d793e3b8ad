/* SPDX-License-Identifier: MIT */
/* Called by archive.c alone, which has one thread: the new process may do whatever that could. It
 * must be gone before another archive begins: it dies with this one, and recovery.c locks the
 * channel's folder beside. */
#include "worker/archive/recovery_process.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"

void recovery_process_init(struct recovery_process *process)
{
    *process = (struct recovery_process){.ended = -1};
}

void recovery_processes_init(struct recovery_processes *processes)
{
    for (int i = 0; i < RECOVERY_PROCESSES; i++)
        recovery_process_init(&processes->list[i]);
}

struct recovery_process *recovery_processes_find_free(struct recovery_processes *processes)
{
    for (int i = 0; i < RECOVERY_PROCESSES; i++)
        if (processes->list[i].pid == 0)
            return &processes->list[i];
    return NULL;
}

bool recovery_processes_have(const struct recovery_processes *processes, const char *channel)
{
    for (int i = 0; i < RECOVERY_PROCESSES; i++)
        if (processes->list[i].pid > 0 && strcmp(processes->list[i].channel, channel) == 0)
            return true;
    return false;
}

bool recovery_processes_any(const struct recovery_processes *processes)
{
    for (int i = 0; i < RECOVERY_PROCESSES; i++)
        if (processes->list[i].pid > 0)
            return true;
    return false;
}

pid_t recovery_process_fork(struct recovery_process *process, const char *channel)
{
    pid_t archive = getpid();
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != archive)
            _exit(EXIT_FAILURE);
        return 0;
    }
    process->pid = pid;
    process->ended = (int)syscall(SYS_pidfd_open, pid, 0); /* close-on-exec by nature */
    snprintf(process->channel, sizeof process->channel, "%s", channel);
    return pid;
}

bool recovery_process_has_ended(const struct recovery_process *process)
{
    struct pollfd ended = {.fd = process->ended, .events = POLLIN};
    return process->pid > 0 && (ended.fd < 0 || poll(&ended, 1, 0) > 0);
}

static int await(struct recovery_process *process)
{
    int status = 0;
    pid_t result;
    do
        result = waitpid(process->pid, &status, 0);
    while (result < 0 && errno == EINTR);
    fd_close(&process->ended);
    process->pid = 0;
    return status;
}

bool recovery_process_reap(struct recovery_process *process, char ret_reason[MESSAGE_REASON_SIZE])
{
    int status = await(process);
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS)
        return true;
    if (WIFSIGNALED(status))
        snprintf(ret_reason, MESSAGE_REASON_SIZE,
                 "recovering it was ended by signal %d (%s): is a file in it made to do that? Move "
                 "away what holdfastctl verify can't read",
                 WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(ret_reason, MESSAGE_REASON_SIZE, "recovering it ended with status %d",
                 WEXITSTATUS(status));
    return false;
}

void recovery_process_kill(struct recovery_process *process)
{
    if (process->pid == 0)
        return;
    kill(process->pid, SIGKILL);
    await(process);
}

void recovery_processes_kill(struct recovery_processes *processes)
{
    for (int i = 0; i < RECOVERY_PROCESSES; i++)
        recovery_process_kill(&processes->list[i]);
}
