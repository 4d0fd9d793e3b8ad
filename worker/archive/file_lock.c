/* SPDX-License-Identifier: MIT */
/* Called by whoever in the archive must not meet another process in a file. It asks again and
 * again: a lock that is waited for in the kernel can't be given up in time. */
#include "worker/archive/file_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <time.h>

#include "common/monotonic.h"

#define POLL_NS (20 * NS_PER_MS)

static int try_alone(int fd)
{
    return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

static int try_type(int fd, short type)
{
    struct flock whole = {.l_type = type, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_SETLK, &whole) < 0 ? -errno : 0;
}

static int try_beside_readers(int fd)
{
    return try_type(fd, F_RDLCK);
}

static int ask_until(int fd, uint64_t patience_ns, int (*ask)(int fd))
{
    const monotonic begun = monotonic_now();
    const struct timespec pause = {.tv_nsec = POLL_NS};
    for (;;) {
        int result = ask(fd);
        if (result == -EINTR)
            continue;
        if (result != -EWOULDBLOCK && result != -EACCES)
            return result;
        if (monotonic_since(monotonic_now(), begun) >= patience_ns)
            return -EBUSY;
        nanosleep(&pause, NULL);
    }
}

int file_lock_wait(int fd, uint64_t patience_ns)
{
    return ask_until(fd, patience_ns, try_alone);
}

int file_lock_mark_writer(int fd)
{
    try_alone(fd); /* for an archive of an older version: what it says is not relied on here */
    return try_type(fd, F_WRLCK);
}

int file_lock_await_writers(int fd, uint64_t patience_ns)
{
    int result = ask_until(fd, patience_ns, try_beside_readers);
    try_alone(fd);
    return result;
}
