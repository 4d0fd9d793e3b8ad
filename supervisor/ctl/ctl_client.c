/* SPDX-License-Identifier: MIT */
/* The connection to the supervisor. Called by every verb that asks it something. It never waits
 * beyond the deadline, and when nobody can be asked it says which socket was tried and what can be
 * done. */
#include "supervisor/ctl/ctl_client.h"

#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/control_protocol.h"
#include "common/fd.h"
#include "common/monotonic.h"
#include "common/units.h"
#include "supervisor/ctl/ctl_answer.h"
#include "supervisor/ctl/ctl_text.h"

#define RECONNECT_EVERY_NS (50 * (long)NS_PER_MS)

void ctl_client_rearm(struct ctl_client *client)
{
    client->deadline = monotonic_add(monotonic_now(), client->options->timeout_ns);
}

/* ---- connecting ---- */

static int complain_denied(const char *path)
{
    struct stat socket_stat;
    if (stat(path, &socket_stat) < 0) {
        ctl_complain("permission denied: you may not enter the folder of %s. Run as root, or let "
                     "its owner open it",
                     path);
        return CTL_NO_DAEMON;
    }
    const struct group *group = getgrgid(socket_stat.st_gid);
    /* Nobody should join root's group. */
    if (group && socket_stat.st_gid != 0 && (socket_stat.st_mode & S_IWGRP))
        ctl_complain(
            "permission denied on %s: its group '%s' may use it. Run as root, or join the group "
            "(usermod -aG %s YOU) and log in again",
            path, group->gr_name, group->gr_name);
    else
        ctl_complain("permission denied on %s: only its owner (uid %u) and root may use it. Run as "
                     "root, or set "
                     "control { mode, group } in the configuration",
                     path, (unsigned)socket_stat.st_uid);
    return CTL_NO_DAEMON;
}

/* Also one that may not be written to, which the kernel looks at first. */
static bool is_no_socket(const char *path, int error)
{
    struct stat about;
    return (error == ECONNREFUSED || error == EACCES) && stat(path, &about) == 0 &&
           !S_ISSOCK(about.st_mode);
}

static int complain_unreachable(const char *path, int error)
{
    if (is_no_socket(path, error)) {
        ctl_complain("no holdfastd at %s: this is no socket. Name its socket with --socket or $%s",
                     path, CONTROL_SOCKET_VARIABLE);
        return CTL_NO_DAEMON;
    }
    if (error == EACCES || error == EPERM)
        return complain_denied(path);
    if (error == ENOENT || error == ENOTDIR)
        ctl_complain("no holdfastd at %s: there is no such socket. Start it (systemctl start "
                     "holdfast), or name its "
                     "socket with --socket or $%s",
                     path, CONTROL_SOCKET_VARIABLE);
    else if (error == ECONNREFUSED)
        ctl_complain("no holdfastd at %s: it has ended and left its socket behind. Start it "
                     "(systemctl start "
                     "holdfast), or name another socket with --socket or $%s",
                     path, CONTROL_SOCKET_VARIABLE);
    else if (error == EAGAIN)
        ctl_complain("holdfastd at %s has more clients waiting than it can take: try again", path);
    else
        ctl_complain("cannot reach holdfastd at %s: %s", path, strerror(error));
    return CTL_NO_DAEMON;
}

int ctl_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* A Unix socket connects at once or not at all; EAGAIN means that the backlog is full. */
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int error = errno;
        fd_close(&fd);
        return -error;
    }
    return fd;
}

int ctl_client_open(struct ctl_client *client, const struct ctl_options *options)
{
    *client = (struct ctl_client){.options = options, .fd = -1};
    control_lines_init(&client->lines, CONTROL_ANSWER_MAX);
    ctl_client_rearm(client);
    int result = ctl_connect(options->socket);
    if (result == -ENAMETOOLONG) {
        ctl_complain("the socket's path is longer than %zu bytes: %s",
                     sizeof((struct sockaddr_un *)NULL)->sun_path - 1, options->socket);
        return CTL_USAGE;
    }
    if (result < 0)
        return complain_unreachable(options->socket, -result);
    client->fd = result;
    return CTL_OK;
}

void ctl_client_close(struct ctl_client *client)
{
    control_lines_free(&client->lines);
    fd_close(&client->fd);
}

/* ---- asking ---- */

static bool is_late(const struct ctl_client *client)
{
    return monotonic_since(client->deadline, monotonic_now()) == 0;
}

/* true when the socket is ready, false at the deadline. */
static bool wait_for(const struct ctl_client *client, short events)
{
    for (;;) {
        uint64_t left = monotonic_since(client->deadline, monotonic_now());
        struct pollfd ready = {.fd = client->fd, .events = events};
        int n = poll(&ready, 1, (int)((left + NS_PER_MS - 1) / NS_PER_MS));
        if (n > 0)
            return true;
        if (n == 0 && left == 0)
            return false;
        if (n < 0 && errno != EINTR)
            return false;
    }
}

static const char *timeout_text(const struct ctl_client *client, char text[CTL_TEXT_SIZE])
{
    units_human_duration(client->options->timeout_ns, text, CTL_TEXT_SIZE);
    return text;
}

static int complain_silence(const struct ctl_client *client)
{
    char waited[CTL_TEXT_SIZE];
    if (client->lines.end > client->lines.start)
        ctl_complain("what answers at %s began an answer and did not end it within %s: is it "
                     "holdfastd? --timeout waits longer",
                     client->options->socket, timeout_text(client, waited));
    else
        ctl_complain("holdfastd at %s has not answered for %s: is it stopped or very busy? "
                     "--timeout waits longer",
                     client->options->socket, timeout_text(client, waited));
    return CTL_NO_DAEMON;
}

static int complain_stranger(const struct ctl_client *client, const char *why)
{
    ctl_complain("what answers at %s is no holdfastd: %s", client->options->socket, why);
    return CTL_NO_DAEMON;
}

static int send_all(const struct ctl_client *client, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t n = send(client->fd, bytes, length, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            if (!wait_for(client, POLLOUT))
                return complain_silence(client);
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) /* it refused and closed; why is perhaps still to be read */
            return CTL_OK;
        bytes += n;
        length -= (size_t)n;
    }
    return CTL_OK;
}

static int complain_no_room(const struct ctl_client *client, int error)
{
    char why[80];
    if (error == -EMSGSIZE) {
        snprintf(why, sizeof why, "its answer has more than %u bytes without an end",
                 CONTROL_ANSWER_MAX);
        return complain_stranger(client, why);
    }
    ctl_complain("holdfastd's answer can't be taken: %s", strerror(-error));
    return CTL_NO_DAEMON;
}

/* Who sends without an end is late as well as who sends nothing. */
static int read_line(struct ctl_client *client, const char **ret_line, size_t *ret_length)
{
    while (!control_lines_next(&client->lines, ret_line, ret_length)) {
        char *to;
        size_t size;
        int error = control_lines_room(&client->lines, &to, &size);
        if (error < 0)
            return complain_no_room(client, error);
        ssize_t n = read(client->fd, to, size);
        if (n > 0)
            control_lines_added(&client->lines, (size_t)n);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            client->lost = true;
            return CTL_NO_DAEMON;
        }
        if (n > 0 ? is_late(client) && !control_lines_ready(&client->lines)
                  : !wait_for(client, POLLIN))
            return complain_silence(client);
    }
    return CTL_OK;
}

static int take_error(const struct ctl_answer *error)
{
    ctl_complain("%s", error->message[0] ? error->message : "holdfastd refused without a reason");
    switch (error->code) {
    case CONTROL_ERROR_METHOD:
        return CTL_USAGE;
    case CONTROL_ERROR_BUSY:
        return CTL_NO_DAEMON;
    default:
        return CTL_NO;
    }
}

int ctl_client_try(struct ctl_client *client, const char *method, json_t *params,
                   json_t **ret_result)
{
    static struct ctl_answer answer;
    const struct ctl_request asked = {++client->last_id, method};
    size_t length = 0;
    const char *line = NULL;
    char *request = control_print_request(asked.id, method, params, &length);
    client->lost = false;
    if (!request) {
        ctl_complain("memory is short");
        return CTL_NO;
    }
    int status = send_all(client, request, length);
    free(request);
    if (status == CTL_OK)
        status = read_line(client, &line, &length);
    if (status != CTL_OK)
        return status;
    const char *wrong = ctl_answer_take(line, length, &asked, &answer);
    if (wrong)
        return complain_stranger(client, wrong);
    *ret_result = answer.result;
    return answer.result ? CTL_OK : take_error(&answer);
}

static void complain_closed(const struct ctl_client *client)
{
    ctl_complain("holdfastd at %s closed the connection without an answer: is it shutting down?",
                 client->options->socket);
}

int ctl_client_call(struct ctl_client *client, const char *method, json_t *params,
                    json_t **ret_result)
{
    int status = ctl_client_try(client, method, params, ret_result);
    if (client->lost)
        complain_closed(client);
    return status;
}

int ctl_client_look(struct ctl_client *client, const char *method, const char *channel,
                    json_t **ret_result)
{
    int status = ctl_client_try(client, method, ctl_channel_params(channel), ret_result);
    if (client->lost) {
        control_lines_free(&client->lines);
        fd_close(&client->fd);
        client->fd = ctl_connect(client->options->socket);
        if (client->fd >= 0)
            status = ctl_client_try(client, method, ctl_channel_params(channel), ret_result);
    }
    if (client->lost)
        complain_closed(client);
    return status;
}

/* ---- over the ends of connections ---- */

static int complain_ended(const struct ctl_client *client, int error)
{
    char waited[CTL_TEXT_SIZE];
    if (error == EACCES || error == EPERM)
        return complain_denied(client->options->socket);
    ctl_complain("holdfastd at %s has ended, and none has answered there for %s: 'systemctl status "
                 "holdfast' or its log may say why",
                 client->options->socket, timeout_text(client, waited));
    return CTL_NO_DAEMON;
}

/* Whatever the trouble, the next program may still be about to make its socket. */
static int reconnect(struct ctl_client *client)
{
    const struct timespec pause = {.tv_nsec = RECONNECT_EVERY_NS};
    control_lines_free(&client->lines);
    fd_close(&client->fd);
    for (;;) {
        nanosleep(&pause, NULL);
        int result = ctl_connect(client->options->socket);
        if (result >= 0 && !is_late(client)) {
            client->fd = result;
            return CTL_OK;
        }
        if (is_late(client)) {
            fd_close(&result);
            return complain_ended(client, -result);
        }
    }
}

int ctl_client_follow(struct ctl_client *client, const char *channel, void (*tell)(void),
                      json_t **ret_status)
{
    int status = ctl_client_try(client, "status", ctl_channel_params(channel), ret_status);
    if (client->lost && tell)
        tell();
    while (client->lost) {
        status = reconnect(client);
        if (status != CTL_OK)
            return status;
        status = ctl_client_try(client, "status", ctl_channel_params(channel), ret_status);
    }
    return status;
}

int ctl_client_wait_end(struct ctl_client *client)
{
    char waste[4096];
    for (;;) {
        if (is_late(client)) /* also of who goes on talking */
            return CTL_NO;
        ssize_t n = read(client->fd, waste, sizeof waste);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return CTL_OK;
        if (n < 0 && !wait_for(client, POLLIN))
            return CTL_NO;
    }
}

json_t *ctl_channel_params(const char *channel)
{
    return channel ? json_pack("{s:o}", "channel", control_text(channel)) : NULL;
}

int ctl_ask(const struct ctl_options *options, const char *method, const char *channel,
            json_t **ret_result)
{
    struct ctl_client client;
    int status = ctl_client_open(&client, options);
    if (status == CTL_OK)
        status = ctl_client_look(&client, method, channel, ret_result);
    ctl_client_close(&client);
    return status;
}
