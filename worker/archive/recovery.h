/* SPDX-License-Identifier: MIT */
/* Open segments that nobody writes to any more become sealed ones (RECOVERY in holdfast-log.5). */
#ifndef HOLDFAST_WORKER_ARCHIVE_RECOVERY_H
#define HOLDFAST_WORKER_ARCHIVE_RECOVERY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/avro_log_name.h"
#include "common/message.h"

/* All of a channel's folder. Fills *ret completely; ret->error is 0 or an errno, ret->reason a text
 * that says what to do. */
void recovery_run(const char *log_dir, const struct message_recover *request,
                  struct message_recovered *ret);

struct recovery_outcome {
    char name[SEGMENT_NAME_SIZE]; /* what the file is called now; "" when it was removed */
    uint64_t length;
    bool has_records;
    uint64_t first_seq; /* by the file's header, which may be lower than its first record */
    uint64_t last_seq;
};

/* Finish one .avro.open; the caller knows that nobody writes to it any more. Bytes from size_end on
 * were never committed (0: unknown). 0 or -errno. */
int recovery_finish(int folder, const char *channel, const char *name, uint64_t size_end,
                    struct recovery_outcome *ret);

#endif
