/* SPDX-License-Identifier: MIT */
/* The power goes out. A small recorder writes a segment in the real order, syncs now and then, is
 * killed and succeeded now and then, and is cut off after any step. Of what it had written since
 * the last sync each page, or each sector, has reached the disk or not, in the newest or in an
 * earlier state; what lies beyond may be lost, cut off or garbage. The archive recovers each of
 * these images. Every record that was synced must come back, no wrong one ever, in a file that is
 * sealed, without fault, and readable by avro-c. */
#include <avro.h>
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_name.h"
#include "tests/lib/log_maker.h"
#include "worker/archive/folder.h"
#include "worker/archive/recovery.h"

#define IMAGES       10000
#define IMAGES_PER   25 /* from one run of the recorder */
#define AVRO_C_EVERY 20
#define SEED         20260101
#define SEGMENT      (96 * 1024)
#define PAGE         4096
#define SECTOR       512
/* Of the file between sync and cut: 0 is what was synced, the last one is the newest */
#define STATES  4
#define CHANNEL "engine"

struct cut {
    struct log_maker maker;
    uint8_t *states[STATES];
    size_t durable_offset; /* everything before it had been committed when the sync began */
    uint64_t durable_records;
};

static uint64_t random_state;

static uint64_t dice(uint64_t sides)
{
    return log_maker_random(&random_state) % sides;
}

/* ---- the recorder ---- */

/* Sealed but not committed: a successor goes on at the committed offset, over the seal. */
static void seal_and_die(struct log_maker *maker)
{
    struct log_maker committed = *maker;
    log_maker_seal(maker);
    maker->block_start = committed.block_start;
    maker->write_offset = committed.write_offset;
    maker->block_records = committed.block_records;
}

/* Returns how many records it wrote. */
static uint64_t record_some(struct log_maker *maker, uint64_t steps)
{
    uint64_t recorded = 0;
    for (; steps > 0 && log_maker_append(maker); steps--) {
        recorded++;
        if (maker->write_offset - maker->block_start > 8192 || dice(60) == 0)
            log_maker_seal(maker);
        else if (dice(80) == 0)
            seal_and_die(maker);
        else if (dice(200) == 0)
            log_maker_skip(maker, 1 + dice(20));
    }
    return recorded;
}

/* The last thing it did: half a record, or a seal that is not complete. */
static void stop_in_the_middle(struct log_maker *maker)
{
    struct log_maker before = *maker;
    size_t sync_at = maker->write_offset;
    if (dice(2) == 0 && log_maker_append(maker)) {
        size_t whole = maker->write_offset - before.write_offset, half = dice(whole);
        memset(maker->bytes + before.write_offset + half, 0, whole - half);
    } else if (maker->block_records > 0 && sync_at + AVRO_LOG_SYNC_SIZE <= maker->size) {
        memcpy(maker->bytes + sync_at, maker->identity.sync, AVRO_LOG_SYNC_SIZE);
        if (dice(2) == 0)
            avro_log_write_block_header(maker->bytes + maker->block_start, maker->block_records,
                                        sync_at - maker->block_start - AVRO_LOG_BLOCK_HEADER_SIZE);
    }
}

static void run_recorder(struct cut *cut)
{
    struct log_maker *maker = &cut->maker;
    log_maker_begin(maker, SEGMENT, CHANNEL, dice(1000), log_maker_random(&random_state));
    maker->payload_max = dice(4) ? 200 : 3000;
    uint64_t recorded = record_some(maker, dice(300));
    cut->durable_offset = maker->write_offset;
    cut->durable_records = recorded;
    for (int i = 0; i < STATES; i++) {
        cut->states[i] = malloc(SEGMENT);
        ck_assert_ptr_nonnull(cut->states[i]);
        if (i > 0)
            record_some(maker, dice(60));
        if (i == STATES - 1)
            stop_in_the_middle(maker);
        memcpy(cut->states[i], maker->bytes, SEGMENT);
    }
}

static void free_cut(struct cut *cut)
{
    log_maker_free(&cut->maker);
    for (int i = 0; i < STATES; i++)
        free(cut->states[i]);
}

/* ---- the disk ---- */

static void fill_with_garbage(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)log_maker_random(&random_state);
}

/* What is found when the power is back. Returns the file's size. */
static size_t make_image(const struct cut *cut, uint8_t image[SEGMENT])
{
    size_t unit = dice(3) ? PAGE : SECTOR;
    bool garbage = dice(4) == 0;
    for (size_t at = 0; at < SEGMENT; at += unit) {
        uint64_t fate = dice(STATES + 1);
        if (fate < STATES)
            memcpy(image + at, cut->states[fate] + at, unit);
        else if (at < cut->durable_offset) /* it was synced: some state of it is there */
            memcpy(image + at, cut->states[0] + at, unit);
        else if (garbage)
            fill_with_garbage(image + at, unit);
        else
            memset(image + at, 0, unit);
    }
    size_t behind = (cut->durable_offset + unit - 1) / unit * unit;
    if (behind >= SEGMENT)
        return SEGMENT;
    size_t from = behind + dice(SEGMENT - behind);
    switch (dice(6)) {
    case 0: /* a random tail */
        fill_with_garbage(image + from, SEGMENT - from);
        return SEGMENT;
    case 1: /* an old piece of the same file at a wrong place */
        memmove(image + from, image + dice(from), (SEGMENT - from) / 2);
        return SEGMENT;
    case 2: /* cut off */
        return from;
    default:
        return SEGMENT;
    }
}

/* ---- the judgement ---- */

static uint64_t count_with_avro_c(const char *path)
{
    avro_file_reader_t reader;
    avro_value_t value;
    uint64_t count = 0;
    ck_assert_msg(avro_file_reader(path, &reader) == 0, "avro-c: %s", avro_strerror());
    avro_schema_t schema = avro_file_reader_get_writer_schema(reader);
    avro_value_iface_t *class = avro_generic_class_from_schema(schema);
    avro_generic_value_new(class, &value);
    int result;
    while ((result = avro_file_reader_read_value(reader, &value)) == 0) {
        avro_value_reset(&value);
        count++;
    }
    ck_assert_msg(result == EOF, "avro-c: %s", avro_strerror());
    avro_value_decref(&value);
    avro_value_iface_decref(class);
    avro_schema_decref(schema);
    avro_file_reader_close(reader);
    return count;
}

struct scanned {
    const struct log_maker *maker;
    uint64_t records;
    uint64_t last_seq;
    bool seen[4096]; /* by the distance to the segment's first number */
};

static int mark_record(void *context, const struct avro_log_found *found)
{
    struct scanned *scanned = context;
    uint64_t seq = (uint64_t)found->record.seq, index = seq - scanned->maker->identity.first_seq;
    /* No ck_assert() here: each one, passed or not, is a write to Check's pipe, and there are
     * millions of records. */
    if (index >= sizeof scanned->seen || !log_maker_is_genuine(scanned->maker, &found->record))
        ck_abort_msg("a wrong record %llu came back", (unsigned long long)seq);
    scanned->seen[index] = true;
    scanned->last_seq = seq;
    scanned->records++;
    return 0;
}

/* The numbers that the recorder itself left out are missing in the synced state, too. */
static void mark_durable(const struct cut *cut, struct scanned *durable)
{
    const struct avro_log_scan_options options = {
        .open = true, .seq_end = UINT64_MAX, .size_end = cut->durable_offset};
    const struct avro_log_visitor visitor = {.context = durable, .record = mark_record};
    struct avro_log_summary summary;
    memset(durable, 0, sizeof *durable);
    durable->maker = &cut->maker;
    int fd = log_maker_memfd(cut->states[0], SEGMENT);
    ck_assert_int_eq(avro_log_scan(fd, &options, &visitor, &summary), 0);
    close(fd);
    ck_assert_uint_eq(summary.faults, 0);
    ck_assert_uint_eq(durable->records, cut->durable_records);
}

static void judge(const struct cut *cut, const struct scanned *durable, const char *path,
                  bool with_avro_c)
{
    static struct scanned result;
    const struct avro_log_scan_options sealed = {.open = false, .seq_end = UINT64_MAX};
    const struct avro_log_visitor visitor = {.context = &result, .record = mark_record};
    struct avro_log_summary summary;
    memset(&result, 0, sizeof result);
    result.maker = &cut->maker;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        ck_assert_msg(durable->records == 0, "%llu durable records, and no file",
                      (unsigned long long)durable->records);
        return;
    }
    ck_assert_int_eq(avro_log_scan(fd, &sealed, &visitor, &summary), 0);
    close(fd);
    ck_assert_msg(summary.faults == 0, "the result is damaged at %llu: %s",
                  (unsigned long long)summary.fault_offset, summary.fault_what);
    for (size_t i = 0; i < sizeof result.seen; i++)
        if (durable->seen[i] && !result.seen[i])
            ck_abort_msg("durable record %llu is lost",
                         (unsigned long long)(cut->maker.identity.first_seq + i));
    if (with_avro_c)
        ck_assert_uint_eq(count_with_avro_c(path), summary.records);
}

/* ---- all together ---- */

static void recover_image(const struct cut *cut, const struct scanned *durable, const char *log_dir,
                          bool with_avro_c)
{
    static uint8_t image[SEGMENT];
    const struct message_recover request = {.channel = CHANNEL};
    struct message_recovered recovered;
    char folder[128], path[512], open_name[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];

    snprintf(folder, sizeof folder, "%s/" CHANNEL, log_dir);
    ck_assert_int_eq(mkdir(folder, 0755), 0);
    avro_log_segment_name(CHANNEL, cut->maker.identity.first_seq, cut->maker.identity.created_ns,
                          open_name);
    folder_number_name(open_name, AVRO_LOG_SUFFIX, 1, name);
    log_maker_write(folder, open_name, image, make_image(cut, image));
    recovery_run(log_dir, &request, &recovered);
    ck_assert_msg(recovered.error == 0, "%s", recovered.reason);
    if (durable->records > 0)
        ck_assert_uint_gt(recovered.next_seq, durable->last_seq);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    judge(cut, durable, path, with_avro_c);
    log_maker_remove_folder(folder);
}

START_TEST(test_every_torn_image_recovers)
{
    static struct scanned durable;
    char log_dir[64];
    struct cut cut;
    random_state = log_maker_seed(SEED);
    log_maker_folder(log_dir);
    int quiet =
        open("/dev/null", O_WRONLY | O_CLOEXEC); /* the archive says a line or two for each image */
    int errors = dup(STDERR_FILENO);
    dup2(quiet, STDERR_FILENO);
    uint64_t durable_records = 0;
    for (int image = 0; image < IMAGES; image++) {
        if (image % IMAGES_PER == 0) {
            run_recorder(&cut);
            mark_durable(&cut, &durable);
            durable_records += durable.records;
        }
        recover_image(&cut, &durable, log_dir, image % AVRO_C_EVERY == 0);
        if (image % IMAGES_PER == IMAGES_PER - 1)
            free_cut(&cut);
    }
    dup2(errors, STDERR_FILENO);
    close(errors);
    close(quiet);
    ck_assert_uint_gt(durable_records, IMAGES / IMAGES_PER * 20); /* the recorder did record */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("power_cut");
    TCase *tcase = tcase_create("torn images");
    tcase_set_timeout(tcase, 280);
    tcase_add_test(tcase, test_every_torn_image_recovers);
    suite_add_tcase(suite, tcase);
    return log_maker_run(suite);
}
