/* SPDX-License-Identifier: MIT */
/* A publisher of another user who wants to do harm, with the outbox that it is lent:
 *   try          every way to alter, stop or hold up others with its descriptors, one line for
 * each: "refused" where the kernel did not let it, "ALLOWED" where that is a fault, "harmless"
 * where it may. Then it keeps all scribble     random bytes over head and records, without end
 *   lengths      sound datagrams, whose lengths change while they are read
 *   back         `committed` goes back and forth
 *   holes        sound datagrams, and holes punched into the box all the time
 *   bells        the call filled to the brim and emptied, over and over, and the bell sent data and
 * descriptors times        sound datagrams of the past and of the future crowd N      asks for N
 * outboxes and keeps what it gets child        its child keeps the bell, and it dies Each but the
 * last four begins anew when it is cut off, until its stdin ends. Says "ready" when it has begun,
 * and at the end how often it was lent an outbox. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/monotonic.h"
#include "common/outbox.h"
#include "common/read_protocol.h"

#define PATIENCE_MS 5000
#define TURNS       200 /* between looks at whether it is cut off */

static const char *read_socket;
static const char *channel;
static uint64_t seed = 1;

struct box {
    int connection;
    int fds[OUTBOX_FDS];
    struct outbox_map map;
    struct outbox_producer producer;
};

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "tool_hostile_publisher: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t chance(void)
{
    seed += 0x9e3779b97f4a7c15ull;
    uint64_t mix = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9ull;
    mix = (mix ^ mix >> 27) * 0x94d049bb133111ebull;
    return mix ^ mix >> 31;
}

static void become(uid_t uid)
{
    if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
        fail("becoming another user");
    if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0) /* /proc/self/fd is its own again */
        fail("PR_SET_DUMPABLE");
}

static bool is_over(void)
{
    return poll(&(struct pollfd){.fd = STDIN_FILENO, .events = POLLIN}, 1, 0) != 0;
}

static void begun(void)
{
    static bool said;
    if (!said)
        printf("ready\n");
    said = true;
    fflush(stdout);
}

/* ---- an outbox ---- */

static int request(int connection, enum read_type type, const void *payload, size_t size,
                   int ret_fds[OUTBOX_FDS])
{
    static struct read_packet packet;
    const char *what;
    int error = read_packet_send(connection, type, 1, payload, size, -1);
    if (error == 0 &&
        poll(&(struct pollfd){.fd = connection, .events = POLLIN}, 1, PATIENCE_MS) < 1)
        return -ETIMEDOUT;
    if (error == 0)
        error = read_packet_receive(connection, TO_READER, &packet, &what);
    if (error != 1)
        return error == 0 ? -ECONNRESET : error;
    if (packet.header.type == READ_REFUSED)
        return -packet.refused->error;
    for (uint32_t i = 0; i < OUTBOX_FDS && ret_fds; i++)
        ret_fds[i] = fd_take(&packet.fds[i]);
    read_packet_release(&packet);
    return 0;
}

static int ask_for_box(struct box *box)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct read_hello hello = {.program = "hostile"};
    struct read_publish publish = {0};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", read_socket);
    snprintf(publish.channel, sizeof publish.channel, "%s", channel);
    *box = (struct box){.fds = {-1, -1, -1, -1}};
    box->connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int error = connect(box->connection, (const struct sockaddr *)&address, sizeof address) < 0
                    ? -errno
                    : request(box->connection, READ_HELLO, &hello, sizeof hello, NULL);
    if (error == 0)
        error = request(box->connection, READ_PUBLISH, &publish, sizeof publish, box->fds);
    if (error == 0)
        error = outbox_map(box->fds[0], box->fds[1], OUTBOX_PUBLISHER, &box->map);
    if (error == 0)
        outbox_producer_open(&box->producer, &box->map);
    else
        fd_close(&box->connection);
    return error;
}

static void give_up(struct box *box)
{
    outbox_unmap(&box->map);
    fd_close_all(box->fds, OUTBOX_FDS);
    fd_close(&box->connection);
}

static bool is_cut_off(const struct box *box)
{
    return atomic_load(&box->map.answer->state) != OUTBOX_OPEN;
}

static void call(const struct box *box)
{
    const uint64_t one = 1;
    ssize_t written = write(box->fds[3], &one, sizeof one);
    (void)written;
}

/* A sound one, which says whose it is. */
static void publish(struct box *box, int64_t time_ns)
{
    void *to;
    bool is_to_call;
    if (outbox_reserve(&box->producer, 64, &to) < 0)
        return;
    memset(to, 'h', 64);
    memcpy(to, "hostile 0 ", 10);
    if (outbox_commit(&box->producer, 64, time_ns, &is_to_call) == 0 && is_to_call)
        call(box);
}

/* One of the last few. */
static struct outbox_record *recent_record(const struct box *box)
{
    uint64_t at = box->producer.committed - (1 + chance() % 8) * outbox_record_size(64);
    return (struct outbox_record *)(box->map.records + (at & (box->map.capacity - 1)));
}

/* ---- what it does with it, a turn at a time ---- */

static void scribble(struct box *box)
{
    uint8_t *at = (uint8_t *)box->map.head;
    uint64_t size = chance() % 4 ? 128 : OUTBOX_HEAD_SIZE + box->map.capacity;
    at[chance() % size] = (uint8_t)chance();
    if (chance() % 64 == 0) /* within what is possible, so that records are looked at */
        atomic_store(&box->map.head->committed,
                     atomic_load(&box->map.answer->taken) + chance() % box->map.capacity / 8 * 8);
    call(box);
}

static void change_lengths(struct box *box)
{
    static const uint32_t lengths[] = {0, 1, 63, 65, 2048, 2049, 65535, 1u << 31, UINT32_MAX};
    publish(box, (int64_t)realtime_now_ns());
    if (box->producer.committed < 8 * outbox_record_size(64))
        return;
    struct outbox_record *record = recent_record(box);
    atomic_store(&record->length, lengths[chance() % (sizeof lengths / sizeof *lengths)]);
    for (uint64_t i = chance() % 256; i > 0; i--)
        atomic_load(&record->length);
    atomic_store(&record->length, 64);
}

static void go_back(struct box *box)
{
    publish(box, (int64_t)realtime_now_ns());
    uint64_t now = atomic_load(&box->map.head->committed);
    atomic_store(&box->map.head->committed, now - chance() % 1024);
    atomic_store(&box->map.head->committed, now + (chance() % 2 ? box->map.capacity : 0));
    atomic_store(&box->map.head->committed, now);
}

static void punch(struct box *box)
{
    for (int i = 0; i < 16; i++)
        publish(box, (int64_t)realtime_now_ns());
    off_t from = chance() % 2 ? OUTBOX_HEAD_SIZE : (off_t)(chance() % box->map.capacity);
    if (fallocate(box->fds[0], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from,
                  (off_t)box->map.capacity) < 0)
        fail("punching a hole");
}

static void send_along(int bell)
{
    char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof bell)};
    memcpy(CMSG_DATA(header), &bell, sizeof bell);
    if (sendmsg(bell, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 ||
        send(bell, &byte, 1, MSG_OOB | MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
        printf("sending through the bell ALLOWED\n");
}

static void flood(struct box *box)
{
    const uint64_t brim = UINT64_MAX - 1;
    uint64_t value;
    fcntl(box->fds[3], F_SETFL, O_NONBLOCK);
    ssize_t done = read(box->fds[3], &value, sizeof value);
    done += write(box->fds[3], &brim, sizeof brim);
    (void)done;
    fcntl(box->fds[3], F_SETFL, 0);
    fcntl(box->fds[2], F_SETFL, 0);
    send_along(box->fds[2]);
    atomic_store(&box->map.head->wants_room, chance() % 1024);
    atomic_store(&box->map.head->wants_durable, chance() % 1024);
}

static void lie_about_time(struct box *box)
{
    static const int64_t times[] = {INT64_MIN, -1, 0, 1, INT64_MAX};
    publish(box, times[chance() % (sizeof times / sizeof *times)]);
}

static void work(void (*turn)(struct box *))
{
    struct box box;
    uint64_t lent = 0;
    while (!is_over()) {
        int error = ask_for_box(&box);
        if (error < 0) {
            poll(NULL, 0, 10);
            continue;
        }
        begun();
        lent++;
        while (!is_over() && !is_cut_off(&box)) {
            for (int i = 0; i < TURNS && !is_cut_off(&box); i++)
                turn(&box);
            poll(NULL, 0, 1); /* the disk has to take what is sound of it */
        }
        give_up(&box);
    }
    printf("lent %llu\n", (unsigned long long)lent);
}

/* ---- what it tries once ---- */

static void say(const char *what, const char *of, bool allowed)
{
    int error = errno;
    printf("%s of %s %s %s\n", what, of, allowed ? "ALLOWED" : "refused",
           allowed ? "" : strerrorname_np(error));
}

static void try_to_open(int fd, const char *of)
{
    static const int ways[] = {O_RDWR, O_WRONLY, O_RDWR | O_TRUNC, O_WRONLY | O_APPEND};
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        say("opening again", of, open(path, ways[i] | O_CLOEXEC) >= 0);
}

/* Neither of the two may change its size, its owner or its seals. */
static void try_to_shape(int fd, const char *of)
{
    say("ftruncate", of, ftruncate(fd, 0) == 0);
    say("growing", of, ftruncate(fd, 1 << 30) == 0);
    say("fchmod", of, fchmod(fd, 0777) == 0);
    say("fchown", of, fchown(fd, getuid(), getgid()) == 0);
    say("adding seals", of, fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) == 0);
    say("a lease", of, fcntl(fd, F_SETLEASE, F_WRLCK) == 0);
}

static void try_the_answer(int fd)
{
    say("write", "the answer", pwrite(fd, "x", 1, 0) == 1);
    say("a hole", "the answer",
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0);
    say("a writable map", "the answer",
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED);
    void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    say("mprotect", "the answer", mprotect(map, 4096, PROT_READ | PROT_WRITE) == 0);
    say("MADV_REMOVE", "the answer", madvise(map, 4096, MADV_REMOVE) == 0);
}

static void hold_what_it_may(int fd)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    fcntl(fd, F_OFD_SETLK, &whole);
    fcntl(fd, F_SETLK, &whole);
    flock(fd, LOCK_EX | LOCK_NB);
    fcntl(fd, F_SETSIG, SIGKILL);
    fcntl(fd, F_SETOWN, 1);
    fcntl(fd, F_SETFL, O_ASYNC | O_APPEND | O_NOATIME);
    fcntl(fd, F_SETFL, 0);
    lseek(fd, 12345, SEEK_SET);
}

static void try_everything(void)
{
    struct box box;
    int error = ask_for_box(&box);
    if (error < 0) {
        errno = -error;
        fail("an outbox");
    }
    try_to_open(box.fds[0], "the box");
    try_to_open(box.fds[1], "the answer");
    try_to_shape(box.fds[0], "the box");
    try_to_shape(box.fds[1], "the answer");
    try_the_answer(box.fds[1]);
    for (uint32_t i = 0; i < OUTBOX_FDS; i++)
        hold_what_it_may(box.fds[i]);
    printf("locks and flags harmless\n");
    begun();
    while (!is_over())
        publish(&box, (int64_t)realtime_now_ns()), poll(NULL, 0, 1);
}

static void crowd(long count)
{
    struct box box;
    long lent = 0;
    int error = 0;
    for (long i = 0; i < count; i++) {
        int result = ask_for_box(&box);
        lent += result == 0;
        error = result < 0 ? -result : error;
    }
    printf("%ld of %ld lent, %s\n", lent, count, error ? strerrorname_np(error) : "all");
    begun();
    while (!is_over())
        poll(NULL, 0, 10);
}

static void leave_child(void)
{
    struct box box;
    if (ask_for_box(&box) < 0)
        fail("an outbox");
    publish(&box, 0);
    if (fork() == 0) {
        begun();
        while (!is_over())
            poll(NULL, 0, 10);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*turn)(struct box *);
    } ways[] = {{"scribble", scribble}, {"lengths", change_lengths},
                {"back", go_back},      {"holes", punch},
                {"bells", flood},       {"times", lie_about_time}};
    if (argc < 5) {
        fprintf(stderr, "usage: tool_hostile_publisher READ_SOCKET CHANNEL UID try | scribble | "
                        "lengths | back | "
                        "holes | bells | times | crowd N | child    (UID 0: as who starts it)\n");
        return 2;
    }
    read_socket = argv[1];
    channel = argv[2];
    seed = (uint64_t)getpid();
    if (strtol(argv[3], NULL, 10) != 0)
        become((uid_t)strtol(argv[3], NULL, 10));
    if (strcmp(argv[4], "try") == 0)
        try_everything();
    else if (strcmp(argv[4], "crowd") == 0 && argc > 5)
        crowd(strtol(argv[5], NULL, 10));
    else if (strcmp(argv[4], "child") == 0)
        leave_child();
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (strcmp(argv[4], ways[i].name) == 0)
            work(ways[i].turn);
    return 0;
}
