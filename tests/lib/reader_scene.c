/* SPDX-License-Identifier: MIT */
/* The scene of all tests in which libholdfast follows a daemon. What fails ends the test. */
#include "tests/lib/reader_scene.h"

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "common/fd.h"
#include "common/monotonic.h"

struct reader_scene scene;

static void begin(const struct ring_fixture_settings *settings, bool records)
{
    scene = (struct reader_scene){.settings = *settings};
    fake_gate_start(&scene.gate);
    ring_fixture_open(&scene.ring, settings);
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.ring = &scene.ring;
    scene.gate.records = records;
    pthread_mutex_unlock(&scene.gate.lock);
    scene.recorder.fd = -1;
    if (records)
        live_log_open(&scene.recorder, &scene.gate, &scene.ring, 0);
    ck_assert_int_eq(hf_open(&scene.handle, scene.gate.socket), 0);
}

void reader_scene_begin(void)
{
    const struct ring_fixture_settings settings = {.ring_size = 1 << 16, .max_datagram = 1000};
    begin(&settings, true);
}

void reader_scene_begin_without_log(const struct ring_fixture_settings *settings)
{
    begin(settings, false);
}

void reader_scene_end(void)
{
    scene.handle = hf_close(scene.handle);
    fake_gate_stop(&scene.gate);
    live_log_close(&scene.recorder);
    ring_fixture_close(&scene.ring);
    if (scene.second_ring.ring.page)
        ring_fixture_close(&scene.second_ring);
}

void reader_scene_begin_segment(void)
{
    live_log_roll(&scene.recorder);
    live_log_name(&scene.recorder);
}

void reader_scene_read(unsigned flags, const struct hf_start *start)
{
    int result = hf_read(scene.handle, RING_FIXTURE_CHANNEL, start, flags, &scene.reader);
    ck_assert_msg(result == 0, "hf_read: %s", strerror(-result));
}

void reader_scene_close_reader(void)
{
    scene.reader = hf_reader_close(scene.reader);
}

/* As a program does it: what its descriptor doesn't tell of has not come. */
int reader_scene_next(void)
{
    monotonic deadline = monotonic_add(monotonic_now(), READER_SCENE_PATIENCE_NS);
    for (;;) {
        int result = hf_next(scene.reader, &scene.datagram);
        if (result != HF_NONE)
            return result;
        const uint64_t left = monotonic_since(deadline, monotonic_now());
        struct pollfd wait = {.fd = hf_reader_fd(scene.reader), .events = POLLIN};
        ck_assert_msg(poll(&wait, 1, (int)(left / NS_PER_MS)) > 0, "nothing wakes it");
    }
}

void reader_scene_expect_wake(void)
{
    struct pollfd wait = {.fd = hf_reader_fd(scene.reader), .events = POLLIN};
    ck_assert_msg(poll(&wait, 1, (int)(READER_SCENE_PATIENCE_NS / NS_PER_MS)) > 0,
                  "nothing wakes it");
}

unsigned reader_scene_count_requests(enum read_type type)
{
    const unsigned before = fake_gate_count(&scene.gate, type);
    const monotonic until = monotonic_add(monotonic_now(), 2 * NS_PER_S);
    struct pollfd wait = {.fd = hf_reader_fd(scene.reader), .events = POLLIN};
    while (monotonic_now().ns < until.ns)
        if (hf_next(scene.reader, &scene.datagram) == HF_NONE)
            poll(&wait, 1, 500);
    return fake_gate_count(&scene.gate, type) - before;
}

bool reader_scene_is_record(uint64_t seq)
{
    static uint8_t buffer[65536];
    const struct hf_datagram *datagram = &scene.datagram;
    struct avro_log_record wanted;
    log_maker_record(LIVE_LOG_SEED, 300, seq, buffer, &wanted);
    return datagram->seq == seq && datagram->length == wanted.payload_length &&
           memcmp(datagram->data, wanted.payload, wanted.payload_length) == 0 &&
           (uint64_t)datagram->time_ns == avro_log_record_time_ns(&wanted);
}

void reader_scene_expect_record(uint64_t seq)
{
    const struct hf_datagram *datagram = &scene.datagram;
    int event = reader_scene_next();
    ck_assert_msg(event == HF_DATAGRAM, "event %d at %llu instead of datagram %llu", event,
                  (unsigned long long)datagram->seq, (unsigned long long)seq);
    ck_assert_uint_eq(datagram->seq, seq);
    ck_assert_msg(reader_scene_is_record(seq), "datagram %llu is another one",
                  (unsigned long long)seq);
}

void reader_scene_expect_records(uint64_t first, uint64_t end)
{
    for (uint64_t seq = first; seq < end; seq++)
        reader_scene_expect_record(seq);
}

void reader_scene_expect_lost(uint64_t seq, uint64_t count, enum hf_why why)
{
    ck_assert_int_eq(reader_scene_next(), HF_LOST);
    ck_assert_uint_eq(scene.datagram.seq, seq);
    ck_assert_uint_eq(scene.datagram.lost, count);
    ck_assert_str_eq(hf_why_text(scene.datagram.why), hf_why_text(why));
}

/* A hole is believed after a quarter of a second: also that must not come. */
#define SILENCE_MS 300
#define MOMENT_MS  20

static void expect_silence(int for_ms)
{
    monotonic until = monotonic_add(monotonic_now(), READER_SCENE_PATIENCE_NS);
    struct pollfd wait = {.fd = hf_reader_fd(scene.reader), .events = POLLIN};
    do {
        ck_assert_int_eq(hf_next(scene.reader, &scene.datagram), HF_NONE);
        ck_assert_uint_lt(monotonic_now().ns, until.ns);
    } while (poll(&wait, 1, for_ms) > 0);
}

void reader_scene_expect_silence(void)
{
    expect_silence(SILENCE_MS);
}

void reader_scene_expect_nothing_yet(void)
{
    expect_silence(MOMENT_MS);
}

void reader_scene_leave_log(unsigned count)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, count);
    live_log_lose(&scene.recorder, 0);
    live_log_seal(&scene.recorder, 0, scene.recorder.commit.block_start);
}

void reader_scene_lose_what_was_done_with(const struct hf_start *mine)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    reader_scene_read(HF_JOINED, mine);
    reader_scene_expect_records(0, 10);
    ck_assert_int_eq(hf_save(scene.reader, 10), 0);
    reader_scene_close_reader();
    live_log_lose(&scene.recorder, 0);
    live_log_seal(&scene.recorder, 0, scene.recorder.commit.block_start);
    reader_scene_change_rings(6, 6);
    live_log_move(&scene.recorder, &scene.second_ring, 6);
    reader_scene_lend(NULL, 0);
}

void reader_scene_open_ring(struct ring_fixture *ret, uint64_t start_seq, uint64_t pair)
{
    struct ring_fixture_settings settings = scene.settings;
    settings.start_seq = start_seq;
    ring_fixture_open(ret, &settings);
    ret->ring.page->public.pair = pair;
}

void reader_scene_change_rings(uint64_t end, uint64_t start_seq)
{
    reader_scene_open_ring(&scene.second_ring, start_seq, 777);
    channel_page_retire(scene.ring.ring.page, RING_REPLACED, end);
}

void reader_scene_lend(struct ring_fixture *lent, uint64_t number)
{
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.ring = lent;
    scene.gate.ring_number = number;
    pthread_mutex_unlock(&scene.gate.lock);
}

void reader_scene_lose_the_end(void)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    live_log_lose(&scene.recorder, 5);
    reader_scene_read(HF_JOINED, NULL);
    reader_scene_expect_records(0, 10);
    reader_scene_expect_lost(10, 5, HF_UNRECORDED);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
}

void reader_scene_begin_anew(void)
{
    fake_gate_kill(&scene.gate);
    live_log_seal(&scene.recorder, 0, scene.recorder.commit.block_start);
    reader_scene_change_rings(10, 10);
    live_log_move(&scene.recorder, &scene.second_ring, 10);
    reader_scene_lend(&scene.second_ring, 2);
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 3);
}

void reader_scene_go_live(void)
{
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 10);
    reader_scene_read(HF_JOINED, NULL);
    reader_scene_expect_records(0, 10);
    ck_assert_int_eq(reader_scene_next(), HF_LIVE);
}

void reader_scene_say_totals(const struct avro_log_totals *totals)
{
    int fd = open(scene.recorder.path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(avro_log_write_totals(fd, totals), 1);
    fd_close(&fd);
}

void reader_scene_damage_the_end(void)
{
    const struct avro_log_totals totals = {.last_seq = 9, .records = 10};
    static const uint8_t damage[4] = {0xee, 0xee, 0xee, 0xee};
    reader_scene_begin_segment();
    live_log_append(&scene.recorder, 9);
    size_t at = scene.recorder.maker.write_offset;
    live_log_append(&scene.recorder, 1);
    live_log_lose(&scene.recorder, 0);
    live_log_seal(&scene.recorder, 0, scene.recorder.commit.block_start);
    reader_scene_say_totals(&totals);
    ck_assert_int_eq(fd_write_all(scene.recorder.fd, damage, sizeof damage, at + 12), 0);
    reader_scene_lend(NULL, 0);
}

void reader_scene_set_records(bool records)
{
    pthread_mutex_lock(&scene.gate.lock);
    scene.gate.records = records;
    pthread_mutex_unlock(&scene.gate.lock);
}

void reader_scene_publish(struct ring_fixture *ring, unsigned count)
{
    const uint8_t payload[100] = {0};
    while (count--)
        ring_fixture_write(&ring->writer, payload, sizeof payload);
}

void reader_scene_expect_from_ring(uint64_t first, uint64_t end)
{
    for (uint64_t seq = first; seq < end; seq++) {
        ck_assert_int_eq(reader_scene_next(), HF_DATAGRAM);
        ck_assert_uint_eq(scene.datagram.seq, seq);
    }
}
