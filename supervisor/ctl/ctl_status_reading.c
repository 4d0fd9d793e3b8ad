/* SPDX-License-Identifier: MIT */
/* What readers asked for, and how long it took. Called by ctl_status_list.c. Must never say more
 * than it says there are lines. */
#include "supervisor/ctl/ctl_status_reading.h"

#include "supervisor/ctl/ctl_text.h"

static const struct {
    const char *name, *text;
    bool always; /* where there are any; else only where all is asked for */
} kinds[] = {{"fd", "files by descriptor", true},
             {"copy", "files by copy", true},
             {"splice", "files by splice", true},
             {"other", "other requests", false}};

static void print_durations(FILE *to, const json_t *durations)
{
    static const struct {
        const char *member, *name;
    } parts[] = {{"p50_s", "p50"}, {"p99_s", "p99"}, {"p999_s", "p99.9"}, {"max_s", "max"}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char text[CTL_TEXT_SIZE];
        ctl_format_seconds(ctl_number(durations, parts[i].member), text);
        fprintf(to, ", %s %s", parts[i].name, text);
    }
    fputc('\n', to);
}

static size_t print_kind(FILE *to, const json_t *durations, const char *what)
{
    char count[CTL_TEXT_SIZE], bytes[CTL_TEXT_SIZE];
    if (ctl_count(durations, "count") == 0)
        return 0;
    ctl_format_count(ctl_count(durations, "count"), count);
    ctl_format_bytes(ctl_number(durations, "bytes"), bytes);
    fprintf(to, "%s: %s", what, count);
    if (json_object_get(durations, "bytes"))
        fprintf(to, ", %s", bytes);
    print_durations(to, durations);
    return 1;
}

static size_t print_queue(FILE *to, const json_t *read)
{
    const json_t *counters = json_object_get(read, "counters");
    const json_t *wait = json_object_get(read, "queue_wait");
    if (ctl_count(counters, "threads") == 0)
        return 0;
    fprintf(to, "threads: %llu of %llu at work, %llu requests wait (at most %llu of %llu)",
            (unsigned long long)ctl_count(counters, "threads_busy"),
            (unsigned long long)ctl_count(counters, "threads"),
            (unsigned long long)ctl_count(counters, "queued"),
            (unsigned long long)ctl_count(counters, "queued_most"),
            (unsigned long long)ctl_count(json_object_get(read, "limits"), "queue"));
    print_durations(to, wait);
    return 1;
}

static size_t print_connections(FILE *to, const json_t *read)
{
    const json_t *counters = json_object_get(read, "counters");
    if (ctl_count(counters, "accepted") == 0)
        return 0;
    fprintf(to,
            "connections: %llu of %llu, %llu since the gate began, %.1f requests for each, %llu "
            "of one that is open; %llu files are remembered, %llu files went out by that\n",
            (unsigned long long)ctl_count(counters, "connections"),
            (unsigned long long)ctl_count(counters, "connections_most"),
            (unsigned long long)ctl_count(counters, "accepted"),
            ctl_number(counters, "requests") / ctl_number(counters, "accepted"),
            (unsigned long long)ctl_count(counters, "most_requests"),
            (unsigned long long)ctl_count(counters, "hot_files"),
            (unsigned long long)ctl_count(counters, "objects_at_once"));
    return 1;
}

size_t ctl_print_reading(FILE *to, const json_t *read, bool all)
{
    const json_t *requests = json_object_get(read, "requests");
    size_t lines = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (all || kinds[i].always)
            lines += print_kind(to, json_object_get(requests, kinds[i].name), kinds[i].text);
    if (all)
        lines += print_queue(to, read) + print_connections(to, read);
    return lines;
}
