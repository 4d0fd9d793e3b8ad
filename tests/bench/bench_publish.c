/* SPDX-License-Identifier: MIT */
/* What publishing costs a program: hf_reserve, filling 256 bytes, hf_commit, against a consumer on
 * another processor, or against nobody until the outbox is full. No daemon: a thread hands out the
 * outbox, and another one takes from it as a worker does. Times are CPU time.
 *
 *   bench_publish [MILLIONS]     one line of JSON */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/outbox.h"
#include "common/read_protocol.h"
#include "tests/bench/support.h"

#define CAPACITY (1u << 20) /* the default */
#define LENGTH   256u
#define ROUNDS   401 /* of filling the whole outbox */

static int fds[OUTBOX_FDS], worker_bell, listening;
static struct outbox_map map;
static atomic_bool stop;

static int make_memory(uint64_t size)
{
    int fd = memfd_create("bench", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        support_fail("memory");
    return fd;
}

static void make_box(void)
{
    const struct outbox_answer answer = {
        .magic = OUTBOX_MAGIC, .id = 1, .capacity = CAPACITY, .max_datagram = 2048, .records = 1};
    int bells[2];
    fds[0] = make_memory(OUTBOX_HEAD_SIZE + CAPACITY);
    fds[1] = make_memory(OUTBOX_ANSWER_SIZE);
    fds[3] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pwrite(fds[1], &answer, sizeof answer, 0) != sizeof answer || fds[3] < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, bells) < 0 ||
        outbox_map(fds[0], fds[1], OUTBOX_WORKER, &map) < 0)
        support_fail("outbox");
    worker_bell = bells[0];
    fds[2] = bells[1];
}

static void *serve(void *unused)
{
    struct read_packet packet;
    const char *what;
    (void)unused;
    int peer = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    const struct read_published published = {1};
    const struct read_header about = {
        .type = READ_PUBLISHED, .request = 2, .size = sizeof published};
    const struct read_welcome welcome = {1};
    while (peer >= 0 && read_packet_receive(peer, TO_GATE, &packet, &what) == 1)
        if (packet.header.type == READ_HELLO)
            read_packet_send(peer, READ_WELCOME, packet.header.request, &welcome, sizeof welcome,
                             -1);
        else if (packet.header.type == READ_PUBLISH)
            read_packet_send_fds(peer, &about, &published, fds, OUTBOX_FDS);
    return NULL;
}

static hf_writer *publish(hf **ret_handle)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    pthread_t thread;
    hf_writer *writer;
    char folder[] = "/tmp/bench_publish.XXXXXX";
    if (!mkdtemp(folder))
        support_fail("folder");
    snprintf(address.sun_path, sizeof address.sun_path, "%s/read.sock", folder);
    listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (bind(listening, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listening, 4) < 0)
        support_fail("socket");
    /* hf_open() has a connection of its own. */
    for (int i = 0; i < 2; i++)
        if (pthread_create(&thread, NULL, serve, NULL) != 0)
            support_fail("thread");
    support_check(hf_open(ret_handle, address.sun_path), "hf_open");
    support_check(hf_publish(*ret_handle, "bench", &writer), "hf_publish");
    unlink(address.sun_path);
    rmdir(folder);
    return writer;
}

static void release(struct outbox_consumer *consumer, uint64_t count)
{
    if (outbox_release(consumer, count) && send(worker_bell, "", 1, MSG_NOSIGNAL) < 0)
        support_fail("bell");
}

static uint64_t take_all(struct outbox_consumer *consumer, uint64_t *count)
{
    const char *what;
    struct outbox_taken taken;
    static uint8_t to[2048];
    const uint64_t before = *count;
    if (outbox_look(consumer, &what) < 0)
        support_refuse("the consumer found nonsense");
    while (outbox_take(consumer, INT64_MAX, &taken, &what) > 0) {
        memcpy(to, taken.data, taken.length); /* as into a ring */
        if (++*count % 64 == 0)
            release(consumer, *count);
    }
    if (*count > before)
        release(consumer, *count);
    return *count - before;
}

static void *consume(void *data)
{
    uint64_t count = 0;
    while (!stop)
        take_all(data, &count);
    return NULL;
}

static bool put(hf_writer *writer, const uint8_t *from)
{
    void *room;
    if (hf_reserve(writer, LENGTH, &room) < 0)
        return false;
    memcpy(room, from, LENGTH);
    return hf_commit(writer, LENGTH) == 0;
}

int main(int argc, char **argv)
{
    const uint64_t most = (argc > 1 ? support_number(argv[1], 10000) : 10) * 1000000;
    uint8_t from[LENGTH] = {1};
    struct outbox_consumer consumer;
    uint64_t taken = 0, waits = 0, count = 0;
    static uint64_t ps[ROUNDS]; /* for each datagram */
    pthread_t thread;
    hf *handle;
    make_box();
    hf_writer *writer = publish(&handle);
    outbox_consumer_open(&consumer, &map, 0, 2048);
    for (int round = 0; round < ROUNDS; round++) { /* the first one touches the pages */
        const uint64_t begun = support_thread_cpu_ns();
        uint64_t now = 0;
        while (put(writer, from))
            now++;
        ps[round] = (support_thread_cpu_ns() - begun) * 1000 / now;
        take_all(&consumer, &taken);
    }
    if (pthread_create(&thread, NULL, consume, &consumer) != 0)
        support_fail("thread");
    struct pollfd room = {.fd = hf_writer_fd(writer), .events = POLLIN};
    const uint64_t begun = support_thread_cpu_ns();
    while (count < most)
        if (put(writer, from))
            count++;
        else if (poll(&room, 1, -1) >= 0)
            waits++;
    const uint64_t ns = support_thread_cpu_ns() - begun;
    stop = true;
    pthread_join(thread, NULL);
    printf("{\"bytes\": %u, \"alone_ns\": %.1f, \"beside_a_consumer_ns\": %.1f, \"full\": %llu}\n",
           LENGTH, (double)support_percentile(ps + 1, ROUNDS - 1, 50) / 1000,
           (double)ns / (double)most, (unsigned long long)waits);
    hf_close(handle);
    return 0;
}
