/* SPDX-License-Identifier: MIT */
/* Verbs about the supervisor as a whole: ping, check, shutdown, upgrade. */
#include "supervisor/ctl/ctl_daemon.h"

#include <stdio.h>
#include <string.h>
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

/* What a verb leads to. before: the status of all, as it was; NULL where it was not asked for. */
typedef int (*wait_function)(struct ctl_client *client, const json_t *before);

/* Ask for it, and wait for what it leads to unless the caller doesn't want to. */
static int command(const struct ctl_options *options, const char *method, wait_function wait,
                   const json_t *before)
{
    struct ctl_client client;
    json_t *result = NULL;
    int status = ctl_client_open(&client, options);
    if (status == CTL_OK)
        status = ctl_client_call(&client, method, NULL, &result);
    if (status == CTL_OK && !options->no_wait)
        status = wait(&client, before);
    else if (status == CTL_OK && options->json)
        ctl_print_json(result);
    else if (status == CTL_OK)
        printf("%s accepted\n", method);
    json_decref(result);
    ctl_client_close(&client);
    return status;
}

static int wait_for_end(struct ctl_client *client, const json_t *before)
{
    char waited[CTL_TEXT_SIZE];
    (void)before;
    if (ctl_client_wait_end(client) == CTL_OK) {
        puts(client->options->json ? "{\"ended\":true}" : "holdfastd has ended");
        return CTL_OK;
    }
    units_human_duration(client->options->timeout_ns, waited, sizeof waited);
    ctl_complain("shutdown was accepted, but holdfastd still works on it after %s: 'holdfastctl "
                 "status' shows which channels it waits for",
                 waited);
    return CTL_NO;
}

int ctl_shutdown(const struct ctl_options *options, const char *channel)
{
    (void)channel;
    return command(options, "shutdown", wait_for_end, NULL);
}

/* ---- upgrade ---- */

#define SOCKET_LOOK_NS (10 * NS_PER_MS)
#define STATUS_LOOK_NS (50 * NS_PER_MS) /* of all channels, while they have other things to do */

static bool is_late(const struct ctl_client *client)
{
    return monotonic_since(client->deadline, monotonic_now()) == 0;
}

static void pause_for(uint64_t ns)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)ns}, NULL);
}

/* The new program goes on with the socket, or makes its own, as one that has never heard of that
 * does. */
static bool wait_for_socket(const char *path, const struct ctl_client *until)
{
    for (;;) {
        int fd = ctl_connect(path);
        bool listening = fd >= 0;
        fd_close(&fd);
        if (listening || is_late(until))
            return listening;
        pause_for(SOCKET_LOOK_NS);
    }
}

/* Who answers may be the old program: the new one could not be executed any more, or nothing came
 * of it. */
static int judge_answer(const json_t *ping)
{
    const char *failed = ctl_string(ping, "upgrade_failed");
    if (failed[0])
        ctl_complain("%s", failed);
    return failed[0] ? CTL_NO : CTL_OK;
}

/* A connection that waited for a program which then listens elsewhere ends without an answer. */
static int ask_successor(struct ctl_client *client)
{
    const struct ctl_options *options = client->options;
    struct ctl_client next = {.fd = -1};
    json_t *ping = NULL;
    int status = CTL_NO;
    for (;;) {
        ctl_client_close(&next);
        if (!wait_for_socket(options->socket, client))
            break;
        status = ctl_client_open(&next, options);
        if (status == CTL_OK)
            status = ctl_client_try(&next, "ping", NULL, &ping);
        if (!next.lost) {
            status = status == CTL_OK ? judge_answer(ping) : status;
            json_decref(ping);
            ctl_client_close(&next);
            return status;
        }
    }
    ctl_complain("the upgrade was accepted, but no holdfastd answers on %s yet: see its log, or "
                 "does its configuration name another socket?",
                 options->socket);
    return CTL_NO;
}

static bool is_in_state(const json_t *channel, const char *state)
{
    return strcmp(ctl_string(channel, "state"), state) == 0;
}

static const json_t *find_channel(const json_t *status, const char *name)
{
    const json_t *channels = json_object_get(status, "channels");
    for (size_t i = 0; i < json_array_size(channels); i++)
        if (strcmp(ctl_string(json_array_get(channels, i), "name"), name) == 0)
            return json_array_get(channels, i);
    return NULL;
}

/* It ran before, should run, and does not; NULL when there is none. */
static const json_t *find_missing(const json_t *before, const json_t *now)
{
    const json_t *channels = json_object_get(before, "channels");
    for (size_t i = 0; i < json_array_size(channels); i++) {
        const json_t *former = json_array_get(channels, i);
        const json_t *channel = find_channel(now, ctl_string(former, "name"));
        if (is_in_state(former, "RUNNING") && json_is_true(json_object_get(channel, "wanted")) &&
            !is_in_state(channel, "RUNNING"))
            return channel;
    }
    return NULL;
}

/* Until the channels that ran before run again. */
static int wait_for_channels(struct ctl_client *client, const json_t *before)
{
    for (;;) {
        json_t *now = NULL;
        int status = ctl_client_follow(client, NULL, NULL, &now);
        const json_t *missing = status == CTL_OK ? find_missing(before, now) : NULL;
        bool over = !missing || is_in_state(missing, "FAILED") || is_late(client);
        if (missing && over) {
            ctl_complain("the upgrade is done, but channel %s, which ran before, is %s: %s",
                         ctl_string(missing, "name"), ctl_string(missing, "state"),
                         ctl_string(missing, "cause"));
            status = CTL_NO;
        }
        json_decref(now);
        if (over)
            return status;
        pause_for(STATUS_LOOK_NS);
    }
}

/* It has not ended: has it given the upgrade up? */
static int judge_predecessor(const struct ctl_options *options)
{
    json_t *ping = NULL;
    int status = ctl_ask(options, "ping", NULL, &ping);
    if (status == CTL_OK && judge_answer(ping) == CTL_OK)
        ctl_complain("the upgrade was accepted, but the program that runs has not ended yet: see "
                     "its log, or wait longer with --timeout");
    json_decref(ping);
    return status == CTL_OK ? CTL_NO : status;
}

static int wait_for_successor(struct ctl_client *client, const json_t *before)
{
    const struct ctl_options *options = client->options;
    if (ctl_client_wait_end(client) != CTL_OK)
        return judge_predecessor(options);
    int status = ask_successor(client);
    if (status != CTL_OK)
        return status;
    int running = wait_for_channels(client, before);
    status = ask_who(options, NULL, "has taken over");
    return running == CTL_OK ? status : running;
}

int ctl_upgrade(const struct ctl_options *options, const char *channel)
{
    json_t *before = NULL;
    (void)channel;
    int status = options->no_wait ? CTL_OK : ctl_ask(options, "status", NULL, &before);
    if (status == CTL_OK)
        status = command(options, "upgrade", wait_for_successor, before);
    json_decref(before);
    return status;
}
