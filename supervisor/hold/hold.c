/* SPDX-License-Identifier: MIT */
/* The shape of a hold: which places there are, by which names they are known, and letting go of
 * what is in them. Used by everything that opens, lends, stores or adopts descriptors. Must never
 * close a descriptor that it does not own. */
#include "supervisor/hold/hold.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/channel_memory.h"
#include "common/channel_page_outboxes.h"
#include "common/fd.h"

static int make_outbox_places(struct hold *hold, uint32_t count)
{
    struct hold_outbox *outboxes = realloc(hold->outboxes, count * sizeof *outboxes);
    if (!outboxes)
        return -ENOMEM;
    for (uint32_t i = hold->outbox_count; i < count; i++)
        outboxes[i] = (struct hold_outbox){.box = -1, .answer = -1, .bell = -1, .call = -1};
    hold->outboxes = outboxes;
    hold->outbox_count = count;
    return 0;
}

int hold_init(struct hold *hold, const struct channel_spec *spec)
{
    *hold = (struct hold){.rx = -1,
                          .ring = -1,
                          .private_part = -1,
                          .old_ring = -1,
                          .history = -1,
                          .segment = -1,
                          .next = -1};
    hold->relay_count = spec->relay_count;
    hold_take_shape(hold, spec);
    if (channel_spec_is_local(spec) && make_outbox_places(hold, spec->publishers.most) < 0)
        return -ENOMEM;
    uint32_t count = channel_spec_destination_count(spec);
    if (count == 0)
        return 0;
    hold->destinations = malloc(count * sizeof *hold->destinations);
    hold->down = calloc(count, sizeof *hold->down);
    if (!hold->destinations || !hold->down) {
        hold_close(hold);
        return -ENOMEM;
    }
    hold->destination_count = count;
    for (uint32_t i = 0; i < count; i++)
        hold->destinations[i] = -1;
    return 0;
}

/* What a ring for this socket has to be like. */
static struct channel_shape wanted_shape(const struct hold *hold, const struct channel_spec *spec)
{
    struct channel_shape shape = channel_shape_of(spec);
    shape.receive_offload |= hold->offload_stays;
    return shape;
}

void hold_take_shape(struct hold *hold, const struct channel_spec *spec)
{
    hold->shape = wanted_shape(hold, spec);
    channel_shape_geometry(&hold->shape, &hold->geometry);
}

bool hold_is_outdated(const struct hold *hold, const struct channel_spec *spec)
{
    struct channel_geometry geometry;
    const struct channel_shape shape = wanted_shape(hold, spec);
    channel_shape_geometry(&shape, &geometry);
    return hold->ring >= 0 && memcmp(&geometry, &hold->geometry, sizeof geometry) != 0;
}

/* ---- descriptors by name ---- */

/* In the order in which a store learns of a change (store.c). An older version's ring was stored as
 * "ring": it must be known as "old" before it is removed under that name, and beside the memory
 * that will take its contents. */
static const struct {
    const char *name;
    size_t offset;
} places[] = {
    {"rx", offsetof(struct hold, rx)},
    {"old", offsetof(struct hold, old_ring)},
    {"private", offsetof(struct hold, private_part)},
    {"ring", offsetof(struct hold, ring)},
    {"history", offsetof(struct hold, history)},
    {"log", offsetof(struct hold, segment)},
    {"next", offsetof(struct hold, next)},
};

#define PLACES_BEFORE_DESTINATIONS (sizeof places / sizeof places[0])

static int *place_at(struct hold *hold, size_t place)
{
    return (int *)((uint8_t *)hold + places[place].offset);
}

/* Of one outbox, in this order. */
static const struct {
    const char *name;
    size_t offset;
} outbox_places[] = {
    {"box", offsetof(struct hold_outbox, box)},
    {"said", offsetof(struct hold_outbox, answer)},
    {"bell", offsetof(struct hold_outbox, bell)},
    {"call", offsetof(struct hold_outbox, call)},
};

#define PLACES_OF_OUTBOX (sizeof outbox_places / sizeof outbox_places[0])

static int *outbox_place(const struct hold *hold, size_t index, size_t kind)
{
    return (int *)((uint8_t *)&hold->outboxes[index] + outbox_places[kind].offset);
}

uint32_t hold_place_count(const struct hold *hold)
{
    return (uint32_t)PLACES_BEFORE_DESTINATIONS + hold->destination_count +
           hold->outbox_count * (uint32_t)PLACES_OF_OUTBOX;
}

int hold_place(const struct hold *hold, uint32_t place, char ret_name[HOLD_NAME_SIZE])
{
    if (place < PLACES_BEFORE_DESTINATIONS) {
        snprintf(ret_name, HOLD_NAME_SIZE, "%s", places[place].name);
        return *(const int *)((const uint8_t *)hold + places[place].offset);
    }
    uint32_t index = place - (uint32_t)PLACES_BEFORE_DESTINATIONS;
    if (index >= hold->destination_count) {
        index -= hold->destination_count;
        snprintf(ret_name, HOLD_NAME_SIZE, "%s.%u", outbox_places[index % PLACES_OF_OUTBOX].name,
                 index / (uint32_t)PLACES_OF_OUTBOX);
        return *outbox_place(hold, index / PLACES_OF_OUTBOX, index % PLACES_OF_OUTBOX);
    }
    bool is_relay = index < hold->relay_count;
    snprintf(ret_name, HOLD_NAME_SIZE, "%s.%u", is_relay ? "out" : "dec",
             is_relay ? index : index - hold->relay_count);
    return hold->destinations[index];
}

/* "out.3" -> its place among the destinations; -1 for anything else. */
static int destination_index(const struct hold *hold, const char *name)
{
    bool is_relay = strncmp(name, "out.", 4) == 0;
    char *end;

    if ((!is_relay && strncmp(name, "dec.", 4) != 0) || name[4] < '0' || name[4] > '9')
        return -1;
    unsigned long number = strtoul(name + 4, &end, 10);
    unsigned long limit =
        is_relay ? hold->relay_count : hold->destination_count - hold->relay_count;
    if (*end != '\0' || number >= limit)
        return -1;
    return (int)(is_relay ? number : number + hold->relay_count);
}

/* "box.3" -> which one's, and which of its places; -1 for anything else. */
static int parse_outbox_place(const char *name, size_t *ret_kind)
{
    const char *dot = strchr(name, '.');
    char *end;
    if (!dot || dot[1] < '0' || dot[1] > '9')
        return -1;
    unsigned long index = strtoul(dot + 1, &end, 10);
    if (*end != '\0' || index >= CHANNEL_PUBLISHERS_MAX)
        return -1;
    for (*ret_kind = 0; *ret_kind < PLACES_OF_OUTBOX; ++*ret_kind) {
        const char *kind = outbox_places[*ret_kind].name;
        if (strlen(kind) == (size_t)(dot - name) && memcmp(name, kind, strlen(kind)) == 0)
            return (int)index;
    }
    return -1;
}

/* A supervisor before may have had more of them than there may be now. */
static int *find_outbox_place(struct hold *hold, const char *name)
{
    size_t kind;
    int index = parse_outbox_place(name, &kind);
    if (index < 0 || ((uint32_t)index >= hold->outbox_count &&
                      make_outbox_places(hold, (uint32_t)index + 1) < 0))
        return NULL;
    return outbox_place(hold, (size_t)index, kind);
}

int *hold_place_named(struct hold *hold, const char *name, int *ret_destination)
{
    *ret_destination = destination_index(hold, name);
    if (*ret_destination >= 0)
        return &hold->destinations[*ret_destination];
    for (size_t i = 0; i < PLACES_BEFORE_DESTINATIONS; i++)
        if (strcmp(name, places[i].name) == 0)
            return place_at(hold, i);
    return find_outbox_place(hold, name);
}

/* It stays where it is as long as the ring lives: hundreds of names are not to be compared each
 * time. */
int hold_find_destination(const struct hold *hold, const struct channel_spec *spec, uint32_t index)
{
    enum destination_use use = channel_page_use_of(spec, index);
    const char *name = spec->destinations[index].name;
    struct destination_down *down = &hold->down[index];
    if (!hold->page)
        return -1;
    if (!channel_page_is_destination(hold->page, down->place, use, name))
        down->place = channel_page_find_destination(hold->page, use, name);
    return down->place;
}

/* ---- letting go ---- */

/* Its first datagram, which was to say that nobody was receiving before, never came. */
static bool owes_gap(const struct channel_page *page)
{
    uint64_t gap_before = atomic_load(&page->private.gap_before);
    return gap_before != 0 && atomic_load(&page->public.published) < gap_before;
}

void hold_outbox_settle(struct hold *hold, uint32_t place, const struct outbox_progress *progress)
{
    const struct hold_outbox *outbox = &hold->outboxes[place];
    struct outbox_answer *said = outbox->said;
    const struct outbox_entry *entry = &progress->entries[place];
    if (!said || entry->id != outbox->id)
        return;
    uint64_t more = entry->position - atomic_load(&said->taken);
    if (more > outbox->capacity) /* or less */
        return;
    atomic_store(&said->taken_count, entry->count);
    atomic_store(&said->taken, entry->position);
}

/* What else they might go by goes with the ring. */
static void settle_outboxes(struct hold *hold)
{
    struct outbox_progress progress;
    if (!hold->page || hold->outbox_count == 0 ||
        !channel_page_read_outboxes_published(hold->page, &progress))
        return;
    for (uint32_t place = 0; place < hold->outbox_count; place++)
        hold_outbox_settle(hold, place, &progress);
}

void hold_drop_ring(struct hold *hold)
{
    settle_outboxes(hold);
    if (hold->page && hold->rx >= 0 && owes_gap(hold->page))
        hold->owes_gap = true;
    channel_memory_unmap(&hold->page, &hold->geometry);
    shredder_take(hold->shredder, &hold->ring);
    fd_close(&hold->private_part);
    shredder_take(hold->shredder, &hold->old_ring);
    hold->ring_fresh = false;
    hold->drops_known = false;
}

void hold_close_sockets(struct hold *hold)
{
    fd_close(&hold->rx);
    hold->rx_is_new = hold->drops_ended = hold->owes_gap = hold->offload_stays = false;
    hold->membership = (struct membership){0};
    fd_close_all(hold->destinations, hold->destination_count);
    for (uint32_t i = 0; i < hold->destination_count; i++)
        hold->down[i] = (struct destination_down){0};
}

void hold_outbox_close(struct hold_outbox *outbox)
{
    if (outbox->said)
        munmap(outbox->said, OUTBOX_ANSWER_SIZE);
    outbox->said = NULL;
    outbox->lent_to = 0;
    fd_close(&outbox->box);
    fd_close(&outbox->answer);
    fd_close(&outbox->bell);
    fd_close(&outbox->call);
}

void hold_outbox_drop(struct hold *hold, uint32_t place, enum outbox_state state)
{
    struct hold_outbox *outbox = &hold->outboxes[place];
    if (outbox->said && atomic_load(&outbox->said->state) == OUTBOX_OPEN)
        atomic_store(&outbox->said->state, state);
    hold_outbox_close(outbox);
}

void hold_outboxes_close(struct hold *hold)
{
    for (uint32_t place = 0; place < hold->outbox_count; place++)
        hold_outbox_drop(hold, place, OUTBOX_ENDED);
}

void hold_close(struct hold *hold)
{
    hold_drop_ring(hold);
    hold_outboxes_close(hold);
    free(hold->outboxes);
    hold->outboxes = NULL;
    hold->outbox_count = 0;
    hold_close_sockets(hold);
    fd_close(&hold->history);
    fd_close(&hold->segment);
    fd_close(&hold->next);
    free(hold->destinations);
    free(hold->down);
    hold->destinations = NULL;
    hold->down = NULL;
    hold->destination_count = 0;
}
