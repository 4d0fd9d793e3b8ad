/* SPDX-License-Identifier: MIT */
/* Looks whether groups, interfaces and log_dir are there. Called for --check alone: a running
 * daemon goes on without them, and tries again. Must change nothing. */
#include "supervisor/config/config_surroundings.h"

#include <errno.h>
#include <grp.h>
#include <net/if.h>
#include <string.h>
#include <unistd.h>

#include "common/channel_spec.h"

static void warn_interface(FILE *to, const char *path, const char *channel, const char *interface)
{
    if (interface[0] && if_nametoindex(interface) == 0)
        fprintf(
            to,
            "%s: warning: channel \"%s\": there is no interface \"%s\" now: check its name with "
            "`ip link`\n",
            path, channel, interface);
}

static void warn_log_dir(FILE *to, const char *path, const char *log_dir)
{
    char parent[sizeof((struct settings *)0)->log_dir];
    const char *of = log_dir;
    if (access(log_dir, F_OK) < 0 && errno == ENOENT) { /* it will be made */
        snprintf(parent, sizeof parent, "%s", log_dir);
        char *slash = strrchr(parent, '/');
        if (slash == parent)
            slash[1] = '\0';
        else if (slash)
            *slash = '\0';
        of = slash ? parent : ".";
    }
    if (access(of, W_OK | X_OK) < 0)
        fprintf(to,
                "%s: warning: log_dir = \"%s\": %s: %s for this user: nothing can be recorded "
                "there; who runs holdfastd needs write access\n",
                path, log_dir, of, strerror(errno));
}

/* The last folder is made when it is missing, not those above it. */
static void warn_control_socket(FILE *to, const char *path, const char *socket)
{
    char folder[sizeof((struct settings *)0)->control_socket];
    snprintf(folder, sizeof folder, "%s", socket);
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(folder, '/');
        if (!slash)
            return;
        slash[slash == folder] = '\0';
        if (access(folder, F_OK) == 0 || errno != ENOENT)
            break;
    }
    if (access(folder, W_OK | X_OK) < 0)
        fprintf(to,
                "%s: warning: control { socket = \"%s\" }: %s: %s for this user: nobody could ask "
                "or command this daemon\n",
                path, socket, folder, strerror(errno));
}

int config_surroundings_report(FILE *to, const char *path, const struct settings *settings)
{
    int errors = 0;
    bool records = false;
    if (settings->control_group[0] && !getgrnam(settings->control_group)) {
        fprintf(
            to,
            "%s: control { group = \"%s\" }: there is no such group: make it with groupadd(8)\n",
            path, settings->control_group);
        errors++;
    }
    warn_control_socket(to, path, settings->control_socket);
    for (size_t i = 0; i < settings->channel_count; i++) {
        const struct channel_spec *spec = settings->channels[i];
        records |= spec->record.enabled != 0;
        warn_interface(to, path, spec->name, spec->interface);
        for (uint32_t k = 0; k < channel_spec_destination_count(spec); k++)
            warn_interface(to, path, spec->name, spec->destinations[k].interface);
    }
    if (records)
        warn_log_dir(to, path, settings->log_dir);
    return errors;
}
