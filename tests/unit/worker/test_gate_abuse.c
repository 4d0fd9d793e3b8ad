/* SPDX-License-Identifier: MIT */
/* Whatever readers send, the gate goes on serving those beside them, and keeps nothing of it. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/fd.h"
#include "common/fdpass.h"
#include "tests/lib/gate_scene.h"

static struct gate_scene scene;

/* ---- packets ---- */

/* It is none of the protocol's: the connection ends, and it is counted. */
static void expelled(const void *bytes, size_t size)
{
    uint64_t before = gate_rig_report(&scene.rig)->value[GATE_COUNTER_refused];
    int reader = gate_rig_connect(&scene.rig);
    ck_assert_int_eq(send(reader, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
    gate_rig_expect_end(reader);
    fd_close(&reader);
    ck_assert_uint_eq(gate_rig_report(&scene.rig)->value[GATE_COUNTER_refused], before + 1);
    gate_scene_serves_neighbour(&scene);
}

START_TEST(what_is_none_of_the_protocol_ends_its_connection)
{
    static struct gate_scene_packet packet;
    const size_t size = sizeof packet.header + sizeof packet.find;
    packet = gate_scene_find();
    for (size_t part = 1; part < size; part += 5)
        expelled(&packet, part);
    expelled(&packet, size + 1);
    expelled(&packet, sizeof packet);
    packet.header.magic++;
    expelled(&packet, size);
    packet = gate_scene_find();
    packet.header.version++;
    expelled(&packet, size);
    packet = gate_scene_find();
    packet.header.size--;
    expelled(&packet, size);
    packet.header.size = UINT32_MAX;
    expelled(&packet, size);
    packet = gate_scene_find();
    for (unsigned type = 0; type < 70; type++) {
        packet.header.type = (uint16_t)(type < 64 ? type : type * 1000);
        if (strcmp(read_packet_name(packet.header.type), "unknown") == 0)
            expelled(&packet, size);
    }
}
END_TEST

START_TEST(what_the_gate_says_is_not_for_readers_to_say)
{
    static struct gate_scene_packet packet;
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
    struct gate_scene_packet packet = gate_scene_find();
    packet.header.type = READ_ARM;
    packet.header.size = sizeof packet.arm;
    packet.arm = (struct read_arm){.what = READ_FOR_COMMITTED};
    expelled(&packet, sizeof packet.header + sizeof packet.arm); /* of which channel? */
    int reader = gate_rig_connect(&scene.rig);
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEW);
    packet.arm.what = 3;
    ck_assert_int_gt(send(reader, &packet, sizeof packet.header + sizeof packet.arm, 0), 0);
    gate_rig_expect_end(reader);
    fd_close(&reader);
    gate_scene_serves_neighbour(&scene);
}
END_TEST

/* The kernel keeps them away, or the connection ends; none stays in the gate. */
START_TEST(descriptors_are_not_taken)
{
    struct gate_scene_packet packet = gate_scene_find();
    const struct iovec part = {&packet, sizeof packet.header + sizeof packet.find};
    int fds[8], before = gate_rig_fds(&scene.rig);
    for (int i = 0; i < 8; i++)
        fds[i] = scene.rig.folder[0] == '/' ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
    for (uint32_t count = 1; count <= 8; count++) {
        int reader = gate_rig_connect(&scene.rig);
        int result = fdpass_send(reader, &part, 1, fds, count);
        ck_assert_msg(result == 0 || result == -EPERM, "%d", result);
        if (result == 0)
            gate_rig_expect_end(reader);
        fd_close(&reader);
        gate_scene_serves_neighbour(&scene);
    }
    gate_rig_await(&scene.rig, GATE_COUNTER_connections, 1);
    gate_rig_await_fds(&scene.rig, before);
    fd_close_all(fds, 8);
}
END_TEST

START_TEST(texts_without_an_end_are_names_that_nobody_has)
{
    static uint8_t bytes[4096];
    int reader = gate_rig_connect(&scene.rig);
    memset(bytes, 'x', sizeof bytes);
    gate_rig_refused(reader, READ_ATTACH, bytes, sizeof(struct read_attach), ENOENT);
    gate_rig_refused(reader, READ_SEGMENTS, bytes, sizeof(struct read_list_segments), ENOENT);
    gate_rig_refused(reader, READ_CLAIM, bytes, sizeof(struct read_position), EINVAL);
    gate_rig_refused(reader, READ_SAVE, bytes, sizeof(struct read_position), EINVAL);
    gate_rig_ask(reader, READ_LIST, bytes, sizeof(struct read_list), READ_CHANNELS);
    gate_rig_ask(reader, READ_HELLO, bytes, sizeof(struct read_hello), READ_WELCOME);
    memset(bytes, 0xff, sizeof bytes);
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_OLD);
    gate_rig_refused(reader, READ_FIND, bytes, sizeof(struct read_find), EINVAL);
    gate_rig_refused(reader, READ_FORGET, bytes, sizeof(struct read_position), EINVAL);
    fd_close(&reader);
    gate_scene_serves_neighbour(&scene);
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
    struct gate_scene_packet packet = gate_scene_find();
    const struct iovec part = {&packet, sizeof packet.header + sizeof packet.find};
    const struct iovec nothing = {(void *)empty, 0};
    int others[5];
    for (int way = 0; way < 5; way++) {
        int reader = gate_rig_connect(&scene.rig), fd = lingering(&others[way]);
        gate_rig_quiet(reader);
        ck_assert_int_eq(kill(scene.rig.pid, SIGSTOP), 0); /* it finds all of it at once */
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
        ck_assert_int_eq(kill(scene.rig.pid, SIGCONT), 0);
        gate_scene_serves_neighbour(&scene);
        gate_scene_serves_neighbour(&scene);
        fd_close(&reader);
        gate_scene_serves_neighbour(&scene);
    }
    fd_close_all(others, 5); /* what lingers ends */
    gate_rig_await(&scene.rig, GATE_COUNTER_connections, 1);
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
    while (message_receive(scene.rig.supervisor, TO_PARENT, &message, &what) == 1) {
        if (message.header.type != MESSAGE_POSITION_SAVE)
            continue;
        struct message_position_saved saved = {.turn = message.position_save->turn,
                                               .error = log_maker_random(state) % 2 ? EIO : 0};
        if (log_maker_random(state) % 16 == 0)
            saved.turn = log_maker_random(state);
        gate_rig_send(&scene.rig, MESSAGE_POSITION_SAVED, &saved, sizeof saved);
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
    *reader = gate_rig_connect(&scene.rig);
}

START_TEST(random_packets_hurt_nobody_else)
{
    uint64_t state = log_maker_seed(4711);
    int readers[FUZZERS], before = gate_rig_fds(&scene.rig);
    uint8_t packet[4096];
    ck_assert_int_eq(fd_set_nonblocking(scene.rig.supervisor), 0);
    for (int i = 0; i < FUZZERS; i++)
        readers[i] = gate_rig_connect(&scene.rig);
    for (int i = 0; i < FUZZ_PACKETS; i++) {
        int *reader = &readers[log_maker_random(&state) % FUZZERS];
        size_t size = make_random(&state, packet);
        if (send(*reader, packet, size, MSG_NOSIGNAL) < 0 || log_maker_random(&state) % 8 == 0)
            drain(reader, &state);
        if (log_maker_random(&state) % 5000 == 0) {
            fd_close(reader);
            *reader = gate_rig_connect(&scene.rig);
        }
        if (i % 64 == 0)
            answer_savings(&state);
        if (i % 200 == 0)
            gate_scene_serves_neighbour(&scene);
    }
    fd_close_all(readers, FUZZERS);
    answer_savings(&state);
    gate_rig_await(&scene.rig, GATE_COUNTER_connections, 1);
    gate_rig_await(&scene.rig, GATE_COUNTER_waiting, 0);
    gate_rig_await_fds(&scene.rig, before);
    gate_scene_serves_neighbour(&scene);
}
END_TEST

/* ---- the end ---- */

START_TEST(it_leaves_when_the_supervisor_does)
{
    fd_close(&scene.rig.supervisor);
    ck_assert_int_eq(gate_rig_wait(&scene.rig), 0);
    gate_rig_expect_end(scene.neighbour);
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
                                  random_packets_hurt_nobody_else,
                                  it_leaves_when_the_supervisor_does,
                                  NULL};
    const TTest *const again[] = {
        what_is_none_of_the_protocol_ends_its_connection, descriptors_are_not_taken,
        a_descriptor_that_lingers_holds_nobody_up, random_packets_hurt_nobody_else, NULL};
    return gate_scene_run("gate_abuse", &scene, tests, again);
}
