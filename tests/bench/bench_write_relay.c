/* SPDX-License-Identifier: MIT */
/* A relay that records through write(2) instead of a mapped file; everything else as in a channel
 * worker: the same ring, the same in-flight batch, the same encoder, a recorder thread and a thread
 * for fdatasync. It exists to answer one question: does the mapped file ever delay the relay? Says
 * "ready", ends on SIGTERM. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/avro_log_format.h"
#include "common/inflight.h"
#include "tests/bench/gso_runs.h"
#include "tests/bench/ring_memory.h"
#include "tests/bench/support.h"
#include "worker/channel/wakeup.h"

#define BATCH_LEAST  8
#define WARM_BYTES   (512 * 1024)
#define STEP_RECORDS 256
#define PAUSE_NS     (2 * NS_PER_MS)
#define BLOCK_ROOM                                                                                 \
    (AVRO_LOG_BLOCK_SIZE + AVRO_LOG_RECORD_OVERHEAD + SOCKET_ADDRESS_TEXT_SIZE +                   \
     CHANNEL_DATAGRAM_MAX)

static struct ring ring;
static struct ring_writer writer;
static struct wakeup recorder_wakeup = {.wake_at = WAKEUP_NEVER};
static _Atomic uint64_t recorder_cursor;
static int log_fd;
static uint64_t sync_ns;

static void set_options(int fd)
{
    int one = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &one, sizeof one) < 0)
        support_fail("setsockopt");
}

/* ---- the recorder ---- */

static void write_all(const uint8_t *from, size_t size)
{
    while (size > 0) {
        ssize_t written = write(log_fd, from, size);
        if (written < 0 && errno != EINTR)
            support_fail("write");
        if (written > 0) {
            from += written;
            size -= (size_t)written;
        }
    }
}

static uint8_t *encode(uint8_t *to, const struct ring_datagram *datagram)
{
    static const char source[] = "127.0.0.1:50123";
    struct avro_log_record record = {.seq = (int64_t)datagram->seq,
                                     .received_at_us = (int64_t)(datagram->time_ns / NS_PER_US),
                                     .received_ns = (int32_t)(datagram->time_ns % NS_PER_US),
                                     .source = source,
                                     .source_length = sizeof source - 1,
                                     .payload_length = datagram->length};
    uint8_t *payload = avro_log_write_record_head(to, &record);
    ring_copy(payload, datagram->data, datagram->length);
    return avro_log_write_record_crc(to, payload + datagram->length);
}

static void *record(void *unused)
{
    static uint8_t block[AVRO_LOG_BLOCK_HEADER_SIZE + BLOCK_ROOM + AVRO_LOG_SYNC_SIZE];
    static const uint8_t sync[AVRO_LOG_SYNC_SIZE] = "bench-sync-mark";
    uint8_t *start = block + AVRO_LOG_BLOCK_HEADER_SIZE, *end = start;
    uint64_t next = 0, count = 0;
    (void)unused;
    for (;;) {
        uint32_t ticket = wakeup_ticket(&recorder_wakeup);
        uint64_t published = ring_published(&ring);
        uint64_t to = published - next > STEP_RECORDS ? next + STEP_RECORDS : published;
        for (; next < to; next++) {
            struct ring_datagram datagram;
            if (!ring_peek(&ring, next, &datagram))
                support_refuse("the recorder was lapped: the disk is too slow for this bench");
            end = encode(end, &datagram);
            count++;
            if (end - start < AVRO_LOG_BLOCK_SIZE)
                continue;
            avro_log_write_block_header(block, count, (uint64_t)(end - start));
            memcpy(end, sync, sizeof sync);
            write_all(block, (size_t)(end + sizeof sync - block));
            end = start;
            count = 0;
        }
        atomic_store_explicit(&recorder_cursor, next, memory_order_release);
        if (next == ring_published(&ring))
            wakeup_wait(&recorder_wakeup, ticket, &ring.page->public.published, next + STEP_RECORDS,
                        PAUSE_NS);
    }
    return NULL;
}

static void *synchronise(void *unused)
{
    (void)unused;
    for (uint64_t next = monotonic_now().ns;;) {
        next += sync_ns;
        support_sleep_until(next);
        if (fdatasync(log_fd) < 0)
            support_fail("fdatasync");
    }
    return NULL;
}

/* ---- the receiver ---- */

static void relay(int out, uint64_t from, uint64_t to)
{
    struct iovec vectors[GSO_RUNS_MAX];
    uint32_t count = 0;
    for (uint64_t seq = from; seq < to; seq++) {
        struct ring_datagram datagram;
        ring_peek(&ring, seq, &datagram); /* nobody can overwrite but this thread */
        vectors[count++] = (struct iovec){(uint8_t *)(uintptr_t)datagram.data, datagram.length};
    }
    gso_runs_send(out, vectors, count);
}

static void receive(int in, int out)
{
    uint32_t batch = BATCH_LEAST, most = ring.geometry.slot_count;
    for (;;) {
        if (ring_writer_offset(&writer) >= WARM_BYTES &&
            atomic_load_explicit(&recorder_cursor, memory_order_acquire) == writer.seq)
            ring_rewind(&writer);
        ring_reserve(&writer, batch);
        int count =
            recvmmsg(in, inflight_arm(&writer, batch), batch, MSG_WAITFORONE | MSG_TRUNC, NULL);
        if (count < 0 && errno != EINTR)
            support_fail("recvmmsg");
        if (count <= 0)
            continue;
        uint64_t from = writer.seq;
        inflight_publish(&writer, (uint32_t)count);
        relay(out, from, writer.seq);
        wakeup_reached(&recorder_wakeup, writer.seq);
        if ((uint32_t)count == batch)
            batch = batch * 2 < most ? batch * 2 : most;
        else if ((uint32_t)count < batch / 4 && batch > BATCH_LEAST)
            batch /= 2;
    }
}

int main(int argc, char **argv)
{
    struct channel_spec spec = {
        .name = RING_MEMORY_CHANNEL, .max_datagram = 2048, .ring_size = 32 << 20, .relay_count = 1};
    union socket_address listen, to;
    pthread_t recorder, syncer;
    support_address(support_option(argc, argv, "--listen", ""), &listen);
    support_address(support_option(argc, argv, "--to", ""), &to);
    sync_ns = support_number(support_option(argc, argv, "--sync-ms", "1000"), 60000) * NS_PER_MS;
    log_fd = open(support_option(argc, argv, "--file", ""),
                  O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (log_fd < 0 || sync_ns == 0)
        support_fail("--file and --sync-ms");
    int in = support_bind(&listen, support_size(support_option(argc, argv, "--buffer", "4M")));
    int out = support_connect(&to);
    set_options(in);
    ring_memory_open(&spec, &ring, &writer);
    if (pthread_create(&recorder, NULL, record, NULL) != 0 ||
        pthread_create(&syncer, NULL, synchronise, NULL) != 0)
        support_fail("pthread_create");
    puts("ready");
    fflush(stdout);
    receive(in, out);
    return 0;
}
