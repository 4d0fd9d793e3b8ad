/* SPDX-License-Identifier: MIT */
/* Hands requests to the pool, and what became of them back to who asked, if he is still there.
 * Called by the main loop. */
#include "worker/gate/gate_work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/gate_histogram.h"
#include "worker/gate/gate_activity.h"
#include "worker/gate/gate_answer.h"
#include "worker/gate/gate_connection.h"
#include "worker/gate/gate_folder.h"
#include "worker/gate/gate_pool.h"

void *gate_work_new(struct gate *gate, struct gate_connection *connection, uint32_t request,
                    size_t size, struct gate_channel *channel)
{
    struct gate_work *work = calloc(1, size);
    if (!work) {
        gate_answer_refuse(gate, connection, request, ENOMEM, "out of memory");
        return NULL;
    }
    work->pool = &gate->pool;
    work->slot = connection->slot;
    work->number = connection->number;
    work->request = request;
    if (channel) {
        work->folder = gate_folder_keep(channel->folder);
        work->job.place_busy = &channel->folder->busy;
    }
    return work;
}

static void let_go(struct gate_work *work)
{
    gate_folder_release(&work->folder);
    free(work);
}

void gate_work_submit(struct gate *gate, struct gate_connection *connection, struct gate_work *work)
{
    char reason[READ_REASON_SIZE];
    work->since = monotonic_now();
    if (!gate_pool_submit(work->pool, &work->job,
                          gate_connection_turn(gate, connection, work->pool))) {
        work->finish(gate, NULL, work);
        snprintf(reason, sizeof reason, "queue = %u: so many requests wait already: ask again",
                 gate->limits.queue);
        gate_answer_refuse(gate, connection, work->request, EBUSY, reason);
        let_go(work);
        return;
    }
    gate_count(gate, GATE_COUNTER_waiting);
    connection->busy = true;
    connection->work = work;
    gate_activity_waits(gate);
}

void gate_work_abandon(struct gate_connection *connection)
{
    struct gate_work *work = connection->work;
    connection->work = NULL;
    work->abandoned = true;
    gate_pool_forsake(work->pool, &work->job);
}

void gate_work_take(struct gate *gate, struct gate_pool *pool,
                    void (*go_on)(struct gate *, struct gate_connection *))
{
    for (struct gate_job *next, *job = gate_pool_take(pool); job; job = next) {
        struct gate_work *work = (struct gate_work *)job;
        struct gate_connection *connection = gate->connections[work->slot];
        next = job->next;
        gate->counts[GATE_COUNTER_waiting]--;
        if (connection && connection->number == work->number && connection->work == work)
            connection->work = NULL; /* also when it has just ended */
        connection = work->abandoned ? NULL : gate_connection_of(gate, work->slot, work->number);
        if (job->begun.ns)
            gate_histogram_add(&gate->queue_wait, monotonic_since(job->begun, job->submitted));
        bool refused = connection && work->result < 0 && work->reasons;
        if (refused)
            gate_answer_refuse_for(gate, connection, work->request, work->result, work->reasons);
        work->finish(gate, refused ? NULL : connection, work);
        let_go(work);
        if (connection)
            go_on(gate, connection);
    }
}
