/* SPDX-License-Identifier: MIT */
/* Hands out log files as they are: at once where that takes nothing from a disk, else through the
 * pool. Called by the main loop, but for run_open(). */
#include "worker/gate/gate_objects.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "common/avro_log_name.h"
#include "worker/gate/gate_activity.h"
#include "worker/gate/gate_answer.h"
#include "worker/gate/gate_channels.h"
#include "worker/gate/gate_find.h"
#include "worker/gate/gate_folder.h"
#include "worker/gate/gate_hot.h"
#include "worker/gate/gate_pool.h"
#include "worker/gate/gate_sending.h"
#include "worker/gate/gate_work.h"

struct object_work {
    struct gate_work work; /* first */
    struct read_object wanted;
    struct gate_hot_object found;
    int fd;
};

static const struct gate_reason reasons[] = {
    {ENOENT, "there is no such log file"},
    {EAGAIN, "it is just being sealed, or its folder changes all the time: ask again"},
    {EINVAL, "that is no log file's name of this channel"},
    {0, NULL},
};

static void run_open(struct gate_job *job)
{
    struct object_work *it = (struct object_work *)job;
    struct stat status;
    it->work.result = gate_find_object(it->work.folder, &it->wanted, &it->found.lent, &it->fd);
    if (it->work.result < 0)
        return;
    it->found.local = gate_hot_is_local(it->fd) && fstat(it->fd, &status) == 0;
    it->found.device = it->found.local ? status.st_dev : 0;
}

/* ---- files that are not what their names say yet ---- */

/* Totals are in its header: the archive has read it through, cut it off and has yet to bring it to
 * the disk and rename it. Only where the recorder says that this is where it ended: after a power
 * cut there may be totals in a file that has lost something. */
static bool is_sealed_inside(const struct gate_view *view, const struct read_object_lent *lent)
{
    return lent->about.has_totals && view->has_commit && view->commit.finished_id == lent->id &&
           view->commit.finished_length == lent->about.size;
}

/* 0; -ENODATA: that number comes later; -EAGAIN: it is about to get that name; -ENOENT. */
static int settle(const struct gate *gate, struct object_work *it)
{
    const struct gate_channel *channel = gate_channels_find(gate, it->wanted.channel);
    struct read_object_lent *lent = &it->found.lent;
    struct gate_view view = {0};
    if (!lent->about.is_open)
        return 0;
    if (channel)
        gate_channels_view(channel, &view);
    if (is_sealed_inside(&view, lent)) {
        gate_find_seal_name(lent->about.name);
        lent->about.is_open = 0;
        return 0;
    }
    if (it->wanted.by == READ_BY_NAME &&
        !avro_log_name_ends_in(it->wanted.name, AVRO_LOG_OPEN_SUFFIX))
        return lent->about.has_totals ? -EAGAIN : -ENOENT;
    if (it->wanted.by == READ_BY_SEQ && view.has_commit && view.commit.segment_id == lent->id &&
        it->wanted.seq >= view.commit.next_seq)
        return -ENODATA;
    return 0;
}

/* ---- one request ---- */

/* The file is taken over. */
static void hand_out(struct gate *gate, struct gate_connection *connection, uint32_t request,
                     const struct read_object *wanted, struct gate_hot_object *object, int *fd)
{
    if (wanted->how == READ_DESCRIBE) {
        gate_pool_close_fd(&gate->pool, fd);
        gate_answer(gate, connection, READ_OBJECT_LENT, request, &object->lent, sizeof object->lent,
                    NULL);
        return;
    }
    if (wanted->how != READ_FDPASS) {
        gate_sending_begin(gate, connection, request, wanted, object, fd);
        return;
    }
    connection->lends_local = object->local;
    gate_answer(gate, connection, READ_OBJECT_LENT, request, &object->lent, sizeof object->lent,
                fd);
    if (connection->lending_failed)
        return;
    gate_count(gate, GATE_COUNTER_objects_lent);
    gate_activity_hands_out(gate, connection, GATE_MODE_FD, object->lent.about.size);
}

static void finish_open(struct gate *gate, struct gate_connection *connection,
                        struct gate_work *work)
{
    struct object_work *it = (struct object_work *)work;
    int result = work->result == 0 ? settle(gate, it) : work->result;
    if (result == 0)
        gate_hot_note(gate, it->wanted.channel, &it->found);
    if (connection && result == 0)
        hand_out(gate, connection, work->request, &it->wanted, &it->found, &it->fd);
    else if (it->fd >= 0)
        gate_pool_close_fd(&gate->pool, &it->fd);
    if (connection && result == -ENODATA)
        gate_answer_refuse(gate, connection, work->request, ENOENT,
                           "that number is not recorded yet");
    else if (connection && result < 0)
        gate_answer_refuse_for(gate, connection, work->request, result, reasons);
}

static void ask_thread(struct gate *gate, struct gate_connection *connection, uint32_t request,
                       struct gate_channel *channel, const struct read_object *wanted)
{
    struct object_work *it = gate_work_new(gate, connection, request, sizeof *it, channel);
    if (!it)
        return;
    it->work.job.run = run_open;
    it->work.reasons = reasons;
    it->work.finish = finish_open;
    it->wanted = *wanted;
    it->fd = -1;
    gate_work_submit(gate, connection, &it->work);
}

void gate_objects_serve(struct gate *gate, struct gate_connection *connection, uint32_t request,
                        const struct read_object *wanted)
{
    struct gate_channel *channel = gate_channels_find(gate, wanted->channel);
    struct gate_hot_object object;
    int fd;
    if (!channel) {
        gate_answer_refuse(gate, connection, request, ENOENT, "there is no such channel");
        return;
    }
    if (wanted->by < READ_BY_SEQ || wanted->by > READ_BY_NAME || wanted->how < READ_FDPASS ||
        wanted->how > READ_DESCRIBE) {
        gate_answer_refuse(gate, connection, request, EINVAL,
                           "there is no such way to ask for a file");
        return;
    }
    if (wanted->by == READ_BY_NAME &&
        gate_hot_open(gate, channel, wanted->name, &object, &fd) == 0) {
        hand_out(gate, connection, request, wanted, &object, &fd);
        if (wanted->how == READ_FDPASS && !connection->lending_failed)
            gate_count(gate, GATE_COUNTER_objects_at_once);
    } else {
        ask_thread(gate, connection, request, channel, wanted);
    }
}
