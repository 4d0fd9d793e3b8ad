/* SPDX-License-Identifier: MIT */
/* What readers and the gate say to each other (read_protocol.def): shapes, and one strict decoder
 * for both sides. The read socket is a Unix SOCK_SEQPACKET: one packet is one header and one
 * payload; over TCP, one follows the other (read_stream.h). Whatever a reader sends that isn't
 * exactly one of these ends its connection. */
#ifndef HOLDFAST_COMMON_READ_PROTOCOL_H
#define HOLDFAST_COMMON_READ_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/avro_log_name.h"
#include "common/channel_spec.h"

#define READ_SOCKET_DEFAULT  "/run/holdfast/read.sock"
#define READ_SOCKET_VARIABLE "HOLDFAST_READ_SOCKET"
#define READ_SOCKET_NAME     "read.sock" /* beside the control socket */

#define READ_MAGIC           0x48465231u /* "HFR1" */
#define READ_VERSION         1u
#define READ_REASON_SIZE     160
#define READ_POSITION_SIZE   64 /* a position's name, by the rules of a channel's */
#define READ_LIST_MAX        64 /* entries in one answer */
#define READ_PACKET_MAX      (32 * 1024)
#define READ_BYTES_MAX       (1024 * 1024)
#define READ_FDS_MAX         4 /* descriptors that one packet brings */
/* Requests of one connection that are not answered yet; then the gate reads no more of it. */
#define READ_PIPELINE_MAX 16

enum read_direction { TO_GATE = 1, TO_READER = 2 };

enum read_type {
#define READ_PACKET(NAME, number, direction, payload, fds) READ_##NAME = number,
#include "common/read_protocol.def"
#undef READ_PACKET
};

struct read_header {
    uint32_t magic;
    uint16_t version;
    uint16_t type;
    uint32_t request; /* the reader's own number; comes back with the answer. WOKEN: 0 */
    uint32_t size;    /* of the payload, its tail included */
};

struct read_hello {
    char program[16]; /* for `holdfastctl readers` */
};

struct read_welcome {
    uint64_t generation; /* of the gate */
};

struct read_refused {
    int32_t error; /* an errno, positive */
    uint32_t reserved;
    char reason[READ_REASON_SIZE];
};

struct read_list {
    char after[CHANNEL_NAME_SIZE]; /* "" = from the first one on */
};

struct read_channel {
    char name[CHANNEL_NAME_SIZE];
    char listen[SOCKET_ADDRESS_TEXT_SIZE];
    uint32_t can; /* HF_CAN_... of holdfast.h */
    uint32_t reserved;
    uint64_t first_seq, end_seq; /* recorded: [first_seq, end_seq) */
};

struct read_channels {
    uint32_t count;
    uint32_t reserved;
};

struct read_attach {
    char channel[CHANNEL_NAME_SIZE];
    uint32_t mode; /* HF_OLD ... HF_NEWEST, for `readers` */
    uint32_t reserved;
};

struct read_attached {
    uint32_t records;  /* it has a record section */
    uint32_t has_ring; /* and its public memory rides along */
    uint64_t ring;     /* which one: another number for another ring */
};

enum read_find_by {
    READ_BY_SEQ = 1, /* the last segment that begins at or before seq; else the first one */
    READ_BY_TIME =
        2, /* the first segment that may have a record of time_ns or later; else the last */
    READ_FIRST = 3,
    READ_LAST = 4,
    READ_AFTER = 5, /* the first one that begins after seq */
    READ_BY_NAME =
        6, /* OBJECT: the one with this name, or, of an open one, what it was sealed as */
};

struct read_find {
    uint32_t by; /* enum read_find_by */
    uint32_t reserved;
    uint64_t seq;
    int64_t time_ns;
};

/* -ENOENT as REFUSED: there is none such. */
struct read_found {
    uint64_t id; /* inode number, as the commit slot names segments */
    uint64_t first_seq;
    uint64_t next_first_seq; /* of the segment behind it; UINT64_MAX = there is none */
    uint64_t oldest_seq;     /* where the oldest segment begins */
    uint32_t is_open;        /* by its name: not sealed yet */
    uint32_t reserved;
    char name[SEGMENT_NAME_SIZE];
};

enum read_arm_for {
    READ_FOR_COMMITTED = 1, /* commit.next_seq > seq */
    READ_FOR_PUBLISHED = 2, /* published > seq */
};

struct read_arm {
    uint32_t what; /* enum read_arm_for */
    uint32_t reserved;
    uint64_t seq;
    uint64_t ring; /* of ATTACHED: another one by now is reason enough; 0 = had none */
};

struct read_woken {
    uint64_t ring; /* the channel's present one; 0 = it has none now */
};

struct read_progress {
    uint64_t next_seq;
};

/* Of this connection's channel; CLAIM keeps it until the connection ends. */
struct read_position {
    char channel[CHANNEL_NAME_SIZE];
    char name[READ_POSITION_SIZE];
    uint64_t seq;   /* SAVE: everything before it is done with. POSITION: where it is */
    uint32_t known; /* POSITION: it has been saved before */
    uint32_t reserved;
};

struct read_list_positions {
    char channel[CHANNEL_NAME_SIZE];       /* "" = of all */
    char after_channel[CHANNEL_NAME_SIZE]; /* "" = from the first one on */
    char after[READ_POSITION_SIZE];
};

struct read_position_entry {
    char channel[CHANNEL_NAME_SIZE];
    char name[READ_POSITION_SIZE];
    uint64_t seq;
    int64_t saved_ns;
    uint32_t uid;
    uint32_t in_use;
};

struct read_positions {
    uint32_t count;
    uint32_t reserved;
};

struct read_list_segments {
    char channel[CHANNEL_NAME_SIZE];
    char after[SEGMENT_NAME_SIZE]; /* "" = from the first one on */
};

struct read_segment_entry {
    char name[SEGMENT_NAME_SIZE];
    uint64_t first_seq, last_seq, records;
    int64_t first_time_ns, last_time_ns, created_ns;
    uint64_t size;
    uint32_t is_open, has_totals;
};

struct read_segments {
    uint32_t count;
    uint32_t reserved;
};

enum read_how {
    READ_FDPASS = 1,   /* a descriptor of its own */
    READ_COPY = 2,     /* its bytes, through a pipe */
    READ_SPLICE = 3,   /* the same, without copying them in memory */
    READ_DESCRIBE = 4, /* OBJECT: only what it is; no descriptor, and nothing follows */
};

struct read_object {
    char channel[CHANNEL_NAME_SIZE];
    char name[SEGMENT_NAME_SIZE]; /* READ_BY_NAME */
    uint32_t by;                  /* enum read_find_by */
    uint32_t how;                 /* enum read_how */
    uint64_t seq;
    int64_t time_ns;
    uint64_t offset, length; /* COPY, SPLICE: these bytes of it; length 0: up to its end */
};

struct read_object_lent {
    uint64_t id;             /* inode number */
    uint64_t offset, length; /* COPY, SPLICE: what comes */
    struct read_segment_entry about;
};

struct read_object_sent {
    uint64_t bytes; /* in the pipe */
    int32_t error;  /* an errno, positive, where they are not all; ESTALE: it has been removed */
    uint32_t reserved;
};

/* Over TCP, where no pipe can be lent. */
struct read_object_bytes {
    uint64_t length; /* that follow, and are part of no packet; from 1 to READ_BYTES_MAX */
};

struct read_range {
    char channel[CHANNEL_NAME_SIZE];
    uint64_t first, last; /* records [first, last] */
    uint32_t how;         /* enum read_how; SPLICE is as COPY: the records are written anew */
    /* FDPASS: of which file. READ_BY_SEQ, or READ_AFTER: of the first that begins behind seq. One
     * that has no finished block of them is passed over. */
    uint32_t by;
    uint64_t seq;
};

/* -ENOENT as REFUSED: there are no such records, or no more. */
struct read_range_lent {
    /* FDPASS: whole finished blocks of the file, their neighbours' records included. */
    uint64_t header_length;
    uint64_t offset, length;
    uint64_t first_seq, last_seq;
    uint64_t next_first_seq; /* of the file behind it; UINT64_MAX: there is none */
    struct read_segment_entry about;
};

struct read_range_sent {
    uint64_t bytes, records;
    uint64_t first_seq, last_seq; /* the first and the last record that there is of them */
    int32_t error; /* an errno, positive, where they are not all; ESTALE: they have been removed */
    uint32_t reserved;
};

struct read_list_readers {
    uint64_t after; /* 0 = from the first one on */
};

struct read_reader_entry {
    uint64_t number; /* of the connection: never used twice by one gate */
    uint32_t uid, pid;
    char program[16];
    char channel[CHANNEL_NAME_SIZE];
    uint32_t mode;
    uint32_t reserved;
    uint64_t next_seq, end_seq;
    int64_t since_ns;
    uint64_t requests, bytes; /* made, and handed out of log files, since it connected */
    double requests_per_second, bytes_per_second; /* over the last few seconds */
};

struct read_readers {
    uint32_t count;
    uint32_t reserved;
};

struct read_publish {
    char channel[CHANNEL_NAME_SIZE];
};

struct read_published {
    uint64_t id; /* outbox_answer's */
};

/* A packet that was received and found to be exactly what its type says; every text in it is
 * terminated. */
struct read_packet {
    struct read_header header;
    /* The receiver's: taken with fd_take(), or closed by read_packet_release(); -1 = none. */
    union {
        int fd; /* the first one: of all but PUBLISHED, the only one */
        int fds[READ_FDS_MAX];
    };
    uint32_t fd_count; /* that came */
    union {
        const void *payload;
        const struct read_hello *hello;
        const struct read_welcome *welcome;
        const struct read_refused *refused;
        const struct read_list *list;
        const struct read_channels *channels;
        const struct read_attach *attach;
        const struct read_attached *attached;
        const struct read_find *find;
        const struct read_found *found;
        const struct read_arm *arm;
        const struct read_woken *woken;
        const struct read_progress *progress;
        const struct read_position *position;
        const struct read_list_positions *list_positions;
        const struct read_positions *positions;
        const struct read_list_segments *list_segments;
        const struct read_segments *segments;
        const struct read_object *object;
        const struct read_object_lent *object_lent;
        const struct read_object_sent *object_sent;
        const struct read_object_bytes *object_bytes;
        const struct read_range *range;
        const struct read_range_lent *range_lent;
        const struct read_range_sent *range_sent;
        const struct read_list_readers *list_readers;
        const struct read_readers *readers;
        const struct read_publish *publish;
        const struct read_published *published;
    };
    uint32_t count; /* entries behind a list's fixed part */
    const void *entries;
    _Alignas(8) uint8_t bytes[READ_PACKET_MAX];
};

const char *read_packet_name(unsigned type); /* "FIND"; "unknown" for others */

/* Send one packet; the fd stays the caller's, -1 for none. payload: the fixed part and, of a list,
 * its entries right behind it. 0, -EAGAIN when the peer takes no more just now, or -errno. Never
 * blocks, never raises SIGPIPE. */
int read_packet_send(int socket, enum read_type type, uint32_t request, const void *payload,
                     size_t size, int fd);
/* The same with several, as many as the table says. */
int read_packet_send_fds(int socket, const struct read_header *about, const void *payload,
                         const int *fds, uint32_t fd_count);

/* Receive one packet that goes this way. 1 = it is in *ret; 0 = the peer closed; -EAGAIN; -EBADMSG
 * with *ret_what: it was none of ours, and nothing is left open; -EMFILE: its descriptor found no
 * free number; other -errno. Blocks only if the socket does. */
int read_packet_receive(int socket, enum read_direction direction, struct read_packet *ret,
                        const char **ret_what);
/* The first `length` of packet->bytes are one: then the packet describes it, without a descriptor,
 * and NULL is returned; else what is wrong with them. */
const char *read_packet_check(struct read_packet *packet, size_t length,
                              enum read_direction direction);
void read_packet_release(struct read_packet *packet);

#endif
