/* SPDX-License-Identifier: MIT */
/* SCM_RIGHTS, strictly: what does not fit exactly is refused, and every descriptor that came along
 * is closed. */
#include "common/fdpass.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fd.h"

#define FDS_MAX 253 /* SCM_MAX_FD */

int fdpass_send(int socket, const struct iovec *parts, int part_count, const int *fds,
                uint32_t count)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(FDS_MAX * sizeof(int))];
    struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)part_count};

    if (count > FDS_MAX)
        return -EINVAL;
    if (count > 0) {
        memset(control, 0, CMSG_SPACE(count * sizeof(int)));
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    }
    for (;;) {
        if (sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return 0;
        if (errno != EINTR)
            return -errno;
    }
}

/* Collect the fds of every SCM_RIGHTS part; the kernel has installed them already, so none may be
 * overlooked. */
static int collect_fds(struct msghdr *message, int *fds, uint32_t capacity, uint32_t *ret_count)
{
    int result = 0;
    uint32_t count = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
            result = -EBADMSG;
            continue;
        }
        uint32_t here = (uint32_t)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (uint32_t i = 0; i < here; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
            if (count < capacity) {
                fds[count++] = fd;
            } else {
                fd_close(&fd);
                result = -EBADMSG;
            }
        }
    }
    *ret_count = count;
    return result;
}

ssize_t fdpass_receive(int socket, void *buffer, size_t size, int *ret_fds, uint32_t capacity,
                       uint32_t *ret_count)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(FDS_MAX * sizeof(int))];
    struct iovec part = {buffer, size};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    ssize_t length;

    *ret_count = 0;
    do
        length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (length < 0 && errno == EINTR);
    if (length < 0)
        return -errno;
    int result = collect_fds(&message, ret_fds, capacity, ret_count);
    /* An empty packet looks like the end of the stream, unless something rides on it. */
    bool whole = result == 0 && !(message.msg_flags & MSG_TRUNC);
    /* There is room for all that a packet can bring: what was cut found no free number. */
    bool lost = message.msg_flags & MSG_CTRUNC;
    if (whole && !lost && (length > 0 || *ret_count == 0))
        return length;
    fd_close_all(ret_fds, *ret_count);
    *ret_count = whole && lost && length > 0 ? FDPASS_LOST : 0;
    return *ret_count == FDPASS_LOST ? length : -EBADMSG;
}
