/* SPDX-License-Identifier: MIT */
/* However many readers there are, however little they read, and whatever becomes of the files
 * meanwhile: the gate serves those beside them, and when they are gone it is as large as before. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/avro_log_header.h"
#include "common/client/holdfast.h"
#include "common/fd.h"
#include "tests/lib/gate_scene.h"
#include "tests/lib/unit.h"

static struct gate_scene scene;

/* ---- connections ---- */

START_TEST(half_open_ones_end_or_wait)
{
    const struct gate_scene_packet find = gate_scene_find();
    const size_t size = sizeof find.header + sizeof find.find;
    int before = gate_rig_fds(&scene.rig);
    for (int i = 0; i < 20; i++) {
        int silent = gate_rig_connect(&scene.rig), no_writer = gate_rig_connect(&scene.rig),
            no_reader = gate_rig_connect(&scene.rig), gone = gate_rig_connect(&scene.rig);
        ck_assert_int_eq(shutdown(no_writer, SHUT_WR), 0);
        gate_rig_expect_end(no_writer);
        ck_assert_int_eq(shutdown(no_reader, SHUT_RD), 0);
        for (int n = 0; n < 5; n++)
            send(no_reader, &find, size, MSG_NOSIGNAL);
        gate_rig_attach(gone, GATE_RIG_CHANNEL, HF_OLD);
        for (int n = 0; n < 15; n++)
            ck_assert_int_gt(send(gone, &find, size, MSG_NOSIGNAL), 0);
        fd_close(&gone);
        gate_scene_serves_neighbour(&scene);
        gate_rig_quiet(silent);
        fd_close(&silent);
        fd_close(&no_writer);
        fd_close(&no_reader);
    }
    gate_rig_await(&scene.rig, GATE_COUNTER_connections, 1);
    gate_rig_await(&scene.rig, GATE_COUNTER_waiting, 0);
    gate_rig_await_fds(&scene.rig, before);
}
END_TEST

START_TEST(requests_are_answered_in_order)
{
    const struct read_find find = {.by = READ_FIRST};
    const struct read_hello hello = {"test"};
    const struct read_list_segments segments = {.channel = GATE_RIG_CHANNEL};
    int reader = gate_rig_connect(&scene.rig);
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
            gate_scene_serves_neighbour(&scene); /* it may take some more meanwhile */
            quiet++;
        }
    }
    return sent;
}

START_TEST(who_never_reads_is_not_waited_for)
{
    int readers[8], before = gate_rig_fds(&scene.rig);
    uint32_t sent[8];
    for (int i = 0; i < 8; i++) {
        readers[i] = gate_rig_connect(&scene.rig);
        gate_rig_attach(readers[i], GATE_RIG_CHANNEL, HF_OLD);
        sent[i] = flood(readers[i]);
        ck_assert_uint_gt(sent[i], READ_PIPELINE_MAX);
    }
    /* One socket each, and one file whose answer did not fit; threads have had others. */
    gate_rig_await_fewer_fds(&scene.rig, before + 2 * 8);
    /* Those who read in the end get every answer, in order. */
    for (int i = 0; i < 4; i++)
        for (uint32_t n = 0; n < sent[i]; n++)
            ck_assert_uint_eq(gate_rig_answer(readers[i], READ_SEGMENT_FOUND)->header.request, n);
    fd_close_all(readers, 8);
    gate_rig_await(&scene.rig, GATE_COUNTER_connections, 1);
    gate_rig_await(&scene.rig, GATE_COUNTER_waiting, 0);
    gate_scene_serves_neighbour(&scene);
    gate_rig_await_fds(&scene.rig, before);
}
END_TEST

/* One WOKEN, however often there was reason for it. */
START_TEST(a_wake_up_that_does_not_fit_comes_once)
{
    struct read_arm arm = {.what = READ_FOR_COMMITTED, .seq = 0, .ring = GATE_SCENE_RING - 1};
    int reader = gate_rig_connect(&scene.rig);
    uint32_t woken = 0;
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_NEW);
    for (int i = 0; i < 2000; i++) /* each is reason enough */
        gate_rig_request(reader, READ_ARM, 0, &arm, sizeof arm);
    const struct read_hello hello = {"last"};
    gate_rig_request(reader, READ_HELLO, 9, &hello, sizeof hello);
    gate_scene_serves_neighbour(&scene);
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

#define MANY 600
/* Descriptors of which a gate, which leaves half of them to the supervisor and takes four for each
 * connection, gives one user so many. */
#define ENOUGH (2 * (16 * (MANY + 2) + 100))

static void connect_many(int readers[MANY])
{
    for (int i = 0; i < MANY; i++) {
        readers[i] = gate_rig_connect(&scene.rig);
        gate_rig_attach(readers[i], GATE_RIG_CHANNEL, HF_NEW);
        gate_rig_find(readers[i], READ_FIRST, 0);
    }
}

START_TEST(hundreds_of_readers_come_and_go)
{
    static int readers[MANY];
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < ENOUGH)
        unit_skip("%d connections of one user are not allowed here", MANY);
    connect_many(readers); /* once before: the heap is as large as it gets */
    fd_close_all(readers, MANY);
    gate_rig_await(&scene.rig, GATE_COUNTER_connections, 1);
    int fds = gate_rig_fds(&scene.rig);
    long memory = gate_rig_memory(&scene.rig);
    for (int round = 0; round < 2; round++) {
        connect_many(readers);
        ck_assert_uint_eq(gate_rig_report(&scene.rig)->value[GATE_COUNTER_readers], MANY + 1);
        gate_rig_await_fds(&scene.rig, fds + MANY); /* a socket each, and nothing else */
        for (int i = 0; i < MANY; i++) {
            const struct read_arm arm = {
                .what = READ_FOR_COMMITTED, .seq = INT64_MAX, .ring = GATE_SCENE_RING};
            gate_rig_request(readers[i], READ_ARM, 0, &arm, sizeof arm);
        }
        gate_scene_serves_neighbour(&scene);
        fd_close_all(readers, MANY);
        gate_rig_await(&scene.rig, GATE_COUNTER_connections, 1);
        gate_rig_await(&scene.rig, GATE_COUNTER_lent_bytes,
                       gate_rig_report(&scene.rig)->value[GATE_COUNTER_lent_bytes]);
    }
    gate_rig_await_fds(&scene.rig, fds);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they give none back */
    ck_assert_int_le(gate_rig_memory(&scene.rig), memory + 1024);
#else
    (void)memory;
#endif
}
END_TEST

/* Connects until it is told that there may be no more; how many there were, and one that was
 * refused behind them. */
static int connect_all(int *readers, int most)
{
    int count = 0;
    const struct read_hello hello = {"one more"};
    const uint64_t refused = gate_rig_report(&scene.rig)->value[GATE_COUNTER_refused];
    for (; count < most; count++) {
        struct pollfd readable = {.events = POLLIN};
        readers[count] = readable.fd = gate_rig_connect(&scene.rig);
        read_packet_send(readers[count], READ_HELLO, 1, &hello, sizeof hello, -1);
        ck_assert_int_eq(poll(&readable, 1, GATE_RIG_DEADLINE_MS), 1);
        if (gate_rig_report(&scene.rig)->value[GATE_COUNTER_refused] > refused)
            break;
    }
    ck_assert_int_lt(count, most);
    ck_assert_int_eq(gate_rig_answer(readers[count], READ_REFUSED)->refused->error, EBUSY);
    gate_rig_expect_end(readers[count]);
    return count;
}

START_TEST(one_user_has_no_more_than_his_share)
{
    static int readers[1100];
    int count = connect_all(readers, 1100);
    gate_scene_serves_neighbour(&scene);
    fd_close_all(readers, (size_t)count + 1);
    gate_rig_await(&scene.rig, GATE_COUNTER_connections, 1);
    int reader = gate_rig_connect(&scene.rig);
    gate_rig_quiet(reader);
    fd_close(&reader);
}
END_TEST

#define FEW      1024 /* descriptors, of which the gate leaves half */
#define CHANNELS 300

/* Each channel takes one, so there is room for fewer readers: when they have all that they may
 * have, none of what the others need is gone. */
START_TEST(channels_and_readers_share_the_descriptors)
{
    static int readers[FEW];
    struct rlimit before;
    char name[CHANNEL_NAME_SIZE];
    gate_scene_end(&scene);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){FEW, before.rlim_max}), 0);
    gate_scene_begin(&scene);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    for (int i = 0; i < CHANNELS; i++) {
        snprintf(name, sizeof name, "many-%03d", i);
        gate_rig_lend(&scene.rig, name, 1, scene.fixture.memory.ring);
    }
    int count = connect_all(readers, FEW) + 1; /* and the neighbour */
    /* Half of all connections, and four descriptors for each. */
    ck_assert_int_le(gate_rig_fds(&scene.rig) - count + 2 * 4 * count, FEW / 2);
    ck_assert_int_gt(count, 1);
    gate_rig_answer(readers[0], READ_WELCOME);
    gate_rig_attach(readers[0], "many-299", HF_NEW);
    fd_close_all(readers, (size_t)count);
}
END_TEST

/* Ticks that the gate has used. */
static unsigned long used(void)
{
    char path[64], text[1024];
    unsigned long user, system;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)scene.rig.pid);
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
    const struct rlimit low = {(rlim_t)gate_rig_fds(&scene.rig) + 100, 20000};
    ck_assert_int_eq(prlimit(scene.rig.pid, RLIMIT_NOFILE, &low, NULL), 0);
    /* Numbers that the scene.rig's own descriptors take are beyond it: hardly any are free. */
    const struct read_hello hello = {"waits"};
    const struct rlimit lower = {(rlim_t)gate_rig_fds(&scene.rig) + 4, 20000};
    ck_assert_int_eq(prlimit(scene.rig.pid, RLIMIT_NOFILE, &lower, NULL), 0);
    for (int i = 0; i < 40; i++) {
        readers[i] = gate_rig_connect(&scene.rig);
        gate_rig_request(readers[i], READ_HELLO, 1, &hello, sizeof hello);
    }
    unsigned long before = used();
    nanosleep(&while_, NULL);
    ck_assert_uint_lt(used() - before, 20); /* it doesn't spin */
    gate_rig_quiet(scene.neighbour);
    for (int i = 0; i < 40; i++) { /* as each ends, the next one is taken */
        gate_rig_answer(readers[i], READ_WELCOME);
        fd_close(&readers[i]);
    }
    gate_rig_await(&scene.rig, GATE_COUNTER_connections, 1);
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
    snprintf(from_path, sizeof from_path, "%s/%s", scene.rig.channel, from);
    snprintf(to_path, sizeof to_path, "%s/%s", scene.rig.channel, to);
    rename(from_path, to_path);
}

static void unlink_in(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", scene.rig.channel, name);
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
        gate_rig_log(&scene.rig, 1000 + i * 10, 10, true, open_name);
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
        readers[i] = gate_rig_connect(&scene.rig);
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
                     (packet.refused->error != EAGAIN && /* files went faster than it looked */
                      (find.by != READ_AFTER || packet.refused->error != ENOENT)))
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

/* Those who ask for its files wait, and so do those who ask for all channels; nobody else does. */
START_TEST(a_folder_that_does_not_answer_holds_up_no_other)
{
    int stuck[8], held = gate_rig_hold_up(scene.rig.channel);
    const struct read_find find = {.by = READ_FIRST};
    const struct read_list all = {""};
    const struct read_list_segments segments = {.channel = "second"};
    struct read_position position = {.channel = "second", .name = "mine"};
    gate_rig_lend(&scene.rig, "second", 0, -1);
    gate_rig_report(&scene.rig);
    for (int i = 0; i < 8; i++) {
        stuck[i] = gate_rig_connect(&scene.rig);
        gate_rig_attach(stuck[i], GATE_RIG_CHANNEL, HF_OLD);
        if (i % 2)
            gate_rig_request(stuck[i], READ_LIST, 1, &all, sizeof all);
        else
            gate_rig_request(stuck[i], READ_FIND, 1, &find, sizeof find);
        gate_rig_report(&scene.rig);
    }
    int reader = gate_rig_connect(&scene.rig);
    gate_rig_attach(reader, "second", HF_OLD);
    gate_rig_refused(reader, READ_FIND, &find, sizeof find, ENOENT); /* it has no files */
    gate_rig_ask(reader, READ_SEGMENTS, &segments, sizeof segments, READ_SEGMENT_LIST);
    gate_rig_ask(reader, READ_CLAIM, &position, sizeof position, READ_POSITION);
    fd_close(&held);
    for (int i = 0; i < 8; i++)
        gate_rig_answer(stuck[i], i % 2 ? READ_CHANNELS : READ_SEGMENT_FOUND);
    fd_close_all(stuck, 8);
    fd_close(&reader);
}
END_TEST

/* All channels are asked for, which is held up: more often than the queue has room. */
START_TEST(who_leaves_a_list_leaves_nothing_behind)
{
    const struct read_list all = {""};
    int held = gate_rig_hold_up(scene.rig.channel), first = gate_rig_connect(&scene.rig);
    gate_rig_request(first, READ_LIST, 1, &all, sizeof all);
    gate_rig_report(&scene.rig);
    long memory = gate_rig_memory(&scene.rig);
    for (int i = 0; i < 9000; i++) {
        int reader = gate_rig_connect(&scene.rig);
        gate_rig_request(reader, READ_LIST, 1, &all, sizeof all);
        gate_rig_report(&scene.rig);
        fd_close(&reader);
    }
    gate_rig_await(&scene.rig, GATE_COUNTER_connections, 2);
    unsigned waiting = (unsigned)gate_rig_report(&scene.rig)->value[GATE_COUNTER_waiting];
    long more = gate_rig_memory(&scene.rig) - memory;
    int last = gate_rig_connect(&scene.rig);
    gate_rig_request(last, READ_LIST, 1, &all, sizeof all);
    gate_rig_report(&scene.rig);
    fd_close(&held);
    static struct read_packet packet;
    const char *what;
    struct pollfd readable = {.fd = last, .events = POLLIN};
    ck_assert_int_eq(poll(&readable, 1, GATE_RIG_DEADLINE_MS), 1);
    ck_assert_int_eq(read_packet_receive(last, TO_READER, &packet, &what), 1);
    ck_assert_msg(waiting <= 1 && packet.header.type == READ_CHANNELS,
                  "%u wait, %ld KiB more, and who asks is answered with type %u", waiting, more,
                  packet.header.type);
    fd_close(&first);
    fd_close(&last);
}
END_TEST

static int connect_as(uid_t uid)
{
    ck_assert_int_eq(seteuid(uid), 0);
    int reader = gate_rig_connect(&scene.rig);
    ck_assert_int_eq(seteuid(0), 0);
    return reader;
}

/* They are other threads' work: what one had of these puts him behind nobody there. */
START_TEST(finds_do_not_put_off_a_list)
{
    const struct read_list all = {""};
    const struct read_find find = {.by = READ_FIRST};
    char outer[128];
    int flood[40], reader;
    ck_assert_int_eq(chmod(scene.rig.folder, 0777), 0);
    ck_assert_int_eq(chmod(scene.rig.socket_path, 0777), 0);
    snprintf(outer, sizeof outer, "%s/..", scene.rig.folder);
    ck_assert_int_eq(chmod(outer, 0711), 0);
    reader = gate_rig_connect(&scene.rig);
    gate_rig_attach(reader, GATE_RIG_CHANNEL, HF_OLD);
    for (int i = 0; i < 100; i++)
        gate_rig_ask(reader, READ_FIND, &find, sizeof find, READ_SEGMENT_FOUND);
    int held = gate_rig_hold_up(scene.rig.channel), first = connect_as(65534);
    gate_rig_request(first, READ_LIST, 1, &all, sizeof all); /* the thread is busy */
    gate_rig_report(&scene.rig);
    fd_close(&first);
    gate_rig_request(reader, READ_LIST, 1, &all, sizeof all);
    gate_rig_report(&scene.rig);
    for (int i = 0; i < 40; i++) { /* behind him */
        flood[i] = connect_as(65534);
        gate_rig_request(flood[i], READ_LIST, 1, &all, sizeof all);
        gate_rig_report(&scene.rig);
    }
    int before = 0;
    struct pollfd mine = {.fd = reader, .events = POLLIN}, asked = {.fd = held, .events = POLLIN};
    for (; before < 42 && poll(&mine, 1, 50) == 0; before++) { /* one folder is opened */
        struct fanotify_event_metadata event;
        ck_assert_int_eq(poll(&asked, 1, GATE_RIG_DEADLINE_MS), 1);
        ck_assert_int_eq(read(held, &event, sizeof event), sizeof event);
        struct fanotify_response answer = {.fd = event.fd, .response = FAN_ALLOW};
        ck_assert_int_eq(write(held, &answer, sizeof answer), sizeof answer);
        close(event.fd);
    }
    fd_close(&held);
    /* The one under way and his own; some more while his answer is on its way. */
    ck_assert_msg(before <= 10, "%d opens came first", before);
    fd_close_all(flood, 40);
    fd_close(&reader);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {half_open_ones_end_or_wait,
                                  requests_are_answered_in_order,
                                  who_never_reads_is_not_waited_for,
                                  a_wake_up_that_does_not_fit_comes_once,
                                  hundreds_of_readers_come_and_go,
                                  one_user_has_no_more_than_his_share,
                                  channels_and_readers_share_the_descriptors,
                                  where_descriptors_are_short_it_waits_for_some,
                                  files_are_found_while_they_come_and_go,
                                  a_folder_that_does_not_answer_holds_up_no_other,
                                  who_leaves_a_list_leaves_nothing_behind,
                                  finds_do_not_put_off_a_list,
                                  NULL};
    const TTest *const again[] = {half_open_ones_end_or_wait, who_never_reads_is_not_waited_for,
                                  one_user_has_no_more_than_his_share, NULL};
    return gate_scene_run("gate_crowd", &scene, tests, again);
}
