/* SPDX-License-Identifier: MIT */
/* Wire compatibility of the messages, over real socketpairs: what is exactly as declared arrives,
 * with its descriptors and close-on-exec; everything else (sizes, counts, versions, directions,
 * texts without an end, lying settings, surplus, missing or truncated descriptors) is refused by
 * name, the connection stays usable, and after each case /proc/self/fd holds as many entries as
 * before. */
#include "common/message.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/fdpass.h"
#include "common/outbox.h"
#include "tests/lib/unit.h"

static int ours, theirs; /* we receive, they send */
static int spare_fds[MESSAGE_FDS_MAX];
static int fds_before;
static struct message message;
static const char *what;

static void set_up(void)
{
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair),
                     0);
    ours = pair[0];
    theirs = pair[1];
    for (int i = 0; i < MESSAGE_FDS_MAX; i++)
        spare_fds[i] = -1;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < MESSAGE_FDS_MAX; i++)
        spare_fds[i] = fcntl(null, F_DUPFD_CLOEXEC, 0);
    fd_close(&null);
    ck_assert_int_ge(spare_fds[MESSAGE_FDS_MAX - 1], 0);
    fds_before = unit_count_fds();
}

static void tear_down(void)
{
    fd_close_all(spare_fds, MESSAGE_FDS_MAX);
    fd_close(&ours);
    fd_close(&theirs);
}

static int receive(enum message_direction direction)
{
    return message_receive(ours, direction, &message, &what);
}

/* Nothing leaked, and the next proper message gets through. */
static void still_usable(void)
{
    const struct message_stop stop = {.seal = 1};
    ck_assert_int_eq(unit_count_fds(), fds_before);
    ck_assert_int_eq(receive(TO_CHILD), -EAGAIN);
    ck_assert_int_eq(message_send(theirs, MESSAGE_STOP, 9, &stop, sizeof stop, NULL, 0), 0);
    ck_assert_int_eq(receive(TO_CHILD), 1);
    ck_assert_uint_eq(message.stop->seal, 1);
    message_release(&message);
    ck_assert_int_eq(unit_count_fds(), fds_before);
}

static void refused_as(enum message_direction direction, const char *reason)
{
    ck_assert_int_eq(receive(direction), -EBADMSG);
    ck_assert_str_eq(what, reason);
    message_release(&message); /* allowed, and does nothing */
    still_usable();
}

/* Raw bytes with raw descriptors, past every check of message_send(). */
static void send_raw(const void *bytes, size_t size, uint32_t fd_count)
{
    struct iovec part = {(void *)bytes, size};
    ck_assert_int_eq(fdpass_send(theirs, &part, 1, spare_fds, fd_count), 0);
}

struct stop_packet {
    struct message_header header;
    struct message_stop payload;
};

static struct stop_packet proper_stop(void)
{
    return (struct stop_packet){.header = {.magic = MESSAGE_MAGIC,
                                           .version = MESSAGE_VERSION,
                                           .type = MESSAGE_STOP,
                                           .generation = 4,
                                           .payload_size = sizeof(struct message_stop)}};
}

/* ---- ASSIGN ---- */

static size_t make_assign(uint8_t *bytes, uint32_t relays, uint32_t decimates)
{
    size_t spec_size = channel_spec_size(relays + decimates);
    struct message_assign *assign = (struct message_assign *)bytes;
    struct channel_spec *spec = (struct channel_spec *)(assign + 1);
    memset(bytes, 0, sizeof *assign + spec_size);
    *assign = (struct message_assign){.role = ROLE_CHANNEL,
                                      .has_old_ring = 1,
                                      .has_segment = 1,
                                      .has_next = 1,
                                      .beat_ms = 500,
                                      .spec_size = (uint32_t)spec_size};
    strcpy(spec->name, "engine");
    spec->listen.v4 = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(26000), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    spec->receive_buffer = 1 << 20;
    spec->ring_size = 32 << 20;
    spec->max_datagram = 2048;
    spec->record =
        (struct record_spec){.enabled = 1, .segment_size = 256 << 20, .sync_ns = 1000000000};
    spec->relay_count = relays;
    spec->decimate_count = decimates;
    for (uint32_t i = 0; i < relays + decimates; i++) {
        struct destination_spec *destination = &spec->destinations[i];
        destination->name[0] = (char)('a' + i % 26);
        destination->name[1] = (char)('a' + i / 26);
        destination->kind = i < relays ? DESTINATION_RELAY : DESTINATION_DECIMATE;
        destination->ttl = destination->loop = 1;
        destination->keep_every = i < relays ? 0 : 5;
        destination->to.v4 = (struct sockaddr_in){.sin_family = AF_INET,
                                                  .sin_port = htons((uint16_t)(27000 + i)),
                                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    }
    return sizeof *assign + spec_size;
}

static _Alignas(8) uint8_t assign_bytes[MESSAGE_SIZE_MAX];
#define ASSIGN ((struct message_assign *)assign_bytes)
#define SPEC   ((struct channel_spec *)(ASSIGN + 1))

static void send_assign(size_t size, uint32_t fd_count)
{
    ck_assert_int_eq(
        message_send(theirs, MESSAGE_ASSIGN, 1, assign_bytes, size, spare_fds, fd_count), 0);
}

START_TEST(the_largest_assign_fits)
{
    size_t size = make_assign(assign_bytes, 200, 40);
    send_assign(size, 246);
    int result = receive(TO_CHILD);
    ck_assert_msg(result == 1, "%d: %s", result, what);
    ck_assert_uint_eq(message.header.fd_count, 246);
    ck_assert_uint_eq(message_fd_count(MESSAGE_ASSIGN, message.payload), 246);
    ck_assert_mem_eq(message.assign, assign_bytes, size);
    ck_assert_str_eq(message_assign_spec(message.assign)->name, "engine");
    ck_assert_int_eq(unit_count_fds(), fds_before + 246);
    for (int i = 0; i < 246; i++)
        if (!(fcntl(message.fds[i], F_GETFD) & FD_CLOEXEC))
            ck_abort_msg("descriptor %d is not close-on-exec", i);
    int taken = fd_take(&message.fds[7]);
    message_release(&message);
    ck_assert_int_eq(unit_count_fds(), fds_before + 1);
    fd_close(&taken);
    still_usable();
}
END_TEST

START_TEST(an_assign_must_bring_its_descriptors)
{
    size_t size = make_assign(assign_bytes, 2, 1);
    for (uint32_t count = 0; count <= 12; count++) {
        send_assign(size, count);
        if (count != 9) {
            refused_as(TO_CHILD, "wrong number of file descriptors");
            continue;
        }
        ck_assert_int_eq(receive(TO_CHILD), 1);
        message_release(&message);
    }
    ASSIGN->has_next = 0; /* one less */
    send_assign(size, 9);
    refused_as(TO_CHILD, "wrong number of file descriptors");
}
END_TEST

START_TEST(an_assign_that_lies_is_refused)
{
    size_t size = make_assign(assign_bytes, 2, 1);
    send_assign(size - 1, 9);
    refused_as(TO_CHILD, "wrong size");
    send_assign(size + 8, 9);
    refused_as(TO_CHILD, "wrong size");
    send_assign(100, 9);
    refused_as(TO_CHILD, "wrong size");
    ASSIGN->spec_size = UINT32_MAX;
    send_assign(size, 9);
    refused_as(TO_CHILD, "wrong size");
    ASSIGN->spec_size = 0;
    send_assign(sizeof *ASSIGN, 9);
    refused_as(TO_CHILD, "role and settings disagree");

    make_assign(assign_bytes, 2, 1);
    ASSIGN->beat_ms = 0;
    send_assign(size, 9);
    refused_as(TO_CHILD, "signs of life that can't be");
    ASSIGN->beat_ms = BEAT_MS_MAX + 1;
    send_assign(size, 9);
    refused_as(TO_CHILD, "signs of life that can't be");

    make_assign(assign_bytes, 2, 1);
    ASSIGN->role = 4;
    send_assign(size, 9);
    refused_as(TO_CHILD, "unknown role");
    ASSIGN->role = ROLE_ARCHIVE;
    send_assign(size, 0);
    refused_as(TO_CHILD, "role and settings disagree");
    make_assign(assign_bytes, 2, 1);
    ASSIGN->has_segment = 2;
    send_assign(size, 9);
    refused_as(TO_CHILD, "descriptors that can't be");
    memset(assign_bytes, 0, sizeof *ASSIGN);
    ASSIGN->role = ROLE_ARCHIVE;
    ASSIGN->has_segment = 1;
    send_assign(sizeof *ASSIGN, 0);
    refused_as(TO_CHILD, "descriptors that can't be");
}
END_TEST

START_TEST(settings_that_lie_are_refused)
{
    /* Counts that don't agree with the size, or are so large that sums and products wrap. */
    static const uint32_t counts[] = {0,         1, 3, 240, 241, 1u << 16, 1u << 31, UINT32_MAX - 1,
                                      UINT32_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
            size_t size = make_assign(assign_bytes, 2, 1);
            SPEC->relay_count = counts[i];
            SPEC->decimate_count = counts[k];
            send_assign(size, 9);
            ck_assert_int_eq(receive(TO_CHILD), -EBADMSG);
            ck_assert_str_ne(what, "");
            ck_assert_int_eq(unit_count_fds(), fds_before);
        }
    /* A tail that is too short to be settings at all: nothing behind it may be read. */
    for (uint32_t tail = 1; tail < sizeof(struct channel_spec); tail += 37) {
        make_assign(assign_bytes, 0, 0);
        ASSIGN->spec_size = tail;
        send_assign(sizeof *ASSIGN + tail, 4);
        ck_assert_int_eq(receive(TO_CHILD), -EBADMSG);
        ck_assert_int_eq(unit_count_fds(), fds_before);
    }
    size_t size = make_assign(assign_bytes, 1, 0);
    memset(SPEC->name, 'x', sizeof SPEC->name); /* no end */
    send_assign(size, 5);
    ck_assert_int_eq(receive(TO_CHILD), -EBADMSG);
    size = make_assign(assign_bytes, 1, 0);
    SPEC->max_datagram = 0;
    send_assign(size, 5);
    ck_assert_int_eq(receive(TO_CHILD), -EBADMSG);
    still_usable();
}
END_TEST

/* ---- headers ---- */

START_TEST(headers_that_are_wrong)
{
    struct stop_packet packet = proper_stop();
    for (size_t size = 1; size < sizeof packet.header; size += 5) {
        send_raw(&packet, size, 1);
        refused_as(TO_CHILD, "shorter than a header");
    }
    packet.header.magic++;
    send_raw(&packet, sizeof packet, 0);
    refused_as(TO_CHILD, "wrong magic");
    packet = proper_stop();
    packet.header.version = MESSAGE_VERSION + 1;
    send_raw(&packet, sizeof packet, 2);
    refused_as(TO_CHILD, "another protocol version");
    static const uint16_t unknown[] = {0, 10, 99, 140, 255, UINT16_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        packet = proper_stop();
        packet.header.type = unknown[i];
        send_raw(&packet, sizeof packet, 0);
        refused_as(TO_CHILD, "unknown type");
        ck_assert_str_eq(message_name(unknown[i]), "unknown");
        ck_assert_uint_eq(message_fd_count(unknown[i], &packet.payload), 0);
    }
    packet = proper_stop();
    send_raw(&packet, sizeof packet - 1, 0);
    refused_as(TO_CHILD, "wrong size");
    packet.header.payload_size--;
    send_raw(&packet, sizeof packet - 1, 0);
    refused_as(TO_CHILD, "wrong size");
    packet.header.payload_size = UINT32_MAX;
    send_raw(&packet, sizeof packet, 0);
    refused_as(TO_CHILD, "wrong size");
    packet = proper_stop();
    packet.header.fd_count = 1;
    send_raw(&packet, sizeof packet, 0);
    refused_as(TO_CHILD, "wrong number of file descriptors");
    send_raw(&packet, sizeof packet, 1); /* header and packet agree, but a STOP brings none */
    refused_as(TO_CHILD, "wrong number of file descriptors");
    packet.header.fd_count = 0;
    send_raw(&packet, sizeof packet, 253);
    refused_as(TO_CHILD, "wrong number of file descriptors");
}
END_TEST

START_TEST(the_generation_is_in_the_header)
{
    struct stop_packet packet = proper_stop();
    packet.header.generation = 0xfedcba9876543210ull;
    send_raw(&packet, sizeof packet, 0);
    ck_assert_int_eq(receive(TO_CHILD), 1);
    ck_assert_uint_eq(message.header.generation, 0xfedcba9876543210ull);
    ck_assert_uint_eq(message.header.type, MESSAGE_STOP);
}
END_TEST

START_TEST(each_type_goes_its_way_with_its_size)
{
    static const struct {
        unsigned type, direction;
        size_t size;
        const char *name;
    } table[] = {
#define MESSAGE(NAME, number, way, payload, fds)                                                   \
    {number, way, sizeof(struct message_##payload), #NAME},
#include "common/message.def"
#undef MESSAGE
    };
    static _Alignas(8) uint8_t zeros[8192];
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        enum message_type type = (enum message_type)table[i].type;
        ck_assert_str_eq(message_name(type), table[i].name);
        ck_assert_uint_le(table[i].size, sizeof zeros);
        if (type == MESSAGE_ASSIGN)
            continue;
        uint32_t count =
            type == MESSAGE_SEGMENT || type == MESSAGE_LOG_DIR || type == MESSAGE_TCP_LENT ? 1
            : type == MESSAGE_OUTBOX || type == MESSAGE_PUBLISHED ? OUTBOX_FDS
                                                                  : 0;
        for (int way = TO_CHILD; way <= TO_PARENT; way++) {
            ck_assert_int_eq(message_send(theirs, type, 1, zeros, table[i].size, spare_fds, count),
                             0);
            if (!(table[i].direction & (unsigned)way)) {
                refused_as((enum message_direction)way, "wrong direction");
                continue;
            }
            ck_assert_int_eq(receive((enum message_direction)way), 1);
            ck_assert_uint_eq(message.header.type, type);
            message_release(&message);
            ck_assert_int_eq(
                message_send(theirs, type, 1, zeros, table[i].size + 8, spare_fds, count), 0);
            refused_as((enum message_direction)way, "wrong size");
            ck_assert_int_eq(
                message_send(theirs, type, 1, zeros, table[i].size, spare_fds, count + 1), 0);
            refused_as((enum message_direction)way, "wrong number of file descriptors");
        }
    }
}
END_TEST

START_TEST(a_segment_with_an_error_brings_no_descriptor)
{
    struct message_segment segment = {.error = ENOSPC};
    ck_assert_int_eq(
        message_send(theirs, MESSAGE_SEGMENT, 1, &segment, sizeof segment, spare_fds, 1), 0);
    refused_as(TO_PARENT, "wrong number of file descriptors");
    ck_assert_int_eq(message_send(theirs, MESSAGE_SEGMENT, 1, &segment, sizeof segment, NULL, 0),
                     0);
    ck_assert_int_eq(receive(TO_PARENT), 1);
    segment.error = 0;
    ck_assert_int_eq(message_send(theirs, MESSAGE_SEGMENT, 1, &segment, sizeof segment, NULL, 0),
                     0);
    refused_as(TO_PARENT, "wrong number of file descriptors");
}
END_TEST

START_TEST(texts_end)
{
    struct message_sealed sealed;
    memset(&sealed, 'x', sizeof sealed);
    ck_assert_int_eq(message_send(theirs, MESSAGE_SEALED, 1, &sealed, sizeof sealed, NULL, 0), 0);
    ck_assert_int_eq(receive(TO_PARENT), 1);
    ck_assert_uint_eq(strlen(message.sealed->channel), CHANNEL_NAME_SIZE - 1);
    ck_assert_uint_eq(strlen(message.sealed->name), SEGMENT_NAME_SIZE - 1);
    ck_assert_uint_eq(strlen(message.sealed->reason), MESSAGE_REASON_SIZE - 1);
    struct message_recover recover;
    memset(&recover, 'x', sizeof recover);
    recover.keep_count = 2;
    ck_assert_int_eq(message_send(theirs, MESSAGE_RECOVER, 1, &recover, sizeof recover, NULL, 0),
                     0);
    ck_assert_int_eq(receive(TO_CHILD), 1);
    ck_assert_uint_eq(strlen(message.recover->keep[1]), SEGMENT_NAME_SIZE - 1);
    recover.keep_count = 3;
    ck_assert_int_eq(message_send(theirs, MESSAGE_RECOVER, 1, &recover, sizeof recover, NULL, 0),
                     0);
    refused_as(TO_CHILD, "more segments to keep than it has room for");
    size_t size = make_assign(assign_bytes, 0, 0);
    memset(ASSIGN->segment.name, 'x', sizeof ASSIGN->segment.name);
    memset(ASSIGN->log_dir, 'x', sizeof ASSIGN->log_dir);
    send_assign(size, 6);
    ck_assert_int_eq(receive(TO_CHILD), 1);
    ck_assert_uint_eq(strlen(message.assign->segment.name), SEGMENT_NAME_SIZE - 1);
    ck_assert_uint_eq(strlen(message.assign->log_dir), sizeof message.assign->log_dir - 1);
    message_release(&message);
    still_usable();
}
END_TEST

/* ---- what the kernel cuts ---- */

START_TEST(a_packet_that_is_too_long_is_refused)
{
    static uint8_t bytes[MESSAGE_SIZE_MAX + 1];
    struct message_header header = proper_stop().header;
    memcpy(bytes, &header, sizeof header);
    send_raw(bytes, sizeof bytes, 3);
    refused_as(TO_CHILD, "packet or file descriptors truncated");
}
END_TEST

/* The archive has done nothing wrong, and can be asked again. */
START_TEST(a_segment_whose_descriptor_finds_no_number_is_none)
{
    struct rlimit limit, low;
    struct message_segment segment = {.channel = "engine"};
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(
        message_send(theirs, MESSAGE_SEGMENT, 7, &segment, sizeof segment, spare_fds, 1), 0);
    int lowest = dup(ours);
    low = (struct rlimit){(rlim_t)lowest, limit.rlim_max};
    fd_close(&lowest);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    int result = receive(TO_PARENT);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(result, 1);
    ck_assert_int_eq(message.segment->error, EMFILE);
    ck_assert_ptr_nonnull(strstr(message.segment->reason, "LimitNOFILE"));
    ck_assert_uint_eq(message.header.fd_count, 0);
    message_release(&message);
    still_usable();
}
END_TEST

START_TEST(descriptors_that_do_not_fit_are_refused)
{
    size_t size = make_assign(assign_bytes, 100, 0);
    struct rlimit limit, low;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    send_assign(size, 104);
    int lowest = dup(ours); /* room for some of them only: the kernel cuts the control data */
    fd_close(&lowest);
    lowest = dup(ours);
    low = (struct rlimit){(rlim_t)lowest + 50, limit.rlim_max};
    fd_close(&lowest);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    int result = receive(TO_CHILD);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    ck_assert_int_eq(result, -EBADMSG);
    ck_assert_str_eq(what, "its file descriptors found no free number");
    still_usable();

    /* The receiver below the messages: fewer places than descriptors. */
    int few[2];
    uint32_t count;
    char byte;
    send_raw("x", 1, 3);
    ck_assert_int_eq(fdpass_receive(ours, &byte, 1, few, 2, &count), -EBADMSG);
    ck_assert_uint_eq(count, 0);
    ck_assert_int_eq(unit_count_fds(), fds_before);
    ck_assert_int_eq(fdpass_send(theirs, &(struct iovec){&byte, 1}, 1, spare_fds, 254), -EINVAL);
}
END_TEST

START_TEST(control_data_of_another_kind_is_refused)
{
    struct stop_packet packet = proper_stop();
    ck_assert_int_eq(setsockopt(ours, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)), 0);
    send_raw(&packet, sizeof packet, 5);
    ck_assert_int_eq(receive(TO_CHILD), -EBADMSG);
    ck_assert_int_eq(setsockopt(ours, SOL_SOCKET, SO_PASSCRED, &(int){0}, sizeof(int)), 0);
    still_usable();
}
END_TEST

START_TEST(an_empty_packet_keeps_nothing)
{
    send_raw("", 0, 3);
    refused_as(TO_CHILD, "packet or file descriptors truncated");
    fd_close(&theirs);
    fds_before--;
    ck_assert_int_eq(receive(TO_CHILD), 0); /* this is what the real end looks like */
    ck_assert_int_eq(unit_count_fds(), fds_before);
}
END_TEST

START_TEST(sending_never_blocks)
{
    size_t size = make_assign(assign_bytes, 200, 40);
    int flags = fcntl(theirs, F_GETFL), sent = 0, result;
    ck_assert_int_eq(fcntl(theirs, F_SETFL, flags & ~O_NONBLOCK), 0);
    while ((result = message_send(theirs, MESSAGE_ASSIGN, 1, assign_bytes, size, spare_fds, 246)) ==
           0)
        sent++;
    /* Without privileges, the descriptors under way are as limited as those that are open. */
    ck_assert_msg(result == -EAGAIN || result == -ETOOMANYREFS, "%d", result);
    ck_assert_int_gt(sent, 0);
    for (; sent > 0; sent--) {
        ck_assert_int_eq(receive(TO_CHILD), 1);
        message_release(&message);
    }
    still_usable();
    fd_close(&ours); /* nobody there: an error, no SIGPIPE */
    ck_assert_int_eq(message_send(theirs, MESSAGE_ASSIGN, 1, assign_bytes, size, NULL, 0), -EPIPE);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {the_largest_assign_fits,
                                  an_assign_must_bring_its_descriptors,
                                  an_assign_that_lies_is_refused,
                                  settings_that_lie_are_refused,
                                  headers_that_are_wrong,
                                  the_generation_is_in_the_header,
                                  each_type_goes_its_way_with_its_size,
                                  a_segment_with_an_error_brings_no_descriptor,
                                  texts_end,
                                  a_packet_that_is_too_long_is_refused,
                                  descriptors_that_do_not_fit_are_refused,
                                  a_segment_whose_descriptor_finds_no_number_is_none,
                                  control_data_of_another_kind_is_refused,
                                  an_empty_packet_keeps_nothing,
                                  sending_never_blocks};
    Suite *suite = suite_create("message");
    TCase *wire = tcase_create("wire");
    tcase_add_checked_fixture(wire, set_up, tear_down);
    tcase_set_timeout(wire, 60);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(wire, tests[i]);
    suite_add_tcase(suite, wire);
    return unit_run(suite);
}
