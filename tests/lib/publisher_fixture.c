/* SPDX-License-Identifier: MIT */
/* The publisher's side of an outbox_fixture. */
#include "tests/lib/publisher_fixture.h"

#include <check.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/monotonic.h"

void publisher_fixture_open(struct publisher_fixture *fixture, uint64_t id, uint32_t max_datagram,
                            const char *name)
{
    struct outbox_fixture *outbox = &fixture->outbox;
    *fixture = (struct publisher_fixture){0};
    outbox_fixture_make(outbox, id, true);
    fixture->fds[0] = outbox->box;
    fixture->fds[1] = outbox->answer;
    fixture->fds[2] = outbox->bell;
    fixture->fds[3] = outbox->call;
    fixture->said = outbox->map.answer;
    fixture->said->max_datagram = max_datagram;
    fixture->said->uid = 1000;
    fixture->said->pid = 4711;
    strcpy(fixture->said->name, name);
    ck_assert_int_eq(outbox_map(outbox->box, outbox->answer, OUTBOX_PUBLISHER, &fixture->map), 0);
    outbox_producer_open(&fixture->producer, &fixture->map);
}

void publisher_fixture_hang_up(struct publisher_fixture *fixture)
{
    fd_close(&fixture->outbox.lent_bell);
}

void publisher_fixture_close(struct publisher_fixture *fixture)
{
    outbox_unmap(&fixture->map);
    outbox_fixture_free(&fixture->outbox);
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
    return recv(fixture->outbox.lent_bell, rung, sizeof rung, MSG_DONTWAIT) > 0;
}
