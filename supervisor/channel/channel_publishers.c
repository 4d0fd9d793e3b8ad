/* SPDX-License-Identifier: MIT */
/* Admits publishers, lends their outboxes to whatever worker there is, and lets go of those that it
 * is done with. Called for the gate that asks, after ASSIGN, and for what workers say. Must never
 * let go of an outbox while a worker takes from it, but at a channel's end. */
#include "supervisor/channel/channel_publishers.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/channel/channel_ledger.h"
#include "supervisor/child/child.h"
#include "supervisor/hold/hold.h"
#include "supervisor/hold/hold_outboxes.h"
#include "supervisor/hold/store.h"

/* Who has broken the rules waits so long for another outbox: each costs work, and a line. */
#define CUT_OFF_NS NS_PER_S
/* Of one channel in a second: lines about its publishers, and new ones. */
#define TOLD_MOST     10
#define ADMITTED_MOST 50

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

/* Each costs memory, descriptors and a word with the service manager. */
static bool are_too_many_at_once(struct channel *channel)
{
    struct channel_publishers *publishers = &channel->publishers;
    monotonic now = monotonic_now();
    if (publishers->admitted_since.ns == 0 ||
        monotonic_since(now, publishers->admitted_since) >= NS_PER_S) {
        publishers->admitted = 0;
        publishers->admitted_since = now;
    }
    return publishers->admitted++ >= ADMITTED_MOST;
}

/* Of the places, one user leaves a quarter to others; root and the daemon's own need not. */
static bool has_its_share(const struct channel *channel, uint32_t uid)
{
    const uint32_t most = channel->spec->publishers.most;
    uint32_t has = 0;
    for (uint32_t place = 0; place < channel->hold.outbox_count; place++) {
        const struct hold_outbox *outbox = hold_outbox_at(&channel->hold, place);
        has += outbox && outbox->uid == uid;
    }
    return uid != 0 && uid != geteuid() && has >= most - most / 4;
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
        const struct hold_outbox *outbox = hold_outbox_at(hold, place);
        if (may_tell(channel))
            log_info("channel %s: publisher %s (%u, user %u) has ended", channel->spec->name,
                     outbox->name, outbox->pid, outbox->uid);
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
    if (are_too_many_at_once(channel))
        return refuse(ret, EBUSY, "too many programs come at once: ask again");
    const struct outbox_publisher publisher = {
        .uid = wanted->uid, .pid = wanted->pid, .name = wanted->name};
    drop_left(channel);
    if (has_its_share(channel, wanted->uid))
        return refuse(ret, EUSERS,
                      "this user has three quarters of its publishers { most } already: the rest "
                      "is for others");
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
    const struct message_outbox outbox = {.id = hold_outbox_at(&channel->hold, place)->id,
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
        const struct hold_outbox *outbox = hold_outbox_at(hold, place);
        if (!outbox || outbox->lent_to == channel->lent.generation)
            continue;
        if (atomic_load(&outbox->said->state) !=
            OUTBOX_OPEN) { /* its worker did not live to say why */
            log_error("channel %s: publisher %s (%u, user %u) was cut off by a worker that died",
                      channel->spec->name, outbox->name, outbox->pid, outbox->uid);
            note_cut_off(channel, outbox->uid);
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
                        channel->spec->name, outbox->name, outbox->pid, strerror(-error));
    }
}

void channel_publishers_done(struct channel *channel, const struct message_outbox_done *done)
{
    struct hold *hold = &channel->hold;
    const struct hold_outbox *outbox = hold_outbox_at(hold, done->place);
    if (!outbox || outbox->id != done->id || outbox->lent_to != channel->lent.generation)
        return; /* another one has its place */
    unsigned long long taken = atomic_load(&outbox->said->taken_count);
    if (done->cut_off) {
        note_cut_off(channel, outbox->uid);
        log_error("channel %s: publisher %s (%u, user %u) is cut off after %llu datagrams: %s",
                  channel->spec->name, outbox->name, outbox->pid, outbox->uid, taken, done->reason);
    } else if (may_tell(channel)) {
        log_info("channel %s: publisher %s (%u, user %u) has ended after %llu datagrams",
                 channel->spec->name, outbox->name, outbox->pid, outbox->uid, taken);
    }
    hold_outbox_drop(hold, done->place, done->cut_off ? OUTBOX_CUT_OFF : OUTBOX_ENDED);
    store_follow(&channel->stored);
}

/* Everything that was taken has been recorded and sealed. */
static bool is_all_durable(struct channel *channel)
{
    struct counters counters;
    uint64_t pending;
    const char *unsealed;
    channel_ledger_read(channel, &counters,
                        &pending); /* its ring is gone, as a rule: what it said */
    return channel->spec->record.enabled && pending == 0 &&
           counters.value[COUNTER_record_lost] == 0 && counters.value[COUNTER_unrecorded] == 0 &&
           archive_client_unsealed(channel->host->archive, channel->spec->name, &unsealed) == 0 &&
           !archive_client_is_to_seal(channel->host->archive, channel->spec->name);
}

void channel_publishers_dismiss(struct channel *channel)
{
    if (channel->hold.outbox_count == 0)
        return;
    bool durable = is_all_durable(channel);
    for (uint32_t place = 0; durable && place < channel->hold.outbox_count; place++)
        hold_outbox_say_durable(&channel->hold, place);
    hold_outboxes_close(&channel->hold);
}
