/* SPDX-License-Identifier: MIT */
/* The verb `status`, once or as a picture that is drawn anew every second, and `check` for people.
 * Called by main.c and by the verb check. */
#include "supervisor/ctl/ctl_status.h"

#include <stdio.h>
#include <string.h>

#include "supervisor/ctl/ctl_client.h"
#include "supervisor/ctl/ctl_disk.h"
#include "supervisor/ctl/ctl_status_channel.h"
#include "supervisor/ctl/ctl_status_list.h"
#include "supervisor/ctl/ctl_text.h"
#include "supervisor/ctl/ctl_window.h"

/* What it suffers from although it runs, and whether that alone makes the answer "no". NULL text:
 * it does not run. */
static const struct {
    const char *kind;
    const char *text;
    bool no;
} sufferings[] = {
    {"upgrading", " is being upgraded", false},
    {"degraded", " has trouble with its recording", false},
    {"destination_down", " has a destination that is down", false},
    {"unsealed", " has segments that are not sealed", false},
    {"interface_down", "'s interface is down", false},
    {"nobody_can_read", "nobody can read", false},
    {"not_recording", " is not recording", true},
    {"interface_gone", " can't receive", true},
    {"worker_dead", " can't receive", true},
    {"silent", " is silent", true},
    {"counters_stuck", "'s counters stand still", true},
    {"archive_silent", "the archive is silent", true},
    {"stopping", "the supervisor is stopping", true},
};

static void print_problem(FILE *to, const json_t *problem, bool colour)
{
    const char *state = ctl_string(problem, "state"), *cause = ctl_string(problem, "cause");
    const char *text = NULL;
    bool no = true;
    for (size_t i = 0; i < sizeof sufferings / sizeof sufferings[0]; i++)
        if (strcmp(ctl_string(problem, "kind"), sufferings[i].kind) == 0) {
            text = sufferings[i].text;
            no = sufferings[i].no;
        }
    if (!no)
        ctl_print_text(to, colour, CTL_YELLOW, "warning: ");
    ctl_print_text(to, false, CTL_PLAIN, ctl_string(problem, "channel"));
    fputs(text ? text : " is ", to);
    ctl_print_text(to, colour, ctl_state_colour(state), text ? "" : state);
    fputs(cause[0] ? ": " : "", to);
    ctl_print_text(to, false, CTL_PLAIN, cause);
    fputc('\n', to);
}

static bool any_is(const json_t *problems, const char *kind)
{
    for (size_t i = 0; i < json_array_size(problems); i++)
        if (strcmp(ctl_string(json_array_get(problems, i), "kind"), kind) == 0)
            return true;
    return false;
}

void ctl_report_check(FILE *to, const json_t *check, bool colour)
{
    const json_t *problems = json_object_get(check, "problems");
    if (json_is_true(json_object_get(check, "healthy")))
        fprintf(to, "healthy: every channel that should run is RUNNING%s\n",
                any_is(problems, "upgrading") ? ", or about to be" : "");
    for (size_t i = 0; i < json_array_size(problems); i++)
        print_problem(to, json_array_get(problems, i), colour);
}

/* ---- the verb ---- */

/* The supervisor asks no disk: this process does. */
static void add_disk(json_t *channel)
{
    json_t *log = json_object_get(channel, "log");
    const char *folder = ctl_string(log, "folder");
    if (folder[0])
        json_object_set_new(log, "disk", ctl_disk_look(folder));
}

/* For people. */
static void report(FILE *to, json_t *status, const char *channel, const struct ctl_look *look)
{
    if (channel)
        ctl_report_channel(to, json_array_get(json_object_get(status, "channels"), 0), look);
    else
        ctl_report_status(to, status, look);
}

static void tell_lost(void)
{
    ctl_window_note("the connection has ended: reconnecting");
}

static int ask(struct ctl_client *client, const char *channel, json_t **ret_status)
{
    int result = client->options->watch ? ctl_client_follow(client, channel, tell_lost, ret_status)
                                        : ctl_client_look(client, "status", channel, ret_status);
    if (result == CTL_OK && channel)
        add_disk(json_array_get(json_object_get(*ret_status, "channels"), 0));
    return result;
}

static int watch(struct ctl_client *client, const char *channel)
{
    struct ctl_look look = {.colour = client->options->colour, .verbose = client->options->verbose};
    ctl_window_begin();
    for (;;) {
        json_t *status = NULL;
        ctl_client_rearm(client);
        int result = ask(client, channel, &status);
        if (result != CTL_OK)
            return result;
        FILE *picture = ctl_window_draw(&look);
        report(picture, status, channel, &look);
        json_decref(status);
        if (!ctl_window_show())
            return CTL_OK;
        ctl_window_wait();
    }
}

int ctl_status(const struct ctl_options *options, const char *channel)
{
    struct ctl_look look = {.colour = options->colour, .verbose = options->verbose};
    struct ctl_client client;
    json_t *status = NULL;
    int result = ctl_client_open(&client, options);
    if (result == CTL_OK && options->watch)
        result = watch(&client, channel);
    else if (result == CTL_OK)
        result = ask(&client, channel, &status);
    if (status && options->json) {
        ctl_print_json(status);
    } else if (status) {
        report(ctl_window_text(&look), status, channel, &look);
        ctl_window_print();
    }
    json_decref(status);
    ctl_client_close(&client);
    return result;
}
