/* SPDX-License-Identifier: MIT */
/* What is asked of the archive until it is answered, whoever is the archive meanwhile: lists, in
 * the order in which things were asked for first. */
#ifndef HOLDFAST_SUPERVISOR_ARCHIVE_ARCHIVE_REQUESTS_H
#define HOLDFAST_SUPERVISOR_ARCHIVE_ARCHIVE_REQUESTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/message.h"

struct seal_request {
    struct seal_request *next;
    char began_as[SEGMENT_NAME_SIZE]; /* "" = it was not begun */
    bool told;                        /* that it failed */
    unsigned due;                     /* answers that this archive owes; the last one counts */
    struct message_seal seal;
};

void seal_requests_append(struct seal_request **list, struct seal_request *request);
/* NULL when there is none. */
struct seal_request *seal_requests_find(struct seal_request *list, const char *channel,
                                        uint64_t id);
bool seal_requests_have(const struct seal_request *list, const char *channel);
/* Out of the list; the caller's now. */
void seal_requests_remove(struct seal_request **list, const struct seal_request *request);
/* Those that are left are told. */
void seal_requests_free(struct seal_request **list);

#endif
