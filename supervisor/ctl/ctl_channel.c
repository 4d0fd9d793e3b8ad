/* SPDX-License-Identifier: MIT */
/* Verbs that change one channel: ask, then follow the channel's status until what was asked for has
 * come about. The supervisor answers when it has accepted; it never keeps a client waiting for a
 * worker. */
#include "supervisor/ctl/ctl_channel.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/control_protocol.h"
#include "common/monotonic.h"
#include "common/units.h"
#include "supervisor/ctl/ctl_client.h"
#include "supervisor/ctl/ctl_text.h"

#define POLL_EVERY_NS (50 * (long)NS_PER_MS)

enum outcome {
    NOT_YET,
    REACHED,
    MISSED, /* it will not come about any more */
};

static enum outcome judge_running(const json_t *before, const json_t *now, bool new_worker)
{
    const char *state = ctl_string(now, "state");
    if (strcmp(state, "FAILED") == 0 || strcmp(state, "STOPPED") == 0)
        return MISSED;
    if (strcmp(state, "RUNNING") != 0)
        return NOT_YET;
    return !new_worker || ctl_count(now, "generation") > ctl_count(before, "generation") ? REACHED
                                                                                         : NOT_YET;
}

static enum outcome judge_rotated(const json_t *before, const json_t *now)
{
    const json_t *log = json_object_get(now, "log");
    const json_t *first = json_object_get(before, "segment_first_seq");
    const char *segment = ctl_string(log, "segment");
    /* Numbers, where both are known: the name of a segment changes once while it is the same. */
    if (json_is_integer(first) && json_object_get(log, "segment_first_seq"))
        return ctl_count(log, "segment_first_seq") > (uint64_t)json_integer_value(first) ? REACHED
                                                                                         : NOT_YET;
    return segment[0] != '\0' && strcmp(segment, ctl_string(before, "segment")) != 0 ? REACHED
                                                                                     : NOT_YET;
}

/* before: as it was when the verb was accepted; now: the channel in status. */
static enum outcome judge(enum control_verb_id verb, const json_t *before, const json_t *now)
{
    switch (verb) {
    case VERB_stop:
        return strcmp(ctl_string(now, "state"), "STOPPED") == 0 ? REACHED : NOT_YET;
    case VERB_rotate:
        return judge_rotated(before, now);
    case VERB_restart:
        return judge_running(before, now, true);
    case VERB_reset_failed: /* what an operator stopped stays stopped */
        return strcmp(ctl_string(now, "state"), "STOPPED") == 0 ? REACHED
                                                                : judge_running(before, now, false);
    default:
        return judge_running(before, now, false);
    }
}

static void say(const struct ctl_options *options, enum control_verb_id verb, const json_t *now)
{
    if (options->json) {
        ctl_print_json(now);
        return;
    }
    ctl_print_text(stdout, false, CTL_PLAIN, ctl_string(now, "name"));
    if (verb == VERB_rotate) {
        printf(": now writing ");
        ctl_print_text(stdout, false, CTL_PLAIN,
                       ctl_string(json_object_get(now, "log"), "segment"));
        putchar('\n');
        return;
    }
    printf(" is ");
    ctl_print_text(stdout, options->colour, ctl_state_colour(ctl_string(now, "state")),
                   ctl_string(now, "state"));
    if (json_is_integer(json_object_get(now, "pid")))
        printf(" (worker %llu, generation %llu)", (unsigned long long)ctl_count(now, "pid"),
               (unsigned long long)ctl_count(now, "generation"));
    putchar('\n');
}

static void say_nothing_to_do(const struct ctl_options *options, const json_t *answer)
{
    if (options->json) {
        ctl_print_json(answer);
        return;
    }
    ctl_print_text(stdout, false, CTL_PLAIN, ctl_string(answer, "channel"));
    fputs(": ", stdout);
    ctl_print_text(stdout, false, CTL_PLAIN, ctl_string(answer, "nothing_to_do"));
    putchar('\n');
}

static int complain_not_reached(const struct ctl_options *options, enum control_verb_id verb,
                                const json_t *now, enum outcome outcome)
{
    char waited[CTL_TEXT_SIZE];
    const char *name = ctl_string(now, "name"), *cause = ctl_string(now, "cause");
    const char *trouble = ctl_string(json_object_get(now, "log"), "trouble");
    units_human_duration(options->timeout_ns, waited, sizeof waited);
    if (verb == VERB_rotate && trouble[0])
        ctl_complain("%s: rotate was accepted, but no new segment could begin within %s: %s", name,
                     waited, trouble);
    else if (verb == VERB_rotate)
        ctl_complain("%s: rotate was accepted, but no new segment has begun within %s: does it "
                     "record anything? "
                     "'holdfastctl status %s' shows its log",
                     name, waited, name);
    else if (outcome == MISSED)
        ctl_complain("%s: %s was accepted, but it is %s now: %s", name,
                     control_verb_infos[verb].name, ctl_string(now, "state"), cause);
    else
        ctl_complain("%s: %s was accepted, but it is still %s after %s: %s. 'holdfastctl status "
                     "%s' shows more",
                     name, control_verb_infos[verb].name, ctl_string(now, "state"), waited, cause,
                     name);
    return CTL_NO;
}

static int follow(struct ctl_client *client, enum control_verb_id verb, const char *channel,
                  const json_t *before)
{
    for (;;) {
        json_t *status = NULL;
        int result = ctl_client_follow(client, channel, NULL, &status);
        if (result != CTL_OK)
            return result;
        const json_t *now = json_array_get(json_object_get(status, "channels"), 0);
        enum outcome outcome = judge(verb, before, now);
        bool late = monotonic_since(client->deadline, monotonic_now()) <= (uint64_t)POLL_EVERY_NS;
        if (outcome == REACHED)
            say(client->options, verb, now);
        else if (outcome == MISSED || late)
            result = complain_not_reached(client->options, verb, now, outcome);
        json_decref(status);
        if (outcome != NOT_YET || late)
            return result;
        nanosleep(&(struct timespec){.tv_nsec = POLL_EVERY_NS}, NULL);
    }
}

static void say_accepted(const struct ctl_options *options, enum control_verb_id verb,
                         const json_t *answer)
{
    if (options->json) {
        ctl_print_json(answer);
        return;
    }
    ctl_print_text(stdout, false, CTL_PLAIN, ctl_string(answer, "channel"));
    printf(": %s accepted\n", control_verb_infos[verb].name);
}

int ctl_change(const struct ctl_options *options, enum control_verb_id verb, const char *channel)
{
    struct ctl_client client;
    json_t *answer = NULL;
    int status = ctl_client_open(&client, options);
    if (status == CTL_OK)
        status = ctl_client_call(&client, control_verb_infos[verb].name,
                                 ctl_channel_params(channel), &answer);
    if (status == CTL_OK && ctl_string(answer, "nothing_to_do")[0])
        say_nothing_to_do(options, answer);
    else if (status == CTL_OK && options->no_wait)
        say_accepted(options, verb, answer);
    else if (status == CTL_OK)
        status = follow(&client, verb, channel, json_object_get(answer, "before"));
    json_decref(answer);
    ctl_client_close(&client);
    return status;
}
