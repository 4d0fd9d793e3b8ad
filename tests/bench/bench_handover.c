/* SPDX-License-Identifier: MIT */
/* What a hand-over costs: one SCM_RIGHTS message with 1 to 253 descriptors, and a real
 * holdfast-worker from nothing, or from a waiting spare, to READY. The floor beside it is a process
 * that does nothing. Prints one line of JSON. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/fdpass.h"
#include "common/message.h"
#include "tests/bench/ring_memory.h"
#include "tests/bench/support.h"

#define SAMPLES_MAX 2000
#define SETTLE_NS   (20 * NS_PER_MS)

extern char **environ;

static uint64_t samples[SAMPLES_MAX];
static uint32_t sample_count;

static void print_samples(const char *name, const char *between)
{
    uint64_t p50 = support_percentile(samples, sample_count, 50);
    printf("\"%s\": {\"count\": %" PRIu32 ", \"p50_ns\": %" PRIu64 ", \"p99_ns\": %" PRIu64
           ", \"min_ns\": %" PRIu64 ", \"max_ns\": %" PRIu64 "}%s",
           name, sample_count, p50, support_percentile(samples, sample_count, 99), samples[0],
           samples[sample_count - 1], between);
}

/* ---- descriptors ---- */

static void measure_batch(uint32_t count, uint32_t repeats)
{
    int ends[2], fds[MESSAGE_FDS_MAX], received[MESSAGE_FDS_MAX];
    char byte = 0, name[32];
    uint32_t got;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        support_fail("socketpair");
    for (uint32_t i = 0; i < count; i++)
        if ((fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0)
            support_fail("open");
    for (sample_count = 0; sample_count < repeats; sample_count++) {
        struct iovec part = {&byte, 1};
        uint64_t started = monotonic_now().ns;
        support_check(fdpass_send(ends[0], &part, 1, fds, count), "fdpass_send");
        ssize_t length = fdpass_receive(ends[1], &byte, 1, received, MESSAGE_FDS_MAX, &got);
        samples[sample_count] = monotonic_now().ns - started;
        if (length != 1 || got != count)
            support_refuse("not all descriptors came through");
        fd_close_all(received, got);
    }
    fd_close_all(fds, count);
    fd_close_all(ends, 2);
    snprintf(name, sizeof name, "fds_%u", count);
    print_samples(name, ", ");
}

/* ---- workers ---- */

struct worker {
    pid_t pid;
    int socket;
    int fds[4]; /* rx, ring, private, out: the order that message.def states */
};

static const char *worker_path;
static struct message message;

static void prepare_fds(const struct channel_spec *spec, struct worker *worker)
{
    union socket_address any = {
        .v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    struct channel_geometry geometry;
    worker->fds[0] = support_bind(&any, 1 << 20);
    struct channel_memory memory;
    ring_memory_make(spec, &geometry, &memory);
    worker->fds[1] = memory.ring;
    worker->fds[2] = memory.private_part;
    worker->fds[3] = support_connect(&spec->destinations[0].to);
}

static void spawn(struct worker *worker)
{
    int ends[2];
    char *arguments[] = {(char *)(uintptr_t)worker_path, NULL};
    posix_spawn_file_actions_t actions;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        support_fail("socketpair");
    /* dup2 onto itself would keep CLOEXEC: get out of the way of fd 3 first. */
    int child_end = fcntl(ends[1], F_DUPFD_CLOEXEC, 16);
    if (child_end < 0)
        support_fail("fcntl");
    close(ends[1]);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, child_end, MESSAGE_FD);
    errno = posix_spawn(&worker->pid, worker_path, &actions, NULL, arguments, environ);
    if (errno != 0)
        support_fail(worker_path);
    posix_spawn_file_actions_destroy(&actions);
    close(child_end);
    worker->socket = ends[0];
}

static void assign_and_wait(struct worker *worker, const struct channel_spec *spec)
{
    struct {
        struct message_assign assign;
        uint8_t tail[sizeof(struct channel_spec) + sizeof(struct destination_spec)];
    } payload = {.assign = {.role = ROLE_CHANNEL, .fresh_ring = 1, .beat_ms = 500}};
    const char *what = "";
    size_t spec_size = channel_spec_size(1);
    payload.assign.spec_size = (uint32_t)spec_size;
    memcpy(payload.tail, spec, spec_size);
    support_check(message_send(worker->socket, MESSAGE_ASSIGN, 1, &payload,
                               sizeof payload.assign + spec_size, worker->fds, 4),
                  "sending ASSIGN");
    int result = message_receive(worker->socket, TO_PARENT, &message, &what);
    if (result != 1 || message.header.type != MESSAGE_READY || message.ready->ring_refused)
        support_refuse("the worker did not get ready");
    message_release(&message);
}

static void end_worker(struct worker *worker)
{
    kill(worker->pid, SIGKILL);
    waitpid(worker->pid, NULL, 0);
    fd_close(&worker->socket);
    fd_close_all(worker->fds, 4);
}

static void measure_starts(const struct channel_spec *spec, bool spare, uint32_t repeats)
{
    for (sample_count = 0; sample_count < repeats; sample_count++) {
        struct worker worker;
        prepare_fds(spec, &worker);
        uint64_t started = monotonic_now().ns;
        spawn(&worker);
        if (spare) {
            support_sleep_until(started + SETTLE_NS); /* it waits on fd 3 by now, as a spare does */
            started = monotonic_now().ns;
        }
        assign_and_wait(&worker, spec);
        samples[sample_count] = monotonic_now().ns - started;
        end_worker(&worker);
    }
    print_samples(spare ? "spare_to_ready" : "spawn_to_ready", ", ");
}

static void measure_nothing(uint32_t repeats)
{
    char *arguments[] = {(char[]){"true"}, NULL};
    for (sample_count = 0; sample_count < repeats; sample_count++) {
        pid_t pid;
        uint64_t started = monotonic_now().ns;
        errno = posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environ);
        if (errno != 0)
            support_fail("/bin/true");
        waitpid(pid, NULL, 0);
        samples[sample_count] = monotonic_now().ns - started;
    }
    print_samples("spawn_true_to_exit", "");
}

int main(int argc, char **argv)
{
    static const uint32_t batches[] = {1, 4, 16, 64, MESSAGE_FDS_MAX};
    uint32_t repeats =
        (uint32_t)support_number(support_option(argc, argv, "--repeats", "100"), SAMPLES_MAX);
    struct channel_spec *spec = calloc(1, channel_spec_size(1));
    if (!spec)
        support_fail("calloc");
    if (repeats == 0)
        support_refuse("--repeats N --worker PATH");
    worker_path = support_option(argc, argv, "--worker", "build/bin/holdfast-worker");
    strcpy(spec->name, RING_MEMORY_CHANNEL);
    support_address("127.0.0.1:26000", &spec->listen);
    spec->receive_buffer = 1 << 20;
    spec->ring_size = 32 << 20;
    spec->max_datagram = 2048;
    spec->relay_count = 1;
    strcpy(spec->destinations[0].name, "out");
    support_address("127.0.0.1:26001", &spec->destinations[0].to);
    spec->destinations[0].ttl = 1;

    printf("{");
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++)
        measure_batch(batches[i], repeats * 10 > SAMPLES_MAX ? SAMPLES_MAX : repeats * 10);
    measure_starts(spec, false, repeats);
    measure_starts(spec, true, repeats);
    measure_nothing(repeats);
    printf("}\n");
    free(spec);
    return 0;
}
