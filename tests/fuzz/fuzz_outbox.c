/* SPDX-License-Identifier: MIT */
/* A worker takes from a box whose publisher has written anything into it, and goes on writing: it
 * takes what lies in the box, or refuses it, and never goes outside. The input is a list of steps:
 * bytes over some place of the box or its head, then a look. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/outbox.h"

#define CAPACITY     4096u /* smaller than any real one: nothing here asks */
#define MAX_DATAGRAM 512u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Nothing is mapped twice here: what wraps is copied behind the end before each look, and a read
 * beyond that is a fault that the address sanitizer sees. */
static void mirror(uint8_t *records)
{
    memcpy(records + CAPACITY, records, CAPACITY);
}

static uint32_t sum;

static void use(const struct outbox_map *map, const struct outbox_taken *taken)
{
    if (taken->length > MAX_DATAGRAM || taken->data < map->records ||
        taken->data + taken->length > map->records + 2 * CAPACITY)
        abort();
    for (uint32_t i = 0; i < taken->length; i++)
        sum += taken->data[i];
}

static int take_all(struct outbox_consumer *consumer, int64_t now_ns)
{
    const char *what = NULL;
    struct outbox_taken taken;
    uint64_t begun = consumer->at;
    int64_t before_ns = INT64_MIN;
    int result = outbox_look(consumer, &what);
    if (result < 0)
        return result;
    while ((result = outbox_take(consumer, now_ns, &taken, &what)) > 0) {
        use(&consumer->map, &taken);
        if (taken.time_ns > now_ns || taken.time_ns < before_ns)
            abort();
        before_ns = taken.time_ns;
        if (consumer->at > consumer->committed || consumer->at - begun > CAPACITY)
            abort();
    }
    if (result < 0 && !what)
        abort();
    outbox_release(consumer, 1);
    outbox_say_durable(consumer, 1);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outbox_head *head = calloc(1, sizeof *head);
    struct outbox_answer *answer = calloc(1, sizeof *answer);
    uint8_t *records = calloc(2, CAPACITY);
    const struct outbox_map map = {head, answer, records, CAPACITY};
    struct outbox_consumer consumer;
    int result = 0;
    uint64_t at = 0;
    if (!head || !answer || !records)
        abort();
    if (size > 0) /* anywhere a worker may begin */
        at = (uint64_t)data[0] * OUTBOX_ALIGN * 1021;
    atomic_store(&head->committed, at);
    outbox_consumer_open(&consumer, &map, at, MAX_DATAGRAM);
    for (size_t i = 1; i + 4 <= size && result >= 0;) {
        const uint8_t what = data[i];
        const size_t where = (size_t)(data[i + 1] | data[i + 2] << 8);
        size_t length = data[i + 3];
        i += 4;
        if (length > size - i)
            length = size - i;
        if (what < 64) { /* the head's words, any value */
            memcpy((uint8_t *)head + where % (sizeof *head - length % 64), data + i, length % 64);
        } else if (what < 128) { /* a little more is committed */
            atomic_store(&head->committed, atomic_load(&head->committed) + where % 1024);
        } else { /* records */
            for (size_t k = 0; k < length; k++)
                records[(where + k) % CAPACITY] = data[i + k];
        }
        i += length;
        mirror(records);
        result = take_all(&consumer, (int64_t)where << 20);
    }
    free(head);
    free(answer);
    free(records);
    return 0;
}
