/* SPDX-License-Identifier: MIT */
/* `crashes` for people: each death with its last words and what the takeover cost, newest first. */
#include "supervisor/ctl/ctl_crashes.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "supervisor/ctl/ctl_client.h"
#include "supervisor/ctl/ctl_text.h"
#include "supervisor/ctl/ctl_window.h"

void ctl_report_end(FILE *to, const json_t *death)
{
    const char *signal = ctl_string(death, "signal");
    const json_t *status = json_object_get(death, "exit_status");
    ctl_print_text(to, false, CTL_PLAIN, ctl_string(death, "cause"));
    if (signal[0]) {
        fputs(", ", to);
        ctl_print_text(to, false, CTL_PLAIN, signal);
    } else if (json_is_integer(status)) {
        fprintf(to, ", status %d", (int)json_integer_value(status));
    }
}

static void print_time(FILE *to, double when)
{
    char text[64];
    struct tm local;
    time_t seconds = when > 0 && when < 1e11 ? (time_t)when : 0;
    localtime_r(&seconds, &local);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %z", &local);
    fputs(text, to);
}

static void print_field(FILE *to, const char *label, const char *text)
{
    if (!text[0])
        return;
    fprintf(to, "  %-10s  ", label);
    ctl_print_text(to, false, CTL_PLAIN, text);
    fputc('\n', to);
}

static void print_work(FILE *to, const json_t *work)
{
    static const char *const consumers[] = {"relay", "record", "decimate"};
    for (size_t i = 0; i < sizeof consumers / sizeof consumers[0]; i++) {
        const json_t *range = json_object_get(work, consumers[i]);
        unsigned long long first = ctl_count(range, "first"), last = ctl_count(range, "end") - 1;
        if (!json_is_object(range))
            continue;
        fprintf(to, "  %-10s  %s was at seq %llu", "in work", consumers[i], first);
        fprintf(to, last > first ? " to %llu\n" : "\n", last);
    }
}

static bool is_of_gate(const json_t *crash)
{
    return strcmp(ctl_string(crash, "process"), "gate") == 0;
}

static void print_takeover(FILE *to, const json_t *crash)
{
    const json_t *takeover = json_object_get(crash, "takeover_ms");
    char waited[CTL_TEXT_SIZE], dropped[CTL_TEXT_SIZE];
    if (!json_is_number(takeover)) {
        fprintf(to, "  %-10s  no successor has taken over yet\n", "takeover");
        return;
    }
    if (is_of_gate(crash)) {
        fprintf(to, "  %-10s  after %.2f ms; readers connect again by themselves\n", "takeover",
                json_number_value(takeover));
        return;
    }
    ctl_format_count(ctl_count(crash, "waited"), waited);
    ctl_format_count(ctl_count(crash, "kernel_dropped"), dropped);
    fprintf(
        to,
        "  %-10s  after %.2f ms; %s datagram%s waited meanwhile, %s%s were dropped by the kernel\n",
        "takeover", json_number_value(takeover), waited, ctl_count(crash, "waited") == 1 ? "" : "s",
        ctl_count(crash, "kernel_dropped") > 0 ? "at least " : "", dropped);
}

static void print_frames(FILE *to, const json_t *frames)
{
    for (size_t i = 0; i < json_array_size(frames); i++) {
        const json_t *frame = json_array_get(frames, i);
        const char *name = ctl_string(frame, "name");
        fprintf(to, "  %-10s  #%zu ", i == 0 ? "frames" : "", i);
        ctl_print_text(to, false, CTL_PLAIN, ctl_string(frame, "address"));
        fputc(name[0] ? ' ' : '\n', to);
        if (!name[0])
            continue;
        ctl_print_text(to, false, CTL_PLAIN, name);
        fputc('\n', to);
    }
}

static void print_crash(FILE *to, const json_t *crash, bool colour)
{
    char age[CTL_TEXT_SIZE], lived[CTL_TEXT_SIZE];
    const json_t *sender = json_object_get(crash, "sent_by");
    ctl_format_seconds(ctl_number(crash, "age_s"), age);
    ctl_format_seconds(ctl_number(crash, "lived_s"), lived);
    ctl_print_text(to, colour, CTL_BOLD, is_of_gate(crash) ? "gate" : ctl_string(crash, "channel"));
    fputs(": ", to);
    ctl_report_end(to, crash);
    fprintf(to, ", pid %llu, generation %llu\n", (unsigned long long)ctl_count(crash, "pid"),
            (unsigned long long)ctl_count(crash, "generation"));
    fprintf(to, "  %-10s  ", "when");
    print_time(to, ctl_number(crash, "time"));
    fprintf(to, ", %s ago; it had lived %s\n", age, lived);
    print_field(to, "hung", ctl_string(crash, "hung_thread"));
    print_field(to, "thread", ctl_string(crash, "thread"));
    print_field(to, "said", ctl_string(crash, "text"));
    print_field(to, "address", ctl_string(crash, "address"));
    if (json_is_integer(sender) &&
        json_integer_value(sender) != (json_int_t)ctl_count(crash, "pid"))
        fprintf(to, "  %-10s  by process %llu\n", "sent",
                (unsigned long long)ctl_count(crash, "sent_by"));
    print_work(to, json_object_get(crash, "work"));
    print_takeover(to, crash);
    print_frames(to, json_object_get(crash, "frames"));
}

void ctl_report_crashes(FILE *to, const json_t *crashes, bool colour)
{
    const json_t *list = json_object_get(crashes, "crashes");
    uint64_t omitted = ctl_count(crashes, "omitted");
    if (json_array_size(list) == 0)
        fputs("no worker has died, nor the gate\n", to);
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (i > 0)
            fputc('\n', to);
        print_crash(to, json_array_get(list, i), colour);
    }
    if (omitted)
        fprintf(
            to,
            "\n%llu older ones are not shown: 'holdfastctl crashes CHANNEL' shows one channel's\n",
            (unsigned long long)omitted);
}

int ctl_crashes(const struct ctl_options *options, const char *channel)
{
    json_t *result = NULL;
    int status = ctl_ask(options, "crashes", channel, &result);
    if (status == CTL_OK && options->json) {
        ctl_print_json(result);
    } else if (status == CTL_OK) {
        struct ctl_look look;
        ctl_report_crashes(ctl_window_text(&look), result, options->colour);
        ctl_window_print();
    }
    json_decref(result);
    return status;
}
