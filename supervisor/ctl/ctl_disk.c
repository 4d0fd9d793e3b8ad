/* SPDX-License-Identifier: MIT */
/* Asks a file system how much room it has. Called for `status CHANNEL`. A process of its own asks,
 * because a disk that does not answer holds whoever asks it, even against SIGKILL: then that
 * process is left behind, and nothing of ours, not even the output's pipe, is kept open by it. */
#include "supervisor/ctl/ctl_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"

#define PATIENCE_MS 1000

struct room {
    int error; /* errno, or 0 */
    uint64_t free_bytes;
    uint64_t size_bytes;
};

static pid_t stuck; /* still asks, since an earlier look; 0 = nobody does */

static json_t *not_known(const char *reason)
{
    return json_pack("{s:n, s:n, s:s}", "free_bytes", "size_bytes", "reason", reason);
}

static uint64_t bytes_of(uint64_t blocks, uint64_t block_size)
{
    uint64_t bytes;
    return __builtin_mul_overflow(blocks, block_size, &bytes) || bytes > INT64_MAX ? INT64_MAX
                                                                                   : bytes;
}

static _Noreturn void ask(const char *folder, int answer_to)
{
    struct statvfs about;
    struct room room = {0};
    /* Whoever reads our output must not wait for this process's end. */
    if (answer_to > 0)
        close_range(0, (unsigned)answer_to - 1, 0);
    close_range((unsigned)answer_to + 1, ~0U, 0);
    if (statvfs(folder, &about) < 0) {
        room.error = errno;
    } else {
        room.free_bytes = bytes_of(about.f_bavail, about.f_frsize);
        room.size_bytes = bytes_of(about.f_blocks, about.f_frsize);
    }
    _exit(write(answer_to, &room, sizeof room) == sizeof room ? 0 : 1);
}

static const char *why_not(int error)
{
    switch (error) {
    case EACCES:
    case EPERM:
        return "this user may not look into it";
    case ENOENT:
        return "there is no such folder, as seen from here";
    default:
        return strerror(error);
    }
}

/* NULL: it does not answer. */
static json_t *listen_to(int answers)
{
    struct pollfd readable = {.fd = answers, .events = POLLIN};
    struct room room;
    int ready;
    do
        ready = poll(&readable, 1, PATIENCE_MS);
    while (ready < 0 && errno == EINTR);
    if (ready == 0)
        return NULL;
    if (read(answers, &room, sizeof room) != sizeof room)
        return not_known("asking for it failed");
    if (room.error)
        return not_known(why_not(room.error));
    return json_pack("{s:I, s:I, s:n}", "free_bytes", (json_int_t)room.free_bytes, "size_bytes",
                     (json_int_t)room.size_bytes, "reason");
}

static json_t *ask_aside(const char *folder)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return not_known(strerror(errno));
    fflush(NULL);
    pid_t asks = fork();
    if (asks == 0)
        ask(folder, ends[1]);
    int error = errno;
    fd_close(&ends[1]);
    json_t *result = asks < 0 ? not_known(strerror(error)) : listen_to(ends[0]);
    fd_close(&ends[0]);
    if (asks > 0 && result) {
        waitpid(asks, NULL, 0);
    } else if (asks > 0) {
        kill(asks, SIGKILL);
        stuck = asks;
    }
    return result;
}

json_t *ctl_disk_look(const char *folder)
{
    json_t *result = NULL;
    if (stuck > 0 && waitpid(stuck, NULL, WNOHANG) != 0)
        stuck = 0;
    if (!stuck)
        result = ask_aside(folder);
    return result ? result : not_known("its disk does not answer");
}
