/* SPDX-License-Identifier: MIT */
/* Sends recorded datagrams when they are due. Called by main.c. Every deadline is computed from an
 * anchor, on one clock, and waited for as a moment, never as a length of time: so no error adds up.
 * Reading is another thread's work (ctl_replay_queue.c). */
#include "supervisor/ctl/ctl_replay.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/monotonic.h"
#include "common/units.h"
#include "supervisor/ctl/ctl_lateness.h"
#include "supervisor/ctl/ctl_replay_keys.h"
#include "supervisor/ctl/ctl_replay_options.h"
#include "supervisor/ctl/ctl_replay_queue.h"
#include "supervisor/ctl/ctl_replay_socket.h"
#include "supervisor/ctl/ctl_source.h"
#include "supervisor/ctl/ctl_stop.h"
#include "supervisor/ctl/ctl_stream.h"
#include "supervisor/ctl/ctl_text.h"
#include "supervisor/ctl/ctl_time.h"
#include "supervisor/ctl/ctl_wake.h"

#define LOOK_EVERY_NS   ((int64_t)(20 * NS_PER_MS)) /* at keys, while it sends */
#define TELL_EVERY_NS   ((int64_t)(NS_PER_S / 4))
#define LONG_SILENCE_NS ((int64_t)(2 * NS_PER_S))
#define SEEK_NS         ((int64_t)(10 * NS_PER_S))
#define RATE_STEP       1.25

struct replay {
    const struct ctl_command *command;
    struct ctl_replay_options options;
    struct ctl_sources sources;
    struct ctl_streams streams;
    struct ctl_replay_queue queue;
    struct ctl_replay_socket socket;
    struct ctl_replay_entry next; /* the one that is to be sent next */
    struct hf_pace pace;
    bool is_anchored; /* the next datagram goes on from the one before */
    bool is_paused;
    double rate;          /* also while it is paused */
    int64_t before_ns;    /* of the recording, of the datagram before */
    int64_t before_due;   /* when it was due */
    bool has_keys, tells; /* on a terminal */
    int64_t next_look, next_tell;
    uint64_t sent, bytes;
    uint64_t cut; /* of those that were sent */
    int64_t begun, ended;
    struct ctl_lateness lateness;
    struct ctl_wake wake;
};

static int64_t now_ns(void)
{
    return (int64_t)monotonic_now().ns;
}

/* ---- what a terminal shows ---- */

static void clear_line(const struct replay *replay)
{
    if (replay->tells)
        fputs("\r\033[K", stderr);
}

static void tell(struct replay *replay, int64_t now, int64_t due)
{
    char moment[CTL_TIME_TEXT_SIZE], sent[CTL_TEXT_SIZE], wait[CTL_TEXT_SIZE];
    if (!replay->tells || now < replay->next_tell)
        return;
    replay->next_tell = now + TELL_EVERY_NS;
    ctl_format_count(replay->sent, sent);
    ctl_time_print_local(replay->next.time_ns, moment);
    moment[19] = '\0'; /* whole seconds */
    clear_line(replay);
    if (replay->is_paused) {
        fprintf(stderr, "%s  paused, %s sent", moment, sent);
    } else if (due - now > LONG_SILENCE_NS) {
        ctl_format_seconds((double)(due - now) / 1e9, wait);
        fprintf(stderr, "%s sent; the next one is of %s, in %s", sent, moment, wait);
    } else if (replay->options.at_once) {
        fprintf(stderr, "%s  %s sent", moment, sent);
    } else {
        fprintf(stderr, "%s  rate %.4g, %s sent", moment, replay->rate, sent);
    }
    fflush(stderr);
}

/* ---- time ---- */

/* When the next datagram is to be sent. */
static int64_t due_of(const struct replay *replay, int64_t now)
{
    if (replay->is_paused)
        return INT64_MAX;
    return replay->options.at_once ? now : hf_pace_due(&replay->pace, replay->next.time_ns);
}

/* The next datagram goes on from the one before; where the recording's clock was set back, or a
 * silence is to be shorter, from a new anchor. */
static void place_next(struct replay *replay, int64_t now)
{
    const int64_t time_ns = replay->next.time_ns;
    const double rate = replay->is_paused ? 0 : replay->rate;
    const double silence = (double)(time_ns - replay->before_ns) / replay->rate;
    if (!replay->is_anchored)
        hf_pace_start(&replay->pace, time_ns, now, rate);
    else if (time_ns < replay->before_ns)
        hf_pace_start(&replay->pace, time_ns, replay->before_due, rate);
    else if (silence > (double)replay->options.silence_ns)
        hf_pace_start(&replay->pace, time_ns, replay->before_due + replay->options.silence_ns,
                      rate);
    replay->is_anchored = true;
}

static void set_rate(struct replay *replay, double rate)
{
    replay->rate = rate < CTL_REPLAY_RATE_LEAST  ? CTL_REPLAY_RATE_LEAST
                   : rate > CTL_REPLAY_RATE_MOST ? CTL_REPLAY_RATE_MOST
                                                 : rate;
    if (!replay->is_paused)
        hf_pace_change(&replay->pace, now_ns(), replay->rate);
}

/* Where in the recording it is just now: between two datagrams, maybe. */
static int64_t place_in_recording(const struct replay *replay)
{
    const struct hf_pace *pace = &replay->pace;
    if (replay->options.at_once)
        return replay->next.time_ns;
    const double passed = (double)(now_ns() - pace->mono_ns) * pace->rate;
    const int64_t at = pace->log_ns + (int64_t)passed;
    return at < replay->next.time_ns ? at : replay->next.time_ns;
}

/* ---- waiting ---- */

enum outcome {
    SEND,
    PASS_OVER, /* it is elsewhere now */
    END,
};

static enum outcome take_key(struct replay *replay, enum ctl_key key)
{
    replay->next_tell = 0;
    switch (key) {
    case CTL_KEY_PAUSE:
        replay->is_paused = !replay->is_paused;
        hf_pace_change(&replay->pace, now_ns(), replay->is_paused ? 0 : replay->rate);
        return SEND;
    case CTL_KEY_FASTER:
        set_rate(replay, replay->rate * RATE_STEP);
        return SEND;
    case CTL_KEY_SLOWER:
        set_rate(replay, replay->rate / RATE_STEP);
        return SEND;
    case CTL_KEY_BACK:
    case CTL_KEY_FORWARD:
        ctl_replay_queue_seek(&replay->queue, place_in_recording(replay) +
                                                  (key == CTL_KEY_BACK ? -SEEK_NS : SEEK_NS));
        replay->is_anchored = false;
        return PASS_OVER;
    case CTL_KEY_END:
        return END;
    case CTL_KEY_NONE:
        return SEND;
    }
    return SEND;
}

/* Keys, and signals that ask for the end. */
static enum outcome look(struct replay *replay, int64_t now)
{
    enum outcome outcome = SEND;
    enum ctl_key key;
    if (ctl_stop_is_asked())
        return END;
    if (now < replay->next_look)
        return SEND;
    replay->next_look = now + LOOK_EVERY_NS;
    while (replay->has_keys && outcome == SEND && (key = ctl_keys_take()) != CTL_KEY_NONE)
        outcome = take_key(replay, key);
    return outcome;
}

/* A part of the time until then, at the end all of it. */
static void wait_for(struct replay *replay, int64_t now, int64_t due)
{
    const int64_t left = due - now;
    if (left > 2 * LOOK_EVERY_NS) {
        struct pollfd keys = {replay->has_keys ? STDIN_FILENO : -1, POLLIN, 0};
        const int64_t most =
            left - LOOK_EVERY_NS < TELL_EVERY_NS ? left - LOOK_EVERY_NS : TELL_EVERY_NS;
        ctl_stop_poll(&keys, 1, (int)(most / (int64_t)NS_PER_MS));
        replay->next_look = 0;
        return;
    }
    ctl_wake_at(&replay->wake, due);
}

static enum outcome wait_until_due(struct replay *replay, int64_t *ret_due)
{
    for (;;) {
        int64_t now = now_ns();
        enum outcome outcome = look(replay, now);
        if (outcome != SEND)
            return outcome;
        *ret_due = due_of(replay, now);
        tell(replay, now, *ret_due);
        if (*ret_due <= now)
            return SEND;
        wait_for(replay, now, *ret_due);
    }
}

/* ---- sending ---- */

static void send_next(struct replay *replay, int64_t due)
{
    const struct ctl_replay_entry *next = &replay->next;
    const uint64_t errors = replay->socket.errors;
    if (!replay->options.at_once)
        ctl_lateness_add(&replay->lateness, (uint64_t)(now_ns() - due));
    int result = ctl_replay_socket_send(&replay->socket, next->payload, next->length);
    if (result == 0) {
        replay->sent++;
        replay->cut += next->was_cut;
        replay->bytes += next->length;
    } else if (errors == 0) {
        clear_line(replay);
        ctl_complain("number %" PRIu64 ", %" PRIu32 " bytes, could not be sent to %s: %s",
                     next->seq, next->length, replay->options.where_to, strerror(-result));
    }
    replay->before_ns = next->time_ns;
    replay->before_due = due;
}

static void run(struct replay *replay)
{
    enum outcome outcome = SEND;
    replay->begun = now_ns();
    while (outcome != END) {
        int64_t due = 0;
        ctl_replay_queue_take(&replay->queue, 100, &replay->next);
        switch (replay->next.kind) {
        case CTL_REPLAY_DATAGRAM:
            place_next(replay, now_ns());
            outcome = wait_until_due(replay, &due);
            if (outcome == SEND)
                send_next(replay, due);
            break;
        case CTL_REPLAY_BEGIN:
            replay->is_anchored = false;
            if (ctl_stop_is_asked())
                outcome = END;
            break;
        case CTL_REPLAY_END:
            outcome = END;
            break;
        case CTL_REPLAY_NONE:
            if (ctl_stop_is_asked())
                outcome = END;
            break;
        }
    }
    replay->ended = now_ns();
    clear_line(replay);
}

/* ---- what came of it ---- */

static void print_json(const struct replay *replay)
{
    const struct ctl_lateness *lateness = &replay->lateness;
    json_t *object =
        json_pack("{s:I,s:I,s:I,s:f,s:I,s:o}", "datagrams", (json_int_t)replay->sent, "cut",
                  (json_int_t)replay->cut, "payload_bytes", (json_int_t)replay->bytes, "duration_s",
                  (double)(replay->ended - replay->begun) / 1e9, "send_errors",
                  (json_int_t)replay->socket.errors, "first_error",
                  replay->socket.first_error ? json_string(strerror(-replay->socket.first_error))
                                             : json_null());
    json_object_set_new(object, "lateness_ns",
                        lateness->count == 0
                            ? json_null()
                            : json_pack("{s:I,s:I,s:I}", "p50",
                                        (json_int_t)ctl_lateness_quantile(lateness, 500), "p99",
                                        (json_int_t)ctl_lateness_quantile(lateness, 990), "max",
                                        (json_int_t)lateness->most_ns));
    ctl_print_json(object);
    json_decref(object);
}

static void print(const struct replay *replay)
{
    const struct ctl_lateness *lateness = &replay->lateness;
    char count[CTL_TEXT_SIZE], bytes[CTL_TEXT_SIZE], duration[CTL_TEXT_SIZE];
    ctl_format_count(replay->sent, count);
    ctl_format_bytes((double)replay->bytes, bytes);
    ctl_format_seconds((double)(replay->ended - replay->begun) / 1e9, duration);
    printf("sent %s datagrams, %s of payload, in %s\n", count, bytes, duration);
    if (lateness->count > 0)
        printf("late by %.1f us (p50), %.1f us (p99), %.1f us (max)\n",
               (double)ctl_lateness_quantile(lateness, 500) / 1e3,
               (double)ctl_lateness_quantile(lateness, 990) / 1e3, (double)lateness->most_ns / 1e3);
    if (replay->cut)
        printf("%" PRIu64
               " of them are shorter than what was sent once: they were cut when they were "
               "received\n",
               replay->cut);
    if (replay->socket.errors)
        printf("not sent: %" PRIu64 ", the first one: %s\n", replay->socket.errors,
               strerror(-replay->socket.first_error));
}

/* Another one would receive it as if it were new, and record it once more. */
static void warn_of_itself(const struct replay *replay)
{
    for (size_t i = 0; i < replay->sources.count; i++) {
        const struct ctl_source *source = &replay->sources.list[i];
        if (!source->is_files && strcmp(source->info.listen, replay->options.where_to) == 0)
            ctl_complain("warning: %s is where channel %s itself receives: it relays and records "
                         "all of this again, as of now",
                         replay->options.where_to, source->info.name);
    }
}

static int open_all(struct replay *replay)
{
    const char *what;
    const struct ctl_streams_setup setup = {.sources = &replay->sources,
                                            .range = &replay->options.bounds};
    int result = ctl_replay_socket_open(&replay->socket, &replay->options.target, &what);
    if (result < 0) {
        ctl_complain("can't send to %s: %s: %s", replay->options.where_to, what, strerror(-result));
        return CTL_NO;
    }
    int status = ctl_sources_open(&replay->sources, replay->command);
    if (status == CTL_OK)
        warn_of_itself(replay);
    if (status == CTL_OK)
        status = ctl_streams_open(&replay->streams, &setup);
    if (status != CTL_OK)
        return status;
    result = ctl_replay_queue_begin(&replay->queue, &replay->streams, replay->options.loops);
    if (result == 0)
        return CTL_OK;
    ctl_complain("reading ahead can't be begun: %s", strerror(-result));
    return CTL_NO;
}

static int play(struct replay *replay)
{
    replay->rate = replay->options.rate;
    /* Else the kernel may join our deadlines with others that are near. */
    prctl(PR_SET_TIMERSLACK, 1UL);
    ctl_wake_begin(&replay->wake);
    replay->has_keys = ctl_keys_begin();
    replay->tells = isatty(STDERR_FILENO) != 0;
    run(replay);
    ctl_keys_end();
    ctl_replay_queue_end(&replay->queue); /* from here on the streams are ours */
    if (replay->sent == 0 && replay->socket.errors == 0 && !ctl_stop_is_asked())
        ctl_streams_tell_nothing(&replay->streams);
    if (replay->command->options.json)
        print_json(replay);
    else
        print(replay);
    return replay->socket.errors || replay->streams.failed ? CTL_NO : CTL_OK;
}

int ctl_replay(const struct ctl_command *command)
{
    struct replay *replay = calloc(1, sizeof *replay);
    if (!replay) {
        ctl_complain("memory is short");
        return CTL_NO;
    }
    replay->command = command;
    replay->socket.fd = -1;
    int status = ctl_replay_options_parse(command, &replay->options);
    if (status == CTL_OK) {
        ctl_stop_begin();
        status = open_all(replay);
        if (status == CTL_OK)
            status = play(replay);
        ctl_replay_queue_end(&replay->queue);
        ctl_streams_close(&replay->streams);
        ctl_sources_close(&replay->sources);
        ctl_replay_socket_close(&replay->socket);
    }
    free(replay);
    return status;
}
