/* SPDX-License-Identifier: MIT */
/* Starts programs, and doesn't wait until they are executed: reading a program waits for its disk,
 * and posix_spawn(3) and vfork(2) let the parent wait for that. Used for workers, the archive and
 * rehearsals. Must never let a descriptor or a word of the service manager slip into a process that
 * it was not meant for. */
#include "supervisor/system/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/death.h"
#include "common/fd.h"

#define NOT_EXECUTED    127 /* exit status, as of a shell */
#define PINNED_FD_LEAST 64  /* above what a child is given by number */

/* ---- what could not be executed ---- */

/* Written by the process that was to become a program, in memory that it shares with this one: a
 * pipe for each would be one descriptor more for each. */
struct failure {
    int error; /* 0: none */
    char path[252];
};

#define FAILURES 512 /* of the newest processes */

static struct failure *failures;
static pid_t pids[FAILURES];
static unsigned spawned;

static struct failure *next_failure(void)
{
    if (!failures) {
        void *memory = mmap(NULL, FAILURES * sizeof *failures, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            return NULL;
        failures = memory;
    }
    struct failure *failure = &failures[spawned % FAILURES];
    failure->error = 0;
    return failure;
}

static const struct failure *find_failure(const siginfo_t *end)
{
    if (!failures || end->si_code != CLD_EXITED || end->si_status != NOT_EXECUTED)
        return NULL;
    for (unsigned i = 1; i <= FAILURES; i++) { /* the newest of that number */
        unsigned place = (spawned - i) % FAILURES;
        if (pids[place] == end->si_pid)
            return failures[place].error ? &failures[place] : NULL;
    }
    return NULL;
}

int process_exec_error(const siginfo_t *end)
{
    const struct failure *failure = find_failure(end);
    return failure ? failure->error : 0;
}

/* ---- in the new process ---- */

#define BY_DESCRIPTOR "/proc/self/fd/"

static void note_failure(struct failure *failure, const char *path, int error)
{
    ssize_t length = -1;
    if (strncmp(path, BY_DESCRIPTOR, strlen(BY_DESCRIPTOR)) == 0)
        length = readlink(path, failure->path, sizeof failure->path - 1);
    if (length > 0)
        failure->path[length] = '\0';
    else
        snprintf(failure->path, sizeof failure->path, "%s", path);
    failure->error = error;
}

/* A process group of its own: Ctrl-C on a terminal is meant for the supervisor, which stops its
 * workers in order. */
static void set_attributes(void)
{
    sigset_t none;
    setpgid(0, 0);
    for (int number = 1; number < NSIG; number++)
        if (number != SIGPIPE) /* stays ignored: who logs to a reader that is gone must not die */
            signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* dup2 clears CLOEXEC, but not when the descriptor has this number already. Returns the first
 * number behind them, or -errno. */
static int place_fds(const struct process_plan *plan)
{
    int behind = STDERR_FILENO + 1;
    for (uint32_t i = 0; i < plan->fd_count; i++) {
        int fd = plan->fds[i].fd, as = plan->fds[i].as;
        if ((fd == as ? fcntl(fd, F_SETFD, 0) : dup2(fd, as)) < 0)
            return -errno;
        if (as >= behind)
            behind = as + 1;
    }
    return behind;
}

/* Everything else is closed before the program is read: who waits for a disk there, perhaps for
 * ever, must not keep a socket bound, or a worker from seeing that its supervisor is gone. */
static int keep_only(int behind, const char **path, char *buffer, size_t size)
{
    int program = -1;
    if (strncmp(*path, BY_DESCRIPTOR, strlen(BY_DESCRIPTOR)) == 0)
        program = atoi(*path + strlen(BY_DESCRIPTOR));
    if (program >= behind) {
        if (program > behind && dup3(program, behind, O_CLOEXEC) < 0)
            return -errno;
        snprintf(buffer, size, BY_DESCRIPTOR "%d", behind++);
        *path = buffer;
    }
    close_range((unsigned)behind, ~0U, 0); /* where it is unknown, CLOEXEC closes them */
    return 0;
}

_Noreturn static void become(const struct process_plan *plan, struct failure *failure)
{
    const char *path = plan->path;
    char buffer[sizeof BY_DESCRIPTOR + 12];
    set_attributes();
    int error = place_fds(plan);
    if (error >= 0)
        error = keep_only(error, &path, buffer, sizeof buffer);
    if (error >= 0) {
        execve(path, plan->arguments, plan->environment);
        error = -errno;
    }
    if (failure)
        note_failure(failure, path, -error);
    _exit(NOT_EXECUTED);
}

/* fork(2) copies the tables of this process' own memory, which is small: what the channels share
 * with their workers is not handed on (MADV_DONTFORK). */
int process_spawn(const struct process_plan *plan, pid_t *ret_pid)
{
    struct failure *failure = next_failure();
    pid_t pid = fork();
    if (pid == 0)
        become(plan, failure);
    if (pid < 0)
        return -errno;
    pids[spawned++ % FAILURES] = pid;
    *ret_pid = pid;
    return 0;
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

int process_hold(const char *path, int least)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, least);
    int error = high < 0 ? -errno : 0;
    fd_close(&fd);
    return error < 0 ? error : high;
}

int process_pin(const char *path, char ret_name[PROCESS_PIN_SIZE])
{
    int fd = process_hold(path, PINNED_FD_LEAST);
    if (fd < 0)
        return fd;
    snprintf(ret_name, PROCESS_PIN_SIZE, BY_DESCRIPTOR "%d", fd);
    return 0;
}

/* What stands behind the name, which may hold anything; NULL. */
static const char *read_stat(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    ssize_t length = read(fd, text, size - 1);
    fd_close(&fd);
    text[length > 0 ? length : 0] = '\0';
    const char *end = strrchr(text, ')');
    return end && end[1] == ' ' && end[2] ? end + 2 : NULL;
}

char process_task_state(pid_t pid, uint32_t thread_id)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/task/%u/stat", (int)pid, thread_id);
    const char *state = read_stat(path, text, sizeof text);
    return state ? *state : '?';
}

#define FIELDS_TO_EXIT_CODE (52 - 3) /* from the state on */

static int read_exit_code(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    const char *at = read_stat(path, text, sizeof text);
    for (int i = 0; at && i < FIELDS_TO_EXIT_CODE; i++) {
        at = strchr(at, ' ');
        at = at ? at + 1 : NULL;
    }
    return at ? atoi(at) : SIGKILL;
}

/* A zombie has let go of its memory and descriptors before it became one. */
static bool is_all_zombies(pid_t pid)
{
    char path[64];
    const struct dirent *entry;
    bool all = true, any = false;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    while (tasks && all && (entry = readdir(tasks))) {
        char *end;
        unsigned long id = strtoul(entry->d_name, &end, 10);
        if (*end || id == 0)
            continue;
        any = true;
        all = process_task_state(pid, (uint32_t)id) == 'Z';
    }
    if (tasks)
        closedir(tasks);
    return all && any;
}

bool process_end_is_withheld(pid_t pid, siginfo_t *ret_end)
{
    siginfo_t end = {0};
    if (!is_all_zombies(pid) || waitid(P_PID, (id_t)pid, &end, WEXITED | WNOHANG | WNOWAIT) < 0 ||
        end.si_pid == pid)
        return false;
    int status = read_exit_code(pid);
    *ret_end = (siginfo_t){.si_signo = SIGCHLD, .si_code = CLD_EXITED};
    ret_end->si_pid = pid;
    ret_end->si_status = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) {
        ret_end->si_code = WCOREDUMP(status) ? CLD_DUMPED : CLD_KILLED;
        ret_end->si_status = WTERMSIG(status);
    }
    return true;
}

void process_describe_end(const siginfo_t *end, char *ret_text, size_t size)
{
    const struct failure *failure = find_failure(end);
    if (failure) {
        snprintf(ret_text, size, "can't be executed: %s: %s", strerror(failure->error),
                 failure->path);
        return;
    }
    if (end->si_code == CLD_EXITED) {
        snprintf(ret_text, size, "exited with status %d", end->si_status);
        return;
    }
    char name[SIGNAL_NAME_SIZE];
    snprintf(ret_text, size, "was killed by %s%s", signal_name(end->si_status, name),
             end->si_code == CLD_DUMPED ? " (core dumped)" : "");
}
