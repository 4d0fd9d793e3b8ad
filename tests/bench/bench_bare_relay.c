/* SPDX-License-Identifier: MIT */
/* The limit: recvmmsg, cut into runs, send, nothing else. No record, no sequence numbers, no
 * supervision; what a relay on this kernel can't do without. --gro lets the kernel join what comes
 * in (UDP_GRO). --file and --decimated add the least that recording and a 1:5 stream can cost: the
 * same bytes by write(2), fdatasync(2) every second on a thread of its own, and every fifth
 * datagram sent once more. Says "ready", ends on SIGTERM. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/monotonic.h"
#include "tests/bench/gso_runs.h"
#include "tests/bench/support.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#define ROOM          2048
#define ROOM_GRO      65536
#define RECORD_EXTRA  50 /* what a record has beside its payload, about */
#define KEEP_EVERY    5
#define CONTROL_SPACE CMSG_SPACE(sizeof(int))

static struct mmsghdr messages[GSO_RUNS_MAX];
static struct iovec room[GSO_RUNS_MAX];
static uint8_t control[GSO_RUNS_MAX][CONTROL_SPACE];
static int in, out, decimated = -1, file = -1;
static bool gro;
static uint64_t number; /* of the next datagram */

/* The length of the datagrams that were joined in this message; its own when none were. */
static size_t segment_of(struct mmsghdr *message)
{
    for (struct cmsghdr *it = CMSG_FIRSTHDR(&message->msg_hdr); it;
         it = CMSG_NXTHDR(&message->msg_hdr, it))
        if (it->cmsg_level == SOL_UDP && it->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(it), sizeof size);
            return (size_t)size;
        }
    return message->msg_len;
}

static void prepare(uint8_t *bytes)
{
    size_t size = gro ? ROOM_GRO : ROOM;
    for (uint32_t i = 0; i < GSO_RUNS_MAX; i++) {
        room[i] = (struct iovec){bytes + i * size, size};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &room[i],
                                              .msg_iovlen = 1,
                                              .msg_control = gro ? control[i] : NULL,
                                              .msg_controllen = gro ? CONTROL_SPACE : 0};
    }
}

/* One write for what one call brought: the same number of bytes as records of it would have. */
static void record(const struct iovec *vectors, uint32_t count)
{
    static const uint8_t extra[RECORD_EXTRA];
    static struct iovec parts[2 * GSO_RUNS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        parts[2 * i] = (struct iovec){(void *)(uintptr_t)extra, sizeof extra};
        parts[2 * i + 1] = vectors[i];
    }
    if (writev(file, parts, (int)(2 * count)) < 0)
        support_fail("writev");
}

static void pass_on(struct iovec *vectors, uint32_t count)
{
    struct iovec kept[GSO_RUNS_MAX];
    uint32_t kept_count = 0;
    gso_runs_send(out, vectors, count);
    if (file >= 0)
        record(vectors, count);
    for (uint32_t i = 0; i < count && decimated >= 0; i++)
        if ((number + i) % KEEP_EVERY == KEEP_EVERY - 1)
            kept[kept_count++] = vectors[i];
    if (kept_count)
        gso_runs_send(decimated, kept, kept_count);
    number += count;
}

static void relay(uint32_t count)
{
    static struct iovec vectors[GSO_RUNS_MAX];
    uint32_t gathered = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t segment = gro ? segment_of(&messages[i]) : messages[i].msg_len, at = 0;
        do {
            size_t left = messages[i].msg_len - at;
            vectors[gathered++] =
                (struct iovec){(uint8_t *)room[i].iov_base + at, left < segment ? left : segment};
            if (gathered == GSO_RUNS_MAX) {
                pass_on(vectors, gathered);
                gathered = 0;
            }
            at += segment;
        } while (segment && at < messages[i].msg_len);
        messages[i].msg_hdr.msg_controllen = gro ? CONTROL_SPACE : 0;
    }
    if (gathered)
        pass_on(vectors, gathered);
}

static void *sync_main(void *argument)
{
    (void)argument;
    for (;;) {
        support_sleep_until(monotonic_now().ns + NS_PER_S);
        if (fdatasync(file) < 0)
            support_fail("fdatasync");
    }
}

static void open_extras(int argc, char **argv)
{
    const char *path = support_option(argc, argv, "--file", ""),
               *to = support_option(argc, argv, "--decimated", "");
    union socket_address address;
    pthread_t thread;
    int one = 1;
    gro = strcmp(support_option(argc, argv, "--gro", "no"), "yes") == 0;
    if (gro && setsockopt(in, SOL_UDP, UDP_GRO, &one, sizeof one) < 0)
        support_fail("UDP_GRO");
    if (to[0]) {
        support_address(to, &address);
        decimated = support_connect(&address);
    }
    if (path[0]) {
        file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (file < 0 || pthread_create(&thread, NULL, sync_main, NULL) != 0)
            support_fail(path);
    }
}

int main(int argc, char **argv)
{
    union socket_address listen, to;
    support_address(support_option(argc, argv, "--listen", ""), &listen);
    support_address(support_option(argc, argv, "--to", ""), &to);
    in = support_bind(&listen, support_size(support_option(argc, argv, "--buffer", "4M")));
    out = support_connect(&to);
    open_extras(argc, argv);
    uint8_t *bytes = calloc(GSO_RUNS_MAX, gro ? ROOM_GRO : ROOM);
    if (!bytes)
        support_fail("calloc");
    prepare(bytes);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int count = recvmmsg(in, messages, GSO_RUNS_MAX, MSG_WAITFORONE, NULL);
        if (count < 0 && errno != EINTR)
            support_fail("recvmmsg");
        if (count > 0)
            relay((uint32_t)count);
    }
}
