/* SPDX-License-Identifier: MIT */
/* What readers may have of the gate: `read` of the configuration (holdfast.conf.5), from the
 * supervisor to the gate in GATE_LIMITS. */
#ifndef HOLDFAST_COMMON_GATE_LIMITS_H
#define HOLDFAST_COMMON_GATE_LIMITS_H

#include <stdint.h>

#define GATE_CONNECTIONS_MAX 32768

struct gate_limits {
    uint32_t connections;
    uint32_t connections_per_user;
    uint32_t requests_per_second; /* of one connection; 0 = any number */
    uint32_t queue;               /* requests that wait for a thread */
    uint32_t lent_per_user;       /* descriptors that were sent to a user and not received yet */
    uint32_t connections_given;   /* 1: the number was written down, and is to be had */
    uint64_t requests_per_connection; /* 0 = any number */
    uint64_t sending_per_user;        /* bytes of files, by COPY or SPLICE; 0 = any number */
    uint64_t idle_timeout_ns;         /* 0 = none */
    uint64_t request_timeout_ns;      /* 0 = none */
    uint64_t grace_ns;                /* for what was accepted before the end */
};

/* clang-format off */
/* As the keys' defaults say, for a gate that is told nothing. */
#define GATE_LIMITS_DEFAULT \
    {.connections = 4096, .connections_per_user = 1024, .queue = 8192, .lent_per_user = 4096, \
     .request_timeout_ns = 60000000000ull, .grace_ns = 1000000000ull}
/* clang-format on */

#endif
