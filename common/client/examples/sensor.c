/* SPDX-License-Identifier: MIT */
/* Publishes a hundred measurements a second from a poll loop, and keeps the newest ones while there
 * is no room for them.
 *
 *   sensor CHANNEL [COUNT]
 *
 * Build: cc sensor.c $(pkg-config --cflags --libs holdfast) */
#include <errno.h>
#include <holdfast.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define KEPT 1000 /* measurements that wait for room */

static unsigned long measured, published;

/* A real sensor has something to say here. */
static size_t print_measurement(unsigned long number, char *text, size_t size)
{
    return (size_t)snprintf(text, size, "measurement %lu: %lu.%lu", number, number / 10 % 100,
                            number % 10);
}

/* All that waits, or as much as there is room for. 0, -EAGAIN, or what is wrong. */
static int publish(hf_writer *writer)
{
    while (published < measured) {
        char text[64];
        void *room;
        const size_t length = print_measurement(published, text, sizeof text);
        int result = hf_reserve(writer, (uint32_t)length, &room);
        if (result < 0)
            return result;
        memcpy(room, text, length);
        result = hf_commit(writer, (uint32_t)length);
        if (result < 0)
            return result;
        published++;
    }
    return 0;
}

static void measure(int timer, unsigned long most)
{
    uint64_t times = 0;
    if (read(timer, &times, sizeof times) != sizeof times)
        return;
    measured = measured + times < most ? measured + times : most;
    if (measured - published > KEPT) {
        fprintf(stderr, "%lu measurements are left out\n", measured - published - KEPT);
        published = measured - KEPT;
    }
}

static int run(hf_writer *writer, unsigned long most)
{
    const struct itimerspec each = {.it_interval = {0, 10000000}, .it_value = {0, 1}};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct pollfd waits[] = {{.fd = timer, .events = POLLIN},
                             {.fd = hf_writer_fd(writer), .events = POLLIN}};
    timerfd_settime(timer, 0, &each, NULL);
    int told = 0;
    while (published < most) {
        if (poll(waits, 2, -1) < 0)
            continue;
        measure(timer, most);
        int result = published < measured ? publish(writer) : hf_wait_durable(writer, 0, 0);
        if (result < 0 && result != -EAGAIN && result != told)
            fprintf(stderr, "publishing: %s; trying again\n", strerror(-result));
        told = result;
        if (result == -ECONNABORTED || result == -EPROTO || result == -EMSGSIZE)
            break; /* for ever */
    }
    close(timer);
    return published < most;
}

int main(int argc, char **argv)
{
    hf *daemon;
    hf_writer *writer;
    if (argc < 2) {
        fprintf(stderr, "usage: sensor CHANNEL [COUNT]\n");
        return 2;
    }
    int result = hf_open(&daemon, NULL);
    if (result < 0) {
        fprintf(stderr, "no daemon to publish to: %s\n", strerror(-result));
        return 1;
    }
    result = hf_publish(daemon, argv[1], &writer);
    if (result < 0)
        fprintf(stderr, "%s can't be published to: %s\n", argv[1], strerror(-result));
    else
        result = run(writer, argc > 2 ? strtoul(argv[2], NULL, 10) : (unsigned long)-1);
    hf_close(daemon); /* and the writer; what was committed is taken all the same */
    return result != 0;
}
