/* SPDX-License-Identifier: MIT */
/* `status` for people: the wall of channels, and what needs somebody's attention. What needs it
 * most comes first, because a window may be too small for the rest. */
#include "supervisor/ctl/ctl_status_list.h"

#include <stdlib.h>
#include <string.h>

#include "common/counters.h"
#include "supervisor/ctl/ctl_status_channel.h"
#include "supervisor/ctl/ctl_status_reading.h"
#include "supervisor/ctl/ctl_status_tables.h"

enum column {
    CHANNEL,
    STATE,
    FOR,
    RECEIVED,
    RATE,
    BYTES,
    RECORDED,
    PENDING,
    LOST,
    RESTARTS,
    COLUMN_COUNT
};
static const struct ctl_column columns[COLUMN_COUNT] = {
    [CHANNEL] = {"CHANNEL", false},  [STATE] = {"STATE", false},    [FOR] = {"FOR", true},
    [RECEIVED] = {"RECEIVED", true}, [RATE] = {"RATE", true},       [BYTES] = {"BYTES", true},
    [RECORDED] = {"RECORDED", true}, [PENDING] = {"PENDING", true}, [LOST] = {"LOST", true},
    [RESTARTS] = {"RESTARTS", true},
};
_Static_assert(COLUMN_COUNT <= CTL_COLUMNS_MAX, "the table has room");

/* What a narrow window does without, this first. */
static const int expendable[] = {RESTARTS, FOR, RECORDED, PENDING, RECEIVED, BYTES};

/* ---- what is wrong with it ---- */

enum rank {
    DOES_NOT_RUN, /* and should */
    DOES_NOT_DO_ALL,
    DOES_NOT_REACH_ALL,
    IS_WELL,
    SHOULD_NOT_RUN,
    RANK_COUNT
};

/* How many of its destinations are down; *ret_first: the first one. */
static size_t count_down(const json_t *channel, const json_t **ret_first)
{
    static const char *const kinds[] = {"relays", "decimates"};
    size_t count = 0;
    *ret_first = NULL;
    for (int kind = 0; kind < 2; kind++) {
        const json_t *destinations = json_object_get(channel, kinds[kind]);
        for (size_t i = 0; i < json_array_size(destinations); i++) {
            const json_t *destination = json_array_get(destinations, i);
            if (strcmp(ctl_string(destination, "state"), "down") == 0 && count++ == 0)
                *ret_first = destination;
        }
    }
    return count;
}

static enum rank rank_of(const json_t *channel)
{
    bool runs = strcmp(ctl_string(channel, "state"), "RUNNING") == 0;
    bool wanted = json_is_true(json_object_get(channel, "wanted"));
    const json_t *down;
    if (wanted && !runs)
        return DOES_NOT_RUN;
    if (ctl_string(channel, "receive_trouble")[0] || ctl_string(channel, "interface_down")[0] ||
        ctl_string(json_object_get(channel, "log"), "trouble")[0] ||
        ctl_count(json_object_get(channel, "log"), "unsealed") > 0 ||
        json_is_number(json_object_get(channel, "silent_s")))
        return DOES_NOT_DO_ALL;
    if (!wanted && !runs)
        return SHOULD_NOT_RUN;
    return count_down(channel, &down) ? DOES_NOT_REACH_ALL : IS_WELL;
}

/* ---- the table ---- */

struct sums {
    uint64_t running, received, recorded, pending, lost, restarts;
    bool rate_known; /* of one at least */
    bool lost_at_least;
    double datagrams_per_s, bytes_per_s;
};

static void add_count(struct ctl_table *table, enum ctl_colour colour, uint64_t count)
{
    char text[CTL_TEXT_SIZE];
    ctl_format_count(count, text);
    ctl_table_add(table, colour, text);
}

/* at_least: the kernel counts what it drops in runs of datagrams there. */
static void add_lost(struct ctl_table *table, enum ctl_colour colour, uint64_t count, bool at_least)
{
    char text[CTL_TEXT_SIZE];
    if (at_least)
        ctl_format_least(count, text);
    else
        ctl_format_count(count, text);
    ctl_table_add(table, count ? CTL_RED : colour, text);
}

static void add_rates(struct ctl_table *table, const json_t *rate)
{
    char datagrams[CTL_TEXT_SIZE] = "-", bytes[CTL_TEXT_SIZE] = "-";
    if (json_is_object(rate)) {
        ctl_format_rate(ctl_number(rate, "datagrams_per_s"), datagrams);
        ctl_format_byte_rate(ctl_number(rate, "bytes_per_s"), bytes);
    }
    ctl_table_add(table, CTL_PLAIN, datagrams);
    ctl_table_add(table, CTL_PLAIN, bytes);
}

/* Everything that is not where it should be, under any name; `status CHANNEL` tells them apart. */
static uint64_t lost_of(const json_t *counters)
{
    uint64_t sum = 0;
    for (int i = 0; i < COUNTER_COUNT; i++)
        if (ctl_is_loss(counter_infos[i].name))
            sum += ctl_count(counters, counter_infos[i].name);
    return sum;
}

static void add_channel(struct ctl_table *table, const json_t *channel, struct sums *sums)
{
    const json_t *counters = json_object_get(channel, "counters");
    const json_t *rate = json_object_get(channel, "rate");
    const char *state = ctl_string(channel, "state");
    uint64_t pending = ctl_count(json_object_get(channel, "ring"), "pending");
    uint64_t lost = lost_of(counters);
    bool at_least = ctl_drops_are_least(channel);
    char age[CTL_TEXT_SIZE];

    ctl_format_seconds(ctl_number(channel, "state_since_s"), age);
    ctl_table_add(table, CTL_PLAIN, ctl_string(channel, "name"));
    ctl_table_add(table, ctl_state_colour(state), state);
    ctl_table_add(table, CTL_PLAIN, age);
    add_count(table, CTL_PLAIN, ctl_count(counters, "received"));
    add_rates(table, rate);
    if (json_is_object(json_object_get(channel, "log")))
        add_count(table, CTL_PLAIN, ctl_count(counters, "recorded"));
    else
        ctl_table_add(table, CTL_PLAIN, "-");
    add_count(table, CTL_PLAIN, pending);
    add_lost(table, CTL_PLAIN, lost, at_least);
    add_count(table, CTL_PLAIN, ctl_count(channel, "restarts"));

    sums->running += strcmp(state, "RUNNING") == 0;
    sums->received += ctl_count(counters, "received");
    sums->recorded += ctl_count(counters, "recorded");
    sums->pending += pending;
    sums->lost += lost;
    sums->lost_at_least |= at_least;
    sums->restarts += ctl_count(channel, "restarts");
    sums->rate_known |= json_is_object(rate);
    sums->datagrams_per_s += ctl_number(rate, "datagrams_per_s");
    sums->bytes_per_s += ctl_number(rate, "bytes_per_s");
}

static void add_sums(struct ctl_table *table, const struct sums *sums, size_t count)
{
    char title[CTL_TEXT_SIZE], running[CTL_TEXT_SIZE];
    char datagrams[CTL_TEXT_SIZE] = "-", bytes[CTL_TEXT_SIZE] = "-";
    /* No channel can have this name: there is a blank in it. */
    snprintf(title, sizeof title, "%zu channels", count);
    snprintf(running, sizeof running, "%llu run", (unsigned long long)sums->running);
    if (sums->rate_known) {
        ctl_format_rate(sums->datagrams_per_s, datagrams);
        ctl_format_byte_rate(sums->bytes_per_s, bytes);
    }
    ctl_table_add(table, CTL_BOLD, title);
    ctl_table_add(table, CTL_BOLD, running);
    ctl_table_add(table, CTL_PLAIN, "");
    add_count(table, CTL_BOLD, sums->received);
    ctl_table_add(table, CTL_BOLD, datagrams);
    ctl_table_add(table, CTL_BOLD, bytes);
    add_count(table, CTL_BOLD, sums->recorded);
    add_count(table, CTL_BOLD, sums->pending);
    add_lost(table, CTL_BOLD, sums->lost, sums->lost_at_least);
    add_count(table, CTL_BOLD, sums->restarts);
}

/* ---- attention ---- */

static void begin(FILE *to, const json_t *channel, const char *what)
{
    ctl_print_text(to, false, CTL_PLAIN, ctl_string(channel, "name"));
    fprintf(to, ": %s", what);
}

static void print_not_running(FILE *to, const json_t *channel, bool colour)
{
    const char *state = ctl_string(channel, "state"), *cause = ctl_string(channel, "cause");
    const json_t *next = json_object_get(channel, "next_start_ms");
    char wait[CTL_TEXT_SIZE];
    begin(to, channel, "");
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

static void print_down(FILE *to, const json_t *channel, bool colour)
{
    const json_t *down;
    size_t count = count_down(channel, &down);
    if (count == 0)
        return;
    begin(to, channel, count > 1 ? "destinations " : "destination ");
    ctl_print_text(to, false, CTL_PLAIN, ctl_string(down, "name"));
    if (count > 1)
        fprintf(to, " and %zu more are down: ", count - 1);
    else
        fputs(" is down: ", to);
    ctl_print_text(to, colour, CTL_YELLOW, ctl_string(down, "reason"));
    fputc('\n', to);
}

static void print_trouble(FILE *to, const json_t *channel, bool colour)
{
    const json_t *log = json_object_get(channel, "log");
    const char *trouble = ctl_string(log, "trouble");
    const char *gone = ctl_string(channel, "receive_trouble");
    const char *down = ctl_string(channel, "interface_down");
    uint64_t unsealed = ctl_count(log, "unsealed");
    const json_t *silent = json_object_get(channel, "silent_s");
    char text[CTL_TEXT_SIZE];
    if (rank_of(channel) == DOES_NOT_RUN)
        print_not_running(to, channel, colour);
    if (gone[0]) {
        begin(to, channel, "can't receive: ");
        ctl_print_text(to, colour, CTL_YELLOW, gone);
        fputc('\n', to);
    }
    if (down[0]) {
        begin(to, channel, "");
        ctl_print_text(to, colour, CTL_YELLOW, down);
        fputc('\n', to);
    }
    if (json_is_number(silent)) {
        ctl_format_seconds(json_number_value(silent), text);
        begin(to, channel, "nothing received for ");
        fprintf(to, "%s, longer than expected\n", text);
    }
    if (trouble[0]) {
        begin(to, channel,
              json_is_true(json_object_get(log, "recording")) ? "trouble with its recording: "
                                                              : "not recording: ");
        ctl_print_text(to, colour, CTL_YELLOW, trouble);
        fputc('\n', to);
    }
    if (unsealed) {
        begin(to, channel, "");
        ctl_print_unsealed(to, unsealed, colour);
        fputc('\n', to);
    }
    print_down(to, channel, colour);
}

/* ---- all of it, or what there is room for ---- */

struct list {
    FILE *to;
    const struct ctl_look *look;
    struct ctl_table table;
    size_t count;      /* channels */
    size_t in_trouble; /* the first so many rows */
    char *attention;   /* lines */
    size_t attention_lines;
    size_t reading_lines; /* above the table */
};

/* Readers are no channel's. */
static void print_unread(FILE *to, const json_t *read, bool colour)
{
    const char *trouble = ctl_string(read, "trouble");
    if (!trouble[0])
        return;
    fputs("nobody can read: ", to);
    ctl_print_text(to, colour, CTL_YELLOW, trouble);
    fputc('\n', to);
}

static void gather(struct list *list, const json_t *status)
{
    const json_t *channels = json_object_get(status, "channels");
    struct sums sums = {0};
    size_t size;
    FILE *attention = ctl_open_text(&list->attention, &size);
    print_unread(attention, json_object_get(status, "read"), list->look->colour);
    for (int rank = 0; rank < RANK_COUNT; rank++)
        for (size_t i = 0; i < json_array_size(channels); i++) {
            const json_t *channel = json_array_get(channels, i);
            if ((int)rank_of(channel) != rank)
                continue;
            add_channel(&list->table, channel, &sums);
            print_trouble(attention, channel, list->look->colour);
            list->in_trouble += rank < IS_WELL;
        }
    list->count = json_array_size(channels);
    if (list->count > 1)
        add_sums(&list->table, &sums, list->count);
    fclose(attention);
    list->attention_lines = ctl_count_lines(list->attention);
}

/* Which rows of a window there are for what. A sort that has not enough of them gives one to a line
 * that says so, but not its only one: a channel is better than that, and the sums say how many
 * there are. */
struct division {
    size_t channels, channel_rows;
    bool blank; /* between the two */
    size_t attention, attention_rows;
};

static struct division divide_rows(const struct list *list)
{
    size_t head = 3 + list->reading_lines + (list->count > 1), rows = list->look->rows,
           lines = list->attention_lines;
    size_t below = lines ? 1 + lines : 0;
    if (rows == 0 || head + list->count + below <= rows)
        return (struct division){list->count, list->count, true, lines, lines};
    size_t room = rows > head ? rows - head : 0;
    size_t most_below = room / 2;
    if (list->count + 1 < room - most_below) /* the channels need less than their half */
        most_below = room - list->count;
    struct division division = {.blank = true, .attention = lines, .attention_rows = lines};
    if (below > most_below) {
        below = most_below;
        division.blank = below > 2;
        division.attention_rows = below - division.blank;
        if (division.attention_rows < lines)
            division.attention = division.attention_rows > 0 ? division.attention_rows - 1 : 0;
    }
    division.channel_rows = division.channels = room - below;
    if (list->count <= division.channels)
        division.channels = list->count;
    else if (division.channels > 1)
        division.channels--;
    return division;
}

static void print_channels(const struct list *list, const struct division *division)
{
    const size_t shown = division->channels;
    size_t left_out = list->count - shown;
    size_t trouble = list->in_trouble > shown ? list->in_trouble - shown : 0;
    ctl_table_print_rows(&list->table, list->to, &(struct ctl_rows){0, shown}, list->look->colour);
    if (left_out && shown < division->channel_rows) {
        fprintf(list->to, "... %zu more channels have no room here", left_out);
        if (trouble)
            fprintf(list->to, ", %zu of them in trouble", trouble);
        fputc('\n', list->to);
    }
    ctl_table_print_rows(&list->table, list->to, &(struct ctl_rows){list->count, SIZE_MAX},
                         list->look->colour);
}

static void print_attention(const struct list *list, const struct division *division)
{
    const char *end = list->attention;
    if (list->attention_lines == 0 || division->attention_rows == 0)
        return;
    for (size_t i = 0; i < division->attention; i++)
        end = strchr(end, '\n') + 1;
    if (division->blank)
        fputc('\n', list->to);
    fwrite(list->attention, 1, (size_t)(end - list->attention), list->to);
    if (division->attention < list->attention_lines)
        fprintf(list->to, "... %zu more lines of trouble have no room here\n",
                list->attention_lines - division->attention);
}

/* Where there can be any. */
static void print_readers(FILE *to, const json_t *read)
{
    char text[CTL_TEXT_SIZE];
    if (!json_is_string(json_object_get(read, "socket")))
        return;
    uint64_t readers = ctl_count(json_object_get(read, "counters"), "readers");
    ctl_format_count(readers, text);
    fprintf(to, ", %s reader%s", text, readers == 1 ? "" : "s");
}

static void print_supervisor(FILE *to, const json_t *status)
{
    const json_t *supervisor = json_object_get(status, "supervisor");
    char age[CTL_TEXT_SIZE];
    ctl_format_seconds(ctl_number(supervisor, "uptime_s"), age);
    fputs("holdfastd ", to);
    ctl_print_text(to, false, CTL_PLAIN, ctl_string(supervisor, "version"));
    fprintf(to, ", pid %llu, up for %s", (unsigned long long)ctl_count(supervisor, "pid"), age);
    print_readers(to, json_object_get(status, "read"));
    fputs(json_is_true(json_object_get(supervisor, "stopping")) ? ", shutting down\n" : "\n", to);
}

void ctl_report_status(FILE *to, const json_t *status, const struct ctl_look *look)
{
    const json_t *channels = json_object_get(status, "channels");
    const json_t *read = json_object_get(status, "read");
    struct list list = {.to = to, .look = look};

    print_supervisor(to, status);
    list.reading_lines = ctl_print_reading(to, read, look->verbose);
    if (json_array_size(channels) == 0)
        return;
    ctl_table_init(&list.table, columns, COLUMN_COUNT);
    gather(&list, status);
    if (look->columns)
        ctl_table_fit(&list.table, look->columns, expendable,
                      sizeof expendable / sizeof expendable[0]);
    const struct division division = divide_rows(&list);
    fputc('\n', to);
    print_channels(&list, &division);
    print_attention(&list, &division);
    ctl_table_free(&list.table);
    free(list.attention);
}
