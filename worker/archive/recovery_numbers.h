/* SPDX-License-Identifier: MIT */
/* With which number a channel's log goes on. */
#ifndef HOLDFAST_WORKER_ARCHIVE_RECOVERY_NUMBERS_H
#define HOLDFAST_WORKER_ARCHIVE_RECOVERY_NUMBERS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/message.h"
#include "worker/archive/folder.h"

struct recovery_numbers {
    int folder;
    const struct message_recover *request; /* the channel, and which files are in use */
    const struct folder_list *list;        /* all files of the folder, once they are finished */
    uint64_t next_seq;                     /* the number behind all that were found so far */
};

/* Is it in use by a worker? By its name, or by what it is: a rename may have failed, or not have
 * been done yet. */
bool recovery_numbers_is_kept(const struct message_recover *request,
                              const struct folder_file *file);

/* next_seq is at least this. */
void recovery_numbers_raise(struct recovery_numbers *numbers, uint64_t next_seq);
/* The same behind all that a file can hold which can't be read, if its name has a number. */
void recovery_numbers_pass_unread(struct recovery_numbers *numbers, const struct folder_file *file);

/* Behind all that the files in the list hold, or can hold. A number that was given once is not
 * given again. 0 or -errno. */
int recovery_numbers_find(struct recovery_numbers *numbers);

#endif
