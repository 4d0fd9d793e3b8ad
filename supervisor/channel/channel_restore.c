/* SPDX-License-Identifier: MIT */
/* Gives channels back what a supervisor before this one held: descriptors from the service manager
 * or from an upgrade, and what the ring and the segment files tell about themselves. Called once,
 * before anything starts. Must never trust a restored descriptor by its name alone, and must give a
 * channel either a ring and segments that fit together or none. */
#include "supervisor/channel/channel_restore.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/avro_log_name.h"
#include "common/channel_page.h"
#include "common/channel_page_check.h"
#include "common/channel_page_v1.h"
#include "common/channel_spec.h"
#include "common/claim.h"
#include "common/fd.h"
#include "common/log.h"
#include "supervisor/channel/channel_former.h"
#include "supervisor/channel/channel_history.h"
#include "supervisor/channel/channel_ledger.h"
#include "supervisor/channel/channel_segments.h"
#include "supervisor/hold/hold.h"
#include "supervisor/hold/hold_adopt.h"
#include "supervisor/hold/hold_outboxes.h"
#include "supervisor/hold/hold_ring.h"
#include "supervisor/hold/store.h"

/* The name under which the archive knows the file; the kernel tells it without asking a disk. */
static bool read_segment_name(int fd, const char *channel, char ret_name[SEGMENT_NAME_SIZE])
{
    char link[32], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return false;
    path[length] = '\0';
    const char *name = strrchr(path, '/');
    /* Sealed already, or deleted: the kernel then appends " (deleted)". */
    if (!name || strlen(++name) >= SEGMENT_NAME_SIZE || !avro_log_name_is_of(name, channel) ||
        !avro_log_name_ends_in(name, AVRO_LOG_OPEN_SUFFIX))
        return false;
    snprintf(ret_name, SEGMENT_NAME_SIZE, "%s", name);
    return true;
}

/* The first bytes, if they are in memory: this process must not wait for a disk. */
static ssize_t read_start(int fd, void *buffer, size_t size)
{
    struct iovec part = {buffer, size};
    ssize_t length = preadv2(fd, &part, 1, 0, RWF_NOWAIT);
    if (length < 0 && (errno == EOPNOTSUPP || errno == EINVAL))
        length = pread(fd, buffer, size, 0); /* a file system in memory, or one that can't tell */
    return length;
}

/* Of the segment that the ring goes on in, its worker has noted what the header says: the file may
 * not be in memory, and a segment that were let go of then would be recovered with records that the
 * ring does not count as recorded, and records again. */
static bool restore_from_page(const struct channel *channel, struct segment_grant *ret,
                              bool *ret_begun)
{
    const struct channel_page *page = channel->hold.page;
    char begun_name[SEGMENT_NAME_SIZE];
    struct commit_progress commit;
    if (!page || !channel_page_read_commit(page, &commit) || commit.segment_id != ret->id ||
        !channel_page_find_segment(page, ret->id, ret->sync, ret->log_id))
        return false;
    avro_log_segment_name(channel->spec->name, commit.segment_first_seq, commit.segment_created_ns,
                          begun_name);
    *ret_begun = strcmp(begun_name, ret->name) == 0;
    return true;
}

/* Fill a grant from the file itself. A segment that nobody has begun has no header: it gets a new
 * sync marker. */
static bool restore_grant(const struct channel *channel, int fd, struct segment_grant *ret,
                          bool *ret_begun)
{
    uint8_t header[AVRO_LOG_HEADER_MAX];
    char begun_name[SEGMENT_NAME_SIZE];
    struct avro_log_identity identity;
    struct stat about;
    const char *what;

    *ret_begun = false;
    *ret = (struct segment_grant){0};
    if (!read_segment_name(fd, channel->spec->name, ret->name) || fstat(fd, &about) < 0)
        return false;
    ret->id = about.st_ino;
    ret->size = (uint64_t)about.st_size;
    if (restore_from_page(channel, ret, ret_begun))
        return true;
    ssize_t length = read_start(fd, header, sizeof header);
    if (length < 0)
        return false;
    if (avro_log_read_header(header, (size_t)length, &identity, &what) < 0)
        return getrandom(ret->sync, sizeof ret->sync, GRND_NONBLOCK) == sizeof ret->sync;
    if (strcmp(identity.channel, channel->spec->name) != 0)
        return false;
    memcpy(ret->sync, identity.sync, sizeof ret->sync);
    memcpy(ret->log_id, identity.log_id, sizeof ret->log_id);
    avro_log_segment_name(channel->spec->name, identity.first_seq, identity.created_ns, begun_name);
    *ret_begun = strcmp(begun_name, ret->name) == 0;
    return true;
}

static void let_go(const struct channel *channel, const char *what, int *fd)
{
    log_notice("channel %s: the %s of the supervisor before can't be continued (sealed, deleted, "
               "or not this channel's): "
               "a new one is made",
               channel->spec->name, what);
    fd_close(fd);
}

/* A segment that nobody has begun doesn't say which recording it is part of: the other one may. */
static void restore_log_id(struct segment_grant *grant, const struct segment_grant *other)
{
    if (!avro_log_id_is_known(grant->log_id))
        memcpy(grant->log_id, other->log_id, sizeof grant->log_id);
}

/* The log goes on at another number than this ring, whose supervisor died before it had another
 * one: nothing of it may come into a segment. */
static bool is_beside_its_log(const struct channel *channel)
{
    return channel->hold.page && !channel->recording.restored &&
           atomic_load(&channel->hold.page->private.unplaced) != 0;
}

/* Segments that can't be continued are the archive's to recover: it finds them by itself. None can
 * without its ring. */
static void restore_segments(struct channel *channel)
{
    struct hold *hold = &channel->hold;
    bool begun;
    if (hold->ring < 0 || is_beside_its_log(channel)) {
        fd_close(&hold->segment);
        fd_close(&hold->next);
        return;
    }
    if (hold->segment >= 0 &&
        !restore_grant(channel, hold->segment, &hold->segment_grant, &channel->recording.begun))
        let_go(channel, "segment", &hold->segment);
    if (hold->next >= 0 && !restore_grant(channel, hold->next, &hold->next_grant, &begun))
        let_go(channel, "next segment", &hold->next);
    if (hold->segment >= 0 && hold->next >= 0 && hold->segment_grant.id == hold->next_grant.id)
        fd_close(&hold->next); /* it had just become the current one */
    if (hold->segment >= 0 && hold->next >= 0) {
        restore_log_id(&hold->segment_grant, &hold->next_grant);
        restore_log_id(&hold->next_grant, &hold->segment_grant);
    }
    if (channel->recording.begun)
        snprintf(channel->recording.began_as, sizeof channel->recording.began_as, "%s",
                 hold->segment_grant.name);
}

static void note_generation(const struct channel *channel, uint64_t generation)
{
    if (generation > channel->host->spares->last_generation && generation < UINT32_MAX)
        channel->host->spares->last_generation = generation;
}

/* What it counts until a worker has brought it over, or if that one refuses it. */
static void take_old_counters(struct channel *channel, const struct channel_page_v1_summary *old)
{
    struct channel_ledger *ledger = &channel->ledger;
    uint64_t *value = ledger->last_seen.value;
    uint64_t waiting = old->published - old->committed;
    bool records = channel->spec->record.enabled != 0;
    value[COUNTER_received] = old->published - old->start_seq;
    value[COUNTER_kernel_dropped] = old->kernel_dropped;
    value[COUNTER_recorded] = old->recorded;
    value[COUNTER_record_lost] = old->record_lost;
    value[COUNTER_unrecorded] = old->committed - old->start_seq - old->recorded - old->record_lost +
                                (records ? 0 : waiting);
    ledger->last_pending = records ? waiting : 0;
    ledger->ring_start_seq = old->start_seq;
    ledger->seq_end = old->published;
}

/* Of an older layout: make memory that begins as it did; the first worker brings over what is in
 * it. Until then nothing that is lent or asked may take the new memory for the whole. */
static const char *restore_old_ring(struct channel *channel)
{
    struct hold *hold = &channel->hold;
    struct channel_page_v1_summary old;
    static char why[256];
    const char *what;
    if (hold->page && atomic_load(&hold->page->private.converted) == RING_CONVERTED) {
        fd_close(&hold->old_ring);
        return NULL;
    }
    int error =
        channel_page_v1_read(hold->old_ring, &hold->geometry, channel->spec->name, &old, &what);
    if (error < 0)
        return what;
    int old_ring = fd_take(&hold->old_ring);
    error = hold_ring_make(hold, channel->spec, old.start_seq, why, sizeof why);
    hold->old_ring = old_ring;
    if (error < 0)
        return why;
    atomic_store(&hold->page->private.converted, RING_TO_BE_CONVERTED);
    hold->before = (struct ring_stand){.end = old.published + old.unpublished,
                                       .kernel_dropped = old.kernel_dropped};
    channel_page_set_drops(hold->page, CHANNEL_DROPS_AS_BEFORE, 0);
    hold->ring_fresh = false;
    hold->drops_base = old.drops_base;
    hold->drops_known = old.drops_known && hold->rx >= 0;
    take_old_counters(channel, &old);
    channel->recording.restored = old.recorded > 0;
    channel->recording.placed = channel->recording.restored;
    note_generation(channel, old.generation);
    return NULL;
}

static const char *restore_present_ring(struct channel *channel)
{
    struct hold *hold = &channel->hold;
    if (!channel->former.removed && hold_is_outdated(hold, channel->spec))
        log_notice(
            "channel %s: the ring of the supervisor before was made with other settings: what "
            "is in it comes first",
            channel->spec->name);
    struct commit_progress commit;
    const char *what = "half of its memory is missing";
    if (!hold->page ||
        channel_page_check(hold->page, channel_page_descriptors(hold->page, &hold->geometry),
                           &hold->geometry, channel->spec->name, &what) < 0)
        return what;
    channel->ledger.ring_start_seq = hold->page->public.start_seq;
    channel->ledger.seq_end =
        atomic_load_explicit(&hold->page->public.published, memory_order_relaxed);
    channel->recording.restored =
        channel_page_read_commit(hold->page, &commit) && commit.recorded > 0;
    channel->recording.placed = channel->recording.restored; /* else it may be nobody's */
    note_generation(channel,
                    atomic_load_explicit(&hold->page->private.generation, memory_order_relaxed));
    return NULL;
}

/* It is not continued, but may still tell what was done with it, later than it was noted elsewhere,
 * and which numbers it has given. */
static void read_refused(struct channel *channel)
{
    const struct hold *hold = &channel->hold;
    channel->lent.ring_refused = true;
    if (!hold->page || channel_page_stranger(hold->page, &hold->geometry, channel->spec->name))
        return;
    channel->ledger.ring_start_seq = hold->page->public.start_seq;
    channel_ledger_look(channel);
}

static void restore_ring(struct channel *channel)
{
    struct hold *hold = &channel->hold;
    const char *what = NULL;

    if (hold->ring < 0 && hold->private_part < 0 && hold->old_ring < 0)
        return;
    if (hold->old_ring >= 0)
        what = restore_old_ring(channel);
    if (!what && hold->old_ring < 0)
        what = restore_present_ring(channel);
    if (what) {
        log_error("channel %s: the ring of the supervisor before can't be trusted: %s; a fresh one "
                  "is made",
                  channel->spec->name, what);
        read_refused(channel);
        if (!hold->page)
            hold_drop_ring(hold);
        return;
    }
    channel->takeover.cause = getenv(CHANNEL_RESTORE_VARIABLE) ? DEATH_NONE : DEATH_KILLED;
    log_notice("channel %s: goes on with the ring of the supervisor before, at datagram %llu",
               channel->spec->name, (unsigned long long)channel->ledger.seq_end);
}

/* One that the configuration doesn't have may have left datagrams; where it sent them to is of no
 * use any more. */
static struct channel *find_or_make(struct channels *channels, const char *name, const char *place)
{
    struct channel *channel = channels_find(channels, name);
    if (channel || !channel_name_is_valid(name) || strchr(place, '.'))
        return channel;
    struct channel_spec *spec = channel_former_spec(name);
    channel = spec ? channels_add(channels, spec) : NULL;
    if (!channel) {
        log_error("channel %s: no memory for what is left of it", name);
        free(spec);
        return NULL;
    }
    channel->former.removed = true;
    channel->former.own = spec;
    return channel;
}

static bool restore_fd(struct channels *channels, const char *full_name, int fd)
{
    char channel_name[CHANNEL_NAME_SIZE];
    const char *dot = strchr(full_name, '.'); /* channel names have none */
    if (!dot || (size_t)(dot - full_name) >= sizeof channel_name)
        return false;
    memcpy(channel_name, full_name, (size_t)(dot - full_name));
    channel_name[dot - full_name] = '\0';
    struct channel *channel = find_or_make(channels, channel_name, dot + 1);
    return channel && hold_adopt(&channel->hold, channel->spec, dot + 1, fd) == 0;
}

/* A ring that is not continued may still have a worker of the supervisor before, which would go on
 * with its segment. */
static void evict_worker(const char *full_name, int fd)
{
    const char *dot = strchr(full_name, '.');
    pid_t holder =
        dot && (strcmp(dot, ".ring") == 0 || strcmp(dot, ".private") == 0) ? claim_evict(fd) : 0;
    if (holder > 0)
        log_warning("channel %.*s: process %d, a worker of the supervisor before, still had %s: "
                    "killed",
                    (int)(dot - full_name), full_name, (int)holder, full_name);
}

/* "engine:gps:" */
static void keep_stopped(const struct channels *channels, const char *names)
{
    char name[CHANNEL_NAME_SIZE];
    for (size_t length; names && (length = strcspn(names, ":")) > 0;
         names += length + (names[length] == ':')) {
        if (length >= sizeof name)
            continue;
        memcpy(name, names, length);
        name[length] = '\0';
        struct channel *channel = channels_find(channels, name);
        if (!channel)
            continue;
        channel->life.wanted = false;
        channel->life.kept_stopped = true;
    }
}

/* Who has a socket of the same address, interface and source now? A channel that was renamed. */
static struct channel *find_heir(const struct channels *channels, const struct channel *from)
{
    for (size_t i = 0; i < channels->count; i++) {
        struct channel *heir = channels->list[i];
        if (!heir->former.removed && heir->hold.rx < 0 &&
            hold_adopted_socket_suits(&from->hold, heir->spec))
            return heir;
    }
    return NULL;
}

/* With its queue. What it has dropped so far is its former owner's to count. */
static void pass_socket(struct channel *from, struct channel *heir)
{
    channel_ledger_look(from);
    channel_ledger_discarded(
        from,
        hold_ring_end_drops(&from->hold, from->ledger.last_seen.value[COUNTER_kernel_dropped]));
    heir->hold.rx = fd_take(&from->hold.rx);
    heir->hold.drops_ended = from->hold.drops_ended;
    heir->hold.drops_told = from->hold.drops_told;
    log_notice("channel %s: goes on with the socket that channel %s had", heir->spec->name,
               from->spec->name);
}

static bool is_same(int fd, int other)
{
    struct stat about, of_other;
    return fd >= 0 && other >= 0 && fstat(fd, &about) == 0 && fstat(other, &of_other) == 0 &&
           about.st_ino == of_other.st_ino && about.st_dev == of_other.st_dev;
}

/* A supervisor that died while it passed a socket on may have left it under both names. Who has it
 * now keeps it, untouched. */
static void drop_shared_sockets(const struct channels *channels)
{
    for (size_t i = 0; i < channels->count; i++) {
        struct channel *channel = channels->list[i];
        for (size_t k = 0; k < channels->count && channel->hold.rx >= 0; k++) {
            const struct channel *other = channels->list[k];
            if (other == channel || !is_same(channel->hold.rx, other->hold.rx) ||
                hold_adopted_socket_suits(&channel->hold, channel->spec))
                continue;
            log_notice("channel %s: %s.rx of the supervisor before has no use here: closed",
                       channel->spec->name, channel->spec->name);
            fd_close(&channel->hold.rx);
        }
    }
}

/* What belongs to a former configuration is dealt with before the present one begins. */
static void settle_sockets(const struct channels *channels)
{
    drop_shared_sockets(channels);
    for (size_t i = 0; i < channels->count; i++) {
        struct channel *channel = channels->list[i];
        struct channel *heir =
            channel->hold.rx < 0 || hold_adopted_socket_suits(&channel->hold, channel->spec)
                ? NULL
                : find_heir(channels, channel);
        if (heir)
            pass_socket(channel, heir);
    }
    for (size_t i = 0; i < channels->count; i++) {
        struct channel *channel = channels->list[i];
        bool is_former =
            channel->former.removed ||
            (channel->hold.rx >= 0 && !hold_adopted_socket_suits(&channel->hold, channel->spec));
        if (is_former && channel_former_begin(channel) < 0)
            log_error("channel %s: no memory to deal with what its former socket has",
                      channel->spec->name);
    }
}

static bool take_socket(const char *name, int fd, struct channel_restored *others)
{
    int *place = strcmp(name, CHANNEL_RESTORE_CONTROL) == 0 ? &others->control
                 : strcmp(name, CHANNEL_RESTORE_READ) == 0  ? &others->read
                                                            : NULL;
    if (!place || *place >= 0)
        return false;
    *place = fd;
    return true;
}

bool channel_restore_all(struct channels *channels, struct channel_restored *ret_others)
{
    char **names = NULL;
    int count = sd_listen_fds_with_names(1, &names);
    int restored = 0, others = 0;

    *ret_others = (struct channel_restored){-1, -1};
    for (int i = 0; i < count; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        if (take_socket(names[i], fd, ret_others)) {
            others++;
        } else if (restore_fd(channels, names[i], fd)) {
            restored++;
        } else {
            log_notice("channel %.*s: %s of the supervisor before has no use here: closed",
                       (int)strcspn(names[i], "."), names[i], names[i]);
            evict_worker(names[i], fd);
            fd_close(&fd);
            store_forget(names[i]);
        }
    }
    if (count > others)
        log_notice("restored %d of %d descriptors", restored, count - others);
    for (size_t i = 0; i < channels->count && restored > 0; i++) {
        struct channel *channel = channels->list[i];
        store_note_restored(&channel->stored);
        hold_outboxes_adopt(&channel->hold, channel->spec);
        restore_ring(channel);
        channel_history_open(channel); /* it may know that this ring was given up */
        restore_segments(channel);
    }
    for (size_t i = 0; i < channels->count; i++)
        if (!channels->list[i]->history)
            channel_history_open(channels->list[i]);
    if (restored > 0)
        settle_sockets(channels);
    for (size_t i = 0; i < channels->count; i++)
        channel_segments_note_again(channels->list[i]);
    keep_stopped(channels, getenv(CHANNEL_RESTORE_VARIABLE));
    unsetenv(CHANNEL_RESTORE_VARIABLE);
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    return restored > 0;
}
