/* SPDX-License-Identifier: MIT */
/* Who may move which position. Files are read by threads, and written by the archive, which the
 * supervisor asks. Called by the main loop. Two readers must never have one position, and nobody
 * another user's; only root and the daemon's own user may do anything. */
#include "worker/gate/gate_positions.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/channel_spec.h"
#include "common/monotonic.h"
#include "common/position_file.h"
#include "worker/gate/gate_answer.h"
#include "worker/gate/gate_claims.h"
#include "worker/gate/gate_connection.h"
#include "worker/gate/gate_position_files.h"
#include "worker/gate/gate_supervisor.h"
#include "worker/gate/gate_work.h"

static bool may_have(const struct gate_connection *connection, uint32_t owner)
{
    return connection->uid == owner || connection->uid == 0 || connection->uid == geteuid();
}

static const struct gate_reason reasons[] = {
    {EBADMSG,
     "the position's file is damaged: root or the daemon's user can forget it, and then it "
     "begins anew"},
    {EACCES, "another user's position: choose another name"},
    {EBUSY, "another reader has this position"},
    {ENOENT, "there is no such position"},
    {0, NULL},
};

static void refuse(struct gate *gate, struct gate_connection *connection, uint32_t request,
                   int result)
{
    gate_answer_refuse_for(gate, connection, request, result, reasons);
}

static void refuse_name(struct gate *gate, struct gate_connection *connection, uint32_t request,
                        const struct read_position *wanted)
{
    gate_answer_refuse(gate, connection, request, EINVAL,
                       channel_name_is_valid(wanted->channel)
                           ? "that is no position's name: letters, digits, _ and - (not first), 63 "
                             "at most"
                           : "that is no channel's name");
}

static bool is_claim_of(const struct gate_claim *claim, const struct read_position *position)
{
    return claim->owner && strcmp(claim->name, position->name) == 0 &&
           strcmp(claim->channel, position->channel) == 0;
}

/* Another connection has it, or is about to. */
static bool is_taken(const struct gate *gate, const struct gate_connection *connection,
                     const struct read_position *position)
{
    return gate_claims_are_held(gate, position->channel, position->name, connection);
}

/* ---- what the file says ---- */

struct position_work {
    struct gate_work work; /* first */
    const char *log_dir;
    struct read_position position;
    struct position_file file;
};

static void run_read(struct gate_job *job)
{
    struct position_work *it = (struct position_work *)job;
    it->work.result =
        gate_position_files_read(it->log_dir, it->position.channel, it->position.name, &it->file);
}

static void read_file(struct gate *gate, struct gate_connection *connection, uint32_t request,
                      const struct read_position *position,
                      void finish(struct gate *, struct gate_connection *, struct gate_work *))
{
    struct position_work *it = gate_work_new(gate, connection, request, sizeof *it, NULL);
    if (!it) {
        gate_claims_release(&connection->taking);
        return;
    }
    it->work.job.run = run_read;
    it->work.job.place_busy = &gate->positions_busy;
    it->work.finish = finish;
    it->log_dir = gate->log_dir;
    it->position = *position;
    gate_work_submit(gate, connection, &it->work);
    if (!connection->busy)
        gate_claims_release(&connection->taking);
}

/* ---- CLAIM ---- */

static void finish_claim(struct gate *gate, struct gate_connection *connection,
                         struct gate_work *work)
{
    struct position_work *it = (struct position_work *)work;
    if (!connection)
        return;
    bool known = work->result == 0;
    int result = work->result == -ENOENT ? 0 : work->result;
    if (known && !may_have(connection, it->file.uid))
        result = -EACCES;
    if (result == 0 && is_taken(gate, connection, &it->position))
        result = -EBUSY; /* by somebody who was faster */
    if (result < 0) {
        gate_claims_release(&connection->taking);
        refuse(gate, connection, work->request, result);
        return;
    }
    if (connection->taking.stale) { /* had, and changed, and let go of it */
        connection->taking.stale = false;
        read_file(gate, connection, work->request, &it->position, finish_claim);
        return;
    }
    if (known)
        connection->taking.uid = it->file.uid;
    gate_claims_settle(gate, connection);
    it->position.seq = known ? it->file.seq : 0;
    it->position.known = known;
    gate_answer(gate, connection, READ_POSITION, work->request, &it->position, sizeof it->position,
                NULL);
}

void gate_positions_claim(struct gate *gate, struct gate_connection *connection, uint32_t request,
                          const struct read_position *wanted)
{
    if (!channel_name_is_valid(wanted->channel) || !position_name_is_valid(wanted->name)) {
        refuse_name(gate, connection, request, wanted);
        return;
    }
    if (!connection->channel || strcmp(wanted->channel, connection->channel->name) != 0) {
        gate_answer_refuse(gate, connection, request, EINVAL,
                           "this connection is not attached to the position's channel");
        return;
    }
    if (is_taken(gate, connection, wanted)) {
        refuse(gate, connection, request, -EBUSY);
        return;
    }
    gate_claims_take(gate, connection, &connection->taking, wanted);
    read_file(gate, connection, request, wanted, finish_claim);
}

/* ---- SAVE and FORGET ---- */

/* Asks the archive, by way of the supervisor. 0 or -errno. */
static int ask(struct gate *gate, struct gate_connection *connection, uint32_t request,
               const struct message_position_save *save)
{
    struct message_position_save message = *save;
    message.turn = gate_supervisor_turn(gate, connection);
    message.saved_ns = (int64_t)realtime_now_ns();
    if (!gate_supervisor_save(gate, &message))
        return -ENOMEM;
    connection->busy = true;
    connection->turn = message.turn;
    connection->turn_publishes = false;
    connection->turn_request = request;
    connection->turn_answer = (struct read_position){.seq = message.seq, .known = !message.forget};
    memcpy(connection->turn_answer.channel, message.channel, sizeof message.channel);
    memcpy(connection->turn_answer.name, message.name, sizeof message.name);
    return 0;
}

static void fill_save(const struct read_position *position, struct message_position_save *ret)
{
    *ret = (struct message_position_save){.seq = position->seq};
    memcpy(ret->channel, position->channel, sizeof ret->channel);
    memcpy(ret->name, position->name, sizeof ret->name);
}

void gate_positions_save(struct gate *gate, struct gate_connection *connection, uint32_t request,
                         const struct read_position *wanted)
{
    struct message_position_save save;
    if (!is_claim_of(&connection->claim, wanted)) {
        gate_answer_refuse(gate, connection, request, EINVAL,
                           "this connection has not claimed that position");
        return;
    }
    fill_save(wanted, &save);
    save.uid = connection->claim.uid;
    int result = ask(gate, connection, request, &save);
    if (result < 0)
        refuse(gate, connection, request, result);
}

static void finish_forget(struct gate *gate, struct gate_connection *connection,
                          struct gate_work *work)
{
    struct position_work *it = (struct position_work *)work;
    struct message_position_save save;
    if (!connection)
        return;
    int result = work->result;
    if (result == 0 && !may_have(connection, it->file.uid))
        result = -EACCES;
    if (result == -EBADMSG) /* nobody knows whose it is */
        result = may_have(connection, 0) ? 0 : -EBADMSG;
    if (result == 0 && is_taken(gate, connection, &it->position))
        result = -EBUSY;
    fill_save(&it->position, &save);
    save.uid = work->result == 0 ? it->file.uid : connection->uid;
    save.forget = 1;
    if (result == 0) {
        connection->taking.firm = true;
        result = ask(gate, connection, work->request, &save);
    }
    if (result < 0) {
        gate_claims_release(&connection->taking);
        refuse(gate, connection, work->request, result);
    }
}

void gate_positions_forget(struct gate *gate, struct gate_connection *connection, uint32_t request,
                           const struct read_position *wanted)
{
    if (!channel_name_is_valid(wanted->channel) || !position_name_is_valid(wanted->name)) {
        refuse_name(gate, connection, request, wanted);
        return;
    }
    if (is_taken(gate, connection, wanted)) {
        refuse(gate, connection, request, -EBUSY);
        return;
    }
    gate_claims_take(gate, connection, &connection->taking, wanted);
    read_file(gate, connection, request, wanted, finish_forget);
}

struct gate_connection *gate_positions_saved(struct gate *gate,
                                             const struct message_position_saved *saved)
{
    struct gate_connection *connection = gate_supervisor_answered(gate, saved->turn, false);
    if (!connection)
        return NULL;
    gate_claims_change(gate,
                       connection->turn_answer.known ? &connection->claim : &connection->taking);
    if (connection->ended) {
        gate_connection_settle(gate, connection);
        return NULL; /* who asked is gone */
    }
    gate_claims_release(&connection->taking);
    if (saved->error)
        gate_answer_refuse(gate, connection, connection->turn_request, saved->error,
                           saved->reason[0] ? saved->reason : strerror(saved->error));
    else
        gate_answer(gate, connection, READ_POSITION, connection->turn_request,
                    &connection->turn_answer, sizeof connection->turn_answer, NULL);
    return connection;
}

/* ---- POSITIONS ---- */

struct positions_work {
    struct gate_work work; /* first */
    const char *log_dir;
    struct read_list_positions wanted;
    struct {
        struct read_positions head;
        struct read_position_entry entries[READ_LIST_MAX];
    } answer;
};

static const struct gate_reason list_reasons[] = {{EINVAL, "that is no channel's name"}, {0, NULL}};

static void run_list(struct gate_job *job)
{
    struct positions_work *it = (struct positions_work *)job;
    it->work.result = gate_position_files_list(it->log_dir, &it->wanted, it->answer.entries);
}

static void finish_list(struct gate *gate, struct gate_connection *connection,
                        struct gate_work *work)
{
    struct positions_work *it = (struct positions_work *)work;
    if (!connection)
        return;
    it->answer.head.count = (uint32_t)work->result;
    for (int i = 0; i < work->result; i++) {
        struct read_position_entry *entry = &it->answer.entries[i];
        entry->in_use = gate_claims_are_held(gate, entry->channel, entry->name, NULL);
    }
    gate_answer(gate, connection, READ_POSITION_LIST, work->request, &it->answer,
                sizeof it->answer.head + (size_t)work->result * sizeof it->answer.entries[0], NULL);
}

void gate_positions_list(struct gate *gate, struct gate_connection *connection, uint32_t request,
                         const struct read_list_positions *wanted)
{
    struct positions_work *it = gate_work_new(gate, connection, request, sizeof *it, NULL);
    if (!it)
        return;
    it->work.job.run = run_list;
    it->work.job.place_busy = &gate->positions_busy;
    it->work.reasons = list_reasons;
    it->work.finish = finish_list;
    it->log_dir = gate->log_dir;
    it->wanted = *wanted;
    gate_work_submit(gate, connection, &it->work);
}
