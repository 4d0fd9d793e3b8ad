/* SPDX-License-Identifier: MIT */
/* Receives the inheritance and checks that each fd is what its name says, before anything is done
 * with it, segments aside. Called by main(), once per process.
 * Must never hand on a descriptor that is not what it is said to be. */
#include "worker/inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/channel_memory.h"
#include "common/channel_spec.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/read_wake.h"

static bool is_datagram_socket(int fd)
{
    int type = 0;
    socklen_t size = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_DGRAM;
}

/* NULL when every fd fits its name. Segments are not asked here: their file system may not answer,
 * and the relay does not wait for it; the recorder looks at them. */
static const char *check_fds(const struct inheritance *inheritance)
{
    if (!is_datagram_socket(inheritance->rx))
        return "rx is not a datagram socket";
    if (!channel_memory_is_ring(inheritance->memory.ring, &inheritance->geometry))
        return "the ring's size is not that of the settings";
    if (!channel_memory_is_private(inheritance->memory.private_part))
        return "the private memory is not what it is said to be";
    for (uint32_t i = 0; i < channel_spec_destination_count(inheritance->spec); i++)
        if (!is_datagram_socket(inheritance->destinations[i]))
            return "a destination is not a datagram socket";
    return NULL;
}

/* As the supervisor makes it: nobody can pull it away from under those who map it. */
static bool is_wake_memory(int fd)
{
    struct stat about;
    return fcntl(fd, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) &&
           fstat(fd, &about) == 0 && (uint64_t)about.st_size >= READ_WAKE_SIZE;
}

/* And nonblocking: a full one must keep nobody waiting. */
static bool is_bell(int fd)
{
    char itself[32], name[64];
    snprintf(itself, sizeof itself, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(itself, name, sizeof name - 1);
    name[length > 0 ? length : 0] = '\0';
    return strcmp(name, "anon_inode:[eventfd]") == 0 && (fcntl(fd, F_GETFL) & O_NONBLOCK);
}

static bool is_listening(int fd)
{
    int type = 0, listens = 0;
    socklen_t size = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens;
}

static int take_gate(struct message *message, struct inheritance *ret)
{
    ret->listening = fd_take(&message->fds[0]);
    ret->wake = fd_take(&message->fds[1]);
    ret->bell = fd_take(&message->fds[2]);
    if (is_listening(ret->listening) && is_wake_memory(ret->wake) && is_bell(ret->bell))
        return 0;
    log_error("assigned to be the gate, but what came along is not what it is said to be; leaving");
    return -EBADMSG;
}

/* Without them a channel runs as well, and nobody is woken. */
static void check_wake(struct inheritance *inheritance)
{
    if (inheritance->wake < 0 || (is_wake_memory(inheritance->wake) && is_bell(inheritance->bell)))
        return;
    log_error("channel %s: what readers are to be woken by is not what it is said to be; they are "
              "not woken",
              inheritance->spec->name);
    fd_close(&inheritance->wake);
    fd_close(&inheritance->bell);
}

static int take(struct message *message, struct inheritance *ret)
{
    *ret = (struct inheritance){.generation = message->header.generation,
                                .rx = -1,
                                .memory = {-1, -1},
                                .old_ring = -1,
                                .segment = -1,
                                .next_segment = -1,
                                .wake = -1,
                                .bell = -1,
                                .listening = -1,
                                .lock = -1};
    ret->assign = *message->assign;
    const struct channel_spec *spec = message_assign_spec(message->assign);
    if (ret->assign.role == ROLE_GATE)
        return take_gate(message, ret);
    if (!spec) {
        if (ret->assign.has_lock)
            ret->lock = fd_take(&message->fds[0]);
        return 0;
    }
    uint32_t destinations = channel_spec_destination_count(spec);
    ret->spec = malloc(ret->assign.spec_size);
    ret->destinations = calloc(destinations ? destinations : 1, sizeof *ret->destinations);
    if (!ret->spec || !ret->destinations)
        return -ENOMEM;
    memcpy(ret->spec, spec, ret->assign.spec_size);
    channel_geometry_compute(ret->spec, &ret->geometry);

    uint32_t at = 0; /* the order that message.def states */
    ret->rx = fd_take(&message->fds[at++]);
    ret->memory.ring = fd_take(&message->fds[at++]);
    ret->memory.private_part = fd_take(&message->fds[at++]);
    if (ret->assign.has_old_ring)
        ret->old_ring = fd_take(&message->fds[at++]);
    if (ret->assign.has_segment)
        ret->segment = fd_take(&message->fds[at++]);
    if (ret->assign.has_next)
        ret->next_segment = fd_take(&message->fds[at++]);
    if (ret->assign.has_wake) {
        ret->wake = fd_take(&message->fds[at++]);
        ret->bell = fd_take(&message->fds[at++]);
    }
    for (uint32_t i = 0; i < destinations; i++)
        ret->destinations[i] = fd_take(&message->fds[at++]);
    check_wake(ret);
    const char *what = check_fds(ret);
    if (what) {
        log_error("channel %s: assigned to it, but %s; leaving", ret->spec->name, what);
        return -EBADMSG;
    }
    return 0;
}

int inherit_wait(struct inheritance *ret)
{
    /* Once per process. Memory that was given back here would be unmapped while datagrams wait. */
    static struct message only_one;
    struct message *message = &only_one;
    const char *what;
    int result;
    for (;;) {
        result = message_receive(MESSAGE_FD, TO_CHILD, message, &what);
        if (result == -EBADMSG) {
            log_warning("refused a message from the supervisor: %s", what);
            continue;
        }
        if (result <= 0)
            break;
        if (message->header.type == MESSAGE_ASSIGN) {
            result = take(message, ret);
            if (result == 0)
                result = 1;
            break;
        }
        if (message->header.type == MESSAGE_STOP) {
            result = 0;
            break;
        }
        log_warning("%s came before ASSIGN; ignored", message_name(message->header.type));
        message_release(message);
    }
    if (result == 1)
        message_release(message);
    return result;
}
