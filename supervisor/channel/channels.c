/* SPDX-License-Identifier: MIT */
/* The list of channels. Made at the start, in the order of the configuration, and sorted by name to
 * be searched. Answers of the archive, which knows only names, find their channel here. */
#include "supervisor/channel/channels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/channel/channel_answers.h"
#include "supervisor/channel/channel_discard.h"
#include "supervisor/channel/channel_publishers.h"
#include "supervisor/channel/channel_reading.h"
#include "supervisor/channel/channel_recording.h"
#include "supervisor/channel/channel_worker_events.h"
#include "supervisor/child/child.h"
#include "supervisor/gate/gate_client.h"
#include "supervisor/hold/store.h"
#include "supervisor/policy/restart_policy.h"

/* So long a recovery has readers wait who save their positions. */
#define POSITION_PATIENCE_NS (500 * NS_PER_MS)

static int compare_names(const void *a, const void *b)
{
    const struct channel *const *first = a, *const *second = b;
    return strcmp((*first)->spec->name, (*second)->spec->name);
}

static int compare_to_name(const void *name, const void *element)
{
    const struct channel *const *channel = element;
    return strcmp(name, (*channel)->spec->name);
}

int channels_make(struct channels *channels, struct channel_host *host)
{
    size_t count = host->settings->channel_count;
    *channels = (struct channels){.host = host,
                                  .list = calloc(count + 1, sizeof(struct channel *)),
                                  .by_name = calloc(count + 1, sizeof(struct channel *))};
    restart_share_init(&host->share, count, (unsigned)sysconf(_SC_NPROCESSORS_ONLN));
    host->worker = (struct child_owner){
        .role = "worker", .message = channel_worker_message, .ended = channel_worker_ended};
    if (!channels->list || !channels->by_name)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        int error = channel_new(host, host->settings->channels[i], &channels->list[i]);
        if (error < 0)
            return error;
        channels->list[i]->recording.on_retry = channel_answers_on_retry;
        channels->by_name[i] = channels->list[i];
        channels->count++;
    }
    qsort(channels->by_name, count, sizeof(struct channel *), compare_names);
    return 0;
}

struct channel *channels_add(struct channels *channels, struct channel_spec *spec)
{
    size_t room = channels->count + 2;
    struct channel **list = realloc(channels->list, room * sizeof(struct channel *));
    if (list)
        channels->list = list;
    struct channel **by_name = realloc(channels->by_name, room * sizeof(struct channel *));
    if (by_name)
        channels->by_name = by_name;
    struct channel *channel;
    if (!list || !by_name || channel_new(channels->host, spec, &channel) < 0)
        return NULL;
    channel->recording.on_retry = channel_answers_on_retry;
    list[channels->count] = by_name[channels->count] = channel;
    channels->count++;
    qsort(by_name, channels->count, sizeof(struct channel *), compare_names);
    return channel;
}

void channels_free(struct channels *channels)
{
    for (size_t i = 0; i < channels->count; i++)
        channel_free(channels->list[i]);
    free(channels->list);
    free(channels->by_name);
    *channels = (struct channels){0};
}

struct channel *channels_find(const struct channels *channels, const char *name)
{
    struct channel **found = bsearch(name, channels->by_name, channels->count,
                                     sizeof(struct channel *), compare_to_name);
    return found ? *found : NULL;
}

bool channels_any_worker(const struct channels *channels)
{
    for (size_t i = 0; i < channels->count; i++)
        if (channels->list[i]->lent.worker || channel_discard_is_under_way(channels->list[i]))
            return true;
    return false;
}

bool channels_recording_quiet(const struct channels *channels)
{
    for (size_t i = 0; i < channels->count; i++)
        if (!channel_recording_quiet(channels->list[i]))
            return false;
    return true;
}

bool channels_clean_last(const struct channels *channels)
{
    bool any = false;
    for (size_t i = 0; i < channels->count; i++)
        any |= channel_recording_clean_last(channels->list[i]);
    return any;
}

bool channels_left_unfinished(const struct channels *channels)
{
    for (size_t i = 0; i < channels->count; i++)
        if (channel_recording_left_unfinished(channels->list[i]))
            return true;
    return false;
}

void channels_let_go(const struct channels *channels)
{
    for (size_t i = 0; i < channels->count; i++) {
        channel_publishers_dismiss(channels->list[i]);
        fd_close(&channels->list[i]->hold.history);
        store_follow(&channels->list[i]->stored);
    }
}

void channels_kill_workers(const struct channels *channels)
{
    for (size_t i = 0; i < channels->count; i++)
        if (channels->list[i]->lent.worker)
            child_kill(channels->list[i]->lent.worker, SIGKILL);
}

/* ---- the archive's answers ---- */

static struct channel *addressee(const struct channels *channels, const char *name)
{
    struct channel *channel = channels_find(channels, name);
    if (!channel)
        log_warning("channel %s: the archive answers for it, but it does not exist: ignored", name);
    return channel;
}

static void answer(void *data, const char *name, struct message *message)
{
    struct channel *channel = addressee(data, name);
    if (channel)
        channel_answers_take(channel, message);
}

/* A finished segment may be one too many. */
static void sealed(void *data, const char *name, bool finished)
{
    struct channel *channel = addressee(data, name);
    if (!channel)
        return;
    struct channel_host *host = channel->host;
    if (finished && host->phase < PHASE_STOPS)
        archive_client_expire(host->archive, name, &channel->spec->record);
    host->changed(host->data);
}

static void back(void *data)
{
    const struct channels *channels = data;
    for (size_t i = 0; i < channels->count; i++)
        channel_answers_archive_back(channels->list[i]);
}

static void ended(void *data)
{
    const struct channels *channels = data;
    channels->host->changed(channels->host->data);
}

static void position_saved(void *data, uint64_t asker, const struct message_position_saved *saved)
{
    const struct channels *channels = data;
    if (channels->host->gate)
        gate_client_answer(channels->host->gate, asker, saved);
}

/* Nobody is done with what has not come: a higher number is one of before everything died, and is
 * given again. Where that isn't known, the next recovery sees to it. */
static uint64_t end_of_numbers(const struct channel *channel)
{
    const struct channel_recording *recording = &channel->recording;
    if (!recording->placed)
        return UINT64_MAX;
    if (recording->renumber) /* what this ring has is nobody's position */
        return recording->next_seq;
    if (channel->hold.page && channel->hold.old_ring < 0)
        return atomic_load_explicit(&channel->hold.page->public.published, memory_order_relaxed);
    return channel->ledger.seq_end > recording->next_seq ? channel->ledger.seq_end
                                                         : recording->next_seq;
}

/* Recovery may take positions back, and what was saved before it would come after it. That is done
 * in a moment, as a rule; where it is not, its reader has more to do than to wait. */
static enum position_verdict judge_position(void *data, struct message_position_save *save)
{
    const struct channel *channel = channels_find(data, save->channel);
    if (!channel || save->forget)
        return POSITION_MAY_GO;
    if (!channel->recording.placed && channel_recording_is_being_recovered(channel))
        return monotonic_since(monotonic_now(), channel->recording.recovery_began) <
                       POSITION_PATIENCE_NS
                   ? POSITION_IS_TO_WAIT
                   : POSITION_IS_REFUSED;
    const uint64_t end = end_of_numbers(channel);
    if (save->seq > end)
        save->seq = end;
    return POSITION_MAY_GO;
}

struct archive_owner channels_as_archive_owner(struct channels *channels)
{
    return (struct archive_owner){.answer = answer,
                                  .sealed = sealed,
                                  .position = position_saved,
                                  .position_judge = judge_position,
                                  .back = back,
                                  .ended = ended,
                                  .data = channels};
}

/* ---- the gate's requests ---- */

/* When none waits for room. One that can't be lent for another reason keeps nobody waiting. */
static void tell_all_lent(const struct channels *channels)
{
    for (size_t i = 0; i < channels->count; i++)
        if (channels->list[i]->reading.behind)
            return;
    gate_client_all_lent(channels->host->gate);
}

static void gate_back(void *data)
{
    const struct channels *channels = data;
    for (size_t i = 0; i < channels->count; i++)
        channel_reading_begin(channels->list[i]);
    tell_all_lent(channels);
}

void channels_lend_on(const struct channels *channels)
{
    for (size_t i = 0; i < channels->count; i++) {
        channel_reading_look(channels->list[i]);
        if (channels->list[i]->reading.behind)
            return; /* nor has it room for the others */
    }
    if (channels->host->gate)
        tell_all_lent(channels);
}

static void gate_room(void *data)
{
    channels_lend_on(data);
}

static void refuse_position(const struct channels *channels,
                            const struct message_position_save *save, int error, const char *why)
{
    struct message_position_saved saved = {.turn = save->turn, .error = error};
    snprintf(saved.channel, sizeof saved.channel, "%s", save->channel);
    snprintf(saved.name, sizeof saved.name, "%s", save->name);
    snprintf(saved.reason, sizeof saved.reason, "%s", why);
    struct gate_client *gate = channels->host->gate;
    gate_client_answer(gate, gate->child->generation, &saved);
}

/* Where nobody records, log_dir may be another daemon's; and numbers of what is not recorded lead
 * nowhere. */
static void keep_position(void *data, const struct message_position_save *save)
{
    const struct channels *channels = data;
    const struct channel_host *host = channels->host;
    const struct channel *channel = channels_find(channels, save->channel);
    if (!channel || channel->former.removed)
        refuse_position(channels, save, ENOENT, "there is no such channel");
    else if (!channel->spec->record.enabled)
        refuse_position(channels, save, EOPNOTSUPP,
                        "the channel does not record: there is nothing to come back to");
    else if (archive_client_position(host->archive, host->gate->child->generation, save) < 0)
        refuse_position(channels, save, EBUSY, "too many positions are being kept just now");
}

static void admit_publisher(void *data, const struct message_publish *wanted)
{
    const struct channels *channels = data;
    struct message_published published;
    int fds[OUTBOX_FDS];
    channel_publishers_admit(channels_find(channels, wanted->channel), wanted, &published, fds);
    gate_client_answer_publish(channels->host->gate, &published, fds);
    fd_close_all(fds, OUTBOX_FDS);
}

struct gate_owner channels_as_gate_owner(struct channels *channels)
{
    return (struct gate_owner){.back = gate_back,
                               .room = gate_room,
                               .position = keep_position,
                               .publish = admit_publisher,
                               .ended = ended,
                               .data = channels};
}
