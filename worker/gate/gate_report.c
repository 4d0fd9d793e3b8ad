/* SPDX-License-Identifier: MIT */
/* Counts for the supervisor, lists for readers. Called by the main loop. While nothing changes
 * there is no report and no timer. */
#include "worker/gate/gate_report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/fd.h"
#include "worker/gate/gate_activity.h"
#include "worker/gate/gate_answer.h"
#include "worker/gate/gate_channels.h"
#include "worker/gate/gate_connection.h"
#include "worker/gate/gate_find.h"
#include "worker/gate/gate_folder.h"
#include "worker/gate/gate_pool.h"
#include "worker/gate/gate_supervisor.h"

int gate_report_open(struct gate *gate)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = GATE_SOURCE_TIMER};
    gate->reporting.timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (gate->reporting.timer < 0 ||
        epoll_ctl(gate->epoll, EPOLL_CTL_ADD, gate->reporting.timer, &event) < 0)
        return -errno;
    return 0;
}

/* ---- what was lent and is no longer there ---- */

struct lent_file {
    struct gate_folder *folder; /* a reference */
    char name[SEGMENT_NAME_SIZE];
    uint64_t id, size;
};

struct tally_work {
    struct gate_work work; /* first; of no connection */
    uint64_t deleted_bytes;
    uint32_t count;
    struct lent_file files[];
};

/* Connections of one channel often follow each other: its folder is opened once then. */
static void run_tally(struct gate_job *job)
{
    struct tally_work *tally = (struct tally_work *)job;
    const struct gate_folder *open = NULL;
    int dir = -ENOENT;
    for (uint32_t i = 0; i < tally->count; i++) {
        const struct lent_file *file = &tally->files[i];
        if (file->folder != open) {
            if (dir >= 0)
                fd_close(&dir);
            dir = gate_folder_open(file->folder);
            open = file->folder;
        }
        bool gone = dir >= 0 ? gate_find_is_gone(dir, file->name, file->id) : dir == -ENOENT;
        tally->deleted_bytes += gone ? file->size : 0;
    }
    if (dir >= 0)
        fd_close(&dir);
}

static void finish_tally(struct gate *gate, struct gate_connection *connection,
                         struct gate_work *work)
{
    struct tally_work *tally = (struct tally_work *)work;
    (void)connection;
    gate->reporting.tallying = false;
    if (gate->reporting.lent_deleted_bytes != tally->deleted_bytes)
        gate->reporting.due = true;
    gate->reporting.lent_deleted_bytes = tally->deleted_bytes;
    for (uint32_t i = 0; i < tally->count; i++)
        gate_folder_release(&tally->files[i].folder);
}

static void start_tally(struct gate *gate)
{
    if (gate->reporting.tallying)
        return;
    struct tally_work *tally =
        calloc(1, sizeof *tally + gate->connection_count * sizeof tally->files[0]);
    if (!tally)
        return; /* it is only a number */
    tally->work.job = (struct gate_job){.run = run_tally};
    tally->work.finish = finish_tally;
    tally->work.slot = GATE_SLOTS - 1;
    for (const struct gate_connection *it = gate->first; it; it = it->next) {
        struct lent_file *file = &tally->files[tally->count];
        if (!it->lent_folder)
            continue;
        *file =
            (struct lent_file){gate_folder_keep(it->lent_folder), "", it->lent_id, it->lent_size};
        memcpy(file->name, it->lent_name, sizeof file->name);
        tally->count++;
    }
    gate->reporting.tallying = gate_pool_submit(&gate->wide, &tally->work.job, NULL);
    if (gate->reporting.tallying) {
        gate->counts[GATE_COUNTER_waiting]++; /* until it is taken back, like any other */
        return;
    }
    for (uint32_t i = 0; i < tally->count; i++)
        gate_folder_release(&tally->files[i].folder);
    free(tally);
}

/* ---- the report ---- */

static void collect_pools(struct gate *gate, uint64_t *value)
{
    struct gate_pool *const pools[] = {&gate->pool, &gate->wide, &gate->copier};
    for (size_t i = 0; i < sizeof pools / sizeof *pools; i++) {
        struct gate_pool_look look;
        gate_pool_look(pools[i], &look);
        value[GATE_COUNTER_queued] += look.queued;
        value[GATE_COUNTER_threads] += look.threads;
        value[GATE_COUNTER_threads_busy] += look.busy;
        if (look.queued_most > value[GATE_COUNTER_queued_most])
            value[GATE_COUNTER_queued_most] = look.queued_most;
    }
}

static void collect(struct gate *gate, struct message_gate_report *ret)
{
    uint64_t *value = ret->value;
    memcpy(ret->bytes, gate->bytes, sizeof ret->bytes);
    memcpy(ret->latency, gate->latency, sizeof ret->latency);
    ret->queue_wait = gate->queue_wait;
    memcpy(value, gate->counts, sizeof gate->counts);
    value[GATE_COUNTER_connections] = gate->connection_count;
    value[GATE_COUNTER_connections_most] = gate_connection_most(gate);
    value[GATE_COUNTER_lent_deleted_bytes] = gate->reporting.lent_deleted_bytes;
    value[GATE_COUNTER_waiting] -= gate->reporting.tallying ? 1 : 0;
    collect_pools(gate, value);
    for (const struct gate_connection *it = gate->first; it; it = it->next) {
        value[GATE_COUNTER_lent_bytes] += it->lent_folder ? it->lent_size : 0;
        if (it->made > value[GATE_COUNTER_most_requests])
            value[GATE_COUNTER_most_requests] = it->made;
        if (!it->channel)
            continue;
        value[GATE_COUNTER_readers]++;
        uint64_t end = it->has_told ? gate_channels_end(it->channel, it->mode) : 0;
        if (end > it->next_seq && end - it->next_seq > value[GATE_COUNTER_slowest_lag])
            value[GATE_COUNTER_slowest_lag] = end - it->next_seq;
    }
}

static void arm_timer(struct gate *gate)
{
    const struct itimerspec second = {.it_value = {.tv_sec = 1}};
    if (!gate->reporting.armed && timerfd_settime(gate->reporting.timer, 0, &second, NULL) == 0)
        gate->reporting.armed = true;
}

void gate_report_later(struct gate *gate)
{
    /* Where no more connections are taken, it is tried again then, too. */
    if (gate->reporting.due || !gate->accepting || gate->lingering)
        arm_timer(gate);
}

void gate_report_tick(struct gate *gate)
{
    static struct message_gate_report now, before; /* large, and of one thread */
    uint64_t times;
    ssize_t result = read(gate->reporting.timer, &times, sizeof times);
    (void)result; /* it has run out, or this is one tick too many */
    now = (struct message_gate_report){0};
    before = gate->reporting.last;
    bool changed = gate->reporting.due;
    gate->reporting.armed = gate->reporting.due = false;
    collect(gate, &now);
    /* Also when it was told already, because the supervisor has asked. */
    if (changed &&
        (now.value[GATE_COUNTER_lent_bytes] > 0 || gate->reporting.lent_deleted_bytes > 0))
        start_tally(gate);
    if (memcmp(&now, &before, sizeof now) == 0)
        return;
    gate->reporting.last = now;
    if (!gate_supervisor_report(gate)) {
        gate->reporting.last = before; /* not told: again in a second */
        gate->reporting.due = true;
    }
}

void gate_report_now(struct gate *gate)
{
    gate->reporting.last = (struct message_gate_report){0};
    collect(gate, &gate->reporting.last);
    gate->reporting.asked = true;
    gate_supervisor_flush(gate);
}

/* ---- who reads ---- */

static void describe(const struct gate_connection *connection, struct read_reader_entry *ret)
{
    const struct gate_activity_rates rates = gate_activity_rates(connection, monotonic_now());
    *ret = (struct read_reader_entry){.number = connection->number,
                                      .uid = connection->uid,
                                      .pid = (uint32_t)connection->pid,
                                      .mode = connection->mode,
                                      .next_seq = connection->next_seq,
                                      .since_ns = connection->since_ns,
                                      .requests = connection->made,
                                      .bytes = connection->bytes,
                                      .requests_per_second = rates.requests,
                                      .bytes_per_second = rates.bytes};
    memcpy(ret->program, connection->program, sizeof ret->program);
    if (!connection->channel)
        return;
    snprintf(ret->channel, sizeof ret->channel, "%s", connection->channel->name);
    ret->end_seq = gate_channels_end(connection->channel, connection->mode);
}

void gate_report_readers(struct gate *gate, struct gate_connection *connection, uint32_t request,
                         uint64_t after)
{
    struct {
        struct read_readers head;
        struct read_reader_entry entries[READ_LIST_MAX];
    } answer = {0};
    for (const struct gate_connection *it = gate->first; it && answer.head.count < READ_LIST_MAX;
         it = it->next)
        if (it->number > after && !it->ended)
            describe(it, &answer.entries[answer.head.count++]);
    gate_answer(gate, connection, READ_READER_LIST, request, &answer,
                sizeof answer.head + answer.head.count * sizeof answer.entries[0], NULL);
}
