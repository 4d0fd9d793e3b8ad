/* SPDX-License-Identifier: MIT */
/* A reader of another user who wants to do harm, with what it is lent by the gate. In mode `try` it
 * attempts every way to alter, stop or hold up others, one line for each:
 *   <what> refused <errno's name>      the kernel, or the gate, did not let it
 *   <what> ALLOWED                     and that is a fault
 *   <what> harmless                    it may, and the test sees by others that nothing comes of it
 * Then it holds on to all that it got, locks included, until its stdin ends. Other modes bother the
 * gate: `idle N` connections that say nothing, `deaf` asks and never reads, `garbage N` packets of
 * any content, `half` the beginning of requests, over and over; `covet NAME` wants to forget
 * another user's position, without a pause. Says "ready" when it has begun. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/read_protocol.h"

#define OLD_MODE    1 /* HF_OLD of holdfast.h */
#define PATIENCE_MS 5000
#define SEALS_WANTED                                                                               \
    (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

static const char *read_socket;
static const char *channel;

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "tool_hostile_reader: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void become(uid_t uid)
{
    if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
        fail("becoming another user");
    if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0) /* /proc/self/fd is its own again */
        fail("PR_SET_DUMPABLE");
}

static int connect_reader(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", read_socket);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

/* The answer to one request; its descriptor, or -errno of a refusal. */
static int ask(int connection, enum read_type type, const void *payload, size_t size)
{
    static struct read_packet packet;
    static uint32_t request;
    const char *what;
    int error = read_packet_send(connection, type, ++request, payload, size, -1);
    struct pollfd readable = {.fd = connection, .events = POLLIN};
    while (error == 0 && poll(&readable, 1, PATIENCE_MS) == 1) {
        int result = read_packet_receive(connection, TO_READER, &packet, &what);
        if (result != 1)
            return result == 0 ? -ECONNRESET : result;
        if (packet.header.request != request) {
            read_packet_release(&packet);
            continue;
        }
        if (packet.header.type == READ_REFUSED)
            return -packet.refused->error;
        return packet.fd;
    }
    return error < 0 ? error : -ETIMEDOUT;
}

static void say(const char *what, const char *of, bool allowed)
{
    int error = errno;
    if (allowed)
        printf("%s of %s ALLOWED\n", what, of);
    else
        printf("%s of %s refused %s\n", what, of, strerrorname_np(error));
}

/* Whatever could alter the file behind the descriptor, or keep others from doing so. */
static void try_to_alter(int fd, const char *of)
{
    static const int ways[] = {O_RDWR, O_WRONLY, O_RDWR | O_TRUNC, O_WRONLY | O_APPEND};
    static const char *const names[] = {"opening read-write", "opening to write",
                                        "opening to truncate", "opening to append"};
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        int again = open(path, ways[i] | O_CLOEXEC);
        say(names[i], of, again >= 0);
        if (again >= 0)
            close(again);
    }
    say("write", of, pwrite(fd, "x", 1, 0) == 1);
    say("ftruncate", of, ftruncate(fd, 0) == 0);
    say("fallocate", of, fallocate(fd, 0, 0, 1 << 20) == 0);
    say("punching a hole", of,
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20) == 0);
    say("fchmod", of, fchmod(fd, 0777) == 0);
    say("fchown", of, fchown(fd, getuid(), getgid()) == 0);
    say("adding seals", of, fcntl(fd, F_ADD_SEALS, SEALS_WANTED) == 0);
    say("a write lock", of,
        fcntl(fd, F_OFD_SETLK, &(struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET}) == 0);
    say("a lease", of, fcntl(fd, F_SETLEASE, F_WRLCK) == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    char name[64];
    snprintf(name, sizeof name, "/tmp/hostile-link-%d", (int)getpid());
    bool linked = linkat(AT_FDCWD, path, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0;
    say("linking", of, linked);
    if (linked)
        unlink(name);
}

static void try_the_map(int fd, const char *of)
{
    size_t size = 65536;
    say("a shared writable map", of,
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED);
    uint8_t *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        say("a readable map", of, false);
        return;
    }
    say("mprotect", of, mprotect(map, size, PROT_READ | PROT_WRITE) == 0);
    say("MADV_REMOVE", of, madvise(map, size, MADV_REMOVE) == 0);
    printf("MADV_DONTNEED of %s harmless\n", of);
    madvise(map, size, MADV_DONTNEED);
    mlock(map, size);
}

/* These it may: the test sees that nobody is held up. */
static void hold_locks(int fd, const char *of)
{
    struct flock whole = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    fcntl(fd, F_SETLK, &whole);
    fcntl(fd, F_OFD_SETLK, &whole);
    flock(fd, LOCK_EX | LOCK_NB);
    fcntl(fd, F_SETFL, 0);
    fcntl(fd, F_SETSIG, SIGIO);
    fcntl(fd, F_NOTIFY, 0);
    lseek(fd, 12345, SEEK_SET);
    fsync(fd);
    printf("locks and flags of %s harmless\n", of);
}

static void wait_for_end(void)
{
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
}

static void try_everything(void)
{
    int connection = connect_reader();
    if (connection < 0) {
        errno = -connection;
        fail("connecting");
    }
    struct read_attach attach = {.mode = OLD_MODE};
    snprintf(attach.channel, sizeof attach.channel, "%s", channel);
    int memory = ask(connection, READ_ATTACH, &attach, sizeof attach);
    struct read_find newest = {.by = READ_LAST}, oldest = {.by = READ_FIRST};
    int last = ask(connection, READ_FIND, &newest, sizeof newest);
    int first = ask(connection, READ_FIND, &oldest, sizeof oldest);
    if (memory < 0 || last < 0 || first < 0) {
        errno = memory < 0 ? -memory : last < 0 ? -last : -first;
        fail("what it is lent");
    }
    const struct {
        int fd;
        const char *name;
    } lent[] = {{memory, "memory"}, {last, "the newest segment"}, {first, "the oldest segment"}};
    for (size_t i = 0; i < sizeof lent / sizeof *lent; i++) {
        try_to_alter(lent[i].fd, lent[i].name);
        try_the_map(lent[i].fd, lent[i].name);
        hold_locks(lent[i].fd, lent[i].name);
    }
    int one = 1; /* its end of the connection, blocking and full of its own wishes */
    fcntl(connection, F_SETFL, 0);
    setsockopt(connection, SOL_SOCKET, SO_RCVBUF, &one, sizeof one);
    setsockopt(connection, SOL_SOCKET, SO_PASSCRED, &one, sizeof one);
    say("another listening", "its connection", listen(connection, 5) == 0);
    printf("ready\n");
    fflush(stdout);
    wait_for_end();
}

static void idle(int count)
{
    int connected = 0, turned_away = 0;
    for (int i = 0; i < count; i++) {
        int fd = connect_reader();
        connected += fd >= 0;
        turned_away += fd < 0;
    }
    printf("%d connected, %d turned away\nready\n", connected, turned_away);
    fflush(stdout);
    wait_for_end();
}

static bool is_over(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&input, 1, 0) != 0;
}

/* Asks for lists as fast as they are taken, and reads no answer; then again on a new connection. */
static void deaf(void)
{
    const struct read_list list = {0};
    int connection = connect_reader();
    printf("ready\n");
    fflush(stdout);
    while (!is_over()) {
        int error = connection < 0
                        ? connection
                        : read_packet_send(connection, READ_LIST, 1, &list, sizeof list, -1);
        if (error == -EAGAIN) {
            poll(&(struct pollfd){.fd = connection, .events = POLLOUT}, 1, 20);
        } else if (error < 0) {
            if (connection >= 0)
                close(connection);
            connection = connect_reader();
            if (connection < 0)
                poll(NULL, 0, 10);
        }
    }
}

static void fill(uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t got = getrandom(bytes, size < 256 ? size : 256, 0);
        if (got <= 0)
            fail("getrandom");
        bytes += got;
        size -= (size_t)got;
    }
}

/* Half of them with a proper header: more than the first check is met. */
static size_t make_garbage(uint8_t *bytes, size_t size)
{
    fill(bytes, size);
    uint16_t length;
    memcpy(&length, bytes, sizeof length);
    length = (uint16_t)(length % size);
    struct read_header header = {.magic = READ_MAGIC, .version = READ_VERSION};
    header.type = bytes[2] % 26;
    header.size = length > sizeof header ? length - (uint32_t)sizeof header : 0;
    if (bytes[3] % 2 && length >= sizeof header)
        memcpy(bytes, &header, sizeof header);
    return length;
}

/* Of the right size for its type, and nonsense inside. */
static size_t make_plausible(uint8_t *bytes)
{
    static const uint32_t sizes[] = {
#define READ_PACKET(NAME, number, direction, payload, fds) [number] = sizeof(struct read_##payload),
#include "common/read_protocol.def"
#undef READ_PACKET
    };
    uint8_t chance[2];
    fill(chance, sizeof chance);
    uint16_t type = (uint16_t)(chance[0] % (sizeof sizes / sizeof *sizes));
    struct read_header header = {
        .magic = READ_MAGIC, .version = READ_VERSION, .type = type, .size = sizes[type]};
    fill(bytes + sizeof header, sizes[type]);
    if (chance[1] % 2)
        for (size_t i = 0; i < sizes[type]; i++)
            bytes[sizeof header + i] &= (uint8_t)(chance[1] % 4 ? 3 : 0x3f);
    memcpy(bytes, &header, sizeof header);
    return sizeof header + sizes[type];
}

static void garbage(long count)
{
    static uint8_t bytes[READ_PACKET_MAX + 4096];
    int connection = -1;
    uint64_t sent = 0, ended = 0;
    printf("ready\n");
    fflush(stdout);
    for (long i = 0; i < count && !is_over(); i++) {
        if (connection < 0 && (connection = connect_reader()) < 0) {
            poll(NULL, 0, 10);
            continue;
        }
        size_t size =
            i % 2 ? make_plausible(bytes) : make_garbage(bytes, i % 64 ? 600 : sizeof bytes);
        if (send(connection, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
            if (errno == EAGAIN)
                poll(&(struct pollfd){.fd = connection, .events = POLLOUT}, 1, 5);
            else
                ended++;
            close(connection);
            connection = -1;
        } else {
            sent++;
        }
    }
    printf("%llu sent, %llu ended\n", (unsigned long long)sent, (unsigned long long)ended);
    fflush(stdout);
}

/* The beginning of a request with descriptors in tow, then the end of the connection. */
static void half(void)
{
    printf("ready\n");
    fflush(stdout);
    while (!is_over()) {
        int connection = connect_reader();
        if (connection < 0) {
            poll(NULL, 0, 10);
            continue;
        }
        const struct read_attach attach = {.channel = "engine", .mode = OLD_MODE};
        struct read_header header = {.magic = READ_MAGIC,
                                     .version = READ_VERSION,
                                     .type = READ_ATTACH,
                                     .size = sizeof attach};
        send(connection, &header, sizeof header / 2, MSG_NOSIGNAL);
        send(connection, &header, sizeof header, MSG_NOSIGNAL);
        read_packet_send(connection, READ_ATTACH, 1, &attach, sizeof attach, STDIN_FILENO);
        close(connection);
    }
}

/* On one connection, which always has the next one waiting in it. */
static void covet(const char *name)
{
    static struct read_packet packet;
    const char *what;
    struct read_position position = {0};
    int connection = connect_reader();
    if (connection < 0 || fcntl(connection, F_SETFL, O_NONBLOCK) < 0)
        fail("connecting");
    snprintf(position.channel, sizeof position.channel, "%s", channel);
    snprintf(position.name, sizeof position.name, "%s", name);
    printf("ready\n");
    fflush(stdout);
    while (!is_over()) {
        while (read_packet_send(connection, READ_FORGET, 1, &position, sizeof position, -1) == 0)
            ;
        poll(&(struct pollfd){.fd = connection, .events = POLLIN}, 1, 100);
        int result;
        while ((result = read_packet_receive(connection, TO_READER, &packet, &what)) == 1)
            if (packet.header.type != READ_REFUSED) {
                printf("forgotten ALLOWED\n");
                return;
            }
        if (result != -EAGAIN)
            fail("receiving");
    }
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: tool_hostile_reader READ_SOCKET CHANNEL UID "
                        "try | idle N | deaf | garbage N | half | covet NAME "
                        "    (UID 0: as who starts it)\n");
        return 2;
    }
    read_socket = argv[1];
    channel = argv[2];
    const char *mode = argv[4];
    long count = argc > 5 ? strtol(argv[5], NULL, 10) : 0;
    if (strtol(argv[3], NULL, 10) != 0)
        become((uid_t)strtol(argv[3], NULL, 10));
    if (strcmp(mode, "try") == 0)
        try_everything();
    else if (strcmp(mode, "idle") == 0)
        idle((int)count);
    else if (strcmp(mode, "deaf") == 0)
        deaf();
    else if (strcmp(mode, "garbage") == 0)
        garbage(count);
    else if (strcmp(mode, "half") == 0)
        half();
    else if (strcmp(mode, "covet") == 0 && argc > 5)
        covet(argv[5]);
    else
        return 2;
    return 0;
}
