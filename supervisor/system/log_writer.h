/* SPDX-License-Identifier: MIT */
/* A process that writes the log to its file, so that nobody else waits for that file's disk. */
#ifndef HOLDFAST_SUPERVISOR_SYSTEM_LOG_WRITER_H
#define HOLDFAST_SUPERVISOR_SYSTEM_LOG_WRITER_H

/* When standard error is a file: have a process write there, and make standard error the pipe that
 * leads to it, also for every child. Anything else is left as it is. Call log_open() afterwards.
 * 0 or -errno. */
int log_writer_start(void);

/* What was logged is handed to the file, and the process ends; a disk that doesn't answer is not
 * waited for longer than a second. Nothing is to be logged afterwards. Call it when every other
 * child has ended. */
void log_writer_finish(void);

#endif
