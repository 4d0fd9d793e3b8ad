/* SPDX-License-Identifier: MIT */
/* Where the control socket lies in the file system: claiming the path, its mode and group, and
 * giving it back. */
#ifndef HOLDFAST_SUPERVISOR_CONTROL_CONTROL_SOCKET_H
#define HOLDFAST_SUPERVISOR_CONTROL_CONTROL_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct settings;

/* "<gid> <name>": the group as it was looked up, for the program that an upgrade executes. Asking
 * again may take as long as a directory service does, while datagrams queue. */
#define CONTROL_GROUP_VARIABLE "HOLDFAST_CONTROL_GROUP"

/* What is handed on to that program beside the descriptor: the path as it was made, and the
 * settings that it was made by. */
#define CONTROL_KEPT_VARIABLE "HOLDFAST_CONTROL_SOCKET"

struct control_socket {
    int fd; /* listening, nonblocking; -1 when closed */
    char path[108];
    dev_t device; /* of the path as we made it */
    ino_t inode;
};

/* Listen at settings->control_socket with its mode and group. Makes the path's last folder when it
 * is missing, removes a socket on which nobody answers. 0; -EADDRINUSE when a daemon lives there;
 * or -errno. why says what to do. patient: it may take some 300 ms to tell a daemon that lives from
 * one that has just ended. */
int control_socket_open(const struct settings *settings, bool patient, struct control_socket *ret,
                        char *why, size_t why_size);

/* Leave it to the program that is executed next, which calls control_socket_take(): whoever
 * connects meanwhile waits in its backlog. The descriptor; -1 when there is nothing to leave,
 * because the path is another's by now. The caller's to close. */
int control_socket_leave(struct control_socket *socket, const struct settings *settings);

/* Go on with what was left, if it is as these settings want it; else it is closed, and its path
 * removed. fd is taken over; -1 when nothing was left. */
bool control_socket_take(int fd, const struct settings *settings, struct control_socket *ret);

/* Close, and remove the path if it is still the one that was made. */
void control_socket_close(struct control_socket *socket);

#endif
