/* SPDX-License-Identifier: MIT */
/* Where a socket that clients connect to lies in the file system: claiming the path, its mode and
 * group, and giving it back. */
#ifndef HOLDFAST_SUPERVISOR_SYSTEM_LISTENING_H
#define HOLDFAST_SUPERVISOR_SYSTEM_LISTENING_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define LISTENING_PATH_SIZE 108 /* sun_path */

/* What it is to be like. */
struct listening_plan {
    const char *section; /* of the configuration: "control" */
    int type;            /* SOCK_STREAM, SOCK_SEQPACKET */
    int backlog;         /* connections that may wait */
    const char *path;    /* NULL for listening_take(): there is to be none any more */
    mode_t mode;
    const char *group; /* "" = leave it; less than 64 bytes */
    /* Variables for the program that an upgrade executes. "<gid> <name>": the group as it was
     * looked up; asking again may take as long as a directory service does, while datagrams queue.
     * And what is handed on beside the descriptor: the path as it was made, and the settings that
     * it was made by. */
    const char *group_variable, *kept_variable;
};

/* The group of the control socket, and of any other that has the same one. */
#define CONTROL_GROUP_VARIABLE "HOLDFAST_CONTROL_GROUP"

struct listening {
    int fd; /* nonblocking; -1 when closed */
    char path[LISTENING_PATH_SIZE];
    dev_t device; /* of the path as we made it */
    ino_t inode;
};

/* Listen there, with its mode and group. Makes the path's last folder when it is missing, removes a
 * socket on which nobody answers, or only a child of a daemon that has ended. 0; -EADDRINUSE when a
 * daemon lives there; or -errno. why says what to do. patient: it may take some 300 ms to tell a
 * daemon that lives from one that has just ended. */
int listening_open(const struct listening_plan *plan, bool patient, struct listening *ret,
                   char *why, size_t why_size);

/* Leave it to the program that is executed next, which calls listening_take(): whoever connects
 * meanwhile waits in its backlog. The descriptor; -1 when there is nothing to leave, because the
 * path is another's by now. The caller's to close. */
int listening_leave(struct listening *socket, const struct listening_plan *plan);

/* Go on with what was left, if it is as this plan wants it; else it is closed, and its path
 * removed. fd is taken over; -1 when nothing was left. */
bool listening_take(int fd, const struct listening_plan *plan, struct listening *ret);

/* Close, and remove the path if it is still the one that was made. */
void listening_close(struct listening *socket);

#endif
