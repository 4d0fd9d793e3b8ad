/* SPDX-License-Identifier: MIT */
/* Takes descriptors that a supervisor before this one held. Called at the start, once for each.
 * Must never trust a descriptor by its name alone. */
#include "supervisor/hold/hold_adopt.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common/channel_memory.h"
#include "common/channel_page.h"
#include "common/channel_page_v1.h"
#include "common/channel_spec.h"
#include "common/fd.h"
#include "supervisor/hold/hold_outboxes.h"
#include "supervisor/hold/hold_ring.h"
#include "supervisor/hold/hold_sockets.h"

static bool is_datagram_socket(int fd)
{
    int type = 0;
    socklen_t length = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_DGRAM;
}

static bool is_socket_for(int fd, const union socket_address *address, bool as_peer)
{
    union socket_address actual = {0};
    socklen_t length = sizeof actual;
    if (!is_datagram_socket(fd))
        return false;
    if ((as_peer ? getpeername(fd, &actual.any, &length) : getsockname(fd, &actual.any, &length)) <
        0)
        return false;
    if (actual.family != address->family)
        return false;
    if (actual.family == AF_INET6 && address->v6.sin6_scope_id == 0)
        actual.v6.sin6_scope_id = 0; /* the spec names the scope by its interface */
    return socket_address_equal(&actual, address);
}

/* It may be bound to what the settings were (hold_adopted_socket_suits()), and muted. */
static bool is_receiver(int fd)
{
    union socket_address own = {0}, peer;
    socklen_t length = sizeof own, peer_length = sizeof peer;
    return is_datagram_socket(fd) && getsockname(fd, &own.any, &length) == 0 &&
           (own.family == AF_INET || own.family == AF_INET6) &&
           (getpeername(fd, &peer.any, &peer_length) < 0 || hold_sockets_is_muted(fd));
}

static bool is_file(int fd)
{
    struct stat about;
    return fstat(fd, &about) == 0 && S_ISREG(about.st_mode) && about.st_ino != 0;
}

/* One that was made with other settings keeps its shape: what is in it is dealt with first. */
static bool adopt_shape(struct hold *hold, const struct channel_spec *spec, int fd)
{
    struct channel_shape shape;
    /* By what it says of itself: rings of other settings may be of the same size. One whose page is
     * damaged says nothing, and its worker will refuse it. */
    if (hold->page || !channel_memory_find_shape(fd, spec->name, &shape))
        return channel_memory_is_ring(fd, &hold->geometry);
    hold->shape = shape;
    channel_shape_geometry(&shape, &hold->geometry);
    return true;
}

static bool deserves(struct hold *hold, const struct channel_spec *spec, const int *place,
                     int destination, int fd)
{
    if (destination >= 0)
        return is_socket_for(fd, &spec->destinations[destination].to, true);
    if (place == &hold->rx)
        return is_receiver(fd);
    if (place == &hold->ring)
        return adopt_shape(hold, spec, fd);
    if (place == &hold->private_part)
        return channel_memory_is_private(fd);
    if (place == &hold->old_ring)
        return channel_page_v1_is_one(fd, &hold->geometry);
    if (hold_outbox_deserves(hold, place, fd))
        return true;
    if (place == &hold->history)
        return fcntl(fd, F_GET_SEALS) == HOLD_MEMORY_SEALS;
    return (place == &hold->segment || place == &hold->next) && spec->record.enabled && is_file(fd);
}

/* Both halves of the memory are there: look at it. */
static int map_ring(struct hold *hold)
{
    if (hold->ring < 0 || hold->private_part < 0 || hold->page)
        return 0;
    return hold_ring_map(hold);
}

int hold_adopt(struct hold *hold, const struct channel_spec *spec, const char *name, int fd)
{
    int destination;
    int *place = hold_place_named(hold, name, &destination);
    /* A supervisor of an older version called its ring by the same name. */
    if (place == &hold->ring && channel_page_v1_is_one(fd, &hold->geometry))
        place = &hold->old_ring;
    if (!place || *place >= 0 || !deserves(hold, spec, place, destination, fd))
        return -EINVAL;
    if (fd_set_cloexec(fd) < 0)
        return -EINVAL;
    *place = fd;
    if (map_ring(hold) < 0) {
        *place = -1;
        return -EINVAL;
    }
    hold_ring_adopt_drops(hold);
    return 0;
}

/* Of a channel with publishers: bound to nothing. */
static bool is_stand_in(int rx)
{
    union socket_address own = {0};
    socklen_t length = sizeof own;
    return rx >= 0 && getsockname(rx, &own.any, &length) == 0 && own.family == AF_INET &&
           own.v4.sin_port == 0;
}

bool hold_adopted_socket_suits(const struct hold *hold, const struct channel_spec *spec)
{
    if (channel_spec_is_local(spec))
        return is_stand_in(hold->rx);
    return hold->rx >= 0 && is_socket_for(hold->rx, &spec->listen, false) &&
           !hold_sockets_is_muted(hold->rx) && !hold_sockets_have_other_settings(hold, spec);
}
