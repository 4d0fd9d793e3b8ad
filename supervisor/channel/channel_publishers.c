/* SPDX-License-Identifier: MIT */
/* Admits publishers, lends their outboxes to whatever worker there is, and lets go of those that it
 * is done with. Called for the gate that asks, after ASSIGN, and for what workers say. Must never
 * let go of an outbox while a worker takes from it, but at a channel's end. */
#include "supervisor/channel/channel_publishers.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "supervisor/child/child.h"
#include "supervisor/hold/hold.h"
#include "supervisor/hold/hold_outboxes.h"
#include "supervisor/hold/store.h"

/* Who has broken the rules waits so long for another outbox: each costs work, and a line. */
#define CUT_OFF_NS NS_PER_S
/* Lines of one channel's publishers in a second. */
#define TOLD_MOST 10

/* A program that comes and goes all the time must not fill the log. */
static bool may_tell(struct channel *channel)
{
    struct channel_publishers *publishers = &channel->publishers;
    monotonic now = monotonic_now();
    if (publishers->told_since.ns == 0 ||
        monotonic_since(now, publishers->told_since) >= NS_PER_S) {
        if (publishers->untold > 0)
            log_info("channel %s: %u more lines about its publishers were left out",
                     channel->spec->name, publishers->untold);
        publishers->told = publishers->untold = 0;
        publishers->told_since = now;
    }
    if (publishers->told++ < TOLD_MOST)
        return true;
    publishers->untold++;
    return false;
}

static void note_cut_off(struct channel *channel, uint32_t uid)
{
    struct channel_publishers *publishers = &channel->publishers;
    uint32_t at = publishers->next_cut_off++ % PUBLISHERS_CUT_OFF;
    publishers->cut_off[at].uid = uid;
    publishers->cut_off[at].until = monotonic_add(monotonic_now(), CUT_OFF_NS);
}

static bool was_cut_off(const struct channel *channel, uint32_t uid)
{
    const struct channel_publishers *publishers = &channel->publishers;
    monotonic now = monotonic_now();
    for (int i = 0; i < PUBLISHERS_CUT_OFF; i++)
        if (publishers->cut_off[i].uid == uid && publishers->cut_off[i].until.ns > now.ns)
            return true;
    return false;
}

static int refuse(struct message_published *ret, int error, const char *reason)
{
    ret->error = error;
    snprintf(ret->reason, sizeof ret->reason, "%s", reason);
    return -error;
}

/* While there is no worker, nobody sees publishers go: a program that is started over and over
 * would use up all places. */
static void drop_left(struct channel *channel)
{
    struct hold *hold = &channel->hold;
    for (uint32_t place = 0; place < hold->outbox_count && !channel->lent.worker; place++) {
        if (!hold_outbox_is_left(hold, place))
            continue;
        const struct outbox_answer *said = hold_outbox_said(hold, place);
        if (may_tell(channel))
            log_info("channel %s: publisher %s (%u, user %u) has ended", channel->spec->name,
                     said->name, said->pid, said->uid);
        hold_outbox_drop(hold, place, OUTBOX_ENDED);
    }
}

static int admit(struct channel *channel, const struct message_publish *wanted,
                 struct message_published *ret, int ret_fds[OUTBOX_FDS])
{
    char why[sizeof ret->reason];
    if (!channel || channel->former.removed)
        return refuse(ret, ENOENT, "there is no such channel");
    if (channel->host->phase >= PHASE_STOPS)
        return refuse(ret, ESHUTDOWN, "the daemon stops");
    if (!channel_spec_is_local(channel->spec) || channel->hold.outbox_count == 0)
        return refuse(ret, EOPNOTSUPP,
                      "it receives UDP: only a channel with listen = \"local:NAME\" can be "
                      "published to");
    if (was_cut_off(channel, wanted->uid))
        return refuse(ret, EBUSY,
                      "a publisher of this user was cut off a moment ago: wait a second");
    const struct outbox_publisher publisher = {
        .uid = wanted->uid, .pid = wanted->pid, .name = wanted->name};
    drop_left(channel);
    int place =
        hold_outbox_make(&channel->hold, channel->spec, &publisher, ret_fds, why, sizeof why);
    return place < 0 ? refuse(ret, -place, why) : place;
}

void channel_publishers_admit(struct channel *channel, const struct message_publish *wanted,
                              struct message_published *ret, int ret_fds[OUTBOX_FDS])
{
    *ret = (struct message_published){.turn = wanted->turn};
    for (uint32_t i = 0; i < OUTBOX_FDS; i++)
        ret_fds[i] = -1;
    if (admit(channel, wanted, ret, ret_fds) < 0) {
        if (channel && may_tell(channel))
            log_info("channel %s: %s (%u, user %u) may not publish: %s", wanted->channel,
                     wanted->name, wanted->pid, wanted->uid, ret->reason);
        return;
    }
    if (may_tell(channel))
        log_info("channel %s: %s (%u, user %u) publishes", wanted->channel, wanted->name,
                 wanted->pid, wanted->uid);
    store_follow(&channel->stored);
    channel_publishers_lend(channel);
}

static int lend(struct channel *channel, uint32_t place)
{
    const struct message_outbox outbox = {.id = hold_outbox_said(&channel->hold, place)->id,
                                          .place = place};
    int fds[OUTBOX_FDS];
    hold_outbox_fds(&channel->hold, place, fds);
    return child_send(channel->lent.worker, MESSAGE_OUTBOX, &outbox, sizeof outbox, fds,
                      OUTBOX_FDS);
}

void channel_publishers_lend(struct channel *channel)
{
    struct hold *hold = &channel->hold;
    if (!channel->lent.worker || channel->lent.never_began || !channel_spec_is_local(channel->spec))
        return;
    for (uint32_t place = 0; place < hold->outbox_count; place++) {
        const struct outbox_answer *said = hold_outbox_said(hold, place);
        if (!said || hold->outboxes[place].lent_to == channel->lent.generation)
            continue;
        if (atomic_load(&said->state) != OUTBOX_OPEN) { /* its worker did not live to say why */
            log_error("channel %s: publisher %s (%u, user %u) was cut off by a worker that died",
                      channel->spec->name, said->name, said->pid, said->uid);
            note_cut_off(channel, said->uid);
            hold_outbox_drop(hold, place, OUTBOX_CUT_OFF);
            store_follow(&channel->stored);
            continue;
        }
        int error = lend(channel, place);
        if (error == 0)
            hold->outboxes[place].lent_to = channel->lent.generation;
        else if (error != -EPIPE)
            log_warning("channel %s: its worker can't be lent the outbox of %s (%u): %s; it is "
                        "tried again",
                        channel->spec->name, said->name, said->pid, strerror(-error));
    }
}

void channel_publishers_done(struct channel *channel, const struct message_outbox_done *done)
{
    struct hold *hold = &channel->hold;
    const struct outbox_answer *said = hold_outbox_said(hold, done->place);
    if (!said || said->id != done->id ||
        hold->outboxes[done->place].lent_to != channel->lent.generation)
        return; /* another one has its place */
    unsigned long long taken = atomic_load(&said->taken_count);
    if (done->cut_off) {
        note_cut_off(channel, said->uid);
        log_error("channel %s: publisher %s (%u, user %u) is cut off after %llu datagrams: %s",
                  channel->spec->name, said->name, said->pid, said->uid, taken, done->reason);
    } else if (may_tell(channel)) {
        log_info("channel %s: publisher %s (%u, user %u) has ended after %llu datagrams",
                 channel->spec->name, said->name, said->pid, said->uid, taken);
    }
    hold_outbox_drop(hold, done->place, done->cut_off ? OUTBOX_CUT_OFF : OUTBOX_ENDED);
    store_follow(&channel->stored);
}

void channel_publishers_dismiss(struct channel *channel)
{
    hold_outboxes_close(&channel->hold);
}
