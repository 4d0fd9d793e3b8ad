/* SPDX-License-Identifier: MIT */
/* Moves bytes the fastest way that the two descriptors allow: inside the kernel, or through memory.
 * Called by both kinds of handles. The archive punches holes only into files that have no name any
 * more: so a look behind each part says whether that part was sound. */
#include "common/client/log_bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/client/gate_link.h"
#include "common/fd.h"

#define PART_SIZE   (1024 * 1024)
#define MEMORY_SIZE (64 * 1024)

/* What does not block is waited for all the same. */
static void await_room(int to)
{
    struct pollfd writable = {.fd = to, .events = POLLOUT};
    poll(&writable, 1, -1);
}

int log_bytes_write(int to, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = write(to, bytes, size);
        if (written < 0 && errno == EAGAIN)
            await_room(to);
        else if (written < 0 && errno != EINTR)
            return -errno;
        if (written > 0) {
            bytes += written;
            size -= (size_t)written;
        }
    }
    return 0;
}

/* The kernel can't do it between these two. */
static bool is_unsuitable(int error)
{
    return error == EINVAL || error == ENOSYS || error == EXDEV || error == EOPNOTSUPP ||
           error == EBADF || error == ETXTBSY;
}

/* What is in a pipe, at most so much: bytes, 0 at its end, or -errno. */
static ssize_t drain_part(int pipe, int to, size_t most, bool *by_splice)
{
    uint8_t bytes[MEMORY_SIZE];
    if (*by_splice) {
        ssize_t length = splice(pipe, NULL, to, NULL, most, SPLICE_F_MOVE);
        if (length >= 0 || !is_unsuitable(errno))
            return length < 0 ? -errno : length;
        *by_splice = false;
    }
    ssize_t length = read(pipe, bytes, most < sizeof bytes ? most : sizeof bytes);
    if (length <= 0)
        return length < 0 ? -errno : 0;
    int result = log_bytes_write(to, bytes, (size_t)length);
    return result < 0 ? result : length;
}

/* ---- a file ---- */

/* Bytes, or -errno. What was taken from the file is looked at before it goes on. */
static ssize_t copy_through_memory(int file, int to, off_t at, size_t size)
{
    uint8_t bytes[MEMORY_SIZE];
    ssize_t length = pread(file, bytes, size < sizeof bytes ? size : sizeof bytes, at);
    if (length <= 0)
        return length < 0 ? -errno : -ESTALE;
    if (fd_is_removed(file))
        return -ESTALE;
    int result = log_bytes_write(to, bytes, (size_t)length);
    return result < 0 ? result : length;
}

/* All that is in this pipe. */
static int empty(int pipe, int to, size_t size)
{
    bool by_splice = true;
    while (size > 0) {
        ssize_t length = drain_part(pipe, to, size, &by_splice);
        if (length == -EAGAIN)
            await_room(to);
        else if (length < 0 && length != -EINTR)
            return (int)length;
        if (length > 0)
            size -= (size_t)length;
    }
    return 0;
}

/* Through a pipe of our own: the same, without copying. */
static ssize_t copy_through_pipe(int file, const int between[2], int to, off_t at, size_t size)
{
    off_t from = at;
    ssize_t length = splice(file, &from, between[1], NULL, size, SPLICE_F_MOVE);
    if (length <= 0)
        return length < 0 ? -errno : -ESTALE;
    if (fd_is_removed(file))
        return -ESTALE;
    int result = empty(between[0], to, (size_t)length);
    return result < 0 ? result : length;
}

static int64_t copy_all(int file, const int between[2], const struct log_copy *copy, uint64_t size)
{
    uint64_t at = copy->offset, end = copy->offset + size;
    bool by_pipe = between[0] >= 0;
    while (at < end) {
        const size_t part = end - at < PART_SIZE ? (size_t)(end - at) : PART_SIZE;
        ssize_t length = by_pipe ? copy_through_pipe(file, between, copy->to, (off_t)at, part)
                                 : copy_through_memory(file, copy->to, (off_t)at, part);
        if (length == -EINTR)
            continue;
        if (by_pipe && length < 0 && is_unsuitable((int)-length)) {
            by_pipe = false; /* the file's system can't do that */
            continue;
        }
        if (length < 0)
            return length;
        at += (uint64_t)length;
    }
    return (int64_t)size;
}

int64_t log_bytes_copy(int file, const struct log_copy *copy)
{
    struct stat status;
    int between[2] = {-1, -1};
    if (fstat(file, &status) < 0)
        return -errno;
    const uint64_t size = (uint64_t)status.st_size;
    if (copy->offset > size)
        return -EINVAL;
    uint64_t left = size - copy->offset;
    if (copy->length && copy->length < left)
        left = copy->length;
    if (pipe2(between, O_CLOEXEC) == 0)
        fcntl(between[1], F_SETPIPE_SZ, PART_SIZE);
    int64_t result = copy_all(file, between, copy, left);
    fd_close(&between[0]);
    fd_close(&between[1]);
    return result;
}

/* ---- a pipe ---- */

/* Nothing can be moved: which of the two is it? 0 or -errno. */
static int await_both(int pipe, int to, uint64_t patience_ns)
{
    struct pollfd readable = {.fd = pipe, .events = POLLIN};
    if (poll(&readable, 1, 0) == 0)
        return gate_link_wait(pipe, monotonic_add(monotonic_now(), patience_ns));
    await_room(to);
    return 0;
}

/* Up to its end, or so many. */
static int move(int from, int to, uint64_t most, uint64_t patience_ns, uint64_t *ret)
{
    bool by_splice = true;
    *ret = 0;
    while (*ret < most) {
        const uint64_t left = most - *ret;
        ssize_t length =
            drain_part(from, to, left < PART_SIZE ? (size_t)left : PART_SIZE, &by_splice);
        if (length == -EAGAIN) {
            int result = await_both(from, to, patience_ns);
            if (result < 0)
                return result;
            continue;
        }
        if (length == -EINTR)
            continue;
        if (length <= 0)
            return (int)length;
        *ret += (uint64_t)length;
    }
    return 0;
}

int log_bytes_drain(int pipe, int to, uint64_t patience_ns, uint64_t *ret)
{
    return move(pipe, to, UINT64_MAX, patience_ns, ret);
}

int log_bytes_take(int socket, int to, uint64_t size, uint64_t patience_ns, uint64_t *ret)
{
    int result = move(socket, to, size, patience_ns, ret);
    return result == 0 && *ret < size ? -ECONNRESET : result;
}
