/* SPDX-License-Identifier: MIT */
/* Turns a wait status and last words into an obituary: kept for `crashes`, logged once. Called when
 * a child has been waited for. The last words were written by a dying process: every number in them
 * is bounded and every text is ended before anybody looks at it. */
#include "supervisor/child/obituary.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/death.h"
#include "common/journal.h"
#include "common/log.h"

#define WORK_MAX 65536 /* datagrams; no consumer takes so many in one step */

/* kill(2), tgkill(2) or sigqueue(3) by another process: no fault of the worker's own. */
static bool was_sent(const struct obituary *obituary)
{
    const struct last_words *words = &obituary->words;
    return obituary->has_words && words->signal == obituary->signal && words->code <= 0 &&
           words->sender != (uint32_t)obituary->pid;
}

static enum death_cause cause_of(const struct obituary *obituary, const struct death *death)
{
    if (death->hung_thread)
        return DEATH_HANG;
    if (death->end->si_code == CLD_EXITED)
        return DEATH_EXIT;
    if (was_sent(obituary))
        return DEATH_KILLED;
    switch (death->end->si_status) {
    case SIGKILL:
    case SIGTERM:
    case SIGINT:
    case SIGHUP:
    case SIGQUIT:
    case SIGPIPE:
    case SIGXCPU:
        return DEATH_KILLED;
    default:
        return DEATH_CRASH;
    }
}

static void make_printable(char *text, size_t size)
{
    text[size - 1] = '\0';
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            *text = '?';
}

/* state: 1 = it died while writing them (what is there helps all the same), 2 = complete. */
static bool take_words(struct last_words *from, uint64_t generation, struct last_words *ret)
{
    uint32_t state = atomic_load_explicit(&from->state, memory_order_acquire);
    if (state != 1 && state != 2)
        return false;
    memcpy(ret, from, sizeof *ret);
    atomic_store_explicit(&from->state, 0, memory_order_release);
    if (ret->generation != generation) {
        memset(ret, 0, sizeof *ret); /* of nobody whom we know, and unchecked */
        return false;
    }
    if (ret->frame_count > LAST_WORDS_FRAMES)
        ret->frame_count = LAST_WORDS_FRAMES;
    if (ret->thread >= CHANNEL_THREAD_COUNT)
        ret->thread = CHANNEL_THREAD_CONTROL;
    for (uint32_t i = 0; i < LAST_WORDS_FRAMES; i++)
        make_printable(ret->frame_names[i], sizeof ret->frame_names[i]);
    make_printable(ret->text, sizeof ret->text);
    return true;
}

static void take_work(const struct channel_page *page, struct obituary *obituary)
{
    static const enum channel_thread thread_of[CONSUMER_COUNT] = {
        [CONSUMER_RELAY] = CHANNEL_THREAD_RECEIVER,
        [CONSUMER_RECORD] = CHANNEL_THREAD_RECORDER,
        [CONSUMER_DECIMATE] = CHANNEL_THREAD_DECIMATOR};
    for (int i = 0; i < CONSUMER_COUNT; i++) {
        const struct thread_beat *beat = &page->private.beats[thread_of[i]];
        uint64_t first = atomic_load_explicit(&beat->work_first, memory_order_relaxed);
        uint64_t work_end = atomic_load_explicit(&beat->work_end, memory_order_relaxed);
        if (first >= work_end || work_end - first > WORK_MAX || work_end > INT64_MAX)
            continue; /* none, or scribbled over */
        obituary->work_first[i] = first;
        obituary->work_end[i] = work_end;
    }
}

struct obituary *obituary_write(struct obituary_list *list, struct last_words *words,
                                struct channel_page *page, const struct death *death)
{
    bool exited = death->end->si_code == CLD_EXITED;
    struct obituary **place = &list->entries[list->next % OBITUARIES_KEPT];
    struct obituary *obituary = calloc(1, sizeof *obituary);
    if (!obituary)
        return NULL;
    free(*place);
    *place = obituary;
    list->next++;

    obituary->generation = death->generation;
    obituary->pid = death->pid;
    obituary->time_ns = realtime_now_ns();
    obituary->seen = monotonic_now();
    obituary->lived_ns = monotonic_since(obituary->seen, death->assigned);
    obituary->exit_status = exited ? death->end->si_status : -1;
    obituary->signal = exited ? 0 : death->end->si_status;
    if (death->hung_thread)
        snprintf(obituary->hung_thread, sizeof obituary->hung_thread, "%s", death->hung_thread);
    if (words)
        obituary->has_words = take_words(words, death->generation, &obituary->words);
    if (page)
        take_work(page, obituary);
    obituary->cause = cause_of(obituary, death);
    return obituary;
}

enum channel_thread obituary_thread(const struct obituary *obituary)
{
    if (obituary->cause == DEATH_CRASH && obituary->has_words)
        return (enum channel_thread)obituary->words.thread;
    for (int i = 0; obituary->cause == DEATH_HANG && i < CHANNEL_THREAD_COUNT; i++)
        if (strcmp(obituary->hung_thread, channel_thread_names[i]) == 0)
            return (enum channel_thread)i;
    return CHANNEL_THREAD_COUNT;
}

struct obituary *obituary_newest(const struct obituary_list *list)
{
    return list->next ? list->entries[(list->next - 1) % OBITUARIES_KEPT] : NULL;
}

void obituary_add(struct obituary_list *list, const struct obituary *obituary)
{
    struct obituary **entry = &list->entries[list->next % OBITUARIES_KEPT];
    struct obituary *copy = malloc(sizeof *copy);
    if (!copy)
        return;
    *copy = *obituary;
    free(*entry);
    *entry = copy;
    list->next++;
}

const struct obituary *obituary_by_age(const struct obituary_list *list, uint64_t i)
{
    uint64_t count = list->next < OBITUARIES_KEPT ? list->next : OBITUARIES_KEPT;
    return i < count ? list->entries[(list->next - count + i) % OBITUARIES_KEPT] : NULL;
}

void obituary_note_takeover(struct obituary_list *list, monotonic now)
{
    for (uint64_t i = list->next; i > 0 && list->next - i < OBITUARIES_KEPT; i--) {
        struct obituary *obituary = list->entries[(i - 1) % OBITUARIES_KEPT];
        if (!obituary || obituary->takeover_ns)
            return;
        obituary->takeover_ns = monotonic_since(now, obituary->seen);
    }
}

void obituary_list_free(struct obituary_list *list)
{
    for (size_t i = 0; i < OBITUARIES_KEPT; i++)
        free(list->entries[i]);
    *list = (struct obituary_list){0};
}

/* ---- telling it ---- */

struct text {
    char *at;
    size_t left;
};

static void __attribute__((format(printf, 2, 3))) append(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text->at, text->left, format, arguments);
    va_end(arguments);
    size_t used = length < 0 ? 0 : (size_t)length < text->left ? (size_t)length : text->left - 1;
    text->at += used;
    text->left -= used;
}

static void describe_backtrace(const struct last_words *words, char *ret_text, size_t size)
{
    struct text text = {ret_text, size};
    ret_text[0] = '\0';
    for (uint32_t i = 0; i < words->frame_count; i++) {
        append(&text, "%s", i ? " < " : "");
        if (words->frame_names[i][0])
            append(&text, "%s", words->frame_names[i]);
        else
            append(&text, "0x%llx", (unsigned long long)words->frames[i]);
    }
}

/* channel NULL: of the gate, whose threads have no names here. */
static void describe(const char *channel, const struct obituary *obituary, const char *backtrace,
                     struct text *text)
{
    const struct last_words *words = &obituary->words;
    static const char *const consumers[CONSUMER_COUNT] = {"relaying", "recording", "decimating"};
    char signal[SIGNAL_NAME_SIZE];

    if (channel)
        append(text, "channel %s: worker", channel);
    else
        append(text, "gate");
    append(text, " %d (generation %llu) died: %s", (int)obituary->pid,
           (unsigned long long)obituary->generation, death_cause_text(obituary->cause));
    if (obituary->signal)
        append(text, ", %s", signal_name(obituary->signal, signal));
    else
        append(text, ", status %d", obituary->exit_status);
    append(text, ", after %.3f s", (double)obituary->lived_ns / 1e9);
    if (obituary->hung_thread[0])
        append(text, "; its %s gave no sign of life", obituary->hung_thread);
    for (int i = 0; i < CONSUMER_COUNT; i++)
        if (obituary->work_first[i] < obituary->work_end[i])
            append(text, "; %s %llu..%llu", consumers[i],
                   (unsigned long long)obituary->work_first[i],
                   (unsigned long long)obituary->work_end[i] - 1);
    if (!obituary->has_words)
        return;
    if (channel)
        append(text, "; thread %s", channel_thread_names[words->thread]);
    if (words->code > 0)
        append(text, ", address 0x%llx", (unsigned long long)words->address);
    else if (obituary->cause == DEATH_KILLED)
        append(text, ", signal sent by process %u", words->sender);
    if (words->text[0])
        append(text, "; %s", words->text);
    if (backtrace[0])
        append(text, "; %s", backtrace);
}

void obituary_log(const char *channel, const struct obituary *obituary)
{
    char message[900], backtrace[600];
    struct text text = {message, sizeof message};
    const struct last_words *words = &obituary->words;

    backtrace[0] = '\0';
    if (obituary->has_words)
        describe_backtrace(words, backtrace, sizeof backtrace);
    describe(channel, obituary, backtrace, &text);

    struct journal_entry entry;
    journal_begin(&entry, LOG_LEVEL_ERROR, message);
    if (channel)
        journal_add(&entry, "HOLDFAST_CHANNEL", "%s", channel);
    journal_add(&entry, "HOLDFAST_GENERATION", "%llu", (unsigned long long)obituary->generation);
    journal_add(&entry, "HOLDFAST_WORKER_PID", "%d", (int)obituary->pid);
    journal_add(&entry, "HOLDFAST_CAUSE", "%s", death_cause_text(obituary->cause));
    journal_add(&entry, "HOLDFAST_SIGNAL", "%d", obituary->signal);
    journal_add(&entry, "HOLDFAST_EXIT_STATUS", "%d", obituary->exit_status);
    journal_add(&entry, "HOLDFAST_LIVED_MS", "%llu",
                (unsigned long long)(obituary->lived_ns / NS_PER_MS));
    if (obituary->has_words) {
        if (channel)
            journal_add(&entry, "HOLDFAST_THREAD", "%s", channel_thread_names[words->thread]);
        journal_add(&entry, "HOLDFAST_ADDRESS", "0x%llx", (unsigned long long)words->address);
        journal_add(&entry, "HOLDFAST_BACKTRACE", "%s", backtrace);
        journal_add(&entry, "HOLDFAST_TEXT", "%s", words->text);
    }
    if (!log_entry(&entry))
        log_error("%s", message);
}
