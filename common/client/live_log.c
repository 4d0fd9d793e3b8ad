/* SPDX-License-Identifier: MIT */
/* Asks the gate for log files as a whole: by descriptor, or as bytes out of a pipe. Called by
 * live.c. Bytes that come are passed on as they come: where the gate dies over it, the rest of the
 * same file is asked of its successor, and never that of another one. */
#include "common/client/live_log.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "common/client/gate_link.h"
#include "common/client/log_bytes.h"
#include "common/fd.h"

/* Gates that have ended one after the other before they had sent anything. */
#define VAIN_MOST           3
#define AGAIN_MS            20

#define COPY_TEXT(to, from) snprintf((to), sizeof(to), "%s", (from))

void live_log_describe(const struct read_segment_entry *entry, struct hf_log *ret)
{
    COPY_TEXT(ret->name, entry->name);
    ret->first_seq = entry->first_seq;
    ret->last_seq = entry->last_seq;
    ret->records = entry->records;
    ret->first_time_ns = entry->first_time_ns;
    ret->last_time_ns = entry->last_time_ns;
    ret->created_ns = entry->created_ns;
    ret->size = entry->size;
    ret->is_open = entry->is_open;
    ret->has_totals = entry->has_totals;
    ret->fd = -1;
}

/* -ENOENT: nothing can have this name. */
static int set_object(const char *channel, const struct log_name *name, struct read_object *ret)
{
    static const uint32_t by[] = {[LOG_BY_NAME] = READ_BY_NAME,
                                  [LOG_FIRST] = READ_FIRST,
                                  [LOG_LAST] = READ_LAST,
                                  [LOG_BY_SEQ] = READ_BY_SEQ,
                                  [LOG_BY_TIME] = READ_BY_TIME};
    *ret = (struct read_object){.by = by[name->by], .seq = name->seq, .time_ns = name->time_ns};
    COPY_TEXT(ret->channel, channel);
    if (name->by != LOG_BY_NAME)
        return 0;
    if (strlen(name->name) >= sizeof ret->name)
        return -ENOENT;
    COPY_TEXT(ret->name, name->name);
    return 0;
}

static int ask_for(struct live *live, struct read_object *object, enum read_how how)
{
    const struct live_request request = {READ_OBJECT, READ_OBJECT_LENT, object, sizeof *object};
    object->how = how;
    int result = live_ask(live, &request);
    if (result == 0 && (live->fd < 0) != (live->stream || how == READ_DESCRIBE))
        result = -EPROTO;
    if (result == -ETIMEDOUT || result == -EPROTO)
        live_disconnect(live); /* what it sends later is nobody's */
    return result;
}

/* It is just being sealed, or others are to be sent to: is it worth another try? */
static bool may_ask_again(monotonic until)
{
    if (monotonic_now().ns >= until.ns)
        return false;
    poll(NULL, 0, AGAIN_MS);
    return true;
}

int live_log_lend(struct live *live, const char *channel, const struct log_name *name,
                  struct hf_log *ret)
{
    const monotonic until = monotonic_add(monotonic_now(), GATE_PATIENCE_NS);
    struct read_object object;
    int result = set_object(channel, name, &object);
    if (result < 0)
        return result;
    do
        result = ask_for(live, &object, READ_FDPASS);
    while (result == -EAGAIN && may_ask_again(until));
    if (result < 0)
        return result;
    live_log_describe(&live->packet.object_lent->about, ret);
    COPY_TEXT(ret->channel, channel);
    ret->fd = fd_take(&live->fd);
    return 0;
}

int live_log_find(struct live *live, const char *channel, const struct log_name *name,
                  struct hf_log *ret)
{
    struct read_object object;
    int result = set_object(channel, name, &object);
    if (result == 0)
        result = ask_for(live, &object, READ_DESCRIBE);
    if (result < 0)
        return result;
    live_log_describe(&live->packet.object_lent->about, ret);
    COPY_TEXT(ret->channel, channel);
    return 0;
}

/* ---- bytes ---- */

struct sending {
    struct read_object object;
    uint64_t id;  /* the file's inode number, 0 = nothing has come yet */
    uint64_t end; /* of what was asked for */
    uint64_t done;
};

/* -ECONNRESET: the gate has ended over it, and the rest may be had of the next one. */
static int receive_rest(struct live *live, int pipe, int to, struct sending *sending)
{
    uint64_t moved;
    int result = live->stream ? live_receive_bytes(live, READ_OBJECT_SENT, to, &moved)
                              : log_bytes_drain(pipe, to, GATE_PATIENCE_NS, &moved);
    sending->done += moved;
    if (result < 0) {
        live_disconnect(live); /* it would go on sending */
        return result;
    }
    if (!live->stream)
        result =
            live_receive(live, READ_OBJECT_SENT, monotonic_add(monotonic_now(), GATE_PATIENCE_NS));
    if (result == 0 && live->packet.object_sent->error == ESHUTDOWN)
        result = -ECONNRESET; /* the next one goes on where this one ends */
    else if (result == 0 && live->packet.object_sent->error)
        result = gate_link_error(live->packet.object_sent->error);
    if (result == -ECONNRESET || result == -EPROTO || result == -ETIMEDOUT)
        live_disconnect(live);
    return result;
}

/* Is it the same file, and what was asked for? */
static bool is_what_was_asked(const struct read_object_lent *lent, const struct sending *sending)
{
    const struct read_object *asked = &sending->object;
    return lent->offset == asked->offset && lent->length <= INT64_MAX &&
           (asked->length == 0 || lent->length <= asked->length);
}

static int send_rest(struct live *live, const struct log_copy *copy, struct sending *sending)
{
    sending->object.offset = copy->offset + sending->done;
    sending->object.length = sending->id ? sending->end - sending->object.offset : copy->length;
    if (sending->id && sending->object.length == 0)
        return 0; /* all had come, and only that was not said any more */
    int result =
        ask_for(live, &sending->object, copy->how == HF_BY_SPLICE ? READ_SPLICE : READ_COPY);
    if (result < 0)
        return result;
    const struct read_object_lent *lent = live->packet.object_lent;
    int pipe = fd_take(&live->fd);
    if (sending->id && lent->id != sending->id) {
        result = -ESTALE; /* another one has its place now */
    } else if (!is_what_was_asked(lent, sending)) {
        result = -EPROTO;
    } else {
        sending->id = lent->id;
        sending->end = lent->offset + lent->length;
        sending->object.by = READ_BY_NAME;
        COPY_TEXT(sending->object.name, lent->about.name);
        result = receive_rest(live, pipe, copy->to, sending);
        fd_close(&pipe);
        return result;
    }
    live_disconnect(live);
    fd_close(&pipe);
    return result;
}

static int64_t copy_by_fd(struct live *live, const char *channel, const struct log_name *name,
                          const struct log_copy *copy)
{
    const monotonic until = monotonic_add(monotonic_now(), GATE_PATIENCE_NS);
    struct hf_log log;
    for (;;) {
        int result = live_log_lend(live, channel, name, &log);
        if (result < 0)
            return result;
        if (!log.is_open)
            break;
        fd_close(&log.fd);
        if (!log.has_totals || !may_ask_again(until))
            return -EBUSY;
    }
    int64_t copied = log_bytes_copy(log.fd, copy);
    fd_close(&log.fd);
    return copied;
}

int64_t live_log_send(struct live *live, const char *channel, const struct log_name *name,
                      const struct log_copy *copy)
{
    struct sending sending = {0};
    if (copy->how == HF_BY_FD)
        return copy_by_fd(live, channel, name, copy);
    int result = set_object(channel, name, &sending.object);
    if (result < 0)
        return result;
    const monotonic until = monotonic_add(monotonic_now(), GATE_PATIENCE_NS);
    for (unsigned vain = 0; vain < VAIN_MOST;) {
        const uint64_t before = sending.done;
        result = send_rest(live, copy, &sending);
        if (result == 0 && copy->offset + sending.done < sending.end)
            result = -ECONNRESET; /* it ended without a word */
        if ((result == -EAGAIN || result == -EBUSY) && may_ask_again(until)) {
            if (sending.done == 0)
                sending.id = 0; /* or to be found under another name */
            continue;
        }
        if (result != -ECONNRESET)
            break;
        vain = sending.done > before ? 0 : vain + 1;
    }
    return result < 0 ? result : (int64_t)sending.done;
}
