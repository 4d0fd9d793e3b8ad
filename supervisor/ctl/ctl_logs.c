/* SPDX-License-Identifier: MIT */
/* Lists log files by what their names and headers say. Called by main.c. */
#include "supervisor/ctl/ctl_logs.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/client/holdfast.h"
#include "common/control_protocol.h"
#include "supervisor/ctl/ctl_source.h"
#include "supervisor/ctl/ctl_text.h"
#include "supervisor/ctl/ctl_time.h"
#include "supervisor/ctl/ctl_window.h"

enum {
    COLUMN_LOG,
    COLUMN_FIRST,
    COLUMN_RECORDS,
    COLUMN_FROM,
    COLUMN_TO,
    COLUMN_SIZE,
    COLUMN_STATE
};

static void add_time(struct ctl_table *table, bool is_known, int64_t time_ns)
{
    char text[CTL_TIME_TEXT_SIZE];
    ctl_time_print_local(time_ns, text);
    text[19] = '\0'; /* whole seconds */
    ctl_table_add(table, CTL_PLAIN, is_known ? text : "-");
}

static void add_row(struct ctl_table *table, const struct hf_log *log)
{
    char text[CTL_TEXT_SIZE];
    const bool has_records = log->has_totals && log->records > 0;
    ctl_table_add(table, CTL_PLAIN, log->name);
    snprintf(text, sizeof text, "%" PRIu64, log->first_seq);
    ctl_table_add(table, CTL_PLAIN, text);
    ctl_format_count(log->records, text);
    ctl_table_add(table, CTL_PLAIN, log->has_totals ? text : "-");
    add_time(table, has_records || log->created_ns > 0,
             has_records ? log->first_time_ns : log->created_ns);
    add_time(table, has_records, log->last_time_ns);
    ctl_format_bytes((double)log->size, text);
    ctl_table_add(table, CTL_PLAIN, text);
    ctl_table_add(table, log->is_open ? CTL_YELLOW : CTL_PLAIN, log->is_open ? "open" : "sealed");
}

static json_t *json_if(bool is_known, uint64_t number)
{
    return is_known ? json_integer((json_int_t)number) : json_null();
}

static json_t *json_log(const struct hf_log *log)
{
    const bool has_records = log->has_totals && log->records > 0;
    json_t *object = json_pack("{s:o,s:o,s:I}", "channel", control_text(log->channel), "name",
                               control_text(log->name), "first_seq", (json_int_t)log->first_seq);
    json_object_set_new(object, "last_seq", json_if(has_records, log->last_seq));
    json_object_set_new(object, "records", json_if(log->has_totals, log->records));
    json_object_set_new(object, "first_time_ns",
                        json_if(has_records, (uint64_t)log->first_time_ns));
    json_object_set_new(object, "last_time_ns", json_if(has_records, (uint64_t)log->last_time_ns));
    json_object_set_new(object, "created_ns",
                        json_if(log->created_ns > 0, (uint64_t)log->created_ns));
    json_object_set_new(object, "size_bytes", json_integer((json_int_t)log->size));
    json_object_set_new(object, "open", json_boolean(log->is_open));
    return object;
}

/* One channel's: to the table, or to the list if there is one. */
static int add_logs(const struct ctl_source *source, struct ctl_table *table, json_t *list)
{
    struct hf_log *logs = NULL;
    size_t count = 0;
    int result = hf_log_list(source->handle, source->info.name, &logs, &count);
    if (result == -EOPNOTSUPP && !(source->info.can & HF_CAN_OLD))
        return CTL_OK; /* a channel that doesn't record has none */
    if (result < 0)
        return ctl_complain_read(source->info.name, result);
    for (size_t i = 0; i < count; i++) {
        if (list)
            json_array_append_new(list, json_log(&logs[i]));
        else
            add_row(table, &logs[i]);
    }
    free(logs);
    return CTL_OK;
}

static void print_table(struct ctl_table *table, bool colour)
{
    struct ctl_look look = {.colour = colour};
    static const int expendable[] = {COLUMN_FIRST, COLUMN_FROM, COLUMN_TO, COLUMN_RECORDS};
    FILE *to = ctl_window_text(&look);
    if (look.columns)
        ctl_table_fit(table, look.columns, expendable, sizeof expendable / sizeof *expendable);
    if (table->cell_count > 0)
        ctl_table_print(table, to, "", colour);
    else
        fputs("no log files\n", to);
    ctl_window_print();
}

int ctl_logs(const struct ctl_command *command)
{
    static const struct ctl_column columns[] = {{"LOG", false},  {"FIRST", true}, {"RECORDS", true},
                                                {"FROM", false}, {"TO", false},   {"SIZE", true},
                                                {"STATE", false}};
    struct ctl_sources sources;
    struct ctl_table table;
    json_t *list = command->options.json ? json_array() : NULL;
    ctl_table_init(&table, columns, sizeof columns / sizeof *columns);
    int status = ctl_sources_open(&sources, command);
    for (size_t i = 0; i < sources.count && status == CTL_OK; i++)
        status = add_logs(&sources.list[i], &table, list);
    if (list && status == CTL_OK) {
        json_t *whole = json_pack("{s:O}", "logs", list);
        ctl_print_json(whole);
        json_decref(whole);
    } else if (status == CTL_OK) {
        print_table(&table, command->options.colour);
    }
    json_decref(list);
    ctl_table_free(&table);
    ctl_sources_close(&sources);
    return status;
}
