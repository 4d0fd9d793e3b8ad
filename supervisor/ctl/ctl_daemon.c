/* SPDX-License-Identifier: MIT */
/* Verbs about the supervisor as a whole: ping, check, shutdown, upgrade. */
#include "supervisor/ctl/ctl_daemon.h"

#include <stdio.h>
#include <time.h>

#include "common/fd.h"
#include "common/monotonic.h"
#include "common/units.h"
#include "supervisor/ctl/ctl_client.h"
#include "supervisor/ctl/ctl_status.h"
#include "supervisor/ctl/ctl_text.h"
#include "supervisor/ctl/ctl_window.h"

/* verb: what the answering holdfastd does, for people. */
static int ask_who(const struct ctl_options *options, const char *channel, const char *verb)
{
    json_t *result = NULL;
    int status = ctl_ask(options, "ping", channel, &result);
    if (status == CTL_OK && options->json) {
        ctl_print_json(result);
    } else if (status == CTL_OK) {
        printf("holdfastd ");
        ctl_print_text(stdout, false, CTL_PLAIN, ctl_string(result, "version"));
        printf(" %s, pid %llu\n", verb, (unsigned long long)ctl_count(result, "pid"));
    }
    json_decref(result);
    return status;
}

int ctl_ping(const struct ctl_options *options, const char *channel)
{
    return ask_who(options, channel, "answers");
}

int ctl_check(const struct ctl_options *options, const char *channel)
{
    struct ctl_look look = {.colour = options->colour};
    json_t *result = NULL;
    int status = ctl_ask(options, "check", channel, &result);
    if (status != CTL_OK)
        return status;
    if (options->json) {
        ctl_print_json(result);
    } else {
        ctl_report_check(ctl_window_text(&look), result, options->colour);
        ctl_window_print();
    }
    status = json_is_true(json_object_get(result, "healthy")) ? CTL_OK : CTL_NO;
    json_decref(result);
    return status;
}

/* Ask for it, and wait for what it leads to unless the caller doesn't want to. */
static int command(const struct ctl_options *options, const char *method, const char *channel,
                   int (*wait)(const struct ctl_options *options, struct ctl_client *client))
{
    struct ctl_client client;
    json_t *result = NULL;
    int status = ctl_client_open(&client, options);
    if (status == CTL_OK)
        status = ctl_client_call(&client, method, ctl_channel_params(channel), &result);
    if (status == CTL_OK && !options->no_wait)
        status = wait(options, &client);
    else if (status == CTL_OK && options->json)
        ctl_print_json(result);
    else if (status == CTL_OK)
        printf("%s accepted\n", method);
    json_decref(result);
    ctl_client_close(&client);
    return status;
}

static int wait_for_end(const struct ctl_options *options, struct ctl_client *client)
{
    char waited[CTL_TEXT_SIZE];
    if (ctl_client_wait_end(client) == CTL_OK) {
        puts(options->json ? "{\"ended\":true}" : "holdfastd has ended");
        return CTL_OK;
    }
    units_human_duration(options->timeout_ns, waited, sizeof waited);
    ctl_complain("shutdown was accepted, but holdfastd still works on it after %s: 'holdfastctl "
                 "status' shows which channels it waits for",
                 waited);
    return CTL_NO;
}

int ctl_shutdown(const struct ctl_options *options, const char *channel)
{
    return command(options, "shutdown", channel, wait_for_end);
}

#define UPGRADE_LOOK_NS (10 * NS_PER_MS)

/* The old program's socket is gone before its connections end; the new one makes its own. */
static bool wait_for_socket(const char *path, monotonic deadline)
{
    const struct timespec pause = {.tv_nsec = UPGRADE_LOOK_NS};
    for (;;) {
        int fd = ctl_connect(path);
        bool listening = fd >= 0;
        fd_close(&fd);
        if (listening)
            return true;
        if (monotonic_now().ns > deadline.ns)
            return false;
        nanosleep(&pause, NULL);
    }
}

/* Who answers may be the old program: the new one could not be executed any more. */
static int ask_successor(const struct ctl_options *options)
{
    json_t *result = NULL;
    int status = ctl_ask(options, "ping", NULL, &result);
    const char *failed = status == CTL_OK ? ctl_string(result, "upgrade_failed") : "";
    if (failed[0])
        ctl_complain("%s", failed);
    if (failed[0])
        status = CTL_NO;
    json_decref(result);
    return status == CTL_OK ? ask_who(options, NULL, "has taken over") : status;
}

static int wait_for_successor(const struct ctl_options *options, struct ctl_client *client)
{
    if (ctl_client_wait_end(client) == CTL_OK && wait_for_socket(options->socket, client->deadline))
        return ask_successor(options);
    ctl_complain("the upgrade was accepted, but no holdfastd answers on %s yet: see its log, or "
                 "does its configuration name another socket?",
                 options->socket);
    return CTL_NO;
}

int ctl_upgrade(const struct ctl_options *options, const char *channel)
{
    return command(options, "upgrade", channel, wait_for_successor);
}
