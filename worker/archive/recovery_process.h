/* SPDX-License-Identifier: MIT */
/* Processes of their own for RECOVER and SWEEP, which may read gigabytes and wait for those who
 * still hold a file: other channels' segments are made and sealed meanwhile, and a file that
 * somebody prepared to crash its reader takes nobody with it. */
#ifndef HOLDFAST_WORKER_ARCHIVE_RECOVERY_PROCESS_H
#define HOLDFAST_WORKER_ARCHIVE_RECOVERY_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/message.h"

/* One channel's folder may take long; with more of them at once, a disk would only be slower. */
#define RECOVERY_PROCESSES 4

struct recovery_process {
    pid_t pid; /* 0 = none */
    int ended; /* pidfd: readable when it has ended; -1 = none */
    char channel[CHANNEL_NAME_SIZE];
};

struct recovery_processes {
    struct recovery_process list[RECOVERY_PROCESSES];
};

void recovery_process_init(struct recovery_process *process);
void recovery_processes_init(struct recovery_processes *processes);

/* NULL: all are at work. */
struct recovery_process *recovery_processes_find_free(struct recovery_processes *processes);
/* Is one at work on this channel? */
bool recovery_processes_have(const struct recovery_processes *processes, const char *channel);
bool recovery_processes_any(const struct recovery_processes *processes);

/* fork(2) for this channel: 0 in the new process, which ends with the archive; its number in the
 * archive; -errno when there can be none. */
pid_t recovery_process_fork(struct recovery_process *process, const char *channel);

/* Without waiting: has it ended? */
bool recovery_process_has_ended(const struct recovery_process *process);
/* Then. true: it ended as it should, and has answered. false: ret_reason says what it died of. */
bool recovery_process_reap(struct recovery_process *process, char ret_reason[MESSAGE_REASON_SIZE]);

/* Nobody is interested in it any more. */
void recovery_process_kill(struct recovery_process *process);
void recovery_processes_kill(struct recovery_processes *processes);

#endif
