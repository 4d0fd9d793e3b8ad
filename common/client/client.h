/* SPDX-License-Identifier: MIT */
/* libholdfast's handles from inside: two kinds, each a table of functions. handle.c is the public
 * side; it has checked arguments before it calls one of these. */
#ifndef HOLDFAST_COMMON_CLIENT_CLIENT_H
#define HOLDFAST_COMMON_CLIENT_CLIENT_H

#include "common/client/holdfast.h"

/* Of a reader. Missing ones (NULL) mean -EOPNOTSUPP; next, lag, seek and close are always there. */
struct reader_kind {
    int (*next)(hf_reader *reader, struct hf_datagram *ret);
    int (*fd)(hf_reader *reader);
    int (*check)(hf_reader *reader, const struct hf_datagram *datagram); /* NULL: always whole */
    int (*seek)(hf_reader *reader, const struct hf_start *start);
    int (*save)(hf_reader *reader, uint64_t done_before);
    int (*lag)(hf_reader *reader, struct hf_lag *ret);
    void (*close)(hf_reader *reader); /* and frees it */
};

/* What every reader begins with. */
struct hf_reader {
    const struct reader_kind *kind;
    hf *handle;
    hf_reader *previous, *following; /* of the same handle */
    unsigned mode;                   /* HF_OLD ... HF_NEWEST */
    unsigned strict;                 /* HF_STRICT, or 0 */
    unsigned lost;                   /* HF_LOST was told: with strict, the end */
};

/* What every writer begins with. */
struct hf_writer {
    void (*close)(hf_writer *writer); /* and frees it */
    hf *handle;
    hf_writer *previous, *following; /* of the same handle */
};

/* Which log file is meant. */
struct log_name {
    enum { LOG_BY_NAME, LOG_FIRST, LOG_LAST, LOG_BY_SEQ, LOG_BY_TIME, LOG_RANGE } by;
    const char *name;
    uint64_t seq, last_seq; /* LOG_RANGE: [seq, last_seq] */
    int64_t time_ns;
};

/* What of it goes where. length 0: up to its end. */
struct log_copy {
    int to;
    uint64_t offset, length;
    unsigned how; /* enum hf_how */
};

struct handle_kind {
    int (*list)(hf *handle, struct hf_channel **ret, size_t *ret_count);
    /* channel may be NULL: the only one there is, or -EINVAL. start is never NULL. */
    int (*read)(hf *handle, const char *channel, const struct hf_start *start, unsigned mode,
                hf_reader **ret);
    int (*log_list)(hf *handle, const char *channel, struct hf_log **ret, size_t *ret_count);
    /* Never LOG_RANGE. */
    int (*log_open)(hf *handle, const char *channel, const struct log_name *name,
                    struct hf_log *ret);
    int (*log_find)(hf *handle, const char *channel, const struct log_name *name,
                    struct hf_log *ret); /* likewise; ret->fd stays -1 */
    /* Of LOG_RANGE; NULL: -EOPNOTSUPP. */
    int (*log_pieces)(hf *handle, const char *channel, const struct log_name *name,
                      struct hf_log_piece **ret, size_t *ret_count);
    /* Of LOG_RANGE, handle->copied is set where it succeeds. */
    int64_t (*log_copy)(hf *handle, const char *channel, const struct log_name *name,
                        const struct log_copy *copy);
    int (*position_list)(hf *handle, const char *channel, struct hf_position **ret,
                         size_t *ret_count);
    int (*forget)(hf *handle, const char *channel, const char *position);
    int (*connection_list)(hf *handle, struct hf_connection **ret, size_t *ret_count);
    int (*publish)(hf *handle, const char *channel, hf_writer **ret);
    void (*close)(hf *handle); /* its readers and writers are closed already; and frees it */
};

/* What every handle begins with. */
struct hf {
    const struct handle_kind *kind;
    hf_reader *readers;
    hf_writer *writers;
    struct hf_log_range
        copied; /* by the last hf_log_copy() of a range; no records: there is none */
};

#endif
