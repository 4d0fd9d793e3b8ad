/* SPDX-License-Identifier: MIT */
/* Programs that ask a running daemon for log files, measured: CONNECTIONS at once, each with one
 * request under way. How long does an answer take, with its descriptor received and closed? Of a
 * hundred connections, SENDERS are sent the file's bytes instead, up to LENGTH of them (0 = all),
 * which go nowhere: there, an answer is all of them. Where the gate turns a connection away, those
 * that it took are all.
 *
 *   bench_handout [-c CONNECTIONS] [-r REQUESTS | -t SECONDS] [-s SENDERS] [-S] [-l LENGTH]
 *                 SOCKET CHANNEL NAME...       -S: by splice; REQUESTS: of all connections together
 *   bench_handout -i [-c CONNECTIONS] SOCKET   connections that say nothing, until stdin ends
 *   bench_handout -b [-r REQUESTS] FILE        a loop of its own that opens a file and passes it on
 *   bench_handout -b -s 100 [-S] [-l LENGTH] [-r REQUESTS] FILE     the same that sends its bytes
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/client/gate_link.h"
#include "common/fd.h"
#include "common/fdpass.h"
#include "common/monotonic.h"
#include "common/read_protocol.h"
#include "tests/bench/histogram.h"

#define DEADLINE_S 300
#define EVENTS     256
#define NAMES_MAX  16
#define PART_SIZE  (64 * 1024) /* what a pipe holds */

struct program {
    int socket;
    int pipe; /* of what is being sent to it; -1 = nothing */
    bool is_sender;
    bool told; /* that all is sent */
    uint32_t request;
    size_t name;
    uint64_t asked_ns;
    uint64_t left; /* requests */
};

static struct {
    size_t connections;
    uint64_t requests, seconds, senders, length;
    enum read_how how; /* of senders */
    bool idle, bare;
} options = {.connections = 1, .requests = 1, .how = READ_COPY};

static struct histogram lent, sent, of_name[NAMES_MAX];
static uint64_t sent_bytes, refused;
static const char *channel;
static char **names;
static size_t name_count;
static int epoll = -1;

static _Noreturn void fail(const char *what, int error)
{
    fprintf(stderr, "bench_handout: %s: %s\n", what, strerror(-error));
    exit(1);
}

static uint64_t now_ns(void)
{
    return monotonic_now().ns;
}

/* ---- connections ---- */

static void watch(int fd, size_t index, bool is_pipe)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = index << 1 | is_pipe};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll_ctl", -errno);
}

/* Waits in connect(2) as long as the gate has others to accept; -1: it takes no more. */
static int connect_one(const struct sockaddr_un *address)
{
    static struct read_packet packet;
    const char *what;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof *address) < 0)
        fail("connecting", -errno);
    if (gate_link_hello(fd, 1) < 0 || read_packet_receive(fd, TO_READER, &packet, &what) != 1 ||
        packet.header.type != READ_WELCOME) {
        fd_close(&fd);
        return -1;
    }
    if (fd_set_nonblocking(fd) < 0)
        fail("fcntl", -errno);
    return fd;
}

/* Connecting is not measured. How many there are. */
static size_t connect_all(struct program *programs, const char *path)
{
    struct sockaddr_un address;
    int result = gate_link_address(path, &address);
    if (result < 0)
        fail(path, result);
    for (size_t i = 0; i < options.connections; i++) {
        programs[i] =
            (struct program){.socket = connect_one(&address), .pipe = -1, .name = i, .request = 1};
        programs[i].is_sender = i % 100 < options.senders;
        if (programs[i].socket < 0)
            return i;
        watch(programs[i].socket, i, false);
    }
    return options.connections;
}

/* ---- requests ---- */

static void ask(struct program *program)
{
    struct read_object object = {.by = READ_BY_NAME,
                                 .how = program->is_sender ? options.how : READ_FDPASS,
                                 .length = program->is_sender ? options.length : 0};
    snprintf(object.channel, sizeof object.channel, "%s", channel);
    snprintf(object.name, sizeof object.name, "%s", names[++program->name % name_count]);
    program->told = false;
    program->left--;
    program->asked_ns = now_ns();
    int result = read_packet_send(program->socket, READ_OBJECT, ++program->request, &object,
                                  sizeof object, -1);
    if (result < 0)
        fail("asking", result);
}

static bool is_drained(int *pipe)
{
    static uint8_t bytes[256 * 1024];
    ssize_t length;
    while ((length = read(*pipe, bytes, sizeof bytes)) > 0)
        sent_bytes += (uint64_t)length;
    if (length < 0 && errno == EAGAIN)
        return false;
    if (epoll >= 0) /* else it is watched as long as the gate has it, too */
        epoll_ctl(epoll, EPOLL_CTL_DEL, *pipe, NULL);
    fd_close(pipe);
    return true;
}

/* true: a request was answered. */
static bool take_answer(struct program *program, size_t index)
{
    static struct read_packet packet;
    const char *what;
    int result = read_packet_receive(program->socket, TO_READER, &packet, &what);
    if (result == -EAGAIN)
        return false;
    if (result <= 0)
        fail("the connection has ended", result < 0 ? result : -ECONNRESET);
    switch (packet.header.type) {
    case READ_OBJECT_LENT:
        if (program->is_sender) {
            program->pipe = fd_take(&packet.fd);
            watch(program->pipe, index, true);
            return false;
        }
        read_packet_release(&packet);
        histogram_add(&lent, now_ns() - program->asked_ns);
        if (name_count <= NAMES_MAX)
            histogram_add(&of_name[program->name % name_count], now_ns() - program->asked_ns);
        return true;
    case READ_OBJECT_SENT:
        program->told = true;
        return program->pipe < 0;
    case READ_REFUSED:
        refused++;
        return true;
    default:
        fail("a strange answer", -EPROTO);
    }
}

static bool take_event(struct program *program, size_t index, bool is_pipe)
{
    if (is_pipe && program->pipe < 0)
        return false; /* it was told of it in the same turn */
    const bool is_answered =
        is_pipe ? is_drained(&program->pipe) && program->told : take_answer(program, index);
    if (is_answered && program->is_sender)
        histogram_add(&sent, now_ns() - program->asked_ns);
    return is_answered;
}

/* How many were answered. */
static uint64_t run(struct program *programs, size_t count)
{
    struct epoll_event events[EVENTS];
    const uint64_t each = options.seconds ? UINT64_MAX : options.requests / count;
    const uint64_t end = now_ns() + options.seconds * NS_PER_S;
    uint64_t answered = 0, under_way = each ? count : 0;
    for (size_t i = 0; i < count && each; i++) {
        programs[i].left = each;
        ask(&programs[i]);
    }
    while (under_way > 0) {
        int ready = epoll_wait(epoll, events, EVENTS, DEADLINE_S * 1000);
        if (ready <= 0)
            fail("nothing comes", -ETIMEDOUT);
        for (int i = 0; i < ready; i++) {
            const size_t index = (size_t)(events[i].data.u64 >> 1);
            if (!take_event(&programs[index], index, events[i].data.u64 & 1))
                continue;
            answered++;
            if (programs[index].left > 0 && (!options.seconds || now_ns() < end))
                ask(&programs[index]);
            else
                under_way--;
        }
    }
    return answered;
}

static void print_result(size_t connections, uint64_t answered, uint64_t took_ns)
{
    printf("{\"connections\": %zu, \"answered\": %llu, \"seconds\": %.6f, \"refused\": %llu, "
           "\"sent_bytes\": %llu, \"lent_max_ns\": %llu, \"sent_max_ns\": %llu, \"lent\": ",
           connections, (unsigned long long)answered, (double)took_ns / 1e9,
           (unsigned long long)refused, (unsigned long long)sent_bytes,
           (unsigned long long)lent.highest, (unsigned long long)sent.highest);
    histogram_print(&lent, stdout);
    printf(", \"sent\": ");
    histogram_print(&sent, stdout);
    printf(", \"of_name\": [");
    for (size_t i = 0; i < name_count && name_count <= NAMES_MAX; i++) {
        printf("%s", i ? ", " : "");
        histogram_print(&of_name[i], stdout);
    }
    printf("]}\n");
}

static void run_connections(char **arguments, int count)
{
    struct program *programs = calloc(options.connections, sizeof *programs);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!programs || epoll < 0)
        fail("beginning", -errno);
    const size_t connected = connect_all(programs, arguments[0]);
    if (connected == 0)
        fail(arguments[0], -EBUSY);
    if (options.idle) {
        char byte;
        printf("%zu\n", connected);
        fflush(stdout);
        while (read(STDIN_FILENO, &byte, 1) > 0)
            ;
        return;
    }
    channel = arguments[1];
    names = arguments + 2;
    name_count = (size_t)count - 2;
    const uint64_t begun = now_ns();
    const uint64_t answered = run(programs, connected);
    print_result(connected, answered, now_ns() - begun);
}

/* ---- without holdfast ---- */

static int bare_splice(int file, int to, uint64_t left)
{
    ssize_t length = 1;
    for (; left > 0 && length > 0; left -= (uint64_t)length)
        length = splice(file, NULL, to, NULL, left < PART_SIZE ? left : PART_SIZE, SPLICE_F_MOVE);
    return length > 0 ? 0 : -1;
}

static int bare_write(int file, int to, uint64_t left)
{
    static uint8_t bytes[PART_SIZE];
    ssize_t length = 1;
    for (; left > 0 && length > 0; left -= (uint64_t)length) {
        length = read(file, bytes, left < sizeof bytes ? left : sizeof bytes);
        if (length > 0)
            length = write(to, bytes, (size_t)length);
    }
    return length > 0 ? 0 : -1;
}

/* Passes on a pipe, and then what comes out of it. */
static int bare_send(int socket, int file)
{
    struct stat status;
    char nothing = 0;
    struct iovec part = {&nothing, 1};
    int ends[2];
    if (fstat(file, &status) < 0 || pipe2(ends, O_CLOEXEC) < 0 ||
        fdpass_send(socket, &part, 1, &ends[0], 1) < 0)
        return -1;
    close(ends[0]);
    uint64_t size = (uint64_t)status.st_size;
    if (options.length && options.length < size)
        size = options.length;
    int result = options.how == READ_SPLICE ? bare_splice(file, ends[1], size)
                                            : bare_write(file, ends[1], size);
    close(ends[1]);
    return result;
}

static _Noreturn void serve_bare(int socket, const char *path)
{
    char request;
    while (read(socket, &request, 1) == 1) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct iovec part = {&request, 1};
        if (fd < 0 ||
            (options.senders ? bare_send(socket, fd) : fdpass_send(socket, &part, 1, &fd, 1)) < 0)
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

static void run_bare(const char *path)
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
    for (uint64_t i = 0; i < options.requests; i++) {
        const uint64_t asked = now_ns();
        if (write(ends[0], "o", 1) != 1)
            fail("asking", -errno);
        int fd = receive_fd(ends[0]);
        if (fd < 0 || (options.senders && !is_drained(&fd)))
            fail("nothing came", -EPROTO);
        fd_close(&fd);
        histogram_add(options.senders ? &sent : &lent, now_ns() - asked);
    }
    const uint64_t took = now_ns() - begun;
    close(ends[0]);
    waitpid(pid, NULL, 0);
    print_result(1, options.requests, took);
}

/* ---- arguments ---- */

static bool parse(int argc, char **argv)
{
    int option;
    while ((option = getopt(argc, argv, "c:r:t:s:l:Sib")) != -1) {
        switch (option) {
        case 'c':
            options.connections = strtoull(optarg, NULL, 10);
            break;
        case 'r':
            options.requests = strtoull(optarg, NULL, 10);
            break;
        case 't':
            options.seconds = strtoull(optarg, NULL, 10);
            break;
        case 's':
            options.senders = strtoull(optarg, NULL, 10);
            break;
        case 'l':
            options.length = strtoull(optarg, NULL, 10);
            break;
        case 'S':
            options.how = READ_SPLICE;
            break;
        case 'i':
            options.idle = true;
            break;
        case 'b':
            options.bare = true;
            break;
        default:
            return false;
        }
    }
    return options.connections > 0 && argc - optind >= (options.idle || options.bare ? 1 : 3);
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    if (!parse(argc, argv)) {
        fprintf(stderr, "usage: bench_handout [-c CONNECTIONS] [-r REQUESTS | -t SECONDS] "
                        "[-s SENDERS] [-S] [-l LENGTH] SOCKET CHANNEL NAME... | -i SOCKET | "
                        "-b FILE\n");
        return 2;
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (options.bare)
        run_bare(argv[optind]);
    else
        run_connections(argv + optind, argc - optind);
    return 0;
}
