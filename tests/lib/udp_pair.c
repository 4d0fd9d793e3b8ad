/* SPDX-License-Identifier: MIT */
/* Loopback sockets for tests of the receive path. A failure here fails the test that asked. */
#include "tests/lib/udp_pair.h"

#include <check.h>
#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "common/inflight.h"

static void set_option(int socket, int level, int name, int value)
{
    ck_assert_int_eq(setsockopt(socket, level, name, &value, sizeof value), 0);
}

void udp_pair_open(struct udp_pair *pair, const struct udp_pair_settings *settings)
{
    union socket_address address = {.family = (sa_family_t)settings->family};
    socklen_t size = settings->family == AF_INET6 ? sizeof address.v6 : sizeof address.v4;
    if (settings->family == AF_INET6)
        address.v6.sin6_addr = in6addr_loopback;
    else
        address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    pair->rx = socket(settings->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    pair->tx = socket(settings->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert(pair->rx >= 0 && pair->tx >= 0);
    set_option(pair->rx, SOL_SOCKET, SO_TIMESTAMPNS, 1);
    set_option(pair->rx, SOL_SOCKET, SO_RXQ_OVFL, 1);
    if (settings->receive_buffer)
        set_option(pair->rx, SOL_SOCKET, SO_RCVBUF, settings->receive_buffer);
    if (settings->offload)
        set_option(pair->rx, SOL_UDP, UDP_GRO, 1);
    ck_assert_int_eq(bind(pair->rx, &address.any, size), 0);
    ck_assert_int_eq(getsockname(pair->rx, &address.any, &size), 0);
    ck_assert_int_eq(connect(pair->tx, &address.any, size), 0);
    ck_assert_int_eq(getsockname(pair->tx, &address.any, &size), 0);
    pair->tx_port =
        ntohs(settings->family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}

void udp_pair_close(struct udp_pair *pair)
{
    fd_close(&pair->rx);
    fd_close(&pair->tx);
}

void udp_pair_send(const struct udp_pair *pair, const void *payload, uint32_t length,
                   uint16_t segment_size)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof segment_size)] = {0};
    struct iovec part = {(void *)payload, length};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (segment_size) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_UDP;
        header->cmsg_type = UDP_SEGMENT;
        header->cmsg_len = CMSG_LEN(sizeof segment_size);
        memcpy(CMSG_DATA(header), &segment_size, sizeof segment_size);
    }
    ssize_t sent = sendmsg(pair->tx, &message, 0);
    if (sent != (ssize_t)length)
        ck_abort_msg("sending %u bytes: %s", length, strerror(errno));
}

uint32_t udp_pair_receive(struct ring_writer *writer, int rx, uint32_t slots)
{
    ring_reserve(writer, slots);
    struct mmsghdr *messages = inflight_arm(writer, slots);
    int count = recvmmsg(rx, messages, slots, MSG_WAITFORONE | MSG_TRUNC | MSG_DONTWAIT, NULL);
    return count > 0 ? inflight_publish(writer, (uint32_t)count) : 0;
}
