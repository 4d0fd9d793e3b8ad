/* SPDX-License-Identifier: MIT */
/* One channel's folder of log files, as the gate's threads see it: opened for each look, listed
 * only when something has changed there. */
#ifndef HOLDFAST_WORKER_GATE_FOLDER_H
#define HOLDFAST_WORKER_GATE_FOLDER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "common/channel_spec.h"
#include "common/log_folder.h"

/* What was found in a folder; never changed, used by any number of threads. */
struct gate_listing {
    _Atomic unsigned references;
    struct log_folder log;
};

struct gate_folder {
    unsigned references; /* the main loop's */
    unsigned busy;       /* the pool's: gate_job.place_busy; */
    unsigned copying;    /* the copier's */
    const char *log_dir; /* as long as the process lives */
    char channel[CHANNEL_NAME_SIZE];
    pthread_mutex_t lock; /* held for no call that could wait */
    struct gate_listing *kept;
    struct stat seen; /* of the folder, when `kept` was read; */
    bool settled;     /* and it had not changed for long enough that another change would show */
};

/* For the main loop alone. NULL: out of memory. */
struct gate_folder *gate_folder_new(const char *log_dir, const char *channel);
struct gate_folder *gate_folder_keep(struct gate_folder *folder); /* one more reference */
void gate_folder_release(struct gate_folder **folder);            /* NULL is fine */

/* From here on for the threads: all of these may wait for a disk. */

/* A folder below log_dir, or of one below it (inner, may be NULL); never one that lies elsewhere.
 * The descriptor or -errno. */
int gate_folder_open_below(const char *log_dir, const char *name, const char *inner);
int gate_folder_open(const struct gate_folder *folder);

/* What is in it. anew: whatever was seen before. 0 or -errno; to be released. */
int gate_folder_list(struct gate_folder *folder, int fd, bool anew, struct gate_listing **ret);
void gate_listing_release(struct gate_listing **listing); /* NULL is fine */

#endif
