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

/* Readers' positions to be kept or removed: a few at a time, so that they never hold up what
 * recording waits for, and users in turns, so that nobody waits for all of another's. */
#define POSITIONS_MAX         4096
#define POSITIONS_MAX_OF_USER (POSITIONS_MAX / 4)
#define POSITIONS_AT_ONCE     4

struct position_request {
    struct position_request *next;
    uint64_t asker; /* generation of the gate */
    uint64_t its_turn;
    bool asked;                        /* this archive */
    struct message_position_save save; /* with a turn of our own, never used twice */
};

struct position_requests {
    struct position_request *first;
    size_t count, asked;
    uint64_t last_turn;
};

/* 0, -EBUSY or -ENOMEM. */
int position_requests_add(struct position_requests *requests, uint64_t asker,
                          const struct message_position_save *save);
/* What is to be done with one that the archive has not been asked for. */
enum position_verdict { POSITION_MAY_GO, POSITION_IS_TO_WAIT, POSITION_IS_REFUSED };
struct position_judge {
    /* It may be changed where it goes. */
    enum position_verdict (*judge)(void *data, struct message_position_save *save);
    void *data;
};

/* Those that are refused, out of the list, in `next`, the caller's; NULL when there are none. */
struct position_request *position_requests_take_refused(struct position_requests *requests,
                                                        const struct position_judge *judge);

/* The next one to be asked for, of the user that has the fewest under way, and of those of the one
 * whose turn was longest ago; NULL when there is none, or enough are under way. */
struct position_request *position_requests_next(struct position_requests *requests,
                                                const struct position_judge *judge);
void position_requests_note_asked(struct position_requests *requests,
                                  struct position_request *request);
/* Out of the list, the caller's; NULL when nobody asks for it. */
struct position_request *position_requests_take(struct position_requests *requests, uint64_t turn);
/* Another archive: it has been asked for nothing. */
void position_requests_again(struct position_requests *requests);
void position_requests_free(struct position_requests *requests);

#endif
