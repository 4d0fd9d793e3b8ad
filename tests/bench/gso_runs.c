/* SPDX-License-Identifier: MIT */
/* The shortest way to send a batch: as few messages as equal lengths allow, one system call. Called
 * per batch by the bench's own relays, which are the limit that holdfast is held against: nothing
 * here may cost more than it must. */
#include "tests/bench/gso_runs.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>

#define RUN_BYTES_MAX   65507
#define SEGMENT_CONTROL CMSG_SPACE(sizeof(uint16_t))

/* How many datagrams from `vectors` on can leave as one message: equal lengths, the last may be
 * shorter. */
static uint32_t run_length(const struct iovec *vectors, uint32_t count)
{
    size_t length = vectors[0].iov_len, bytes = length;
    uint32_t run = 1;
    while (length > 0 && run < count) {
        size_t next = vectors[run].iov_len;
        if (next == 0 || next > length || bytes + next > RUN_BYTES_MAX)
            break;
        bytes += next;
        run++;
        if (next < length)
            break;
    }
    return run;
}

void gso_runs_send(int socket, struct iovec *vectors, uint32_t count)
{
    static _Thread_local struct mmsghdr messages[GSO_RUNS_MAX];
    static _Thread_local _Alignas(struct cmsghdr) uint8_t control[GSO_RUNS_MAX][SEGMENT_CONTROL];
    uint32_t prepared = 0;
    for (uint32_t at = 0; at < count;) {
        uint32_t run = run_length(vectors + at, count - at);
        struct msghdr *header = &messages[prepared].msg_hdr;
        *header = (struct msghdr){.msg_iov = &vectors[at], .msg_iovlen = run};
        if (run > 1) {
            uint16_t segment = (uint16_t)vectors[at].iov_len;
            header->msg_control = control[prepared];
            header->msg_controllen = SEGMENT_CONTROL;
            struct cmsghdr *item = CMSG_FIRSTHDR(header);
            item->cmsg_level = SOL_UDP;
            item->cmsg_type = UDP_SEGMENT;
            item->cmsg_len = CMSG_LEN(sizeof segment);
            memcpy(CMSG_DATA(item), &segment, sizeof segment);
        }
        prepared++;
        at += run;
    }
    for (uint32_t done = 0; done < prepared;) {
        int sent = sendmmsg(socket, messages + done, prepared - done, 0);
        if (sent > 0)
            done += (uint32_t)sent;
        else if (errno != EINTR && errno != ECONNREFUSED)
            done++;
    }
}
