/* SPDX-License-Identifier: MIT */
/* Both sides of an outbox over mapped memory. Called by the library for a publisher, and by the
 * channel's worker. The worker's side must never be led outside the box, nor read a word of it
 * twice, whatever is written there meanwhile; nor may either side ever wait. */
#include "common/outbox.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/memory_page.h"

#define load_relaxed(word)         atomic_load_explicit(&(word), memory_order_relaxed)
#define load_acquire(word)         atomic_load_explicit(&(word), memory_order_acquire)
#define store_relaxed(word, value) atomic_store_explicit(&(word), (value), memory_order_relaxed)

_Static_assert(sizeof(struct outbox_head) <= OUTBOX_HEAD_SIZE &&
                   sizeof(struct outbox_answer) <= OUTBOX_ANSWER_SIZE &&
                   sizeof(struct outbox_record) == 16,
               "they have room to spare");

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

uint64_t outbox_capacity(uint64_t outbox_size)
{
    uint64_t capacity = CHANNEL_OUTBOX_SIZE_MIN;
    while (capacity < outbox_size && capacity < CHANNEL_OUTBOX_SIZE_MAX)
        capacity *= 2;
    return capacity;
}

static bool is_sealed(int fd, uint64_t size)
{
    struct stat about;
    return fcntl(fd, F_GET_SEALS) == SEALS && fstat(fd, &about) == 0 &&
           (uint64_t)about.st_size == size;
}

/* The head, and behind it the records twice. */
static int map_box(int box, int protection, uint64_t capacity, struct outbox_map *ret)
{
    size_t whole = OUTBOX_HEAD_SIZE + 2 * capacity;
    uint8_t *base =
        mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return -errno;
    if (mmap(base, OUTBOX_HEAD_SIZE + capacity, protection, MAP_SHARED | MAP_FIXED, box, 0) ==
            MAP_FAILED ||
        mmap(base + OUTBOX_HEAD_SIZE + capacity, capacity, protection, MAP_SHARED | MAP_FIXED, box,
             OUTBOX_HEAD_SIZE) == MAP_FAILED) {
        int error = errno;
        munmap(base, whole);
        return -error;
    }
    madvise(base, whole, MADV_DONTFORK); /* a child of the publisher's is no publisher */
    ret->head = (struct outbox_head *)base;
    ret->records = base + OUTBOX_HEAD_SIZE;
    ret->capacity = capacity;
    return 0;
}

int outbox_map(int box, int answer, enum outbox_side side, struct outbox_map *ret)
{
    *ret = (struct outbox_map){0};
    if (memory_page_size() > OUTBOX_HEAD_SIZE)
        return -ENOTSUP; /* the records would begin within a page */
    if (!is_sealed(answer, OUTBOX_ANSWER_SIZE))
        return -EBADMSG;
    int answers = side == OUTBOX_WORKER ? PROT_READ | PROT_WRITE : PROT_READ;
    int boxes = side == OUTBOX_WORKER ? PROT_READ : PROT_READ | PROT_WRITE;
    struct outbox_answer *said = mmap(NULL, OUTBOX_ANSWER_SIZE, answers, MAP_SHARED, answer, 0);
    if (said == MAP_FAILED)
        return -errno;
    uint64_t capacity = said->capacity;
    int result = -EBADMSG;
    if (said->magic == OUTBOX_MAGIC && capacity >= CHANNEL_OUTBOX_SIZE_MIN &&
        capacity <= CHANNEL_OUTBOX_SIZE_MAX && (capacity & (capacity - 1)) == 0 &&
        said->max_datagram > 0 && outbox_record_size(said->max_datagram) <= capacity &&
        is_sealed(box, OUTBOX_HEAD_SIZE + capacity))
        result = map_box(box, boxes, capacity, ret);
    if (result < 0) {
        munmap(said, OUTBOX_ANSWER_SIZE);
        return result;
    }
    madvise(said, OUTBOX_ANSWER_SIZE, MADV_DONTFORK);
    ret->answer = said;
    return 0;
}

void outbox_unmap(struct outbox_map *map)
{
    if (map->head)
        munmap(map->head, OUTBOX_HEAD_SIZE + 2 * map->capacity);
    if (map->answer)
        munmap(map->answer, OUTBOX_ANSWER_SIZE);
    *map = (struct outbox_map){0};
}

static struct outbox_record *record_at(const struct outbox_map *map, uint64_t position)
{
    return (struct outbox_record *)(map->records + (position & (map->capacity - 1)));
}

/* ---- the publisher ---- */

void outbox_producer_open(struct outbox_producer *producer, const struct outbox_map *map)
{
    *producer = (struct outbox_producer){.map = *map, .room_end = map->capacity};
    store_relaxed(map->head->wants_room, OUTBOX_NEVER);
    store_relaxed(map->head->wants_durable, OUTBOX_NEVER);
}

/* What the worker says is free. Nothing that it can't say makes room where there is none. */
static bool has_room(struct outbox_producer *producer, uint64_t size)
{
    uint64_t taken = load_acquire(producer->map.answer->taken);
    if (taken <= producer->committed && producer->committed - taken <= producer->map.capacity)
        producer->room_end = taken + producer->map.capacity;
    return producer->committed + size <= producer->room_end;
}

int outbox_reserve(struct outbox_producer *producer, uint32_t length, void **ret)
{
    const struct outbox_map *map = &producer->map;
    uint64_t size = outbox_record_size(length);
    producer->is_reserved = false;
    if (length > map->answer->max_datagram)
        return -EMSGSIZE;
    if (producer->committed + size > producer->room_end && !has_room(producer, size)) {
        /* For half of the box, where that is more: else it would be woken for every datagram. */
        uint64_t least = producer->committed + size - map->capacity;
        uint64_t half = producer->committed - map->capacity / 2;
        store_relaxed(map->head->wants_room,
                      producer->committed > map->capacity / 2 && half > least ? half : least);
        atomic_thread_fence(memory_order_seq_cst);
        if (!has_room(producer, size))
            return -EAGAIN;
        store_relaxed(map->head->wants_room, OUTBOX_NEVER);
    }
    producer->reserved = length;
    producer->is_reserved = true;
    *ret = record_at(map, producer->committed) + 1;
    return 0;
}

int outbox_commit(struct outbox_producer *producer, uint32_t length, int64_t time_ns,
                  bool *ret_call)
{
    const struct outbox_map *map = &producer->map;
    *ret_call = false;
    if (!producer->is_reserved || length > producer->reserved)
        return -EINVAL;
    struct outbox_record *record = record_at(map, producer->committed);
    store_relaxed(record->length, length);
    store_relaxed(record->time_ns, time_ns);
    producer->committed += outbox_record_size(length);
    producer->is_reserved = false;
    atomic_store_explicit(&map->head->committed, producer->committed, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    uint32_t asleep = load_relaxed(map->answer->asleep);
    *ret_call = asleep % 2 == 1 && asleep != producer->called;
    if (*ret_call)
        producer->called = asleep;
    return 0;
}

bool outbox_room_has_come(struct outbox_producer *producer, uint32_t length)
{
    const uint64_t wanted = load_relaxed(producer->map.head->wants_room);
    /* Never: that was in another box. */
    return wanted == OUTBOX_NEVER ? has_room(producer, outbox_record_size(length))
                                  : load_acquire(producer->map.answer->taken) >= wanted;
}

/* ---- the worker ---- */

void outbox_consumer_open(struct outbox_consumer *consumer, const struct outbox_map *map,
                          uint64_t at, uint32_t max_datagram)
{
    *consumer = (struct outbox_consumer){.map = *map,
                                         .at = at,
                                         .committed = at,
                                         .answered = OUTBOX_NEVER,
                                         .not_before_ns = load_relaxed(map->answer->looked_ns),
                                         .max_datagram = max_datagram};
}

int outbox_look(struct outbox_consumer *consumer, const char **ret_what)
{
    uint64_t committed = load_acquire(consumer->map.head->committed);
    if (committed < consumer->committed || committed - consumer->at > consumer->map.capacity ||
        committed % OUTBOX_ALIGN != 0) {
        *ret_what = "it says that more was committed than there is room for, or less than before";
        return -EBADMSG;
    }
    consumer->committed = committed;
    return committed > consumer->at;
}

int outbox_take(struct outbox_consumer *consumer, int64_t now_ns, struct outbox_taken *ret,
                const char **ret_what)
{
    uint64_t left = consumer->committed - consumer->at;
    if (left == 0)
        return 0;
    const struct outbox_record *record = record_at(&consumer->map, consumer->at);
    /* Each word once: what is checked is what is used. */
    uint32_t length = load_relaxed(record->length);
    int64_t time_ns = load_relaxed(record->time_ns);
    if (length > consumer->max_datagram || outbox_record_size(length) > left) {
        *ret_what = "a record is longer than a datagram may be, or than what was committed";
        return -EBADMSG;
    }
    if (time_ns < consumer->not_before_ns)
        time_ns = consumer->not_before_ns;
    if (time_ns > now_ns)
        time_ns = now_ns;
    consumer->not_before_ns = time_ns;
    *ret = (struct outbox_taken){
        .data = (const uint8_t *)(record + 1), .length = length, .time_ns = time_ns};
    consumer->at += outbox_record_size(length);
    return 1;
}

bool outbox_release(struct outbox_consumer *consumer, uint64_t count)
{
    struct outbox_answer *answer = consumer->map.answer;
    store_relaxed(answer->taken_count, count);
    atomic_store_explicit(&answer->taken, consumer->at, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    uint64_t wanted = load_relaxed(consumer->map.head->wants_room);
    if (wanted == OUTBOX_NEVER || consumer->at < wanted || wanted == consumer->answered)
        return false;
    consumer->answered = wanted; /* the next wish is another one: it only grows */
    return true;
}

bool outbox_say_durable(const struct outbox_consumer *consumer, uint64_t count)
{
    struct outbox_answer *answer = consumer->map.answer;
    uint64_t before = load_relaxed(answer->durable);
    if (count <= before)
        return false;
    atomic_store_explicit(&answer->durable, count, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    uint64_t wanted = load_relaxed(consumer->map.head->wants_durable);
    return wanted > before && wanted <= count;
}
