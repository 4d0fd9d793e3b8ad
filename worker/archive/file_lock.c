/* SPDX-License-Identifier: MIT */
/* Called by whoever in the archive must not meet another process in a file. It asks again and
 * again: a lock that is waited for in the kernel can't be given up in time. */
#include "worker/archive/file_lock.h"

#include <errno.h>
#include <sys/file.h>
#include <time.h>

#include "common/monotonic.h"

#define POLL_NS (20 * NS_PER_MS)

int file_lock_wait(int fd, uint64_t patience_ns)
{
    const monotonic begun = monotonic_now();
    const struct timespec pause = {.tv_nsec = POLL_NS};
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EINTR)
            continue;
        if (errno != EWOULDBLOCK)
            return -errno;
        if (monotonic_since(monotonic_now(), begun) >= patience_ns)
            return -EBUSY;
        nanosleep(&pause, NULL);
    }
    return 0;
}
