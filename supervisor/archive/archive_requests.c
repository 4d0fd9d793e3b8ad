/* SPDX-License-Identifier: MIT */
/* Lists of what the archive has been asked for. Called by archive_client.c, which sends and
 * answers. Must never change their order: what the segment before has tells what becomes of one
 * without records. */
#include "supervisor/archive/archive_requests.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

/* ---- segments to be sealed ---- */

void seal_requests_append(struct seal_request **list, struct seal_request *request)
{
    while (*list)
        list = &(*list)->next;
    request->next = NULL;
    *list = request;
}

struct seal_request *seal_requests_find(struct seal_request *list, const char *channel, uint64_t id)
{
    while (list && (list->seal.id != id || strcmp(list->seal.channel, channel) != 0))
        list = list->next;
    return list;
}

bool seal_requests_have(const struct seal_request *list, const char *channel)
{
    while (list && strcmp(list->seal.channel, channel) != 0)
        list = list->next;
    return list != NULL;
}

void seal_requests_remove(struct seal_request **list, const struct seal_request *request)
{
    while (*list && *list != request)
        list = &(*list)->next;
    if (*list)
        *list = request->next;
}

void seal_requests_free(struct seal_request **list)
{
    struct seal_request *request;
    while ((request = *list)) {
        *list = request->next;
        log_warning("channel %s: segment %s was not sealed; the next start recovers it",
                    request->seal.channel, request->seal.name);
        free(request);
    }
}

/* ---- numbers without records ---- */

struct numbers_request *numbers_requests_find(struct numbers_request *list, const char *channel)
{
    while (list && strcmp(list->numbers.channel, channel) != 0)
        list = list->next;
    return list;
}

struct numbers_request *numbers_requests_add(struct numbers_request **list,
                                             const struct message_numbers *numbers)
{
    struct numbers_request *request = numbers_requests_find(*list, numbers->channel);
    if (!request) {
        request = calloc(1, sizeof *request);
        if (!request)
            return NULL;
        request->next = *list;
        *list = request;
    }
    if (numbers->next_seq > request->numbers.next_seq)
        request->numbers = *numbers;
    return request;
}

void numbers_requests_done(struct numbers_request **list, const struct message_numbered *numbered)
{
    struct numbers_request *request = numbers_requests_find(*list, numbered->channel);
    if (!request || request->numbers.next_seq > numbered->next_seq)
        return;
    while (*list != request)
        list = &(*list)->next;
    *list = request->next;
    free(request);
}

bool numbers_requests_are_awaited(const struct numbers_request *list)
{
    while (list && list->refused)
        list = list->next;
    return list != NULL;
}

void numbers_requests_free(struct numbers_request **list)
{
    struct numbers_request *request;
    while ((request = *list)) {
        *list = request->next;
        log_warning("channel %s: that datagrams up to number %llu were received and not recorded "
                    "could not be noted; the next start gives their numbers again",
                    request->numbers.channel, (unsigned long long)request->numbers.next_seq - 1);
        free(request);
    }
}

/* ---- readers' positions ---- */

static size_t count_of_user(const struct position_requests *requests, uint32_t uid)
{
    size_t count = 0;
    for (const struct position_request *it = requests->first; it; it = it->next)
        count += it->save.uid == uid;
    return count;
}

int position_requests_add(struct position_requests *requests, uint64_t asker,
                          const struct message_position_save *save)
{
    struct position_request **end = &requests->first;
    if (requests->count >= POSITIONS_MAX ||
        count_of_user(requests, save->uid) >= POSITIONS_MAX_OF_USER)
        return -EBUSY;
    struct position_request *request = calloc(1, sizeof *request);
    if (!request)
        return -ENOMEM;
    request->asker = asker;
    request->its_turn = save->turn;
    request->save = *save;
    request->save.turn = ++requests->last_turn;
    while (*end)
        end = &(*end)->next;
    *end = request;
    requests->count++;
    return 0;
}

struct position_request *position_requests_next(struct position_requests *requests,
                                                const struct position_judge *judge)
{
    uint32_t under_way[POSITIONS_AT_ONCE];
    size_t count = 0, fewest = SIZE_MAX;
    struct position_request *best = NULL;
    const char *waiting = ""; /* this channel's do, as the one before */
    if (requests->asked >= POSITIONS_AT_ONCE)
        return NULL;
    for (const struct position_request *it = requests->first; it; it = it->next)
        if (it->asked)
            under_way[count++] = it->save.uid;
    for (struct position_request *it = requests->first; it; it = it->next) {
        if (it->asked || strcmp(it->save.channel, waiting) == 0)
            continue;
        if (judge->judge(judge->data, &it->save) != POSITION_MAY_GO) {
            waiting = it->save.channel;
            continue;
        }
        size_t own = 0;
        for (size_t i = 0; i < count; i++)
            own += under_way[i] == it->save.uid;
        if (own < fewest) {
            fewest = own;
            best = it;
        }
    }
    return best;
}

/* What else this user wants goes behind what others do. */
static void put_last(struct position_requests *requests, uint32_t uid)
{
    struct position_request *own = NULL, **own_end = &own, **at = &requests->first;
    while (*at) {
        struct position_request *it = *at;
        if (it->asked || it->save.uid != uid) {
            at = &it->next;
            continue;
        }
        *at = it->next;
        it->next = NULL;
        *own_end = it;
        own_end = &it->next;
    }
    *at = own;
}

void position_requests_note_asked(struct position_requests *requests,
                                  struct position_request *request)
{
    request->asked = true;
    requests->asked++;
    put_last(requests, request->save.uid);
}

static struct position_request *take_off(struct position_requests *requests,
                                         struct position_request **at)
{
    struct position_request *request = *at;
    if (!request)
        return NULL;
    *at = request->next;
    requests->count--;
    requests->asked -= request->asked;
    return request;
}

struct position_request *position_requests_take(struct position_requests *requests, uint64_t turn)
{
    struct position_request **at = &requests->first;
    while (*at && (*at)->save.turn != turn)
        at = &(*at)->next;
    return take_off(requests, at);
}

struct position_request *position_requests_take_refused(struct position_requests *requests,
                                                        const struct position_judge *judge)
{
    struct position_request *refused = NULL, **end = &refused, **at = &requests->first;
    while (*at) {
        if ((*at)->asked || judge->judge(judge->data, &(*at)->save) != POSITION_IS_REFUSED) {
            at = &(*at)->next;
            continue;
        }
        struct position_request *one = *at;
        take_off(requests, at);
        one->next = NULL;
        *end = one;
        end = &one->next;
    }
    return refused;
}

void position_requests_again(struct position_requests *requests)
{
    for (struct position_request *request = requests->first; request; request = request->next)
        request->asked = false;
    requests->asked = 0;
}

/* Whoever asked was not told that they are kept, and asks again. */
void position_requests_free(struct position_requests *requests)
{
    struct position_request *request;
    while ((request = requests->first)) {
        requests->first = request->next;
        free(request);
    }
    *requests = (struct position_requests){0};
}
