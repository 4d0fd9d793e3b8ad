/* SPDX-License-Identifier: MIT */
/* Makes, keeps and lets go of outboxes. Called when a program wants to publish, when a worker is
 * done with one, when a ring is given up, and at the start for what was there before. Must never
 * believe what a publisher can write, nor give anybody a descriptor by which the answer can be
 * written. */
#include "supervisor/hold/hold_outboxes.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/channel_page_outboxes.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "supervisor/hold/hold_lend.h"

/* ---- making ---- */

static int make_memory(const char *name, uint64_t size)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 && (ftruncate(fd, (off_t)size) < 0 || fchmod(fd, 0600) < 0 ||
                    fcntl(fd, F_ADD_SEALS, HOLD_MEMORY_SEALS) < 0)) {
        int error = errno;
        fd_close(&fd);
        errno = error;
    }
    return fd;
}

/* Nobody writes it but whoever has this map, or the worker's. */
static struct outbox_answer *map_answer(int fd)
{
    void *map = mmap(NULL, OUTBOX_ANSWER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return map == MAP_FAILED ? NULL : map;
}

static uint64_t random_id(void)
{
    uint64_t id = 0;
    if (getrandom(&id, sizeof id, GRND_NONBLOCK) != sizeof id)
        id = realtime_now_ns(); /* early at boot: it need not be a secret, but another one */
    return id ? id : 1;
}

static bool becomes_durable(const struct channel_spec *spec)
{
    return spec->record.enabled && (spec->record.sync_ns > 0 || spec->record.sync_every > 0);
}

static void begin_answer(struct outbox_answer *answer, const struct channel_spec *spec,
                         const struct outbox_publisher *publisher)
{
    answer->magic = OUTBOX_MAGIC;
    answer->id = random_id();
    answer->capacity = outbox_capacity(spec->publishers.outbox_size);
    answer->max_datagram = spec->max_datagram;
    answer->records = becomes_durable(spec);
    answer->uid = publisher->uid;
    answer->pid = publisher->pid;
    snprintf(answer->name, sizeof answer->name, "%s", publisher->name);
    snprintf(answer->channel, sizeof answer->channel, "%s", spec->name);
    answer->since_ns = (int64_t)realtime_now_ns();
    atomic_store(&answer->looked_ns, answer->since_ns);
}

/* Its own end can't be sent anything: what came could bring descriptors along. */
static int make_bell(int ret_ends[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ret_ends) < 0)
        return -errno;
    return shutdown(ret_ends[0], SHUT_RD) < 0 ? -errno : 0;
}

/* What is said of it from now on; its worker can't change that. */
static void note_said(struct hold_outbox *outbox)
{
    const struct outbox_answer *said = outbox->said;
    outbox->id = said->id;
    outbox->capacity = said->capacity;
    outbox->uid = said->uid;
    outbox->pid = said->pid;
    snprintf(outbox->name, sizeof outbox->name, "%.*s", (int)sizeof said->name - 1, said->name);
}

static int find_free(const struct hold *hold, uint32_t most)
{
    for (uint32_t place = 0; place < most && place < hold->outbox_count; place++)
        if (!hold->outboxes[place].said)
            return (int)place;
    return -EUSERS;
}

static int make(struct hold_outbox *outbox, const struct channel_spec *spec, int ends[2],
                const char **ret_step)
{
    *ret_step = "memfd_create";
    outbox->box = make_memory("holdfast-outbox",
                              OUTBOX_HEAD_SIZE + outbox_capacity(spec->publishers.outbox_size));
    outbox->answer = make_memory("holdfast-answer", OUTBOX_ANSWER_SIZE);
    if (outbox->box < 0 || outbox->answer < 0)
        return -errno;
    *ret_step = "socketpair";
    int error = make_bell(ends);
    outbox->bell = fd_take(&ends[0]);
    if (error < 0)
        return error;
    *ret_step = "eventfd";
    outbox->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (outbox->call < 0)
        return -errno;
    *ret_step = "mmap";
    outbox->said = map_answer(outbox->answer);
    return outbox->said ? 0 : -errno;
}

int hold_outbox_make(struct hold *hold, const struct channel_spec *spec,
                     const struct outbox_publisher *publisher, int ret_fds[OUTBOX_FDS], char *why,
                     size_t why_size)
{
    const char *step;
    int ends[2] = {-1, -1}, place = find_free(hold, spec->publishers.most);
    if (place < 0) {
        snprintf(why, why_size, "it has %u publishers already: publishers { most = %u }",
                 spec->publishers.most, spec->publishers.most);
        return place;
    }
    struct hold_outbox *outbox = &hold->outboxes[place];
    int error = make(outbox, spec, ends, &step);
    if (error == 0) {
        begin_answer(outbox->said, spec, publisher);
        note_said(outbox);
        step = "lending its answer";
        ret_fds[1] = hold_lend_read_only(outbox->answer);
        ret_fds[0] = fcntl(outbox->box, F_DUPFD_CLOEXEC, 0);
        ret_fds[2] = fd_take(&ends[1]);
        ret_fds[3] = fcntl(outbox->call, F_DUPFD_CLOEXEC, 0);
        if (ret_fds[0] < 0 || ret_fds[1] < 0 || ret_fds[3] < 0) {
            error = ret_fds[1] < 0 ? ret_fds[1] : -EMFILE;
            fd_close_all(ret_fds, OUTBOX_FDS);
        }
    }
    if (error < 0) {
        snprintf(why, why_size, "its outbox can't be made (%s): %s", step, strerror(-error));
        fd_close(&ends[1]);
        hold_outbox_close(outbox);
        return error;
    }
    return place;
}

/* ---- looking ---- */

const struct hold_outbox *hold_outbox_at(const struct hold *hold, uint32_t place)
{
    return place < hold->outbox_count && hold->outboxes[place].said ? &hold->outboxes[place] : NULL;
}

uint64_t hold_outbox_waiting(const struct hold *hold, uint32_t place)
{
    const struct hold_outbox *outbox = hold_outbox_at(hold, place);
    uint64_t committed;
    if (!outbox || pread(outbox->box, &committed, sizeof committed,
                         offsetof(struct outbox_head, committed)) != sizeof committed)
        return 0;
    uint64_t waiting = committed - atomic_load(&outbox->said->taken);
    return waiting <= outbox->capacity ? waiting : 0;
}

void hold_outbox_say_durable(const struct hold *hold, uint32_t place)
{
    const struct hold_outbox *outbox = hold_outbox_at(hold, place);
    if (outbox)
        atomic_store(&outbox->said->durable, atomic_load(&outbox->said->taken_count));
}

bool hold_outbox_is_left(const struct hold *hold, uint32_t place)
{
    struct pollfd bell = {.fd = hold_outbox_at(hold, place) ? hold->outboxes[place].bell : -1};
    return poll(&bell, 1, 0) == 1 && bell.revents & POLLHUP &&
           hold_outbox_waiting(hold, place) == 0;
}

void hold_outbox_fds(const struct hold *hold, uint32_t place, int ret_fds[OUTBOX_FDS])
{
    const struct hold_outbox *outbox = &hold->outboxes[place];
    ret_fds[0] = outbox->box;
    ret_fds[1] = outbox->answer;
    ret_fds[2] = outbox->bell;
    ret_fds[3] = outbox->call;
}

/* ---- from a supervisor before this one ---- */

static bool is_memory(int fd, uint64_t least)
{
    struct stat about;
    return fcntl(fd, F_GET_SEALS) == HOLD_MEMORY_SEALS && fstat(fd, &about) == 0 &&
           (uint64_t)about.st_size >= least;
}

static bool is_bell(int fd)
{
    int domain = 0, type = 0;
    socklen_t size = sizeof domain;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

bool hold_outbox_deserves(const struct hold *hold, const int *place, int fd)
{
    for (uint32_t i = 0; i < hold->outbox_count; i++) {
        const struct hold_outbox *outbox = &hold->outboxes[i];
        if (place == &outbox->box)
            return is_memory(fd, OUTBOX_HEAD_SIZE + CHANNEL_OUTBOX_SIZE_MIN);
        if (place == &outbox->answer)
            return is_memory(fd, OUTBOX_ANSWER_SIZE);
        if (place == &outbox->bell)
            return is_bell(fd);
        if (place == &outbox->call)
            return true; /* an eventfd is known by its name alone; what else it were stays unread */
    }
    return false;
}

/* Are all of one outbox, and this channel's? */
static bool is_whole(const struct hold_outbox *outbox, const struct channel_spec *spec)
{
    const struct outbox_answer *said = outbox->said;
    struct stat about;
    return channel_spec_is_local(spec) && said && said->magic == OUTBOX_MAGIC && outbox->box >= 0 &&
           outbox->bell >= 0 && outbox->call >= 0 &&
           strncmp(said->channel, spec->name, sizeof said->channel) == 0 &&
           said->max_datagram <= spec->max_datagram && atomic_load(&said->state) == OUTBOX_OPEN &&
           fstat(outbox->box, &about) == 0 &&
           (uint64_t)about.st_size == OUTBOX_HEAD_SIZE + said->capacity;
}

static bool is_empty(const struct hold_outbox *outbox)
{
    return outbox->box < 0 && outbox->answer < 0 && outbox->bell < 0 && outbox->call < 0;
}

/* How far each is taken when its ring's datagrams are: one that is continued still publishes what
 * was taken. */
static bool read_progress(const struct hold *hold, bool is_continued, struct outbox_progress *ret)
{
    return hold->page && (is_continued ? channel_page_read_outboxes(hold->page, ret)
                                       : channel_page_read_outboxes_published(hold->page, ret));
}

void hold_outboxes_adopt(struct hold *hold, const struct channel_spec *spec, bool is_continued)
{
    struct outbox_progress progress;
    bool is_known = read_progress(hold, is_continued, &progress);
    for (uint32_t place = 0; place < hold->outbox_count; place++) {
        struct hold_outbox *outbox = &hold->outboxes[place];
        if (is_empty(outbox))
            continue;
        outbox->said = outbox->answer >= 0 ? map_answer(outbox->answer) : NULL;
        if (outbox->said && place < spec->publishers.most && is_whole(outbox, spec)) {
            outbox->said->records = becomes_durable(spec);
            note_said(outbox);
            continue;
        }
        log_notice("channel %s: an outbox of the supervisor before can't be continued: its "
                   "publisher keeps what is not taken, and gets another one where there may be one",
                   spec->name);
        if (outbox->said)
            note_said(outbox);
        if (is_known) /* its publisher goes on elsewhere, behind that */
            hold_outbox_settle(hold, place, &progress);
        hold_outbox_drop(hold, place, OUTBOX_ENDED);
    }
}
