/* SPDX-License-Identifier: MIT */
/* Prints datagrams to the standard output, losses to the standard error. Called by main.c. A
 * position must never be kept ahead of what has left this program. */
#include "supervisor/ctl/ctl_cat.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/monotonic.h"
#include "common/position_file.h"
#include "common/read_protocol.h"
#include "supervisor/ctl/ctl_bound.h"
#include "supervisor/ctl/ctl_output.h"
#include "supervisor/ctl/ctl_progress.h"
#include "supervisor/ctl/ctl_source.h"
#include "supervisor/ctl/ctl_stop.h"
#include "supervisor/ctl/ctl_stream.h"
#include "supervisor/ctl/ctl_text.h"

#define LAST_SAVE_NS       (10 * NS_PER_S)
#define LAST_SAVE_AGAIN_MS 200
#define SAVE_EVERY_NS      NS_PER_S
#define TAIL_COUNT         10 /* what -f shows of before, as tail(1) does */

struct cat {
    const struct ctl_command *command;
    struct ctl_bounds range;
    struct ctl_sources sources;
    struct ctl_streams streams;
    struct ctl_output output;
    struct ctl_progress progress;
    uint64_t count, most; /* printed; at most */
    uint64_t tail;        /* following: how many of those before come first */
    monotonic next_save;
    uint64_t saved; /* the position that is on the disk, as far as this program has put it there */
    bool save_failed; /* and that was told */
};

/* ---- the command line ---- */

/* Followed from nowhere in particular, and to no end: it begins with the last ones. */
static bool has_tail(const struct cat *cat)
{
    return cat->command->follow && !cat->command->position &&
           cat->range.from.kind == CTL_BOUND_NONE && cat->range.to.kind == CTL_BOUND_NONE;
}

static int parse(struct cat *cat)
{
    const struct ctl_command *command = cat->command;
    struct ctl_output *output = &cat->output;
    *output = (struct ctl_output){.to = stdout, .for_eyes = isatty(STDOUT_FILENO) != 0};
    cat->most = UINT64_MAX;
    cat->tail = TAIL_COUNT;
    int status = ctl_bounds_parse(command, &cat->range);
    if (status == CTL_OK && command->count)
        status = ctl_parse_number("--count", command->count, UINT64_MAX,
                                  has_tail(cat) ? &cat->tail : &cat->most);
    if (status != CTL_OK)
        return status;
    if (!has_tail(cat))
        cat->tail = UINT64_MAX;
    if (command->output && !ctl_output_find(command->output, &output->format)) {
        ctl_complain("--output %s: there are short, json, csv, hex and raw", command->output);
        return CTL_USAGE;
    }
    if (command->options.json && command->output && output->format != CTL_OUTPUT_JSON) {
        ctl_complain("--json and --output %s are two formats: leave one out", command->output);
        return CTL_USAGE;
    }
    if (command->options.json)
        output->format = CTL_OUTPUT_JSON;
    return CTL_OK;
}

static int check_position(const struct cat *cat)
{
    const char *position = cat->command->position;
    if (!position)
        return CTL_OK;
    if (!position_name_is_valid(position)) {
        ctl_complain("--position %s: a name has letters, digits, '-' and '_', begins with a letter "
                     "or digit, and has at most %d of them",
                     position, READ_POSITION_SIZE - 1);
        return CTL_USAGE;
    }
    if (cat->sources.count != 1) {
        ctl_complain("--position belongs to one channel: name one only");
        return CTL_USAGE;
    }
    return CTL_OK;
}

/* ---- printing ---- */

static const char *why_not_saved(int error)
{
    return error == -EDQUOT   ? "the channel has as many positions as it may have, or the disk's "
                                "quota is used up ('holdfastctl forget' removes a position)"
           : error == -EAGAIN ? "the channel's log is being recovered"
                              : strerror(-error);
}

/* There is no other occasion: recovery is waited for, but not for ever. */
static int save_for_long(const struct ctl_stream *stream)
{
    const monotonic until = monotonic_add(monotonic_now(), LAST_SAVE_NS);
    int result = -EAGAIN;
    while (result == -EAGAIN && monotonic_now().ns < until.ns && !ctl_stop_is_asked()) {
        ctl_stop_poll(NULL, 0, LAST_SAVE_AGAIN_MS);
        result = hf_save(stream->reader, stream->done);
    }
    return result;
}

/* What is written out is done with. */
static int save(struct cat *cat, bool is_last)
{
    const struct ctl_stream *stream = &cat->streams.list[0];
    const monotonic now = monotonic_now();
    if (!cat->command->position || stream->done == cat->saved ||
        (!is_last && now.ns < cat->next_save.ns))
        return CTL_OK;
    if (fflush(stdout) != 0 || ferror(stdout))
        return CTL_NO;
    cat->next_save = monotonic_add(now, SAVE_EVERY_NS);
    int result = hf_save(stream->reader, stream->done);
    if (result == -EAGAIN && is_last)
        result = save_for_long(stream);
    if (result == 0) {
        cat->saved = stream->done;
        cat->save_failed = false;
        return CTL_OK;
    }
    if (is_last || !cat->save_failed)
        ctl_complain("the position '%s' could not be saved at number %" PRIu64 ": %s%s",
                     cat->command->position, stream->done, why_not_saved(result),
                     is_last ? "; the next one with this name will read some of this again"
                             : "; trying again");
    cat->save_failed = true;
    return is_last ? CTL_NO : CTL_OK;
}

static int print_one(struct cat *cat, const struct ctl_stream *stream)
{
    if (!ctl_output_put(&cat->output, stream->source->info.name, &stream->head)) {
        ctl_complain("memory is short");
        return CTL_NO;
    }
    cat->count++;
    return ferror(stdout) ? CTL_NO : CTL_OK;
}

static void tell_progress(struct cat *cat)
{
    uint64_t done, total;
    if (!cat->progress.on || cat->output.for_eyes || cat->command->follow)
        return; /* something moves there anyway */
    ctl_streams_progress(&cat->streams, &done, &total);
    ctl_progress_tell(&cat->progress, done, total);
}

static int take_loss(struct cat *cat, const struct ctl_stream *stream)
{
    ctl_progress_clear(&cat->progress);
    ctl_streams_tell_loss(&cat->streams, stream);
    return cat->command->strict && stream->head.why != HF_UNCOVERED ? CTL_NO : CTL_OK;
}

/* Until there is more, and in time to save. -1: go on. */
static int wait_for_more(struct cat *cat)
{
    const struct ctl_stream *stream = &cat->streams.list[0];
    if (fflush(stdout) != 0)
        return CTL_NO;
    int status = save(cat, false);
    if (status != CTL_OK)
        return status;
    const bool is_saved = !cat->command->position || stream->done == cat->saved;
    /* Whoever reads our output may go without a word: it is nobody's then. */
    return ctl_streams_wait(&cat->streams, STDOUT_FILENO,
                            is_saved ? -1 : (int)(SAVE_EVERY_NS / NS_PER_MS))
               ? CTL_OK
               : -1;
}

/* -1: go on. */
static int step(struct cat *cat)
{
    struct ctl_stream *stream;
    int status = CTL_OK;
    switch (ctl_streams_next(&cat->streams, &stream)) {
    case HF_DATAGRAM:
        status = print_one(cat, stream);
        tell_progress(cat);
        break;
    case HF_LOST:
        status = take_loss(cat, stream);
        break;
    case HF_NONE:
        return wait_for_more(cat);
    default:
        return cat->streams.failed ? CTL_NO : CTL_OK;
    }
    if (status == CTL_OK)
        status = save(cat, false);
    return status == CTL_OK ? -1 : status;
}

/* What is printed is done with, also the last one. */
static int finish(struct cat *cat, int status)
{
    struct ctl_stream *current = cat->streams.current;
    if (current && current->has_head && status == CTL_OK)
        current->done = current->head.seq + 1;
    int saved = save(cat, true);
    return status == CTL_OK ? saved : status;
}

static int run(struct cat *cat)
{
    int status = -1;
    ctl_output_begin(&cat->output);
    ctl_progress_begin(&cat->progress);
    cat->next_save = monotonic_add(monotonic_now(), SAVE_EVERY_NS);
    cat->saved = cat->streams.list[0].done;
    while (status < 0 && !ctl_stop_is_asked())
        status = cat->count == cat->most ? CTL_OK : step(cat);
    ctl_progress_clear(&cat->progress);
    if (status == CTL_OK && cat->count == 0 && cat->most > 0)
        ctl_streams_tell_nothing(&cat->streams);
    return finish(cat, status < 0 ? CTL_OK : status);
}

int ctl_cat(const struct ctl_command *command)
{
    struct cat cat = {.command = command};
    int status = parse(&cat);
    if (status != CTL_OK)
        return status;
    signal(SIGPIPE, SIG_DFL); /* whoever has read enough of it ends it, also as a service */
    if (command->follow || command->position)
        ctl_stop_begin();
    status = ctl_sources_open(&cat.sources, command);
    if (status == CTL_OK)
        status = check_position(&cat);
    if (status == CTL_OK) {
        const struct ctl_streams_setup setup = {.sources = &cat.sources,
                                                .range = &cat.range,
                                                .can_follow = true,
                                                .follow = command->follow,
                                                .tail = cat.tail,
                                                .position = command->position};
        cat.output.with_channel = cat.sources.count > 1;
        status = ctl_streams_open(&cat.streams, &setup);
    }
    if (status == CTL_OK)
        status = run(&cat);
    ctl_streams_close(&cat.streams);
    ctl_sources_close(&cat.sources);
    return status;
}
