/* SPDX-License-Identifier: MIT */
/* Lists of what the archive has been asked for. Called by archive_client.c, which sends and
 * answers. Must never change their order: what the segment before has tells what becomes of one
 * without records. */
#include "supervisor/archive/archive_requests.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"

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
