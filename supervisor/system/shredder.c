/* SPDX-License-Identifier: MIT */
/* Closing the last descriptor of a memory file frees every page of it inside close(2): 0.16 s for
 * each GB. So holes are punched into it first, a small one in each turn of the event loop that has
 * nothing else to do. Must never keep a file because it could not be shredded. */
#include "supervisor/system/shredder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/fd.h"

#define SLICE (8ll << 20) /* about a millisecond; a multiple of huge pages */

struct shredded {
    struct shredded *next;
    int fd;
    int64_t left; /* bytes, from the start */
};

/* false: only its beginning is left, by which whoever else has it knows what it was. */
static bool punch(struct shredded *file)
{
    file->left -= SLICE;
    return file->left > 0 &&
           fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, file->left, SLICE) == 0;
}

static void drop_first(struct shredder *shredder)
{
    struct shredded *file = shredder->first;
    shredder->first = file->next;
    fd_close(&file->fd);
    free(file);
}

static bool take_slice(void *data)
{
    struct shredder *shredder = data;
    if (shredder->first && !punch(shredder->first))
        drop_first(shredder);
    if (!shredder->first)
        slices_end(&shredder->slices);
    return shredder->first;
}

static int64_t size_of(int fd)
{
    struct stat about;
    return fstat(fd, &about) == 0 ? about.st_size : 0;
}

static bool add(struct shredder *shredder, int fd, int64_t size)
{
    if (!slices_under_way(&shredder->slices) &&
        slices_begin(&shredder->slices, shredder->event, take_slice, shredder) < 0)
        return false;
    struct shredded *file = calloc(1, sizeof *file);
    if (!file)
        return false; /* with nothing to do, the next slice is the last */
    *file = (struct shredded){
        .next = shredder->first, .fd = fd, .left = (size + SLICE - 1) / SLICE * SLICE};
    shredder->first = file;
    return true;
}

void shredder_init(struct shredder *shredder, sd_event *event)
{
    *shredder = (struct shredder){.event = event};
}

void shredder_take(struct shredder *shredder, int *fd)
{
    if (*fd < 0)
        return;
    int64_t size = size_of(*fd);
    if (shredder && shredder->event && size > SLICE && add(shredder, *fd, size))
        *fd = -1;
    else
        fd_close(fd);
}

void shredder_free(struct shredder *shredder)
{
    while (shredder->first)
        drop_first(shredder);
    slices_end(&shredder->slices);
}
