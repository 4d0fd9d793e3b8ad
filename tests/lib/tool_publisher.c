/* SPDX-License-Identifier: MIT */
/* Publishes datagrams through libholdfast, for the system tests, and keeps account of them in a
 * file that outlives it: {committed, about to be committed}, both counts. Every datagram begins
 * with "NAME ID " in text; what follows is the same for the same ID. On SIGTERM it waits until
 * everything is durable if it was told to, says how many there were, and leaves. Killed at any
 * instruction, the datagrams before `committed` exist, those from `about` on don't. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/client/holdfast.h"

#define PATIENCE_MS 60000

struct account {
    _Atomic uint64_t committed, about;
};

static const char *read_socket, *channel, *name = "p";
static uint64_t most = UINT64_MAX;
static double rate; /* 0 = as fast as it goes */
static uint32_t sizes[16] = {64};
static size_t size_count = 1;
static bool durable;
static struct account *account;
static uint64_t full; /* times */
static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

static _Noreturn void fail(const char *what, int error)
{
    fprintf(stderr, "tool_publisher: %s: %s\n", what, strerror(error < 0 ? -error : error));
    exit(1);
}

static _Noreturn void usage(const char *what)
{
    fprintf(stderr,
            "tool_publisher: %s\nusage: tool_publisher --socket PATH --channel NAME --account FILE "
            "[--name NAME] [--count N] [--rate N] [--sizes N,N...] [--durable]\n",
            what);
    exit(2);
}

static struct account *open_account(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(struct account)) < 0)
        fail(path, errno);
    void *map = mmap(NULL, sizeof(struct account), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        fail("mmap", errno);
    return map;
}

static void parse_sizes(char *text)
{
    size_count = 0;
    for (char *at = strtok(text, ","); at && size_count < 16; at = strtok(NULL, ","))
        sizes[size_count++] = (uint32_t)strtoul(at, NULL, 10);
    if (size_count == 0)
        usage("no sizes");
}

static void parse_arguments(int argc, char **argv)
{
    static const struct option options[] = {{"socket", required_argument, NULL, 's'},
                                            {"channel", required_argument, NULL, 'c'},
                                            {"account", required_argument, NULL, 'a'},
                                            {"name", required_argument, NULL, 'n'},
                                            {"count", required_argument, NULL, 'k'},
                                            {"rate", required_argument, NULL, 'r'},
                                            {"sizes", required_argument, NULL, 'z'},
                                            {"durable", no_argument, NULL, 'd'},
                                            {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 's':
            read_socket = optarg;
            break;
        case 'c':
            channel = optarg;
            break;
        case 'a':
            account = open_account(optarg);
            break;
        case 'n':
            name = optarg;
            break;
        case 'k':
            most = strtoull(optarg, NULL, 10);
            break;
        case 'r':
            rate = strtod(optarg, NULL);
            break;
        case 'z':
            parse_sizes(optarg);
            break;
        case 'd':
            durable = true;
            break;
        default:
            usage("bad option");
        }
    }
    if (!read_socket || !channel || !account || optind != argc)
        usage("an argument is missing, or there is one too many");
}

/* ---- publishing ---- */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void wait_until(uint64_t due_ns)
{
    uint64_t now = now_ns();
    if (due_ns <= now)
        return;
    struct timespec rest = {(time_t)((due_ns - now) / 1000000000u),
                            (long)((due_ns - now) % 1000000000u)};
    nanosleep(&rest, NULL);
}

/* Room for one, however long that takes. false: it was stopped meanwhile. */
static bool reserve(hf_writer *writer, uint32_t length, void **ret)
{
    for (;;) {
        int result = hf_reserve(writer, length, ret);
        if (result >= 0)
            return true;
        if (result != -EAGAIN)
            fail("hf_reserve", result);
        full++;
        if (stopped)
            return false;
        struct pollfd room = {.fd = hf_writer_fd(writer), .events = POLLIN};
        if (poll(&room, 1, PATIENCE_MS) == 0)
            fail("no room within a minute", ETIMEDOUT);
    }
}

static void fill(uint8_t *to, uint64_t id, uint32_t length)
{
    char head[64];
    int size = snprintf(head, sizeof head, "%s %" PRIu64 " ", name, id);
    for (uint32_t i = 0; i < length; i++)
        to[i] = i < (uint32_t)size ? (uint8_t)head[i] : (uint8_t)(id * 31 + i);
}

static uint32_t length_of(uint64_t id)
{
    uint32_t length = sizes[id % size_count];
    return length < 40 ? 40 : length; /* its name and number are to have room */
}

static void publish(hf_writer *writer)
{
    uint64_t began = now_ns();
    for (uint64_t id = atomic_load(&account->committed); id < most && !stopped; id++) {
        void *to;
        uint32_t length = length_of(id);
        if (rate > 0)
            wait_until(began + (uint64_t)((double)id * 1e9 / rate));
        if (!reserve(writer, length, &to))
            break;
        fill(to, id, length);
        atomic_store(&account->about, id + 1);
        int result = hf_commit(writer, length);
        if (result < 0)
            fail("hf_commit", result);
        atomic_store(&account->committed, id + 1);
    }
}

int main(int argc, char **argv)
{
    hf *handle;
    hf_writer *writer;
    parse_arguments(argc, argv);
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    int result = hf_open(&handle, read_socket);
    if (result >= 0)
        result = hf_publish(handle, channel, &writer);
    if (result < 0)
        fail("hf_publish", result);
    printf("ready\n");
    fflush(stdout);
    uint64_t before = atomic_load(&account->committed);
    publish(writer);
    uint64_t committed = atomic_load(&account->committed);
    int waited = durable ? hf_wait_durable(writer, committed - before, PATIENCE_MS) : 0;
    printf("{\"committed\": %" PRIu64 ", \"full\": %" PRIu64 ", \"durable\": %d}\n", committed,
           full, waited);
    hf_writer_close(writer);
    hf_close(handle);
    return 0;
}
