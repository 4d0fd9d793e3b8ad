/* SPDX-License-Identifier: MIT */
/* The formats that export writes, each as the same few functions. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_EXPORT_FORMAT_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_EXPORT_FORMAT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/avro_log_summary.h"
#include "common/avro_log_writer.h"
#include "supervisor/ctl/ctl_output.h"
#include "supervisor/ctl/ctl_stream.h"

struct ctl_export {
    const struct ctl_export_format *format;
    FILE *to; /* empty; the standard output where it can't be read again */
    const struct ctl_streams *streams;
    uint64_t records, bytes; /* written; of payload */
    uint64_t last_seq;       /* of the last one */
    int64_t last_time_ns;
    /* Of the formats: */
    struct ctl_output text;             /* csv, json */
    union socket_address *destinations; /* pcapng: of each stream */
    uint64_t *dropped;                  /* pcapng: of each stream, told with its next packet */
    struct avro_log_writer avro;
    struct avro_log_summary summary; /* avro */
};

/* What was found when the file was read again. */
struct ctl_export_contents {
    uint64_t records;
    bool has_last_seq; /* else the last one's time is compared */
    uint64_t last_seq;
    int64_t last_time_ns;
};

struct ctl_export_format {
    const char *name;
    bool needs_file;  /* parts of it are written again */
    bool one_channel; /* it holds no more than one */
    /* 0, or -errno of the file. */
    int (*begin)(struct ctl_export *export);
    int (*put)(struct ctl_export *export, const struct ctl_stream *stream);
    void (*lost)(struct ctl_export *export, const struct ctl_stream *stream); /* or NULL */
    int (*end)(struct ctl_export *export);                                    /* or NULL */
    /* From the file's beginning. -EBADMSG: it is not what was written. */
    int (*read)(FILE *from, struct ctl_export_contents *ret);
};

/* NULL when there is none of that name. */
const struct ctl_export_format *ctl_export_format_find(const char *name);
void ctl_export_release(struct ctl_export *export);

#endif
