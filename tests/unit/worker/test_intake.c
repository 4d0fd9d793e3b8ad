/* SPDX-License-Identifier: MIT */
/* A worker that takes datagrams out of outboxes: each publisher's order is kept and nobody starves;
 * what a publisher may write harms it alone; and a worker that is killed at any instruction loses
 * nothing and takes nothing twice. */
#include "worker/channel/intake.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/channel_page_check.h"
#include "common/channel_page_outboxes.h"
#include "common/fd.h"
#include "common/monotonic.h"
#include "tests/lib/publisher_fixture.h"
#include "tests/lib/ring_fixture.h"
#include "tests/lib/unit.h"
#include "worker/channel/channel_state.h"

/* Of the instructions at which something changes, so many are passed over: the sanitizers make
 * thirty of each. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define EVERY 9
#else
#define EVERY 1
#endif
#define BOXES        2
#define MAX_DATAGRAM 200u
#define FIRST_ID     77u

static const struct ring_fixture_settings settings = {
    .ring_size = 1 << 16, .max_datagram = MAX_DATAGRAM, .start_seq = 1000};

/* What a datagram's bytes begin with. */
struct id {
    uint32_t box, number;
};

struct scene {
    struct ring_fixture fixture;
    struct publisher_fixture boxes[BOXES];
    uint32_t sent[BOXES];
};

/* A worker of the scene: as takeover.c and control.c do it. */
struct worker {
    struct ring_fixture attached;
    struct channel_spec *spec;
    struct inheritance inheritance;
    struct channel_state channel;
};

static void begin(struct scene *scene)
{
    memset(scene, 0, sizeof *scene);
    ring_fixture_open(&scene->fixture, &settings);
    for (uint32_t i = 0; i < BOXES; i++)
        publisher_fixture_open(&scene->boxes[i], FIRST_ID + i, MAX_DATAGRAM,
                               i ? "second" : "first");
}

static void end(struct scene *scene)
{
    for (uint32_t i = 0; i < BOXES; i++)
        publisher_fixture_close(&scene->boxes[i]);
    ring_fixture_close(&scene->fixture);
}

static void publish(struct scene *scene, uint32_t box, uint32_t count)
{
    uint8_t payload[MAX_DATAGRAM];
    while (count-- > 0) {
        struct id id = {box, scene->sent[box]++};
        uint32_t length = (uint32_t)sizeof id + id.number * 37 % (MAX_DATAGRAM - 16);
        ring_fixture_fill(payload, id.number, length);
        memcpy(payload, &id, sizeof id);
        publisher_fixture_commit(&scene->boxes[box], payload, length);
    }
}

static void offer(struct worker *worker, struct scene *scene, uint32_t box)
{
    int fds[OUTBOX_FDS];
    for (uint32_t i = 0; i < OUTBOX_FDS; i++)
        fds[i] = dup(scene->boxes[box].fds[i]);
    const struct message_outbox outbox = {.id = FIRST_ID + box, .place = box};
    intake_offer(worker->channel.intake, &outbox, fds);
}

/* NULL, or what is wrong. Also in a forked child, where Check's assertions have no place. */
static const char *attach(struct worker *worker, struct scene *scene)
{
    const char *what = "it can't be mapped";
    struct ring_fixture *attached = &worker->attached;
    attached->memory = scene->fixture.memory;
    attached->geometry = scene->fixture.geometry;
    if (ring_attach(&attached->ring, &attached->memory, &attached->geometry, RING_MAPPING_AUTO) <
            0 ||
        channel_page_publish_taken(attached->ring.page, &attached->geometry, &what) < 0 ||
        channel_page_check(attached->ring.page, attached->ring.descriptors, &attached->geometry,
                           RING_FIXTURE_CHANNEL, &what) < 0 ||
        ring_settle(&attached->ring, attached->memory.ring) < 0)
        return what;
    ring_writer_open(&attached->writer, &attached->ring);
    worker->spec = calloc(1, channel_spec_size(0));
    worker->spec->max_datagram = MAX_DATAGRAM;
    worker->inheritance = (struct inheritance){.spec = worker->spec};
    what = "no intake";
    if (channel_state_open(&worker->channel, &worker->inheritance) < 0)
        return what;
    worker->channel.ring = attached->ring;
    worker->channel.writer = attached->writer;
    worker->channel.writer.ring = &worker->channel.ring;
    if (intake_open(&worker->channel) < 0)
        return what;
    for (uint32_t i = 0; i < BOXES; i++)
        offer(worker, scene, i);
    return NULL;
}

static void attach_here(struct worker *worker, struct scene *scene)
{
    memset(worker, 0, sizeof *worker);
    const char *what = attach(worker, scene);
    ck_assert_msg(!what, "%s", what);
}

/* A worker never gives back what it has begun with: neither does one of these. */
static void leave(struct worker *worker)
{
    static struct intake *kept[4096];
    static size_t count;
    ck_assert_uint_lt(count, sizeof kept / sizeof *kept);
    kept[count++] = worker->channel.intake;
    ring_detach(&worker->attached.ring);
    free(worker->spec);
}

static uint32_t take(struct worker *worker)
{
    return intake_take(worker->channel.intake, worker->channel.ring.geometry.slot_count);
}

static void take_all(struct worker *worker)
{
    while (take(worker) > 0)
        ;
}

/* Everything from seq on is in the ring, each once, in each publisher's order. */
static void check_ring(struct scene *scene, uint64_t seq)
{
    const struct ring *ring = &scene->fixture.ring;
    uint32_t next[BOXES] = {0};
    for (; seq < ring_published(ring); seq++) {
        struct ring_datagram datagram;
        union socket_address source;
        char text[SOCKET_ADDRESS_TEXT_SIZE];
        struct id id;
        ck_assert(ring_peek(ring, seq, &datagram));
        ck_assert_uint_ge(datagram.length, sizeof id);
        memcpy(&id, datagram.data, sizeof id);
        ck_assert_uint_lt(id.box, BOXES);
        ck_assert_uint_eq(id.number, next[id.box]);
        next[id.box]++;
        uint8_t expected[MAX_DATAGRAM];
        ring_fixture_fill(expected, id.number, datagram.length);
        ck_assert_mem_eq(datagram.data + sizeof id, expected + sizeof id,
                         datagram.length - sizeof id);
        ring_source(&datagram, &source);
        socket_address_print(&source, text, sizeof text);
        ck_assert_str_eq(text, id.box ? "local:1000/4711/second" : "local:1000/4711/first");
    }
    for (uint32_t i = 0; i < BOXES; i++) {
        const struct outbox_answer *said = scene->boxes[i].said;
        ck_assert_uint_eq(next[i], scene->sent[i]);
        ck_assert_uint_eq(atomic_load(&said->taken), scene->boxes[i].producer.committed);
        ck_assert_uint_eq(atomic_load(&said->taken_count), scene->sent[i]);
    }
}

START_TEST(everybodys_order_is_kept_and_nobody_starves)
{
    static struct worker worker;
    struct scene scene;
    begin(&scene);
    attach_here(&worker, &scene);
    publish(&scene, 0, 100);
    publish(&scene, 1, 10);
    uint32_t first = take(&worker);
    ck_assert_uint_eq(first, worker.channel.ring.geometry.slot_count);
    ck_assert_uint_eq(atomic_load(&scene.boxes[1].said->taken_count),
                      first / 2 < 10 ? first / 2 : 10);
    take_all(&worker);
    check_ring(&scene, settings.start_seq);
    leave(&worker);
    end(&scene);
}
END_TEST

START_TEST(a_successor_goes_on_where_the_worker_before_was)
{
    static struct worker workers[3];
    struct scene scene;
    begin(&scene);
    for (int i = 0; i < 3; i++) {
        attach_here(&workers[i], &scene);
        publish(&scene, 0, 20);
        publish(&scene, 1, 3);
        if (i == 1)
            take(&workers[i]); /* and the rest is the next one's */
        else
            take_all(&workers[i]);
    }
    check_ring(&scene, settings.start_seq);
    end(&scene);
}
END_TEST

/* ---- killed ---- */

static pid_t start_stepped(struct scene *scene)
{
    int status;
    pid_t pid = unit_fork();
    if (pid == 0) {
        static struct worker worker;
        if (attach(&worker, scene))
            _exit(3);
        intake_take(worker.channel.intake, 0); /* it knows the boxes from here on */
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        take(&worker);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFSTOPPED(status), "status 0x%x", status);
    return pid;
}

/* true: it still lives. */
static bool step(pid_t pid)
{
    int status;
    ck_assert_int_eq(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status))
        ck_assert_int_eq(WEXITSTATUS(status), 0);
    return WIFSTOPPED(status);
}

/* A run may be shorter than the one before: what it does now and then goes by the clock. */
static void kill_behind(pid_t pid, uint32_t steps)
{
    while (steps-- > 0)
        if (!step(pid))
            return;
    kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

static void fill(struct scene *scene)
{
    publish(scene, 0, 3);
    publish(scene, 1, 2);
}

static uint64_t digest_of(const void *bytes, size_t size, uint64_t digest)
{
    const uint64_t *words = bytes;
    for (size_t i = 0; i < size / sizeof *words; i++)
        digest = (digest ^ words[i]) * 0x100000001b3ull;
    return digest;
}

/* Of all that a successor goes by. */
static uint64_t look(const struct scene *scene)
{
    const struct channel_page *page = scene->fixture.ring.page;
    uint64_t digest = digest_of(&page->outbox_version, sizeof page->outbox_version, 0);
    digest = digest_of(page->outboxes, sizeof page->outboxes, digest);
    digest = digest_of(&page->public, sizeof page->public, digest);
    digest = digest_of(&page->private.batch, 64, digest);
    for (uint64_t seq = settings.start_seq; seq < settings.start_seq + 5; seq++)
        digest = digest_of(channel_page_descriptor(page, &scene->fixture.ring.geometry, seq),
                           sizeof(struct ring_descriptor), digest);
    for (uint32_t i = 0; i < BOXES; i++)
        digest = digest_of(scene->boxes[i].said, sizeof *scene->boxes[i].said, digest);
    return digest;
}

/* The steps at which something changes. */
static size_t find_changes(uint32_t *ret_steps, size_t most)
{
    struct scene scene;
    size_t count = 0;
    begin(&scene);
    fill(&scene);
    pid_t pid = start_stepped(&scene);
    uint64_t before = look(&scene);
    for (uint32_t at = 1; step(pid); at++) {
        uint64_t now = look(&scene);
        if (now != before && count < most)
            ret_steps[count++] = at;
        before = now;
    }
    check_ring(&scene, settings.start_seq);
    end(&scene);
    return count;
}

START_TEST(a_death_at_any_instruction_loses_nothing_and_takes_nothing_twice)
{
    static struct worker successor;
    static uint32_t steps[4096];
    size_t count = find_changes(steps, 4096);
    ck_assert_uint_gt(count, 40);
    for (size_t i = 0; i < count; i += EVERY) {
        struct scene scene;
        begin(&scene);
        fill(&scene);
        pid_t pid = start_stepped(&scene);
        kill_behind(pid, steps[i]);
        publish(&scene, 1, 1);
        attach_here(&successor, &scene);
        take_all(&successor);
        check_ring(&scene, settings.start_seq);
        leave(&successor);
        end(&scene);
    }
}
END_TEST

/* The ring is given up behind a death: the answers are set by what was published. */
START_TEST(what_was_taken_and_not_published_is_known_when_the_ring_is_given_up)
{
    static uint32_t steps[4096];
    size_t count = find_changes(steps, 4096);
    for (size_t i = 0; i < count; i += EVERY) {
        struct scene scene;
        struct outbox_progress progress;
        begin(&scene);
        fill(&scene);
        pid_t pid = start_stepped(&scene);
        kill_behind(pid, steps[i]);
        ck_assert(channel_page_read_outboxes_published(scene.fixture.ring.page, &progress));
        uint64_t published = ring_published(&scene.fixture.ring) - settings.start_seq;
        ck_assert_uint_eq(progress.entries[0].count + progress.entries[1].count, published);
        ck_assert(published == 0 || published == 5);
        end(&scene);
    }
}
END_TEST

/* ---- publishers that do what they want ---- */

static bool is_done(struct worker *worker, uint32_t box, bool cut_off)
{
    struct message_outbox_done done;
    if (!intake_see_done(worker->channel.intake, &done))
        return false;
    ck_assert_uint_eq(done.place, box);
    ck_assert_uint_eq(done.cut_off, cut_off);
    ck_assert_int_eq(done.reason[0] != '\0', cut_off);
    intake_forget_done(worker->channel.intake);
    return true;
}

START_TEST(a_publisher_that_is_gone_is_taken_to_its_end)
{
    static struct worker worker;
    struct scene scene;
    begin(&scene);
    attach_here(&worker, &scene);
    publish(&scene, 0, 100);
    publisher_fixture_hang_up(&scene.boxes[0]);
    take_all(&worker);
    while (!is_done(&worker, 0, false)) {
        intake_wait(worker.channel.intake); /* for the hang-up, if it is not known yet */
        take_all(&worker);
    }
    publish(&scene, 1, 1);
    take_all(&worker);
    check_ring(&scene, settings.start_seq);
    leave(&worker);
    end(&scene);
}
END_TEST

static void break_committed_too_far(struct publisher_fixture *box)
{
    atomic_fetch_add(&box->map.head->committed, 2 * box->map.capacity);
}

static void break_committed_backwards(struct publisher_fixture *box)
{
    atomic_store(&box->map.head->committed, 0);
}

static void break_committed_oddly(struct publisher_fixture *box)
{
    atomic_fetch_add(&box->map.head->committed, 3);
}

static void break_length(struct publisher_fixture *box)
{
    memset(box->map.records, 0xff, box->map.capacity);
    atomic_fetch_add(&box->map.head->committed, 64);
}

static void break_length_beyond(struct publisher_fixture *box)
{
    for (uint64_t at = 0; at < box->map.capacity; at += 8)
        box->map.records[at] = 100; /* within a datagram's, beyond what is committed */
    atomic_fetch_add(&box->map.head->committed, 16);
}

/* What comes along is not what it is said to be. */
START_TEST(an_outbox_that_cannot_be_had_is_done_with)
{
    static struct worker worker;
    struct scene scene;
    begin(&scene);
    attach_here(&worker, &scene);
    int fds[OUTBOX_FDS];
    for (uint32_t i = 0; i < OUTBOX_FDS; i++)
        fds[i] = dup(scene.boxes[0].fds[3]);
    const struct message_outbox outbox = {.id = 5, .place = 7};
    intake_offer(worker.channel.intake, &outbox, fds);
    ck_assert(is_done(&worker, 7, false));
    publish(&scene, 0, 2);
    take_all(&worker);
    check_ring(&scene, settings.start_seq);
    leave(&worker);
    end(&scene);
}
END_TEST

typedef void (*breaking)(struct publisher_fixture *box);
static const breaking breakings[] = {break_committed_too_far, break_committed_backwards,
                                     break_committed_oddly, break_length, break_length_beyond};
#define BREAKINGS ((int)(sizeof breakings / sizeof *breakings))

START_TEST(nonsense_costs_only_its_publisher)
{
    static struct worker worker;
    struct scene scene;
    begin(&scene);
    attach_here(&worker, &scene);
    publish(&scene, 0, 4);
    publish(&scene, 1, 4);
    take_all(&worker);
    breakings[_i](&scene.boxes[0]);
    publish(&scene, 1, 6);
    take_all(&worker);
    ck_assert(is_done(&worker, 0, true));
    ck_assert_uint_eq(atomic_load(&scene.boxes[0].said->state), OUTBOX_CUT_OFF);
    ck_assert(publisher_fixture_was_rung(&scene.boxes[0]));
    ck_assert_uint_eq(atomic_load(&scene.boxes[1].said->taken_count), 10);
    ck_assert_uint_eq(ring_published(&scene.fixture.ring), settings.start_seq + 14);
    leave(&worker);
    end(&scene);
}
END_TEST

static int64_t time_of(struct scene *scene, uint64_t seq)
{
    struct ring_datagram datagram;
    ck_assert(ring_peek(&scene->fixture.ring, seq, &datagram));
    return (int64_t)datagram.time_ns;
}

START_TEST(a_time_is_taken_only_where_it_can_be_true)
{
    static struct worker worker;
    struct scene scene;
    static const int64_t said[] = {0, INT64_MAX, INT64_MIN, 1};
    void *room;
    bool call;
    begin(&scene);
    int64_t began = (int64_t)realtime_now_ns();
    atomic_store(&scene.boxes[0].said->looked_ns, began);
    attach_here(&worker, &scene);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(outbox_reserve(&scene.boxes[0].producer, 1, &room), 0);
        ck_assert_int_eq(outbox_commit(&scene.boxes[0].producer, 1, said[i], &call), 0);
    }
    take_all(&worker);
    int64_t now = (int64_t)realtime_now_ns();
    for (uint64_t i = 0; i < 4; i++) {
        ck_assert_int_ge(time_of(&scene, settings.start_seq + i), began);
        ck_assert_int_le(time_of(&scene, settings.start_seq + i), now);
    }
    leave(&worker);
    end(&scene);
}
END_TEST

/* ---- waiting for the other side ---- */

START_TEST(who_has_no_room_is_told_when_there_is_some)
{
    static struct worker worker;
    struct scene scene;
    void *room;
    begin(&scene);
    attach_here(&worker, &scene);
    take(&worker);
    publisher_fixture_was_rung(&scene.boxes[0]); /* it comes with every new worker */
    while (outbox_reserve(&scene.boxes[0].producer, MAX_DATAGRAM - 17, &room) == 0) {
        bool call;
        ck_assert_int_eq(outbox_commit(&scene.boxes[0].producer, MAX_DATAGRAM - 17, 0, &call), 0);
    }
    ck_assert(!publisher_fixture_was_rung(&scene.boxes[0]));
    take_all(&worker);
    ck_assert(publisher_fixture_was_rung(&scene.boxes[0]));
    ck_assert_int_eq(outbox_reserve(&scene.boxes[0].producer, MAX_DATAGRAM, &room), 0);
    leave(&worker);
    end(&scene);
}
END_TEST

START_TEST(what_is_on_the_disk_is_told)
{
    static struct worker worker;
    static struct syncer *const some = (struct syncer *)8; /* it records; never looked into */
    struct scene scene;
    begin(&scene);
    attach_here(&worker, &scene);
    worker.channel.syncer = some;
    publish(&scene, 0, 5);
    take_all(&worker);
    publish(&scene, 0, 5);
    publish(&scene, 1, 1);
    take_all(&worker);
    const struct outbox_answer *said = scene.boxes[0].said;
    atomic_store(&scene.boxes[0].map.head->wants_durable, 5);
    publisher_fixture_was_rung(&scene.boxes[0]);
    intake_durable(worker.channel.intake, settings.start_seq + 4);
    take(&worker);
    ck_assert_uint_eq(atomic_load(&said->durable), 0);
    ck_assert(!publisher_fixture_was_rung(&scene.boxes[0]));
    intake_durable(worker.channel.intake, settings.start_seq + 5);
    take(&worker);
    ck_assert_uint_eq(atomic_load(&said->durable), 5);
    ck_assert(publisher_fixture_was_rung(&scene.boxes[0]));
    intake_durable(worker.channel.intake, settings.start_seq + 11);
    take(&worker);
    ck_assert_uint_eq(atomic_load(&said->durable), 10);
    ck_assert_uint_eq(atomic_load(&scene.boxes[1].said->durable), 1);
    leave(&worker);
    end(&scene);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("intake");
    TCase *cases = tcase_create("intake");
    tcase_set_timeout(cases, 120);
    tcase_add_test(cases, everybodys_order_is_kept_and_nobody_starves);
    tcase_add_test(cases, a_successor_goes_on_where_the_worker_before_was);
    tcase_add_test(cases, a_death_at_any_instruction_loses_nothing_and_takes_nothing_twice);
    tcase_add_test(cases, what_was_taken_and_not_published_is_known_when_the_ring_is_given_up);
    tcase_add_test(cases, a_publisher_that_is_gone_is_taken_to_its_end);
    tcase_add_test(cases, an_outbox_that_cannot_be_had_is_done_with);
    tcase_add_loop_test(cases, nonsense_costs_only_its_publisher, 0, BREAKINGS);
    tcase_add_test(cases, a_time_is_taken_only_where_it_can_be_true);
    tcase_add_test(cases, who_has_no_room_is_told_when_there_is_some);
    tcase_add_test(cases, what_is_on_the_disk_is_told);
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
