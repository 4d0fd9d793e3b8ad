/* SPDX-License-Identifier: MIT */
/* Looks whether groups, interfaces, addresses, CPUs and log_dir are there, and descriptors enough.
 * Called for --check: a running daemon goes on without most of them, and tries again. Must change
 * nothing. */
#include "supervisor/config/config_surroundings.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/channel_spec.h"
#include "common/fd.h"
#include "supervisor/system/process.h"

/* The program's own: pipes, timers, the archive, the gate with its socket and what wakes it, the
 * log's writer, the control socket with what is kept for its clients, and what segments that are
 * being sealed or an upgrade take for a moment. */
#define DESCRIPTORS_OWN 56
/* The worker's program is held above what children are given by number. */
#define DESCRIPTORS_LEAST 80

rlim_t config_surroundings_descriptors(const struct settings *settings)
{
    rlim_t needed = DESCRIPTORS_OWN + 3 * settings->spare_workers;
    for (size_t i = 0; i < settings->channel_count; i++) {
        /* its socket, two memories, history, worker's socket and pidfd; two segments and one that
         * has just been filled */
        needed += settings->channels[i]->record.enabled ? 9 : 6;
        needed += channel_spec_destination_count(settings->channels[i]);
        needed += (rlim_t)CHANNEL_PUBLISHER_FDS * settings->channels[i]->publishers.most;
    }
    return needed > DESCRIPTORS_LEAST ? needed : DESCRIPTORS_LEAST;
}

/* The limit of who runs --check need not be the daemon's. */
static void warn_descriptors(FILE *to, const char *path, const struct settings *settings)
{
    struct rlimit limit;
    unsigned long long needed = config_surroundings_descriptors(settings);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max < needed)
        fprintf(to,
                "%s: warning: this configuration needs %llu open files, and the limit is %llu "
                "here: holdfastd does not start with so few; set LimitNOFILE=%llu in the unit, or "
                "`ulimit -Hn`\n",
                path, needed, (unsigned long long)limit.rlim_max, needed);
}

/* destination: NULL for the channel's own. */
static void warn_interface(FILE *to, const char *path, const struct channel_spec *spec,
                           const struct destination_spec *destination)
{
    const char *interface = destination ? destination->interface : spec->interface;
    bool is_relay = destination && destination->kind == DESTINATION_RELAY;
    if (interface[0] == '\0' || if_nametoindex(interface) != 0)
        return;
    fprintf(to, "%s: warning: channel \"%s\"", path, spec->name);
    if (destination)
        fprintf(to, ": %s \"%s\"", is_relay ? "relay" : "decimate", destination->name);
    fprintf(to, ": there is no interface \"%s\" now: check its name with `ip link`\n", interface);
}

/* Is it an address of this machine? Tried at a port of the kernel's choice. */
static void warn_listen(FILE *to, const char *path, const struct channel_spec *spec)
{
    union socket_address address = spec->listen;
    char text[SOCKET_ADDRESS_TEXT_SIZE];
    if (channel_spec_is_local(spec) || socket_address_is_multicast(&address) ||
        socket_address_is_link_local(&address))
        return;
    int probe = socket(address.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (address.family == AF_INET)
        address.v4.sin_port = 0;
    else
        address.v6.sin6_port = 0;
    if (probe >= 0 && bind(probe, &address.any, socket_address_length(&address)) < 0 &&
        errno == EADDRNOTAVAIL) {
        socket_address_print(&spec->listen, text, sizeof text);
        fprintf(to,
                "%s: warning: channel \"%s\": listen = \"%s\": no interface of this machine has "
                "this address now: check it with `ip address`\n",
                path, spec->name, text);
    }
    fd_close(&probe);
}

static void warn_cpus(FILE *to, const char *path, const struct channel_spec *spec)
{
    long present = sysconf(_SC_NPROCESSORS_CONF);
    bool any = false, wanted = false;
    for (long cpu = 0; present > 0 && cpu < CHANNEL_CPUS_MAX; cpu++) {
        bool is_set = spec->cpus[cpu / 64] >> (cpu % 64) & 1;
        wanted |= is_set;
        any |= is_set && cpu < present;
    }
    if (wanted && !any)
        fprintf(to,
                "%s: warning: channel \"%s\": cpus: this machine has CPUs 0 to %ld, none of those: "
                "its worker would run on any\n",
                path, spec->name, present - 1);
}

/* The folder that a path lies in. */
static void parent_of(const char *path, char *parent, size_t size)
{
    snprintf(parent, size, "%s", path);
    char *slash = strrchr(parent, '/');
    if (!slash)
        snprintf(parent, size, ".");
    else
        slash[slash == parent] = '\0';
}

static void warn_log_dir(FILE *to, const char *path, const char *log_dir)
{
    char parent[sizeof((struct settings *)0)->log_dir];
    const char *of = log_dir, *advice = "who runs holdfastd needs write access";
    struct stat about;
    int error = stat(log_dir, &about) == 0 ? 0 : errno;
    parent_of(log_dir, parent, sizeof parent);
    if (error == ENOENT) { /* it will be made */
        of = parent;
        error = stat(parent, &about) == 0 ? 0 : errno;
    }
    if (error == 0 && !S_ISDIR(about.st_mode))
        error = ENOTDIR;
    if (error == ENOTDIR)
        advice = "name a folder, or move the file away";
    else if (error == ENOENT)
        advice = "make it; only the last folder is made when it is missing";
    else if (error == 0 && access(of, W_OK | X_OK) < 0)
        error = errno;
    if (error != 0)
        fprintf(to,
                "%s: warning: log_dir = \"%s\": %s: %s%s: nothing can be recorded "
                "there; %s\n",
                path, log_dir, of, strerror(error),
                error == EACCES || error == EPERM ? " for this user" : "", advice);
}

/* One of the two sockets, and what happens when it can't be made. */
struct socket_settings {
    const char *section, *socket, *group, *without;
};

static int judge_path(FILE *to, const char *path, const struct socket_settings *settings)
{
    struct stat about;
    if (stat(settings->socket, &about) < 0 || S_ISSOCK(about.st_mode))
        return 0;
    fprintf(to,
            "%s: %s { socket = \"%s\" }: it exists and is no socket: move it away, or name "
            "another one\n",
            path, settings->section, settings->socket);
    return 1;
}

/* The last folder is made when it is missing, not those above it. */
static int judge_folder(FILE *to, const char *path, const struct socket_settings *settings)
{
    char folder[sizeof((struct settings *)0)->control_socket];
    snprintf(folder, sizeof folder, "%s", settings->socket);
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(folder, '/');
        if (!slash)
            return 0;
        slash[slash == folder] = '\0';
        if (access(folder, F_OK) == 0 || errno != ENOENT)
            break;
    }
    if (access(folder, F_OK) < 0) {
        fprintf(to,
                "%s: %s { socket = \"%s\" }: %s: %s: make it; only the last folder is made when "
                "it is missing\n",
                path, settings->section, settings->socket, folder, strerror(errno));
        return 1;
    }
    if (access(folder, W_OK | X_OK) < 0)
        fprintf(to,
                "%s: warning: %s { socket = \"%s\" }: %s: %s for this user: who runs holdfastd "
                "must be able to make it there, or %s\n",
                path, settings->section, settings->socket, folder, strerror(errno),
                settings->without);
    return 0;
}

static bool are_in_one_folder(const char *path, const char *other)
{
    char folder[108], of_other[108];
    parent_of(path, folder, sizeof folder);
    parent_of(other, of_other, sizeof of_other);
    return strcmp(folder, of_other) == 0;
}

static bool is_mine(gid_t group)
{
    gid_t groups[NGROUPS_MAX];
    int count = getgroups(NGROUPS_MAX, groups);
    if (geteuid() == 0 || getegid() == group)
        return true;
    for (int i = 0; i < count; i++)
        if (groups[i] == group)
            return true;
    return false;
}

static int judge_group(FILE *to, const char *path, const struct socket_settings *settings)
{
    const char *name = settings->group;
    const struct group *group = name[0] ? getgrnam(name) : NULL;
    if (name[0] && !group) {
        fprintf(to, "%s: %s { group = \"%s\" }: there is no such group: make it with groupadd(8)\n",
                path, settings->section, name);
        return 1;
    }
    if (group && !is_mine(group->gr_gid))
        fprintf(to,
                "%s: warning: %s { group = \"%s\" }: this user is no member: who runs "
                "holdfastd must be one, or root, or %s\n",
                path, settings->section, name, settings->without);
    return 0;
}

/* What is so of both is said once. */
static int judge_sockets(FILE *to, const char *path, const struct settings *settings)
{
    const struct socket_settings control = {"control", settings->control_socket,
                                            settings->control_group, "the start fails"};
    const struct socket_settings read = {"read", settings->read_socket, settings->read_group,
                                         "nobody can read"};
    int errors = judge_group(to, path, &control);
    errors += judge_path(to, path, &control);
    errors += judge_folder(to, path, &control);
    if (!settings->read_enabled)
        return errors;
    if (strcmp(read.group, control.group) != 0)
        errors += judge_group(to, path, &read);
    errors += judge_path(to, path, &read);
    if (!are_in_one_folder(read.socket, control.socket))
        errors += judge_folder(to, path, &read);
    return errors;
}

static bool is_same_folder(const char *path, const char *other)
{
    struct stat about, of_other;
    return strcmp(path, other) == 0 ||
           (stat(path, &about) == 0 && stat(other, &of_other) == 0 &&
            about.st_dev == of_other.st_dev && about.st_ino == of_other.st_ino);
}

/* Segments that are being written lie in the one that the present program has. */
static int refuse_other_log_dir(FILE *to, const char *path, const char *log_dir)
{
    const char *former = getenv(PROGRAM_FORMER_LOG_DIR_VARIABLE);
    if (!former || is_same_folder(former, log_dir))
        return 0;
    fprintf(
        to,
        "%s: log_dir = \"%s\": an upgrade can't change it from \"%s\", where segments are being "
        "written: stop holdfastd and start it again\n",
        path, log_dir, former);
    return 1;
}

int config_surroundings_report(FILE *to, const char *path, const struct settings *settings)
{
    int errors = refuse_other_log_dir(to, path, settings->log_dir);
    bool records = false;
    errors += judge_sockets(to, path, settings);
    for (size_t i = 0; i < settings->channel_count; i++) {
        const struct channel_spec *spec = settings->channels[i];
        records |= spec->record.enabled != 0;
        warn_interface(to, path, spec, NULL);
        warn_listen(to, path, spec);
        warn_cpus(to, path, spec);
        for (uint32_t k = 0; k < channel_spec_destination_count(spec); k++)
            warn_interface(to, path, spec, &spec->destinations[k]);
    }
    warn_descriptors(to, path, settings);
    if (records)
        warn_log_dir(to, path, settings->log_dir);
    return errors;
}
