/* SPDX-License-Identifier: MIT */
/* The socket at which readers connect over TCP, where the configuration wants one. */
#ifndef HOLDFAST_SUPERVISOR_GATE_TCP_H
#define HOLDFAST_SUPERVISOR_GATE_TCP_H

#include "common/channel_spec.h"
#include "supervisor/system/timer.h"

struct gate_tcp {
    sd_event *event;
    const union socket_address *address; /* family 0: there is to be none */
    int fd;                              /* -1 while there is none */
    struct timer retry;
    char trouble[256];          /* why there is none; "" = there is, or none is wanted */
    void (*opened)(void *data); /* there is one now */
    void *data;
};

void gate_tcp_init(struct gate_tcp *tcp, sd_event *event, const union socket_address *address,
                   void (*opened)(void *data), void *data);
/* Where it can't be had, it is tried again every second. */
void gate_tcp_open(struct gate_tcp *tcp);
void gate_tcp_close(struct gate_tcp *tcp);

#endif
