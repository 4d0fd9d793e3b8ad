/* SPDX-License-Identifier: MIT */
/* Looks after every channel from time to time: signs of life of workers, what takeovers cost, the
 * ledger and receive rates, retention. Called by the event loop alone. Must never take a worker for
 * hung because this process itself stood still. */
#include "supervisor/tick.h"

#include "common/log.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/channel/channel_deaths.h"
#include "supervisor/channel/channel_durability.h"
#include "supervisor/channel/channel_former.h"
#include "supervisor/channel/channel_hang.h"
#include "supervisor/channel/channel_ledger.h"
#include "supervisor/channel/channel_machine.h"
#include "supervisor/channel/channel_publishers.h"
#include "supervisor/channel/channel_reading.h"
#include "supervisor/channel/channel_recording.h"
#include "supervisor/channel/channel_ring.h"
#include "supervisor/channel/channel_segments.h"
#include "supervisor/channel/channel_silence.h"
#include "supervisor/child/spares.h"
#include "supervisor/gate/gate_client.h"
#include "supervisor/hold/membership.h"
#include "supervisor/hold/hold_destinations.h"
#include "supervisor/hold/store.h"
#include "supervisor/policy/receive_rate.h"
#include "supervisor/system/reaper.h"
#include "supervisor/system/timer.h"

#define TICK_NS   CHANNEL_HANG_LOOK_NS
#define SETTLE_NS (100 * NS_PER_MS) /* a successor has by then taken what waited for it */
/* At the ledger: what is known of a ring that is scribbled over later, and how fast it fills */
#define LOOK_EVERY_TICKS  4
#define FIRST_SWEEP_TICKS 20 /* after the start; then as often as retention is looked at */
#define EXPIRE_EVERY_NS   (60 * NS_PER_S)

static void look_at_ledger(struct channel *channel, monotonic now)
{
    struct counters counters;
    uint64_t pending;
    if (channel_ledger_read(channel, &counters, &pending))
        receive_rate_sample(&channel->ledger.rate, &counters, now);
}

/* Its socket is of no use any more: what it has is dealt with, then another one is opened. */
static void reopen(struct channel *channel)
{
    bool can_be = channel->life.state == CHANNEL_RUNNING || channel->life.state == CHANNEL_BACKOFF;
    if (!can_be || channel->host->phase != PHASE_RUNS || channel_former_begin(channel) < 0)
        return; /* the next look will try it */
    channel->former.wanted = true;
    channel_machine_handle(channel, CHANNEL_EVENT_STOP,
                           "its interface was made anew: a new socket is bound there");
}

static void look_at_network(struct channel *channel)
{
    /* A worker that is starting or ending can't be had to take another socket: it would keep the
     * stand-in while the destination is said to be up. */
    bool can_follow = channel->life.state == CHANNEL_RUNNING && channel->host->phase == PHASE_RUNS;
    if (hold_destinations_try_down(&channel->hold, channel->spec,
                                   can_follow || !channel->lent.worker) &&
        can_follow)
        channel_machine_handle(channel, CHANNEL_EVENT_RESTART,
                               "the socket of a destination can be had now");
    if (membership_look(&channel->hold, channel->spec))
        reopen(channel);
}

/* What its last worker has recorded. */
static void look_at_what_is_left(struct channel *channel, monotonic now)
{
    channel_durability_look(channel, now);
    channel_publishers_lend(channel);
    channel_segments_save_refused(channel);
    store_follow(&channel->stored);
}

/* Half of the names would make strays of the other half: all or none. */
static void sweep(const struct channels *channels)
{
    struct archive_client *archive = channels->host->archive;
    if (!archive->child || archive->child->queue)
        return; /* it is behind already, and will be asked again */
    for (size_t i = 0; i < channels->count; i++)
        if (channels->list[i]->spec->record.enabled &&
            archive_client_sweep(archive, channels->list[i]->spec->name, false) < 0)
            return;
    archive_client_sweep(archive, "", true);
}

/* Once for each silence. */
static void look_at_archive(struct tick *tick, monotonic now)
{
    bool silent = archive_client_silence(tick->channels->host->archive, now) > 0;
    if (silent && !tick->archive_told)
        log_error(
            "the archive has not answered for %llu s (%s). Channels relay, and record as long "
            "as they have a segment",
            (unsigned long long)(ARCHIVE_SILENCE_NS / NS_PER_S),
            archive_client_silence_cause(tick->channels->host->archive));
    else if (!silent && tick->archive_told)
        log_notice("the archive answers again");
    tick->archive_told = silent;
    archive_client_look(tick->channels->host->archive, now);
}

static int on_tick(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct tick *tick = userdata;
    const struct channels *channels = tick->channels;
    struct channel_host *host = channels->host;
    monotonic now = monotonic_now();
    (void)source;
    (void)time_us;

    bool look = ++tick->count % LOOK_EVERY_TICKS == 0;
    /* If this process itself was stopped (or the machine), so were the workers: give them time to
     * beat. */
    bool was_away =
        monotonic_since(now, tick->last) > TICK_NS + host->settings->hang_timeout_ns / 2;
    tick->last = now;
    bool expire = monotonic_since(now, tick->last_expire) >= EXPIRE_EVERY_NS;
    if (expire) {
        tick->last_expire = now;
        if (host->phase < PHASE_PARKS)
            archive_client_seal_failed_again(host->archive);
    }
    look_at_archive(tick, now);
    if (look) {
        spares_look(host->spares);
        gate_client_look(host->gate, now);
        reaper_look();
    }
    if (host->phase < PHASE_PARKS && (expire || ++tick->looks == FIRST_SWEEP_TICKS))
        sweep(channels);
    channels_lend_on(channels);
    for (size_t i = 0; i < channels->count; i++) {
        struct channel *channel = channels->list[i];
        if (channel->lent.worker && !was_away)
            channel_hang_look(channel, now);
        if (channel->life.state == CHANNEL_RUNNING &&
            monotonic_since(now, channel->life.restart.running_since) >= SETTLE_NS)
            channel_deaths_complete(channel);
        if (!channel->lent.worker)
            look_at_what_is_left(channel, now);
        channel_segments_look(channel);
        if (look) {
            look_at_ledger(channel, now);
            look_at_network(channel);
            channel_silence_look(channel, now);
            channel_reading_follow(channel);
            if (host->phase == PHASE_RUNS && channel_ring_wants_shape(channel))
                channel_machine_handle(channel, CHANNEL_EVENT_RESTART,
                                       "the ring gets the size of the settings");
        }
        if (expire && host->phase < PHASE_PARKS)
            channel_recording_clean_again(channel);
        if (expire && host->phase < PHASE_STOPS)
            archive_client_expire(host->archive, channel->spec->name, &channel->spec->record);
    }
    return timer_arm(&tick->timer, host->event, TICK_NS, on_tick, tick);
}

int tick_start(struct tick *tick, const struct channels *channels)
{
    monotonic now = monotonic_now();
    *tick = (struct tick){.channels = channels, .last = now, .last_expire = now};
    return timer_arm(&tick->timer, channels->host->event, TICK_NS, on_tick, tick);
}

void tick_stop(struct tick *tick)
{
    timer_disarm(&tick->timer);
}
