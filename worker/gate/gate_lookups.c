/* SPDX-License-Identifier: MIT */
/* Sends questions about log files to the pool, and what was found to who asked. Called by the main
 * loop, but for the run_ functions. */
#include "worker/gate/gate_lookups.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/client/holdfast.h"
#include "worker/gate/gate_answer.h"
#include "worker/gate/gate_channels.h"
#include "worker/gate/gate_find.h"
#include "worker/gate/gate_folder.h"
#include "worker/gate/gate_pool.h"
#include "worker/gate/gate_work.h"

const struct gate_reason gate_lookups_reasons[] = {
    {ENOENT, "there is no such log file"},
    {EAGAIN, "the folder changes all the time: ask again"},
    {EINVAL, "that is no log file's name of this channel"},
    {0, NULL},
};

/* ---- FIND ---- */

struct find_work {
    struct gate_work work; /* first */
    struct read_find wanted;
    int fd;
    uint64_t size;
    struct read_found found;
};

static void run_find(struct gate_job *job)
{
    struct find_work *find = (struct find_work *)job;
    find->work.result =
        gate_find_segment(find->work.folder, &find->wanted, &find->found, &find->size, &find->fd);
}

static void note_lent(struct gate *gate, struct gate_connection *connection,
                      const struct find_work *find)
{
    gate_folder_release(&connection->lent_folder);
    connection->lent_folder = gate_folder_keep(find->work.folder);
    connection->lent_id = find->found.id;
    connection->lent_size = find->size;
    memcpy(connection->lent_name, find->found.name, sizeof connection->lent_name);
    gate_count(gate, GATE_COUNTER_segments_lent);
}

static void finish_find(struct gate *gate, struct gate_connection *connection,
                        struct gate_work *work)
{
    struct find_work *find = (struct find_work *)work;
    if (!connection) {
        gate_pool_close_fd(&gate->pool, &find->fd);
    } else {
        note_lent(gate, connection, find);
        gate_answer(gate, connection, READ_SEGMENT_FOUND, work->request, &find->found,
                    sizeof find->found, &find->fd);
    }
}

void gate_lookups_find(struct gate *gate, struct gate_connection *connection, uint32_t request,
                       const struct read_find *wanted)
{
    if (!connection->channel) {
        gate_answer_refuse(gate, connection, request, connection->attached ? ENOENT : EINVAL,
                           connection->attached ? "the channel is gone"
                                                : "this connection is attached to no channel");
        return;
    }
    if (wanted->by < READ_BY_SEQ || wanted->by > READ_AFTER) {
        gate_answer_refuse(gate, connection, request, EINVAL,
                           "there is no such way to find a file");
        return;
    }
    struct find_work *find =
        gate_work_new(gate, connection, request, sizeof *find, connection->channel);
    if (!find)
        return;
    find->work.job.run = run_find;
    find->work.reasons = gate_lookups_reasons;
    find->work.finish = finish_find;
    find->wanted = *wanted;
    find->fd = -1;
    gate_work_submit(gate, connection, &find->work);
}

/* ---- SEGMENTS ---- */

struct segments_work {
    struct gate_work work; /* first */
    char after[SEGMENT_NAME_SIZE];
    struct {
        struct read_segments head;
        struct read_segment_entry entries[READ_LIST_MAX];
    } answer;
};

static void run_segments(struct gate_job *job)
{
    struct segments_work *it = (struct segments_work *)job;
    it->work.result = gate_find_page(it->work.folder, it->after, it->answer.entries);
}

static void finish_segments(struct gate *gate, struct gate_connection *connection,
                            struct gate_work *work)
{
    struct segments_work *it = (struct segments_work *)work;
    if (!connection)
        return;
    it->answer.head.count = (uint32_t)work->result;
    gate_answer(gate, connection, READ_SEGMENT_LIST, work->request, &it->answer,
                sizeof it->answer.head + (size_t)work->result * sizeof it->answer.entries[0], NULL);
}

void gate_lookups_segments(struct gate *gate, struct gate_connection *connection, uint32_t request,
                           const struct read_list_segments *wanted)
{
    struct gate_channel *channel = gate_channels_find(gate, wanted->channel);
    if (!channel) {
        gate_answer_refuse(gate, connection, request, ENOENT, "there is no such channel");
        return;
    }
    struct segments_work *it = gate_work_new(gate, connection, request, sizeof *it, channel);
    if (!it)
        return;
    it->work.job.run = run_segments;
    it->work.reasons = gate_lookups_reasons;
    it->work.finish = finish_segments;
    memcpy(it->after, wanted->after, sizeof it->after);
    gate_work_submit(gate, connection, &it->work);
}

/* ---- LIST ---- */

struct list_work {
    struct gate_work work; /* first */
    struct gate_folder *folders[READ_LIST_MAX];
    uint64_t live_end[READ_LIST_MAX];
    struct {
        struct read_channels head;
        struct read_channel entries[READ_LIST_MAX];
    } answer;
};

static void run_list(struct gate_job *job)
{
    struct list_work *list = (struct list_work *)job;
    for (uint32_t i = 0; i < list->answer.head.count; i++) {
        struct read_channel *entry = &list->answer.entries[i];
        if (gate_find_ends(list->folders[i], list->live_end[i], &entry->first_seq, &entry->end_seq))
            entry->can |= HF_CAN_OLD;
    }
}

static void finish_list(struct gate *gate, struct gate_connection *connection,
                        struct gate_work *work)
{
    struct list_work *list = (struct list_work *)work;
    for (uint32_t i = 0; i < list->answer.head.count; i++)
        gate_folder_release(&list->folders[i]);
    if (connection)
        gate_answer(gate, connection, READ_CHANNELS, work->request, &list->answer,
                    sizeof list->answer.head +
                        list->answer.head.count * sizeof list->answer.entries[0],
                    NULL);
}

/* What the folder doesn't tell. */
static void add_channel(struct list_work *list, const struct gate_channel *channel)
{
    uint32_t at = list->answer.head.count++;
    struct read_channel *entry = &list->answer.entries[at];
    snprintf(entry->name, sizeof entry->name, "%s", channel->name);
    snprintf(entry->listen, sizeof entry->listen, "%s", channel->listen);
    entry->can = HF_CAN_NEW | HF_CAN_NEWEST | (channel->records ? HF_CAN_OLD : 0) |
                 (channel->publishes ? HF_CAN_PUBLISH : 0);
    list->folders[at] = gate_folder_keep(channel->folder);
    list->live_end[at] = channel->records ? gate_channels_end(channel, HF_OLD) : 0;
}

void gate_lookups_list(struct gate *gate, struct gate_connection *connection, uint32_t request,
                       const struct read_list *wanted)
{
    struct list_work *list = gate_work_new(gate, connection, request, sizeof *list, NULL);
    if (!list)
        return;
    list->work.job.run = run_list;
    list->work.pool = &gate->wide;
    list->work.finish = finish_list;
    for (size_t at = gate_channels_find_after(gate, wanted->after);
         at < gate->channel_count && list->answer.head.count < READ_LIST_MAX; at++)
        add_channel(list, gate->channels[at]);
    gate_work_submit(gate, connection, &list->work);
}
