/* SPDX-License-Identifier: MIT */
/* Listens to rtnetlink(7). An interface that is gone for a moment only, and comes back under its
 * number, looks untouched afterwards, but has forgotten what was joined there. Must never believe a
 * length that it has not checked, nor anybody but the kernel. */
#include "supervisor/system/links.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "common/fd.h"

#define READS_MAX 16 /* in one turn */

/* Signed: the last message's padding, which may be missing, is taken off, too. */
static void hear(const struct links *links, const struct nlmsghdr *message, ssize_t size)
{
    for (; NLMSG_OK(message, size); message = NLMSG_NEXT(message, size)) {
        const struct ifinfomsg *about = NLMSG_DATA(message);
        if (message->nlmsg_type == RTM_DELLINK &&
            message->nlmsg_len >= NLMSG_LENGTH(sizeof *about) && about->ifi_family == AF_UNSPEC &&
            about->ifi_index > 0) /* a bridge says it of ports */
            links->gone(links->data, (unsigned)about->ifi_index);
    }
}

static int on_message(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
    const struct links *links = userdata;
    (void)source;
    (void)events;
    for (int i = 0; i < READS_MAX; i++) {
        _Alignas(struct nlmsghdr) char bytes[32768];
        struct sockaddr_nl from = {0};
        struct iovec part = {bytes, sizeof bytes};
        struct msghdr header = {
            .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1};
        ssize_t size = recvmsg(fd, &header, MSG_DONTWAIT);
        if (size < 0 && errno == EAGAIN)
            break;
        if (size < 0 || (header.msg_flags & MSG_TRUNC))
            links->gone(links->data, 0); /* ENOBUFS */
        else if (from.nl_pid == 0)
            hear(links, (const struct nlmsghdr *)bytes, size);
    }
    return 0;
}

int links_watch(struct links *links, sd_event *event, links_gone gone, void *data)
{
    const struct sockaddr_nl own = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    *links = (struct links){.gone = gone, .data = data};
    links->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    int error = links->fd < 0 || bind(links->fd, (const struct sockaddr *)&own, sizeof own) < 0
                    ? -errno
                    : sd_event_add_io(event, &links->source, links->fd, EPOLLIN, on_message, links);
    if (error < 0)
        links_stop(links);
    return error < 0 ? error : 0;
}

void links_stop(struct links *links)
{
    links->source = sd_event_source_disable_unref(links->source);
    fd_close(&links->fd);
}
