/* SPDX-License-Identifier: MIT */
/* `status CHANNEL` for people: what it is, line by line; its tables are ctl_status_tables.c. */
#include "supervisor/ctl/ctl_status_channel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "supervisor/ctl/ctl_crashes.h"
#include "supervisor/ctl/ctl_status_tables.h"
#include "supervisor/ctl/ctl_text.h"

static void begin_line(FILE *to, const char *label)
{
    fprintf(to, "  %-13s ", label);
}

/* Why it waits that long, and what it costs. */
static void print_restart_rule(FILE *to, const json_t *restart)
{
    const json_t *budget = json_object_get(restart, "stall_budget_ms");
    const char *rule = ctl_string(restart, "rule");
    char text[CTL_TEXT_SIZE];
    if (rule[0] && strcmp(rule, "none") != 0) { /* nobody has died */
        fputs("; rule: ", to);
        ctl_print_text(to, false, CTL_PLAIN, rule);
    }
    if (json_is_integer(budget)) {
        ctl_format_seconds((double)json_integer_value(budget) / 1000, text);
        fprintf(to, "; the kernel's buffer lasts %s", text);
    }
    if (ctl_count(restart, "expected_drops"))
        fprintf(to, ", about %llu datagrams will be dropped",
                (unsigned long long)ctl_count(restart, "expected_drops"));
}

static void print_state(FILE *to, const json_t *channel, bool colour)
{
    const char *state = ctl_string(channel, "state"), *cause = ctl_string(channel, "cause");
    const json_t *next = json_object_get(channel, "next_start_ms");
    char text[CTL_TEXT_SIZE];

    begin_line(to, "state");
    ctl_print_text(to, colour, ctl_state_colour(state), state);
    ctl_format_seconds(ctl_number(channel, "state_since_s"), text);
    fprintf(to, " for %s%s", text, cause[0] ? ": " : "");
    ctl_print_text(to, false, CTL_PLAIN, cause);
    fputc('\n', to);
    if (json_is_integer(next)) {
        ctl_format_seconds((double)json_integer_value(next) / 1000, text);
        begin_line(to, "next start");
        fprintf(to, "in %s", text);
        if (ctl_count(channel, "deaths_in_a_row"))
            fprintf(to, ", deaths in a row: %llu",
                    (unsigned long long)ctl_count(channel, "deaths_in_a_row"));
        print_restart_rule(to, json_object_get(channel, "restart"));
        fputc('\n', to);
    }
}

static void print_worker(FILE *to, const json_t *channel)
{
    begin_line(to, "worker");
    if (json_is_integer(json_object_get(channel, "pid")))
        fprintf(to, "pid %llu, generation %llu", (unsigned long long)ctl_count(channel, "pid"),
                (unsigned long long)ctl_count(channel, "generation"));
    else
        fputs("none", to);
    unsigned long long restarts = ctl_count(channel, "restarts");
    fprintf(to, ", %llu restart%s\n", restarts, restarts == 1 ? "" : "s");
}

static void print_last_death(FILE *to, const json_t *channel, const struct ctl_look *look)
{
    const json_t *death = json_object_get(channel, "last_death");
    char age[CTL_TEXT_SIZE];
    if (!json_is_object(death) && look->terse >= CTL_WITHOUT_NOTHINGS)
        return;
    begin_line(to, "last death");
    if (!json_is_object(death)) {
        fputs("none\n", to);
        return;
    }
    ctl_format_seconds(ctl_number(death, "age_s"), age);
    ctl_report_end(to, death);
    fprintf(to, ", generation %llu, %s ago", (unsigned long long)ctl_count(death, "generation"),
            age);
    if (look->verbose) {
        fputs(" ('holdfastctl crashes ", to);
        ctl_print_text(to, false, CTL_PLAIN, ctl_string(channel, "name"));
        fputs("' shows more)", to);
    }
    fputc('\n', to);
}

/* ---- what comes in ---- */

/* It has no socket: what no worker has taken yet, they keep. */
static bool has_publishers(const json_t *channel)
{
    return json_is_object(json_object_get(channel, "publishers"));
}

static void print_origin(FILE *to, const json_t *channel)
{
    const char *interface = ctl_string(channel, "interface");
    const char *source = ctl_string(channel, "source"), *listen = ctl_string(channel, "listen");
    begin_line(to, "listens on");
    ctl_print_text(to, false, CTL_PLAIN, listen);
    if (has_publishers(channel)) {
        fputs(", programs of this machine\n", to);
        return;
    }
    if (!strchr(listen, '%')) { /* else it is there already */
        fputs(interface[0] ? " at " : ", no interface set", to);
        ctl_print_text(to, false, CTL_PLAIN, interface);
    }
    fputs(source[0] ? ", from " : ", from any source\n", to);
    ctl_print_text(to, false, CTL_PLAIN, source);
    fputs(source[0] ? " only\n" : "", to);
}

static void format_time(double seconds, bool exact, char ret_text[CTL_TEXT_SIZE])
{
    time_t whole = (time_t)seconds;
    struct tm local;
    char zone[16] = "", fraction[8] = "";
    if (!(seconds >= 0 && seconds < 1e11) || !localtime_r(&whole, &local)) {
        strcpy(ret_text, "?");
        return;
    }
    size_t length = strftime(ret_text, CTL_TEXT_SIZE, "%Y-%m-%d %H:%M:%S", &local);
    if (!exact)
        return;
    strftime(zone, sizeof zone, " %z", &local);
    snprintf(fraction, sizeof fraction, ".%03d", (int)((seconds - (double)whole) * 1000));
    snprintf(ret_text + length, CTL_TEXT_SIZE - length, "%s%s", fraction, zone);
}

static void print_last_datagram(FILE *to, const json_t *channel, const struct ctl_look *look)
{
    const json_t *last = json_object_get(channel, "last_datagram");
    char time[CTL_TEXT_SIZE], age[CTL_TEXT_SIZE];
    if (!json_is_object(last) && look->terse >= CTL_WITHOUT_NOTHINGS)
        return;
    begin_line(to, "last datagram");
    if (!json_is_object(last)) {
        fputs("none yet\n", to);
        return;
    }
    format_time(ctl_number(last, "time"), look->verbose, time);
    ctl_format_seconds(ctl_number(last, "age_s"), age);
    ctl_print_text(to, false, CTL_PLAIN, ctl_string(last, "source"));
    fprintf(to, " at %s, %s ago", time, age);
    if (look->verbose)
        fprintf(to, ", seq %llu", (unsigned long long)ctl_count(last, "seq"));
    fputc('\n', to);
}

static void print_rate(FILE *to, const json_t *channel)
{
    const json_t *rate = json_object_get(channel, "rate");
    char count[CTL_TEXT_SIZE], bytes[CTL_TEXT_SIZE];
    begin_line(to, "rate");
    ctl_format_rate(ctl_number(rate, "datagrams_per_s"), count);
    ctl_format_bytes(ctl_number(rate, "bytes_per_s"), bytes);
    if (json_is_object(rate))
        fprintf(to, "%s, %s/s", count, bytes);
    else
        fputs("not known", to);
    if (has_publishers(channel)) {
        fputc('\n', to);
        return;
    }
    ctl_format_bytes(ctl_number(channel, "receive_buffer_bytes"), bytes);
    fprintf(to, "; kernel buffer %s\n", bytes);
}

/* How long it can do without whom, at this rate. */
static void print_stall(FILE *to, const json_t *channel, const struct ctl_look *look)
{
    const json_t *ring_lasts = json_object_get(channel, "ring_lasts_s");
    const json_t *buffer_lasts = json_object_get(channel, "receive_buffer_lasts_s");
    bool records = json_is_object(json_object_get(channel, "log"));
    char ring[CTL_TEXT_SIZE], buffer[CTL_TEXT_SIZE];
    if (!json_is_number(ring_lasts) || !json_is_number(buffer_lasts) || has_publishers(channel) ||
        look->terse >= CTL_WITHOUT_OUTLOOK)
        return;
    ctl_format_seconds(json_number_value(ring_lasts), ring);
    ctl_format_seconds(json_number_value(buffer_lasts), buffer);
    begin_line(to, "stall");
    if (records && look->verbose)
        fprintf(to,
                "at this rate the ring lasts %s without recording, the kernel buffer about %s "
                "without a worker\n",
                ring, buffer);
    else if (look->verbose)
        fprintf(to, "at this rate the kernel buffer lasts about %s without a worker\n", buffer);
    else if (records)
        fprintf(to, "ring lasts %s without disk, buffer %s without worker\n", ring, buffer);
    else
        fprintf(to, "buffer lasts %s without worker\n", buffer);
}

static void print_publisher(FILE *to, const json_t *it)
{
    char waiting[CTL_TEXT_SIZE], taken[CTL_TEXT_SIZE];
    ctl_format_count(ctl_count(it, "taken"), taken);
    ctl_format_bytes(ctl_number(it, "waiting_bytes"), waiting);
    begin_line(to, "");
    ctl_print_text(to, false, CTL_PLAIN, ctl_string(it, "name"));
    fprintf(to, " (pid %llu, user %llu): %s taken, %s waiting\n",
            (unsigned long long)ctl_count(it, "pid"), (unsigned long long)ctl_count(it, "uid"),
            taken, waiting);
}

/* Programs that write into it without UDP. */
static void print_publishers(FILE *to, const json_t *publishers)
{
    const json_t *list = json_object_get(publishers, "list");
    char size[CTL_TEXT_SIZE];
    if (!json_is_object(publishers))
        return;
    ctl_format_bytes(ctl_number(publishers, "outbox_bytes"), size);
    begin_line(to, "publishers");
    fprintf(to, "%zu of %llu, an outbox of %s each\n", json_array_size(list),
            (unsigned long long)ctl_count(publishers, "most"), size);
    for (size_t i = 0; i < json_array_size(list); i++)
        print_publisher(to, json_array_get(list, i));
}

static void print_ring(FILE *to, const json_t *ring, const struct ctl_look *look)
{
    char capacity[CTL_TEXT_SIZE], pending[CTL_TEXT_SIZE];
    const char *reason = ctl_string(ring, "reason");
    if (!reason[0] && look->terse >= CTL_WITHOUT_OUTLOOK)
        return;
    ctl_format_bytes(ctl_number(ring, "capacity_bytes"), capacity);
    ctl_format_count(ctl_count(ring, "pending"), pending);
    begin_line(to, "ring");
    fprintf(to, "%s, mapping ", capacity);
    ctl_print_text(to, false, CTL_PLAIN, ctl_string(ring, "mapping"));
    if (reason[0]) {
        fputs(" (", to);
        ctl_print_text(to, false, CTL_PLAIN, reason);
        fputc(')', to);
    }
    fprintf(to, ", %s pending\n", pending);
}

static void print_silence(FILE *to, const json_t *channel, bool colour)
{
    const json_t *silent = json_object_get(channel, "silent_s");
    const char *trouble = ctl_string(channel, "receive_trouble");
    char text[CTL_TEXT_SIZE];
    if (!trouble[0])
        trouble = ctl_string(channel, "interface_down");
    if (trouble[0]) {
        begin_line(to, "");
        ctl_print_text(to, colour, CTL_RED, trouble);
        fputc('\n', to);
    }
    if (json_is_number(silent)) {
        ctl_format_seconds(json_number_value(silent), text);
        begin_line(to, "silent");
        fprintf(to, "nothing received for %s, longer than expected\n", text);
    }
}

static void print_gap(FILE *to, const json_t *channel)
{
    const json_t *gap = json_object_get(channel, "not_covered_before");
    if (!json_is_integer(gap))
        return;
    begin_line(to, "gap");
    fprintf(to, "nobody was receiving for a while before datagram %llu\n",
            (unsigned long long)json_integer_value(gap));
}

/* "folder: free space", or why that isn't known. */
static void print_folder(FILE *to, const json_t *log, const struct ctl_look *look)
{
    const json_t *disk = json_object_get(log, "disk");
    const char *folder = ctl_string(log, "folder"), *reason = ctl_string(disk, "reason");
    char free_text[CTL_TEXT_SIZE], size_text[CTL_TEXT_SIZE];
    if (!folder[0] || (!reason[0] && look->terse >= CTL_WITHOUT_NAMES))
        return;
    begin_line(to, "folder");
    ctl_print_text(to, false, CTL_PLAIN, folder);
    if (reason[0]) {
        fputs(", free space not known: ", to);
        ctl_print_text(to, look->colour, CTL_YELLOW, reason);
    } else if (json_is_object(disk)) {
        ctl_format_bytes(ctl_number(disk, "free_bytes"), free_text);
        ctl_format_bytes(ctl_number(disk, "size_bytes"), size_text);
        fprintf(to, ", %s of %s free", free_text, size_text);
    }
    fputc('\n', to);
}

void ctl_print_unsealed(FILE *to, uint64_t count, bool colour)
{
    char text[96];
    snprintf(text, sizeof text, "%llu segment%s could not be sealed so far: see the log",
             (unsigned long long)count, count == 1 ? "" : "s");
    ctl_print_text(to, colour, CTL_RED, text);
}

/* "log" on the wire and for people: where the recording goes. */
static void print_recording(FILE *to, const json_t *log, const struct ctl_look *look)
{
    const bool colour = look->colour;
    char committed[CTL_TEXT_SIZE], durable[CTL_TEXT_SIZE];
    const char *trouble = ctl_string(log, "trouble"), *segment = ctl_string(log, "segment");

    begin_line(to, "log");
    if (!json_is_object(log)) {
        fputs("not recorded\n", to);
        return;
    }
    ctl_print_text(to, false, CTL_PLAIN, segment[0] ? segment : "no segment");
    fputc('\n', to);
    if (segment[0]) {
        ctl_format_bytes(ctl_number(log, "committed_bytes"), committed);
        ctl_format_bytes(ctl_number(log, "durable_bytes"), durable);
        begin_line(to, "");
        fprintf(to, "%s written, %s durable, next seq %llu\n", committed, durable,
                (unsigned long long)ctl_count(log, "next_seq"));
    }
    print_folder(to, log, look);
    if (trouble[0]) {
        begin_line(to, "");
        ctl_print_text(to, colour, CTL_RED, trouble);
        fputc('\n', to);
    }
    if (ctl_count(log, "unsealed")) {
        begin_line(to, "");
        ctl_print_unsealed(to, ctl_count(log, "unsealed"), colour);
        fputc('\n', to);
    }
}

static void print_all(FILE *to, const json_t *channel, const struct ctl_look *look)
{
    print_state(to, channel, look->colour);
    if (look->terse < CTL_WITHOUT_NAMES)
        print_worker(to, channel);
    print_last_death(to, channel, look);
    if (look->terse < CTL_WITHOUT_NAMES)
        print_origin(to, channel);
    print_last_datagram(to, channel, look);
    print_rate(to, channel);
    print_stall(to, channel, look);
    print_silence(to, channel, look->colour);
    print_gap(to, channel);
    print_publishers(to, json_object_get(channel, "publishers"));
    print_ring(to, json_object_get(channel, "ring"), look);
    print_recording(to, json_object_get(channel, "log"), look);
    ctl_print_destinations(to, channel, look);
    if (look->terse < CTL_WITHOUT_BLANKS)
        fputc('\n', to);
    ctl_print_counters(to, channel, look);
}

/* As much of it as there is room for, and how much that is not. */
void ctl_report_channel(FILE *to, const json_t *channel, const struct ctl_look *look)
{
    struct ctl_look trial = *look;
    size_t all = 0;
    for (;; trial.terse++) {
        char *text;
        size_t size;
        FILE *into = ctl_open_text(&text, &size);
        print_all(into, channel, &trial);
        fclose(into);
        size_t lines = ctl_count_lines(text);
        all = trial.terse == 0 ? lines : all;
        if (look->rows == 0 || lines + 1 <= look->rows || trial.terse == CTL_WITHOUT_BLANKS) {
            ctl_print_text(to, look->colour, CTL_BOLD, ctl_string(channel, "name"));
            if (lines < all)
                fprintf(to, " (%zu lines that say least have no room here)", all - lines);
            fprintf(to, "\n%s", text);
            free(text);
            return;
        }
        free(text);
    }
}
