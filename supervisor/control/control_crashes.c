/* SPDX-License-Identifier: MIT */
/* Obituaries as JSON, for `crashes` and for the last death in `status`. Called by control_verbs.c
 * and control_status.c. Reads the supervisor's own copies only, never shared memory. */
#include "supervisor/control/control_crashes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/channel_page.h"
#include "common/control_protocol.h"
#include "common/death.h"
#include "supervisor/control/control_json.h"

/* Of all channels together: a thousand channels' whole histories would keep the loop busy for too
 * long. */
#define CRASHES_OF_ALL_MAX 256

static json_t *signal_text(int signal)
{
    char name[SIGNAL_NAME_SIZE];
    return signal ? json_string(signal_name(signal, name)) : json_null();
}

/* What is said of every death, in short and in full. */
static json_t *death(const struct obituary *obituary, monotonic now)
{
    json_t *report = json_object();
    json_object_set_new(report, "time", control_json_seconds(obituary->time_ns));
    json_object_set_new(report, "age_s",
                        control_json_seconds(monotonic_since(now, obituary->seen)));
    json_object_set_new(report, "cause", json_string(death_cause_name(obituary->cause)));
    json_object_set_new(report, "signal", signal_text(obituary->signal));
    json_object_set_new(report, "exit_status",
                        obituary->exit_status < 0 ? json_null()
                                                  : json_integer(obituary->exit_status));
    control_json_set_number(report, "generation", obituary->generation);
    return report;
}

/* ---- last words ---- */

static json_t *frames(const struct last_words *words)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < words->frame_count && i < LAST_WORDS_FRAMES; i++) {
        char name[LAST_WORDS_NAME + 1], address[24];
        snprintf(name, sizeof name, "%.*s", (int)sizeof words->frame_names[i],
                 words->frame_names[i]);
        snprintf(address, sizeof address, "0x%" PRIx64, words->frames[i]);
        json_array_append_new(
            list, json_pack("{s:s, s:o}", "address", address, "name", control_text(name)));
    }
    return list;
}

static void add_words(json_t *report, const struct last_words *words)
{
    char text[LAST_WORDS_TEXT + 1], address[24];
    snprintf(text, sizeof text, "%.*s", (int)sizeof words->text, words->text);
    snprintf(address, sizeof address, "0x%" PRIx64, words->address);
    json_object_set_new(report, "thread",
                        words->thread < CHANNEL_THREAD_COUNT
                            ? json_string(channel_thread_names[words->thread])
                            : json_null());
    /* A signal that was sent has no address but a sender. */
    json_object_set_new(report, "address", words->code > 0 ? json_string(address) : json_null());
    json_object_set_new(report, "sent_by",
                        words->code <= 0 && words->sender ? json_integer(words->sender)
                                                          : json_null());
    json_object_set_new(report, "text", control_text(text));
    json_object_set_new(report, "frames", frames(words));
}

static json_t *work(const struct obituary *obituary)
{
    static const char *const names[CONSUMER_COUNT] = {"relay", "record", "decimate"};
    json_t *report = json_object();
    for (int i = 0; i < CONSUMER_COUNT; i++) {
        if (obituary->work_first[i] == obituary->work_end[i])
            continue;
        json_t *range = json_object();
        control_json_set_number(range, "first", obituary->work_first[i]);
        control_json_set_number(range, "end", obituary->work_end[i]);
        json_object_set_new(report, names[i], range);
    }
    return report;
}

/* channel NULL: of the gate. */
static json_t *crash(const struct channel *channel, const struct obituary *obituary, monotonic now)
{
    json_t *report = death(obituary, now);
    json_object_set_new(report, "process", json_string(channel ? "worker" : "gate"));
    json_object_set_new(report, "channel",
                        channel ? json_string(channel->spec->name) : json_null());
    json_object_set_new(report, "pid", json_integer(obituary->pid));
    json_object_set_new(report, "lived_s", control_json_seconds(obituary->lived_ns));
    json_object_set_new(report, "hung_thread",
                        obituary->hung_thread[0] ? control_text(obituary->hung_thread)
                                                 : json_null());
    json_object_set_new(report, "work", work(obituary));
    json_object_set_new(report, "takeover_ms",
                        obituary->takeover_ns ? json_real((double)obituary->takeover_ns / 1e6)
                                              : json_null());
    control_json_set_number(report, "waited", obituary->waited);
    control_json_set_number(report, "kernel_dropped", obituary->kernel_dropped);
    if (obituary->has_words)
        add_words(report, &obituary->words);
    if (!channel) /* its threads have no names */
        json_object_set_new(report, "thread", json_null());
    return report;
}

/* ---- the lists ---- */

/* How many are kept, and the n-th newest (0 = the last one). */
static size_t kept(const struct obituary_list *list)
{
    return list->next < OBITUARIES_KEPT ? (size_t)list->next : OBITUARIES_KEPT;
}

static const struct obituary *newest(const struct obituary_list *list, size_t n)
{
    return list->entries[(list->next - 1 - n) % OBITUARIES_KEPT];
}

json_t *control_crashes_last(const struct obituary_list *list)
{
    const struct obituary *last = kept(list) ? newest(list, 0) : NULL;
    return last ? death(last, monotonic_now()) : json_null();
}

struct entry {
    const struct channel *channel; /* NULL: the gate */
    const struct obituary *obituary;
};

static int newest_first(const void *a, const void *b)
{
    uint64_t seen_a = ((const struct entry *)a)->obituary->seen.ns;
    uint64_t seen_b = ((const struct entry *)b)->obituary->seen.ns;
    return seen_a < seen_b ? 1 : seen_a > seen_b ? -1 : 0;
}

static size_t collect(const struct channel *channel, const struct obituary_list *list,
                      struct entry *ret_entries)
{
    size_t count = 0;
    for (size_t i = 0; i < kept(list); i++) {
        const struct obituary *obituary = newest(list, i);
        if (obituary)
            ret_entries[count++] = (struct entry){channel, obituary};
    }
    return count;
}

json_t *control_crashes(const struct channels *channels, const struct obituary_list *gate,
                        const struct channel *channel)
{
    size_t room = (channel ? 1 : channels->count + 1) * OBITUARIES_KEPT;
    struct entry *entries = calloc(room, sizeof *entries);
    if (!entries)
        return NULL;
    size_t count =
        channel ? collect(channel, &channel->obituaries, entries) : collect(NULL, gate, entries);
    for (size_t i = 0; !channel && i < channels->count; i++)
        count += collect(channels->list[i], &channels->list[i]->obituaries, entries + count);
    qsort(entries, count, sizeof *entries, newest_first);

    size_t shown = count < CRASHES_OF_ALL_MAX ? count : CRASHES_OF_ALL_MAX;
    monotonic now = monotonic_now();
    json_t *list = json_array();
    for (size_t i = 0; i < shown; i++)
        json_array_append_new(list, crash(entries[i].channel, entries[i].obituary, now));
    free(entries);
    return json_pack("{s:o, s:I}", "crashes", list, "omitted", (json_int_t)(count - shown));
}
