/* SPDX-License-Identifier: MIT */
/* clang-format off */
/* Capture files in the format pcapng (draft-ietf-opsawg-pcapng), little endian:
 *
 *   section header            once
 *   interface description     one for each channel: LINKTYPE_RAW, nanoseconds
 *   enhanced packet           one for each datagram: an IPv4 or IPv6 header (RFC 791, RFC 8200) and a UDP header (RFC 768)
 *                             made from its source and the channel's listen address, then the payload.
 *                             Both addresses are 0 for what a program of this machine published; who it was is in the packet's comment */
/* clang-format on */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_PCAPNG_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_PCAPNG_H

#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include "common/channel_spec.h"

struct ctl_pcapng_packet {
    uint32_t interface; /* in the order in which they were described, from 0 */
    int64_t time_ns;
    const struct sockaddr_storage *source;
    const union socket_address *destination; /* family 0: not known, written as 0 */
    const void *payload;
    uint32_t length;
    uint32_t cut;     /* bytes that are missing behind them */
    uint64_t dropped; /* datagrams of this interface that are missing before it */
};

/* Whether it could be written, ferror(3) tells. */
void ctl_pcapng_begin(FILE *to);
void ctl_pcapng_interface(FILE *to, const char *name);
void ctl_pcapng_packet(FILE *to, const struct ctl_pcapng_packet *packet);

/* What is in a file, from its beginning to its end. */
struct ctl_pcapng_contents {
    uint64_t interfaces, packets;
    int64_t last_time_ns; /* of the last packet */
};

/* 0, -EBADMSG when it isn't such a file from end to end, or another -errno. */
int ctl_pcapng_read(FILE *from, struct ctl_pcapng_contents *ret);

#endif
