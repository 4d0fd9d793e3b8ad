/* SPDX-License-Identifier: MIT */
/* Log files that were asked for lately, so that they can be lent again without waiting for a disk.
 */
#ifndef HOLDFAST_WORKER_GATE_HOT_H
#define HOLDFAST_WORKER_GATE_HOT_H

#include <stdbool.h>

#include "common/read_protocol.h"
#include "worker/gate/gate_state.h"

/* A thread has found it. Remembered if nothing of it can make the main loop wait: `local`, as that
 * thread has seen. device: st_dev. */
struct gate_hot_object {
    bool local;
    uint64_t device;
    struct read_object_lent lent;
};
void gate_hot_note(struct gate *gate, const char *channel, const struct gate_hot_object *object);

/* For a thread: is this file on a file system that opens what is in memory without asking anybody?
 */
bool gate_hot_is_local(int fd);

/* The channel's file with this name, opened anew from what is in memory alone. 0; -EAGAIN: a thread
 * is to look for it. */
int gate_hot_open(struct gate *gate, const struct gate_channel *channel, const char *name,
                  struct gate_hot_object *ret, int *ret_fd);

#endif
