/* SPDX-License-Identifier: MIT */
/* Opens what is to be read. Called by every verb that reads. A word with a slash in it, or with a
 * log file's ending, is a file; so no file can be taken for a channel, and no channel for a file.
 */
#include "supervisor/ctl/ctl_source.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/avro_log_name.h"
#include "common/fd.h"
#include "common/read_protocol.h"
#include "supervisor/ctl/ctl_client.h"
#include "supervisor/ctl/ctl_text.h"

#define READ_SOCKET_VARIABLE "HOLDFAST_READ_SOCKET"

static bool is_file(const char *word)
{
    return strchr(word, '/') || avro_log_name_ends_in(word, AVRO_LOG_SUFFIX) ||
           avro_log_name_ends_in(word, AVRO_LOG_OPEN_SUFFIX);
}

/* ---- the daemon ---- */

/* The daemon's own word for where its read socket is: NULL when nobody answers, or it doesn't say.
 * The caller's. */
static char *ask_for_socket(const struct ctl_options *options, bool *ret_answers)
{
    json_t *answer = NULL;
    char *path = NULL;
    int fd = ctl_connect(options->socket);
    *ret_answers = fd >= 0;
    if (fd < 0)
        return NULL;
    fd_close(&fd);
    if (ctl_ask(options, "ping", NULL, &answer) == CTL_OK && ctl_string(answer, "read_socket")[0])
        path = strdup(ctl_string(answer, "read_socket"));
    json_decref(answer);
    return path;
}

/* control: the daemon's other socket, if it was asked for this one in vain, or NULL. */
static int complain_no_daemon(const char *path, const char *control, int error)
{
    static const char advice[] =
        "Start holdfastd with read { } in its configuration, or name its socket with --read-socket "
        "or $" READ_SOCKET_VARIABLE
        ". Log files can be read without it: name them, or the folder they are in, such as "
        "/var/lib/holdfast/engine/";
    char asked[PATH_MAX + 64] = "";
    if (control)
        snprintf(asked, sizeof asked, "no holdfastd answers at %s, and ", control);
    if (error == -EACCES || error == -EPERM)
        ctl_complain(
            "permission denied on %s: its group may read (read { mode, group } in the "
            "configuration). Join the group, or run as root. Log files can be read without "
            "it by whoever may open them",
            path);
    else if (strncmp(path, "tcp:", 4) == 0 && error != -EBUSY)
        ctl_complain(
            "nobody serves readers at %s: %s. It is tcp:HOST:PORT, with [ ] around an IPv6 "
            "address, and the daemon there needs read { tcp } in its configuration",
            path, error == -EINVAL ? "that is no host and port" : strerror(-error));
    else if (error == -ENOENT)
        ctl_complain("%snobody serves readers at %s: there is no such socket. %s", asked, path,
                     advice);
    else if (error == -ECONNREFUSED)
        ctl_complain("%snobody serves readers at %s: it has ended and left its socket behind. %s",
                     asked, path, advice);
    else if (error == -EBUSY)
        ctl_complain("too many programs read at %s, altogether or of this user: end some "
                     "(`holdfastctl readers`, as root, shows them), or try again later",
                     path);
    else
        ctl_complain("cannot read at %s: %s. %s", path, strerror(-error), advice);
    return CTL_NO_DAEMON;
}

/* Another one's socket, at the usual place, would have other channels. */
static int complain_no_socket(const char *control)
{
    ctl_complain("holdfastd at %s has no socket for readers: its configuration says read { enabled "
                 "= false }, or it is of a version before there was one. Log files can be read "
                 "without it: name them, or the folder they are in",
                 control);
    return CTL_NO_DAEMON;
}

/* NULL: the daemon is to be asked. */
static const char *named_socket(const struct ctl_command *command)
{
    const char *from_environment = getenv(READ_SOCKET_VARIABLE);
    return command->read_socket                      ? command->read_socket
           : from_environment && from_environment[0] ? from_environment
                                                     : NULL;
}

bool ctl_daemon_is_remote(const struct ctl_command *command)
{
    const char *named = named_socket(command);
    return named && strncmp(named, "tcp:", 4) == 0;
}

int ctl_daemon_open(const struct ctl_command *command, hf **ret)
{
    const char *named = named_socket(command);
    const char *control = NULL;
    char *asked = NULL;
    if (!named) {
        bool answers;
        named = asked = ask_for_socket(&command->options, &answers);
        if (!named && answers)
            return complain_no_socket(command->options.socket);
        control = named ? NULL : command->options.socket;
    }
    int result = hf_open(ret, named);
    int status = CTL_OK;
    if (result < 0)
        status = complain_no_daemon(named ? named : READ_SOCKET_DEFAULT, control, result);
    free(asked);
    return status;
}

int ctl_complain_read(const char *what, int error)
{
    switch (-error) {
    case EOPNOTSUPP:
        ctl_complain("%s: this can't be had of files, of such a channel, or over TCP: fetch log "
                     "files from there, and read those",
                     what);
        break;
    case ENOTUNIQ:
        ctl_complain("%s: %s", what, hf_file_problem());
        break;
    case EACCES:
    case EPERM:
        ctl_complain("%s: the position is another user's", what);
        break;
    case EBUSY:
        ctl_complain(
            "%s: holdfastd has as many readers, or requests of readers, as it can have: try "
            "again; 'holdfastctl readers' shows who reads",
            what);
        break;
    case ETIMEDOUT:
        ctl_complain("%s: holdfastd does not answer: 'holdfastctl check' shows how it is", what);
        return CTL_NO_DAEMON;
    default:
        ctl_complain("%s: %s", what, strerror(-error));
        break;
    }
    return CTL_NO;
}

/* ---- what was named ---- */

static int complain_files(int error)
{
    const char *problem = hf_file_problem();
    if (error == -ENODATA)
        ctl_complain("%s; name a log file (.avro, .avro.open), a channel's folder or a log_dir",
                     problem);
    else if (error == -EBADMSG)
        ctl_complain("%s. 'holdfastctl verify FILE' says more, 'holdfastctl recover FILE' may help",
                     problem);
    else if (error == -ENOENT)
        ctl_complain("%s. A channel's name has no slash and no .avro in it", problem);
    else
        ctl_complain("%s", problem[0] ? problem : strerror(-error));
    return CTL_NO;
}

static int add(struct ctl_sources *sources, hf *handle, const struct hf_channel *info)
{
    for (size_t i = 0; i < sources->count; i++) {
        if (strcmp(sources->list[i].info.name, info->name) != 0)
            continue;
        if (sources->list[i].handle == handle)
            return CTL_OK; /* named twice */
        ctl_complain("%s is named as a channel of the daemon, and files of a channel of that name "
                     "are named as well: what both have would come twice. Name one of the two",
                     info->name);
        return CTL_USAGE;
    }
    struct ctl_source *list =
        reallocarray(sources->list, sources->count + 1, sizeof *sources->list);
    if (!list) {
        ctl_complain("memory is short");
        return CTL_NO;
    }
    sources->list = list;
    list[sources->count++] =
        (struct ctl_source){handle, *info, handle == sources->files && sources->files};
    return CTL_OK;
}

static int complain_no_channel(const char *name, const struct hf_channel *list, size_t count)
{
    char names[1024] = "";
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", list[i].name);
    }
    ctl_complain("there is no channel '%s'; there %s: %s. A file's name has a slash in it, or ends "
                 "in .avro or .avro.open",
                 name, count == 1 ? "is" : "are", names[0] ? names : "none");
    return CTL_NO;
}

/* name NULL: all. */
static int add_channels(struct ctl_sources *sources, hf *handle, const char *name)
{
    struct hf_channel *list = NULL;
    size_t count = 0;
    bool found = name == NULL;
    int result = hf_list(handle, &list, &count);
    if (result < 0)
        return ctl_complain_read("asking for the channels", result);
    int status = CTL_OK;
    for (size_t i = 0; i < count && status == CTL_OK; i++) {
        if (name && strcmp(list[i].name, name) != 0)
            continue;
        found = true;
        status = add(sources, handle, &list[i]);
    }
    if (!found)
        status = complain_no_channel(name, list, count);
    free(list);
    return status;
}

/* What is there by that name in this folder was meant, perhaps. */
static void explain_name(const char *name)
{
    if (access(name, F_OK) == 0)
        ctl_complain("'%s' was taken for a channel: for the file or folder write ./%s", name, name);
}

static int open_files(struct ctl_sources *sources, const struct ctl_command *command)
{
    const char **paths = calloc((size_t)command->file_count + 1, sizeof *paths);
    size_t count = 0;
    if (!paths) {
        ctl_complain("memory is short");
        return CTL_NO;
    }
    for (int i = 0; i < command->file_count; i++)
        if (is_file(command->files[i]))
            paths[count++] = command->files[i];
    int result = count > 0 ? hf_open_files(&sources->files, paths, count) : 0;
    free(paths);
    if (result < 0)
        return complain_files(result);
    return count > 0 ? add_channels(sources, sources->files, NULL) : CTL_OK;
}

int ctl_sources_open(struct ctl_sources *sources, const struct ctl_command *command)
{
    *sources = (struct ctl_sources){0};
    int status = open_files(sources, command);
    for (int i = 0; i < command->file_count && status == CTL_OK; i++) {
        if (is_file(command->files[i]))
            continue;
        if (!sources->daemon)
            status = ctl_daemon_open(command, &sources->daemon);
        if (status == CTL_OK)
            status = add_channels(sources, sources->daemon, command->files[i]);
        if (status == CTL_NO || status == CTL_NO_DAEMON)
            explain_name(command->files[i]);
    }
    if (status == CTL_OK && command->file_count == 0)
        status = ctl_daemon_open(command, &sources->daemon);
    if (status == CTL_OK && command->file_count == 0)
        status = add_channels(sources, sources->daemon, NULL);
    return status;
}

void ctl_sources_close(struct ctl_sources *sources)
{
    sources->files = hf_close(sources->files);
    sources->daemon = hf_close(sources->daemon);
    free(sources->list);
    *sources = (struct ctl_sources){0};
}

bool ctl_source_is_channel(hf *handle, const char *name)
{
    struct hf_channel *list = NULL;
    size_t count = 0;
    bool found = hf_list(handle, &list, &count) < 0; /* not known */
    for (size_t i = 0; i < count && !found; i++)
        found = strcmp(list[i].name, name) == 0;
    free(list);
    if (!found)
        ctl_complain("there is no channel '%s': 'holdfastctl status' lists them", name);
    return found;
}
