/* SPDX-License-Identifier: MIT */
/* A receiving UDP socket on loopback as the supervisor opens it, and a sender connected to it. */
#ifndef HOLDFAST_TESTS_LIB_UDP_PAIR_H
#define HOLDFAST_TESTS_LIB_UDP_PAIR_H

#include <stdint.h>

#include "common/ring.h"

struct udp_pair {
    int rx;
    int tx;
    uint16_t tx_port;
};

struct udp_pair_settings {
    int family;         /* AF_INET or AF_INET6 */
    int receive_buffer; /* bytes of SO_RCVBUF; 0 = as it comes */
    bool offload;       /* UDP_GRO on the receiver */
};

void udp_pair_open(struct udp_pair *pair, const struct udp_pair_settings *settings);
void udp_pair_close(struct udp_pair *pair);

/* Send one datagram; with a segment size, a run of them (UDP_SEGMENT). */
void udp_pair_send(const struct udp_pair *pair, const void *payload, uint32_t length,
                   uint16_t segment_size);

/* One round of the receiver: reserve, arm, receive what is there, publish. The number of datagrams
 * published. */
uint32_t udp_pair_receive(struct ring_writer *writer, int rx, uint32_t slots);

#endif
