/* SPDX-License-Identifier: MIT */
/* Counts datagrams by sender. Called by info. A recording may have been flooded from made-up
 * addresses: the memory for them has an end, and what is beyond it is still counted. */
#include "supervisor/ctl/ctl_tally.h"

#include <errno.h>
#include <netinet/in.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "common/local_address.h"

static size_t length_of(const struct sockaddr_storage *source)
{
    if (source->ss_family == AF_INET)
        return offsetof(struct sockaddr_in, sin_zero);
    if (source->ss_family == AF_UNIX)
        return offsetof(struct sockaddr_un, sun_path) + LOCAL_ADDRESS_TEXT_SIZE;
    return source->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(sa_family_t);
}

static int by_source(const void *a, const void *b)
{
    const struct ctl_tally_entry *one = a, *other = b;
    if (one->source.ss_family != other->source.ss_family)
        return one->source.ss_family < other->source.ss_family ? -1 : 1;
    return memcmp(&one->source, &other->source, length_of(&one->source));
}

int ctl_tally_add(struct ctl_tally *tally, const struct sockaddr_storage *source, uint64_t bytes)
{
    struct ctl_tally_entry key = {0};
    struct ctl_tally_entry *entry = tally->last;
    memcpy(&key.source, source, length_of(source));
    if (!entry || by_source(&key, entry) != 0) {
        void *found = tfind(&key, &tally->tree, by_source);
        entry = found ? *(struct ctl_tally_entry **)found : NULL;
    }
    if (!entry && tally->count >= CTL_TALLY_MAX) {
        tally->others++;
        return 0;
    }
    if (!entry) {
        entry = malloc(sizeof *entry);
        if (!entry)
            return -ENOMEM;
        *entry = key;
        if (!tsearch(entry, &tally->tree, by_source)) {
            free(entry);
            return -ENOMEM;
        }
        tally->count++;
    }
    entry->datagrams++;
    entry->bytes += bytes;
    tally->last = entry;
    return 0;
}

struct collection {
    const struct ctl_tally_entry **list;
    size_t count;
};

static void collect(const void *node, VISIT visit, void *to)
{
    struct collection *all = to;
    if (visit == postorder || visit == leaf)
        all->list[all->count++] = *(struct ctl_tally_entry *const *)node;
}

static int by_datagrams(const void *a, const void *b)
{
    const struct ctl_tally_entry *one = *(struct ctl_tally_entry *const *)a;
    const struct ctl_tally_entry *other = *(struct ctl_tally_entry *const *)b;
    if (one->datagrams != other->datagrams)
        return one->datagrams > other->datagrams ? -1 : 1;
    return by_source(one, other);
}

const struct ctl_tally_entry **ctl_tally_top(const struct ctl_tally *tally, size_t most,
                                             size_t *ret_count)
{
    struct collection all = {0};
    *ret_count = 0;
    if (tally->count > 0)
        all.list = calloc(tally->count, sizeof *all.list);
    if (!all.list)
        return NULL;
    twalk_r(tally->tree, collect, &all);
    qsort(all.list, all.count, sizeof *all.list, by_datagrams);
    *ret_count = all.count < most ? all.count : most;
    return all.list;
}

void ctl_tally_free(struct ctl_tally *tally)
{
    tdestroy(tally->tree, free);
    *tally = (struct ctl_tally){0};
}
