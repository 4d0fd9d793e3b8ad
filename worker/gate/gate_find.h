/* SPDX-License-Identifier: MIT */
/* What readers ask about log files. For the gate's threads: everything here may wait for a disk. */
#ifndef HOLDFAST_WORKER_GATE_FIND_H
#define HOLDFAST_WORKER_GATE_FIND_H

#include <stdbool.h>
#include <stdint.h>

#include "common/read_protocol.h"
#include "worker/gate/gate_folder.h"

/* The file that FIND asks for, opened for this reader alone. 0, -ENOENT when there is none such, or
 * -errno. *ret_size: bytes of the file. */
int gate_find_segment(struct gate_folder *folder, const struct read_find *wanted,
                      struct read_found *ret, uint64_t *ret_size, int *ret_fd);

/* The sealed name of an open file; others stay as they are. */
void gate_find_seal_name(char name[SEGMENT_NAME_SIZE]);

/* The file that OBJECT asks for, and what is in it. As gate_find_segment(); -EINVAL: the name is
 * none of this channel's. Asked for by the name that an open file is to get, it is that one. */
int gate_find_object(struct gate_folder *folder, const struct read_object *wanted,
                     struct read_object_lent *ret, int *ret_fd);

/* Size, and what the header says; what can't be read stays "not known". */
void gate_find_describe(int fd, struct read_segment_entry *ret);

/* The files behind the one with this name ("" = all), at most READ_LIST_MAX. How many, or -errno;
 * -EINVAL: the name is none of this channel's. A channel without a folder has none. */
int gate_find_page(struct gate_folder *folder, const char *after,
                   struct read_segment_entry ret[READ_LIST_MAX]);

/* What is recorded: [first, end); both 0 when nothing is, or when that can't be told. live_end: as
 * the recorder says, 0 = it says nothing. Are there files? */
bool gate_find_ends(struct gate_folder *folder, uint64_t live_end, uint64_t *ret_first,
                    uint64_t *ret_end);

/* Is this file, by its name and inode number, no longer in the folder? Not when that can't be told.
 */
bool gate_find_is_gone(int folder, const char *name, uint64_t id);

#endif
