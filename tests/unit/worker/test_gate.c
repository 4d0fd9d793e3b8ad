/* SPDX-License-Identifier: MIT */
/* The gate serves readers: what there is, descriptors that are theirs alone, the right file for a
 * number or a time, and a wake-up when there is more. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/channel_public.h"
#include "common/client/holdfast.h"
#include "common/fd.h"
#include "tests/lib/gate_rig.h"
#include "tests/lib/unit.h"

#define RING 77

static struct gate_rig rig;
static struct ring_fixture fixture;
static int reader;

static void begin(bool lends_later)
{
    const struct ring_fixture_settings settings = {.ring_size = 1 << 20, .max_datagram = 1400};
    ring_fixture_open(&fixture, &settings);
    gate_rig_prepare(&rig);
    gate_rig_lend(&rig, GATE_RIG_CHANNEL, RING, fixture.memory.ring);
    rig.lends_later = lends_later;
    gate_rig_start(&rig);
    reader = gate_rig_connect(&rig);
}

static void setup(void)
{
    begin(false);
}

static void setup_early(void)
{
    begin(true);
}

static void teardown(void)
{
    fd_close(&reader);
    gate_rig_end(&rig);
    ring_fixture_close(&fixture);
}

static void commit(uint64_t next_seq)
{
    channel_page_write_commit(fixture.ring.page,
                              &(struct commit_progress){.segment_id = 1, .next_seq = next_seq});
    read_wake_ring(&rig.words[GATE_RIG_WORD], rig.bell, READ_WAKE_ANY);
}

static void publish(void)
{
    ring_fixture_write(&fixture.writer, "abc", 3);
    read_wake_ring(&rig.words[GATE_RIG_WORD], rig.bell, READ_WAKE_ANY);
}

/* ---- what there is ---- */

START_TEST(who_says_hello_is_welcome)
{
    const struct read_hello hello = {"test"};
    const struct read_packet *packet =
        gate_rig_ask(reader, READ_HELLO, &hello, sizeof hello, READ_WELCOME);
    ck_assert_uint_eq(packet->welcome->generation, GATE_RIG_GENERATION);
}
END_TEST

static const struct read_channel *list(const char *after, uint32_t *ret_count)
{
    struct read_list wanted = {0};
    snprintf(wanted.after, sizeof wanted.after, "%s", after);
    const struct read_packet *packet =
        gate_rig_ask(reader, READ_LIST, &wanted, sizeof wanted, READ_CHANNELS);
    *ret_count = packet->count;
    return packet->entries;
}

START_TEST(channels_are_listed)
{
    char name[SEGMENT_NAME_SIZE];
    uint32_t count;
    const struct read_channel *channel = list("", &count);
    ck_assert_uint_eq(count, 1);
    ck_assert_str_eq(channel->name, GATE_RIG_CHANNEL);
    ck_assert_str_eq(channel->listen, "127.0.0.1:4242");
    ck_assert_uint_eq(channel->can, HF_CAN_OLD | HF_CAN_NEW | HF_CAN_NEWEST);
    ck_assert_uint_eq(channel->first_seq, 0);
    ck_assert_uint_eq(channel->end_seq, 0);
    gate_rig_log(&rig, 10, 5, false, name);
    channel = list("", &count);
    ck_assert_uint_eq(channel->first_seq, 10);
    ck_assert_uint_eq(channel->end_seq, 15); /* as the file's header says */
    gate_rig_log(&rig, 15, 5, true, name);
    channel = list("", &count);
    ck_assert_uint_eq(channel->end_seq, 15); /* as the file's name says */
    commit(18);
    channel = list("", &count);
    ck_assert_uint_eq(channel->first_seq, 10);
    ck_assert_uint_eq(channel->end_seq, 18); /* as the recorder says */
    list(GATE_RIG_CHANNEL, &count);
    ck_assert_uint_eq(count, 0);
}
END_TEST

START_TEST(many_channels_are_listed_in_order)
{
    char name[CHANNEL_NAME_SIZE], last[CHANNEL_NAME_SIZE] = "";
    uint32_t count, total = 0;
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "many-%03d", i * 7 % 200);
        gate_rig_lend(&rig, name, 0, -1);
    }
    gate_rig_report(&rig); /* they have been taken */
    for (;;) {
        const struct read_channel *channels = list(last, &count);
        for (uint32_t i = 0; i < count; i++) {
            ck_assert_int_lt(strcmp(last, channels[i].name), 0);
            snprintf(last, sizeof last, "%s", channels[i].name);
        }
        if (count == 0)
            break;
        total += count;
    }
    ck_assert_uint_eq(total, 201);
    const struct message_channel_gone gone = {"many-100"};
    gate_rig_send(&rig, MESSAGE_CHANNEL_GONE, &gone, sizeof gone);
    gate_rig_report(&rig);
    const struct read_attach attach = {.channel = "many-100", .mode = HF_OLD};
    gate_rig_refused(reader, READ_ATTACH, &attach, sizeof attach, ENOENT);
    const struct read_channel *next = list("many-099", &count);
    ck_assert_str_eq(next->name, "many-101");
}
END_TEST

/* A gate that has just begun does not know yet what there is: nobody is told that there is no such
 * channel, nor given a list with some of them, however long it takes. */
START_TEST(who_comes_before_the_channels_waits_for_them)
{
    const struct read_attach late = {.channel = "late", .mode = HF_NEW};
    const struct read_attach never = {.channel = "never", .mode = HF_NEW};
    const struct read_list_segments segments = {.channel = "late"};
    const struct read_list all = {""};
    const struct read_hello hello = {"test"};
    int other = gate_rig_connect(&rig), lister = gate_rig_connect(&rig);
    struct pollfd waiting[] = {{reader, POLLIN, 0}, {other, POLLIN, 0}, {lister, POLLIN, 0}};
    gate_rig_request(reader, READ_ATTACH, 1, &late, sizeof late);
    gate_rig_request(reader, READ_HELLO, 2, &hello, sizeof hello);
    gate_rig_request(other, READ_ATTACH, 3, &never, sizeof never);
    gate_rig_request(lister, READ_SEGMENTS, 4, &segments, sizeof segments);
    gate_rig_request(lister, READ_LIST, 5, &all, sizeof all);
    ck_assert_int_eq(poll(waiting, 3, 1500), 0);
    gate_rig_lend(&rig, "late", 0, -1);
    ck_assert_uint_eq(gate_rig_answer(reader, READ_ATTACHED)->header.request, 1);
    ck_assert_uint_eq(gate_rig_answer(reader, READ_WELCOME)->header.request, 2);
    ck_assert_uint_eq(gate_rig_answer(lister, READ_SEGMENT_LIST)->header.request, 4);
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEW); /* who knows his channel goes on */
    ck_assert_int_eq(poll(waiting + 1, 2, 0), 0);
    gate_rig_lend(&rig, "later", 0, -1);
    gate_rig_all_lent(&rig);
    ck_assert_int_eq(gate_rig_answer(other, READ_REFUSED)->refused->error, ENOENT);
    ck_assert_uint_eq(gate_rig_answer(lister, READ_CHANNELS)->count, 3);
    gate_rig_refused(other, READ_ATTACH, &never, sizeof never, ENOENT);
    fd_close(&other);
    fd_close(&lister);
}
END_TEST

/* ---- the ring ---- */

START_TEST(memory_is_lent_read_only_and_fresh)
{
    struct channel_public_map map;
    const char *what;
    struct read_packet *packet = gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEWEST);
    ck_assert_uint_eq(packet->attached->records, 1);
    ck_assert_uint_eq(packet->attached->has_ring, 1);
    ck_assert_uint_eq(packet->attached->ring, RING);
    int one = fd_take(&packet->fd);
    packet = gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEWEST);
    int other = fd_take(&packet->fd);
    ck_assert_int_eq(fcntl(one, F_GETFL) & O_ACCMODE, O_RDONLY);
    ck_assert_ptr_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, one, 0), MAP_FAILED);
    ck_assert_int_eq(lseek(one, 100, SEEK_SET), 100);
    ck_assert_int_eq(lseek(other, 0, SEEK_CUR), 0); /* not a dup: nothing is shared */
    publish();
    ck_assert_int_eq(channel_public_map(other, false, &map, &what), 0);
    ck_assert_uint_eq(channel_public_published(map.page), 1);
    channel_public_unmap(&map);
    fd_close(&one);
    fd_close(&other);
}
END_TEST

START_TEST(a_channel_without_a_ring_can_be_attached_to)
{
    gate_rig_lend(&rig, GATE_RIG_CHANNEL, 0, -1);
    gate_rig_report(&rig);
    const struct read_packet *packet = gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEW);
    ck_assert_uint_eq(packet->attached->has_ring, 0);
    ck_assert_uint_eq(packet->attached->ring, 0);
    ck_assert_int_eq(packet->fd, -1);
}
END_TEST

START_TEST(what_is_no_ring_is_not_lent)
{
    int other = memfd_create("other", MFD_CLOEXEC);
    gate_rig_lend(&rig, GATE_RIG_CHANNEL, 78, other);
    gate_rig_report(&rig);
    const struct read_packet *packet = gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEW);
    ck_assert_uint_eq(packet->attached->has_ring, 0);
    ck_assert_int_eq(packet->fd, -1);
    fd_close(&other);
}
END_TEST

/* ---- files ---- */

/* Asks, and compares what was found and lent. wanted NULL: there is none. */
static void found(enum read_find_by by, uint64_t seq, const char *wanted, uint64_t next)
{
    struct stat lent, there;
    char path[512];
    const struct read_find find = {.by = by, .seq = seq, .time_ns = (int64_t)seq};
    if (!wanted) {
        gate_rig_refused(reader, READ_FIND, &find, sizeof find, ENOENT);
        return;
    }
    struct read_packet *packet =
        gate_rig_ask(reader, READ_FIND, &find, sizeof find, READ_SEGMENT_FOUND);
    ck_assert_str_eq(packet->found->name, wanted);
    ck_assert_uint_eq(packet->found->next_first_seq, next);
    int fd = fd_take(&packet->fd);
    snprintf(path, sizeof path, "%s/%s", rig.channel, wanted);
    ck_assert_int_eq(stat(path, &there), 0);
    ck_assert_int_eq(fstat(fd, &lent), 0);
    ck_assert_uint_eq(lent.st_ino, there.st_ino);
    ck_assert_uint_eq(packet->found->id, there.st_ino);
    ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    fd_close(&fd);
}

START_TEST(files_are_found_by_number)
{
    char a[SEGMENT_NAME_SIZE], b[SEGMENT_NAME_SIZE], c[SEGMENT_NAME_SIZE];
    const struct read_find find = {.by = READ_FIRST}, otherwise = {.by = READ_AFTER + 1};
    gate_rig_refused(reader, READ_FIND, &find, sizeof find, EINVAL); /* of which channel? */
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_OLD);
    gate_rig_refused(reader, READ_FIND, &otherwise, sizeof otherwise, EINVAL);
    found(READ_FIRST, 0, NULL, 0);
    found(READ_BY_SEQ, 0, NULL, 0);
    gate_rig_log(&rig, 100, 10, false, a);
    gate_rig_log(&rig, 110, 10, false, b);
    gate_rig_log(&rig, 130, 10, true, c);
    found(READ_BY_SEQ, 0, a, 110);
    found(READ_BY_SEQ, 109, a, 110);
    found(READ_BY_SEQ, 110, b, 130);
    found(READ_BY_SEQ, 125, b, 130);
    found(READ_BY_SEQ, UINT64_MAX, c, UINT64_MAX);
    found(READ_FIRST, 0, a, 110);
    found(READ_LAST, 0, c, UINT64_MAX);
    found(READ_AFTER, 0, a, 110);
    found(READ_AFTER, 100, b, 130);
    found(READ_AFTER, 129, c, UINT64_MAX);
    found(READ_AFTER, 130, NULL, 0);
    const struct read_packet *packet = gate_rig_find(reader, READ_BY_SEQ, 131);
    ck_assert_uint_eq(packet->found->first_seq, 130);
    ck_assert_uint_eq(packet->found->oldest_seq, 100);
    ck_assert_uint_eq(packet->found->is_open, 1);
}
END_TEST

START_TEST(files_are_found_by_time)
{
    char a[SEGMENT_NAME_SIZE], b[SEGMENT_NAME_SIZE], c[SEGMENT_NAME_SIZE];
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_OLD);
    gate_rig_timed_log(&rig, 0, 10, 1000000000, a); /* 1 s to 10 s */
    gate_rig_timed_log(&rig, 10, 10, 11000000000, b);
    gate_rig_timed_log(&rig, 20, 10, 21000000000, c);
    found(READ_BY_TIME, 0, a, 10);
    found(READ_BY_TIME, 10000000000, a, 10);
    found(READ_BY_TIME, 10000000001, b, 20);
    found(READ_BY_TIME, 30000000000, c, UINT64_MAX);
    found(READ_BY_TIME, 99000000000, c, UINT64_MAX);
    found(READ_BY_TIME, (uint64_t)-1, a, 10); /* before 1970 */
}
END_TEST

START_TEST(nothing_but_log_files_is_lent)
{
    static const char *const others[] = {
        GATE_RIG_CHANNEL "-prepared-0000000000000001.avro.open",
        GATE_RIG_CHANNEL "-00000000000000000001-20251009T085320Z.avro.damaged",
        GATE_RIG_CHANNEL "-00000000000000000001-20251009T085320Z.avro.mending",
        "other-00000000000000000001-20251009T085320Z.avro",
        GATE_RIG_CHANNEL "-1.avro",
        "secret"};
    char path[512];
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_OLD);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        log_maker_write(rig.channel, others[i], "x", 1);
    snprintf(path, sizeof path, "%s/%s", rig.channel,
             GATE_RIG_CHANNEL "-00000000000000000002-20251009T085320Z.avro");
    ck_assert_int_eq(symlink("secret", path), 0);
    snprintf(path, sizeof path, "%s/%s", rig.channel,
             GATE_RIG_CHANNEL "-00000000000000000003-20251009T085320Z.avro");
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    found(READ_FIRST, 0, NULL, 0);
    found(READ_LAST, 0, NULL, 0);
    const struct read_list_segments segments = {.channel = GATE_RIG_CHANNEL};
    ck_assert_uint_eq(
        gate_rig_ask(reader, READ_SEGMENTS, &segments, sizeof segments, READ_SEGMENT_LIST)->count,
        0);
}
END_TEST

START_TEST(a_folder_that_leads_elsewhere_is_not_followed)
{
    char name[SEGMENT_NAME_SIZE], path[512];
    gate_rig_log(&rig, 0, 1, false, name);
    snprintf(path, sizeof path, "%s/elsewhere", rig.folder);
    ck_assert_int_eq(rename(rig.channel, path), 0);
    ck_assert_int_eq(symlink("../elsewhere", rig.channel), 0);
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_OLD);
    const struct read_find find = {.by = READ_FIRST};
    gate_rig_refused(reader, READ_FIND, &find, sizeof find, ELOOP);
}
END_TEST

START_TEST(files_are_listed)
{
    char name[SEGMENT_NAME_SIZE];
    struct read_list_segments wanted = {.channel = GATE_RIG_CHANNEL};
    uint64_t total = 0, next = 0;
    for (int i = 0; i < 150; i++)
        gate_rig_log(&rig, (uint64_t)i * 10, 10, i == 149, name);
    for (;;) {
        const struct read_packet *packet =
            gate_rig_ask(reader, READ_SEGMENTS, &wanted, sizeof wanted, READ_SEGMENT_LIST);
        const struct read_segment_entry *entries = packet->entries;
        for (uint32_t i = 0; i < packet->count; i++) {
            ck_assert_uint_eq(entries[i].first_seq, next);
            ck_assert_uint_eq(entries[i].has_totals, next != 1490);
            ck_assert_uint_eq(entries[i].is_open, next == 1490);
            ck_assert_uint_eq(entries[i].records, next == 1490 ? 0 : 10);
            ck_assert_uint_eq(entries[i].last_seq, next == 1490 ? 0 : next + 9);
            ck_assert_int_eq(entries[i].created_ns, 1760000000000000000);
            ck_assert_uint_gt(entries[i].size, 0);
            next += 10;
        }
        total += packet->count;
        if (packet->count == 0)
            break;
        snprintf(wanted.after, sizeof wanted.after, "%s", entries[packet->count - 1].name);
    }
    ck_assert_uint_eq(total, 150);
    snprintf(wanted.after, sizeof wanted.after, "../../etc/passwd");
    gate_rig_refused(reader, READ_SEGMENTS, &wanted, sizeof wanted, EINVAL);
    snprintf(wanted.channel, sizeof wanted.channel, "nobody");
    gate_rig_refused(reader, READ_SEGMENTS, &wanted, sizeof wanted, ENOENT);
}
END_TEST

/* What was listed before it changed is not believed, however little time has passed. */
START_TEST(each_change_of_the_folder_is_seen)
{
    char name[SEGMENT_NAME_SIZE], from[512], to[512];
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_OLD);
    for (uint64_t i = 0; i < 50; i++) {
        gate_rig_log(&rig, i * 10, 10, true, name);
        found(READ_LAST, 0, name, UINT64_MAX);
        snprintf(from, sizeof from, "%s/%s", rig.channel, name);
        name[strlen(name) - strlen(".open")] = '\0';
        snprintf(to, sizeof to, "%s/%s", rig.channel, name);
        ck_assert_int_eq(rename(from, to), 0);
        found(READ_LAST, 0, name, UINT64_MAX);
        if (i % 2 == 1) {
            ck_assert_int_eq(unlink(to), 0);
            ck_assert_uint_eq(gate_rig_find(reader, READ_LAST, 0)->found->first_seq, i * 10 - 10);
        }
    }
}
END_TEST

/* ---- waking ---- */

static void arm(enum read_arm_for what, uint64_t seq, uint64_t ring)
{
    const struct read_arm request = {.what = what, .seq = seq, .ring = ring};
    gate_rig_request(reader, READ_ARM, 0, &request, sizeof request);
}

static void woken(uint64_t ring)
{
    ck_assert_uint_eq(gate_rig_answer(reader, READ_WOKEN)->woken->ring, ring);
    gate_rig_quiet(reader); /* once */
}

START_TEST(a_commit_wakes_who_waits_for_it)
{
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEW);
    arm(READ_FOR_COMMITTED, 0, RING);
    gate_rig_quiet(reader);
    ck_assert_uint_eq(atomic_load(&rig.words[GATE_RIG_WORD].armed), 1);
    publish(); /* rings, and is not what it waits for */
    gate_rig_quiet(reader);
    commit(1);
    woken(RING);
    ck_assert_uint_eq(atomic_load(&rig.words[GATE_RIG_WORD].armed), 0);
    commit(2);
    gate_rig_quiet(reader); /* it is not armed */
    arm(READ_FOR_COMMITTED, 1, RING);
    woken(RING); /* at once */
    arm(READ_FOR_COMMITTED, 100, RING);
    arm(READ_FOR_COMMITTED, 1, RING); /* the later one counts */
    woken(RING);
    for (uint64_t seq = 3; seq < 100; seq++) {
        arm(READ_FOR_COMMITTED, seq - 1, RING);
        if (seq % 2)
            gate_rig_quiet(reader);
        commit(seq);
        ck_assert_uint_eq(gate_rig_answer(reader, READ_WOKEN)->woken->ring, RING);
    }
}
END_TEST

START_TEST(a_datagram_wakes_who_waits_for_it)
{
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEWEST);
    arm(READ_FOR_PUBLISHED, 0, RING);
    gate_rig_quiet(reader);
    publish();
    woken(RING);
    arm(READ_FOR_PUBLISHED, 0, RING);
    woken(RING);
}
END_TEST

/* A worker that was killed before it rang leaves the word armed; its successor rings once. */
START_TEST(a_bell_without_a_word_is_reason_to_look)
{
    const uint64_t one = 1;
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEW);
    arm(READ_FOR_COMMITTED, 0, RING);
    gate_rig_quiet(reader);
    channel_page_write_commit(fixture.ring.page, &(struct commit_progress){.next_seq = 1});
    ck_assert_int_eq(write(rig.bell, &one, sizeof one), sizeof one);
    woken(RING);
}
END_TEST

START_TEST(another_ring_is_reason_to_wake)
{
    const struct ring_fixture_settings settings = {.ring_size = 1 << 20, .max_datagram = 1400};
    struct ring_fixture other;
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEW);
    arm(READ_FOR_COMMITTED, 5, RING - 1);
    woken(RING); /* it has missed that there is another one */
    arm(READ_FOR_COMMITTED, 5, RING);
    gate_rig_quiet(reader);
    ring_fixture_make(&other, &settings);
    gate_rig_lend(&rig, GATE_RIG_CHANNEL, RING + 1, other.memory.ring);
    woken(RING + 1);
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEW);
    arm(READ_FOR_COMMITTED, 5, RING + 1);
    gate_rig_quiet(reader);
    gate_rig_lend(&rig, GATE_RIG_CHANNEL, 0, -1);
    woken(0);
    arm(READ_FOR_COMMITTED, 5, 0);
    gate_rig_quiet(reader);
    gate_rig_lend(&rig, GATE_RIG_CHANNEL, RING + 2, other.memory.ring);
    woken(RING + 2);
    fd_close(&other.memory.ring);
    fd_close(&other.memory.private_part);
}
END_TEST

/* Once: who arms again for the same ring waits for another one, and doesn't spin. */
START_TEST(a_ring_that_is_retired_is_told_once)
{
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEW);
    channel_page_retire(fixture.ring.page, RING_REPLACED, 0);
    arm(READ_FOR_COMMITTED, 5, RING);
    woken(RING);
    arm(READ_FOR_COMMITTED, 5, RING);
    gate_rig_quiet(reader);
    gate_rig_lend(&rig, GATE_RIG_CHANNEL, 0, -1);
    woken(0);
}
END_TEST

START_TEST(a_channel_that_goes_is_reason_to_wake)
{
    const struct message_channel_gone gone = {GATE_RIG_CHANNEL};
    const struct read_find find = {.by = READ_FIRST};
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEW);
    arm(READ_FOR_COMMITTED, 5, RING);
    gate_rig_quiet(reader);
    gate_rig_send(&rig, MESSAGE_CHANNEL_GONE, &gone, sizeof gone);
    woken(0);
    gate_rig_refused(reader, READ_FIND, &find, sizeof find, ENOENT);
    arm(READ_FOR_COMMITTED, 5, 0);
    woken(0);
    gate_rig_lend(&rig, GATE_RIG_CHANNEL, RING, fixture.memory.ring);
    gate_rig_report(&rig);
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEW);
}
END_TEST

/* Many at once, some of which are not due yet. */
START_TEST(everybody_who_is_due_is_woken)
{
    int readers[100];
    for (uint64_t i = 0; i < 100; i++) {
        const struct read_arm request = {.what = READ_FOR_COMMITTED, .seq = i % 3, .ring = RING};
        readers[i] = gate_rig_connect(&rig);
        gate_rig_attach(readers[i], GATE_RIG_CHANNEL, HF_NEW);
        gate_rig_request(readers[i], READ_ARM, 0, &request, sizeof request);
        gate_rig_quiet(readers[i]);
    }
    for (uint64_t seq = 1; seq <= 3; seq++) {
        commit(seq);
        for (uint64_t i = 0; i < 100; i++)
            if (i % 3 == seq - 1)
                gate_rig_answer(readers[i], READ_WOKEN);
            else
                gate_rig_quiet(readers[i]);
    }
    fd_close_all(readers, 100);
}
END_TEST

/* ---- who reads, and what is counted ---- */

START_TEST(readers_are_listed)
{
    const struct read_hello hello = {"pro\x1bgram"};
    const struct read_progress progress = {3};
    const struct read_list_readers wanted = {0};
    commit(10);
    gate_rig_ask(reader, READ_HELLO, &hello, sizeof hello, READ_WELCOME);
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_JOINED);
    gate_rig_request(reader, READ_PROGRESS, 0, &progress, sizeof progress);
    int other = gate_rig_connect(&rig);
    const struct read_packet *packet =
        gate_rig_ask(other, READ_READERS, &wanted, sizeof wanted, READ_READER_LIST);
    ck_assert_uint_eq(packet->count, 2);
    const struct read_reader_entry *entry = packet->entries;
    ck_assert_uint_eq(entry[0].number, 1);
    ck_assert_uint_eq(entry[0].uid, getuid());
    ck_assert_uint_eq(entry[0].pid, (uint32_t)getpid());
    ck_assert_str_eq(entry[0].program, "pro?gram");
    ck_assert_str_eq(entry[0].channel, GATE_RIG_CHANNEL);
    ck_assert_uint_eq(entry[0].mode, HF_JOINED);
    ck_assert_uint_eq(entry[0].next_seq, 3);
    ck_assert_uint_eq(entry[0].end_seq, 10);
    ck_assert_uint_eq(entry[1].number, 2);
    ck_assert_str_eq(entry[1].channel, "");
    ck_assert_uint_eq(gate_rig_report(&rig)->value[GATE_COUNTER_slowest_lag], 7);
    fd_close(&other);
}
END_TEST

START_TEST(it_counts)
{
    char a[SEGMENT_NAME_SIZE], path[512];
    struct stat status;
    gate_rig_log(&rig, 0, 10, false, a);
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_OLD);
    gate_rig_find(reader, READ_FIRST, 0);
    snprintf(path, sizeof path, "%s/%s", rig.channel, a);
    ck_assert_int_eq(stat(path, &status), 0);
    /* By itself, within about a second. */
    const struct message *message = gate_rig_receive(&rig, MESSAGE_GATE_REPORT);
    const uint64_t *value = message->gate_report->value;
    ck_assert_uint_eq(value[GATE_COUNTER_connections], 1);
    value = gate_rig_report(&rig)->value;
    ck_assert_uint_eq(value[GATE_COUNTER_connections], 1);
    ck_assert_uint_eq(value[GATE_COUNTER_readers], 1);
    ck_assert_uint_eq(value[GATE_COUNTER_accepted], 1);
    ck_assert_uint_eq(value[GATE_COUNTER_refused], 0);
    ck_assert_uint_eq(value[GATE_COUNTER_requests], 2);
    ck_assert_uint_eq(value[GATE_COUNTER_waiting], 0);
    ck_assert_uint_eq(value[GATE_COUNTER_segments_lent], 1);
    ck_assert_uint_eq(value[GATE_COUNTER_lent_bytes], (uint64_t)status.st_size);
    ck_assert_uint_eq(value[GATE_COUNTER_lent_deleted_bytes], 0);
    ck_assert_int_eq(unlink(path), 0);
    gate_rig_quiet(reader); /* something changes, so it is looked at again */
    gate_rig_await(&rig, GATE_COUNTER_lent_deleted_bytes, (uint64_t)status.st_size);
    fd_close(&reader);
    gate_rig_await(&rig, GATE_COUNTER_lent_bytes, 0);
    gate_rig_await(&rig, GATE_COUNTER_lent_deleted_bytes, 0);
}
END_TEST

/* How often its threads have gone to sleep: its own, not those of a sanitizer. */
static unsigned long sleeps(void)
{
    char path[300], text[4096];
    unsigned long total = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)rig.pid);
    DIR *tasks = opendir(path);
    ck_assert_ptr_nonnull(tasks);
    for (const struct dirent *task; (task = readdir(tasks));) {
        if (task->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/status", (int)rig.pid, task->d_name);
        ck_assert_int_gt(unit_read_small_file(AT_FDCWD, path, text, sizeof text), 0);
        if (atoi(task->d_name) != (int)rig.pid && strncmp(text, "Name:\tfinder\n", 13) != 0)
            continue;
        const char *at = strstr(text, "\nvoluntary_ctxt_switches:");
        ck_assert_ptr_nonnull(at);
        total += strtoul(strchr(at, ':') + 1, NULL, 10);
    }
    closedir(tasks);
    return total;
}

/* It reports once what has changed; then, with readers that wait, nothing moves for longer than a
 * report takes. */
START_TEST(while_nothing_happens_it_sleeps)
{
    const struct timespec longer = {.tv_sec = 1, .tv_nsec = 500 * 1000 * 1000};
    char name[SEGMENT_NAME_SIZE];
    gate_rig_log(&rig, 0, 10, true, name);
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEW);
    gate_rig_find(reader, READ_LAST, 0);
    arm(READ_FOR_COMMITTED, 10, RING);
    gate_rig_quiet(reader);
    for (int i = 0; i < 10; i++) {
        unsigned long before = sleeps();
        nanosleep(&longer, NULL);
        if (sleeps() == before)
            return;
    }
    ck_abort_msg("it wakes up again and again");
}
END_TEST

int main(void)
{
    const struct {
        const char *name;
        const TTest *test;
    } tests[] = {
        {"channels", who_says_hello_is_welcome},
        {"channels", channels_are_listed},
        {"channels", many_channels_are_listed_in_order},
        {"ring", memory_is_lent_read_only_and_fresh},
        {"ring", a_channel_without_a_ring_can_be_attached_to},
        {"ring", what_is_no_ring_is_not_lent},
        {"files", files_are_found_by_number},
        {"files", files_are_found_by_time},
        {"files", nothing_but_log_files_is_lent},
        {"files", a_folder_that_leads_elsewhere_is_not_followed},
        {"files", files_are_listed},
        {"files", each_change_of_the_folder_is_seen},
        {"waking", a_commit_wakes_who_waits_for_it},
        {"waking", a_datagram_wakes_who_waits_for_it},
        {"waking", a_bell_without_a_word_is_reason_to_look},
        {"waking", another_ring_is_reason_to_wake},
        {"waking", a_ring_that_is_retired_is_told_once},
        {"waking", a_channel_that_goes_is_reason_to_wake},
        {"waking", everybody_who_is_due_is_woken},
        {"counts", readers_are_listed},
        {"counts", it_counts},
        {"counts", while_nothing_happens_it_sleeps},
        {"early", who_comes_before_the_channels_waits_for_them},
    };
    Suite *suite = suite_create("gate");
    TCase *part = NULL;
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (i == 0 || strcmp(tests[i].name, tests[i - 1].name) != 0) {
            part = tcase_create(tests[i].name);
            bool early = strcmp(tests[i].name, "early") == 0;
            tcase_add_checked_fixture(part, early ? setup_early : setup, teardown);
            tcase_set_timeout(part, 60);
            suite_add_tcase(suite, part);
        }
        tcase_add_test(part, tests[i].test);
    }
    return log_maker_run(suite);
}
