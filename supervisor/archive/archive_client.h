/* SPDX-License-Identifier: MIT */
/* The supervisor's side of the archive process: requests that outlive one archive, and so does the
 * lock on log_dir. It knows the
 * names of channels, not channels; answers go to its owner. Every request is idempotent: after the
 * archive's death it is simply asked again. */
#ifndef HOLDFAST_SUPERVISOR_ARCHIVE_ARCHIVE_CLIENT_H
#define HOLDFAST_SUPERVISOR_ARCHIVE_ARCHIVE_CLIENT_H

#include "common/channel_spec.h"
#include "common/message.h"
#include "supervisor/archive/archive_requests.h"
#include "supervisor/child/spares.h"

struct archive_owner {
    /* RECOVERED, SEGMENT, SYNCED or NUMBERED, for the channel that the message names. Takes the fds
     * it wants.
     */
    void (*answer)(void *data, const char *channel, struct message *message);
    /* A SEAL was answered; finished: there is one more finished segment now. */
    void (*sealed)(void *data, const char *channel, bool finished);
    /* What archive_client_position() was asked, by whom; the turn is that of the request. */
    void (*position)(void *data, uint64_t asker, const struct message_position_saved *saved);
    /* Before the archive is asked for one. */
    enum position_verdict (*position_judge)(void *data, struct message_position_save *save);
    /* A new archive runs: whatever else was asked of the one before is asked again. */
    void (*back)(void *data);
    void (*ended)(void *data);
    void *data;
};

struct archive_client {
    sd_event *event;
    struct spares *spares;
    const struct settings *settings;
    struct archive_owner owner;
    struct child *child; /* NULL while none runs */
    struct restart restart;
    struct timer timer;
    /* log_dir's lock, as the archive has sent it: held while no archive runs, given to the next. */
    int lock;
    uint64_t outer_mount;
    char trouble[MESSAGE_REASON_SIZE]; /* with log_dir as a whole; "" = none */
    struct seal_request *seals;        /* asked for and not answered */
    size_t seal_count;
    bool told_to_stop;
    struct seal_request *failed;     /* could not be sealed: asked again now and then */
    struct numbers_request *numbers; /* given, without records, and not noted yet */
    struct position_requests positions;
    uint32_t unanswered;  /* requests that must be answered, of this archive */
    monotonic heard;      /* when it last answered, or was first asked after that */
    monotonic down_since; /* it ended by itself, and none has answered since; ns = 0: no */
    bool left_unsealed;   /* a segment could not be sealed: the next start recovers it */
};

/* One that somebody has stopped is silent for good: it keeps nothing in memory that matters, and is
 * replaced. Called now and then. */
void archive_client_look(struct archive_client *client, monotonic now);

void archive_client_init(struct archive_client *client, sd_event *event, struct spares *spares,
                         const struct settings *settings, const struct archive_owner *owner);

/* Start the archive; again after its death, by the restart policy. */
void archive_client_start(struct archive_client *client);

/* 0, or -errno: not asked; owners ask again when an archive is back. keep: segments that are in
 * use, NULL for none. flags: enum recover_flags. */
int archive_client_recover(struct archive_client *client, const char *channel,
                           const struct segment_grant *const keep[2], uint32_t flags);
int archive_client_open_segment(struct archive_client *client, const char *channel, uint64_t size);
void archive_client_begin(struct archive_client *client, const char *channel, const char *from,
                          const char *to);
/* Numbers below next_seq were given, and the records of the last ones are lost: the log goes on
 * behind them. Asked again until it is answered without an error. */
void archive_client_note_numbers(struct archive_client *client, const char *channel,
                                 uint64_t next_seq, const char *listen);

/* Keep or remove a reader's position. Asked again of the next archive until it is answered. 0,
 * -EBUSY: too many wait for that already, or -ENOMEM. */
int archive_client_position(struct archive_client *client, uint64_t asker,
                            const struct message_position_save *save);

/* Only asked when there is something to expire by, and the archive is not behind. */
void archive_client_expire(struct archive_client *client, const char *channel,
                           const struct record_spec *record);

/* 0, or -errno: not asked. */
int archive_client_sync(struct archive_client *client, const struct message_sync *sync);

struct seal_order {
    const char *began_as; /* the name it had before BEGIN_SEGMENT; "" = it was not begun */
    uint64_t length;      /* as in struct message_seal */
    bool copy;            /* as there */
};
/* The disk has refused part of a segment that was to be sealed: its records are to be in another
 * file. false: that is under way already. */
bool archive_client_copy(struct archive_client *client, const char *channel,
                         const struct segment_grant *grant);
/* Seal a segment, now or when there is an archive again. Frees the caller of it for good. */
void archive_client_seal(struct archive_client *client, const char *channel,
                         const struct segment_grant *grant, const struct seal_order *order);

/* Everything is sealed: let it end. */
void archive_client_stop(struct archive_client *client);
/* It was told to stop, and there is no end after all. */
void archive_client_go_on(struct archive_client *client);
void archive_client_free(struct archive_client *client);

/* It has been asked, and has not answered for that long (nanoseconds), or ends again and again; 0
 * when it is not so, or not long. A disk that hangs shows like that. */
#define ARCHIVE_SILENCE_NS (10 * NS_PER_S)
#define ARCHIVE_STOPPED_NS (30 * NS_PER_S)
uint64_t archive_client_silence(const struct archive_client *client, monotonic now);
/* It has been asked, and has not answered for a second: whoever waits for it waits for long. */
bool archive_client_is_busy(const struct archive_client *client, monotonic now);
/* What a silence is, for people. */
const char *archive_client_silence_cause(const struct archive_client *client);

/* One after the other every channel that records ("" when there is none), `last` with the last one:
 * what lies in other folders is then finished. 0 or -errno: then no `last` may follow. */
int archive_client_sweep(struct archive_client *client, const char *channel, bool last);

/* What could not be sealed, or noted, may be possible now. */
void archive_client_seal_failed_again(struct archive_client *client);
/* Is there one of this channel that is yet to be sealed? */
bool archive_client_is_to_seal(const struct archive_client *client, const char *channel);
/* How many of this channel it could not seal so far; *ret_name: one of them, NULL for none. */
size_t archive_client_unsealed(const struct archive_client *client, const char *channel,
                               const char **ret_name);
/* Is it being asked for something that an orderly end waits for? */
bool archive_client_is_awaited(const struct archive_client *client);
/* Is there a segment that the next start has to recover, or something that it will not know? */
bool archive_client_left_unsealed(const struct archive_client *client);

#endif
