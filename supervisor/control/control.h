/* SPDX-License-Identifier: MIT */
/* The control socket: JSON-RPC 2.0, one object per line, on a SOCK_STREAM Unix socket. */
#ifndef HOLDFAST_SUPERVISOR_CONTROL_CONTROL_H
#define HOLDFAST_SUPERVISOR_CONTROL_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

#include "supervisor/config/settings.h"
#include "supervisor/control/control_client.h"
#include "supervisor/system/listening.h"

#define CONTROL_KEPT_VARIABLE "HOLDFAST_CONTROL_SOCKET" /* listening.h */
/* What the control socket is to be like. */
struct listening_plan control_listening_plan(const struct settings *settings);

struct control;

struct control_setup {
    sd_event *event;
    const struct settings *settings; /* where to listen */
    control_serve serve;
    void *data;   /* serve's */
    bool patient; /* who answers on the path may be about to end: ask for a while */
    int *left;    /* what control_leave() of the program before an upgrade has given; is taken and
                     set to -1. NULL or -1 for none */
};

/* Listen where the settings say (removes a stale socket, refuses to displace a living daemon). 0,
 * or -errno with why. */
int control_open(const struct control_setup *setup, struct control **ret, char *why,
                 size_t why_size);
void control_close(struct control *control);

/* As control_close(), but whoever connects from now on waits for the program that is executed next.
 * The socket, which is the caller's; -1 when there is none. Accepts NULL. */
int control_leave(struct control *control);

/* Everybody who asked for an upgrade: it begins now, or why not. Accepts a NULL control. */
void control_answer_upgrade(struct control *control, const char *why);

#endif
