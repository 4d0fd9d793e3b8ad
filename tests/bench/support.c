/* SPDX-License-Identifier: MIT */
/* Small tools of the bench programs. Never used by holdfast itself, and never lets a bench go on
 * after an error. */
#include "tests/bench/support.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/units.h"

void support_fail(const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
    exit(1);
}

void support_refuse(const char *what)
{
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, what);
    exit(2);
}

void support_check(int result, const char *what)
{
    if (result >= 0)
        return;
    errno = -result;
    support_fail(what);
}

uint64_t support_number(const char *text, uint64_t most)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || value > most)
        support_refuse("a number is malformed or too large");
    return value;
}

uint64_t support_size(const char *text)
{
    uint64_t bytes;
    if (units_parse_size(text, &bytes) < 0)
        support_refuse("not a size: write a whole number with K, M or G behind it");
    return bytes;
}

void support_address(const char *text, union socket_address *ret)
{
    if (socket_address_parse(text, ret) < 0)
        support_refuse("not an address: write ADDRESS:PORT");
}

const char *support_option(int argc, char **argv, const char *name, const char *otherwise)
{
    for (int i = 1; i + 1 < argc; i += 2)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return otherwise;
}

void support_pin(int cpu)
{
    cpu_set_t set;
    if (cpu < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        support_fail("sched_setaffinity");
}

uint64_t support_thread_cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return timespec_ns(&now);
}

void support_sleep_until(uint64_t monotonic_ns)
{
    struct timespec until = {(time_t)(monotonic_ns / NS_PER_S), (long)(monotonic_ns % NS_PER_S)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until,
                    NULL); /* early after a signal: the caller looks again */
}

int support_bind(const union socket_address *address, uint64_t receive_buffer)
{
    int size = receive_buffer > CHANNEL_RECEIVE_BUFFER_MAX ? (int)CHANNEL_RECEIVE_BUFFER_MAX
                                                           : (int)receive_buffer;
    int fd = socket(address->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        support_fail("socket");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (bind(fd, &address->any, socket_address_length(address)) < 0)
        support_fail("bind");
    return fd;
}

int support_connect(const union socket_address *address)
{
    int fd = socket(address->family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, &address->any, socket_address_length(address)) < 0)
        support_fail("connect");
    return fd;
}

int support_compare_u64(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

uint64_t support_percentile(uint64_t *values, size_t count, double p)
{
    if (count == 0)
        return 0;
    qsort(values, count, sizeof *values, support_compare_u64);
    size_t index = (size_t)((double)(count - 1) * p / 100 + 0.5);
    return values[index < count ? index : count - 1];
}
