/* SPDX-License-Identifier: MIT */
/* Memory files, a socket pair and an eventfd, as hold_outboxes.c makes them. */
#include "tests/lib/publisher_fixture.h"

#include <check.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/monotonic.h"

static int make(uint64_t size)
{
    int fd = memfd_create("outbox-fixture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
    return fd;
}

void publisher_fixture_open(struct publisher_fixture *fixture,
                            const struct publisher_fixture_settings *settings)
{
    int ends[2];
    memset(fixture, 0, sizeof *fixture);
    fixture->fds[0] = make(OUTBOX_HEAD_SIZE + settings->capacity);
    fixture->fds[1] = make(OUTBOX_ANSWER_SIZE);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(shutdown(ends[0], SHUT_RD), 0);
    fixture->fds[2] = ends[0];
    fixture->bell = ends[1];
    fixture->fds[3] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ck_assert_int_ge(fixture->fds[3], 0);
    fixture->said =
        mmap(NULL, OUTBOX_ANSWER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fixture->fds[1], 0);
    ck_assert_ptr_ne(fixture->said, MAP_FAILED);
    fixture->said->magic = OUTBOX_MAGIC;
    fixture->said->id = settings->id;
    fixture->said->capacity = settings->capacity;
    fixture->said->max_datagram = settings->max_datagram;
    fixture->said->records = 1;
    fixture->said->uid = 1000;
    fixture->said->pid = 4711;
    strcpy(fixture->said->name, settings->name);
    ck_assert_int_eq(outbox_map(fixture->fds[0], fixture->fds[1], OUTBOX_PUBLISHER, &fixture->map),
                     0);
    outbox_producer_open(&fixture->producer, &fixture->map);
}

void publisher_fixture_hang_up(struct publisher_fixture *fixture)
{
    fd_close(&fixture->bell);
}

void publisher_fixture_close(struct publisher_fixture *fixture)
{
    outbox_unmap(&fixture->map);
    munmap(fixture->said, OUTBOX_ANSWER_SIZE);
    fd_close(&fixture->bell);
    fd_close_all(fixture->fds, OUTBOX_FDS);
}

void publisher_fixture_commit(struct publisher_fixture *fixture, const void *payload,
                              uint32_t length)
{
    void *room;
    bool call;
    const uint64_t one = 1;
    ck_assert_int_eq(outbox_reserve(&fixture->producer, length, &room), 0);
    memcpy(room, payload, length);
    ck_assert_int_eq(outbox_commit(&fixture->producer, length, (int64_t)realtime_now_ns(), &call),
                     0);
    if (call)
        ck_assert_int_eq(write(fixture->fds[3], &one, sizeof one), sizeof one);
}

bool publisher_fixture_was_rung(struct publisher_fixture *fixture)
{
    char rung[64];
    return recv(fixture->bell, rung, sizeof rung, MSG_DONTWAIT) > 0;
}
