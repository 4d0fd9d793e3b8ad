/* SPDX-License-Identifier: MIT */
/* A process of its own for each RECOVER, which may read gigabytes and wait for those who still hold
 * a file: other channels' segments are made and sealed meanwhile, and a file that somebody prepared
 * to crash its reader takes nobody with it. One at a time. */
#ifndef HOLDFAST_WORKER_ARCHIVE_RECOVERY_PROCESS_H
#define HOLDFAST_WORKER_ARCHIVE_RECOVERY_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/message.h"

struct recovery_process {
    pid_t pid; /* 0 = none */
    int ended; /* pidfd: readable when it has ended; -1 = none */
    char channel[CHANNEL_NAME_SIZE];
};

void recovery_process_init(struct recovery_process *process);

/* fork(2) for this channel: 0 in the new process, which ends with the archive; its number in the
 * archive; -errno when there can be none. */
pid_t recovery_process_fork(struct recovery_process *process, const char *channel);

/* Is it at work on this channel? */
bool recovery_process_has(const struct recovery_process *process, const char *channel);

/* After `ended` was readable. true: it ended as it should, and has answered. false: ret_reason says
 * what it died of. */
bool recovery_process_reap(struct recovery_process *process, char ret_reason[MESSAGE_REASON_SIZE]);

/* Nobody is interested in it any more. */
void recovery_process_kill(struct recovery_process *process);

#endif
