/* SPDX-License-Identifier: MIT */
/* Sends a bounded number of numbered datagrams at a steady rate and keeps a record of each one.
 * Started by the system tests and by scripts/run --demo. Must never send more than --count per
 * destination, nor beyond this machine: a multicast TTL above 1 can't be asked for. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <net/if.h>
#include <netinet/udp.h>
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

#define DESTINATIONS_MAX 1024
#define SIZES_MAX        64
#define BURST_MAX        64
#define PAYLOAD_MAX      65535
#define TICK_NS          NS_PER_MS

struct destination {
    union socket_address to;
    int socket;
    uint64_t sent;
};

static struct destination destinations[DESTINATIONS_MAX];
static uint32_t destination_count;
static size_t sizes[SIZES_MAX] = {64};
static size_t size_count = 1;
static uint64_t count_wanted = 1000, rate, tag;
static unsigned burst = 16;
static bool coalesced; /* a burst leaves as one message, to be cut by the kernel (UDP_SEGMENT) */
static const char *interface = "";
static FILE *record;
static uint8_t *payloads; /* BURST_MAX of them */
static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "tool_sender: %s: %s\n", what, strerror(errno));
    exit(1);
}

static _Noreturn void usage(const char *what)
{
    fprintf(stderr,
            "tool_sender: %s\nusage: tool_sender --to ADDRESS:PORT... [--count N] [--rate "
            "PER_SECOND] [--burst N]\n"
            "  [--sizes 0,1,64,...] [--tag N] [--interface NAME] [--record FILE] [--coalesced]\n"
            "--coalesced hands each burst to the kernel in one piece; it wants one size. count and "
            "rate are per destination; rate 0 is as fast as it goes\n",
            what);
    exit(2);
}

static uint64_t number(const char *text, uint64_t max)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno || end == text || *end || value > max)
        usage("a number is malformed or too large");
    return value;
}

static void parse_sizes(char *text)
{
    size_count = 0;
    for (char *part = strtok(text, ","); part; part = strtok(NULL, ",")) {
        if (size_count == SIZES_MAX)
            usage("too many sizes");
        sizes[size_count++] = number(part, PAYLOAD_MAX);
    }
    if (size_count == 0)
        usage("--sizes is empty");
}

static void parse_arguments(int argc, char **argv)
{
    static const struct option options[] = {
        {"to", required_argument, NULL, 't'},     {"count", required_argument, NULL, 'c'},
        {"rate", required_argument, NULL, 'r'},   {"burst", required_argument, NULL, 'b'},
        {"sizes", required_argument, NULL, 's'},  {"tag", required_argument, NULL, 'g'},
        {"record", required_argument, NULL, 'f'}, {"interface", required_argument, NULL, 'i'},
        {"coalesced", no_argument, NULL, 'o'},    {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 't':
            if (destination_count == DESTINATIONS_MAX)
                usage("too many destinations");
            if (socket_address_parse(optarg, &destinations[destination_count++].to) < 0)
                usage("--to wants ADDRESS:PORT");
            break;
        case 'c':
            count_wanted = number(optarg, UINT32_MAX);
            break;
        case 'r':
            rate = number(optarg, 10000000);
            break;
        case 'b':
            burst = (unsigned)number(optarg, BURST_MAX);
            break;
        case 's':
            parse_sizes(optarg);
            break;
        case 'g':
            tag = number(optarg, UINT16_MAX);
            break;
        case 'o':
            coalesced = true;
            break;
        case 'i':
            interface = optarg;
            break;
        case 'f':
            record = fopen(optarg, "we");
            if (!record)
                fail(optarg);
            break;
        default:
            usage("unknown option");
        }
    }
    if (destination_count == 0 || burst == 0 || optind != argc)
        usage("--to and a burst of at least 1 are needed");
    if (coalesced && (size_count != 1 || sizes[0] == 0 || sizes[0] * burst > 65000))
        usage("--coalesced wants one size above 0, and bursts of at most 65,000 bytes");
}

static void open_destination(struct destination *destination)
{
    int one = 1, index = (int)if_nametoindex(interface);
    bool v6 = destination->to.family == AF_INET6;
    destination->socket = socket(destination->to.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (destination->socket < 0)
        fail("socket");
    int segment = (int)sizes[0];
    if (coalesced &&
        setsockopt(destination->socket, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment))
        fail("UDP_SEGMENT");
    if (!socket_address_is_multicast(&destination->to))
        return;
    struct ip_mreqn through = {.imr_ifindex = index};
    if (index == 0)
        usage("a multicast destination needs --interface");
    if (v6 ? setsockopt(destination->socket, IPPROTO_IPV6, IPV6_MULTICAST_IF, &index,
                        sizeof index) ||
                 setsockopt(destination->socket, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &one,
                            sizeof one)
           : setsockopt(destination->socket, IPPROTO_IP, IP_MULTICAST_IF, &through,
                        sizeof through) ||
                 setsockopt(destination->socket, IPPROTO_IP, IP_MULTICAST_TTL, &one, sizeof one))
        fail("multicast options");
}

/* ids: 16 bits of tag and destination, 48 bits of number; never the same twice in one test. */
static uint64_t datagram_id(uint32_t index, uint64_t sequence)
{
    return (tag + index) << 48 | sequence;
}

static void send_burst(uint32_t index, unsigned count)
{
    struct destination *destination = &destinations[index];
    struct mmsghdr messages[BURST_MAX];
    struct iovec vectors[BURST_MAX];
    memset(messages, 0, sizeof messages);
    for (unsigned i = 0; i < count; i++) {
        uint64_t sequence = destination->sent + i;
        vectors[i] =
            (struct iovec){payloads + (size_t)i * PAYLOAD_MAX, sizes[sequence % size_count]};
        datagram_fill(vectors[i].iov_base, vectors[i].iov_len, datagram_id(index, sequence));
        messages[i].msg_hdr =
            (struct msghdr){.msg_name = &destination->to,
                            .msg_namelen = socket_address_length(&destination->to),
                            .msg_iov = &vectors[i],
                            .msg_iovlen = 1};
    }
    uint64_t now = realtime_now_ns();
    unsigned message_count = count;
    if (coalesced) {
        messages[0].msg_hdr.msg_iovlen = count;
        message_count = 1;
    }
    for (unsigned done = 0; done < message_count;) {
        int sent = sendmmsg(destination->socket, messages + done, message_count - done, 0);
        if (sent < 0 && errno != EINTR && errno != ENOBUFS && errno != EAGAIN)
            fail("sendmmsg");
        done += sent > 0 ? (unsigned)sent : 0;
    }
    for (unsigned i = 0; record && i < count; i++)
        datagram_file_append(record, index, now, vectors[i].iov_base, vectors[i].iov_len);
    destination->sent += count;
}

/* How many datagrams per destination should have gone out by now? */
static uint64_t due(monotonic started)
{
    if (rate == 0)
        return count_wanted;
    uint64_t by_now =
        (uint64_t)((double)monotonic_since(monotonic_now(), started) * (double)rate / 1e9) + 1;
    return by_now < count_wanted ? by_now : count_wanted;
}

static void send_all(monotonic started)
{
    uint64_t sent = 0; /* per destination: they all advance together */
    while (!stopped && sent < count_wanted) {
        uint64_t behind = due(started) - sent;
        if (behind == 0) {
            struct timespec tick = {0, TICK_NS};
            nanosleep(&tick, NULL);
            continue;
        }
        unsigned now = behind < burst ? (unsigned)behind : burst;
        for (uint32_t i = 0; i < destination_count; i++)
            send_burst(i, now);
        sent += now;
    }
}

static void print_result(monotonic started)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < destination_count; i++)
        total += destinations[i].sent;
    printf("{\"sent\": %" PRIu64 ", \"duration_s\": %.6f, \"destinations\": [", total,
           (double)monotonic_since(monotonic_now(), started) / 1e9);
    for (uint32_t i = 0; i < destination_count; i++)
        printf("%s%" PRIu64, i ? ", " : "", destinations[i].sent);
    printf("]}\n");
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    parse_arguments(argc, argv);
    payloads = malloc((size_t)BURST_MAX * PAYLOAD_MAX);
    if (!payloads)
        fail("payloads");
    for (uint32_t i = 0; i < destination_count; i++)
        open_destination(&destinations[i]);

    monotonic started = monotonic_now();
    send_all(started);
    if (record && fclose(record) != 0)
        fail("closing the record");
    print_result(started);
    for (uint32_t i = 0; i < destination_count; i++)
        fd_close(&destinations[i].socket);
    free(payloads);
    return 0;
}
