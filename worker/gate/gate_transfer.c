/* SPDX-License-Identifier: MIT */
/* Moves bytes from a log file, or of a range, into a pipe or a TCP socket, with or without copying
 * them in memory. Called by the copier's threads, one at a time for each transfer. What the archive
 * removes it may punch holes into, so that it reads as zeros: whatever was taken from a file is
 * passed on only after a look has found that it still had a name behind that. */
#include "worker/gate/gate_transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/avro_log_header.h"
#include "common/client/log_range.h"
#include "common/fd.h"
#include "common/monotonic.h"
#include "worker/gate/gate_folder.h"
#include "worker/gate/gate_pool.h"
#include "worker/gate/gate_range.h"

/* What a pipe holds that nobody has made larger (pipe(7)): it counts as ours as long as its reader
 * keeps it. */
#define PIPE_SIZE  (64 * 1024)
#define TURN_BYTES (32u * 1024 * 1024) /* then somebody else may have the thread */
#define TURN_NS    (20 * NS_PER_MS) /* likewise: who reads slowly, but always in time for ROOM_MS */
#define ROOM_MS    10               /* a reader that is at it makes room within that */

static int make_pipe(struct gate_transfer *transfer, int *ret_reading)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    transfer->pipe = ends[1];
    *ret_reading = ends[0];
    return 0;
}

/* One of our own: the connection may end while a thread has it. */
static int take_socket(struct gate_transfer *transfer, int socket)
{
    transfer->is_framed = true;
    transfer->pipe = fcntl(socket, F_DUPFD_CLOEXEC, 0);
    if (transfer->pipe < 0)
        return -errno;
    if (transfer->how != READ_COPY || transfer->file < 0)
        return 0;
    transfer->memory = malloc(PIPE_SIZE);
    return transfer->memory ? 0 : -ENOMEM;
}

/* Of one that is open, the header is about to be changed, also where it lies in a pipe. */
static enum read_how how_to(const struct gate_transfer_wish *wish)
{
    return wish->is_open ? READ_COPY : wish->how;
}

int gate_transfer_new(struct gate *gate, const struct gate_transfer_wish *wish, int *file,
                      struct gate_transfer **ret, int *ret_reading)
{
    struct gate_transfer *transfer = calloc(1, sizeof *transfer);
    *ret_reading = -1;
    *ret = transfer;
    if (!transfer) {
        gate_pool_close_fd(&gate->pool, file);
        return -ENOMEM;
    }
    *transfer = (struct gate_transfer){.how = how_to(wish),
                                       .request = wish->request,
                                       .file = fd_take(file),
                                       .pipe = -1,
                                       .between = {-1, -1},
                                       .begin = wish->begin,
                                       .at = wish->begin,
                                       .end = wish->end,
                                       .is_open = wish->is_open};
    gate->transfer_count++;
    int result =
        wish->socket >= 0 ? take_socket(transfer, wish->socket) : make_pipe(transfer, ret_reading);
    if (result == 0 && transfer->how == READ_SPLICE &&
        pipe2(transfer->between, O_CLOEXEC | O_NONBLOCK) < 0)
        result = -errno;
    if (result < 0) {
        fd_close(ret_reading);
        gate_transfer_free(gate, ret);
        return result;
    }
    return 0;
}

bool gate_transfer_is_within_chunk(const struct gate_transfer *transfer)
{
    return transfer->is_framed && transfer->held > 0 &&
           transfer->frame_left < sizeof transfer->frame;
}

void gate_transfer_close_pipe(struct gate_transfer *transfer)
{
    if (!transfer->is_framed)
        fd_close(&transfer->pipe);
}

void gate_transfer_leave_queue(struct gate *gate, struct gate_transfer *transfer)
{
    if (!transfer->link)
        return;
    *transfer->link = transfer->next;
    if (transfer->next)
        transfer->next->link = transfer->link;
    else
        gate->transfers_end = transfer->link;
    transfer->link = NULL;
}

void gate_transfer_free(struct gate *gate, struct gate_transfer **transfer)
{
    struct gate_transfer *it = *transfer;
    *transfer = NULL;
    if (!it)
        return;
    gate_transfer_leave_queue(gate, it);
    gate->transfer_count--;
    /* Also what went to somebody who did not wait for the rest. */
    gate->counts[GATE_COUNTER_sent_bytes] += it->at - it->begin;
    gate->bytes[it->how == READ_COPY ? GATE_MODE_COPY : GATE_MODE_SPLICE] += it->at - it->begin;
    gate->reporting.due = true;
    gate_range_free(gate, &it->range);
    gate_folder_release(&it->folder);
    if (it->is_framed && it->pipe >= 0) /* closing it would not: the socket goes on */
        epoll_ctl(gate->epoll, EPOLL_CTL_DEL, it->pipe, NULL);
    free(it->memory);
    fd_close(&it->pipe);
    fd_close(&it->between[0]);
    fd_close(&it->between[1]);
    gate_pool_close_fd(&gate->pool, &it->file);
    free(it);
}

/* ---- in a thread ---- */

/* 0, or -EAGAIN. */
static int await_room(int pipe)
{
    struct pollfd writable = {.fd = pipe, .events = POLLOUT};
    return poll(&writable, 1, ROOM_MS) > 0 ? 0 : -EAGAIN;
}

static size_t next_size(const struct gate_transfer *transfer, size_t most)
{
    const uint64_t left = transfer->end - transfer->at;
    return left < most ? (size_t)left : most;
}

/* Sealed meanwhile, its header says what is in all of it, and only a part was to be sent. */
static bool is_sealed_now(const struct gate_transfer *transfer, const uint8_t *bytes, size_t size)
{
    struct avro_log_identity identity;
    const char *what;
    return transfer->is_open && transfer->at == 0 &&
           avro_log_read_header(bytes, size, &identity, &what) > 0 && identity.has_totals;
}

/* Bytes that were read into there, or -errno. */
static ssize_t read_some(const struct gate_transfer *transfer, uint8_t bytes[PIPE_SIZE])
{
    ssize_t length =
        pread(transfer->file, bytes, next_size(transfer, PIPE_SIZE), (off_t)transfer->at);
    if (length <= 0)
        return length < 0 ? -errno : -ESTALE; /* it was longer */
    if (fd_is_removed(transfer->file))
        return -ESTALE;
    return is_sealed_now(transfer, bytes, (size_t)length) ? -EBUSY : length;
}

/* What a call that writes has come to: bytes, 0 when there was no room for any; or -errno. */
static ssize_t result_of(ssize_t written)
{
    return written >= 0 ? written : errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

/* Into a pipe. What it does not take is read again. */
static ssize_t copy_some(struct gate_transfer *transfer)
{
    static _Thread_local uint8_t bytes[PIPE_SIZE];
    ssize_t length = read_some(transfer, bytes);
    return length < 0 ? length : result_of(write(transfer->pipe, bytes, (size_t)length));
}

/* So much is held, and goes next; over TCP, behind a packet that says so. */
static void begin_chunk(struct gate_transfer *transfer, size_t size)
{
    transfer->held = size;
    if (!transfer->is_framed)
        return;
    transfer->frame = (struct read_frame){.header = {.magic = READ_MAGIC,
                                                     .version = READ_VERSION,
                                                     .type = READ_OBJECT_BYTES,
                                                     .request = transfer->request,
                                                     .size = sizeof transfer->frame.bytes},
                                          .bytes = {.length = size}};
    transfer->frame_left = sizeof transfer->frame;
}

static int fill_between(struct gate_transfer *transfer)
{
    off_t at = (off_t)transfer->at;
    ssize_t length = splice(transfer->file, &at, transfer->between[1], NULL,
                            next_size(transfer, PIPE_SIZE), SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (length <= 0)
        return length < 0 ? -errno : -ESTALE;
    begin_chunk(transfer, (size_t)length);
    return fd_is_removed(transfer->file) ? -ESTALE : 0;
}

/* 1: what is held can follow, 0: there is no room; or -errno. */
static int send_frame(struct gate_transfer *transfer)
{
    const uint8_t *frame = (const uint8_t *)&transfer->frame;
    while (transfer->frame_left > 0) {
        ssize_t sent =
            result_of(send(transfer->pipe, frame + sizeof transfer->frame - transfer->frame_left,
                           transfer->frame_left, MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE));
        if (sent <= 0)
            return (int)sent;
        transfer->frame_left -= (size_t)sent;
    }
    return 1;
}

static ssize_t splice_some(struct gate_transfer *transfer)
{
    int result = transfer->held == 0 ? fill_between(transfer) : 0;
    if (result == 0)
        result = send_frame(transfer);
    if (result <= 0)
        return result;
    ssize_t length = result_of(splice(transfer->between[0], NULL, transfer->pipe, NULL,
                                      transfer->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK));
    if (length > 0)
        transfer->held -= (size_t)length;
    return length;
}

/* 1: something is held in memory, 0: there is nothing more; or -errno. */
static int hold_some(struct gate_transfer *transfer)
{
    ssize_t length = transfer->range ? log_range_read(transfer->range->log, &transfer->bytes)
                                     : read_some(transfer, transfer->memory);
    if (length == 0)
        transfer->end = transfer->at;
    if (length <= 0)
        return (int)length;
    if (!transfer->range)
        transfer->bytes = transfer->memory;
    begin_chunk(transfer, (size_t)length);
    return 1;
}

/* What can't be read again, or must come as it was told: a range, and chunks. */
static ssize_t pass_on_some(struct gate_transfer *transfer)
{
    int result = transfer->held == 0 ? hold_some(transfer) : 1;
    if (result > 0)
        result = send_frame(transfer);
    if (result <= 0)
        return result;
    ssize_t written =
        result_of(transfer->is_framed ? send(transfer->pipe, transfer->bytes, transfer->held,
                                             MSG_DONTWAIT | MSG_NOSIGNAL)
                                      : write(transfer->pipe, transfer->bytes, transfer->held));
    if (written > 0) {
        transfer->bytes += written;
        transfer->held -= (size_t)written;
    }
    return written;
}

static ssize_t move_some(struct gate_transfer *transfer)
{
    if (transfer->range || transfer->memory)
        return pass_on_some(transfer);
    return transfer->how == READ_SPLICE ? splice_some(transfer) : copy_some(transfer);
}

int gate_transfer_run(struct gate_transfer *transfer)
{
    const monotonic begun = monotonic_now();
    const uint64_t from = transfer->at;
    for (uint64_t moved = 0; transfer->at < transfer->end;) {
        ssize_t length = move_some(transfer);
        if (length < 0)
            return (int)length;
        transfer->at += (uint64_t)length;
        moved += (uint64_t)length;
        if (transfer->at < transfer->end && transfer->at - from >= TURN_BYTES)
            return 1;
        if (length > 0)
            continue;
        /* Who has just taken all that a pipe holds is at it, and makes room in a moment. */
        if (transfer->at < transfer->end && (moved < PIPE_SIZE || await_room(transfer->pipe) < 0))
            return -EAGAIN;
        if (monotonic_since(monotonic_now(), begun) >= TURN_NS)
            return 1;
        moved = 0;
    }
    return 0;
}
