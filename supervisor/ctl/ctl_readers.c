/* SPDX-License-Identifier: MIT */
/* Who reads from the daemon, and positions. Called by main.c. Programs and names are other users'
 * texts. */
#include "supervisor/ctl/ctl_readers.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/control_protocol.h"
#include "common/monotonic.h"
#include "supervisor/ctl/ctl_source.h"
#include "supervisor/ctl/ctl_text.h"
#include "supervisor/ctl/ctl_time.h"
#include "supervisor/ctl/ctl_window.h"

static void print_table(const struct ctl_table *table, const char *nothing, bool colour)
{
    struct ctl_look look = {.colour = colour};
    FILE *to = ctl_window_text(&look);
    if (table->cell_count > 0)
        ctl_table_print(table, to, "", colour);
    else
        fprintf(to, "%s\n", nothing);
    ctl_window_print();
}

/* {"readers": [...]}; takes the list over. */
static void print_list(const char *key, json_t *list)
{
    json_t *whole = json_pack("{s:o}", key, list);
    ctl_print_json(whole);
    json_decref(whole);
}

static void add_user(struct ctl_table *table, uint32_t uid)
{
    char text[CTL_TEXT_SIZE];
    const struct passwd *user = uid == UINT32_MAX ? NULL : getpwuid(uid);
    if (uid == UINT32_MAX)
        snprintf(text, sizeof text, "(tcp)");
    else
        snprintf(text, sizeof text, "%u", (unsigned)uid);
    ctl_table_add(table, CTL_PLAIN, user ? user->pw_name : text);
}

static void add_number(struct ctl_table *table, uint64_t number)
{
    char text[CTL_TEXT_SIZE];
    snprintf(text, sizeof text, "%" PRIu64, number);
    ctl_table_add(table, CTL_PLAIN, text);
}

static void add_rates(struct ctl_table *table, const struct hf_connection *one)
{
    char text[CTL_TEXT_SIZE];
    ctl_format_rate(one->requests_per_second, text);
    ctl_table_add(table, CTL_PLAIN, text);
    ctl_format_byte_rate(one->bytes_per_second, text);
    ctl_table_add(table, CTL_PLAIN, text);
}

static void add_age(struct ctl_table *table, int64_t since_ns)
{
    char text[CTL_TEXT_SIZE];
    const int64_t age = (int64_t)realtime_now_ns() - since_ns;
    ctl_format_seconds(age > 0 ? (double)age / 1e9 : 0, text);
    ctl_table_add(table, CTL_PLAIN, text);
}

/* ---- who reads ---- */

static const char *mode_text(uint32_t mode)
{
    static const char *const texts[] = {"-", "old", "new", "joined", "newest"};
    return mode < sizeof texts / sizeof *texts ? texts[mode] : "?";
}

/* It need not end in a zero. */
static void copy_program(const struct hf_connection *one, char ret_program[sizeof one->program + 1])
{
    memcpy(ret_program, one->program, sizeof one->program);
    ret_program[sizeof one->program] = '\0';
}

static json_t *json_connection(const struct hf_connection *one)
{
    char program[sizeof one->program + 1];
    copy_program(one, program);
    json_t *object = json_pack("{s:I,s:I,s:o,s:o}", "uid", (json_int_t)one->uid, "pid",
                               (json_int_t)one->pid, "program", control_text(program), "channel",
                               one->channel[0] ? control_text(one->channel) : json_null());
    json_object_set_new(object, "mode",
                        one->mode ? json_string(mode_text(one->mode)) : json_null());
    json_object_set_new(object, "next_seq", json_integer((json_int_t)one->next_seq));
    json_object_set_new(object, "end_seq", json_integer((json_int_t)one->end_seq));
    json_object_set_new(object, "since_ns", json_integer((json_int_t)one->since_ns));
    json_object_set_new(object, "requests", json_integer((json_int_t)one->requests));
    json_object_set_new(object, "bytes", json_integer((json_int_t)one->bytes));
    json_object_set_new(object, "requests_per_second", json_real(one->requests_per_second));
    json_object_set_new(object, "bytes_per_second", json_real(one->bytes_per_second));
    return object;
}

static void add_connection(struct ctl_table *table, const struct hf_connection *one)
{
    char pid[CTL_TEXT_SIZE], program[sizeof one->program + 1];
    copy_program(one, program);
    snprintf(pid, sizeof pid, "%u", (unsigned)one->pid);
    ctl_table_add(table, CTL_PLAIN, pid);
    add_user(table, one->uid);
    ctl_table_add(table, CTL_PLAIN, program);
    ctl_table_add(table, CTL_PLAIN, one->channel);
    ctl_table_add(table, CTL_PLAIN, mode_text(one->mode));
    add_number(table, one->next_seq);
    add_number(table, one->end_seq > one->next_seq ? one->end_seq - one->next_seq : 0);
    add_number(table, one->requests);
    add_rates(table, one);
    add_age(table, one->since_ns);
}

int ctl_readers(const struct ctl_command *command)
{
    static const struct ctl_column columns[] = {
        {"PID", true},    {"USER", false}, {"PROGRAM", false}, {"CHANNEL", false},
        {"READS", false}, {"NEXT", true},  {"BEHIND", true},   {"REQUESTS", true},
        {"RATE", true},   {"BYTES", true}, {"SINCE", false}};
    struct hf_connection *list = NULL;
    size_t count = 0;
    hf *handle = NULL;
    int status = ctl_daemon_open(command, &handle);
    if (status != CTL_OK)
        return status;
    int result = hf_connection_list(handle, &list, &count);
    if (result < 0) {
        status = ctl_complain_read("asking who reads", result);
    } else if (command->options.json) {
        json_t *all = json_array();
        for (size_t i = 0; i < count; i++)
            if (list[i].pid != (uint32_t)getpid())
                json_array_append_new(all, json_connection(&list[i]));
        print_list("readers", all);
    } else {
        struct ctl_table table;
        ctl_table_init(&table, columns, sizeof columns / sizeof *columns);
        for (size_t i = 0; i < count; i++)
            if (list[i].channel[0] || list[i].bytes) /* others only ask, as we do */
                add_connection(&table, &list[i]);
        print_table(&table, "nobody reads", command->options.colour);
        ctl_table_free(&table);
    }
    free(list);
    hf_close(handle);
    return status;
}

/* ---- positions ---- */

static json_t *json_position(const struct hf_position *one)
{
    return json_pack("{s:o,s:o,s:I,s:I,s:I,s:b}", "channel", control_text(one->channel), "name",
                     control_text(one->name), "seq", (json_int_t)one->seq, "saved_ns",
                     (json_int_t)one->saved_ns, "uid", (json_int_t)one->uid, "in_use",
                     (int)(one->in_use != 0));
}

static void add_position(struct ctl_table *table, const struct hf_position *one)
{
    char saved[CTL_TIME_TEXT_SIZE];
    ctl_time_print_local(one->saved_ns, saved);
    saved[19] = '\0'; /* whole seconds */
    ctl_table_add(table, CTL_PLAIN, one->channel);
    ctl_table_add(table, CTL_PLAIN, one->name);
    add_number(table, one->seq);
    ctl_table_add(table, CTL_PLAIN, saved);
    add_user(table, one->uid);
    ctl_table_add(table, CTL_PLAIN, one->in_use ? "yes" : "no");
}

int ctl_positions(const struct ctl_command *command)
{
    static const struct ctl_column columns[] = {{"CHANNEL", false}, {"POSITION", false},
                                                {"NEXT", true},     {"SAVED", false},
                                                {"USER", false},    {"IN USE", false}};
    struct hf_position *list = NULL;
    size_t count = 0;
    hf *handle = NULL;
    int status = ctl_daemon_open(command, &handle);
    if (status != CTL_OK)
        return status;
    int result = hf_position_list(handle, command->channel, &list, &count);
    if (result == 0 && count == 0 && command->channel &&
        !ctl_source_is_channel(handle, command->channel)) {
        status = CTL_NO;
    } else if (result < 0) {
        status = ctl_complain_read("asking for positions", result);
    } else if (command->options.json) {
        json_t *all = json_array();
        for (size_t i = 0; i < count; i++)
            json_array_append_new(all, json_position(&list[i]));
        print_list("positions", all);
    } else {
        struct ctl_table table;
        ctl_table_init(&table, columns, sizeof columns / sizeof *columns);
        for (size_t i = 0; i < count; i++)
            add_position(&table, &list[i]);
        print_table(&table, "no positions", command->options.colour);
        ctl_table_free(&table);
    }
    free(list);
    hf_close(handle);
    return status;
}

int ctl_forget(const struct ctl_command *command)
{
    hf *handle = NULL;
    int status = ctl_daemon_open(command, &handle);
    if (status != CTL_OK)
        return status;
    int result = hf_forget(handle, command->channel, command->position);
    if (result == -ENOENT && !ctl_source_is_channel(handle, command->channel))
        ; /* told */
    else if (result == -ENOENT)
        ctl_complain("%s has no position '%s': 'holdfastctl positions' lists them",
                     command->channel, command->position);
    else if (result == -EBUSY)
        ctl_complain(
            "%s: a reader has the position '%s': end it first; 'holdfastctl readers' shows "
            "who reads",
            command->channel, command->position);
    else if (result < 0)
        ctl_complain_read(command->position, result);
    else if (command->options.json)
        print_list("forgotten", json_pack("[{s:o,s:o}]", "channel", control_text(command->channel),
                                          "name", control_text(command->position)));
    else
        printf("%s: forgotten\n", command->position);
    hf_close(handle);
    return result < 0 ? CTL_NO : CTL_OK;
}
