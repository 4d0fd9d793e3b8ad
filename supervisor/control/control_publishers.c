/* SPDX-License-Identifier: MIT */
/* The publishers of a channel as `status` says them. Called for each channel. What a publisher can
 * write is bounded, never followed. */
#include "supervisor/control/control_publishers.h"

#include "common/control_protocol.h"
#include "common/monotonic.h"
#include "common/outbox.h"
#include "supervisor/control/control_json.h"
#include "supervisor/hold/hold_outboxes.h"

static json_t *publisher(const struct channel *channel, uint32_t place)
{
    const struct hold_outbox *outbox = hold_outbox_at(&channel->hold, place);
    const struct outbox_answer *said = outbox->said;
    uint64_t now = realtime_now_ns(), since = (uint64_t)said->since_ns;
    json_t *report = json_object();
    json_object_set_new(report, "name", control_text(outbox->name));
    control_json_set_number(report, "pid", outbox->pid);
    control_json_set_number(report, "uid", outbox->uid);
    /* A clock that was set back makes no age. */
    json_object_set_new(report, "since_s", control_json_seconds(now > since ? now - since : 0));
    control_json_set_number(report, "taken", atomic_load(&said->taken_count));
    control_json_set_number(report, "durable", atomic_load(&said->durable));
    control_json_set_number(report, "waiting_bytes", hold_outbox_waiting(&channel->hold, place));
    return report;
}

json_t *control_publishers(const struct channel *channel)
{
    if (!channel_spec_is_local(channel->spec))
        return json_null();
    json_t *report = json_object(), *list = json_array();
    for (uint32_t place = 0; place < channel->hold.outbox_count; place++)
        if (hold_outbox_at(&channel->hold, place))
            json_array_append_new(list, publisher(channel, place));
    control_json_set_number(report, "most", channel->spec->publishers.most);
    control_json_set_number(report, "outbox_bytes",
                            outbox_capacity(channel->spec->publishers.outbox_size));
    json_object_set_new(report, "list", list);
    return report;
}
