/* SPDX-License-Identifier: MIT */
/* Bytes with file descriptors over a Unix SOCK_SEQPACKET socket (unix(7), cmsg(3)): strict,
 * CLOEXEC, no leak. */
#ifndef HOLDFAST_COMMON_FDPASS_H
#define HOLDFAST_COMMON_FDPASS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Send the parts as one packet, with count fds (0..253). 0 or -errno (-EAGAIN when the queue is
 * full). */
int fdpass_send(int socket, const struct iovec *parts, int part_count, const int *fds,
                uint32_t count);

/* There were descriptors, and this process could have no more of them: all are gone. */
#define FDPASS_LOST UINT32_MAX

/* Receive one packet. ret_fds must have room for capacity fds; *ret_count says how many came (all
 * CLOEXEC), or is FDPASS_LOST. Returns the packet's length, 0 at end of stream (a bare empty packet
 * looks the same), -EBADMSG when packet or control data did not fit, the control data is not plain
 * SCM_RIGHTS, or an empty packet brought fds (whatever fds came are closed then), or -errno. */
ssize_t fdpass_receive(int socket, void *buffer, size_t size, int *ret_fds, uint32_t capacity,
                       uint32_t *ret_count);

#endif
