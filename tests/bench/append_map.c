/* SPDX-License-Identifier: MIT */
/* holdfast's way to append (mapped file, Avro records encoded in place, one committed word), and
 * the limit beside it: memcpy of records of the same length into a populated map. Readers map the
 * file themselves and follow the word. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_header.h"
#include "tests/bench/append.h"
#include "tests/bench/support.h"
#include "worker/channel/segment.h"

/* Where everything is populated first: before writeback throttles the populating */
#define POPULATED_MOST (1ull << 30)
/* As far as the syncer looks ahead at full speed */
#define AHEAD (4ull << 20)

struct map {
    struct append_job *job;
    struct segment *segment; /* as a worker maps it */
    uint8_t *base;
    uint64_t size;
    struct avro_log_identity identity;
    uint64_t header;              /* bytes before the first block */
    uint64_t record;              /* memcpy only: bytes of one record */
    _Atomic uint64_t committed;   /* bytes: readers may read so far */
    _Atomic uint64_t block_start; /* of the open block, as of `committed` */
};

static void map_open(struct map *map, struct append_job *job, bool populated)
{
    struct stat status;
    int error;
    map->job = job;
    map->size = populated && job->size > POPULATED_MOST ? POPULATED_MOST : job->size;
    int fd = open(job->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fallocate(fd, 0, 0, (off_t)map->size) < 0 || fstat(fd, &status) < 0)
        support_fail(job->path);
    struct segment_grant grant = {.id = status.st_ino, .size = map->size};
    map->segment = segment_open(&fd, &grant, &error);
    if (!map->segment)
        support_refuse(strerror(error));
    map->base = map->segment->map;
    segment_prefer(map->segment, SEGMENT_CHEAP);
    segment_populate(map->segment, 0, populated ? map->size : AHEAD);
}

static void map_close(struct map *map, uint64_t length)
{
    map->job->bytes = length;
    if (ftruncate(map->segment->fd, (off_t)length) < 0)
        support_fail("ftruncate");
    segment_release(&map->segment);
}

/* ---- the limit ---- */

static void follow_bytes(struct append_reader *reader)
{
    struct map *map = reader->context;
    uint8_t *base = mmap(NULL, map->size, PROT_READ, MAP_SHARED, map->segment->fd, 0);
    uint64_t at = 0;
    uint8_t record[8192];
    if (base == MAP_FAILED)
        support_fail("mmap");
    for (;;) {
        bool last = atomic_load(&reader->job->done);
        uint64_t end = atomic_load_explicit(&map->committed, memory_order_acquire);
        for (; at + map->record <= end && !(last && atomic_load(&reader->job->done));
             at += map->record) {
            memcpy(record, base + at, map->record);
            __asm__ volatile("" : : "r"(record) : "memory");
            ++*reader->count;
        }
        if (last)
            break;
        append_reader_rest();
    }
    munmap(base, map->size);
}

static void run_memcpy(struct append_job *job)
{
    static struct map map;
    static uint8_t encoded[8192];
    struct avro_log_record record;
    append_fill(job, 1000000, &record);
    map.record = avro_log_record_size(&record);
    map_open(&map, job, true);
    memset(encoded, 0x5a, sizeof encoded);
    append_readers_start(job, follow_bytes, &map);
    append_clock_begin(job);
    uint64_t at = 0;
    while (at + APPEND_STEP * map.record <= map.size) {
        for (int i = 0; i < APPEND_STEP; i++, at += map.record)
            memcpy(map.base + at, encoded + at % 64, map.record);
        job->records += APPEND_STEP;
        atomic_store_explicit(&map.committed, at, memory_order_release);
        if (append_clock_over(job))
            break;
    }
    append_clock_end(job);
    append_readers_stop(job);
    map_close(&map, at);
}

/* ---- holdfast's log ---- */

/* Records of one block between at and end. Returns where the last whole one ended. */
static uint64_t read_records(struct append_reader *reader, const uint8_t *base, uint64_t at,
                             uint64_t end)
{
    struct avro_log_record record;
    const char *what;
    while (at < end) {
        long length = avro_log_read_record(base + at, end - at, &record, &what);
        if (length < 0)
            support_refuse("a reader found a record that is not sound");
        if ((uint64_t)record.seq != *reader->count)
            support_refuse("a reader found a gap");
        ++*reader->count;
        at += (uint64_t)length;
    }
    return at;
}

static void follow_log(struct append_reader *reader)
{
    struct map *map = reader->context;
    uint8_t *base = mmap(NULL, map->size, PROT_READ, MAP_SHARED, map->segment->fd, 0);
    uint64_t block = map->header, at = block + AVRO_LOG_BLOCK_HEADER_SIZE;
    if (base == MAP_FAILED)
        support_fail("mmap");
    while (!atomic_load(&reader->job->done)) {
        /* The writer stores block_start first: a block that is older than it is sealed for good. */
        uint64_t end = atomic_load_explicit(&map->committed, memory_order_acquire);
        uint64_t open = atomic_load_explicit(&map->block_start, memory_order_acquire);
        if (block == open) {
            if (end > at)
                at = read_records(reader, base, at, end);
            append_reader_rest();
            continue;
        }
        int64_t size;
        if (block > open || avro_log_read_long(base + block + AVRO_LOG_PADDED_SIZE,
                                               AVRO_LOG_PADDED_SIZE, &size) < 0)
            support_refuse("a reader found a damaged block");
        uint64_t sealed_end = block + AVRO_LOG_BLOCK_HEADER_SIZE + (uint64_t)size;
        read_records(reader, base, at, sealed_end);
        block = sealed_end + AVRO_LOG_SYNC_SIZE;
        at = block + AVRO_LOG_BLOCK_HEADER_SIZE;
    }
    munmap(base, map->size);
}

static uint64_t seal_block(struct map *map, uint64_t block, uint64_t at, uint64_t count)
{
    memcpy(map->base + at, map->identity.sync, AVRO_LOG_SYNC_SIZE);
    atomic_thread_fence(memory_order_release);
    avro_log_write_block_header(map->base + block, count, at - block - AVRO_LOG_BLOCK_HEADER_SIZE);
    return at + AVRO_LOG_SYNC_SIZE;
}

static void commit(struct map *map, uint64_t block, uint64_t at)
{
    atomic_store_explicit(&map->block_start, block, memory_order_release);
    atomic_store_explicit(&map->committed, at, memory_order_release);
}

static uint8_t *append(const struct map *map, uint8_t *to, uint64_t seq)
{
    struct avro_log_record record;
    append_fill(map->job, seq, &record);
    uint8_t *payload = avro_log_write_record_head(to, &record);
    memcpy(payload, record.payload, record.payload_length);
    return avro_log_write_record_crc(to, payload + record.payload_length);
}

/* Returns the length of the finished log. */
static uint64_t write_log(struct map *map)
{
    struct append_job *job = map->job;
    uint64_t most = AVRO_LOG_RECORD_OVERHEAD + SOCKET_ADDRESS_TEXT_SIZE + job->payload;
    uint64_t room = APPEND_STEP * (most + AVRO_LOG_SYNC_SIZE + AVRO_LOG_BLOCK_HEADER_SIZE);
    uint64_t block = map->header, at = block + AVRO_LOG_BLOCK_HEADER_SIZE, count = 0;
    while (at + room + AVRO_LOG_SYNC_SIZE <= map->size) {
        for (int i = 0; i < APPEND_STEP; i++) {
            at = (uint64_t)(append(map, map->base + at, job->records++) - map->base);
            if (++count, at - block < AVRO_LOG_BLOCK_SIZE)
                continue;
            block = seal_block(map, block, at, count);
            at = block + AVRO_LOG_BLOCK_HEADER_SIZE;
            count = 0;
            commit(map, block, at);
        }
        commit(map, block, at);
        if (append_clock_over(job))
            break;
    }
    return count ? seal_block(map, block, at, count) : block;
}

/* Returns the length of the finished log; the map is still open. */
static uint64_t run_log(struct map *map)
{
    struct append_job *job = map->job;
    map->identity = (struct avro_log_identity){.channel = "bench", .created_ns = realtime_now_ns()};
    memcpy(map->identity.sync, "bench-sync-mark", AVRO_LOG_SYNC_SIZE);
    map->header = avro_log_write_header(map->base, &map->identity);
    commit(map, map->header, map->header + AVRO_LOG_BLOCK_HEADER_SIZE);
    append_readers_start(job, follow_log, map);
    append_clock_begin(job);
    uint64_t length = write_log(map);
    append_clock_end(job);
    append_readers_stop(job);
    return length;
}

static void run_map(struct append_job *job)
{
    static struct map map;
    map_open(&map, job, true);
    map_close(&map, run_log(&map));
}

/* As the syncer does when a channel is busy. */
static void *populate_ahead(void *argument)
{
    struct map *map = argument;
    while (!atomic_load(&map->job->done) && map->segment->populated < map->size) {
        uint64_t at = atomic_load_explicit(&map->committed, memory_order_acquire);
        if (at + AHEAD / 2 >= map->segment->populated)
            segment_populate(map->segment, at, AHEAD);
        else
            append_reader_rest();
    }
    return NULL;
}

static void run_map_ahead(struct append_job *job)
{
    static struct map map;
    pthread_t populater;
    map_open(&map, job, false);
    if (pthread_create(&populater, NULL, populate_ahead, &map) != 0)
        support_fail("pthread_create");
    uint64_t length = run_log(&map);
    pthread_join(populater, NULL);
    map_close(&map, length);
}

const struct append_backend append_memcpy = {"memcpy", "memcpy into a populated map", true,
                                             run_memcpy, NULL};
const struct append_backend append_map = {"map", "Avro log in a populated map", true, run_map,
                                          NULL};
const struct append_backend append_map_ahead = {"map-ahead", "Avro log in a map populated ahead",
                                                true, run_map_ahead, NULL};
