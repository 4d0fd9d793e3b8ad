/* SPDX-License-Identifier: MIT */
/* Keeps a copy of the ledger's sums and of the obituaries in a sealed memfd, which is a place of
 * the hold: an upgrade hands it on, a service manager's store keeps it. Called when a ring is given
 * up and when a worker has died. Two slots take turns and each ends in a check, so that a
 * supervisor that is killed while it writes leaves the other one. Must never believe memory that
 * says anything else than its check. */
#include "supervisor/channel/channel_history.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/channel_page.h"
#include "common/channel_spec.h"
#include "common/death.h"
#include "common/fd.h"
#include "common/log.h"
#include "supervisor/child/obituary.h"
#include "supervisor/hold/hold.h"

#define HISTORY_MAGIC   0x686f6c64686973ull /* "holdhis" */
#define HISTORY_VERSION 3u

struct history_destination {
    char name[CHANNEL_NAME_SIZE];
    uint32_t use;  /* enum destination_use */
    uint32_t part; /* of the first two: lower and upper half of the ledger's unnoted_end; 0 else */
    struct destination_progress counts;  /* from rings that are gone */
    struct destination_progress present; /* from the one in use */
};

struct history_slot {
    uint64_t turn; /* the higher one counts; 0 = never written */
    uint32_t restarts;
    uint32_t obituary_count;
    uint32_t kept_stopped;   /* by an operator: not 0 */
    uint32_t records;        /* its configuration says so: not 0 */
    uint64_t retired_pair;   /* the ring that was carried last: not to be gone on with */
    struct counters carried; /* of rings that are gone */
    struct counters present; /* of the one in use: counts only if that can't be continued */
    struct history_destination destinations[CHANNEL_DESTINATIONS_MAX];
    struct obituary obituaries[OBITUARIES_KEPT]; /* oldest first */
    uint64_t check;                              /* over all that stands before */
};

struct history {
    uint64_t magic;
    uint32_t version;
    uint32_t size; /* sizeof this struct: another one is another version's */
    struct history_slot slots[2];
};

_Static_assert(sizeof(struct history_slot) % 8 == 0, "it is checked in words");

static uint64_t check_of(const struct history_slot *slot)
{
    const uint8_t *bytes = (const uint8_t *)slot;
    uint64_t mix = 0x9e3779b97f4a7c15ull, word;
    for (size_t at = 0; at < offsetof(struct history_slot, check); at += sizeof word) {
        memcpy(&word, bytes + at, sizeof word);
        mix = (mix ^ word) * 0xff51afd7ed558ccdull;
        mix ^= mix >> 32;
    }
    return mix;
}

/* ---- reading ---- */

static const struct history_slot *newest_slot(const struct history *history)
{
    const struct history_slot *newest = NULL;
    for (int i = 0; i < 2; i++) {
        const struct history_slot *slot = &history->slots[i];
        if (slot->turn && check_of(slot) == slot->check && (!newest || slot->turn > newest->turn))
            newest = slot;
    }
    return newest;
}

/* present: was in the ring that is gone, and its page doesn't tell it. */
static void load_destination(struct channel *channel, const struct history_destination *from,
                             bool with_present)
{
    for (uint32_t i = 0; i < channel->hold.destination_count; i++)
        if (from->use == (uint32_t)channel_page_use_of(channel->spec, i) &&
            strncmp(from->name, channel->spec->destinations[i].name, CHANNEL_NAME_SIZE) == 0)
            channel->ledger.destinations[i] = (struct destination_progress){
                from->counts.sent + (with_present ? from->present.sent : 0),
                from->counts.dropped + (with_present ? from->present.dropped : 0),
                from->counts.repeated + (with_present ? from->present.repeated : 0)};
}

/* What a ring that is not continued counted: as its page tells, which was read by now, unless less
 * than was noted here or nothing. true: the page does. */
static bool settle_refused(struct channel *channel, const struct history_slot *slot)
{
    struct channel_ledger *ledger = &channel->ledger;
    if (channel->hold.page &&
        ledger->last_seen.value[COUNTER_received] >= slot->present.value[COUNTER_received])
        return true; /* the rest of it is settled when it is given up */
    ledger->last_seen = (struct counters){0};
    ledger->last_pending = 0;
    for (int i = 0; i < COUNTER_COUNT; i++)
        ledger->carried.value[i] += slot->present.value[i];
    return false;
}

/* Numbers that nothing but this may tell of. */
static void load_unnoted(struct channel_ledger *ledger, const struct history_slot *slot)
{
    uint64_t end = slot->destinations[0].part | (uint64_t)slot->destinations[1].part << 32;
    if (end > INT64_MAX)
        return;
    ledger->unnoted_end = end;
    if (end > ledger->seq_end)
        ledger->seq_end = end;
}

static void load(struct channel *channel, const struct history_slot *slot)
{
    struct obituary_list *list = &channel->obituaries;
    channel->ledger.retired_pair = slot->retired_pair;
    if (channel->hold.page && slot->retired_pair == channel->hold.page->public.pair) {
        /* Its supervisor died over giving it up, and may not have told its readers. */
        channel_page_retire(channel->hold.page, RING_REPLACED,
                            atomic_load(&channel->hold.page->public.published));
        hold_drop_ring(&channel->hold);
        channel->recording.restored = false;
    }
    bool ring_goes_on = channel->hold.page && !channel->lent.ring_refused;
    channel->ledger.restarts = slot->restarts;
    channel->life.kept_stopped = slot->kept_stopped != 0;
    channel->life.wanted = !channel->life.kept_stopped;
    channel->former.recorded = slot->records != 0;
    channel->ledger.carried = slot->carried;
    bool page_tells = ring_goes_on || settle_refused(channel, slot);
    load_unnoted(&channel->ledger, slot);
    for (int i = 0; i < CHANNEL_DESTINATIONS_MAX; i++)
        load_destination(channel, &slot->destinations[i], !page_tells);
    for (uint32_t i = 0; i < slot->obituary_count && i < OBITUARIES_KEPT; i++)
        obituary_add(list, &slot->obituaries[i]);
    channel->takeover.quarantined_before = slot->carried.value[COUNTER_quarantined];
}

/* ---- writing ---- */

static void read_present(const struct channel *channel, uint32_t index,
                         struct destination_progress *ret)
{
    int place = hold_find_destination(&channel->hold, channel->spec, index);
    if (place < 0 || !channel_page_read_destination(channel->hold.page, (uint32_t)place, ret))
        *ret = (struct destination_progress){0};
}

static void fill(const struct channel *channel, struct history_slot *slot)
{
    const struct channel_ledger *ledger = &channel->ledger;
    slot->restarts = ledger->restarts;
    slot->kept_stopped = channel->life.kept_stopped;
    slot->records = channel->spec->record.enabled;
    slot->carried = ledger->carried;
    slot->retired_pair = ledger->retired_pair;
    slot->present = ledger->last_seen;
    slot->present.value[COUNTER_record_lost] += ledger->last_pending; /* if it can't be continued */
    memset(slot->destinations, 0, sizeof slot->destinations);
    slot->destinations[0].part = (uint32_t)ledger->unnoted_end;
    slot->destinations[1].part = (uint32_t)(ledger->unnoted_end >> 32);
    for (uint32_t i = 0; i < channel->hold.destination_count; i++) {
        struct history_destination *to = &slot->destinations[i];
        snprintf(to->name, sizeof to->name, "%s", channel->spec->destinations[i].name);
        to->use = channel_page_use_of(channel->spec, i);
        to->counts = ledger->destinations[i];
        to->present = (struct destination_progress){0};
        if (channel->hold.page && channel->hold.page->public.pair != ledger->retired_pair)
            read_present(channel, i, &to->present);
    }
    slot->obituary_count = 0;
    for (uint64_t i = 0; i < OBITUARIES_KEPT; i++) {
        const struct obituary *obituary = obituary_by_age(&channel->obituaries, i);
        if (obituary)
            slot->obituaries[slot->obituary_count++] = *obituary;
    }
}

void channel_history_save(struct channel *channel)
{
    struct history *history = channel->history;
    if (!history)
        return;
    const struct history_slot *newest = newest_slot(history);
    struct history_slot *slot = &history->slots[newest == &history->slots[0] ? 1 : 0];
    uint64_t turn = newest ? newest->turn + 1 : 1;
    slot->turn = 0;
    atomic_signal_fence(memory_order_seq_cst);
    fill(channel, slot);
    slot->turn = turn;
    slot->check = check_of(slot);
}

/* ---- the memory ---- */

static int make(struct hold *hold, const char *channel)
{
    char name[64 + CHANNEL_NAME_SIZE];
    snprintf(name, sizeof name, "holdfast-history:%s", channel);
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, sizeof(struct history)) < 0 ||
        fcntl(fd, F_ADD_SEALS, HOLD_MEMORY_SEALS) < 0) {
        int error = errno;
        fd_close(&fd);
        return -error;
    }
    hold->history = fd;
    return 0;
}

static int map(struct channel *channel)
{
    struct stat about;
    if (fstat(channel->hold.history, &about) == 0 && about.st_size != sizeof(struct history)) {
        log_notice("channel %s: the history of the supervisor before is another version's; "
                   "counters, restarts and deaths begin anew",
                   channel->spec->name);
        fd_close(&channel->hold.history);
        int error = make(&channel->hold, channel->spec->name);
        if (error < 0)
            return error;
    }
    void *memory = mmap(NULL, sizeof(struct history), PROT_READ | PROT_WRITE, MAP_SHARED,
                        channel->hold.history, 0);
    if (memory == MAP_FAILED)
        return -errno;
    madvise(memory, sizeof(struct history), MADV_DONTFORK); /* what is started has no use for it */
    channel->history = memory;
    return 0;
}

static bool is_ours(const struct history *history)
{
    return history->magic == HISTORY_MAGIC && history->version == HISTORY_VERSION &&
           history->size == sizeof *history;
}

static void go_on(struct channel *channel)
{
    struct history *history = channel->history;
    const struct history_slot *newest = is_ours(history) ? newest_slot(history) : NULL;
    if (newest)
        load(channel, newest);
    if (is_ours(history))
        return; /* with nothing in it yet, perhaps */
    if (history->magic)
        log_notice("channel %s: the history of the supervisor before is none; counters, restarts "
                   "and deaths begin anew",
                   channel->spec->name);
    memset(history->slots, 0, sizeof history->slots);
    history->magic = HISTORY_MAGIC;
    history->version = HISTORY_VERSION;
    history->size = sizeof *history;
}

void channel_history_open(struct channel *channel)
{
    int error = channel->hold.history >= 0 ? 0 : make(&channel->hold, channel->spec->name);
    if (error == 0)
        error = map(channel);
    if (error < 0) {
        log_warning("channel %s: no memory for its history: %s; an upgrade will forget counters, "
                    "restarts and deaths",
                    channel->spec->name, strerror(-error));
        fd_close(&channel->hold.history);
        return;
    }
    go_on(channel);
    if (!channel->former.removed && channel->former.recorded != channel->spec->record.enabled)
        channel_history_save(channel);
}
