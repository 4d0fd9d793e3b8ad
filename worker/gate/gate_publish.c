/* SPDX-License-Identifier: MIT */
/* Who may write into which channel; the outbox itself is made by the supervisor. Called by the main
 * loop. Must never keep a copy of what a publisher is lent: while somebody has its bell, nobody
 * sees it die. */
#include "worker/gate/gate_publish.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/outbox.h"
#include "worker/gate/gate_answer.h"
#include "worker/gate/gate_channels.h"
#include "worker/gate/gate_connection.h"
#include "worker/gate/gate_supervisor.h"

#define EVERYBODY UINT32_MAX
/* Most users have no more groups; of those who have, a list is made as long as the kernel says. */
#define GROUPS_USUAL 64

static bool contains(const gid_t *groups, socklen_t size, gid_t wanted)
{
    for (size_t i = 0; i < size / sizeof *groups; i++)
        if (groups[i] == wanted)
            return true;
    return false;
}

static bool is_in_long_list(int socket, socklen_t size, gid_t wanted)
{
    if (size > NGROUPS_MAX * sizeof(gid_t))
        return false;
    gid_t *groups = malloc(size);
    bool is_in = groups && getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0 &&
                 contains(groups, size, wanted);
    free(groups);
    return is_in;
}

/* As it was when it connected. */
static bool is_in_group(int socket, gid_t wanted)
{
    struct ucred peer;
    gid_t groups[GROUPS_USUAL];
    socklen_t size = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.gid == wanted)
        return true;
    size = sizeof groups;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0)
        return contains(groups, size, wanted);
    return errno == ERANGE && is_in_long_list(socket, size, wanted);
}

static bool may_publish(const struct gate_connection *connection,
                        const struct gate_channel *channel)
{
    return channel->publishers == EVERYBODY || connection->uid == 0 ||
           connection->uid == geteuid() || is_in_group(connection->fd, channel->publishers);
}

static void refuse_user(struct gate *gate, struct gate_connection *connection, uint32_t request,
                        const struct gate_channel *channel)
{
    char reason[READ_REASON_SIZE];
    snprintf(reason, sizeof reason,
             "publishers { group = ... } of the channel lets only members of group %u in",
             channel->publishers);
    gate_answer_refuse(gate, connection, request, EACCES, reason);
}

void gate_publish(struct gate *gate, struct gate_connection *connection, uint32_t request,
                  const struct read_publish *wanted)
{
    const struct gate_channel *channel = gate_channels_find(gate, wanted->channel);
    if (!channel) {
        gate_answer_refuse(gate, connection, request, ENOENT, "there is no such channel");
        return;
    }
    if (!channel->publishes) {
        gate_answer_refuse(gate, connection, request, EOPNOTSUPP,
                           "the channel takes UDP: listen = \"local:NAME\" lets programs write");
        return;
    }
    if (!may_publish(connection, channel)) {
        refuse_user(gate, connection, request, channel);
        return;
    }
    struct message_publish publish = {.turn = gate_supervisor_turn(gate, connection),
                                      .uid = connection->uid,
                                      .pid = (uint32_t)connection->pid};
    snprintf(publish.channel, sizeof publish.channel, "%s", channel->name);
    snprintf(publish.name, sizeof publish.name, "%s", connection->program);
    if (!gate_supervisor_publish(gate, &publish)) {
        gate_answer_refuse(gate, connection, request, ENOMEM, "out of memory");
        return;
    }
    connection->busy = true;
    connection->turn = publish.turn;
    connection->turn_publishes = true;
    connection->turn_request = request;
}

struct gate_connection *gate_publish_answered(struct gate *gate,
                                              const struct message_published *published,
                                              int fds[READ_FDS_MAX])
{
    uint64_t id = 0;
    struct gate_connection *connection = gate_supervisor_answered(gate, published->turn, true);
    if (connection && connection->ended) {
        gate_connection_settle(gate, connection);
        connection = NULL; /* who asked is gone: and so is its end of the bell, with this message */
    }
    if (!connection)
        return NULL;
    if (published->error)
        gate_answer_refuse(gate, connection, connection->turn_request, published->error,
                           published->reason[0] ? published->reason : strerror(published->error));
    else if (pread(fds[1], &id, sizeof id, offsetof(struct outbox_answer, id)) != sizeof id)
        gate_answer_refuse(gate, connection, connection->turn_request, EIO,
                           "the outbox is not what it should be");
    else
        gate_answer_published(gate, connection, connection->turn_request, id, fds);
    return connection;
}
