/* SPDX-License-Identifier: MIT */
/* The control socket: JSON-RPC 2.0, one object per line, on a SOCK_STREAM Unix socket. */
#ifndef HOLDFAST_SUPERVISOR_CONTROL_CONTROL_H
#define HOLDFAST_SUPERVISOR_CONTROL_CONTROL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct supervisor;
struct control;

/* Listen where the settings say (removes a stale socket, refuses to displace a living daemon). 0,
 * or -errno with why. */
int control_open(struct supervisor *supervisor, struct control **ret, char *why, size_t why_size);
void control_close(struct control *control);

/* *ret_code of a verb that is answered later: the connection takes no further request before. */
#define CONTROL_LATER 1

/* Everybody who asked for an upgrade: it begins now, or why not. Accepts a NULL control. */
void control_answer_upgrade(struct control *control, const char *why);

/* One verb (control_verbs.c). Returns a new reference: the result, or NULL with *ret_code (JSON-RPC
 * error code) and *ret_error (new reference: the error's message as a JSON string), or NULL for
 * both with CONTROL_LATER. peer is from SO_PEERCRED. */
json_t *control_verb(struct supervisor *supervisor, const struct ucred *peer, const char *method,
                     const json_t *params, int *ret_code, json_t **ret_error);

#endif
