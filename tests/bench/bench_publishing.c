/* SPDX-License-Identifier: MIT */
/* Publishing into a channel of a running daemon.
 *
 *   bench_publishing SOCKET CHANNEL rate COUNT SIZE          as fast as it goes: until all is
 * committed bench_publishing SOCKET CHANNEL newest COUNT PAUSE_US    from before hf_commit() until
 * a reader of the newest has it, both in one thread that never sleeps */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/client/holdfast.h"
#include "common/monotonic.h"
#include "tests/bench/histogram.h"

static _Noreturn void fail(const char *what, int error)
{
    fprintf(stderr, "bench_publishing: %s: %s\n", what, strerror(-error));
    exit(1);
}

static void *reserve(hf_writer *writer, uint32_t length)
{
    void *room;
    int result;
    while ((result = hf_reserve(writer, length, &room)) == -EAGAIN) {
        struct pollfd bell = {.fd = hf_writer_fd(writer), .events = POLLIN};
        poll(&bell, 1, 10000);
    }
    if (result < 0)
        fail("hf_reserve", result);
    return room;
}

static void commit(hf_writer *writer, uint32_t length)
{
    int result = hf_commit(writer, length);
    if (result < 0)
        fail("hf_commit", result);
}

static void rate(hf_writer *writer, uint64_t count, uint32_t size)
{
    static uint8_t payload[65536];
    const monotonic begun = monotonic_now();
    for (uint64_t i = 0; i < count; i++) {
        void *room = reserve(writer, size);
        memcpy(room, payload, size);
        commit(writer, size);
    }
    printf("{\"seconds\": %.6f}\n", (double)monotonic_since(monotonic_now(), begun) / 1e9);
}

static void newest(hf *handle, hf_writer *writer, const char *channel, uint64_t count,
                   uint64_t pause_us)
{
    static struct histogram histogram;
    const struct hf_start start = {.at = HF_END};
    struct hf_datagram datagram;
    hf_reader *reader;
    int result = hf_read(handle, channel, &start, HF_NEWEST, &reader);
    if (result < 0)
        fail("hf_read", result);
    for (uint64_t i = 0; i < count; i++) {
        const monotonic began = monotonic_now();
        memcpy(reserve(writer, sizeof i), &i, sizeof i);
        commit(writer, sizeof i);
        uint64_t seen = UINT64_MAX;
        while (seen != i) {
            result = hf_next(reader, &datagram);
            if (result < 0)
                fail("hf_next", result);
            if (result == HF_DATAGRAM && datagram.length == sizeof seen)
                memcpy(&seen, datagram.data, sizeof seen);
        }
        histogram_add(&histogram, monotonic_since(monotonic_now(), began));
        while (monotonic_since(monotonic_now(), began) < pause_us * NS_PER_US)
            ;
    }
    printf("{\"lags\": ");
    histogram_print(&histogram, stdout);
    printf("}\n");
    hf_reader_close(reader);
}

int main(int argc, char **argv)
{
    hf *handle;
    hf_writer *writer;
    if (argc != 6) {
        fprintf(stderr, "usage: bench_publishing SOCKET CHANNEL rate COUNT SIZE | newest COUNT "
                        "PAUSE_US\n");
        return 2;
    }
    uint64_t count = strtoull(argv[4], NULL, 10), last = strtoull(argv[5], NULL, 10);
    int result = hf_open(&handle, argv[1]);
    if (result >= 0)
        result = hf_publish(handle, argv[2], &writer);
    if (result < 0)
        fail("hf_publish", result);
    if (strcmp(argv[3], "rate") == 0)
        rate(writer, count, (uint32_t)last);
    else
        newest(handle, writer, argv[2], count, last);
    hf_writer_close(writer);
    hf_close(handle);
    return 0;
}
