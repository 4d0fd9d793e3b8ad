/* SPDX-License-Identifier: MIT */
/* Named positions: one reader each, its owner's alone, and moved only when the archive says that it
 * is on the disk. The test is the archive, too. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/fd.h"
#include "common/position_file.h"
#include "tests/lib/gate_rig.h"
#include "tests/lib/unit.h"

static struct gate_rig rig;
static int reader, other;

static void setup(void)
{
    gate_rig_prepare(&rig);
    gate_rig_lend(&rig, GATE_RIG_CHANNEL, 0, -1);
    gate_rig_lend(&rig, "second", 0, -1);
    gate_rig_start(&rig);
    reader = gate_rig_connect(&rig);
    other = gate_rig_connect(&rig);
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_OLD);
    gate_rig_attach(other, GATE_RIG_CHANNEL, HF_OLD);
}

static void teardown(void)
{
    fd_close(&reader);
    fd_close(&other);
    gate_rig_end(&rig);
}

static struct read_position position(const char *name, uint64_t seq)
{
    struct read_position it = {.channel = GATE_RIG_CHANNEL, .seq = seq};
    snprintf(it.name, sizeof it.name, "%s", name);
    return it;
}

static void put(const char *channel, const char *name, uint64_t seq, uint32_t uid)
{
    const struct position_file file = {.seq = seq, .uid = uid, .saved_ns = 1000 + (int64_t)seq};
    char folder[256], text[POSITION_FILE_SIZE_MAX];
    size_t length = position_file_print(&file, text);
    snprintf(folder, sizeof folder, "%s/" POSITION_FOLDER, rig.log_dir);
    mkdir(folder, 0755);
    snprintf(folder, sizeof folder, "%s/" POSITION_FOLDER "/%s", rig.log_dir, channel);
    mkdir(folder, 0755);
    log_maker_write(folder, name, text, length);
}

static struct read_packet *claim(int who, const char *name)
{
    const struct read_position wanted = position(name, 0);
    return gate_rig_ask(who, READ_CLAIM, &wanted, sizeof wanted, READ_POSITION);
}

static void claim_refused(int who, const char *name, int error)
{
    const struct read_position wanted = position(name, 0);
    gate_rig_refused(who, READ_CLAIM, &wanted, sizeof wanted, error);
}

START_TEST(a_position_has_one_reader)
{
    const struct read_packet *packet = claim(reader, "mine");
    ck_assert_uint_eq(packet->position->known, 0); /* it was never saved */
    put(GATE_RIG_CHANNEL, "mine", 4711, getuid());
    packet = claim(reader, "mine"); /* it has it already */
    ck_assert_uint_eq(packet->position->known, 1);
    ck_assert_uint_eq(packet->position->seq, 4711);
    ck_assert_str_eq(packet->position->name, "mine");
    claim_refused(other, "mine", EBUSY);
    claim(other, "others");
    claim_refused(reader, "others", EBUSY);
    claim(other, "more"); /* instead of the one before */
    claim(reader, "others");
    fd_close(&reader);
    gate_rig_await(&rig, GATE_COUNTER_connections, 1);
    claim(other, "others");
    claim(other, "mine");
}
END_TEST

/* What is wrong is said, and not only that something is. */
static void claim_refused_because(const struct read_position *wanted, const char *why)
{
    const struct read_packet *packet =
        gate_rig_ask(reader, READ_CLAIM, wanted, sizeof *wanted, READ_REFUSED);
    ck_assert_int_eq(packet->refused->error, EINVAL);
    ck_assert_msg(strstr(packet->refused->reason, why), "%s", packet->refused->reason);
}

START_TEST(names_that_are_none_are_refused)
{
    claim_refused(reader, "", EINVAL);
    claim_refused(reader, "../engine", EINVAL);
    claim_refused(reader, ".new", EINVAL);
    struct read_position wanted = position("mine", 0);
    snprintf(wanted.channel, sizeof wanted.channel, "second"); /* it reads another one */
    claim_refused_because(&wanted, "not attached");
    snprintf(wanted.channel, sizeof wanted.channel, "..");
    claim_refused_because(&wanted, "no channel's name");
    wanted = position("not a name", 0);
    claim_refused_because(&wanted, "no position's name");
}
END_TEST

START_TEST(a_damaged_file_is_no_position)
{
    put(GATE_RIG_CHANNEL, "mine", 1, getuid());
    char path[256];
    snprintf(path, sizeof path, "%s/" POSITION_FOLDER "/" GATE_RIG_CHANNEL, rig.log_dir);
    log_maker_write(path, "mine", "seq 5", 5);
    claim_refused(reader, "mine", EBADMSG);
    claim(reader, "other"); /* nothing of it is left */
    claim_refused(other, "mine", EBADMSG);
}
END_TEST

/* As the supervisor gets it; answered with this error. */
static struct message_position_save take_save(int error)
{
    struct message_position_save save =
        *gate_rig_receive(&rig, MESSAGE_POSITION_SAVE)->position_save;
    struct message_position_saved saved = {
        .turn = save.turn, .error = error, .reason = "the disk is full"};
    gate_rig_send(&rig, MESSAGE_POSITION_SAVED, &saved, sizeof saved);
    return save;
}

START_TEST(it_is_saved_when_the_archive_says_so)
{
    struct read_position wanted = position("mine", 100);
    gate_rig_refused(reader, READ_SAVE, &wanted, sizeof wanted, EINVAL); /* not claimed */
    claim(reader, "mine");
    gate_rig_request(reader, READ_SAVE, 7, &wanted, sizeof wanted);
    gate_rig_request(reader, READ_SAVE, 8, &wanted, sizeof wanted); /* one after the other */
    struct message_position_save save = take_save(0);
    ck_assert_str_eq(save.channel, GATE_RIG_CHANNEL);
    ck_assert_str_eq(save.name, "mine");
    ck_assert_uint_eq(save.seq, 100);
    ck_assert_uint_eq(save.uid, getuid());
    ck_assert_uint_eq(save.forget, 0);
    ck_assert_int_gt(save.saved_ns, 1700000000000000000);
    const struct read_packet *packet = gate_rig_answer(reader, READ_POSITION);
    ck_assert_uint_eq(packet->header.request, 7);
    ck_assert_uint_eq(packet->position->seq, 100);
    ck_assert_uint_eq(packet->position->known, 1);
    take_save(ENOSPC);
    packet = gate_rig_answer(reader, READ_REFUSED);
    ck_assert_uint_eq(packet->header.request, 8);
    ck_assert_int_eq(packet->refused->error, ENOSPC);
    ck_assert_str_eq(packet->refused->reason, "the disk is full");
    gate_rig_refused(other, READ_SAVE, &wanted, sizeof wanted, EINVAL);
}
END_TEST

/* The archive is at work for a reader that is gone: nobody else has the position before it says
 * what has become of it, and nobody else gets its answer. */
START_TEST(a_save_under_way_outlives_its_reader)
{
    struct read_position wanted = position("mine", 100);
    int fds = gate_rig_fds(&rig);
    claim(reader, "mine");
    gate_rig_request(reader, READ_SAVE, 7, &wanted, sizeof wanted);
    struct message_position_save save =
        *gate_rig_receive(&rig, MESSAGE_POSITION_SAVE)->position_save;
    fd_close(&reader);
    gate_rig_await_fds(&rig, fds - 1);
    claim_refused(other, "mine", EBUSY);
    gate_rig_refused(other, READ_FORGET, &wanted, sizeof wanted, EBUSY);
    reader = gate_rig_connect(&rig);
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_OLD);
    claim_refused(reader, "mine", EBUSY);
    struct message_position_saved saved = {.turn = save.turn};
    gate_rig_send(&rig, MESSAGE_POSITION_SAVED, &saved, sizeof saved);
    gate_rig_await(&rig, GATE_COUNTER_connections, 2);
    gate_rig_quiet(reader);
    claim(reader, "mine");
    gate_rig_request(reader, READ_SAVE, 8, &wanted, sizeof wanted);
    gate_rig_send(&rig, MESSAGE_POSITION_SAVED, &saved, sizeof saved); /* once more */
    take_save(0);
    ck_assert_uint_eq(gate_rig_answer(reader, READ_POSITION)->header.request, 8);
    gate_rig_quiet(reader);
}
END_TEST

/* Its place stays taken meanwhile, and is free when the answer has come: here both at once. */
START_TEST(a_forget_under_way_outlives_its_reader)
{
    struct read_position wanted = position("mine", 0);
    put(GATE_RIG_CHANNEL, "mine", 5, getuid());
    int fds = gate_rig_fds(&rig);
    gate_rig_request(reader, READ_FORGET, 7, &wanted, sizeof wanted);
    struct message_position_save save =
        *gate_rig_receive(&rig, MESSAGE_POSITION_SAVE)->position_save;
    ck_assert_uint_eq(save.forget, 1);
    fd_close(&reader);
    gate_rig_await_fds(&rig, fds - 1);
    claim_refused(other, "mine", EBUSY);
    struct message_position_saved saved = {.turn = save.turn, .error = EIO};
    gate_rig_send(&rig, MESSAGE_POSITION_SAVED, &saved, sizeof saved);
    gate_rig_await(&rig, GATE_COUNTER_connections, 1);
    ck_assert_uint_eq(claim(other, "mine")->position->seq, 5);
}
END_TEST

START_TEST(it_is_forgotten_when_nobody_has_it)
{
    struct read_position wanted = position("mine", 0);
    gate_rig_refused(reader, READ_FORGET, &wanted, sizeof wanted, ENOENT);
    put(GATE_RIG_CHANNEL, "mine", 5, getuid());
    claim(other, "mine");
    gate_rig_refused(reader, READ_FORGET, &wanted, sizeof wanted, EBUSY);
    gate_rig_request(other, READ_FORGET, 3, &wanted, sizeof wanted); /* its own */
    ck_assert_uint_eq(take_save(0).forget, 1);
    ck_assert_uint_eq(gate_rig_answer(other, READ_POSITION)->position->known, 0);
    fd_close(&other);
    gate_rig_await(&rig, GATE_COUNTER_connections, 1);
    gate_rig_request(reader, READ_FORGET, 4, &wanted, sizeof wanted);
    take_save(EIO);
    ck_assert_int_eq(gate_rig_answer(reader, READ_REFUSED)->refused->error, EIO);
    claim(reader, "mine"); /* it is free again */
}
END_TEST

START_TEST(positions_are_listed)
{
    char name[READ_POSITION_SIZE];
    struct read_list_positions wanted = {0};
    uint32_t total = 0, in_use = 0;
    char last[sizeof wanted.after] = "", last_channel[CHANNEL_NAME_SIZE] = "";
    ck_assert_uint_eq(
        gate_rig_ask(reader, READ_POSITIONS, &wanted, sizeof wanted, READ_POSITION_LIST)->count, 0);
    for (int i = 0; i < 150; i++) {
        snprintf(name, sizeof name, "name-%03d", i * 7 % 150);
        put(i % 3 ? GATE_RIG_CHANNEL : "second", name, (uint64_t)i, getuid());
    }
    put("third", "last", 9, 12345);
    put("third", ".new", 9, 12345);
    claim(reader, "name-007"); /* the second one, i = 1 */
    for (;;) {
        const struct read_packet *packet =
            gate_rig_ask(reader, READ_POSITIONS, &wanted, sizeof wanted, READ_POSITION_LIST);
        const struct read_position_entry *entries = packet->entries;
        if (packet->count == 0)
            break;
        for (uint32_t i = 0; i < packet->count; i++) {
            int order = strcmp(last_channel, entries[i].channel);
            ck_assert(order < 0 || (order == 0 && strcmp(last, entries[i].name) < 0));
            snprintf(last_channel, sizeof last_channel, "%s", entries[i].channel);
            snprintf(last, sizeof last, "%s", entries[i].name);
            ck_assert_int_eq(entries[i].saved_ns, 1000 + (int64_t)entries[i].seq);
            in_use += entries[i].in_use;
            if (entries[i].in_use)
                ck_assert_str_eq(entries[i].name, "name-007");
        }
        total += packet->count;
        snprintf(wanted.after_channel, sizeof wanted.after_channel, "%s", last_channel);
        snprintf(wanted.after, sizeof wanted.after, "%s", last);
    }
    ck_assert_uint_eq(total, 151);
    ck_assert_uint_eq(in_use, 1);
    ck_assert_str_eq(last_channel, "third");
    wanted = (struct read_list_positions){.channel = "second", .after = "name-100"};
    const struct read_packet *packet =
        gate_rig_ask(reader, READ_POSITIONS, &wanted, sizeof wanted, READ_POSITION_LIST);
    const struct read_position_entry *entries = packet->entries;
    ck_assert_uint_eq(packet->count, 16);
    ck_assert_str_eq(entries[0].channel, "second");
    ck_assert_int_gt(strcmp(entries[0].name, "name-100"), 0);
    snprintf(wanted.channel, sizeof wanted.channel, "..");
    gate_rig_refused(reader, READ_POSITIONS, &wanted, sizeof wanted, EINVAL);
}
END_TEST

/* As nobody in particular: what belongs to others is out of reach. */
START_TEST(a_position_is_its_owners)
{
    if (getuid() != 0)
        unit_skip("another user needs root");
    struct read_position wanted = position("roots", 0);
    put(GATE_RIG_CHANNEL, "roots", 5, 0);
    put(GATE_RIG_CHANNEL, "nobodys", 6, 65534);
    fd_close(&other);
    ck_assert_int_eq(chmod(rig.folder, 0777), 0);
    ck_assert_int_eq(chmod(rig.socket_path, 0777), 0);
    char outer[128];
    snprintf(outer, sizeof outer, "%s/..", rig.folder);
    ck_assert_int_eq(chmod(outer, 0711), 0);
    ck_assert_int_eq(seteuid(65534), 0);
    other = gate_rig_connect(&rig);
    ck_assert_int_eq(seteuid(0), 0);
    gate_rig_attach(other, GATE_RIG_CHANNEL, HF_OLD);
    claim_refused(other, "roots", EACCES);
    gate_rig_refused(other, READ_FORGET, &wanted, sizeof wanted, EACCES);
    ck_assert_uint_eq(claim(reader, "roots")->position->seq, 5); /* none of it is left */
    ck_assert_uint_eq(claim(other, "nobodys")->position->seq, 6);
    wanted = position("nobodys", 7);
    gate_rig_request(other, READ_SAVE, 1, &wanted, sizeof wanted);
    ck_assert_uint_eq(take_save(0).uid, 65534);
    gate_rig_answer(other, READ_POSITION);
    fd_close(&other);
    gate_rig_await(&rig, GATE_COUNTER_connections, 1);
    claim(reader, "nobodys"); /* root may, and it stays whose it was */
    gate_rig_request(reader, READ_SAVE, 1, &wanted, sizeof wanted);
    ck_assert_uint_eq(take_save(0).uid, 65534);
    gate_rig_answer(reader, READ_POSITION);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {a_position_has_one_reader,
                                  names_that_are_none_are_refused,
                                  a_damaged_file_is_no_position,
                                  it_is_saved_when_the_archive_says_so,
                                  a_save_under_way_outlives_its_reader,
                                  a_forget_under_way_outlives_its_reader,
                                  it_is_forgotten_when_nobody_has_it,
                                  positions_are_listed,
                                  a_position_is_its_owners};
    Suite *suite = suite_create("gate_positions");
    TCase *part = tcase_create("positions");
    tcase_add_checked_fixture(part, setup, teardown);
    tcase_set_timeout(part, 60);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(part, tests[i]);
    suite_add_tcase(suite, part);
    return log_maker_run(suite);
}
