/* SPDX-License-Identifier: MIT */
/* Descriptors of the read protocol's packets: exactly those that the table has, or none stays open.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "common/read_protocol.h"
#include "tests/lib/unit.h"

static int ends[2], lent[READ_FDS_MAX + 1], open_before;
static struct read_packet packet;
static const char *what;

static void setup(void)
{
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends),
                     0);
    for (int i = 0; i <= READ_FDS_MAX; i++) {
        lent[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        ck_assert_int_ge(lent[i], 0);
    }
    open_before = unit_count_fds();
}

static void teardown(void)
{
    ck_assert_int_eq(unit_count_fds(), open_before);
    fd_close_all(ends, 2);
    fd_close_all(lent, READ_FDS_MAX + 1);
}

static int pass(enum read_type type, const void *payload, uint32_t size, uint32_t fd_count)
{
    const struct read_header about = {.type = (uint16_t)type, .request = 9, .size = size};
    ck_assert_int_eq(read_packet_send_fds(ends[0], &about, payload, lent, fd_count), 0);
    return read_packet_receive(ends[1], type == READ_PUBLISH ? TO_GATE : TO_READER, &packet, &what);
}

START_TEST(an_outbox_comes_whole)
{
    const struct read_published published = {77};
    ck_assert_int_eq(pass(READ_PUBLISHED, &published, sizeof published, READ_FDS_MAX), 1);
    ck_assert_uint_eq(packet.published->id, 77);
    ck_assert_uint_eq(packet.fd_count, READ_FDS_MAX);
    int taken = fd_take(&packet.fds[READ_FDS_MAX - 1]);
    ck_assert_int_eq(unit_count_fds(), open_before + READ_FDS_MAX);
    read_packet_release(&packet); /* those that were not taken */
    read_packet_release(&packet); /* and no others, however often */
    ck_assert_int_eq(unit_count_fds(), open_before + 1);
    fd_close(&taken);
}
END_TEST

START_TEST(anything_else_is_refused_and_closed)
{
    const struct read_published published = {77};
    const struct read_attached attached = {0};
    const struct read_publish publish = {"engine"};
    for (uint32_t count = 0; count <= READ_FDS_MAX + 1; count++)
        if (count != READ_FDS_MAX)
            ck_assert_int_eq(pass(READ_PUBLISHED, &published, sizeof published, count), -EBADMSG);
    ck_assert_int_eq(pass(READ_ATTACHED, &attached, sizeof attached, 2), -EBADMSG);
    ck_assert_int_eq(pass(READ_PUBLISH, &publish, sizeof publish, 1), -EBADMSG);
    ck_assert_int_eq(pass(READ_PUBLISHED, &published, sizeof published - 1, READ_FDS_MAX),
                     -EBADMSG);
    ck_assert_int_eq(pass(READ_ATTACHED, &attached, sizeof attached, 0), 1);
    ck_assert_int_eq(packet.fd, -1);
    ck_assert_int_eq(pass(READ_PUBLISH, &publish, sizeof publish, 0), 1);
    ck_assert_str_eq(packet.publish->channel, "engine");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("read_protocol");
    TCase *part = tcase_create("descriptors");
    tcase_add_checked_fixture(part, setup, teardown);
    tcase_add_test(part, an_outbox_comes_whole);
    tcase_add_test(part, anything_else_is_refused_and_closed);
    suite_add_tcase(suite, part);
    return unit_run(suite);
}
