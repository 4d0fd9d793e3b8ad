/* SPDX-License-Identifier: MIT */
/* Programs: which ones there are, how one is started, and how its end reads. */
#ifndef HOLDFAST_SUPERVISOR_SYSTEM_PROCESS_H
#define HOLDFAST_SUPERVISOR_SYSTEM_PROCESS_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The number of a descriptor of the worker, from the same program before it was executed again. */
#define PROGRAM_WORKER_VARIABLE "HOLDFAST_WORKER_FD"
/* Where that program had its worker installed. */
#define PROGRAM_WORKER_PATH_VARIABLE "HOLDFAST_WORKER"
/* What it has to say about that. */
#define PROGRAM_TROUBLE_VARIABLE "HOLDFAST_TROUBLE"
/* Where it is installed: what is executed by descriptor has no other name. */
#define PROGRAM_PATH_VARIABLE "HOLDFAST_PROGRAM"
/* The number of a descriptor with the configuration's text, to be read instead of the file. */
#define PROGRAM_CONFIG_VARIABLE "HOLDFAST_CONFIG_FD"
/* Numbers of the descriptors of the process that writes the log, and its pid: log_writer.h. */
#define PROGRAM_LOG_PIPE_VARIABLE "HOLDFAST_LOG_PIPE_FD"
#define PROGRAM_LOG_FILE_VARIABLE "HOLDFAST_LOG_FILE_FD"
#define PROGRAM_LOG_PID_VARIABLE  "HOLDFAST_LOG_PID"
/* --check before an upgrade: where the present program records. */
#define PROGRAM_FORMER_LOG_DIR_VARIABLE "HOLDFAST_FORMER_LOG_DIR"
/* --check: the number of one into which the text goes that was checked. */
#define PROGRAM_CONFIG_COPY_VARIABLE "HOLDFAST_CONFIG_COPY_FD"

/* Enough for the name of a program that is pinned by a descriptor. */
#define PROCESS_PIN_SIZE 32

/* Where this program and its worker are, and how it was called. */
struct program {
    char path[4096];
    char worker_path[4096];
    char worker_beside[4096]; /* where it may be as well: beside this very program; or "" */
    /* The worker that was there when this program started, whatever has become of its path since: a
     * running supervisor must not start one that speaks another version's language. "": there was
     * none. */
    char worker_program[PROCESS_PIN_SIZE];
    char **arguments; /* main()'s */
    int config; /* a memory file with the text of the configuration that it runs with; or -1 */
};

/* A descriptor, and the number under which the new process has it. */
struct process_fd {
    int fd;
    int as;
};

struct process_plan {
    const char *path;
    char *const *arguments;
    char *const *environment;
    /* Placed in this order, so no source is the number of an earlier one. Nothing else is inherited
     * beyond 0, 1 and 2. */
    const struct process_fd *fds;
    uint32_t fd_count;
};

/* Start it with default signals, an empty mask and a process group of its own. Doesn't wait until
 * it is executed: that this failed shows at its end. 0 or -errno. */
int process_spawn(const struct process_plan *plan, pid_t *ret_pid);

/* Why what has ended here is a process that could not become the program: an errno; 0 when it did.
 */
int process_exec_error(const siginfo_t *end);

/* Our environment without what systemd told this process alone. The caller frees the list, not its
 * entries. NULL: no memory. */
char **process_child_environment(void);

/* A descriptor of a program, of this number at least; -errno. */
int process_hold(const char *path, int least);

/* Keep a program by a descriptor: what is executed by this name is the same file, whatever becomes
 * of its path. 0 or -errno. */
int process_pin(const char *path, char ret_name[PROCESS_PIN_SIZE]);

/* The state letter of proc(5) of one of its threads: 'D' sleeps without interruption, 'T' is
 * stopped;
 * '?' when there is none of that number. Reading it takes no lock that a thread could hold while it
 * waits for a disk. */
char process_task_state(pid_t pid, uint32_t thread_id);

/* All of this child's threads are dead, but waitid(2) says nothing of it, because somebody who
 * traces them has not let go: what it would say. A thread that another one made while this looked
 * is overlooked: believe it when it is so twice. */
bool process_end_is_withheld(pid_t pid, siginfo_t *ret_end);

/* "was killed by SIGSEGV", "exited with status 1", "can't be executed: No such file or directory:
 * /usr/..": what waitid(2) said. */
#define PROCESS_END_SIZE 256
void process_describe_end(const siginfo_t *end, char *ret_text, size_t size);

#endif
