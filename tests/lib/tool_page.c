/* SPDX-License-Identifier: MIT */
/* clang-format off */
/* A hand inside a channel's shared memory, for tests: `tool_page SUPERVISOR_PID CHANNEL COMMAND ...`.
 *
 *   stop-at STEP          ask the next worker that passes this step (steps.def) to stop there
 *   exit-at STEP          ask it to exit with status 0 there
 *   wait-stopped STEP MS  exit 0 as soon as a worker has stopped there, 1 when MS milliseconds have passed
 *   steps                 print the names of all steps, one per line (PID and CHANNEL are not looked at)
 *   scribble SEED AREA N  write N random bytes at random places of AREA: page (the private one), public, batch,
 *                         descriptors, data, all
 *   spoil-batch           an impossible batch in flight: the ring will be refused; all else stays sound
 *   spoil-rates           one bit of what each destination was sent last by rate: a number that nobody has given
 *   flip WORD BIT         one bit of a word: length (of the first message of the batch), published, start (the first
 *                         number), bytes (of the newest datagram), use (of the first destination), relay (its next number),
 *                         taken and taken-before (the slots that say how far outboxes are taken)
 *   quarantined           print the page's counter
 *
 * The memory is found among the supervisor's descriptors by its names, memfd:holdfast:CHANNEL and
 * memfd:holdfast-private:CHANNEL. */
/* clang-format on */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/channel_page.h"
#include "common/monotonic.h"
#include "common/steps.h"

static const char *const step_names[STEP_COUNT] = {
    "none",
#define STEP(name, what) #name,
#include "common/steps.def"
#undef STEP
};

static void fail(const char *what, const char *detail)
{
    fprintf(stderr, "tool_page: %s %s\n", what, detail);
    exit(2);
}

/* Open the memory of this name through /proc. */
static int open_memory(const char *pid, const char *prefix, const char *channel)
{
    char folder[64], path[400], target[128], wanted[96];
    snprintf(folder, sizeof folder, "/proc/%s/fd", pid);
    snprintf(wanted, sizeof wanted, "/memfd:%s:%s", prefix, channel);
    DIR *listing = opendir(folder);
    if (!listing)
        fail("no such process:", pid);
    for (const struct dirent *entry; (entry = readdir(listing));) {
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length < 0)
            continue;
        target[length] = '\0';
        char *deleted = strstr(target, " (deleted)");
        if (deleted)
            *deleted = '\0';
        if (strcmp(target, wanted) != 0)
            continue;
        int fd = open(path, O_RDWR | O_CLOEXEC);
        closedir(listing);
        return fd;
    }
    closedir(listing);
    fail("no ring memory of channel", channel);
    return -1;
}

static void map_part(uint8_t *at, int fd, uint64_t size)
{
    if (fd < 0 ||
        mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
        fail("mapping the memory:", strerror(errno));
    close(fd);
}

/* All of it, with the data; ends the program if it can't. */
static uint8_t *map_memory(const char *pid, const char *channel, uint64_t *ret_size)
{
    struct stat status;
    int ring = open_memory(pid, "holdfast", channel);
    if (ring < 0 || fstat(ring, &status) < 0)
        fail("opening the memory:", strerror(errno));
    *ret_size = CHANNEL_PRIVATE_SIZE + (uint64_t)status.st_size;
    uint8_t *memory = mmap(NULL, *ret_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("mapping the memory:", strerror(errno));
    map_part(memory, open_memory(pid, "holdfast-private", channel), CHANNEL_PRIVATE_SIZE);
    map_part(memory + CHANNEL_PRIVATE_SIZE, ring, (uint64_t)status.st_size);
    return memory;
}

static uint32_t step_of(const char *name)
{
    for (uint32_t step = 1; step < STEP_COUNT; step++)
        if (strcmp(step_names[step], name) == 0)
            return step;
    fail("no such step:", name);
    return 0;
}

static int wait_stopped(struct channel_page *page, uint32_t step, long limit_ms)
{
    monotonic start = monotonic_now();
    while (atomic_load(&page->private.test_stopped) != step) {
        if (monotonic_since(monotonic_now(), start) > (uint64_t)limit_ms * NS_PER_MS)
            return 1;
        poll(NULL, 0, 1);
    }
    return 0;
}

static uint64_t next_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15ull;
    uint64_t mix = *state;
    mix = (mix ^ mix >> 30) * 0xbf58476d1ce4e5b9ull;
    mix = (mix ^ mix >> 27) * 0x94d049bb133111ebull;
    return mix ^ mix >> 31;
}

static void scribble(uint8_t *memory, uint64_t size, uint64_t seed, const char *area, long count)
{
    const struct channel_page *page = (const struct channel_page *)memory;
    struct channel_geometry geometry = page->public.geometry;
    uint64_t from = 0, until = size;
    if (geometry.total_size > size || geometry.data_offset >= size)
        fail("the memory is not a channel's, or was scribbled over before:", area);
    if (strcmp(area, "page") == 0)
        until = offsetof(struct channel_page, sums) + sizeof page->sums;
    else if (strcmp(area, "public") == 0)
        from = CHANNEL_PRIVATE_SIZE, until = from + sizeof page->public;
    else if (strcmp(area, "batch") == 0)
        from = offsetof(struct channel_page, private.batch),
        until = from + sizeof page->private.batch;
    else if (strcmp(area, "descriptors") == 0)
        from = CHANNEL_PRIVATE_SIZE + geometry.descriptor_offset,
        until = CHANNEL_PRIVATE_SIZE + geometry.data_offset;
    else if (strcmp(area, "data") == 0)
        from = CHANNEL_PRIVATE_SIZE + geometry.data_offset;
    else if (strcmp(area, "all") != 0)
        fail("no such area:", area);
    for (long i = 0; i < count; i++) {
        uint64_t at = from + next_random(&seed) % (until - from);
        memory[at] = (uint8_t)next_random(&seed);
    }
}

static void *word_of(struct channel_page *page, const char *name)
{
    const struct channel_geometry geometry = page->public.geometry;
    uint64_t newest = atomic_load(&page->public.published) - 1;
    if (strcmp(name, "length") == 0)
        return &page->private.batch.messages[0].msg_len;
    if (strcmp(name, "published") == 0)
        return &page->public.published;
    if (strcmp(name, "start") == 0)
        return &page->public.start_seq;
    if (strcmp(name, "bytes") == 0)
        return &channel_page_descriptors(page, &geometry)[newest % geometry.descriptor_count]
                    .bytes_total;
    if (strcmp(name, "use") == 0)
        return &page->private.places[0].use;
    if (strcmp(name, "relay") == 0)
        return &page->private.relay[atomic_load(&page->private.relay_version) & 1].next_seq;
    if (strcmp(name, "taken") == 0)
        return page->outboxes[atomic_load(&page->outbox_version) & 1].words;
    if (strcmp(name, "taken-before") == 0)
        return page->outboxes[~atomic_load(&page->outbox_version) & 1].words;
    fail("no such word:", name);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        fail("usage: tool_page", "PID CHANNEL stop-at STEP | exit-at STEP | wait-stopped STEP MS | "
                                 "steps | scribble SEED AREA N | spoil-batch | spoil-rates | "
                                 "flip WORD BIT | quarantined");
    const char *command = argv[3];
    if (strcmp(command, "steps") == 0) {
        for (int step = 1; step < STEP_COUNT; step++)
            puts(step_names[step]);
        return 0;
    }
    uint64_t size;
    uint8_t *memory = map_memory(argv[1], argv[2], &size);
    struct channel_page *page = (struct channel_page *)memory;
    if (strcmp(command, "stop-at") == 0 && argc == 5) {
        atomic_store(&page->private.test_stopped, 0);
        atomic_store(&page->private.test_step, step_of(argv[4]));
    } else if (strcmp(command, "exit-at") == 0 && argc == 5) {
        atomic_store(&page->private.test_stopped, 0);
        atomic_store(&page->private.test_step, step_of(argv[4]) | STEP_EXIT);
    } else if (strcmp(command, "wait-stopped") == 0 && argc == 6) {
        return wait_stopped(page, step_of(argv[4]), strtol(argv[5], NULL, 10));
    } else if (strcmp(command, "scribble") == 0 && argc == 7) {
        scribble(memory, size, strtoull(argv[4], NULL, 10), argv[5], strtol(argv[6], NULL, 10));
    } else if (strcmp(command, "flip") == 0 && argc == 6) {
        long bit = strtol(argv[5], NULL, 10);
        ((uint8_t *)word_of(page, argv[4]))[bit / 8] ^= (uint8_t)(1u << bit % 8);
    } else if (strcmp(command, "spoil-batch") == 0) {
        atomic_store(&page->private.batch.armed_seq, UINT64_MAX);
    } else if (strcmp(command, "spoil-rates") == 0) {
        for (int i = 0; i < CHANNEL_DESTINATIONS_MAX; i++)
            atomic_fetch_xor(&page->private.rates[i].sent, 1ull << 40);
    } else if (strcmp(command, "quarantined") == 0) {
        printf("%llu\n", (unsigned long long)atomic_load(&page->private.quarantined));
    } else {
        fail("unknown command or wrong number of words:", command);
    }
    return 0;
}
