/* SPDX-License-Identifier: MIT */
/* Has a thread find a range's files, and hands out what it has found: one of them, or all records
 * as bytes. Called by the main loop, but for run_range(). */
#include "worker/gate/gate_ranges.h"

#include <errno.h>
#include <stdlib.h>

#include "worker/gate/gate_activity.h"
#include "worker/gate/gate_answer.h"
#include "worker/gate/gate_channels.h"
#include "worker/gate/gate_folder.h"
#include "worker/gate/gate_pool.h"
#include "worker/gate/gate_range.h"
#include "worker/gate/gate_sending.h"
#include "worker/gate/gate_work.h"

struct range_work {
    struct gate_work work; /* first */
    struct read_range wanted;
    struct gate_range *range;
    struct read_range_lent lent;
    int fd; /* FDPASS: of the file */
};

static void run_range(struct gate_job *job)
{
    struct range_work *it = (struct range_work *)job;
    it->work.result = it->wanted.how == READ_FDPASS
                          ? gate_range_find_piece(it->range, &it->wanted, &it->lent, &it->fd)
                          : gate_range_begin(it->range, &it->wanted);
}

static void finish_range(struct gate *gate, struct gate_connection *connection,
                         struct gate_work *work)
{
    struct range_work *it = (struct range_work *)work;
    if (connection && it->wanted.how != READ_FDPASS) {
        gate_sending_begin_range(gate, connection, work->request, &it->lent, &it->range);
        return;
    }
    gate_range_free(gate, &it->range);
    if (connection) {
        gate_count(gate, GATE_COUNTER_objects_lent);
        gate_answer(gate, connection, READ_RANGE_LENT, work->request, &it->lent, sizeof it->lent,
                    &it->fd);
        if (!connection->lending_failed)
            gate_activity_hands_out(gate, connection, GATE_MODE_FD, it->lent.length);
    } else if (it->fd >= 0) {
        gate_pool_close_fd(&gate->pool, &it->fd);
    }
}

static void ask_thread(struct gate *gate, struct gate_connection *connection, uint32_t request,
                       struct gate_channel *channel, const struct read_range *wanted)
{
    static const struct gate_reason reasons[] = {
        {ENOENT, "there are no such records"},
        {EAGAIN, "it is being written, and nobody says how far it may be read: ask again"},
        {EBUSY, "too many ranges are being sent just now: ask again"},
        {ENOMEM, "out of memory"},
        {EBADMSG, "a file that should have some of them is no log file"},
        {0, NULL},
    };
    struct gate_range *range;
    int result = gate_range_new(gate, channel, wanted->how != READ_FDPASS, &range);
    if (result < 0) {
        gate_answer_refuse_for(gate, connection, request, result, reasons);
        return;
    }
    struct range_work *it = gate_work_new(gate, connection, request, sizeof *it, channel);
    if (!it) {
        gate_range_free(gate, &range);
        return;
    }
    it->work.job.run = run_range;
    it->work.reasons = reasons;
    it->work.finish = finish_range;
    it->wanted = *wanted;
    it->lent.next_first_seq = UINT64_MAX;
    it->fd = -1;
    it->range = range;
    gate_work_submit(gate, connection, &it->work);
}

void gate_ranges_serve(struct gate *gate, struct gate_connection *connection, uint32_t request,
                       const struct read_range *wanted)
{
    struct gate_channel *channel = gate_channels_find(gate, wanted->channel);
    const bool is_piece = wanted->how == READ_FDPASS;
    if (!channel)
        gate_answer_refuse(gate, connection, request, ENOENT, "there is no such channel");
    else if (wanted->how < READ_FDPASS || wanted->how > READ_SPLICE ||
             (is_piece && wanted->by != READ_BY_SEQ && wanted->by != READ_AFTER))
        gate_answer_refuse(gate, connection, request, EINVAL,
                           "there is no such way to ask for records");
    else if (wanted->first > wanted->last)
        gate_answer_refuse(gate, connection, request, EINVAL, "the range ends before it begins");
    else
        ask_thread(gate, connection, request, channel, wanted);
}
