/* SPDX-License-Identifier: MIT */
/* The verbs of the control socket. Called by control_client.c with a method and parameters of a
 * client that may say anything; every verb that changes something is logged with who asked for it
 * and what came of it. */
#include "supervisor/control/control_verbs.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/channel_spec.h"
#include "common/control_protocol.h"
#include "common/log.h"
#include "supervisor/channel/channel.h"
#include "supervisor/channel/channel_former.h"
#include "supervisor/channel/channel_verbs.h"
#include "supervisor/channel/channels.h"
#include "supervisor/control/control_check.h"
#include "supervisor/control/control_crashes.h"
#include "supervisor/control/control_reading.h"
#include "supervisor/control/control_status.h"
#include "supervisor/supervisor.h"
#include "supervisor/upgrade.h"

#define NAMES_LISTED_MAX 20

struct verb_call {
    struct supervisor *supervisor;
    const struct ucred *peer;
    enum control_verb_id verb;
    struct channel *channel; /* NULL for none, or all */
    int code;                /* of the error, when the verb returns NULL */
    json_t *error;
};

static json_t *fail(struct verb_call *call, int code, const char *message)
{
    call->code = code;
    call->error = control_text(message);
    return NULL;
}

/* ---- parameters ---- */

static void list_channels(const struct channels *channels, char *buffer, size_t size)
{
    size_t used = 0, count = channels->count;
    while (count > 0 && channels->list[count - 1]->former.removed)
        count--; /* they come last */
    snprintf(buffer, size, "none");
    for (size_t i = 0; i < count && i <= NAMES_LISTED_MAX && used < size; i++) {
        int n = i == NAMES_LISTED_MAX
                    ? snprintf(buffer + used, size - used, " and %zu more", count - i)
                    : snprintf(buffer + used, size - used, "%s%s", i ? ", " : "",
                               channels->list[i]->spec->name);
        used += n > 0 ? (size_t)n : 0;
    }
}

static bool find_channel(struct verb_call *call, const char *name)
{
    char quoted[CHANNEL_NAME_SIZE], names[NAMES_LISTED_MAX * (CHANNEL_NAME_SIZE + 2)],
        message[sizeof quoted + sizeof names + 64];
    call->channel = channels_find(&call->supervisor->channels, name);
    /* Its workers' deaths are told as long as it is remembered. */
    if (call->channel && (!channel_former_is_gone(call->channel) || call->verb == VERB_crashes))
        return true;
    control_quote(name, quoted, sizeof quoted);
    list_channels(&call->supervisor->channels, names, sizeof names);
    snprintf(message, sizeof message, "no channel '%s'; there are: %s", quoted, names);
    fail(call, CONTROL_ERROR_PARAMS, message);
    return false;
}

/* The one parameter there is: {"channel": "engine"} or ["engine"]. */
static bool take_channel(struct verb_call *call, const json_t *params)
{
    const struct control_verb_info *info = &control_verb_infos[call->verb];
    const json_t *name =
        json_is_array(params) ? json_array_get(params, 0) : json_object_get(params, "channel");
    size_t given = json_is_array(params) ? json_array_size(params) : json_object_size(params);
    char message[128];

    if (given > (info->arguments == NO_ARGUMENT ? 0u : 1u) ||
        (given == 1 && !json_is_string(name))) {
        snprintf(message, sizeof message, "%s takes %s", info->name,
                 info->arguments == NO_ARGUMENT ? "no parameters"
                                                : "one parameter, \"channel\", which is a string");
        fail(call, CONTROL_ERROR_PARAMS, message);
        return false;
    }
    if (given == 1)
        return find_channel(call, json_string_value(name));
    if (info->arguments == ONE_CHANNEL) {
        snprintf(message, sizeof message, "%s needs a channel: {\"channel\": \"NAME\"}",
                 info->name);
        fail(call, CONTROL_ERROR_PARAMS, message);
        return false;
    }
    return true;
}

/* ---- verbs ---- */

static json_t *verb_ping(struct verb_call *call)
{
    const char *failed = getenv(PROGRAM_TROUBLE_VARIABLE);
    json_t *result = json_pack("{s:i, s:s}", "pid", (int)getpid(), "version", HOLDFAST_VERSION);
    json_object_set_new(result, "read_socket", control_reading_socket(call->supervisor));
    if (failed)
        json_object_set_new(result, "upgrade_failed", json_string(failed));
    return result;
}

static json_t *verb_status(struct verb_call *call)
{
    return control_status(call->supervisor, call->channel);
}

static json_t *verb_check(struct verb_call *call)
{
    return control_check(call->supervisor);
}

static json_t *verb_crashes(struct verb_call *call)
{
    return control_crashes(&call->supervisor->channels, &call->supervisor->gate.obituaries,
                           call->channel);
}

/* The answer says what was there before, so that a client can wait for the change. */
static json_t *change_channel(struct verb_call *call,
                              int (*change)(struct channel *, const char **))
{
    struct channel *channel = call->channel;
    const char *why = "";
    json_t *before = json_pack(
        "{s:s, s:I, s:o, s:o}", "state", channel_state_names[channel->life.state], "generation",
        (json_int_t)channel->lent.generation, "segment", control_status_segment(channel),
        "segment_first_seq", control_status_worker_segment(channel));
    int result = change(channel, &why);
    if (result < 0) {
        char message[384];
        snprintf(message, sizeof message, "%s: %s", channel->spec->name,
                 why && why[0] ? why : strerror(-result));
        json_decref(before);
        return fail(call, CONTROL_ERROR_REFUSED, message);
    }
    json_t *report =
        json_pack("{s:b, s:s, s:s, s:o}", "accepted", 1, "channel", channel->spec->name, "state",
                  channel_state_names[channel->life.state], "before", before);
    if (result == CHANNEL_VERB_NOTHING)
        json_object_set_new(report, "nothing_to_do", control_text(why));
    return report;
}

static json_t *verb_start(struct verb_call *call)
{
    return change_channel(call, channel_verb_start);
}

static json_t *verb_stop(struct verb_call *call)
{
    return change_channel(call, channel_verb_stop);
}

static json_t *verb_restart(struct verb_call *call)
{
    return change_channel(call, channel_verb_restart);
}

static json_t *verb_reset_failed(struct verb_call *call)
{
    return change_channel(call, channel_verb_reset_failed);
}

static json_t *verb_rotate(struct verb_call *call)
{
    return change_channel(call, channel_verb_rotate);
}

static json_t *verb_shutdown(struct verb_call *call)
{
    char cause[96];
    snprintf(cause, sizeof cause, "shutdown asked for by pid %d, uid %u", (int)call->peer->pid,
             call->peer->uid);
    supervisor_stop(call->supervisor, cause);
    return json_pack("{s:b}", "accepted", 1);
}

/* Answered when the program has been tried. The connection ends when it is executed: by that a
 * client sees that it happens. */
static json_t *verb_upgrade(struct verb_call *call)
{
    const char *why;
    if (upgrade_begin(&call->supervisor->upgrade, &why) < 0)
        return fail(call, CONTROL_ERROR_REFUSED, why);
    call->code = CONTROL_LATER;
    return NULL;
}

static json_t *(*const verbs[VERB_COUNT])(struct verb_call *) = {
    [VERB_ping] = verb_ping,       [VERB_status] = verb_status,
    [VERB_check] = verb_check,     [VERB_crashes] = verb_crashes,
    [VERB_start] = verb_start,     [VERB_stop] = verb_stop,
    [VERB_restart] = verb_restart, [VERB_reset_failed] = verb_reset_failed,
    [VERB_rotate] = verb_rotate,   [VERB_shutdown] = verb_shutdown,
    [VERB_upgrade] = verb_upgrade,
};

/* ---- dispatch ---- */

static void log_change(const struct verb_call *call, const json_t *params)
{
    const json_t *given =
        json_is_array(params) ? json_array_get(params, 0) : json_object_get(params, "channel");
    char argument[CHANNEL_NAME_SIZE] = "", result[256] = "accepted";
    if (json_is_string(given))
        control_quote(json_string_value(given), argument, sizeof argument);
    if (call->error)
        control_quote(json_string_value(call->error), result, sizeof result);
    bool about = channel_name_is_valid(argument);
    log_notice("%s%s%scontrol: pid %d, uid %u, gid %u: %s%s%s: %s%s", about ? "channel " : "",
               about ? argument : "", about ? ": " : "", (int)call->peer->pid, call->peer->uid,
               call->peer->gid, control_verb_infos[call->verb].name, argument[0] ? " " : "",
               argument, call->error ? "refused: " : "", result);
}

static json_t *no_such_verb(struct verb_call *call, const char *method)
{
    char quoted[64], list[256], message[384];
    control_quote(method, quoted, sizeof quoted);
    control_verb_list(false, list, sizeof list);
    snprintf(message, sizeof message, "there is no verb '%s'; there are: %s", quoted, list);
    return fail(call, CONTROL_ERROR_METHOD, message);
}

json_t *control_verb(void *data, const struct ucred *peer, const char *method, const json_t *params,
                     int *ret_code, json_t **ret_error)
{
    struct verb_call call = {.supervisor = data, .peer = peer, .verb = control_verb_find(method)};
    json_t *result = NULL;

    if (call.verb == VERB_COUNT || !verbs[call.verb]) {
        no_such_verb(&call, method);
    } else {
        if (take_channel(&call, params))
            result = verbs[call.verb](&call);
        if (!result && !call.error && call.code != CONTROL_LATER)
            fail(&call, CONTROL_ERROR_INTERNAL, "memory is short");
        if (control_verb_infos[call.verb].effect == CHANGES)
            log_change(&call, params);
    }
    *ret_code = call.code;
    *ret_error = call.error;
    return result;
}
