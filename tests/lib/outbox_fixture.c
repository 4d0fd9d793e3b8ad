/* SPDX-License-Identifier: MIT */
/* Makes outboxes as the supervisor does, and takes from them as a worker does. What it can't do
 * ends the test. */
#include "tests/lib/outbox_fixture.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"

static int make_memory(const char *name, uint64_t size)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
    return fd;
}

void outbox_fixture_make(struct outbox_fixture *fixture, uint64_t id, bool records)
{
    struct outbox_answer answer = {.magic = OUTBOX_MAGIC,
                                   .id = id,
                                   .capacity = OUTBOX_FIXTURE_CAPACITY,
                                   .max_datagram = OUTBOX_FIXTURE_MAX,
                                   .records = records};
    char path[64];
    int bells[2];
    *fixture = (struct outbox_fixture){0};
    fixture->box = make_memory("box", OUTBOX_HEAD_SIZE + OUTBOX_FIXTURE_CAPACITY);
    fixture->answer = make_memory("answer", OUTBOX_ANSWER_SIZE);
    ck_assert_int_eq(pwrite(fixture->answer, &answer, sizeof answer, 0), sizeof answer);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fixture->answer);
    fixture->lent_answer = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fixture->lent_answer, 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, bells), 0);
    ck_assert_int_eq(shutdown(bells[0], SHUT_RD), 0);
    fixture->bell = bells[0];
    fixture->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ck_assert_int_ge(fixture->call, 0);
    fixture->lent_bell = bells[1];
    ck_assert_int_eq(outbox_map(fixture->box, fixture->answer, OUTBOX_WORKER, &fixture->map), 0);
    outbox_consumer_open(&fixture->consumer, &fixture->map, 0, OUTBOX_FIXTURE_MAX);
}

void outbox_fixture_lend(const struct outbox_fixture *fixture, int ret_fds[OUTBOX_FDS])
{
    ret_fds[0] = fixture->box;
    ret_fds[1] = fixture->lent_answer;
    ret_fds[2] = fixture->lent_bell;
    ret_fds[3] = fixture->call;
}

void outbox_fixture_let_go(struct outbox_fixture *fixture)
{
    fd_close(&fixture->lent_answer);
    fd_close(&fixture->lent_bell);
}

void outbox_fixture_ring(struct outbox_fixture *fixture)
{
    send(fixture->bell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int64_t outbox_fixture_take(struct outbox_fixture *fixture, void *ret, size_t size)
{
    const char *what = "";
    struct outbox_taken taken = {0};
    int result = outbox_look(&fixture->consumer, &what);
    if (result == 1)
        result = outbox_take(&fixture->consumer, INT64_MAX, &taken, &what);
    ck_assert_msg(result >= 0, "%s", what);
    if (result != 1)
        return -1;
    ck_assert_uint_le(taken.length, size);
    memcpy(ret, taken.data, taken.length);
    if (outbox_release(&fixture->consumer, ++fixture->taken))
        outbox_fixture_ring(fixture);
    return taken.length;
}

void outbox_fixture_say_durable(struct outbox_fixture *fixture, uint64_t count)
{
    if (outbox_say_durable(&fixture->consumer, count))
        outbox_fixture_ring(fixture);
}

int outbox_fixture_calls(struct outbox_fixture *fixture)
{
    uint64_t calls = 0;
    return read(fixture->call, &calls, sizeof calls) == sizeof calls ? (int)calls : 0;
}

void outbox_fixture_free(struct outbox_fixture *fixture)
{
    outbox_unmap(&fixture->map);
    fd_close(&fixture->box);
    fd_close(&fixture->answer);
    fd_close(&fixture->bell);
    fd_close(&fixture->call);
    outbox_fixture_let_go(fixture);
}
