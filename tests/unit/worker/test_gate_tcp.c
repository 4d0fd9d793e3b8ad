/* SPDX-License-Identifier: MIT */
/* Readers over TCP with a real gate: lists and bytes come as on the read socket, whatever hands a
 * descriptor is refused with a reason, and nonsense, slowness and peers that stop harm nobody else.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/fd.h"
#include "common/read_stream.h"
#include "tests/lib/gate_rig.h"
#include "tests/lib/unit.h"
#include "worker/gate/gate_peer.h"

#define BIG_SIZE (8u * 1024 * 1024) /* more than two sockets hold */

static struct gate_rig rig;
static struct sockaddr_in address;
static char url[64];
static hf *handle;
static struct read_packet packet;
static char name[SEGMENT_NAME_SIZE];
static uint8_t *bytes;

static void lend(void)
{
    const struct message_empty nothing = {0};
    socklen_t size = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ck_assert_int_eq(bind(listening, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(listening, 16), 0);
    ck_assert_int_eq(getsockname(listening, (struct sockaddr *)&address, &size), 0);
    ck_assert_int_eq(message_send(rig.supervisor, MESSAGE_TCP_LENT, GATE_RIG_GENERATION, &nothing,
                                  sizeof nothing, &listening, 1),
                     0);
    fd_close(&listening);
    snprintf(url, sizeof url, "tcp:127.0.0.1:%u", ntohs(address.sin_port));
}

/* A file that has a log's name, of bytes that are known. */
static void put_big(void)
{
    uint64_t state = 13;
    bytes = malloc(BIG_SIZE);
    snprintf(name, sizeof name, "%s",
             GATE_RIG_CHANNEL "-00000000000000000001-20251009T085320Z.avro");
    for (size_t i = 0; i < BIG_SIZE; i += sizeof state) {
        uint64_t word = log_maker_random(&state) | 0x0101010101010101; /* no byte is zero */
        memcpy(bytes + i, &word, sizeof word);
    }
    log_maker_write(rig.channel, name, bytes, BIG_SIZE);
}

static void setup(void)
{
    gate_rig_prepare(&rig);
    gate_rig_lend(&rig, GATE_RIG_CHANNEL, 0, -1);
    lend();
    gate_rig_start(&rig);
    put_big();
    ck_assert_int_eq(hf_open(&handle, url), 0);
}

static void teardown(void)
{
    hf_close(handle);
    free(bytes);
    gate_rig_end(&rig);
}

/* ---- by hand ---- */

static int connect_raw(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void send_raw(int fd, unsigned type, const void *payload, size_t size)
{
    const struct read_header header = {.magic = READ_MAGIC,
                                       .version = READ_VERSION,
                                       .type = (uint16_t)type,
                                       .request = 5,
                                       .size = (uint32_t)size};
    size_t done = 0;
    ck_assert_int_eq(read_stream_send(fd, &header, payload, &done), 0);
}

/* The next packet; its type, 0: the connection has ended. */
static unsigned receive_raw(int fd)
{
    struct read_stream *stream = read_stream_new(READ_PACKET_MAX);
    const char *what;
    int result;
    while ((result = read_stream_receive(fd, stream, TO_READER, &packet, &what)) == -EAGAIN) {
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        ck_assert_int_eq(poll(&readable, 1, GATE_RIG_DEADLINE_MS), 1);
    }
    free(stream);
    ck_assert_msg(result >= 0 || result == -ECONNRESET, "%d %s", result, what);
    return result > 0 ? packet.header.type : 0;
}

static void expect_refused(int fd, int error, const char *reason)
{
    ck_assert_uint_eq(receive_raw(fd), READ_REFUSED);
    ck_assert_int_eq(packet.refused->error, error);
    ck_assert_ptr_nonnull(strstr(packet.refused->reason, reason));
}

START_TEST(what_hands_a_descriptor_is_refused)
{
    const struct read_attach attach = {.channel = GATE_RIG_CHANNEL, .mode = HF_OLD};
    const struct read_find find = {.by = READ_FIRST};
    const struct read_object object = {
        .channel = GATE_RIG_CHANNEL, .by = READ_FIRST, .how = READ_FDPASS};
    const struct read_range range = {
        .channel = GATE_RIG_CHANNEL, .how = READ_FDPASS, .by = READ_BY_SEQ, .last = 5};
    const struct read_position position = {.channel = GATE_RIG_CHANNEL, .name = "here"};
    const struct read_list_readers readers = {0};
    const struct read_publish publish = {.channel = GATE_RIG_CHANNEL};
    const struct read_hello hello = {"raw"};
    int fd = connect_raw();
    send_raw(fd, READ_HELLO, &hello, sizeof hello);
    ck_assert_uint_eq(receive_raw(fd), READ_WELCOME);
    send_raw(fd, READ_ATTACH, &attach, sizeof attach);
    expect_refused(fd, EOPNOTSUPP, "descriptors can't go over TCP");
    send_raw(fd, READ_FIND, &find, sizeof find);
    expect_refused(fd, EOPNOTSUPP, "descriptors can't go over TCP");
    send_raw(fd, READ_OBJECT, &object, sizeof object);
    expect_refused(fd, EOPNOTSUPP, "use copy or splice");
    send_raw(fd, READ_RANGE, &range, sizeof range);
    expect_refused(fd, EOPNOTSUPP, "use copy or splice");
    send_raw(fd, READ_PUBLISH, &publish, sizeof publish);
    expect_refused(fd, EOPNOTSUPP, "descriptors can't go over TCP: publish on");
    send_raw(fd, READ_CLAIM, &position, sizeof position);
    expect_refused(fd, EOPNOTSUPP, "read socket");
    send_raw(fd, READ_FORGET, &position, sizeof position);
    expect_refused(fd, EOPNOTSUPP, "read socket");
    send_raw(fd, READ_READERS, &readers, sizeof readers);
    expect_refused(fd, EOPNOTSUPP, "read socket");
    fd_close(&fd);
}
END_TEST

/* They are shown among the readers, as nobody's of this machine; IPv6 and IPv4 count apart. */
START_TEST(who_they_are)
{
    struct hf_connection *connections;
    struct sockaddr_storage a = {0}, b = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&a;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&b;
    size_t count;
    hf *local;
    ck_assert_int_eq(hf_open(&local, rig.socket_path), 0);
    ck_assert_int_eq(hf_connection_list(local, &connections, &count), 0);
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(connections[0].uid, UINT32_MAX);
    ck_assert_uint_eq(connections[0].pid, 0);
    ck_assert_uint_eq(connections[1].uid, geteuid());
    free(connections);
    hf_close(local);
    *v4 = address;
    v6->sin6_family = AF_INET6;
    v6->sin6_addr = (struct in6_addr){.s6_addr = {[10] = 0xff, 0xff, 127, 0, 0, 1}};
    ck_assert_uint_eq(gate_peer_of_address(&a), gate_peer_of_address(&b)); /* the same machine */
    v6->sin6_addr = (struct in6_addr){.s6_addr = {0x20, 0x01, [15] = 1}};
    const uint64_t first = gate_peer_of_address(&b);
    v6->sin6_addr.s6_addr[15] = 2;
    ck_assert_uint_eq(gate_peer_of_address(&b), first); /* who has one, has all of these */
    v6->sin6_addr.s6_addr[6] = 2;
    ck_assert_uint_ne(gate_peer_of_address(&b), first);
    ck_assert_uint_gt(gate_peer_of_address(&a), UINT32_MAX);
}
END_TEST

/* In any pieces. */
START_TEST(byte_by_byte)
{
    struct {
        struct read_header header;
        struct read_list list;
    } request = {.header = {.magic = READ_MAGIC,
                            .version = READ_VERSION,
                            .type = READ_LIST,
                            .request = 9,
                            .size = sizeof request.list}};
    int fd = connect_raw();
    for (size_t i = 0; i < sizeof request; i++)
        ck_assert_int_eq(send(fd, (uint8_t *)&request + i, 1, MSG_NOSIGNAL), 1);
    ck_assert_uint_eq(receive_raw(fd), READ_CHANNELS);
    ck_assert_uint_eq(packet.count, 1);
    ck_assert_uint_eq(packet.header.request, 9);
    fd_close(&fd);
}
END_TEST

/* Of one address nothing is heard for a moment then: root is nobody there. */
START_TEST(nonsense_ends_the_connection)
{
    static const struct read_header nonsense[] = {
        {.magic = 0x47455420, .version = READ_VERSION, .type = READ_LIST},
        {.magic = READ_MAGIC, .version = READ_VERSION, .type = 99},
        {.magic = READ_MAGIC, .version = READ_VERSION, .type = READ_LIST, .size = UINT32_MAX},
        {.magic = READ_MAGIC, .version = READ_VERSION, .type = READ_LIST, .size = 3},
        {.magic = READ_MAGIC, .version = READ_VERSION, .type = READ_OBJECT_BYTES, .size = 8},
        {.magic = READ_MAGIC, .version = READ_VERSION + 1, .type = READ_LIST},
    };
    uint8_t more[READ_REQUEST_MAX] = {0};
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        int fd = connect_raw();
        ck_assert_int_eq(send(fd, &nonsense[i], sizeof nonsense[i], MSG_NOSIGNAL),
                         sizeof nonsense[i]);
        ssize_t ignored = send(fd, more, sizeof more, MSG_NOSIGNAL); /* it may have ended */
        (void)ignored;
        unsigned type = receive_raw(fd);
        if (type) {
            ck_assert_uint_eq(type, READ_REFUSED);
            ck_assert_int_eq(packet.refused->error, EPROTO);
            ck_assert_uint_eq(receive_raw(fd), 0);
        }
        fd_close(&fd);
    }
    struct hf_channel *channels;
    size_t count;
    ck_assert_int_eq(hf_list(handle, &channels, &count), 0); /* one that was there is served on */
    free(channels);
    gate_rig_await(&rig, GATE_COUNTER_refused, sizeof nonsense / sizeof *nonsense);
}
END_TEST

/* ---- the library ---- */

START_TEST(lists)
{
    struct hf_channel *channels;
    struct hf_log *logs;
    char made[SEGMENT_NAME_SIZE];
    size_t count;
    for (int i = 0; i < READ_LIST_MAX + 6; i++)
        gate_rig_log(&rig, 1000 + 10 * (uint64_t)i, 10, false, made);
    ck_assert_int_eq(hf_list(handle, &channels, &count), 0);
    ck_assert_uint_eq(count, 1);
    ck_assert_str_eq(channels[0].name, GATE_RIG_CHANNEL);
    free(channels);
    ck_assert_int_eq(hf_log_list(handle, NULL, &logs, &count), 0);
    ck_assert_uint_eq(count, READ_LIST_MAX + 7);
    ck_assert_str_eq(logs[0].name, name);
    free(logs);
    struct hf_log log;
    ck_assert_int_eq(hf_log_find(handle, NULL, "seq:1015", &log), 0);
    ck_assert_uint_eq(log.first_seq, 1010);
    ck_assert_int_eq(log.fd, -1);
}
END_TEST

START_TEST(what_the_library_refuses)
{
    struct hf_connection *connections;
    struct hf_position *positions;
    struct hf_log_piece *pieces;
    hf_reader *reader;
    struct hf_log log;
    size_t count;
    ck_assert_int_eq(hf_read(handle, GATE_RIG_CHANNEL, NULL, HF_OLD, &reader), -EOPNOTSUPP);
    ck_assert_int_eq(hf_log_open(handle, GATE_RIG_CHANNEL, name, &log), -EOPNOTSUPP);
    ck_assert_int_eq(hf_log_pieces(handle, GATE_RIG_CHANNEL, "seq:1..2", &pieces, &count),
                     -EOPNOTSUPP);
    ck_assert_int_eq(hf_log_copy(handle, GATE_RIG_CHANNEL, name, 1, 0, 0, HF_BY_FD), -EOPNOTSUPP);
    ck_assert_int_eq(hf_position_list(handle, NULL, &positions, &count), -EOPNOTSUPP);
    ck_assert_int_eq(hf_connection_list(handle, &connections, &count), -EOPNOTSUPP);
    ck_assert_int_eq(hf_forget(handle, GATE_RIG_CHANNEL, "here"), -EOPNOTSUPP);
    hf *none;
    static const char *const paths[] = {"tcp:",           "tcp:127.0.0.1", "tcp::7000",
                                        "tcp:127.0.0.1:", "tcp:::1:7000",  "tcp:127.0.0.1:x"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        ck_assert_int_lt(hf_open(&none, paths[i]), 0);
    ck_assert_int_eq(hf_open(&none, "tcp:127.0.0.1:1"), -ECONNREFUSED);
}
END_TEST

static void expect_copy(uint64_t offset, uint64_t length, uint64_t expected, unsigned how)
{
    int fd = memfd_create("copy", MFD_CLOEXEC);
    uint8_t *came = malloc(BIG_SIZE);
    ck_assert_int_eq(hf_log_copy(handle, GATE_RIG_CHANNEL, name, fd, offset, length, how),
                     (int64_t)expected);
    ck_assert_int_eq(pread(fd, came, BIG_SIZE, 0), (ssize_t)expected);
    ck_assert_int_eq(memcmp(came, bytes + offset, expected), 0);
    free(came);
    fd_close(&fd);
}

START_TEST(all_bytes_or_some)
{
    const unsigned how = _i == 0 ? HF_BY_COPY : HF_BY_SPLICE;
    expect_copy(0, 0, BIG_SIZE, how);
    expect_copy(0, 1, 1, how);
    expect_copy(BIG_SIZE, 0, 0, how);
    expect_copy(4097, 65536, 65536, how);
    expect_copy(BIG_SIZE / 2, 0, BIG_SIZE / 2, how);
    char made[SEGMENT_NAME_SIZE];
    struct hf_log_range told;
    gate_rig_log(&rig, 1000, 100, false, made);
    gate_rig_log(&rig, 1100, 100, false, made);
    int fd = memfd_create("range", MFD_CLOEXEC);
    ck_assert_int_gt(hf_log_copy(handle, GATE_RIG_CHANNEL, "seq:1050..1149", fd, 0, 0, how), 0);
    ck_assert_int_eq(hf_log_copied(handle, &told), 0);
    ck_assert_uint_eq(told.first_seq, 1050);
    ck_assert_uint_eq(told.records, 100);
    fd_close(&fd);
    ck_assert_int_eq(hf_log_copy(handle, GATE_RIG_CHANNEL, "seq:5000..5001", 1, 0, 0, how),
                     -ENOENT);
}
END_TEST

/* ---- limits ---- */

static const enum read_how hows[] = {READ_COPY, READ_SPLICE};

static int begin_sending(enum read_how how)
{
    struct read_object wanted = {.channel = GATE_RIG_CHANNEL, .by = READ_BY_NAME, .how = how};
    int fd = connect_raw();
    snprintf(wanted.name, sizeof wanted.name, "%s", name);
    send_raw(fd, READ_OBJECT, &wanted, sizeof wanted);
    ck_assert_uint_eq(receive_raw(fd), READ_OBJECT_LENT);
    return fd;
}

/* Takes all bytes that come; the packet behind them, 0: the connection has ended. */
static unsigned take_bytes(int fd, size_t *ret_count)
{
    static uint8_t chunk[READ_BYTES_MAX];
    unsigned type;
    *ret_count = 0;
    while ((type = receive_raw(fd)) == READ_OBJECT_BYTES) {
        const size_t length = packet.object_bytes->length;
        ck_assert_uint_le(length, sizeof chunk);
        const ssize_t came = recv(fd, chunk, length, MSG_WAITALL);
        if (came < 0 || (size_t)came < length)
            return 0;
        ck_assert_uint_le(*ret_count + length, BIG_SIZE);
        ck_assert_int_eq(memcmp(chunk, bytes + *ret_count, length), 0);
        *ret_count += length;
    }
    return type;
}

/* As many for one address as for one user; users of this machine are others. */
START_TEST(an_address_has_a_user_s_limits)
{
    const struct read_list list = {0};
    rig.limits.connections_per_user = 2;
    rig.limits.sending_per_user = BIG_SIZE;
    gate_rig_limit(&rig);
    gate_rig_report(&rig);
    int first = begin_sending(READ_COPY), second = connect_raw(); /* and there is the handle's */
    expect_refused(second, EBUSY, "connections_per_user = 2: 2 of this address are open");
    ck_assert_uint_eq(receive_raw(second), 0);
    fd_close(&second);
    int local = gate_rig_connect(&rig);
    gate_rig_quiet(local);
    fd_close(&local);
    ck_assert_int_eq(hf_log_copy(handle, GATE_RIG_CHANNEL, name, 1, 0, 0, HF_BY_COPY), -EBUSY);
    fd_close(&first);
    gate_rig_await(&rig, GATE_COUNTER_connections, 1);
    rig.limits.requests_per_connection = 1;
    gate_rig_limit(&rig);
    first = connect_raw();
    send_raw(first, READ_LIST, &list, sizeof list);
    ck_assert_uint_eq(receive_raw(first), READ_CHANNELS);
    send_raw(first, READ_LIST, &list, sizeof list);
    expect_refused(first, EDQUOT, "requests_per_connection = 1: ");
    ck_assert_uint_eq(receive_raw(first), 0);
    fd_close(&first);
}
END_TEST

/* Of nobody knows how much, so beside nothing else. */
START_TEST(a_range_is_sent_alone_where_bytes_are_limited)
{
    char made[SEGMENT_NAME_SIZE];
    int fd = memfd_create("range", MFD_CLOEXEC);
    gate_rig_log(&rig, 1000, 100, false, made);
    rig.limits.sending_per_user = UINT64_C(1) << 40;
    gate_rig_limit(&rig);
    ck_assert_int_gt(hf_log_copy(handle, GATE_RIG_CHANNEL, "seq:1010..1019", fd, 0, 0, HF_BY_COPY),
                     0);
    int sending = begin_sending(READ_SPLICE);
    ck_assert_int_eq(hf_log_copy(handle, GATE_RIG_CHANNEL, "seq:1010..1019", fd, 0, 0, HF_BY_COPY),
                     -EBUSY);
    fd_close(&sending);
    fd_close(&fd);
}
END_TEST

START_TEST(time_runs_out_there_too)
{
    size_t count;
    rig.limits.request_timeout_ns = 200 * NS_PER_MS;
    rig.limits.idle_timeout_ns = 300 * NS_PER_MS;
    gate_rig_limit(&rig);
    gate_rig_report(&rig);
    int fd = begin_sending(hows[_i]), idle = connect_raw();
    gate_rig_await(&rig, GATE_COUNTER_requests_expired, 1);
    /* In the midst of a chunk there is no word, and never the end of a whole file. */
    const unsigned type = take_bytes(fd, &count);
    ck_assert_uint_lt(count, BIG_SIZE);
    if (type) {
        ck_assert_uint_eq(type, READ_OBJECT_SENT);
        ck_assert_int_eq(packet.object_sent->error, ETIMEDOUT);
    }
    expect_refused(idle, ETIMEDOUT, "idle_timeout = 300ms: ");
    ck_assert_uint_eq(receive_raw(idle), 0);
    gate_rig_await(&rig, GATE_COUNTER_connections, 0);
    fd_close(&fd);
    fd_close(&idle);
}
END_TEST

START_TEST(what_is_sent_is_measured)
{
    char made[SEGMENT_NAME_SIZE];
    struct hf_log log;
    int fd = memfd_create("range", MFD_CLOEXEC);
    gate_rig_log(&rig, 1000, 100, false, made);
    expect_copy(0, 0, BIG_SIZE, HF_BY_SPLICE);
    const int64_t range =
        hf_log_copy(handle, GATE_RIG_CHANNEL, "seq:1010..1019", fd, 0, 0, HF_BY_SPLICE);
    ck_assert_int_gt(range, 0);
    ck_assert_int_eq(hf_log_find(handle, GATE_RIG_CHANNEL, name, &log), 0);
    const struct message_gate_report *report = gate_rig_report(&rig);
    ck_assert_uint_eq(report->bytes[GATE_MODE_SPLICE], BIG_SIZE);
    ck_assert_uint_eq(report->latency[GATE_MODE_SPLICE].count, 1);
    ck_assert_uint_eq(report->bytes[GATE_MODE_COPY], (uint64_t)range); /* ranges always are */
    ck_assert_uint_eq(report->latency[GATE_MODE_COPY].count, 1);
    ck_assert_uint_eq(report->latency[GATE_MODE_OTHER].count, 2); /* HELLO, and what was found */
    ck_assert_uint_eq(report->value[GATE_COUNTER_lent_under_way], 0);
    fd_close(&fd);
}
END_TEST

/* ---- the end ---- */

static void stop(void)
{
    const struct message_stop said = {0};
    gate_rig_send(&rig, MESSAGE_STOP, &said, sizeof said);
}

START_TEST(what_was_accepted_is_sent_to_the_end)
{
    const struct read_list list = {0};
    size_t count;
    rig.limits.grace_ns = 20 * NS_PER_S;
    gate_rig_limit(&rig);
    int idle = connect_raw();
    send_raw(idle, READ_LIST, &list, sizeof list);
    ck_assert_uint_eq(receive_raw(idle), READ_CHANNELS);
    int fd = begin_sending(hows[_i]);
    gate_rig_await(&rig, GATE_COUNTER_waiting, 0); /* the socket is full */
    stop();
    expect_refused(idle, ESHUTDOWN, "the daemon stops");
    ck_assert_uint_eq(receive_raw(idle), 0);
    int late = connect_raw(); /* waits for the next gate */
    send_raw(fd, READ_LIST, &list, sizeof list);
    ck_assert_uint_eq(take_bytes(fd, &count), READ_OBJECT_SENT);
    ck_assert_int_eq(packet.object_sent->error, 0);
    ck_assert_uint_eq(count, BIG_SIZE);
    expect_refused(fd, ESHUTDOWN, "the daemon stops"); /* the list, */
    expect_refused(fd, ESHUTDOWN, "the daemon stops"); /* and the connection */
    ck_assert_uint_eq(receive_raw(fd), 0);
    ck_assert_int_eq(gate_rig_wait(&rig), 0);
    fd_close(&idle);
    fd_close(&late);
    fd_close(&fd);
}
END_TEST

START_TEST(what_takes_longer_is_never_whole)
{
    size_t count;
    rig.limits.grace_ns = 200 * NS_PER_MS;
    gate_rig_limit(&rig);
    int fd = begin_sending(hows[_i]);
    gate_rig_await(&rig, GATE_COUNTER_waiting, 0);
    stop();
    ck_assert_int_eq(gate_rig_wait(&rig), 0);
    if (take_bytes(fd, &count) == READ_OBJECT_SENT)
        ck_assert_int_eq(packet.object_sent->error, ESHUTDOWN);
    ck_assert_uint_lt(count, BIG_SIZE);
    fd_close(&fd);
}
END_TEST

/* ---- those who take nothing ---- */

/* A stopped peer: it has asked, and reads nothing. */
START_TEST(who_reads_nothing_keeps_nobody_waiting)
{
    struct read_object wanted = {.channel = GATE_RIG_CHANNEL, .by = READ_BY_NAME, .how = hows[_i]};
    int stopped[6], fds = 0;
    snprintf(wanted.name, sizeof wanted.name, "%s", name);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 6; i++) {
            stopped[i] = connect_raw();
            send_raw(stopped[i], READ_OBJECT, &wanted, sizeof wanted);
            ck_assert_uint_eq(receive_raw(stopped[i]), READ_OBJECT_LENT);
        }
        gate_rig_await(&rig, GATE_COUNTER_waiting, 0); /* no thread has any of them */
        expect_copy(0, 0, BIG_SIZE, HF_BY_COPY);
        for (int i = 0; i < 6; i++)
            fd_close(&stopped[i]);
        gate_rig_await(&rig, GATE_COUNTER_connections, 1);
        gate_rig_await(&rig, GATE_COUNTER_waiting, 0);
        if (round == 0)
            fds = gate_rig_fds(&rig);
    }
    gate_rig_await_fds(&rig, fds);
}
END_TEST

/* It goes on where it was, to the last byte, and answers what was asked for meanwhile. */
START_TEST(who_reads_late_gets_all)
{
    struct read_object wanted = {.channel = GATE_RIG_CHANNEL, .by = READ_BY_NAME, .how = hows[_i]};
    const struct read_list list = {0};
    size_t at = 0;
    int fd = connect_raw();
    snprintf(wanted.name, sizeof wanted.name, "%s", name);
    send_raw(fd, READ_OBJECT, &wanted, sizeof wanted);
    send_raw(fd, READ_LIST, &list, sizeof list);
    ck_assert_uint_eq(receive_raw(fd), READ_OBJECT_LENT);
    ck_assert_uint_eq(packet.object_lent->length, BIG_SIZE);
    gate_rig_await(&rig, GATE_COUNTER_waiting, 0);
    while (receive_raw(fd) == READ_OBJECT_BYTES) {
        uint8_t chunk[READ_BYTES_MAX];
        const size_t length = packet.object_bytes->length;
        ck_assert_uint_le(length, sizeof chunk);
        ck_assert_int_eq(recv(fd, chunk, length, MSG_WAITALL), (ssize_t)length);
        ck_assert_uint_le(at + length, BIG_SIZE);
        ck_assert_int_eq(memcmp(chunk, bytes + at, length), 0);
        at += length;
    }
    ck_assert_uint_eq(packet.header.type, READ_OBJECT_SENT);
    ck_assert_int_eq(packet.object_sent->error, 0);
    ck_assert_uint_eq(packet.object_sent->bytes, BIG_SIZE);
    ck_assert_uint_eq(at, BIG_SIZE);
    ck_assert_uint_eq(receive_raw(fd), READ_CHANNELS);
    fd_close(&fd);
}
END_TEST

/* The archive gives its space back at once: zeros would come from there. */
START_TEST(what_is_removed_is_never_zeros)
{
    struct read_object wanted = {.channel = GATE_RIG_CHANNEL, .by = READ_BY_NAME, .how = hows[_i]};
    char path[600];
    size_t at = 0;
    int fd = connect_raw();
    snprintf(wanted.name, sizeof wanted.name, "%s", name);
    send_raw(fd, READ_OBJECT, &wanted, sizeof wanted);
    ck_assert_uint_eq(receive_raw(fd), READ_OBJECT_LENT);
    gate_rig_await(&rig, GATE_COUNTER_waiting, 0); /* the socket is full */
    snprintf(path, sizeof path, "%s/%s", rig.channel, name);
    int file = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(
        fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)BIG_SIZE), 0);
    fd_close(&file);
    while (receive_raw(fd) == READ_OBJECT_BYTES) {
        uint8_t chunk[READ_BYTES_MAX];
        const size_t length = packet.object_bytes->length;
        ck_assert_int_eq(recv(fd, chunk, length, MSG_WAITALL), (ssize_t)length);
        ck_assert_int_eq(memcmp(chunk, bytes + at, length), 0);
        at += length;
    }
    ck_assert_uint_eq(packet.header.type, READ_OBJECT_SENT);
    ck_assert_int_eq(packet.object_sent->error, ESTALE);
    ck_assert_uint_lt(at, BIG_SIZE);
    fd_close(&fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gate_tcp");
    TCase *tests = tcase_create("gate_tcp");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_hands_a_descriptor_is_refused);
    tcase_add_test(tests, who_they_are);
    tcase_add_test(tests, byte_by_byte);
    tcase_add_test(tests, nonsense_ends_the_connection);
    tcase_add_test(tests, lists);
    tcase_add_test(tests, what_the_library_refuses);
    tcase_add_loop_test(tests, all_bytes_or_some, 0, 2);
    tcase_add_test(tests, an_address_has_a_user_s_limits);
    tcase_add_test(tests, a_range_is_sent_alone_where_bytes_are_limited);
    tcase_add_loop_test(tests, time_runs_out_there_too, 0, 2);
    tcase_add_test(tests, what_is_sent_is_measured);
    tcase_add_loop_test(tests, what_was_accepted_is_sent_to_the_end, 0, 2);
    tcase_add_loop_test(tests, what_takes_longer_is_never_whole, 0, 2);
    tcase_add_loop_test(tests, who_reads_nothing_keeps_nobody_waiting, 0, 2);
    tcase_add_loop_test(tests, who_reads_late_gets_all, 0, 2);
    tcase_add_loop_test(tests, what_is_removed_is_never_zeros, 0, 2);
    suite_add_tcase(suite, tests);
    return log_maker_run(suite);
}
