/* SPDX-License-Identifier: MIT */
/* The limit: recvmmsg, cut into runs, send, nothing else. No record, no sequence numbers, no
 * supervision; what a relay on this kernel can't do without. Says "ready", ends on SIGTERM. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "tests/bench/gso_runs.h"
#include "tests/bench/support.h"

#define ROOM 2048

int main(int argc, char **argv)
{
    static struct mmsghdr messages[GSO_RUNS_MAX];
    static struct iovec room[GSO_RUNS_MAX], vectors[GSO_RUNS_MAX];
    union socket_address listen, to;
    support_address(support_option(argc, argv, "--listen", ""), &listen);
    support_address(support_option(argc, argv, "--to", ""), &to);
    int in = support_bind(&listen, support_size(support_option(argc, argv, "--buffer", "4M")));
    int out = support_connect(&to);
    uint8_t *bytes = calloc(GSO_RUNS_MAX, ROOM);
    if (!bytes)
        support_fail("calloc");
    for (uint32_t i = 0; i < GSO_RUNS_MAX; i++) {
        room[i] = (struct iovec){bytes + (size_t)i * ROOM, ROOM};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &room[i], .msg_iovlen = 1};
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        int count = recvmmsg(in, messages, GSO_RUNS_MAX, MSG_WAITFORONE, NULL);
        if (count < 0 && errno != EINTR)
            support_fail("recvmmsg");
        if (count <= 0)
            continue;
        for (int i = 0; i < count; i++)
            vectors[i] = (struct iovec){room[i].iov_base, messages[i].msg_len};
        gso_runs_send(out, vectors, (uint32_t)count);
    }
}
