/* SPDX-License-Identifier: MIT */
/* Messages between the supervisor and its children (message.def): shapes, and one strict decoder
 * for both sides. */
#ifndef HOLDFAST_COMMON_MESSAGE_H
#define HOLDFAST_COMMON_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/avro_log_name.h"
#include "common/channel_spec.h"
#include "common/death.h"
#include "common/gate_counters.h"
#include "common/gate_histogram.h"
#include "common/gate_limits.h"
#include "common/read_protocol.h"

#define MESSAGE_MAGIC   0x48464d31u /* "HFM1" */
#define MESSAGE_VERSION 4u
#define MESSAGE_FDS_MAX 253 /* SCM_MAX_FD of the kernel */
#define MESSAGE_FD      3   /* the child's end */

enum message_direction {
    TO_CHILD = 1,
    TO_PARENT = 2,
    BOTH_WAYS = 3,
};

enum message_type {
#define MESSAGE(NAME, number, direction, payload, fds) MESSAGE_##NAME = number,
#include "common/message.def"
#undef MESSAGE
};

struct message_header {
    uint32_t magic;
    uint16_t version;
    uint16_t type;
    uint64_t generation; /* of the child: what an earlier one said is dropped */
    uint32_t fd_count;
    uint32_t payload_size;
};

enum child_role {
    ROLE_CHANNEL = 1,
    ROLE_ARCHIVE = 2,
    ROLE_GATE = 3,
};

#define MESSAGE_REASON_SIZE 160

/* A segment file as the archive hands it out. The name is the supervisor's business; a worker knows
 * it by id. */
struct segment_grant {
    uint64_t id;      /* inode number */
    uint64_t size;    /* preallocated bytes */
    uint8_t sync[16]; /* the file's random Avro sync marker */
    /* of the recording that the segment is part of; zeros = not known */
    uint8_t log_id[16];
    char name[SEGMENT_NAME_SIZE];
};

struct message_empty {
    uint64_t reserved;
};

#define BEAT_MS_MAX 1000

struct message_assign {
    uint32_t role;         /* enum child_role */
    uint32_t last_death;   /* enum death_cause, of the generation before */
    uint32_t fresh_ring;   /* the ring was made for this generation: nothing to take over */
    uint32_t has_old_ring; /* what is in it is to be brought into this one: channel_page_v1.h */
    uint32_t has_segment;
    uint32_t has_next;
    uint32_t spec_size;   /* bytes of the channel_spec behind this struct; 0 for the archive */
    uint32_t last_thread; /* that the predecessor died of; CHANNEL_THREAD_COUNT = not known */
    uint32_t beat_ms;     /* every thread of a channel gives a sign of life at least so often */
    uint32_t has_lock; /* archive only: log_dir's, as an archive before this one said in LOG_DIR */
    struct segment_grant segment;
    struct segment_grant next;
    /* channel only: readers are served; the wake memory and its eventfd ride along (read_wake.h) */
    uint32_t has_wake;
    uint32_t wake_index;
    char log_dir[512]; /* archive and gate */
    /* archive only */
    uint64_t outer_mount; /* of that LOG_DIR */
};

struct message_ready {
    uint32_t recovered; /* datagrams saved from the predecessor's in-flight batch */
    /* The ring can't be trusted: make a fresh one and assign again; reason says why. */
    uint32_t ring_refused;
    uint32_t mapping_double;
    uint32_t reserved;
    char reason[MESSAGE_REASON_SIZE];
};

struct message_segment_wanted {
    uint64_t current_id; /* 0 = it has none */
};

struct message_segment {
    char channel[CHANNEL_NAME_SIZE];
    int32_t error; /* 0, or errno and no fd */
    uint32_t reserved;
    struct segment_grant grant;
    char reason[MESSAGE_REASON_SIZE];
};

struct message_segment_done {
    uint64_t finished_id; /* 0 = this was the first one */
    uint64_t finished_length;
    uint64_t begun_id;
    uint64_t begun_first_seq;
    uint64_t begun_created_ns;
};

struct message_segment_failed {
    uint64_t segment_id;
    uint64_t committed_length;
    int32_t error;
    uint32_t reserved;
    char reason[MESSAGE_REASON_SIZE];
};

struct message_stop {
    uint32_t seal; /* 1: the segment ends here, its block is sealed; 0: another worker goes on */
    uint32_t reserved;
};

struct message_bye {
    uint64_t segment_id; /* 0 = none */
    uint64_t committed_length;
    uint64_t next_seq;
};

enum recover_flags {
    RECOVER_AGAIN = 1, /* what could not be finished was told */
    /* Nobody but the files knows which numbers were given: those behind their end are given again
     */
    RECOVER_ANEW = 2,
};

struct message_recover {
    char channel[CHANNEL_NAME_SIZE];
    uint32_t keep_count; /* segments that workers or the supervisor still hold: leave them alone */
    uint32_t flags;      /* enum recover_flags */
    char keep[2][SEGMENT_NAME_SIZE];
    uint64_t
        keep_id[2]; /* inode numbers: a rename may have failed, or not be done yet. 0 = unknown */
};

struct message_recovered {
    char channel[CHANNEL_NAME_SIZE];
    int32_t error;
    uint32_t files;    /* that were mended */
    uint32_t left;     /* that could not be finished, and stay as they are */
    uint32_t flags;    /* of the RECOVER that this answers */
    uint64_t next_seq; /* after the last recorded one; 0 for an empty folder */
    char reason[MESSAGE_REASON_SIZE];
};

struct message_open_segment {
    char channel[CHANNEL_NAME_SIZE];
    uint64_t size;
};

struct message_begin_segment {
    char channel[CHANNEL_NAME_SIZE];
    char from[SEGMENT_NAME_SIZE];
    char to[SEGMENT_NAME_SIZE];
};

struct message_seal {
    char channel[CHANNEL_NAME_SIZE];
    char name[SEGMENT_NAME_SIZE]; /* ends in .avro.open */
    uint64_t id;
    uint64_t length; /* 0 = no record in it: remove it. UINT64_MAX = unknown: recover it */
    uint32_t copy;   /* 1: writing it failed, and what can be read may be in memory only */
    uint32_t again;  /* 1: another archive was asked, or this one, and may have done it */
};

struct message_sealed {
    char channel[CHANNEL_NAME_SIZE];
    char name[SEGMENT_NAME_SIZE]; /* as it is now */
    uint64_t id;
    uint64_t length;
    int32_t error;
    uint32_t reserved;
    char reason[MESSAGE_REASON_SIZE];
};

struct message_expire {
    char channel[CHANNEL_NAME_SIZE];
    uint64_t keep_for_ns;
    uint64_t keep_at_most;
    uint32_t keep_free_ppm;
    uint32_t reserved;
};

struct message_sweep {
    char channel[CHANNEL_NAME_SIZE]; /* "" when none records */
    uint32_t last;
    uint32_t reserved;
};

struct message_numbers {
    char channel[CHANNEL_NAME_SIZE];
    uint64_t next_seq;
    char listen[SOCKET_ADDRESS_TEXT_SIZE];
};

struct message_numbered {
    char channel[CHANNEL_NAME_SIZE];
    uint64_t next_seq; /* of the request */
    int32_t error;
    uint32_t reserved;
    char reason[MESSAGE_REASON_SIZE];
};

struct message_sync {
    char channel[CHANNEL_NAME_SIZE];
    uint64_t turn;  /* comes back with the answer */
    uint64_t id[2]; /* inode numbers; 0 = none */
};

struct message_synced {
    char channel[CHANNEL_NAME_SIZE];
    uint64_t turn;
    int32_t error;
    uint32_t
        refused; /* 1: by the disk. It does not say so again, and takes for written what is not */
};

struct message_channel_lent {
    char channel[CHANNEL_NAME_SIZE];
    char listen[SOCKET_ADDRESS_TEXT_SIZE];
    uint32_t wake_index; /* its word in the wake memory */
    uint32_t records;    /* it has a record section */
    uint32_t has_ring;   /* and its public memory rides along; 0: it has none just now */
    uint32_t settled;    /* numbers are the log's; 0: the ring's own, until the log is known */
    uint64_t ring;       /* another number for another ring; 0 = none */
    uint32_t publishes;  /* programs may write into it: PUBLISH */
    uint32_t publishers; /* ... of this group; UINT32_MAX: whoever may connect */
};

struct message_channel_gone {
    char channel[CHANNEL_NAME_SIZE];
};

struct message_gate_report {
    uint64_t value[GATE_COUNTER_COUNT];
    uint64_t bytes[GATE_MODE_COUNT]; /* handed out */
    struct gate_histogram latency[GATE_MODE_COUNT], queue_wait;
};

struct message_gate_limits {
    struct gate_limits limits;
};

struct message_position_save {
    char channel[CHANNEL_NAME_SIZE];
    char name[READ_POSITION_SIZE];
    uint64_t turn; /* comes back with the answer */
    uint64_t seq;
    int64_t saved_ns; /* wall clock */
    uint32_t uid;     /* whose it is */
    uint32_t forget;  /* 1: remove it */
};

struct message_position_saved {
    char channel[CHANNEL_NAME_SIZE];
    char name[READ_POSITION_SIZE];
    uint64_t turn;
    int32_t error;
    uint32_t reserved;
    char reason[MESSAGE_REASON_SIZE];
};

struct message_outbox {
    uint64_t id;    /* outbox_answer's */
    uint32_t place; /* among the channel's, below CHANNEL_PUBLISHERS_MAX */
    uint32_t reserved;
};

struct message_outbox_done {
    uint64_t id;
    uint32_t place;
    uint32_t cut_off; /* 1: it has broken the rules, and reason says which */
    char reason[MESSAGE_REASON_SIZE];
};

struct message_publish {
    char channel[CHANNEL_NAME_SIZE];
    uint64_t turn;     /* comes back with the answer */
    uint32_t uid, pid; /* who it is, as the kernel says, and */
    char name[16];     /* as it says itself */
};

struct message_published {
    uint64_t turn;
    int32_t error; /* 0, or errno and no fds */
    uint32_t reserved;
    char reason[MESSAGE_REASON_SIZE];
};

struct message_log_dir {
    int32_t error; /* 0, or errno and no fd */
    uint32_t reserved;
    uint64_t outer_mount; /* what log_dir's is mounted on: worker/archive/dir_lock.h */
    char reason[MESSAGE_REASON_SIZE];
};

/* Large enough for every message; an ASSIGN with all destinations is the largest. */
#define MESSAGE_SIZE_MAX (128 * 1024)

/* A message that was received and found to be exactly what its type says. The fds are the
 * receiver's: it takes them with fd_take() and closes the rest with message_release(). */
struct message {
    struct message_header header;
    union {
        const void *payload;
        const struct message_assign *assign;
        const struct message_ready *ready;
        const struct message_segment_wanted *segment_wanted;
        const struct message_segment *segment;
        const struct message_segment_done *segment_done;
        const struct message_segment_failed *segment_failed;
        const struct message_stop *stop;
        const struct message_bye *bye;
        const struct message_recover *recover;
        const struct message_recovered *recovered;
        const struct message_open_segment *open_segment;
        const struct message_begin_segment *begin_segment;
        const struct message_seal *seal;
        const struct message_sealed *sealed;
        const struct message_expire *expire;
        const struct message_log_dir *log_dir;
        const struct message_sweep *sweep;
        const struct message_numbers *numbers;
        const struct message_numbered *numbered;
        const struct message_sync *sync;
        const struct message_synced *synced;
        const struct message_channel_lent *channel_lent;
        const struct message_channel_gone *channel_gone;
        const struct message_gate_report *gate_report;
        const struct message_gate_limits *gate_limits;
        const struct message_position_save *position_save;
        const struct message_position_saved *position_saved;
        const struct message_outbox *outbox;
        const struct message_outbox_done *outbox_done;
        const struct message_publish *publish;
        const struct message_published *published;
    };
    int fds[MESSAGE_FDS_MAX];
    _Alignas(8) uint8_t bytes[MESSAGE_SIZE_MAX];
};

const char *message_name(unsigned type); /* "ASSIGN"; "unknown" for others */

/* The spec behind an ASSIGN's fixed part. */
const struct channel_spec *message_assign_spec(const struct message_assign *assign);

/* How many fds a payload of this type must bring. */
uint32_t message_fd_count(unsigned type, const void *payload);

/* Send one message; the fds stay the caller's. payload_size covers the tail of ASSIGN. 0, -EAGAIN
 * when the peer's queue is full, or -errno. Never blocks, never raises SIGPIPE. */
int message_send(int socket, enum message_type type, uint64_t generation, const void *payload,
                 size_t payload_size, const int *fds, uint32_t fd_count);

/* Receive one message meant for `direction` (the way it goes). Blocks only if the socket does.
 * 1 = a message is in *ret; 0 = the peer closed; -EAGAIN; -EBADMSG with *ret_what saying why it was
 * refused (all fds that came along are closed, the connection is still usable); other -errno. Texts
 * in every payload are terminated. */
int message_receive(int socket, enum message_direction direction, struct message *ret,
                    const char **ret_what);

/* Close the fds that nobody took. */
void message_release(struct message *message);

#endif
