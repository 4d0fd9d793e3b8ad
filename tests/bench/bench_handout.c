/* SPDX-License-Identifier: MIT */
/* Programs that ask a running daemon for log files, measured: CONNECTIONS at once, each with one
 * request under way, until REQUESTS of them have been answered. How long does an answer take, with
 * its descriptor received and closed? Of a hundred connections, COPIERS are sent the file's bytes
 * instead, which go nowhere.
 *
 *   bench_handout SOCKET CHANNEL CONNECTIONS REQUESTS COPIERS NAME...
 *   bench_handout bare FILE REQUESTS          a loop of its own that opens a file and passes it on
 *
 * Prints what it has seen as JSON. Ends by itself, or after 300 seconds. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/client/gate_link.h"
#include "common/fd.h"
#include "common/fdpass.h"
#include "common/monotonic.h"
#include "common/read_protocol.h"
#include "tests/bench/histogram.h"

#define DEADLINE_S 300
#define EVENTS     256

struct program {
    int socket;
    int pipe; /* of what is being sent to it; -1 = nothing */
    bool copies;
    uint32_t request;
    size_t name;
    uint64_t asked_ns;
};

static struct histogram lent, sent;
static uint64_t sent_bytes, refused;
static const char *channel;
static char **names;
static size_t name_count;
static int epoll;

static _Noreturn void fail(const char *what, int error)
{
    fprintf(stderr, "bench_handout: %s: %s\n", what, strerror(-error));
    exit(1);
}

static uint64_t now_ns(void)
{
    return monotonic_now().ns;
}

static void watch(int fd, size_t index, bool is_pipe)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = index << 1 | is_pipe};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll_ctl", -errno);
}

static void ask(struct program *program)
{
    struct read_object object = {.by = READ_BY_NAME,
                                 .how = program->copies ? READ_COPY : READ_FDPASS};
    snprintf(object.channel, sizeof object.channel, "%s", channel);
    snprintf(object.name, sizeof object.name, "%s", names[program->name++ % name_count]);
    program->asked_ns = now_ns();
    int result = read_packet_send(program->socket, READ_OBJECT, ++program->request, &object,
                                  sizeof object, -1);
    if (result < 0)
        fail("asking", result);
}

/* Connecting is not measured: as many as the gate takes in one go, and the others behind them. */
static void connect_all(struct program *programs, size_t count, const char *path)
{
    struct sockaddr_un address;
    int result = gate_link_address(path, &address);
    for (size_t i = 0; result == 0 && i < count; i++) {
        for (int tries = 0;; tries++) {
            programs[i] =
                (struct program){.socket = gate_link_connect(&address), .pipe = -1, .name = i};
            if (programs[i].socket >= 0)
                break;
            if (programs[i].socket != -EAGAIN || tries > 1000)
                fail("connecting", programs[i].socket);
            usleep(1000);
        }
        watch(programs[i].socket, i, false);
    }
    if (result < 0)
        fail(path, result);
}

/* ---- answers ---- */

static void drain(struct program *program)
{
    static uint8_t bytes[256 * 1024];
    ssize_t length;
    while ((length = read(program->pipe, bytes, sizeof bytes)) > 0)
        sent_bytes += (uint64_t)length;
    if (length == 0 || errno != EAGAIN)
        fd_close(&program->pipe);
}

/* 1: a request was answered. */
static int take_answer(struct program *program, size_t index)
{
    static struct read_packet packet;
    const char *what;
    int result = read_packet_receive(program->socket, TO_READER, &packet, &what);
    if (result == -EAGAIN)
        return 0;
    if (result <= 0)
        fail("the connection has ended", result < 0 ? result : -ECONNRESET);
    const uint64_t took = now_ns() - program->asked_ns;
    switch (packet.header.type) {
    case READ_OBJECT_LENT:
        if (program->copies) {
            program->pipe = fd_take(&packet.fd);
            watch(program->pipe, index, true);
            return 0;
        }
        read_packet_release(&packet);
        histogram_add(&lent, took);
        return 1;
    case READ_OBJECT_SENT:
        histogram_add(&sent, took);
        return 1;
    case READ_REFUSED:
        refused++;
        return 1;
    default:
        fail("a strange answer", -EPROTO);
    }
}

static void run(struct program *programs, size_t count, uint64_t requests)
{
    struct epoll_event events[EVENTS];
    uint64_t answered = 0, asked = 0;
    for (size_t i = 0; i < count && asked < requests; i++, asked++)
        ask(&programs[i]);
    while (answered < requests) {
        int ready = epoll_wait(epoll, events, EVENTS, DEADLINE_S * 1000);
        if (ready <= 0)
            fail("nothing comes", -ETIMEDOUT);
        for (int i = 0; i < ready; i++) {
            const size_t index = (size_t)(events[i].data.u64 >> 1);
            struct program *program = &programs[index];
            if (events[i].data.u64 & 1) {
                drain(program);
            } else if (take_answer(program, index) == 1) {
                answered++;
                if (asked < requests) {
                    ask(program);
                    asked++;
                }
            }
        }
    }
}

static void print_result(uint64_t took_ns)
{
    printf("{\"seconds\": %.6f, \"refused\": %llu, \"sent_bytes\": %llu, \"lent\": ",
           (double)took_ns / 1e9, (unsigned long long)refused, (unsigned long long)sent_bytes);
    histogram_print(&lent, stdout);
    printf(", \"lent_max_ns\": %llu, \"sent\": ", (unsigned long long)lent.highest);
    histogram_print(&sent, stdout);
    printf("}\n");
}

/* ---- without holdfast ---- */

static void serve_bare(int socket, const char *path)
{
    char request;
    while (read(socket, &request, 1) == 1) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct iovec part = {&request, 1};
        if (fd < 0 || fdpass_send(socket, &part, 1, &fd, 1) < 0)
            _exit(1);
        fd_close(&fd);
    }
    _exit(0);
}

static int receive_fd(int socket)
{
    char answer;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {&answer, 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    int fd = -1;
    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&message))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static void run_bare(const char *path, uint64_t requests)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        fail("socketpair", -errno);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        serve_bare(ends[1], path);
    }
    close(ends[1]);
    const uint64_t begun = now_ns();
    for (uint64_t i = 0; i < requests; i++) {
        const uint64_t asked = now_ns();
        if (write(ends[0], "o", 1) != 1)
            fail("asking", -errno);
        int fd = receive_fd(ends[0]);
        if (fd < 0)
            fail("nothing came", -EPROTO);
        histogram_add(&lent, now_ns() - asked);
        fd_close(&fd);
    }
    const uint64_t took = now_ns() - begun;
    close(ends[0]);
    waitpid(pid, NULL, 0);
    print_result(took);
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    if (argc == 4 && strcmp(argv[1], "bare") == 0) {
        run_bare(argv[2], strtoull(argv[3], NULL, 10));
        return 0;
    }
    if (argc < 7) {
        fprintf(stderr,
                "usage: bench_handout SOCKET CHANNEL CONNECTIONS REQUESTS COPIERS NAME...\n");
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    const size_t count = strtoull(argv[3], NULL, 10);
    const uint64_t requests = strtoull(argv[4], NULL, 10), copiers = strtoull(argv[5], NULL, 10);
    channel = argv[2];
    names = argv + 6;
    name_count = (size_t)argc - 6;
    struct program *programs = calloc(count, sizeof *programs);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!programs || epoll < 0 || count == 0)
        fail("beginning", -errno);
    connect_all(programs, count, argv[1]);
    for (size_t i = 0; i < count; i++)
        programs[i].copies = i % 100 < copiers;
    const uint64_t begun = now_ns();
    run(programs, count, requests);
    print_result(now_ns() - begun);
    return 0;
}
