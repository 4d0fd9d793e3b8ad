/* SPDX-License-Identifier: MIT */
/* The paths of the sockets that clients connect to. Called for each at start and end, and on both
 * sides of an upgrade, over which it stays. Never may a socket be open to more people than its plan
 * says, not even for an instant; never may a living daemon be displaced; never may a path that
 * somebody else made meanwhile be removed. */
#include "supervisor/system/listening.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/monotonic.h"

#define ANSWERS_ASKED    30 /* times 10 ms */
#define GROUP_SIZE_FIRST 16384
#define GROUP_SIZE_MAX   (16384 << 6) /* 1 MiB */
#define KEPT_SIZE        128
#define GROUP_TEXT_SIZE  96

struct excuse { /* where an explanation goes */
    char *text;
    size_t size;
};

__attribute__((format(printf, 3, 4))) static int fail(const struct excuse *why, int error,
                                                      const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why->text, why->size, format, arguments);
    va_end(arguments);
    return -error;
}

/* Only the last folder: /run/holdfast on a fresh boot. A wrong path should fail, not grow a tree.
 */
static int make_folder(const struct listening_plan *plan, const struct excuse *why)
{
    char folder[LISTENING_PATH_SIZE];
    snprintf(folder, sizeof folder, "%s", plan->path);
    char *slash = strrchr(folder, '/');
    if (!slash || slash == folder)
        return 0;
    *slash = '\0';
    if (mkdir(folder, 0755) < 0 && errno != EEXIST)
        return fail(why, errno, "cannot make the folder %s: %s. Make it, or change %s { socket }",
                    folder, strerror(errno), plan->section);
    return 0;
}

/* Who called listen(2) there has ended, and a child of it still has the socket, perhaps stopped. A
 * number that somebody else has by now, or that is another namespace's, says nothing. */
static bool is_orphaned(int connected)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(connected, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid > 0 &&
           kill(peer.pid, 0) < 0 && errno == ESRCH;
}

/* 1 = somebody listens there, 0 = a socket that nobody listens on, -errno = neither can be said. */
static int somebody_answers(const struct sockaddr_un *address, int type)
{
    int probe = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return -errno;
    int error = connect(probe, (const struct sockaddr *)address, sizeof *address) < 0 ? errno : 0;
    bool orphaned = error == 0 && is_orphaned(probe);
    fd_close(&probe);
    if (error == ECONNREFUSED || orphaned)
        return 0;
    /* EAGAIN: its backlog is full, so it is alive. EPROTOTYPE: so is one of another type. */
    return error == 0 || error == EAGAIN || error == EPROTOTYPE ? 1 : -error;
}

/* A child that was just being started when its supervisor was killed has the socket until it
 * executes: ask again for a while before a daemon is said to be alive. Only where nothing is served
 * yet that could wait for us. */
static int somebody_keeps_answering(const struct sockaddr_un *address, int type, bool patient)
{
    const struct timespec pause = {.tv_nsec = 10 * NS_PER_MS};
    int answers = somebody_answers(address, type);
    for (int i = 0; patient && i < ANSWERS_ASKED && answers == 1; i++) {
        nanosleep(&pause, NULL);
        answers = somebody_answers(address, type);
    }
    return answers;
}

/* Called when bind found the path taken: remove it if it is what an ended daemon left. */
static int remove_stale(const struct sockaddr_un *address, const struct listening_plan *plan,
                        bool patient, const struct excuse *why)
{
    const char *path = address->sun_path;
    struct stat before, after;
    if (lstat(path, &before) < 0)
        return errno == ENOENT ? 0
                               : fail(why, errno, "cannot look at %s: %s", path, strerror(errno));
    if (!S_ISSOCK(before.st_mode))
        return fail(why, EEXIST,
                    "%s exists and is no socket: move it away, or change %s { socket }", path,
                    plan->section);
    int answers = somebody_keeps_answering(address, plan->type, patient);
    if (answers == 1)
        return fail(why, EADDRINUSE,
                    "another holdfastd answers on %s: stop it first, or give this one its own "
                    "%s { socket }",
                    path, plan->section);
    if (answers < 0)
        return fail(why, -answers,
                    "cannot find out whether %s is in use: %s. Run as its owner or root, or change "
                    "%s { socket }",
                    path, strerror(-answers), plan->section);
    if (lstat(path, &after) < 0 || after.st_dev != before.st_dev || after.st_ino != before.st_ino)
        return fail(why, EADDRINUSE, "another holdfastd has just begun on %s", path);
    if (unlink(path) < 0 && errno != ENOENT)
        return fail(why, errno, "cannot remove the stale socket %s: %s", path, strerror(errno));
    return 0;
}

/* As the program before an upgrade has found it. */
static bool is_known_group(const struct listening_plan *plan, gid_t *ret)
{
    const char *text = getenv(plan->group_variable);
    char *end;
    if (!text)
        return false;
    unsigned long gid = strtoul(text, &end, 10);
    *ret = (gid_t)gid;
    return end != text && *end == ' ' && strcmp(end + 1, plan->group) == 0;
}

static void note_group(const struct listening_plan *plan, gid_t group)
{
    char text[GROUP_TEXT_SIZE];
    snprintf(text, sizeof text, "%lu %s", (unsigned long)group, plan->group);
    setenv(plan->group_variable, text, 1); /* without it, it is asked for again */
}

/* A group with thousands of members needs a large buffer. */
static int ask_for_group(const struct listening_plan *plan, gid_t *ret, const struct excuse *why)
{
    const char *name = plan->group;
    struct group entry, *found = NULL;
    char *buffer = NULL;
    int error = ERANGE;
    for (size_t size = GROUP_SIZE_FIRST; error == ERANGE && size <= GROUP_SIZE_MAX; size *= 4) {
        free(buffer);
        buffer = malloc(size);
        error = buffer ? getgrnam_r(name, &entry, buffer, size, &found) : ENOMEM;
    }
    if (found)
        *ret = found->gr_gid;
    free(buffer);
    if (!found)
        return fail(why, error ? error : ENOENT,
                    "%s { group }: there is no group '%s'%s%s: make it with groupadd(8)",
                    plan->section, name, error ? ": " : "", error ? strerror(error) : "");
    return 0;
}

static int find_group(const struct listening_plan *plan, gid_t *ret, const struct excuse *why)
{
    if (is_known_group(plan, ret))
        return 0;
    int error = ask_for_group(plan, ret, why);
    if (error == 0)
        note_group(plan, *ret);
    return error;
}

/* Of the socket, never of something that a link in its place leads to: chmod(2) follows links, and
 * not every kernel knows how not to. */
static int set_mode(const char *path, mode_t mode)
{
    char itself[32];
    struct stat about;
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    snprintf(itself, sizeof itself, "/proc/self/fd/%d", fd);
    int error = fstat(fd, &about) < 0 ? -errno : S_ISSOCK(about.st_mode) ? 0 : -ENOTSOCK;
    if (error == 0 && chmod(itself, mode) < 0)
        error = -errno;
    fd_close(&fd);
    return error;
}

/* Group first: widening the mode before would let the wrong group in. */
static int open_to_group(const struct listening_plan *plan, const struct excuse *why)
{
    const char *path = plan->path;
    if (plan->group[0] != '\0') {
        gid_t group = (gid_t)-1;
        int error = find_group(plan, &group, why);
        if (error < 0)
            return error;
        if (lchown(path, (uid_t)-1, group) < 0)
            return fail(why, errno,
                        "cannot give %s to group %s: %s. Run as root or as a member of that group",
                        path, plan->group, strerror(errno));
    }
    int error = set_mode(path, plan->mode);
    if (error < 0)
        return fail(why, -error, "cannot set the mode of %s: %s", path, strerror(-error));
    return 0;
}

static int bind_and_listen(struct listening *sock, const struct listening_plan *plan, bool patient,
                           const struct excuse *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat made;
    memcpy(address.sun_path, sock->path, sizeof sock->path);

    sock->fd = socket(AF_UNIX, plan->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sock->fd < 0)
        return fail(why, errno, "cannot make the %s socket: %s", plan->section, strerror(errno));
    /* The path inherits the mode of the socket, less the umask (unix(7) doesn't say, bind in the
     * kernel does): closed to everybody else from its first instant, without touching the process's
     * umask. */
    if (fchmod(sock->fd, 0600) < 0)
        return fail(why, errno, "cannot protect the %s socket: %s", plan->section, strerror(errno));
    int result = bind(sock->fd, (struct sockaddr *)&address, sizeof address);
    if (result < 0 && errno == EADDRINUSE) {
        int error = remove_stale(&address, plan, patient, why);
        if (error < 0)
            return error;
        result = bind(sock->fd, (struct sockaddr *)&address, sizeof address);
    }
    if (result < 0)
        return fail(why, errno,
                    "cannot make the socket %s: %s. Run as root or as who may write to its folder, "
                    "or change %s { socket }",
                    sock->path, strerror(errno), plan->section);
    if (lstat(sock->path, &made) < 0)
        return fail(why, errno, "the socket %s has gone: %s", sock->path, strerror(errno));
    sock->device = made.st_dev;
    sock->inode = made.st_ino;
    if (listen(sock->fd, plan->backlog) < 0)
        return fail(why, errno, "cannot listen on %s: %s", sock->path, strerror(errno));
    return 0;
}

int listening_open(const struct listening_plan *plan, bool patient, struct listening *ret,
                   char *why, size_t why_size)
{
    const struct excuse excuse = {why, why_size};
    *ret = (struct listening){.fd = -1};
    snprintf(ret->path, sizeof ret->path, "%s", plan->path);

    int error = make_folder(plan, &excuse);
    if (error == 0)
        error = bind_and_listen(ret, plan, patient, &excuse);
    if (error == 0)
        error = open_to_group(plan, &excuse);
    if (error < 0)
        listening_close(ret);
    return error;
}

static bool is_in_place(const struct listening *sock)
{
    struct stat now;
    return sock->inode != 0 && lstat(sock->path, &now) == 0 && now.st_dev == sock->device &&
           now.st_ino == sock->inode;
}

void listening_close(struct listening *sock)
{
    if (is_in_place(sock))
        unlink(sock->path);
    sock->inode = 0;
    fd_close(&sock->fd);
}

/* ---- from one program to the next ---- */

static void describe(const struct listening *sock, const struct listening_plan *plan,
                     char ret_text[KEPT_SIZE])
{
    snprintf(ret_text, KEPT_SIZE, "%llu %llu %o %s", (unsigned long long)sock->device,
             (unsigned long long)sock->inode, (unsigned)plan->mode, plan->group);
}

int listening_leave(struct listening *sock, const struct listening_plan *plan)
{
    char text[KEPT_SIZE];
    describe(sock, plan, text);
    if (!is_in_place(sock) || setenv(plan->kept_variable, text, 1) < 0) {
        listening_close(sock);
        return -1;
    }
    sock->inode = 0;
    return fd_take(&sock->fd);
}

/* Where it was bound to, and what the program before has made there. */
static void recall(int fd, const char *text, struct listening *ret)
{
    struct sockaddr_un address = {0};
    socklen_t length = sizeof address;
    unsigned long long device, inode;
    *ret = (struct listening){.fd = fd};
    if (!text || sscanf(text, "%llu %llu", &device, &inode) != 2 ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0 || address.sun_family != AF_UNIX)
        return;
    memcpy(ret->path, address.sun_path, sizeof ret->path - 1);
    ret->device = (dev_t)device;
    ret->inode = (ino_t)inode;
}

bool listening_take(int fd, const struct listening_plan *plan, struct listening *ret)
{
    const char *kept = getenv(plan->kept_variable);
    char wanted[KEPT_SIZE];
    bool suits = false;
    *ret = (struct listening){.fd = -1};
    if (fd >= 0) {
        recall(fd, kept, ret);
        describe(ret, plan, wanted);
        suits = kept && plan->path && is_in_place(ret) && strcmp(ret->path, plan->path) == 0 &&
                strcmp(kept, wanted) == 0;
    }
    unsetenv(plan->kept_variable);
    if (!suits)
        listening_close(ret);
    return suits;
}
