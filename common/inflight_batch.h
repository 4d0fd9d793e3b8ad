/* SPDX-License-Identifier: MIT */
/* The in-flight batch in a ring's memory: its shape alone, so that the page's rules
 * (channel_page.c) and the ring can lie below those who fill and harvest it. inflight.h says how
 * that is done. */
#ifndef HOLDFAST_COMMON_INFLIGHT_BATCH_H
#define HOLDFAST_COMMON_INFLIGHT_BATCH_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/socket.h>

#define CACHE_LINE      64
#define BATCH_SLOTS_MAX 64 /* datagrams (or, with receive_offload, coalesced runs) per recvmmsg */
/* Datagrams in one coalesced run: UDP_MAX_SEGMENTS, 64 in kernels before 6.9. GRO itself joins at
 * most 64, but what a local sender sends with UDP_SEGMENT arrives uncut. */
#define BATCH_SEGMENTS_MAX    128

#define INFLIGHT_SENTINEL     0xffffffffu /* 0 is a valid length, this is not */
#define INFLIGHT_NAME_SIZE    32
#define INFLIGHT_CONTROL_SIZE 128 /* SCM_TIMESTAMPNS, SO_RXQ_OVFL and UDP_GRO, with room */

/* The pointers in `messages` are for the kernel only, valid in the process that armed the batch. */
struct inflight_batch {
    _Alignas(CACHE_LINE) _Atomic uint64_t armed_seq;
    _Atomic uint64_t armed_position;
    _Atomic uint32_t count;
    _Atomic uint32_t armed;
    _Alignas(CACHE_LINE) struct mmsghdr messages[BATCH_SLOTS_MAX];
    struct iovec vectors[BATCH_SLOTS_MAX];
    uint8_t names[BATCH_SLOTS_MAX][INFLIGHT_NAME_SIZE];
    _Alignas(CACHE_LINE) uint8_t control[BATCH_SLOTS_MAX][INFLIGHT_CONTROL_SIZE];
};

#endif
