/* SPDX-License-Identifier: MIT */
/* Where a channel's datagrams went, for people: its destinations, and every counter with its
 * meaning. Called by ctl_status_channel.c; what counts as lost, by ctl_status_list.c, too. */
#include "supervisor/ctl/ctl_status_tables.h"

#include <string.h>

#include "common/counters.h"

bool ctl_is_loss(const char *name)
{
    return strcmp(name, "kernel_dropped") == 0 || strcmp(name, "relay_dropped") == 0 ||
           strcmp(name, "decimate_lost") == 0 || strcmp(name, "record_lost") == 0;
}

bool ctl_drops_are_least(const json_t *channel)
{
    return json_is_true(json_object_get(channel, "kernel_dropped_at_least")) &&
           ctl_count(json_object_get(channel, "counters"), "kernel_dropped") > 0;
}

static void add_counter(struct ctl_table *table, const json_t *channel, int which)
{
    const json_t *counters = json_object_get(channel, "counters");
    const struct counter_info *info = &counter_infos[which];
    uint64_t count = ctl_count(counters, info->name);
    char value[CTL_TEXT_SIZE];
    if (which == COUNTER_kernel_dropped && ctl_drops_are_least(channel))
        ctl_format_least(count, value);
    else
        ctl_format_count(count, value);
    ctl_table_add(table, CTL_PLAIN, info->name);
    ctl_table_add(table, ctl_is_loss(info->name) && count ? CTL_RED : CTL_PLAIN, value);
}

/* What has counted nothing has not happened. */
static bool is_shown(const json_t *channel, int which, const struct ctl_look *look)
{
    bool counts = ctl_count(json_object_get(channel, "counters"), counter_infos[which].name) > 0;
    if (counts || which == COUNTER_received)
        return true;
    return look->terse < CTL_WITHOUT_NOTHINGS && (which != COUNTER_map_fallbacks || look->verbose);
}

static void print_explained_counters(FILE *to, const json_t *channel, const struct ctl_look *look)
{
    static const struct ctl_column columns[] = {
        {"COUNTER", false}, {"VALUE", true}, {"UNIT", false}, {"MEANING", false}};
    struct ctl_table table;
    ctl_table_init(&table, columns, sizeof columns / sizeof columns[0]);
    for (int i = 0; i < COUNTER_COUNT; i++) {
        if (!is_shown(channel, i, look))
            continue;
        add_counter(&table, channel, i);
        ctl_table_add(&table, CTL_PLAIN, counter_infos[i].unit);
        ctl_table_add(&table, CTL_PLAIN, counter_infos[i].help);
    }
    ctl_table_print(&table, to, "  ", look->colour);
    ctl_table_free(&table);
}

/* Two side by side, so that a channel fits an ordinary terminal; what counts no datagrams only
 * where there is something to count. */
static void print_counters(FILE *to, const json_t *channel, const struct ctl_look *look)
{
    static const struct ctl_column columns[] = {{"", false}, {"", true}, {"", false}, {"", true}};
    struct ctl_table table;
    int shown[COUNTER_COUNT], count = 0;
    for (int i = 0; i < COUNTER_COUNT; i++)
        if (is_shown(channel, i, look))
            shown[count++] = i;
    const int rows = (count + 1) / 2;
    ctl_table_init(&table, columns, sizeof columns / sizeof columns[0]);
    for (int i = 0; i < rows; i++) {
        add_counter(&table, channel, shown[i]);
        if (i + rows < count) {
            add_counter(&table, channel, shown[i + rows]);
        } else {
            ctl_table_add(&table, CTL_PLAIN, "");
            ctl_table_add(&table, CTL_PLAIN, "");
        }
    }
    ctl_table_print(&table, to, "  ", look->colour);
    ctl_table_free(&table);
}

static void add_destination(struct ctl_table *table, const json_t *destination)
{
    char kind[CTL_TEXT_SIZE] = "every datagram", value[CTL_TEXT_SIZE];
    if (ctl_count(destination, "keep_every"))
        snprintf(kind, sizeof kind, "1 of %llu",
                 (unsigned long long)ctl_count(destination, "keep_every"));
    else if (ctl_count(destination, "max_rate"))
        snprintf(kind, sizeof kind, "at most %llu/s",
                 (unsigned long long)ctl_count(destination, "max_rate"));
    else if (strcmp(ctl_string(destination, "segmentation"), "refused") ==
             0) /* its path refuses UDP_SEGMENT: slower */
        strcpy(kind, "every, one by one");
    ctl_table_add(table, CTL_PLAIN, ctl_string(destination, "name"));
    ctl_table_add(table, CTL_PLAIN, ctl_string(destination, "to"));
    ctl_table_add(table, CTL_PLAIN, kind);
    ctl_format_count(ctl_count(destination, "sent"), value);
    ctl_table_add(table, CTL_PLAIN, value);
    ctl_format_count(ctl_count(destination, "dropped"), value);
    ctl_table_add(table, ctl_count(destination, "dropped") ? CTL_RED : CTL_PLAIN, value);
    ctl_format_count(ctl_count(destination, "repeated"), value);
    ctl_table_add(table, CTL_PLAIN, value);
}

static void print_table(FILE *to, const json_t *relays, const json_t *decimates,
                        const struct ctl_look *look)
{
    static const struct ctl_column columns[] = {{"DESTINATION", false}, {"TO", false},
                                                {"GETS", false},        {"SENT", true},
                                                {"DROPPED", true},      {"REPEATED", true}};
    struct ctl_table table;
    if (json_array_size(relays) + json_array_size(decimates) == 0)
        return;
    ctl_table_init(&table, columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < json_array_size(relays); i++)
        add_destination(&table, json_array_get(relays, i));
    for (size_t i = 0; i < json_array_size(decimates); i++)
        add_destination(&table, json_array_get(decimates, i));
    if (look->terse < CTL_WITHOUT_BLANKS)
        fputc('\n', to);
    ctl_table_print(&table, to, "  ", look->colour);
    ctl_table_free(&table);
}

static void print_down(FILE *to, const json_t *destinations, bool colour)
{
    for (size_t i = 0; i < json_array_size(destinations); i++) {
        const json_t *destination = json_array_get(destinations, i);
        if (strcmp(ctl_string(destination, "state"), "down") != 0)
            continue;
        fputs("  ", to);
        ctl_print_text(to, false, CTL_PLAIN, ctl_string(destination, "name"));
        fputs(" is ", to);
        ctl_print_text(to, colour, CTL_RED, "down");
        fputs(": ", to);
        ctl_print_text(to, false, CTL_PLAIN, ctl_string(destination, "reason"));
        fputc('\n', to);
    }
}

void ctl_print_destinations(FILE *to, const json_t *channel, const struct ctl_look *look)
{
    const json_t *relays = json_object_get(channel, "relays");
    const json_t *decimates = json_object_get(channel, "decimates");
    print_table(to, relays, decimates, look);
    print_down(to, relays, look->colour);
    print_down(to, decimates, look->colour);
}

void ctl_print_counters(FILE *to, const json_t *channel, const struct ctl_look *look)
{
    if (look->verbose)
        print_explained_counters(to, channel, look);
    else
        print_counters(to, channel, look);
}
