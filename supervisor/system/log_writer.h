/* SPDX-License-Identifier: MIT */
/* A process that writes the log to its file, so that nobody else waits for that file's disk. */
#ifndef HOLDFAST_SUPERVISOR_SYSTEM_LOG_WRITER_H
#define HOLDFAST_SUPERVISOR_SYSTEM_LOG_WRITER_H

#include <sys/types.h>
#include <systemd/sd-event.h>

#include "common/monotonic.h"
#include "supervisor/system/timer.h"

struct log_writer {
    int pipe; /* that it reads; -1 when there is none */
    int file; /* that it writes */
    pid_t pid;
    monotonic started;
    sd_event *event;
    sd_event_source *source;
    struct timer timer;
};

/* When standard error is a file: have a process write there, and make standard error the pipe that
 * leads to it, also for every child. Anything else is left as it is. before: pipe, file and pid of
 * the one that this program had before it was executed anew; -1 and 0 when there is none. Call
 * log_open() afterwards. 0 or -errno. */
int log_writer_start(const struct log_writer *before);
/* For who executes this program anew. */
const struct log_writer *log_writer_get(void);

/* Should it end, another one takes its place, and what was in the pipe is written. Until
 * log_writer_unwatch(). */
void log_writer_watch(sd_event *event);
void log_writer_unwatch(void);

/* What was logged is handed to the file, and the process ends; a disk that doesn't answer is not
 * waited for longer than a second. Nothing is to be logged afterwards. Call it when every other
 * child has ended. */
void log_writer_finish(void);

#endif
