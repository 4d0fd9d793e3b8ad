/* SPDX-License-Identifier: MIT */
/* Descriptors that are kept for clients of the control socket: however short they have become,
 * somebody can ask what is wrong. */
#ifndef HOLDFAST_SUPERVISOR_CONTROL_CONTROL_RESERVE_H
#define HOLDFAST_SUPERVISOR_CONTROL_CONTROL_RESERVE_H

#include <stdbool.h>

#define CONTROL_CLIENTS_ALWAYS 4 /* clients that there is always a descriptor for ... */
#define CONTROL_RESERVE        (CONTROL_CLIENTS_ALWAYS + 1) /* ... and for telling the next one no */

struct control_reserve {
    int fds[CONTROL_RESERVE]; /* -1: not to be had, or lent to a client */
};

void control_reserve_init(struct control_reserve *reserve);
void control_reserve_close(struct control_reserve *reserve);

/* Take what is missing, as far as it is to be had: at once when a client's descriptor is closed,
 * before anybody else does. true when all is there. */
bool control_reserve_fill(struct control_reserve *reserve);

/* accept4(2), nonblocking and CLOEXEC; where descriptors are short, at the reserve's cost.
 * -1 with errno. */
int control_reserve_accept(struct control_reserve *reserve, int listening);

#endif
