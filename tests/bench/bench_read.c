/* SPDX-License-Identifier: MIT */
/* Reads sealed segments from beginning to end by one means, or looks for times in a folder of many,
 * and prints what that took as one line of JSON. Makes the segments, too. */
#include <avro.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/avro_log_name.h"
#include "common/client/holdfast.h"
#include "common/fd.h"
#include "tests/bench/support.h"

#define BEGIN_US  1760000000000000
#define STEP_US   10 /* between two records */
#define CHANNEL   "bench"
#define PATH_SIZE 512

/* ---- making ---- */

struct making {
    const char *folder;
    uint64_t size; /* of a segment, at most; the last block may end behind it */
    uint64_t records;
    uint32_t payload;
    uint64_t seq; /* of the next record */
};

static struct avro_log_record record_of(const struct making *making, const uint8_t *payload)
{
    return (struct avro_log_record){.seq = (int64_t)making->seq,
                                    .received_at_us = BEGIN_US + (int64_t)making->seq * STEP_US,
                                    .received_ns = (int32_t)(making->seq % 1000),
                                    .source = "10.0.0.7:50123",
                                    .source_length = strlen("10.0.0.7:50123"),
                                    .payload = payload,
                                    .payload_length = making->payload};
}

/* Returns where it ends. */
static size_t make_block(struct making *making, uint8_t *bytes, const uint8_t *sync, uint64_t end)
{
    uint8_t payload[4096], *at = bytes + AVRO_LOG_BLOCK_HEADER_SIZE, *start = at;
    uint64_t count = 0;
    while (at - start < AVRO_LOG_BLOCK_SIZE && making->seq < end) {
        memset(payload, (int)making->seq, making->payload);
        const struct avro_log_record record = record_of(making, payload);
        uint8_t *to = avro_log_write_record_head(at, &record);
        memcpy(to, payload, making->payload);
        at = avro_log_write_record_crc(at, to + making->payload);
        making->seq++;
        count++;
    }
    avro_log_write_block_header(bytes, count, (uint64_t)(at - start));
    memcpy(at, sync, AVRO_LOG_SYNC_SIZE);
    return (size_t)(at - bytes) + AVRO_LOG_SYNC_SIZE;
}

static void make_segment(struct making *making)
{
    static uint8_t bytes[AVRO_LOG_BLOCK_MAX];
    char name[SEGMENT_NAME_SIZE], path[PATH_SIZE];
    const uint64_t first = making->seq,
                   end = making->records ? first + making->records : UINT64_MAX;
    struct avro_log_identity identity = {.channel = CHANNEL,
                                         .first_seq = first,
                                         .created_ns = BEGIN_US * 1000 + first * STEP_US * 1000};
    memcpy(identity.sync, "bench's own mark", AVRO_LOG_SYNC_SIZE);
    avro_log_segment_name(CHANNEL, first, identity.created_ns, name);
    name[strlen(name) - strlen(".open")] = '\0';
    snprintf(path, sizeof path, "%s/%s", making->folder, name);
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0640);
    if (fd < 0)
        support_fail(path);
    uint64_t offset = avro_log_write_header(bytes, &identity);
    support_check(fd_write_all(fd, bytes, offset, 0), path);
    while (offset < making->size && making->seq < end) {
        size_t length = make_block(making, bytes, identity.sync, end);
        support_check(fd_write_all(fd, bytes, length, offset), path);
        offset += length;
    }
    const uint64_t last_ns = (BEGIN_US + (making->seq - 1) * STEP_US) * 1000 + 999;
    const struct avro_log_totals totals = {.last_seq = making->seq - 1,
                                           .records = making->seq - first,
                                           .first_time_ns = identity.created_ns,
                                           .last_time_ns = last_ns,
                                           .latest_ns = last_ns};
    if (avro_log_write_totals(fd, &totals) != 1)
        support_refuse("the totals could not be written");
    fd_close(&fd);
}

static void make(int argc, char **argv)
{
    struct making making = {
        .folder = support_option(argc, argv, "--folder", "."),
        .size = support_size(support_option(argc, argv, "--size", "64M")),
        .records = support_number(support_option(argc, argv, "--records", "0"), 1000000000),
        .payload = (uint32_t)support_number(support_option(argc, argv, "--payload", "48"), 4096)};
    uint64_t count = support_number(support_option(argc, argv, "--count", "1"), 1000000);
    for (; count > 0; count--)
        make_segment(&making);
    printf("{\"records\": %" PRIu64 "}\n", making.seq);
}

/* ---- reading ---- */

struct reading {
    uint64_t records, bytes; /* of payload */
    uint64_t sum;            /* so that nobody leaves the reading out */
};

static hf *open_folder(const char *folder)
{
    const char *const paths[] = {folder};
    hf *handle;
    if (hf_open_files(&handle, paths, 1) < 0)
        support_refuse(hf_file_problem());
    return handle;
}

static void read_by_library(const char *folder, struct reading *ret)
{
    hf *handle = open_folder(folder);
    hf_reader *reader;
    struct hf_datagram datagram;
    int result;
    support_check(hf_read(handle, NULL, NULL, HF_OLD, &reader), "hf_read");
    while ((result = hf_next(reader, &datagram)) == HF_DATAGRAM) {
        ret->records++;
        ret->bytes += datagram.length;
        ret->sum += *(const uint8_t *)datagram.data + datagram.seq + (uint64_t)datagram.time_ns;
    }
    if (result != HF_FINISHED)
        support_refuse("something is missing");
    hf_close(handle);
}

static void check(int result)
{
    if (result != 0)
        support_refuse(avro_strerror());
}

/* The fields that a program needs of a datagram. */
static void read_file_by_avro(const char *path, struct reading *ret)
{
    avro_file_reader_t reader;
    avro_value_t value, seq, received_at, payload;
    check(avro_file_reader(path, &reader));
    avro_schema_t schema = avro_file_reader_get_writer_schema(reader);
    avro_value_iface_t *interface = avro_generic_class_from_schema(schema);
    check(avro_generic_value_new(interface, &value));
    check(avro_value_get_by_name(&value, "seq", &seq, NULL));
    check(avro_value_get_by_name(&value, "received_at", &received_at, NULL));
    check(avro_value_get_by_name(&value, "payload", &payload, NULL));
    while (avro_file_reader_read_value(reader, &value) == 0) {
        int64_t number, time_us;
        const void *data;
        size_t size;
        check(avro_value_get_long(&seq, &number));
        check(avro_value_get_long(&received_at, &time_us));
        check(avro_value_get_bytes(&payload, &data, &size));
        ret->records++;
        ret->bytes += size;
        ret->sum += *(const uint8_t *)data + (uint64_t)number + (uint64_t)time_us;
    }
    avro_value_decref(&value);
    avro_value_iface_decref(interface);
    avro_schema_decref(schema);
    avro_file_reader_close(reader);
}

static void read_by_avro(const char *folder, struct reading *ret)
{
    hf *handle = open_folder(folder);
    struct hf_log *logs;
    size_t count;
    support_check(hf_log_list(handle, NULL, &logs, &count), "hf_log_list");
    for (size_t i = 0; i < count; i++) {
        char path[PATH_SIZE];
        snprintf(path, sizeof path, "%s/%s", folder, logs[i].name);
        read_file_by_avro(path, ret);
    }
    free(logs);
    hf_close(handle);
}

static void read_all(int argc, char **argv)
{
    const char *folder = support_option(argc, argv, "--folder", ".");
    const char *by = support_option(argc, argv, "--by", "library");
    struct reading reading = {0};
    uint64_t begin = monotonic_now().ns, cpu = support_thread_cpu_ns();
    if (strcmp(by, "library") == 0)
        read_by_library(folder, &reading);
    else
        read_by_avro(folder, &reading);
    uint64_t ns = monotonic_now().ns - begin;
    cpu = support_thread_cpu_ns() - cpu;
    printf("{\"records\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"sum\": %" PRIu64
           ", \"ns\": %" PRIu64 ", \"cpu_ns\": %" PRIu64 "}\n",
           reading.records, reading.bytes, reading.sum, ns, cpu);
}

/* ---- finding ---- */

/* From nothing open to the first record at that time. */
static void find(int argc, char **argv)
{
    const char *folder = support_option(argc, argv, "--folder", ".");
    uint64_t seq = support_number(support_option(argc, argv, "--seq", "0"), INT64_MAX / 2);
    const struct hf_start start = {.at = HF_TIME,
                                   .time_ns = (BEGIN_US + (int64_t)seq * STEP_US) * 1000};
    struct hf_datagram datagram;
    hf_reader *reader;
    uint64_t begin = monotonic_now().ns;
    hf *handle = open_folder(folder);
    uint64_t listed = monotonic_now().ns;
    support_check(hf_read(handle, NULL, &start, HF_OLD, &reader), "hf_read");
    int result = hf_next(reader, &datagram);
    uint64_t end = monotonic_now().ns;
    if (result != HF_DATAGRAM || datagram.seq != seq)
        support_refuse("another record was found");
    hf_close(handle);
    printf("{\"list_ns\": %" PRIu64 ", \"find_ns\": %" PRIu64 ", \"ns\": %" PRIu64 "}\n",
           listed - begin, end - listed, end - begin);
}

int main(int argc, char **argv)
{
    const char *what = support_option(argc, argv, "--what", "");
    if (strcmp(what, "make") == 0)
        make(argc, argv);
    else if (strcmp(what, "read") == 0)
        read_all(argc, argv);
    else if (strcmp(what, "find") == 0)
        find(argc, argv);
    else
        support_refuse("--what is one of make, read, find");
    return 0;
}
