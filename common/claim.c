/* SPDX-License-Identifier: MIT */
/* The claim on a ring. Taken by a channel's worker before it looks at the ring, asked for by the
 * supervisor before it lends a ring that it has restored. Must not be an open file description's
 * lock (flock(2), F_OFD_SETLK): descriptions are shared by everybody who was handed the descriptor,
 * and would not tell the generations apart. */
#include "common/claim.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/monotonic.h"

#define POLL_NS NS_PER_MS

static const struct flock whole_file = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

/* -ESRCH when nobody holds it. */
static pid_t find_holder(int memfd)
{
    struct flock lock = whole_file;
    if (fcntl(memfd, F_GETLK, &lock) < 0)
        return -errno;
    return lock.l_type == F_UNLCK ? -ESRCH : lock.l_pid;
}

int claim_take(int memfd, uint64_t patience_ns, pid_t *ret_holder)
{
    const struct timespec pause = {.tv_nsec = POLL_NS};
    const monotonic begun = monotonic_now();
    *ret_holder = 0;
    for (;;) {
        struct flock lock = whole_file;
        if (fcntl(memfd, F_SETLK, &lock) == 0)
            return 0;
        if (errno != EAGAIN && errno != EACCES && errno != EINTR)
            return -errno;
        pid_t holder = find_holder(memfd);
        if (holder >= 0)
            *ret_holder = holder;
        if (monotonic_since(monotonic_now(), begun) >= patience_ns)
            return -EBUSY;
        nanosleep(&pause, NULL);
    }
}

pid_t claim_evict(int memfd)
{
    pid_t holder = find_holder(memfd);
    if (holder == -ESRCH)
        return 0;
    if (holder <= 0)
        return holder == 0 ? -ESRCH : holder; /* of a namespace that can't be seen from here */
    int process = (int)syscall(SYS_pidfd_open, holder, 0);
    if (process < 0)
        return errno == ESRCH ? 0 : -errno;
    /* The pid may have been given to somebody else before pidfd_open(2), but not while its owner
     * holds the claim. */
    pid_t result = 0;
    if (find_holder(memfd) == holder)
        result = syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0) < 0 ? -errno : holder;
    fd_close(&process);
    return result == -ESRCH ? 0 : result;
}
