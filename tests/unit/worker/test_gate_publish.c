/* SPDX-License-Identifier: MIT */
/* PUBLISH: who may write into a channel gets the outbox that the supervisor has made, whole, and
 * nobody else ever has a copy of its bell. The test is supervisor and publisher. */
#include <check.h>
#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/fd.h"
#include "tests/lib/gate_rig.h"
#include "tests/lib/outbox_fixture.h"
#include "tests/lib/unit.h"

static struct gate_rig rig;
static struct outbox_fixture outbox;
static int publisher;

static void lend(const char *name, uint32_t publishes, uint32_t group)
{
    struct message_channel_lent lent = {.listen = "local:engine",
                                        .wake_index = GATE_RIG_WORD,
                                        .publishes = publishes,
                                        .publishers = group};
    snprintf(lent.channel, sizeof lent.channel, "%s", name);
    gate_rig_send(&rig, MESSAGE_CHANNEL_LENT, &lent, sizeof lent);
}

static void setup(void)
{
    gate_rig_prepare(&rig);
    lend("open", 1, UINT32_MAX);
    lend("closed", 1, 4711);
    lend("udp", 0, UINT32_MAX);
    gate_rig_start(&rig);
    publisher = gate_rig_connect(&rig);
    outbox_fixture_make(&outbox, 77, true);
}

static void teardown(void)
{
    outbox_fixture_free(&outbox);
    fd_close(&publisher);
    gate_rig_end(&rig);
}

static struct read_publish of(const char *channel)
{
    struct read_publish publish = {0};
    snprintf(publish.channel, sizeof publish.channel, "%s", channel);
    return publish;
}

static struct message_publish ask(int who, const char *channel)
{
    const struct read_publish publish = of(channel);
    gate_rig_request(who, READ_PUBLISH, 5, &publish, sizeof publish);
    return *gate_rig_receive(&rig, MESSAGE_PUBLISH)->publish;
}

static void answer(const struct message_publish *publish, int error)
{
    struct message_published published = {.turn = publish->turn, .error = error};
    int fds[OUTBOX_FDS];
    outbox_fixture_lend(&outbox, fds);
    snprintf(published.reason, sizeof published.reason, "%s", error ? "so the test wants it" : "");
    ck_assert_int_eq(message_send(rig.supervisor, MESSAGE_PUBLISHED, GATE_RIG_GENERATION,
                                  &published, sizeof published, fds, error ? 0 : OUTBOX_FDS),
                     0);
}

static ino_t inode(int fd)
{
    struct stat status;
    ck_assert_int_eq(fstat(fd, &status), 0);
    return status.st_ino;
}

/* Everybody who had the other end is gone. */
static void expect_hung_up(void)
{
    struct pollfd bell = {.fd = outbox.bell, .events = 0};
    ck_assert_int_eq(poll(&bell, 1, GATE_RIG_DEADLINE_MS), 1);
    ck_assert(bell.revents & POLLHUP);
}

START_TEST(it_gets_its_outbox_and_the_gate_keeps_nothing)
{
    const struct read_hello hello = {"sensor"};
    gate_rig_ask(publisher, READ_HELLO, &hello, sizeof hello, READ_WELCOME);
    const int before = gate_rig_fds(&rig);
    const struct message_publish publish = ask(publisher, "open");
    ck_assert_str_eq(publish.channel, "open");
    ck_assert_str_eq(publish.name, "sensor");
    ck_assert_uint_eq(publish.uid, getuid());
    ck_assert_uint_eq(publish.pid, (uint32_t)getpid());
    answer(&publish, 0);
    const struct read_packet *packet = gate_rig_answer(publisher, READ_PUBLISHED);
    ck_assert_uint_eq(packet->header.request, 5);
    ck_assert_uint_eq(packet->published->id, 77);
    ck_assert_uint_eq(packet->fd_count, OUTBOX_FDS);
    ck_assert_uint_eq(inode(packet->fds[0]), inode(outbox.box));
    ck_assert_uint_eq(inode(packet->fds[1]), inode(outbox.answer));
    const uint64_t one = 1;
    ck_assert_int_eq(write(packet->fds[3], &one, sizeof one), sizeof one);
    ck_assert_int_eq(outbox_fixture_calls(&outbox), 1);
    ck_assert_int_eq(send(packet->fds[2], "", 1, MSG_NOSIGNAL), -1); /* nobody listens there */
    ck_assert_int_eq(pwrite(packet->fds[1], "", 1, 0), -1);          /* what the daemon says */
    gate_rig_await_fds(&rig, before);
    outbox_fixture_let_go(&outbox);
    gate_rig_quiet(publisher); /* which lets the packet's descriptors go */
    expect_hung_up();
}
END_TEST

START_TEST(the_list_says_where_one_can_publish)
{
    const struct read_list list = {0};
    const struct read_packet *packet =
        gate_rig_ask(publisher, READ_LIST, &list, sizeof list, READ_CHANNELS);
    const struct read_channel *entry = packet->entries;
    ck_assert_uint_eq(packet->count, 3);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(!!(entry[i].can & HF_CAN_PUBLISH), strcmp(entry[i].name, "udp") != 0);
}
END_TEST

START_TEST(what_cannot_be_is_refused_with_a_reason)
{
    const struct read_publish none = of("none"), udp = of("udp");
    gate_rig_refused(publisher, READ_PUBLISH, &none, sizeof none, ENOENT);
    gate_rig_refused(publisher, READ_PUBLISH, &udp, sizeof udp, EOPNOTSUPP);
    const struct message_publish publish = ask(publisher, "open");
    answer(&publish, EUSERS);
    const struct read_packet *packet = gate_rig_answer(publisher, READ_REFUSED);
    ck_assert_int_eq(packet->refused->error, EUSERS);
    ck_assert_str_eq(packet->refused->reason, "so the test wants it");
    const struct message_publish again = ask(publisher, "open"); /* it may ask again */
    ck_assert_uint_ne(again.turn, publish.turn);
    answer(&publish, 0); /* not that one */
    answer(&again, 0);
    gate_rig_answer(publisher, READ_PUBLISHED);
    gate_rig_quiet(publisher);
}
END_TEST

START_TEST(an_answer_whose_publisher_has_gone_leaves_nothing)
{
    const struct message_publish publish = ask(publisher, "open");
    fd_close(&publisher);
    int other = gate_rig_connect(&rig);
    gate_rig_quiet(other);
    answer(&publish, 0);
    outbox_fixture_let_go(&outbox);
    expect_hung_up();
    gate_rig_await(&rig, GATE_COUNTER_connections, 1);
    fd_close(&other);
}
END_TEST

/* PUBLISH is there; reports that come before are passed over. */
static bool is_served(void)
{
    struct pollfd readable = {.fd = rig.supervisor, .events = POLLIN};
    struct message_header header;
    while (poll(&readable, 1, 200) == 1) {
        ck_assert_int_eq(recv(rig.supervisor, &header, sizeof header, MSG_PEEK), sizeof header);
        if (header.type == MESSAGE_PUBLISH)
            return true;
        recv(rig.supervisor, &header, sizeof header, 0);
    }
    return false;
}

/* The more it leaves unread, the sooner the gate keeps the next answer; one of these is an outbox.
 */
START_TEST(an_answer_that_does_not_fit_waits_with_all_three)
{
    const struct read_hello hello = {"slow"};
    const struct read_publish wanted = of("open");
    for (int unread = 0; unread < 64; unread++) {
        int slow = gate_rig_connect(&rig);
        for (int i = 0; i < unread; i++)
            gate_rig_request(slow, READ_HELLO, 1, &hello, sizeof hello);
        gate_rig_request(slow, READ_PUBLISH, 2, &wanted, sizeof wanted);
        const bool early = is_served();
        for (int i = 0; i < unread && !early; i++) /* no answer before has room any more */
            gate_rig_answer(slow, READ_WELCOME);
        const struct message_publish publish = *gate_rig_receive(&rig, MESSAGE_PUBLISH)->publish;
        answer(&publish, 0);
        const struct message_gate_report *taken = gate_rig_report(&rig); /* by now */
        if (unread == 0) /* each of them counts: lent_per_user */
            ck_assert_uint_eq(taken->value[GATE_COUNTER_lent_under_way], OUTBOX_FDS);
        for (int i = 0; i < unread && early; i++)
            gate_rig_answer(slow, READ_WELCOME);
        ck_assert_uint_eq(gate_rig_answer(slow, READ_PUBLISHED)->fd_count, OUTBOX_FDS);
        gate_rig_quiet(slow);
        fd_close(&slow);
        if (!early)
            break;
    }
}
END_TEST

/* A publisher of another user: root alone can be one. */
static int connect_as(uid_t uid, gid_t gid)
{
    char outer[128];
    snprintf(outer, sizeof outer, "%s/..", rig.folder);
    ck_assert_int_eq(chmod(outer, 0711), 0);
    ck_assert_int_eq(chmod(rig.folder, 0777), 0);
    ck_assert_int_eq(chmod(rig.socket_path, 0777), 0);
    ck_assert_int_eq(setegid(gid), 0);
    ck_assert_int_eq(seteuid(uid), 0);
    int fd = gate_rig_connect(&rig);
    ck_assert_int_eq(seteuid(0), 0);
    ck_assert_int_eq(setegid(0), 0);
    return fd;
}

START_TEST(others_publish_where_their_group_may)
{
    if (getuid() != 0)
        unit_skip("only root can be another user");
    const struct read_publish wanted = of("closed");
    int stranger = connect_as(65534, 65534), member = connect_as(65534, 4711);
    const struct read_packet *packet =
        gate_rig_ask(stranger, READ_PUBLISH, &wanted, sizeof wanted, READ_REFUSED);
    ck_assert_int_eq(packet->refused->error, EACCES);
    ck_assert_ptr_nonnull(strstr(packet->refused->reason, "publishers { group"));
    struct message_publish publish = ask(member, "closed");
    ck_assert_uint_eq(publish.uid, 65534);
    answer(&publish, 0);
    gate_rig_answer(member, READ_PUBLISHED);
    publish = ask(publisher, "closed"); /* root */
    answer(&publish, 0);
    gate_rig_answer(publisher, READ_PUBLISHED);
    fd_close(&stranger);
    fd_close(&member);
}
END_TEST

START_TEST(more_groups_than_usual_are_looked_at_all)
{
    static gid_t groups[1000];
    const struct read_publish wanted = of("closed");
    if (getuid() != 0)
        unit_skip("only root can be in other groups");
    for (size_t i = 0; i < 1000; i++)
        groups[i] = (gid_t)(10000 + i);
    ck_assert_int_eq(setgroups(1000, groups), 0);
    int stranger = connect_as(65534, 65534);
    groups[999] = 4711;
    ck_assert_int_eq(setgroups(1000, groups), 0);
    int member = connect_as(65534, 65534);
    ck_assert_int_eq(setgroups(2, groups + 998), 0);
    int other = connect_as(65534, 65534);
    ck_assert_int_eq(setgroups(0, NULL), 0);
    gate_rig_refused(stranger, READ_PUBLISH, &wanted, sizeof wanted, EACCES);
    struct message_publish publish = ask(member, "closed");
    answer(&publish, 0);
    gate_rig_answer(member, READ_PUBLISHED);
    publish = ask(other, "closed");
    answer(&publish, 0);
    gate_rig_answer(other, READ_PUBLISHED);
    fd_close(&stranger);
    fd_close(&member);
    fd_close(&other);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {it_gets_its_outbox_and_the_gate_keeps_nothing,
                                  the_list_says_where_one_can_publish,
                                  what_cannot_be_is_refused_with_a_reason,
                                  an_answer_whose_publisher_has_gone_leaves_nothing,
                                  an_answer_that_does_not_fit_waits_with_all_three,
                                  others_publish_where_their_group_may,
                                  more_groups_than_usual_are_looked_at_all};
    Suite *suite = suite_create("gate_publish");
    TCase *part = tcase_create("publish");
    tcase_add_checked_fixture(part, setup, teardown);
    tcase_set_timeout(part, 60);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(part, tests[i]);
    suite_add_tcase(suite, part);
    return log_maker_run(suite);
}
