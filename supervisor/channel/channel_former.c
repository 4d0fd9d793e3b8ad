/* SPDX-License-Identifier: MIT */
/* What a supervisor before this one held for a channel that the configuration no longer has, or at
 * a socket that it no longer names, is dealt with first: a worker receives what the old socket has
 * queued, records what is in the ring, and the segment is sealed. A socket that has changed is
 * opened when that is done. Called when a hold is restored, and by the state machine at its end. */
#include "supervisor/channel/channel_former.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/counters.h"
#include "common/fd.h"
#include "common/log.h"
#include "supervisor/channel/channel_ledger.h"
#include "supervisor/hold/hold_sockets.h"

#define SEGMENT_SIZE (64ull << 20) /* where none is held that tells */

struct channel_spec *channel_former_spec(const char *name)
{
    struct channel_spec *spec = calloc(1, channel_spec_size(0));
    if (!spec)
        return NULL;
    snprintf(spec->name, sizeof spec->name, "%s", name);
    spec->listen.v4 = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    spec->receive_buffer = 32 << 20;
    spec->ring_size = 32 << 20;
    spec->max_datagram = CHANNEL_DATAGRAM_MAX;
    spec->record = (struct record_spec){.enabled = 1,
                                        .segment_size = SEGMENT_SIZE,
                                        .sync_ns = NS_PER_S,
                                        .gather_ns = CHANNEL_GATHER_NS};
    return spec;
}

static void take_address(const struct channel *channel, struct channel_spec *own)
{
    union socket_address bound = {0};
    socklen_t length = sizeof bound;
    if (channel->hold.rx >= 0 && getsockname(channel->hold.rx, &bound.any, &length) == 0 &&
        bound.v4.sin_port != 0) {
        own->listen = bound;
        own->local[0] = '\0';
        own->publishers = (struct publishers_spec){0};
    }
    if (own->listen.family == AF_INET6)
        own->listen.v6.sin6_scope_id = 0; /* its interface may be another one by now */
}

/* What the hold tells about the settings that it was made with. */
static void take_settings(const struct channel *channel, struct channel_spec *own)
{
    const struct hold *hold = &channel->hold;
    own->ring_size = hold->shape.ring_size;
    own->max_datagram = hold->shape.max_datagram;
    own->receive_offload = hold->shape.receive_offload;
    own->ring_pages = hold->shape.ring_pages;
    /* The archive may not have told yet how its log stands: then it has no ring either. */
    own->record.enabled = hold->segment >= 0 || channel->former.recorded ||
                          (hold->page && atomic_load(&hold->page->private.records));
    if (hold->segment >= 0 && hold->segment_grant.size >= CHANNEL_SEGMENT_SIZE_MIN)
        own->record.segment_size = hold->segment_grant.size;
}

int channel_former_begin(struct channel *channel)
{
    struct channel_former *former = &channel->former;
    if (former->configured) /* spec is own: a second time would forget what is to follow */
        return -EALREADY;
    if (!former->removed) {
        size_t size = channel_spec_size(channel_spec_destination_count(channel->spec));
        free(former->own);
        former->own = malloc(size);
        if (!former->own)
            return -ENOMEM;
        memcpy(former->own, channel->spec, size);
        former->configured = channel->spec;
        channel->spec = former->own;
    } else {
        take_settings(channel, former->own);
    }
    take_address(channel, former->own);
    /* A worker has to have one, even if only the ring is left. */
    if (channel->hold.rx < 0)
        channel->hold.rx = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    hold_sockets_keep(&channel->hold);
    return 0;
}

bool channel_former_is_wanted(const struct channel *channel)
{
    return channel->life.wanted || (channel->former.configured && channel->former.wanted);
}

/* What is left of it is dealt with as if it were to stop: it never waits for a restart meanwhile.
 */
void channel_former_want(struct channel *channel)
{
    if (channel->former.configured)
        channel->former.wanted = true;
    else
        channel->life.wanted = true;
}

static void tell_removed(const struct channel *channel)
{
    const struct counters *all = &channel->ledger.carried;
    log_notice("channel %s: the configuration doesn't have it any more; what was left is dealt "
               "with: of %llu datagrams received since it began, %llu are recorded, %llu were "
               "lost before, and the kernel had dropped %llu. Its folder is kept",
               channel->spec->name, (unsigned long long)all->value[COUNTER_received],
               (unsigned long long)all->value[COUNTER_recorded],
               (unsigned long long)all->value[COUNTER_record_lost],
               (unsigned long long)all->value[COUNTER_kernel_dropped]);
}

bool channel_former_finish(struct channel *channel)
{
    struct channel_former *former = &channel->former;
    if (former->removed) {
        tell_removed(channel);
        fd_close(&channel->hold.history);
    }
    if (!former->configured)
        return false;
    channel->spec = former->configured;
    former->configured = NULL;
    return former->wanted;
}

bool channel_former_is_gone(const struct channel *channel)
{
    return channel->former.removed && channel->life.state == CHANNEL_STOPPED;
}
