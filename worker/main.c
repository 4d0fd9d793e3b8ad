/* SPDX-License-Identifier: MIT */
/* holdfast-worker: every isolated child of holdfastd. It waits on fd 3 to be told what it is, and
 * then is that until it ends. Not meant to be run by hand. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/ring_map.h"
#include "worker/archive/archive.h"
#include "worker/channel/channel_worker.h"
#include "worker/gate/gate.h"
#include "worker/inherit.h"
#include "worker/last_words.h"
#include "worker/symbols.h"

static bool is_message_socket(int fd)
{
    int type = 0;
    socklen_t size = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

/* What costs time is done while nothing waits for it: a spare is ready before it is needed. */
static void prepare(void)
{
    const char *reason;
    mallopt(M_ARENA_MAX, 1); /* its threads hardly allocate: an arena for each would cost memory,
                                and time at takeover */
    symbols_load();
    last_words_prepare();
    ring_map_probe(&reason);
}

int main(void)
{
    static struct inheritance inheritance; /* the threads use it as long as the process lives */

    log_open("worker");
    if (!is_message_socket(MESSAGE_FD)) {
        fprintf(stderr, "holdfast-worker is started by holdfastd (see holdfastd(8)); it does "
                        "nothing by itself\n");
        return 2;
    }
    if (fd_set_cloexec(MESSAGE_FD) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        log_error("setting up: %s", strerror(errno));
        return 1;
    }
    prctl(PR_SET_NAME, "holdfast-worker"); /* it was executed by a descriptor's number */
    prepare();
    int result = inherit_wait(&inheritance);
    if (result <= 0)
        return result == 0 ? 0 : 1;
    if (inheritance.assign.role == ROLE_ARCHIVE)
        return archive_run(&inheritance.assign, inheritance.generation, inheritance.lock);
    if (inheritance.assign.role == ROLE_GATE) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* even if it is stopped: it has nothing to finish */
        return gate_run(&inheritance);
    }
    return channel_worker_run(&inheritance);
}
