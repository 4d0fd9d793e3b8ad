/* SPDX-License-Identifier: MIT */
/* Makes log files for the tests of format, scan, archive and power cut. It shares the encoder with
 * holdfast (which is held against avro-c elsewhere), but the order of writes and the judgement of
 * records are its own. */
#include "tests/lib/log_maker.h"

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/avro_log_header.h"
#include "tests/lib/unit.h"

#define PAYLOAD_MAX 65507

uint64_t log_maker_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

uint64_t log_maker_seed(uint64_t otherwise)
{
    const char *text = getenv("HOLDFAST_TEST_SEED");
    uint64_t seed = text ? strtoull(text, NULL, 0) : otherwise;
    printf("seed %llu (set HOLDFAST_TEST_SEED to repeat another)\n", (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

void log_maker_record(uint64_t seed, size_t payload_max, uint64_t seq, uint8_t *buffer,
                      struct avro_log_record *ret)
{
    static const char *const sources[] = {"10.0.0.7:50123", "[fe80::1%eth0]:50123", "127.0.0.1:1",
                                          "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535"};
    uint64_t state = seed ^ (seq + 1) * 0xd1342543de82ef95ull;
    uint64_t dice = log_maker_random(&state);
    size_t length = log_maker_random(&state) % (payload_max + 1);
    for (size_t i = 0; i < length; i += sizeof(uint64_t)) {
        uint64_t piece = log_maker_random(&state);
        memcpy(buffer + i, &piece, length - i < sizeof piece ? length - i : sizeof piece);
    }
    *ret = (struct avro_log_record){.seq = (int64_t)seq,
                                    .received_at_us = 1760000000000000 + (int64_t)(seq * 37),
                                    .received_ns = (int32_t)(dice % 1000),
                                    .source = sources[dice >> 10 & 3],
                                    .lost_before =
                                        (dice >> 12 & 15) ? 0 : (int32_t)(dice >> 16 & 0xffff),
                                    .cut = (dice >> 32 & 15) ? 0 : (int32_t)(dice >> 36 & 0xff),
                                    .flags = (dice >> 44 & 31) == 0,
                                    .payload = buffer,
                                    .payload_length = length};
    ret->source_length = strlen(ret->source);
}

bool log_maker_is_genuine(const struct log_maker *maker, const struct avro_log_record *record)
{
    static uint8_t buffer[PAYLOAD_MAX + 8];
    struct avro_log_record wanted;
    log_maker_record(maker->seed, maker->payload_max, (uint64_t)record->seq, buffer, &wanted);
    return record->received_at_us == wanted.received_at_us &&
           record->received_ns == wanted.received_ns &&
           record->source_length == wanted.source_length &&
           memcmp(record->source, wanted.source, wanted.source_length) == 0 &&
           record->lost_before == wanted.lost_before && record->cut == wanted.cut &&
           record->flags == wanted.flags && record->payload_length == wanted.payload_length &&
           memcmp(record->payload, wanted.payload, wanted.payload_length) == 0;
}

static void open_block(struct log_maker *maker, size_t at)
{
    maker->block_start = maker->write_offset = at;
    maker->block_records = 0;
    if (at + AVRO_LOG_BLOCK_HEADER_SIZE > maker->size)
        return;
    avro_log_write_block_header(maker->bytes + at, 0, 0);
    maker->write_offset = at + AVRO_LOG_BLOCK_HEADER_SIZE;
}

void log_maker_begin(struct log_maker *maker, size_t size, const char *channel, uint64_t first_seq,
                     uint64_t seed)
{
    uint64_t state = seed;
    *maker =
        (struct log_maker){.size = size, .next_seq = first_seq, .seed = seed, .payload_max = 300};
    maker->bytes = calloc(1, size);
    ck_assert_ptr_nonnull(maker->bytes);
    snprintf(maker->identity.channel, sizeof maker->identity.channel, "%s", channel);
    maker->identity.first_seq = first_seq;
    maker->identity.created_ns = 1760000000000000000ull;
    for (int i = 0; i < AVRO_LOG_SYNC_SIZE; i++)
        maker->identity.sync[i] = (uint8_t)log_maker_random(&state);
    ck_assert_uint_ge(size, AVRO_LOG_HEADER_MAX);
    maker->header_size = avro_log_write_header(maker->bytes, &maker->identity);
    open_block(maker, maker->header_size);
}

static uint8_t *put_text(uint8_t *to, const char *text)
{
    size_t length = strlen(text);
    to += avro_log_write_long(to, (int64_t)length);
    memcpy(to, text, length);
    return to + length;
}

void log_maker_age(struct log_maker *maker)
{
    char first_seq[24], created[24];
    const struct avro_log_identity *identity = &maker->identity;
    snprintf(first_seq, sizeof first_seq, "%020llu", (unsigned long long)identity->first_seq);
    snprintf(created, sizeof created, "%020llu", (unsigned long long)identity->created_ns);
    const char *const entries[] = {
        "avro.schema",      avro_log_schema,   "avro.codec",         "null",
        "holdfast.channel", identity->channel, "holdfast.first_seq", first_seq,
        "holdfast.created", created,           "holdfast.version",   "1"};
    memset(maker->bytes, 0, maker->size);
    memcpy(maker->bytes, "Obj\1\x0c", 5);
    uint8_t *at = maker->bytes + 5;
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
        at = put_text(at, entries[i]);
    *at++ = 0;
    memcpy(at, identity->sync, AVRO_LOG_SYNC_SIZE);
    maker->header_size = (size_t)(at - maker->bytes) + AVRO_LOG_SYNC_SIZE;
    open_block(maker, maker->header_size);
}

void log_maker_free(struct log_maker *maker)
{
    free(maker->bytes);
    maker->bytes = NULL;
}

bool log_maker_append(struct log_maker *maker)
{
    static uint8_t buffer[PAYLOAD_MAX + 8];
    struct avro_log_record record;
    log_maker_record(maker->seed, maker->payload_max, maker->next_seq, buffer, &record);
    record.flags ^= maker->other_flags;
    if (maker->write_offset == maker->block_start ||
        maker->write_offset + avro_log_record_size(&record) + AVRO_LOG_SYNC_SIZE > maker->size)
        return false;
    uint8_t *start = maker->bytes + maker->write_offset;
    uint8_t *payload = avro_log_write_record_head(start, &record);
    memcpy(payload, record.payload, record.payload_length);
    uint8_t *end = avro_log_write_record_crc(start, payload + record.payload_length);
    maker->write_offset += (size_t)(end - start);
    maker->block_records++;
    maker->next_seq++;
    return true;
}

void log_maker_seal(struct log_maker *maker)
{
    if (maker->block_records == 0)
        return;
    size_t size = maker->write_offset - maker->block_start - AVRO_LOG_BLOCK_HEADER_SIZE;
    memcpy(maker->bytes + maker->write_offset, maker->identity.sync, AVRO_LOG_SYNC_SIZE);
    avro_log_write_block_header(maker->bytes + maker->block_start, maker->block_records, size);
    open_block(maker, maker->write_offset + AVRO_LOG_SYNC_SIZE);
}

void log_maker_skip(struct log_maker *maker, uint64_t count)
{
    log_maker_seal(maker);
    maker->next_seq += count;
}

static char run_folder[48]; /* around all folders of this program */

void log_maker_folder(char ret_path[64])
{
    ck_assert_msg(run_folder[0] != '\0', "this program is to be run by log_maker_run()");
    snprintf(ret_path, 64, "%s/XXXXXX", run_folder);
    ck_assert_ptr_nonnull(mkdtemp(ret_path));
}

int log_maker_run(struct Suite *suite)
{
    snprintf(run_folder, sizeof run_folder, "%s/holdfast-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(run_folder)) {
        perror(run_folder);
        return 1;
    }
    int status = unit_run(suite);
    log_maker_remove_folder(run_folder);
    return status;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void)status;
    (void)type;
    (void)ftw;
    return remove(path);
}

void log_maker_remove_folder(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void log_maker_write(const char *folder, const char *name, const void *bytes, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0640);
    ck_assert_msg(fd >= 0, "can't write %s", path);
    ck_assert_int_eq(write(fd, bytes, size), (ssize_t)size);
    close(fd);
}

int log_maker_memfd(const void *bytes, size_t size)
{
    int fd = memfd_create("log", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, size), (ssize_t)size);
    return fd;
}
