/* SPDX-License-Identifier: MIT */
/* Receives on any number of UDP sockets and records every datagram; the end of the line for relays
 * in the system tests. Says "ready" when all sockets are bound, prints its counts as JSON for every
 * line on stdin, and on SIGTERM drains, prints once more and leaves. A datagram that the kernel
 * dropped here must never go unnoticed: it would be blamed on holdfast. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/channel_spec.h"
#include "common/fd.h"
#include "common/monotonic.h"
#include "tests/lib/datagram_file.h"

#define SOCKETS_MAX    1024
#define BATCH          64
#define PAYLOAD_MAX    65535
#define RECEIVE_BUFFER (64 << 20)
#define CONTROL_SIZE   64

static struct pollfd polled[SOCKETS_MAX + 1]; /* stdin is the last one */
static uint64_t received[SOCKETS_MAX];
static uint32_t dropped[SOCKETS_MAX];
static uint32_t socket_count;
static const char *interface = "";
static FILE *record;
static uint8_t *payloads;
static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "tool_sink: %s: %s\n", what, strerror(errno));
    exit(1);
}

static _Noreturn void usage(const char *what)
{
    fprintf(
        stderr,
        "tool_sink: %s\nusage: tool_sink --record FILE [--interface NAME] --on ADDRESS:PORT...\n",
        what);
    exit(2);
}

static void join(int socket, const union socket_address *group)
{
    struct group_req request = {.gr_interface = if_nametoindex(interface)};
    int zero = 0;
    memcpy(&request.gr_group, group, sizeof *group);
    if (request.gr_interface == 0)
        usage("a multicast group needs --interface before --on");
    if (group->family == AF_INET)
        setsockopt(socket, IPPROTO_IP, IP_MULTICAST_ALL, &zero, sizeof zero);
    if (setsockopt(socket, group->family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, MCAST_JOIN_GROUP,
                   &request, sizeof request) < 0)
        fail("joining a multicast group");
}

static void open_socket(const char *text)
{
    union socket_address address;
    int one = 1, size = RECEIVE_BUFFER;
    if (socket_count == SOCKETS_MAX || socket_address_parse(text, &address) < 0)
        usage("--on wants ADDRESS:PORT, at most 1024 times");
    int fd = socket(address.family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        fail("socket");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &one, sizeof one);
    if (address.family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(fd, &address.any, socket_address_length(&address)) < 0)
        fail(text);
    if (socket_address_is_multicast(&address))
        join(fd, &address);
    polled[socket_count++] = (struct pollfd){.fd = fd, .events = POLLIN};
}

static void parse_arguments(int argc, char **argv)
{
    static const struct option options[] = {{"on", required_argument, NULL, 'o'},
                                            {"record", required_argument, NULL, 'r'},
                                            {"interface", required_argument, NULL, 'i'},
                                            {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'o')
            open_socket(optarg);
        else if (option == 'i')
            interface = optarg;
        else if (option != 'r')
            usage("unknown option");
        else if (!(record = fopen(optarg, "we")))
            fail(optarg);
    }
    if (socket_count == 0 || !record || optind != argc)
        usage("--record and --on are needed");
}

static void note_drops(uint32_t index, struct msghdr *header)
{
    for (struct cmsghdr *item = CMSG_FIRSTHDR(header); item; item = CMSG_NXTHDR(header, item))
        if (item->cmsg_level == SOL_SOCKET && item->cmsg_type == SO_RXQ_OVFL)
            memcpy(&dropped[index], CMSG_DATA(item), sizeof dropped[index]);
}

/* Receive what waits on one socket, one batch. Returns how many came. */
static int receive_batch(uint32_t index)
{
    static struct mmsghdr messages[BATCH];
    static struct iovec vectors[BATCH];
    static _Alignas(8) uint8_t control[BATCH][CONTROL_SIZE];
    for (int i = 0; i < BATCH; i++) {
        vectors[i] = (struct iovec){payloads + (size_t)i * PAYLOAD_MAX, PAYLOAD_MAX};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i],
                                              .msg_iovlen = 1,
                                              .msg_control = control[i],
                                              .msg_controllen = CONTROL_SIZE};
    }
    int count = recvmmsg(polled[index].fd, messages, BATCH, 0, NULL);
    if (count < 0) {
        if (errno != EAGAIN && errno != EINTR)
            fail("recvmmsg");
        return 0;
    }
    uint64_t now = realtime_now_ns();
    for (int i = 0; i < count; i++) {
        datagram_file_append(record, index, now, vectors[i].iov_base, messages[i].msg_len);
        note_drops(index, &messages[i].msg_hdr);
    }
    received[index] += (uint64_t)count;
    return count;
}

static void print_counts(void)
{
    fflush(record);
    printf("{\"sockets\": [");
    for (uint32_t i = 0; i < socket_count; i++)
        printf("%s{\"received\": %" PRIu64 ", \"dropped\": %" PRIu32 "}", i ? ", " : "",
               received[i], dropped[i]);
    printf("]}\n");
    fflush(stdout);
}

static void answer_stdin(void)
{
    char line[64];
    ssize_t length = read(STDIN_FILENO, line, sizeof line);
    if (length > 0)
        print_counts();
    else
        polled[socket_count].fd = -1; /* nobody asks any more; SIGTERM still ends it */
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = stop};
    sigset_t term, before;
    parse_arguments(argc, argv);
    payloads = malloc((size_t)BATCH * PAYLOAD_MAX);
    if (!payloads)
        fail("payloads");
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term,
                &before); /* delivered inside ppoll only: never between the check and the wait */
    sigaction(SIGTERM, &action, NULL);
    polled[socket_count] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    puts("ready");
    fflush(stdout);

    while (!stopped) {
        if (ppoll(polled, socket_count + 1, NULL, &before) < 0)
            continue;
        for (uint32_t i = 0; i < socket_count; i++)
            if (polled[i].revents)
                receive_batch(i);
        if (polled[socket_count].revents)
            answer_stdin();
    }
    for (uint32_t i = 0; i < socket_count; i++) {
        while (receive_batch(i) > 0)
            continue;
        fd_close(&polled[i].fd);
    }
    print_counts();
    fclose(record);
    free(payloads);
    return 0;
}
