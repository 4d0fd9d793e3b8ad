/* SPDX-License-Identifier: MIT */
/* Whatever readers do, the gate goes on serving those beside them, and when they are gone it is as
 * large as before. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/avro_log_header.h"
#include "common/client/holdfast.h"
#include "common/fd.h"
#include "common/fdpass.h"
#include "common/log_folder.h"
#include "common/monotonic.h"
#include "tests/lib/deny_call.h"
#include "tests/lib/gate_rig.h"
#include "tests/lib/unit.h"

#define RING 77

static struct gate_rig rig;
static struct ring_fixture fixture;
static int neighbour; /* a reader that behaves */
static char first_log[SEGMENT_NAME_SIZE];

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

static void begin(const struct denied_call *denied)
{
    const struct ring_fixture_settings settings = {.ring_size = 1 << 20, .max_datagram = 1400};
    ring_fixture_open(&fixture, &settings);
    gate_rig_prepare(&rig);
    rig.denied = denied;
    gate_rig_lend(&rig, GATE_RIG_CHANNEL, RING, fixture.memory.ring);
    gate_rig_log(&rig, 0, 10, false, first_log);
    gate_rig_start(&rig);
    neighbour = gate_rig_connect(&rig);
    gate_rig_attach(neighbour, GATE_RIG_CHANNEL, HF_NEW);
}

static void setup(void)
{
    begin(NULL);
}

/* As Linux before 6.16 has it. */
static void setup_older(void)
{
    static const struct denied_call denied = {
        .number = SYS_setsockopt, .error = ENOPROTOOPT, .argument = 2, .is = SO_PASSRIGHTS};
    begin(&denied);
}

static void teardown(void)
{
    fd_close(&neighbour);
    gate_rig_end(&rig);
    ring_fixture_close(&fixture);
}

/* The neighbour is served: with a descriptor, and with a wake-up. */
static void neighbour_is_served(void)
{
    static uint64_t seq;
    const struct read_arm arm = {.what = READ_FOR_COMMITTED, .seq = seq, .ring = RING};
    ck_assert_str_eq(gate_rig_find(neighbour, READ_FIRST, 0)->found->name, first_log);
    gate_rig_request(neighbour, READ_ARM, 0, &arm, sizeof arm);
    gate_rig_quiet(neighbour);
    channel_page_write_commit(fixture.ring.page, &(struct commit_progress){.next_seq = ++seq});
    read_wake_ring(&rig.words[GATE_RIG_WORD], rig.bell);
    gate_rig_answer(neighbour, READ_WOKEN);
}

/* ---- packets ---- */

struct packet {
    struct read_header header;
    union {
        struct read_find find;
        struct read_arm arm;
        struct read_attach attach;
        uint8_t bytes[READ_PACKET_MAX];
    };
};

static struct packet proper_find(void)
{
    struct packet packet = {.header = {.magic = READ_MAGIC,
                                       .version = READ_VERSION,
                                       .type = READ_FIND,
                                       .request = 5,
                                       .size = sizeof packet.find}};
    packet.find.by = READ_FIRST;
    return packet;
}

/* It is none of the protocol's: the connection ends, and it is counted. */
static void expelled(const void *bytes, size_t size)
{
    uint64_t before = gate_rig_report(&rig)->value[GATE_COUNTER_refused];
    int reader = gate_rig_connect(&rig);
    ck_assert_int_eq(send(reader, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
    gate_rig_expect_end(reader);
    fd_close(&reader);
    ck_assert_uint_eq(gate_rig_report(&rig)->value[GATE_COUNTER_refused], before + 1);
    neighbour_is_served();
}

START_TEST(what_is_none_of_the_protocol_ends_its_connection)
{
    static struct packet packet;
    const size_t size = sizeof packet.header + sizeof packet.find;
    packet = proper_find();
    for (size_t part = 1; part < size; part += 5)
        expelled(&packet, part);
    expelled(&packet, size + 1);
    expelled(&packet, sizeof packet);
    packet.header.magic++;
    expelled(&packet, size);
    packet = proper_find();
    packet.header.version++;
    expelled(&packet, size);
    packet = proper_find();
    packet.header.size--;
    expelled(&packet, size);
    packet.header.size = UINT32_MAX;
    expelled(&packet, size);
    packet = proper_find();
    for (unsigned type = 0; type < 70; type++) {
        packet.header.type = (uint16_t)(type < 64 ? type : type * 1000);
        if (strcmp(read_packet_name(packet.header.type), "unknown") == 0)
            expelled(&packet, size);
    }
}
END_TEST

START_TEST(what_the_gate_says_is_not_for_readers_to_say)
{
    static struct packet packet;
#define READ_PACKET(NAME, number, direction, payload_name, fds)                                    \
    if (direction == TO_READER) {                                                                  \
        memset(&packet, 0, sizeof packet);                                                         \
        packet.header = (struct read_header){.magic = READ_MAGIC,                                  \
                                             .version = READ_VERSION,                              \
                                             .type = number,                                       \
                                             .size = sizeof(struct read_##payload_name)};          \
        expelled(&packet, sizeof packet.header + packet.header.size);                              \
    }
#include "common/read_protocol.def"
#undef READ_PACKET
}
END_TEST

START_TEST(who_arms_for_nothing_is_expelled)
{
    struct packet packet = proper_find();
    packet.header.type = READ_ARM;
    packet.header.size = sizeof packet.arm;
    packet.arm = (struct read_arm){.what = READ_FOR_COMMITTED};
    expelled(&packet, sizeof packet.header + sizeof packet.arm); /* of which channel? */
    int reader = gate_rig_connect(&rig);
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEW);
    packet.arm.what = 3;
    ck_assert_int_gt(send(reader, &packet, sizeof packet.header + sizeof packet.arm, 0), 0);
    gate_rig_expect_end(reader);
    fd_close(&reader);
    neighbour_is_served();
}
END_TEST

/* The kernel keeps them away, or the connection ends; none stays in the gate. */
START_TEST(descriptors_are_not_taken)
{
    struct packet packet = proper_find();
    const struct iovec part = {&packet, sizeof packet.header + sizeof packet.find};
    int fds[8], before = gate_rig_fds(&rig);
    for (int i = 0; i < 8; i++)
        fds[i] = rig.folder[0] == '/' ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
    for (uint32_t count = 1; count <= 8; count++) {
        int reader = gate_rig_connect(&rig);
        int result = fdpass_send(reader, &part, 1, fds, count);
        ck_assert_msg(result == 0 || result == -EPERM, "%d", result);
        if (result == 0)
            gate_rig_expect_end(reader);
        fd_close(&reader);
        neighbour_is_served();
    }
    gate_rig_await(&rig, GATE_COUNTER_connections, 1);
    gate_rig_await_fds(&rig, before);
    fd_close_all(fds, 8);
}
END_TEST

START_TEST(texts_without_an_end_are_names_that_nobody_has)
{
    static uint8_t bytes[4096];
    int reader = gate_rig_connect(&rig);
    memset(bytes, 'x', sizeof bytes);
    gate_rig_refused(reader, READ_ATTACH, bytes, sizeof(struct read_attach), ENOENT);
    gate_rig_refused(reader, READ_SEGMENTS, bytes, sizeof(struct read_list_segments), ENOENT);
    gate_rig_refused(reader, READ_CLAIM, bytes, sizeof(struct read_position), EINVAL);
    gate_rig_refused(reader, READ_SAVE, bytes, sizeof(struct read_position), EINVAL);
    gate_rig_ask(reader, READ_LIST, bytes, sizeof(struct read_list), READ_CHANNELS);
    gate_rig_ask(reader, READ_HELLO, bytes, sizeof(struct read_hello), READ_WELCOME);
    memset(bytes, 0xff, sizeof bytes);
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_OLD);
    gate_rig_refused(reader, READ_FIND, bytes, sizeof(struct read_find), ENOENT);
    gate_rig_refused(reader, READ_FORGET, bytes, sizeof(struct read_position), EINVAL);
    fd_close(&reader);
    neighbour_is_served();
}
END_TEST

/* A TCP connection whose closing takes a minute: nobody takes what was sent, and it lingers. */
static int lingering(int *ret_other)
{
    static const uint8_t bytes[64 * 1024];
    const struct linger linger = {1, 60};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listening, (struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(listen(listening, 1), 0);
    ck_assert_int_eq(getsockname(listening, (struct sockaddr *)&address, &size), 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, size), 0);
    *ret_other = accept(listening, NULL, NULL);
    fd_close(&listening);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    ck_assert_int_eq(fd_set_nonblocking(fd), 0);
    while (send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) > 0)
        ;
    return fd;
}

/* Whoever lets go of such a descriptor last waits for as long as its sender likes: not the gate. It
 * comes with the first packet, behind one that ends the connection, with one that is empty, behind
 * an empty one, and in a connection that its owner has closed. */
START_TEST(a_descriptor_that_lingers_holds_nobody_up)
{
    static const char empty[1];
    struct packet packet = proper_find();
    const struct iovec part = {&packet, sizeof packet.header + sizeof packet.find};
    const struct iovec nothing = {(void *)empty, 0};
    int others[5];
    for (int way = 0; way < 5; way++) {
        int reader = gate_rig_connect(&rig), fd = lingering(&others[way]);
        gate_rig_quiet(reader);
        ck_assert_int_eq(kill(rig.pid, SIGSTOP), 0); /* it finds all of it at once */
        if (way == 1)
            ck_assert_int_gt(send(reader, "bad", 3, MSG_NOSIGNAL), 0);
        if (way == 3)
            for (int i = 0; i < 3; i++)
                ck_assert_int_eq(send(reader, empty, 0, MSG_NOSIGNAL), 0);
        int result = fdpass_send(reader, way == 2 || way == 3 ? &nothing : &part, 1, &fd, 1);
        ck_assert_msg(result == 0 || result == -EPERM || result == -EPIPE || result == -ECONNRESET,
                      "%d", result);
        const struct linger none = {0, 0};
        if (result != 0) /* it was not taken: let it not hold us up */
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
        fd_close(&fd);
        if (way == 4)
            fd_close(&reader);
        ck_assert_int_eq(kill(rig.pid, SIGCONT), 0);
        neighbour_is_served();
        neighbour_is_served();
        fd_close(&reader);
        neighbour_is_served();
    }
    fd_close_all(others, 5); /* what lingers ends */
    gate_rig_await(&rig, GATE_COUNTER_connections, 1);
}
END_TEST

/* ---- connections ---- */

START_TEST(half_open_ones_end_or_wait)
{
    const struct packet find = proper_find();
    const size_t size = sizeof find.header + sizeof find.find;
    int before = gate_rig_fds(&rig);
    for (int i = 0; i < 20; i++) {
        int silent = gate_rig_connect(&rig), no_writer = gate_rig_connect(&rig),
            no_reader = gate_rig_connect(&rig), gone = gate_rig_connect(&rig);
        ck_assert_int_eq(shutdown(no_writer, SHUT_WR), 0);
        gate_rig_expect_end(no_writer);
        ck_assert_int_eq(shutdown(no_reader, SHUT_RD), 0);
        for (int n = 0; n < 5; n++)
            send(no_reader, &find, size, MSG_NOSIGNAL);
        gate_rig_attach(gone, GATE_RIG_CHANNEL, HF_OLD);
        for (int n = 0; n < 15; n++)
            ck_assert_int_gt(send(gone, &find, size, MSG_NOSIGNAL), 0);
        fd_close(&gone);
        neighbour_is_served();
        gate_rig_quiet(silent);
        fd_close(&silent);
        fd_close(&no_writer);
        fd_close(&no_reader);
    }
    gate_rig_await(&rig, GATE_COUNTER_connections, 1);
    gate_rig_await(&rig, GATE_COUNTER_waiting, 0);
    gate_rig_await_fds(&rig, before);
}
END_TEST

START_TEST(requests_are_answered_in_order)
{
    const struct read_find find = {.by = READ_FIRST};
    const struct read_hello hello = {"test"};
    const struct read_list_segments segments = {.channel = GATE_RIG_CHANNEL};
    int reader = gate_rig_connect(&rig);
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_OLD);
    for (uint32_t round = 0; round < 50; round++) {
        for (uint32_t i = 0; i < READ_PIPELINE_MAX; i++)
            if (i % 3 == 0)
                gate_rig_request(reader, READ_FIND, i, &find, sizeof find);
            else if (i % 3 == 1)
                gate_rig_request(reader, READ_HELLO, i, &hello, sizeof hello);
            else
                gate_rig_request(reader, READ_SEGMENTS, i, &segments, sizeof segments);
        for (uint32_t i = 0; i < READ_PIPELINE_MAX; i++)
            ck_assert_uint_eq(gate_rig_answer(reader, i % 3 == 0   ? READ_SEGMENT_FOUND
                                                      : i % 3 == 1 ? READ_WELCOME
                                                                   : READ_SEGMENT_LIST)
                                  ->header.request,
                              i);
    }
    fd_close(&reader);
}
END_TEST

/* Sends until nothing more goes, and reads nothing. How many went. */
static uint32_t flood(int reader)
{
    const struct read_find find = {.by = READ_FIRST};
    uint32_t sent = 0;
    for (int quiet = 0; quiet < 20;) {
        if (read_packet_send(reader, READ_FIND, sent, &find, sizeof find, -1) == 0) {
            sent++;
            quiet = 0;
        } else {
            neighbour_is_served(); /* it may take some more meanwhile */
            quiet++;
        }
    }
    return sent;
}

START_TEST(who_never_reads_is_not_waited_for)
{
    int readers[8], before = gate_rig_fds(&rig);
    uint32_t sent[8];
    for (int i = 0; i < 8; i++) {
        readers[i] = gate_rig_connect(&rig);
        gate_rig_attach(readers[i], GATE_RIG_CHANNEL, HF_OLD);
        sent[i] = flood(readers[i]);
        ck_assert_uint_gt(sent[i], READ_PIPELINE_MAX);
    }
    /* One socket each, and one file whose answer did not fit. */
    ck_assert_int_le(gate_rig_fds(&rig), before + 2 * 8);
    /* Those who read in the end get every answer, in order. */
    for (int i = 0; i < 4; i++)
        for (uint32_t n = 0; n < sent[i]; n++)
            ck_assert_uint_eq(gate_rig_answer(readers[i], READ_SEGMENT_FOUND)->header.request, n);
    fd_close_all(readers, 8);
    gate_rig_await(&rig, GATE_COUNTER_connections, 1);
    gate_rig_await(&rig, GATE_COUNTER_waiting, 0);
    neighbour_is_served();
    gate_rig_await_fds(&rig, before);
}
END_TEST

/* One WOKEN, however often there was reason for it. */
START_TEST(a_wake_up_that_does_not_fit_comes_once)
{
    struct read_arm arm = {.what = READ_FOR_COMMITTED, .seq = 0, .ring = RING - 1};
    int reader = gate_rig_connect(&rig);
    uint32_t woken = 0;
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEW);
    for (int i = 0; i < 2000; i++) /* each is reason enough */
        gate_rig_request(reader, READ_ARM, 0, &arm, sizeof arm);
    const struct read_hello hello = {"last"};
    gate_rig_request(reader, READ_HELLO, 9, &hello, sizeof hello);
    neighbour_is_served();
    for (;;) {
        struct pollfd readable = {.fd = reader, .events = POLLIN};
        static struct read_packet packet;
        const char *what;
        ck_assert_int_eq(poll(&readable, 1, GATE_RIG_DEADLINE_MS), 1);
        ck_assert_int_eq(read_packet_receive(reader, TO_READER, &packet, &what), 1);
        if (packet.header.type == READ_WELCOME)
            break;
        ck_assert_int_eq(packet.header.type, READ_WOKEN);
        woken++;
    }
    ck_assert_uint_ge(woken, 1);
    ck_assert_uint_lt(woken, 2000);
    fd_close(&reader);
}
END_TEST

#define MANY 1000

static void connect_many(int readers[MANY])
{
    for (int i = 0; i < MANY; i++) {
        readers[i] = gate_rig_connect(&rig);
        gate_rig_attach(readers[i], GATE_RIG_CHANNEL, HF_NEW);
        gate_rig_find(readers[i], READ_FIRST, 0);
    }
}

START_TEST(a_thousand_readers_come_and_go)
{
    static int readers[MANY];
    struct rlimit limit = {4096, 4096};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < MANY + 100)
        unit_skip("%d descriptors are not allowed here", MANY);
    connect_many(readers); /* once before: the heap is as large as it gets */
    fd_close_all(readers, MANY);
    gate_rig_await(&rig, GATE_COUNTER_connections, 1);
    int fds = gate_rig_fds(&rig);
    long memory = gate_rig_memory(&rig);
    for (int round = 0; round < 2; round++) {
        connect_many(readers);
        ck_assert_uint_eq(gate_rig_report(&rig)->value[GATE_COUNTER_readers], MANY + 1);
        gate_rig_await_fds(&rig, fds + MANY); /* a socket each, and nothing else */
        for (int i = 0; i < MANY; i++) {
            const struct read_arm arm = {
                .what = READ_FOR_COMMITTED, .seq = INT64_MAX, .ring = RING};
            gate_rig_request(readers[i], READ_ARM, 0, &arm, sizeof arm);
        }
        neighbour_is_served();
        fd_close_all(readers, MANY);
        gate_rig_await(&rig, GATE_COUNTER_connections, 1);
        gate_rig_await(&rig, GATE_COUNTER_lent_bytes,
                       gate_rig_report(&rig)->value[GATE_COUNTER_lent_bytes]);
    }
    gate_rig_await_fds(&rig, fds);
    ck_assert_int_le(gate_rig_memory(&rig), memory + 1024);
}
END_TEST

START_TEST(one_user_has_no_more_than_his_share)
{
    static int readers[1100];
    int count = 0;
    const struct read_hello hello = {"one more"};
    const uint64_t refused = gate_rig_report(&rig)->value[GATE_COUNTER_refused];
    for (; count < 1100; count++) {
        struct pollfd readable = {.events = POLLIN};
        readers[count] = readable.fd = gate_rig_connect(&rig);
        read_packet_send(readers[count], READ_HELLO, 1, &hello, sizeof hello, -1);
        ck_assert_int_eq(poll(&readable, 1, GATE_RIG_DEADLINE_MS), 1);
        if (gate_rig_report(&rig)->value[GATE_COUNTER_refused] > refused)
            break;
    }
    ck_assert_int_lt(count, 1100);
    ck_assert_int_eq(gate_rig_answer(readers[count], READ_REFUSED)->refused->error, EBUSY);
    gate_rig_expect_end(readers[count]);
    neighbour_is_served();
    fd_close_all(readers, (size_t)count + 1);
    gate_rig_await(&rig, GATE_COUNTER_connections, 1);
    int reader = gate_rig_connect(&rig);
    gate_rig_quiet(reader);
    fd_close(&reader);
}
END_TEST

/* Ticks that the gate has used. */
static unsigned long used(void)
{
    char path[64], text[1024];
    unsigned long user, system;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)rig.pid);
    ck_assert_int_gt(unit_read_small_file(AT_FDCWD, path, text, sizeof text), 0);
    const char *at = strrchr(text, ')');
    ck_assert_int_eq(
        sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system), 2);
    return user + system;
}

START_TEST(where_descriptors_are_short_it_waits_for_some)
{
    int readers[40];
    const struct timespec while_ = {.tv_nsec = 500 * 1000 * 1000};
    const struct rlimit low = {(rlim_t)gate_rig_fds(&rig) + 100, 20000};
    ck_assert_int_eq(prlimit(rig.pid, RLIMIT_NOFILE, &low, NULL), 0);
    /* Numbers that the rig's own descriptors take are beyond it: hardly any are free. */
    const struct read_hello hello = {"waits"};
    const struct rlimit lower = {(rlim_t)gate_rig_fds(&rig) + 4, 20000};
    ck_assert_int_eq(prlimit(rig.pid, RLIMIT_NOFILE, &lower, NULL), 0);
    for (int i = 0; i < 40; i++) {
        readers[i] = gate_rig_connect(&rig);
        gate_rig_request(readers[i], READ_HELLO, 1, &hello, sizeof hello);
    }
    unsigned long before = used();
    nanosleep(&while_, NULL);
    ck_assert_uint_lt(used() - before, 20); /* it doesn't spin */
    gate_rig_quiet(neighbour);
    for (int i = 0; i < 40; i++) { /* as each ends, the next one is taken */
        gate_rig_answer(readers[i], READ_WELCOME);
        fd_close(&readers[i]);
    }
    gate_rig_await(&rig, GATE_COUNTER_connections, 1);
}
END_TEST

/* ---- files that change ---- */

struct rotation {
    _Atomic bool stop;
    _Atomic uint64_t rounds;
};

static void rename_in(const char *from, const char *to)
{
    char from_path[512], to_path[512];
    snprintf(from_path, sizeof from_path, "%s/%s", rig.channel, from);
    snprintf(to_path, sizeof to_path, "%s/%s", rig.channel, to);
    rename(from_path, to_path);
}

static void unlink_in(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", rig.channel, name);
    unlink(path);
}

/* As archive and retention do it, as fast as it goes: at most 5 files are there. */
static void *rotate(void *argument)
{
    struct rotation *rotation = argument;
    char names[5][SEGMENT_NAME_SIZE] = {""};
    for (uint64_t i = 0; !atomic_load(&rotation->stop); i++) {
        char *name = names[i % 5], open_name[SEGMENT_NAME_SIZE];
        if (name[0])
            unlink_in(name);
        gate_rig_log(&rig, 1000 + i * 10, 10, true, open_name);
        snprintf(name, SEGMENT_NAME_SIZE, "%s", open_name);
        name[strlen(name) - strlen(".open")] = '\0';
        rename_in(open_name, name);
        rotation->rounds = i;
    }
    return NULL;
}

/* What was lent is what was said. */
static void check_found(struct read_packet *packet)
{
    struct avro_log_identity identity;
    const char *what;
    int fd = fd_take(&packet->fd);
    ck_assert_int_gt(avro_log_load_header(fd, &identity, &what), 0);
    if (identity.first_seq != packet->found->first_seq)
        ck_abort_msg("%llu was lent as %llu", (unsigned long long)identity.first_seq,
                     (unsigned long long)packet->found->first_seq);
    fd_close(&fd);
}

START_TEST(files_are_found_while_they_come_and_go)
{
    struct rotation rotation = {0};
    struct read_find find = {0};
    struct read_list_segments segments = {.channel = GATE_RIG_CHANNEL};
    pthread_t thread;
    int readers[4];
    unsigned vain = 0;
    for (int i = 0; i < 4; i++) {
        readers[i] = gate_rig_connect(&rig);
        gate_rig_attach(readers[i], GATE_RIG_CHANNEL, HF_OLD);
    }
    ck_assert_int_eq(pthread_create(&thread, NULL, rotate, &rotation), 0);
    for (int i = 0; i < 3000; i++) {
        const enum read_find_by by[] = {READ_FIRST, READ_LAST, READ_BY_SEQ, READ_AFTER};
        find.by = by[i / 4 % 4];
        find.seq = 1000 + rotation.rounds * 10;
        for (int n = 0; n < 4; n++)
            gate_rig_request(readers[n], READ_FIND, 1, &find, sizeof find);
        gate_rig_request(readers[3], READ_SEGMENTS, 2, &segments, sizeof segments);
        for (int n = 0; n < 4; n++) {
            struct pollfd readable = {.fd = readers[n], .events = POLLIN};
            static struct read_packet packet;
            const char *what;
            ck_assert_int_eq(poll(&readable, 1, GATE_RIG_DEADLINE_MS), 1);
            ck_assert_int_eq(read_packet_receive(readers[n], TO_READER, &packet, &what), 1);
            if (packet.header.type == READ_SEGMENT_FOUND)
                check_found(&packet);
            else if (packet.header.type != READ_REFUSED ||
                     packet.refused->error != (find.by == READ_AFTER ? ENOENT : EAGAIN))
                vain++; /* the first file is always there */
        }
        ck_assert_uint_ge(gate_rig_answer(readers[3], READ_SEGMENT_LIST)->count, 1);
    }
    atomic_store(&rotation.stop, true);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(vain, 0);
    ck_assert_uint_gt(rotation.rounds, 10);
    fd_close_all(readers, 4);
}
END_TEST

/* ---- random packets ---- */

#define FUZZ_PACKETS 150000
#define FUZZERS      6

static size_t make_random(uint64_t *state, uint8_t *packet)
{
    static const uint16_t types[] = {READ_HELLO,    READ_LIST,    READ_ATTACH,   READ_FIND,
                                     READ_ARM,      READ_CLAIM,   READ_SAVE,     READ_FORGET,
                                     READ_PROGRESS, READ_READERS, READ_SEGMENTS, READ_POSITIONS};
    static const size_t sizes[] = {
        sizeof(struct read_hello),         sizeof(struct read_list),
        sizeof(struct read_attach),        sizeof(struct read_find),
        sizeof(struct read_arm),           sizeof(struct read_position),
        sizeof(struct read_position),      sizeof(struct read_position),
        sizeof(struct read_progress),      sizeof(struct read_list_readers),
        sizeof(struct read_list_segments), sizeof(struct read_list_positions)};
    size_t kind = log_maker_random(state) % (sizeof types / sizeof *types);
    struct read_header header = {.magic = READ_MAGIC,
                                 .version = READ_VERSION,
                                 .type = types[kind],
                                 .request = (uint32_t)log_maker_random(state),
                                 .size = (uint32_t)sizes[kind]};
    size_t size = sizeof header + sizes[kind];
    memset(packet, 0, size);
    memcpy(packet, &header, sizeof header);
    if (log_maker_random(state) % 2) /* a name that there is */
        memcpy(packet + sizeof header, GATE_RIG_CHANNEL, sizeof GATE_RIG_CHANNEL);
    uint64_t flips = log_maker_random(state) % 6;
    for (uint64_t i = 0; i < flips; i++) { /* mostly in the payload */
        size_t from = log_maker_random(state) % 64 ? sizeof header : 0;
        packet[from + log_maker_random(state) % (size - from)] = (uint8_t)log_maker_random(state);
    }
    return log_maker_random(state) % 200 ? size : log_maker_random(state) % (size + 1);
}

/* As the archive: keeps nothing, and says so. */
static void answer_savings(uint64_t *state)
{
    static struct message message;
    const char *what;
    while (message_receive(rig.supervisor, TO_PARENT, &message, &what) == 1) {
        if (message.header.type != MESSAGE_POSITION_SAVE)
            continue;
        struct message_position_saved saved = {.turn = message.position_save->turn,
                                               .error = log_maker_random(state) % 2 ? EIO : 0};
        if (log_maker_random(state) % 16 == 0)
            saved.turn = log_maker_random(state);
        gate_rig_send(&rig, MESSAGE_POSITION_SAVED, &saved, sizeof saved);
    }
}

static void drain(int *reader, uint64_t *state)
{
    static struct read_packet packet;
    const char *what;
    int result = -EAGAIN;
    for (uint64_t i = log_maker_random(state) % 40; i > 0; i--) {
        result = read_packet_receive(*reader, TO_READER, &packet, &what);
        if (result <= 0)
            break;
        read_packet_release(&packet);
    }
    if (result == -EAGAIN || result == 1)
        return;
    fd_close(reader);
    *reader = gate_rig_connect(&rig);
}

START_TEST(random_packets_hurt_nobody_else)
{
    uint64_t state = log_maker_seed(4711);
    int readers[FUZZERS], before = gate_rig_fds(&rig);
    uint8_t packet[4096];
    ck_assert_int_eq(fd_set_nonblocking(rig.supervisor), 0);
    for (int i = 0; i < FUZZERS; i++)
        readers[i] = gate_rig_connect(&rig);
    for (int i = 0; i < FUZZ_PACKETS; i++) {
        int *reader = &readers[log_maker_random(&state) % FUZZERS];
        size_t size = make_random(&state, packet);
        if (send(*reader, packet, size, MSG_NOSIGNAL) < 0 || log_maker_random(&state) % 8 == 0)
            drain(reader, &state);
        if (log_maker_random(&state) % 5000 == 0) {
            fd_close(reader);
            *reader = gate_rig_connect(&rig);
        }
        if (i % 64 == 0)
            answer_savings(&state);
        if (i % 200 == 0)
            neighbour_is_served();
    }
    fd_close_all(readers, FUZZERS);
    answer_savings(&state);
    gate_rig_await(&rig, GATE_COUNTER_connections, 1);
    gate_rig_await(&rig, GATE_COUNTER_waiting, 0);
    gate_rig_await_fds(&rig, before);
    neighbour_is_served();
}
END_TEST

/* ---- the end ---- */

START_TEST(it_leaves_when_the_supervisor_does)
{
    fd_close(&rig.supervisor);
    ck_assert_int_eq(gate_rig_wait(&rig), 0);
    gate_rig_expect_end(neighbour);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {what_is_none_of_the_protocol_ends_its_connection,
                                  what_the_gate_says_is_not_for_readers_to_say,
                                  who_arms_for_nothing_is_expelled,
                                  descriptors_are_not_taken,
                                  a_descriptor_that_lingers_holds_nobody_up,
                                  texts_without_an_end_are_names_that_nobody_has,
                                  half_open_ones_end_or_wait,
                                  requests_are_answered_in_order,
                                  who_never_reads_is_not_waited_for,
                                  a_wake_up_that_does_not_fit_comes_once,
                                  a_thousand_readers_come_and_go,
                                  one_user_has_no_more_than_his_share,
                                  where_descriptors_are_short_it_waits_for_some,
                                  files_are_found_while_they_come_and_go,
                                  random_packets_hurt_nobody_else,
                                  it_leaves_when_the_supervisor_does};
    Suite *suite = suite_create("gate_abuse");
    TCase *abuse = tcase_create("abuse");
    tcase_add_checked_fixture(abuse, setup, teardown);
    tcase_set_timeout(abuse, 200);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(abuse, tests[i]);
    suite_add_tcase(suite, abuse);
    const TTest *const again[] = {what_is_none_of_the_protocol_ends_its_connection,
                                  descriptors_are_not_taken,
                                  a_descriptor_that_lingers_holds_nobody_up,
                                  half_open_ones_end_or_wait,
                                  one_user_has_no_more_than_his_share,
                                  random_packets_hurt_nobody_else};
    TCase *older = tcase_create("older");
    tcase_add_checked_fixture(older, setup_older, teardown);
    tcase_set_timeout(older, 200);
    for (size_t i = 0; i < sizeof again / sizeof *again; i++)
        tcase_add_test(older, again[i]);
    suite_add_tcase(suite, older);
    return log_maker_run(suite);
}
