/* SPDX-License-Identifier: MIT */
/* Publishes lines, or pieces of one size, of the standard input. Called by main.c. What comes
 * before an error is published, and how much that was is said in every case; nothing that was read
 * is left out because the channel or the daemon needs time. */
#include "supervisor/ctl/ctl_publish.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/control_protocol.h"
#include "common/monotonic.h"
#include "common/units.h"
#include "supervisor/ctl/ctl_source.h"
#include "supervisor/ctl/ctl_stop.h"
#include "supervisor/ctl/ctl_text.h"

#define READ_AT_ONCE (64 * 1024)
#define WAIT_MS      100
/* A channel whose process is just replaced is nothing to tell. */
#define TELL_AFTER_NS (2 * NS_PER_S)

struct publishing {
    const struct ctl_command *command;
    hf *handle;
    hf_writer *writer;
    uint64_t size;      /* of each piece; 0: lines */
    uint64_t published; /* datagrams */
    uint64_t offset;    /* of the input: bytes before `bytes` */
    uint8_t *bytes;     /* what was read and not published yet */
    size_t length, room;
    bool input_ended;
    bool is_waiting; /* since, for the channel to take something, */
    bool is_told;    /* and that was told */
    monotonic since;
    int told_error; /* likewise why it can't be published to */
    bool is_over;   /* it never will be again */
};

/* ---- waiting ---- */

static void tell_waiting(struct publishing *it)
{
    struct hf_channel *list;
    size_t count;
    int result = hf_list(it->handle, &list, &count);
    if (result < 0)
        ctl_complain("the daemon does not answer (%s): waiting until it is there again",
                     strerror(-result));
    else
        ctl_complain("%s takes nothing just now: waiting; 'holdfastctl status %s' may say why",
                     it->command->channel, it->command->channel);
    if (result >= 0)
        free(list);
    it->is_told = true;
}

/* Once each time. */
static void note_waiting(struct publishing *it)
{
    if (!it->is_waiting)
        it->since = monotonic_now();
    it->is_waiting = true;
    if (!it->is_told && monotonic_since(monotonic_now(), it->since) >= TELL_AFTER_NS)
        tell_waiting(it);
}

static void note_going_on(struct publishing *it)
{
    if (it->is_told || it->told_error)
        ctl_complain("%s: going on", it->command->channel);
    it->is_waiting = it->is_told = false;
    it->told_error = 0;
}

static void wait_for_channel(struct publishing *it)
{
    struct pollfd fd = {.fd = hf_writer_fd(it->writer), .events = POLLIN};
    note_waiting(it);
    ctl_stop_poll(&fd, 1, WAIT_MS);
}

static int complain_channel(const struct publishing *it, int error)
{
    const char *channel = it->command->channel;
    if (error == -ENOENT && !ctl_source_is_channel(it->handle, channel))
        ; /* told */
    else if (error == -EOPNOTSUPP)
        ctl_complain("%s takes UDP: programs write into channels with listen = \"local:NAME\"",
                     channel);
    else if (error == -EACCES || error == -EPERM)
        ctl_complain("%s: publishers { group } of this channel does not let this user in: join the "
                     "group, or run as root",
                     channel);
    else if (error == -EUSERS)
        ctl_complain("%s has as many publishers as it may have, or of this user (three quarters "
                     "of them): end one, or raise publishers { most } of this channel",
                     channel);
    else if (error == -EBUSY)
        ctl_complain("%s takes no publisher just now: too many programs connect at once, or one "
                     "of this user was cut off a moment ago; try again",
                     channel);
    else if (error == -ECONNABORTED)
        ctl_complain("%s takes nothing more from this program: the daemon's log says why", channel);
    else if (error == -EMSGSIZE)
        ctl_complain("%s takes no more than %" PRIu32
                     " bytes of a datagram now (max_datagram), and "
                     "one that was published before, and not taken, is longer: it and what came "
                     "behind it can't be recorded. Raise it, and publish them again",
                     channel, hf_writer_limit(it->writer));
    else
        return ctl_complain_read(channel, error);
    return CTL_NO;
}

/* What the writer says instead of 0. CTL_OK: wait and try again. */
static int take_error(struct publishing *it, int error)
{
    if (error == -ECONNABORTED || error == -EPROTO || error == -EMSGSIZE) {
        it->is_over = true;
        return complain_channel(it, error);
    }
    if (error != -EAGAIN && error != it->told_error) {
        complain_channel(it, error); /* and goes on trying */
        ctl_complain("waiting until that is otherwise");
        it->told_error = error;
    }
    return CTL_OK;
}

/* ---- one datagram ---- */

static int complain_long(const struct publishing *it, uint64_t offset)
{
    const uint32_t limit = hf_writer_limit(it->writer);
    if (it->size == 0)
        ctl_complain("line %" PRIu64 ", at byte %" PRIu64
                     " of the input, is longer than the %" PRIu32
                     " bytes that a datagram of %s may have (max_datagram). What came before it "
                     "was published",
                     it->published + 1, offset, limit, it->command->channel);
    else
        ctl_complain("--size %" PRIu64 ": a datagram of %s may have %" PRIu32
                     " bytes (max_datagram)",
                     it->size, it->command->channel, limit);
    return CTL_NO;
}

/* Room for a datagram of as many bytes as the channel takes, which is another number after a daemon
 * with another configuration was started. */
static int make_room(struct publishing *it)
{
    const size_t room = (size_t)hf_writer_limit(it->writer) + 1 + READ_AT_ONCE;
    if (room <= it->room)
        return CTL_OK;
    uint8_t *bytes = realloc(it->bytes, room);
    if (!bytes) {
        ctl_complain("out of memory");
        return CTL_NO;
    }
    it->bytes = bytes;
    it->room = room;
    return CTL_OK;
}

/* CTL_OK, or the exit status with everything printed. *ret_done false: it was asked to end. */
static int publish(struct publishing *it, const uint8_t *data, size_t length, bool *ret_done)
{
    void *room;
    *ret_done = false;
    while (!ctl_stop_is_asked()) {
        int result = hf_reserve(it->writer, (uint32_t)length, &room);
        if (result == 0) {
            memcpy(room, data, length);
            result = hf_commit(it->writer, (uint32_t)length);
        }
        if (result == 0) {
            it->published++;
            *ret_done = true;
            if (it->is_waiting || it->told_error)
                note_going_on(it);
            return CTL_OK;
        }
        if (result == -EMSGSIZE && length > hf_writer_limit(it->writer))
            return complain_long(it, it->offset + (uint64_t)(data - it->bytes));
        const int status = take_error(it, result);
        if (status != CTL_OK)
            return status;
        wait_for_channel(it);
    }
    return CTL_OK;
}

/* ---- the input ---- */

/* The next datagram of what was read. false: more is to be read first. */
static bool cut(const struct publishing *it, size_t at, size_t *ret_length, size_t *ret_end)
{
    const size_t left = it->length - at;
    const uint8_t *newline = it->size == 0 ? memchr(it->bytes + at, '\n', left) : NULL;
    if (newline)
        *ret_length = (size_t)(newline - it->bytes) - at;
    else if (it->size > 0 && left >= it->size)
        *ret_length = it->size;
    else if (it->input_ended && left > 0)
        *ret_length = left;
    else
        return false;
    *ret_end = at + *ret_length + (newline ? 1 : 0);
    return true;
}

static int publish_what_is_there(struct publishing *it)
{
    size_t at = 0, length, end;
    bool done = true;
    int status = CTL_OK;
    while (status == CTL_OK && done && cut(it, at, &length, &end)) {
        if (length > hf_writer_limit(it->writer))
            status = complain_long(it, it->offset + at);
        else
            status = publish(it, it->bytes + at, length, &done);
        if (status == CTL_OK && done)
            at = end;
    }
    if (status == CTL_OK && done && it->length - at > hf_writer_limit(it->writer))
        status = complain_long(it, it->offset + at); /* and its end is not even there */
    it->offset += at;
    it->length -= at;
    memmove(it->bytes, it->bytes + at, it->length);
    return status;
}

/* Waits for it, and goes on with what the writer has to do meanwhile. */
static int read_more(struct publishing *it)
{
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                           {.fd = hf_writer_fd(it->writer), .events = POLLIN}};
    if (ctl_stop_poll(fds, 2, -1) <= 0)
        return CTL_OK;
    hf_wait_durable(it->writer, 0, 0);
    if (!fds[0].revents)
        return CTL_OK;
    int status = make_room(it);
    if (status != CTL_OK)
        return status;
    ssize_t count = read(STDIN_FILENO, it->bytes + it->length, it->room - it->length);
    if (count < 0 && errno != EINTR && errno != EAGAIN) {
        ctl_complain("the standard input can't be read: %s", strerror(errno));
        return CTL_NO;
    }
    it->length += count > 0 ? (size_t)count : 0;
    it->input_ended = count == 0;
    return CTL_OK;
}

/* ---- the end ---- */

/* Closing leaves what was committed to a daemon that is there; so one that isn't is waited for. */
static int wait_until_taken(struct publishing *it)
{
    void *room;
    int status = CTL_OK;
    while (!it->is_over && hf_writer_untaken(it->writer) > 0 && !ctl_stop_is_asked()) {
        const int result = hf_reserve(it->writer, 0, &room); /* is there anything in the way? */
        hf_abort(it->writer);
        if (result < 0)
            status = take_error(it, result);
        if (status == CTL_OK)
            wait_for_channel(it);
    }
    if (!it->is_over && !ctl_stop_is_asked() && (it->is_waiting || it->told_error))
        note_going_on(it);
    return status;
}

static int wait_until_durable(struct publishing *it)
{
    int result;
    while ((result = hf_wait_durable(it->writer, it->published, 0)) == -ETIMEDOUT &&
           !ctl_stop_is_asked())
        wait_for_channel(it);
    if (result == -ENODATA)
        ctl_complain("the daemon ended before it said that all was on the disk: what it had taken "
                     "by then may be there or not");
    else if (result < 0 && result != -ETIMEDOUT)
        ctl_complain("%s: it can't be known what is on the disk: %s", it->command->channel,
                     strerror(-result));
    return result == 0 ? CTL_OK : CTL_NO;
}

static void tell(struct publishing *it, bool is_durable)
{
    const uint64_t untaken = hf_writer_untaken(it->writer);
    if (it->command->options.json) {
        json_t *report = json_pack(
            "{s:o,s:I,s:b,s:b}", "channel", control_text(it->command->channel), "published",
            (json_int_t)it->published, "taken", untaken == 0, "durable", is_durable);
        ctl_print_json(report);
        json_decref(report);
    } else {
        fprintf(stderr, "published %" PRIu64 " datagram%s%s\n", it->published,
                it->published == 1 ? "" : "s",
                is_durable     ? ", and all of it is on the disk"
                : untaken == 0 ? ""
                : it->is_over  ? "; the daemon has not taken all of them"
                               : "; the daemon has not taken all of them yet");
    }
}

static int run(struct publishing *it)
{
    int status = CTL_OK;
    bool is_durable = false;
    while (status == CTL_OK && !ctl_stop_is_asked() && !(it->input_ended && it->length == 0)) {
        if (!it->input_ended)
            status = read_more(it);
        if (status == CTL_OK)
            status = publish_what_is_there(it);
    }
    const int taken = wait_until_taken(it);
    status = status == CTL_OK ? taken : status;
    if (it->command->durable && !it->is_over) {
        const int durable = wait_until_durable(it);
        is_durable = durable == CTL_OK;
        status = status == CTL_OK ? durable : status;
    }
    tell(it, is_durable);
    return status;
}

/* ---- beginning ---- */

static int parse_size(const struct ctl_command *command, uint64_t *ret)
{
    *ret = 0;
    if (!command->size)
        return CTL_OK;
    if (command->lines) {
        ctl_complain("--lines and --size: datagrams are one or the other");
        return CTL_USAGE;
    }
    if (units_parse_size(command->size, ret) == 0 && *ret > 0)
        return CTL_OK;
    ctl_complain("--size %s: give the bytes of a datagram, for example 64 or 1K", command->size);
    return CTL_USAGE;
}

/* Better before anything is published than behind all of it. */
static int check_records(const struct publishing *it)
{
    struct hf_channel *list;
    size_t count;
    bool records = true;
    if (!it->command->durable || hf_list(it->handle, &list, &count) < 0)
        return CTL_OK;
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].name, it->command->channel) == 0)
            records = list[i].can & HF_CAN_OLD;
    free(list);
    if (!records)
        ctl_complain("%s does not record, so nothing of it comes to the disk: leave --durable out",
                     it->command->channel);
    return records ? CTL_OK : CTL_NO;
}

static int begin(struct publishing *it)
{
    int status = parse_size(it->command, &it->size);
    if (status == CTL_OK)
        status = ctl_daemon_open(it->command, &it->handle);
    if (status == CTL_OK)
        status = check_records(it);
    if (status != CTL_OK)
        return status;
    int result = hf_publish(it->handle, it->command->channel, &it->writer);
    if (result < 0)
        return complain_channel(it, result);
    return it->size > hf_writer_limit(it->writer) ? complain_long(it, 0) : make_room(it);
}

int ctl_publish(const struct ctl_command *command)
{
    struct publishing it = {.command = command};
    int status = begin(&it);
    if (status == CTL_OK) {
        ctl_stop_begin();
        status = run(&it);
    }
    hf_close(it.handle);
    free(it.bytes);
    return status;
}
