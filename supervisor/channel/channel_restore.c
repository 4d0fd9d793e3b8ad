/* SPDX-License-Identifier: MIT */
/* Stores each channel's descriptors with the service manager and takes them back after this
 * process's own death. The store follows the hold: after a change, places that differ are removed
 * and stored anew. Called by the state machine and channel_log.c after whatever they did. Must
 * never trust a restored descriptor by its name alone, and must give a channel either a ring and
 * log that fit together or none. */
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
#include "common/claim.h"
#include "common/fd.h"
#include "common/log.h"
#include "supervisor/status_line.h"

#define STORE_RETRY_NS (20 * NS_PER_MS)
/* The manager gives all names back in one environment variable, which may hold 128 KiB (execve(2)):
 * with more of them, no supervisor could be started again. */
#define STORE_NAMES_MAX 120000
#define LAST_RETRIES    5 /* so often an orderly end waits for a manager that is busy */

/* ---- storing ---- */

/* What is behind a descriptor: numbers are used again, inodes that are open are not. Segments are
 * known by their grant, because asking a file system could block. */
static uint64_t identity_of(const struct channel *channel, const char *name, int fd)
{
    struct stat about;
    if (fd < 0)
        return 0;
    if (strcmp(name, "log") == 0)
        return channel->hold.log_grant.id;
    if (strcmp(name, "next") == 0)
        return channel->hold.next_grant.id;
    return fstat(fd, &about) == 0 ? about.st_ino : 0;
}

static int remove_stored(const char *channel, const char *name)
{
    char text[128];
    snprintf(text, sizeof text, "FDSTOREREMOVE=1\nFDNAME=%s.%s", channel, name);
    return notify_send(text, -1);
}

/* FDPOLL=0: the manager must not throw a descriptor out because it reports an error, as sockets do
 * at times. */
static int store(const char *channel, const char *name, int fd)
{
    char text[128];
    snprintf(text, sizeof text, "FDSTORE=1\nFDPOLL=0\nFDNAME=%s.%s", channel, name);
    return notify_send(text, fd);
}

static int update_place(struct channel *channel, uint32_t place)
{
    char name[HOLD_NAME_SIZE];
    int fd = hold_place(&channel->hold, place, name);
    uint64_t identity = identity_of(channel, name, fd);
    int error = 0;

    if (channel->stored[place] == identity)
        return 0;
    if (channel->stored[place]) {
        error = remove_stored(channel->spec->name, name);
        if (error < 0)
            return error;
        channel->stored[place] = 0;
    }
    if (identity) {
        error = store(channel->spec->name, name, fd);
        if (error < 0)
            return error;
        channel->stored[place] = identity;
    }
    return 0;
}

static size_t names_length(const struct channel *channel)
{
    size_t length = 0;
    for (uint32_t place = 0; place < hold_place_count(&channel->hold); place++) {
        char name[HOLD_NAME_SIZE];
        hold_place(&channel->hold, place, name);
        length += strlen(channel->spec->name) + strlen(name) + 2;
    }
    return length;
}

/* Once for each channel: is there room in the store for what it holds? */
static bool has_room(struct channel *channel)
{
    struct supervisor *supervisor = channel->supervisor;
    if (channel->stored || channel->not_stored)
        return channel->stored;
    size_t length = names_length(channel);
    if (supervisor->store_length + length > STORE_NAMES_MAX) {
        if (supervisor->store_length <= STORE_NAMES_MAX)
            log_warning("channel %s and all that come after it: the service manager can't keep the "
                        "descriptors of so "
                        "many channels; if this supervisor dies, what waits in their sockets and "
                        "rings is lost",
                        channel->spec->name);
        supervisor->store_length = STORE_NAMES_MAX + 1;
        channel->not_stored = true;
        return false;
    }
    channel->stored = calloc(hold_place_count(&channel->hold), sizeof *channel->stored);
    if (channel->stored)
        supervisor->store_length += length;
    return channel->stored;
}

static int on_retry(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct supervisor *supervisor = userdata;
    (void)source;
    (void)time_us;
    supervisor->store_behind = false;
    for (size_t i = 0; i < supervisor->channel_count && !supervisor->store_behind; i++)
        if (supervisor->channels[i]->store_behind)
            handover_changed(supervisor->channels[i]);
    if (supervisor->stopping &&
        (!supervisor->store_behind || ++supervisor->store_patience >= LAST_RETRIES)) {
        supervisor->store_behind =
            false; /* what stays in the store is found to be of no use at the next start */
        supervisor_changed(supervisor);
    }
    return 0;
}

void handover_changed(struct channel *channel)
{
    uint32_t count = hold_place_count(&channel->hold);
    if (!getenv("NOTIFY_SOCKET") || !has_room(channel))
        return;
    channel->store_behind = false;
    for (uint32_t place = 0; place < count; place++) {
        int error = update_place(channel, place);
        if (error == -EAGAIN) {
            channel->store_behind = channel->supervisor->store_behind = true;
            supervisor_arm(channel->supervisor, &channel->supervisor->store_timer, STORE_RETRY_NS,
                           on_retry, channel->supervisor);
            return;
        }
    }
}

void handover_free(struct supervisor *supervisor)
{
    supervisor->store_timer = sd_event_source_disable_unref(supervisor->store_timer);
}

/* ---- restoring ---- */

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
    size_t prefix = strlen(channel);
    if (!name || strlen(++name) >= SEGMENT_NAME_SIZE || strncmp(name, channel, prefix) != 0 ||
        name[prefix] != '-')
        return false;
    size_t name_length = strlen(name), suffix = strlen(AVRO_LOG_OPEN_SUFFIX);
    if (name_length < suffix || strcmp(name + name_length - suffix, AVRO_LOG_OPEN_SUFFIX) != 0)
        return false; /* sealed already, or deleted: the kernel then appends " (deleted)" */
    memcpy(ret_name, name, name_length + 1);
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
    ssize_t length = read_start(fd, header, sizeof header);
    if (length < 0)
        return false;
    if (avro_log_read_header(header, (size_t)length, &identity, &what) < 0)
        return getrandom(ret->sync, sizeof ret->sync, GRND_NONBLOCK) == sizeof ret->sync;
    if (strcmp(identity.channel, channel->spec->name) != 0)
        return false;
    memcpy(ret->sync, identity.sync, sizeof ret->sync);
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

/* Segments that can't be continued are the archive's to recover: it finds them by itself. */
static void restore_segments(struct channel *channel)
{
    struct hold *hold = &channel->hold;
    bool begun;
    if (hold->log >= 0 && !restore_grant(channel, hold->log, &hold->log_grant, &channel->log_begun))
        let_go(channel, "segment", &hold->log);
    if (hold->next >= 0 && !restore_grant(channel, hold->next, &hold->next_grant, &begun))
        let_go(channel, "next segment", &hold->next);
    if (hold->log >= 0 && hold->next >= 0 && hold->log_grant.id == hold->next_grant.id)
        fd_close(&hold->next); /* it had just become the current one */
    if (channel->log_begun)
        snprintf(channel->log_began_as, sizeof channel->log_began_as, "%s", hold->log_grant.name);
}

static void restore_ring(struct channel *channel)
{
    struct hold *hold = &channel->hold;
    struct commit_progress commit;
    const char *what = "";

    if (hold->ring < 0)
        return;
    if (channel_page_check(hold->page, channel_page_descriptors(hold->page, &hold->geometry),
                           &hold->geometry, channel->spec->name, &what) < 0) {
        log_error("channel %s: the ring of the supervisor before can't be trusted: %s; a fresh one "
                  "is made",
                  channel->spec->name, what);
        channel->ring_refused = true;
        return;
    }
    channel->ring_start_seq = hold->page->start_seq;
    channel->seq_end = atomic_load_explicit(&hold->page->published, memory_order_relaxed);
    channel->restored = channel_page_read_commit(hold->page, &commit) && commit.recorded > 0;
    channel->last_death_cause = getenv(UPGRADE_VARIABLE) ? DEATH_NONE : DEATH_KILLED;
    uint64_t generation = atomic_load_explicit(&hold->page->generation, memory_order_relaxed);
    if (generation > channel->supervisor->next_generation && generation < UINT32_MAX)
        channel->supervisor->next_generation = generation;
    log_notice("channel %s: goes on with the ring of the supervisor before, at datagram %llu",
               channel->spec->name, (unsigned long long)channel->seq_end);
}

static bool restore_fd(struct supervisor *supervisor, const char *full_name, int fd)
{
    char channel_name[CHANNEL_NAME_SIZE];
    const char *dot = strchr(full_name, '.'); /* channel names have none */
    if (!dot || (size_t)(dot - full_name) >= sizeof channel_name)
        return false;
    memcpy(channel_name, full_name, (size_t)(dot - full_name));
    channel_name[dot - full_name] = '\0';
    struct channel *channel = supervisor_find_channel(supervisor, channel_name);
    return channel && hold_adopt_fd(&channel->hold, channel->spec, dot + 1, fd) == 0;
}

/* A ring that is not continued may still have a worker of the supervisor before, which would go on
 * with its segment. */
static void evict_worker(const char *full_name, int fd)
{
    const char *dot = strchr(full_name, '.');
    pid_t holder = dot && strcmp(dot, ".ring") == 0 ? claim_evict(fd) : 0;
    if (holder > 0)
        log_warning("process %d, a worker of the supervisor before, still had %s: killed",
                    (int)holder, full_name);
}

/* What the manager keeps under names that are not used again. */
static void forget(const char *full_name)
{
    char text[160];
    snprintf(text, sizeof text, "FDSTOREREMOVE=1\nFDNAME=%s", full_name);
    if (strlen(full_name) < 100 && notify_send(text, -1) == -EAGAIN)
        log_debug("the service manager is busy: it keeps %s", full_name);
}

/* Whatever comes of it: what the manager keeps at these places is replaced by the next
 * handover_changed(). */
static void note_stored(struct channel *channel)
{
    bool room = has_room(channel);
    for (uint32_t place = 0; room && place < hold_place_count(&channel->hold); place++) {
        char name[HOLD_NAME_SIZE];
        if (hold_place(&channel->hold, place, name) >= 0)
            channel->stored[place] = UINT64_MAX;
    }
}

/* "engine:gps:" */
static void keep_stopped(struct supervisor *supervisor, const char *names)
{
    char name[CHANNEL_NAME_SIZE];
    for (size_t length; names && (length = strcspn(names, ":")) > 0;
         names += length + (names[length] == ':')) {
        if (length >= sizeof name)
            continue;
        memcpy(name, names, length);
        name[length] = '\0';
        struct channel *channel = supervisor_find_channel(supervisor, name);
        if (channel)
            channel->wanted = false;
    }
}

void handover_restore(struct supervisor *supervisor)
{
    char **names = NULL;
    int count = sd_listen_fds_with_names(1, &names);
    int restored = 0;

    for (int i = 0; i < count; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        if (restore_fd(supervisor, names[i], fd)) {
            restored++;
        } else {
            log_notice("%s of the supervisor before has no use here: closed", names[i]);
            evict_worker(names[i], fd);
            fd_close(&fd);
            forget(names[i]);
        }
    }
    if (count > 0)
        log_notice("restored %d of %d descriptors", restored, count);
    for (size_t i = 0; i < supervisor->channel_count && restored > 0; i++) {
        struct channel *channel = supervisor->channels[i];
        note_stored(channel);
        restore_ring(channel);
        restore_segments(channel);
        if (channel->hold.ring < 0 &&
            channel->hold.log >= 0) { /* a log can't be continued without its ring */
            fd_close(&channel->hold.log);
            fd_close(&channel->hold.next);
            channel->log_begun = false;
        }
    }
    keep_stopped(supervisor, getenv(UPGRADE_VARIABLE));
    unsetenv(UPGRADE_VARIABLE);
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
}
