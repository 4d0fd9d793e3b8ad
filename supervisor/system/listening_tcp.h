/* SPDX-License-Identifier: MIT */
/* A TCP socket that clients connect to. */
#ifndef HOLDFAST_SUPERVISOR_SYSTEM_LISTENING_TCP_H
#define HOLDFAST_SUPERVISOR_SYSTEM_LISTENING_TCP_H

#include <stddef.h>

#include "common/channel_spec.h"

/* Listen there, and nowhere else: [::] does not mean IPv4, too. key: of the configuration, "read {
 * tcp }", for the texts. Never waits. The descriptor, nonblocking; or -errno, and why says what to
 * do. */
int listening_tcp_open(const union socket_address *address, const char *key, char *why,
                       size_t why_size);

#endif
