/* SPDX-License-Identifier: MIT */
/* Makes, keeps and closes what a channel's workers are lent: ring memory, and (hold_sockets.c)
 * sockets. Called by the channel's state machine. Must never trust what is in the ring: it only
 * writes a fresh page before the first worker. */
#include "supervisor/hold/hold.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <linux/sock_diag.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"

#define RING_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

int hold_init(struct hold *hold, const struct channel_spec *spec)
{
    *hold = (struct hold){.rx = -1, .ring = -1, .log = -1, .next = -1};
    hold->relay_count = spec->relay_count;
    channel_geometry_compute(spec, &hold->geometry);
    uint32_t count = channel_spec_destination_count(spec);
    if (count == 0)
        return 0;
    hold->destinations = malloc(count * sizeof *hold->destinations);
    if (!hold->destinations)
        return -ENOMEM;
    hold->destination_count = count;
    for (uint32_t i = 0; i < count; i++)
        hold->destinations[i] = -1;
    return 0;
}

/* Page, batch and descriptors: what the ledger is read from. The data stays unmapped here. */
static int map_page(struct hold *hold)
{
    void *page =
        mmap(NULL, hold->geometry.data_offset, PROT_READ | PROT_WRITE, MAP_SHARED, hold->ring, 0);
    if (page == MAP_FAILED)
        return -errno;
    hold->page = page;
    return 0;
}

/* ---- the kernel's drop counter ---- */

static bool read_drops(const struct hold *hold, uint32_t *ret_drops)
{
    uint32_t about[SK_MEMINFO_VARS] = {0};
    socklen_t size = sizeof about;
    if (hold->rx < 0 || getsockopt(hold->rx, SOL_SOCKET, SO_MEMINFO, about, &size) < 0 ||
        size < (SK_MEMINFO_DROPS + 1) * sizeof about[0])
        return false;
    *ret_drops = about[SK_MEMINFO_DROPS];
    return true;
}

void hold_begin_drops(struct hold *hold)
{
    struct relay_progress relay = {0};
    uint32_t drops;
    hold->drops_known = hold->page && read_drops(hold, &drops);
    if (!hold->drops_known)
        return;
    uint64_t published = atomic_load_explicit(&hold->page->published, memory_order_acquire);
    channel_page_set_drops(hold->page, published, drops);
    channel_page_read_relay(hold->page, &relay);
    hold->drops_base = drops - (uint32_t)relay.kernel_dropped;
}

uint32_t hold_untold_drops(const struct hold *hold, uint64_t told)
{
    uint32_t drops;
    if (!hold->drops_known || !read_drops(hold, &drops))
        return 0;
    uint32_t untold = drops - hold->drops_base - (uint32_t)told;
    return untold > INT32_MAX
               ? 0
               : untold; /* "negative": the ring has told more than there was; it is damaged */
}

/* Restored from a supervisor before this one: socket and ring have belonged together since the ring
 * was made. */
static void adopt_drops(struct hold *hold)
{
    if (!hold->page || hold->rx < 0)
        return;
    hold->drops_base = atomic_load(&hold->page->drops_base);
    hold->drops_known = atomic_load(&hold->page->drops_from_seq) == hold->page->start_seq;
}

/* ---- ring memory ---- */

void hold_drop_ring(struct hold *hold)
{
    if (hold->page)
        munmap(hold->page, hold->geometry.data_offset);
    hold->page = NULL;
    fd_close(&hold->ring);
    hold->ring_fresh = false;
    hold->drops_known = false;
}

int hold_make_ring(struct hold *hold, const struct channel_spec *spec, uint64_t start_seq,
                   char *why, size_t why_size)
{
    char name[sizeof "holdfast:" + CHANNEL_NAME_SIZE];
    const char *step = "memfd_create";
    int error = 0;

    hold_drop_ring(hold);
    snprintf(name, sizeof name, "holdfast:%s", spec->name);
    hold->ring = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (hold->ring < 0)
        error = -errno;
    if (!error) {
        step = "ftruncate";
        error = ftruncate(hold->ring, (off_t)hold->geometry.total_size) < 0 ? -errno : 0;
    }
    if (!error) {
        step = "mmap";
        error = map_page(hold);
    }
    if (!error) {
        step = "sealing it";
        channel_page_init(hold->page, &hold->geometry, spec->name, start_seq, 0);
        /* A worker can't pull the memory away from under the supervisor or its own successor. */
        error = fcntl(hold->ring, F_ADD_SEALS, RING_SEALS) < 0 ? -errno : 0;
    }
    if (error < 0) {
        snprintf(why, why_size,
                 "can't make the ring memory of %llu bytes (%s): %s; is ring_size too large?",
                 (unsigned long long)hold->geometry.total_size, step, strerror(-error));
        hold_drop_ring(hold);
        return error;
    }
    hold->ring_fresh = true;
    hold_begin_drops(hold);
    return 0;
}

void hold_close(struct hold *hold)
{
    hold_drop_ring(hold);
    hold_close_sockets(hold);
    fd_close(&hold->log);
    fd_close(&hold->next);
    free(hold->destinations);
    hold->destinations = NULL;
    hold->destination_count = 0;
}

/* ---- descriptors by name ---- */

#define PLACES_BEFORE_DESTINATIONS 4

uint32_t hold_place_count(const struct hold *hold)
{
    return PLACES_BEFORE_DESTINATIONS + hold->destination_count;
}

int hold_place(const struct hold *hold, uint32_t place, char ret_name[HOLD_NAME_SIZE])
{
    static const char *const names[PLACES_BEFORE_DESTINATIONS] = {"rx", "ring", "log", "next"};
    const int fds[PLACES_BEFORE_DESTINATIONS] = {hold->rx, hold->ring, hold->log, hold->next};

    if (place < PLACES_BEFORE_DESTINATIONS) {
        snprintf(ret_name, HOLD_NAME_SIZE, "%s", names[place]);
        return fds[place];
    }
    uint32_t index = place - PLACES_BEFORE_DESTINATIONS;
    bool is_relay = index < hold->relay_count;
    snprintf(ret_name, HOLD_NAME_SIZE, "%s.%u", is_relay ? "out" : "dec",
             is_relay ? index : index - hold->relay_count);
    return hold->destinations[index];
}

/* "out.3" -> its place among the destinations; -1 for anything else. */
static int destination_index(const struct hold *hold, const char *name)
{
    bool is_relay = strncmp(name, "out.", 4) == 0;
    char *end;

    if ((!is_relay && strncmp(name, "dec.", 4) != 0) || name[4] < '0' || name[4] > '9')
        return -1;
    unsigned long number = strtoul(name + 4, &end, 10);
    unsigned long limit =
        is_relay ? hold->relay_count : hold->destination_count - hold->relay_count;
    if (*end != '\0' || number >= limit)
        return -1;
    return (int)(is_relay ? number : number + hold->relay_count);
}

static bool is_socket_for(int fd, const union socket_address *address, bool as_peer)
{
    union socket_address actual = {0};
    socklen_t length = sizeof actual;
    int type = 0;
    socklen_t type_length = sizeof type;

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) < 0 || type != SOCK_DGRAM)
        return false;
    if ((as_peer ? getpeername(fd, &actual.any, &length) : getsockname(fd, &actual.any, &length)) <
        0)
        return false;
    if (actual.family != address->family)
        return false;
    if (actual.family == AF_INET6 && address->v6.sin6_scope_id == 0)
        actual.v6.sin6_scope_id = 0; /* the spec names the scope by its interface */
    return socket_address_equal(&actual, address);
}

static bool is_ring(const struct hold *hold, int fd)
{
    struct stat about;
    return fcntl(fd, F_GET_SEALS) == RING_SEALS && fstat(fd, &about) == 0 &&
           (uint64_t)about.st_size == hold->geometry.total_size;
}

static bool is_file(int fd)
{
    struct stat about;
    return fstat(fd, &about) == 0 && S_ISREG(about.st_mode) && about.st_ino != 0;
}

/* The name itself is looked at by hold_adopt_fd(); here only whether the descriptor deserves it. */
static int *place_for(struct hold *hold, const struct channel_spec *spec, const char *name, int fd)
{
    int index = destination_index(hold, name);
    if (index >= 0)
        return is_socket_for(fd, &spec->destinations[index].to, true) ? &hold->destinations[index]
                                                                      : NULL;
    if (strcmp(name, "rx") == 0)
        return is_socket_for(fd, &spec->listen, false) ? &hold->rx : NULL;
    if (strcmp(name, "ring") == 0)
        return is_ring(hold, fd) ? &hold->ring : NULL;
    if (strcmp(name, "log") == 0)
        return spec->record.enabled && is_file(fd) ? &hold->log : NULL;
    if (strcmp(name, "next") == 0)
        return spec->record.enabled && is_file(fd) ? &hold->next : NULL;
    return NULL;
}

int hold_adopt_fd(struct hold *hold, const struct channel_spec *spec, const char *name, int fd)
{
    int *place = place_for(hold, spec, name, fd);
    if (!place || *place >= 0)
        return -EINVAL;
    if (fd_set_cloexec(fd) < 0)
        return -EINVAL;
    *place = fd;
    if (place == &hold->ring && map_page(hold) < 0) {
        hold->ring = -1;
        return -EINVAL;
    }
    adopt_drops(hold);
    return 0;
}
