/* SPDX-License-Identifier: MIT */
/* Keeps the service manager's copy of every hold as the hold is: after a change, places that differ
 * are removed and stored anew. Called by whoever has changed a hold. Must never block, and never
 * have the manager keep more names than it can give back. */
#include "supervisor/hold/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/log.h"
#include "common/monotonic.h"
#include "supervisor/system/manager.h"

#define RETRY_NS     (20 * NS_PER_MS)
#define LAST_RETRIES 5 /* so often an orderly end waits for a manager that is busy */

/* What is behind a descriptor: numbers are used again, inodes that are open are not. Segments are
 * known by their grant, because asking a file system could block. */
static uint64_t identity_of(const struct hold *hold, int fd)
{
    struct stat about;
    if (fd < 0)
        return 0;
    if (fd == hold->segment)
        return hold->segment_grant.id;
    if (fd == hold->next)
        return hold->next_grant.id;
    return fstat(fd, &about) == 0 ? about.st_ino : 0;
}

static int remove_place(const char *channel, const char *name)
{
    char text[128];
    snprintf(text, sizeof text, "FDSTOREREMOVE=1\nFDNAME=%s.%s", channel, name);
    return manager_notify(text, -1);
}

/* FDPOLL=0: the manager must not throw a descriptor out because it reports an error, as sockets do
 * at times. */
static int keep_place(const char *channel, const char *name, int fd)
{
    char text[128];
    snprintf(text, sizeof text, "FDSTORE=1\nFDPOLL=0\nFDNAME=%s.%s", channel, name);
    return manager_notify(text, fd);
}

static int update_place(struct stored *stored, uint32_t place)
{
    char name[HOLD_NAME_SIZE];
    int fd = hold_place(stored->hold, place, name);
    uint64_t identity = identity_of(stored->hold, fd);
    int error = 0;

    if (stored->identities[place] == identity)
        return 0;
    if (stored->identities[place]) {
        error = remove_place(stored->channel, name);
        if (error < 0)
            return error;
        stored->identities[place] = 0;
    }
    if (identity) {
        error = keep_place(stored->channel, name, fd);
        if (error < 0)
            return error;
        stored->identities[place] = identity;
    }
    return 0;
}

static size_t names_length(const struct stored *stored)
{
    size_t length = 0;
    for (uint32_t place = 0; place < hold_place_count(stored->hold); place++) {
        char name[HOLD_NAME_SIZE];
        hold_place(stored->hold, place, name);
        length += strlen(stored->channel) + strlen(name) + 2;
    }
    return length;
}

/* Once for each hold: is there room in the store for it? */
static bool has_room(struct stored *stored)
{
    struct store *store = stored->store;
    if (stored->identities || stored->refused)
        return stored->identities;
    size_t length = names_length(stored);
    if (store->names_length + length > STORE_NAMES_MAX) {
        if (store->names_length <= STORE_NAMES_MAX)
            log_warning("channel %s: the service manager can't keep the descriptors of so many "
                        "channels, neither its own nor those of all that come after it; if this "
                        "supervisor dies, what waits in their sockets and "
                        "rings is lost",
                        stored->channel);
        store->names_length = STORE_NAMES_MAX + 1;
        stored->refused = true;
        return false;
    }
    stored->identities = calloc(hold_place_count(stored->hold), sizeof *stored->identities);
    if (stored->identities)
        store->names_length += length;
    return stored->identities;
}

static int on_retry(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct store *store = userdata;
    (void)source;
    (void)time_us;
    store->behind = false;
    for (struct stored *stored = store->first; stored && !store->behind; stored = stored->next)
        if (stored->behind)
            store_follow(stored);
    if (store->ending && (!store->behind || ++store->patience >= LAST_RETRIES)) {
        store->behind =
            false; /* what stays in the store is found to be of no use at the next start */
        store->settled(store->data);
    }
    return 0;
}

void store_follow(struct stored *stored)
{
    struct store *store = stored->store;
    if (!manager_is_there() || !has_room(stored))
        return;
    /* The end waits for it no longer, whatever changes on the way there: being behind again would
     * have it wait anew. */
    if (store->ending && store->patience >= LAST_RETRIES)
        return;
    stored->behind = false;
    for (uint32_t place = 0; place < hold_place_count(stored->hold); place++) {
        if (update_place(stored, place) == -EAGAIN) {
            stored->behind = store->behind = true;
            timer_arm(&store->timer, store->event, RETRY_NS, on_retry, store);
            return;
        }
    }
}

/* ---- what was there before ---- */

void store_note_restored(struct stored *stored)
{
    bool room = has_room(stored);
    for (uint32_t place = 0; room && place < hold_place_count(stored->hold); place++) {
        char name[HOLD_NAME_SIZE];
        /* A ring of an older layout is kept in a place of its own, but was stored as the ring. */
        if (hold_place(stored->hold, place, name) >= 0 ||
            (stored->hold->old_ring >= 0 && strcmp(name, "ring") == 0))
            stored->identities[place] = UINT64_MAX;
    }
}

void store_forget(const char *full_name)
{
    char text[160];
    snprintf(text, sizeof text, "FDSTOREREMOVE=1\nFDNAME=%s", full_name);
    if (strlen(full_name) < 100 && manager_notify(text, -1) == -EAGAIN)
        log_debug("the service manager can't be told now: it keeps %s", full_name);
}

/* ---- life ---- */

void store_init(struct store *store, sd_event *event, void (*settled)(void *data), void *data)
{
    *store = (struct store){.event = event, .settled = settled, .data = data};
    store->last = &store->first;
}

void store_add(struct store *store, struct stored *stored, const char *channel,
               const struct hold *hold)
{
    *stored = (struct stored){.store = store, .channel = channel, .hold = hold};
    *store->last = stored;
    store->last = &stored->next;
}

void store_end(struct store *store)
{
    store->ending = true;
}

void stored_free(struct stored *stored)
{
    free(stored->identities);
    stored->identities = NULL;
}

void store_free(struct store *store)
{
    timer_disarm(&store->timer);
    store->first = NULL;
}
