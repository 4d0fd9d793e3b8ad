/* SPDX-License-Identifier: MIT */
/* One log file's way into a pipe: what threads do of it. gate_sending.c has it begun and ended. */
#ifndef HOLDFAST_WORKER_GATE_TRANSFER_H
#define HOLDFAST_WORKER_GATE_TRANSFER_H

#include <stddef.h>
#include <stdint.h>

#include "worker/gate/gate_state.h"

struct gate_transfer_wish {
    enum read_how how;
    uint32_t request;
    uint64_t begin, end; /* bytes of the file; of a range, 0 and UINT64_MAX */
    bool is_open;        /* it is being written */
    struct gate_folder *folder;
    int socket; /* -1: a pipe is to be made; else, over TCP, the bytes go there in chunks */
};

/* The file (-1: it is a range, which is the transfer's when it is set) is taken over, also where it
 * fails. *ret_reading: the pipe's other end, the caller's; -1 over TCP. 0
 * or -errno. */
int gate_transfer_new(struct gate *gate, const struct gate_transfer_wish *wish, int *file,
                      struct gate_transfer **ret, int *ret_reading);
/* It waits for room no more, if it did. */
void gate_transfer_leave_queue(struct gate *gate, struct gate_transfer *transfer);
/* NULL is fine. Not while a thread has it. */
void gate_transfer_free(struct gate *gate, struct gate_transfer **transfer);

/* In a thread: go on. 1: it is another one's turn, 0: all of it is in the pipe; -EAGAIN: the pipe
 * is full, and stays so for a while; -ESTALE: the file has been removed;
 * -EBUSY: it has just been sealed, and nothing was sent; or another -errno. */
int gate_transfer_run(struct gate_transfer *transfer);

/* Over TCP: a chunk has begun, and its bytes are not all sent. Nothing else can be, then. */
bool gate_transfer_is_within_chunk(const struct gate_transfer *transfer);

/* The last byte is in it: whoever reads sees the end behind that. */
void gate_transfer_close_pipe(struct gate_transfer *transfer);

#endif
