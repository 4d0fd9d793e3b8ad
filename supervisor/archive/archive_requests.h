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

/* At most one for each channel: the highest number. */
struct numbers_request {
    struct numbers_request *next;
    bool refused; /* it waits for the next try */
    bool told;    /* that it was */
    struct message_numbers numbers;
};

/* The channel's, with this one or a higher number in it; NULL when there is no memory for it. */
struct numbers_request *numbers_requests_add(struct numbers_request **list,
                                             const struct message_numbers *numbers);
/* Answered without an error: it is forgotten, unless it is for a higher number by now. */
void numbers_requests_done(struct numbers_request **list, const struct message_numbered *numbered);
struct numbers_request *numbers_requests_find(struct numbers_request *list, const char *channel);
bool numbers_requests_are_awaited(const struct numbers_request *list);
/* Those that are left are told. */
void numbers_requests_free(struct numbers_request **list);

#endif
