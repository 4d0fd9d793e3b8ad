/* SPDX-License-Identifier: MIT */
/* `status` and `check` for people: the wall of channels, and what needs somebody's attention. */
#include "supervisor/ctl/ctl_status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/counters.h"
#include "supervisor/ctl/ctl_client.h"
#include "supervisor/ctl/ctl_disk.h"
#include "supervisor/ctl/ctl_status_channel.h"
#include "supervisor/ctl/ctl_text.h"

enum { COLUMN_COUNT = 9 };
static const struct ctl_column columns[COLUMN_COUNT] = {
    {"CHANNEL", false}, {"STATE", false},  {"FOR", true},  {"RECEIVED", true}, {"RATE", true},
    {"RECORDED", true}, {"PENDING", true}, {"LOST", true}, {"RESTARTS", true},
};
_Static_assert(COLUMN_COUNT <= CTL_COLUMNS_MAX, "the table has room");

static void add_count(struct ctl_table *table, enum ctl_colour colour, uint64_t count)
{
    char text[CTL_TEXT_SIZE];
    ctl_format_count(count, text);
    ctl_table_add(table, colour, text);
}

/* Everything that is not where it should be, under any name; `status CHANNEL` tells them apart. */
static uint64_t lost(const json_t *counters)
{
    uint64_t sum = 0;
    for (int i = 0; i < COUNTER_COUNT; i++)
        if (ctl_is_loss(counter_infos[i].name))
            sum += ctl_count(counters, counter_infos[i].name);
    return sum;
}

static void add_channel(struct ctl_table *table, const json_t *channel)
{
    const json_t *counters = json_object_get(channel, "counters");
    const json_t *rate = json_object_get(channel, "rate");
    const char *state = ctl_string(channel, "state");
    char age[CTL_TEXT_SIZE], speed[CTL_TEXT_SIZE] = "-";

    ctl_format_seconds(ctl_number(channel, "state_since_s"), age);
    if (json_is_object(rate))
        ctl_format_rate(ctl_number(rate, "datagrams_per_s"), speed);
    ctl_table_add(table, CTL_PLAIN, ctl_string(channel, "name"));
    ctl_table_add(table, ctl_state_colour(state), state);
    ctl_table_add(table, CTL_PLAIN, age);
    add_count(table, CTL_PLAIN, ctl_count(counters, "received"));
    ctl_table_add(table, CTL_PLAIN, speed);
    if (json_is_object(json_object_get(channel, "log")))
        add_count(table, CTL_PLAIN, ctl_count(counters, "recorded"));
    else
        ctl_table_add(table, CTL_PLAIN, "-");
    add_count(table, CTL_PLAIN, ctl_count(json_object_get(channel, "ring"), "pending"));
    add_count(table, lost(counters) ? CTL_RED : CTL_PLAIN, lost(counters));
    add_count(table, CTL_PLAIN, ctl_count(channel, "restarts"));
}

/* ---- attention ---- */

static void print_trouble(FILE *to, const json_t *channel, bool colour)
{
    const char *state = ctl_string(channel, "state"), *cause = ctl_string(channel, "cause");
    const char *trouble = ctl_string(json_object_get(channel, "log"), "trouble");
    const json_t *next = json_object_get(channel, "next_start_ms");
    char wait[CTL_TEXT_SIZE];

    if (json_is_true(json_object_get(channel, "wanted")) && strcmp(state, "RUNNING") != 0) {
        ctl_print_text(to, false, CTL_PLAIN, ctl_string(channel, "name"));
        fputs(": ", to);
        ctl_print_text(to, colour, ctl_state_colour(state), state);
        if (json_is_integer(next)) {
            ctl_format_seconds((double)json_integer_value(next) / 1000, wait);
            fprintf(to, ", next start in %s", wait);
        }
        if (cause[0])
            fputs(": ", to);
        ctl_print_text(to, false, CTL_PLAIN, cause);
        fputc('\n', to);
    }
    if (trouble[0]) {
        ctl_print_text(to, false, CTL_PLAIN, ctl_string(channel, "name"));
        fputs(": not recording: ", to);
        ctl_print_text(to, colour, CTL_YELLOW, trouble);
        fputc('\n', to);
    }
}

static bool is_in_trouble(const json_t *channel)
{
    return ctl_string(json_object_get(channel, "log"), "trouble")[0] ||
           (json_is_true(json_object_get(channel, "wanted")) &&
            strcmp(ctl_string(channel, "state"), "RUNNING") != 0);
}

static void print_supervisor(FILE *to, const json_t *supervisor)
{
    char age[CTL_TEXT_SIZE];
    ctl_format_seconds(ctl_number(supervisor, "uptime_s"), age);
    fputs("holdfastd ", to);
    ctl_print_text(to, false, CTL_PLAIN, ctl_string(supervisor, "version"));
    fprintf(to, ", pid %llu, up for %s%s\n", (unsigned long long)ctl_count(supervisor, "pid"), age,
            json_is_true(json_object_get(supervisor, "stopping")) ? ", shutting down" : "");
}

void ctl_report_status(FILE *to, const json_t *status, bool colour)
{
    const json_t *channels = json_object_get(status, "channels");
    struct ctl_table table;
    bool trouble = false;

    print_supervisor(to, json_object_get(status, "supervisor"));
    if (json_array_size(channels) == 0)
        return;
    ctl_table_init(&table, columns, COLUMN_COUNT);
    for (size_t i = 0; i < json_array_size(channels); i++) {
        add_channel(&table, json_array_get(channels, i));
        trouble |= is_in_trouble(json_array_get(channels, i));
    }
    fputc('\n', to);
    ctl_table_print(&table, to, "", colour);
    ctl_table_free(&table);
    if (trouble)
        fputc('\n', to);
    for (size_t i = 0; i < json_array_size(channels); i++)
        print_trouble(to, json_array_get(channels, i), colour);
}

/* What it suffers from although it runs, and whether that alone makes the answer "no". NULL text:
 * it does not run. */
static const struct {
    const char *kind;
    const char *text;
    bool no;
} sufferings[] = {
    {"degraded", " has trouble with its recording", false},
    {"destination_down", " has a destination that is down", false},
    {"not_recording", " is not recording", true},
    {"interface_gone", " can't receive", true},
    {"silent", " is silent", true},
    {"archive_silent", "the archive is silent", true},
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

void ctl_report_check(FILE *to, const json_t *check, bool colour)
{
    const json_t *problems = json_object_get(check, "problems");
    if (json_is_true(json_object_get(check, "healthy")))
        fputs("healthy: every channel that should run is RUNNING\n", to);
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

static void print_status(const struct ctl_options *options, const json_t *status,
                         const char *channel)
{
    const struct ctl_look look = {.colour = options->colour, .verbose = options->verbose};
    json_t *one = channel ? json_array_get(json_object_get(status, "channels"), 0) : NULL;
    if (one)
        add_disk(one);
    if (options->json) {
        ctl_print_json(status);
    } else if (channel) {
        ctl_report_channel(stdout, one, &look);
    } else {
        ctl_report_status(stdout, status, options->colour);
    }
}

/* One write per picture, so that the terminal doesn't flicker. */
static int watch(struct ctl_client *client, const char *channel)
{
    static char picture[256 * 1024];
    setvbuf(stdout, picture, _IOFBF, sizeof picture);
    for (;;) {
        json_t *status = NULL;
        ctl_client_rearm(client);
        int result = ctl_client_call(client, "status", ctl_channel_params(channel), &status);
        if (result != CTL_OK)
            return result;
        fputs("\033[H\033[2J", stdout);
        print_status(client->options, status, channel);
        json_decref(status);
        if (fflush(stdout) != 0)
            return CTL_OK; /* the terminal has gone */
        nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    }
}

int ctl_status(const struct ctl_options *options, const char *channel)
{
    struct ctl_client client;
    json_t *status = NULL;
    int result = ctl_client_open(&client, options);
    if (result == CTL_OK && options->watch)
        result = watch(&client, channel);
    else if (result == CTL_OK)
        result = ctl_client_call(&client, "status", ctl_channel_params(channel), &status);
    if (status)
        print_status(options, status, channel);
    json_decref(status);
    ctl_client_close(&client);
    return result;
}
