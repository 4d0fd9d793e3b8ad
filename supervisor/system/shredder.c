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

static int on_turn(sd_event_source *source, void *userdata)
{
    struct shredder *shredder = userdata;
    if (shredder->first && !punch(shredder->first))
        drop_first(shredder);
    if (!shredder->first)
        sd_event_source_set_enabled(source, SD_EVENT_OFF);
    return 0;
}

static int64_t size_of(int fd)
{
    struct stat about;
    return fstat(fd, &about) == 0 ? about.st_size : 0;
}

static bool add(struct shredder *shredder, int fd, int64_t size)
{
    struct shredded *file = calloc(1, sizeof *file);
    if (!file)
        return false;
    *file = (struct shredded){
        .next = shredder->first, .fd = fd, .left = (size + SLICE - 1) / SLICE * SLICE};
    shredder->first = file;
    return sd_event_source_set_enabled(shredder->source, SD_EVENT_ON) >= 0;
}

void shredder_init(struct shredder *shredder, sd_event *event)
{
    *shredder = (struct shredder){.event = event};
    if (sd_event_add_defer(event, &shredder->source, on_turn, shredder) < 0)
        return; /* then it takes as long as it takes */
    sd_event_source_set_enabled(shredder->source, SD_EVENT_OFF);
    sd_event_source_set_priority(shredder->source, SD_EVENT_PRIORITY_IDLE);
}

void shredder_take(struct shredder *shredder, int *fd)
{
    if (*fd < 0)
        return;
    int64_t size = size_of(*fd);
    if (shredder && shredder->source && size > SLICE && add(shredder, *fd, size))
        *fd = -1;
    else
        fd_close(fd);
}

void shredder_free(struct shredder *shredder)
{
    while (shredder->first)
        drop_first(shredder);
    shredder->source = sd_event_source_disable_unref(shredder->source);
}
