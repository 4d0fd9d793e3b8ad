/* SPDX-License-Identifier: MIT */
/* Bytes of a log file, from one descriptor to another. */
#ifndef HOLDFAST_COMMON_CLIENT_LOG_BYTES_H
#define HOLDFAST_COMMON_CLIENT_LOG_BYTES_H

#include <stddef.h>
#include <stdint.h>

#include "common/client/client.h"
#include "common/monotonic.h"

/* Of a file that may be removed meanwhile. How many, or -errno; -ESTALE: it was; what was written
 * is right all the same. */
int64_t log_bytes_copy(int file, const struct log_copy *copy);

/* All of these bytes; waits as long as `to` does. 0 or -errno. */
int log_bytes_write(int to, const uint8_t *bytes, size_t size);

/* Everything that comes out of a pipe that does not block, until its end. *ret: how many, also
 * where it fails. 0; -ETIMEDOUT: nothing has come for so long; or another -errno. */
int log_bytes_drain(int pipe, int to, uint64_t patience_ns, uint64_t *ret);

/* So many bytes of a socket that does not block. As above; -ECONNRESET: it ended before. */
int log_bytes_take(int socket, int to, uint64_t size, uint64_t patience_ns, uint64_t *ret);

#endif
