/* SPDX-License-Identifier: MIT */
/* How readers are served: the socket, the gate behind it, and what that has counted as it last
 * told. Called by control_status.c and control_verbs.c. Asks nobody. */
#include "supervisor/control/control_reading.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "common/control_protocol.h"
#include "common/gate_counters.h"
#include "common/gate_histogram.h"
#include "common/gate_limits.h"
#include "common/monotonic.h"
#include "supervisor/config/settings.h"
#include "supervisor/control/control_crashes.h"
#include "supervisor/control/control_json.h"
#include "supervisor/gate/gate_client.h"

json_t *control_reading_socket(const struct supervisor *supervisor)
{
    const struct settings *settings = supervisor->settings;
    const char *path = settings->read_socket;
    char here[PATH_MAX], full[PATH_MAX + sizeof settings->read_socket];
    if (!settings->read_enabled)
        return json_null();
    bool relative = path[0] != '/' && getcwd(here, sizeof here) && here[0] == '/';
    snprintf(full, sizeof full, "%s%s%s", relative ? here : "", relative ? "/" : "", path);
    return control_text(full);
}

/* ---- how long requests took ---- */

static json_t *seconds(uint64_t ns)
{
    return json_real((double)ns / 1e9);
}

/* Only ranges in which something is: [end, count], the end in seconds, null for the last one. What
 * several gates have counted adds up by these, by quantiles it does not. */
static json_t *buckets(const struct gate_histogram *histogram)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < GATE_HISTOGRAM_BUCKETS; i++) {
        const uint64_t end = gate_histogram_end_ns(i);
        if (histogram->bucket[i])
            json_array_append_new(list,
                                  json_pack("[o,I]", end == UINT64_MAX ? json_null() : seconds(end),
                                            (json_int_t)histogram->bucket[i]));
    }
    return list;
}

static json_t *durations(const struct gate_histogram *histogram)
{
    static const struct {
        const char *name;
        uint32_t ppm;
    } quantiles[] = {{"p50_s", 500000}, {"p99_s", 990000}, {"p999_s", 999000}};
    json_t *report = json_object();
    control_json_set_number(report, "count", histogram->count);
    json_object_set_new(report, "sum_s", seconds(histogram->sum_ns));
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++)
        json_object_set_new(report, quantiles[i].name,
                            histogram->count
                                ? seconds(gate_histogram_quantile(histogram, quantiles[i].ppm))
                                : json_null());
    json_object_set_new(report, "max_s",
                        histogram->count ? seconds(histogram->max_ns) : json_null());
    json_object_set_new(report, "buckets", buckets(histogram));
    return report;
}

static json_t *requests(const struct message_gate_report *gate)
{
    json_t *report = json_object();
    for (int i = 0; i < GATE_MODE_COUNT; i++) {
        json_t *mode = durations(&gate->latency[i]);
        if (i != GATE_MODE_OTHER)
            control_json_set_number(mode, "bytes", gate->bytes[i]);
        json_object_set_new(report, gate_mode_names[i], mode);
    }
    return report;
}

static json_t *limits(const struct gate_limits *limits)
{
    json_t *report = json_object();
    control_json_set_number(report, "connections", limits->connections);
    control_json_set_number(report, "connections_per_user", limits->connections_per_user);
    control_json_set_number(report, "requests_per_second", limits->requests_per_second);
    control_json_set_number(report, "requests_per_connection", limits->requests_per_connection);
    control_json_set_number(report, "queue", limits->queue);
    control_json_set_number(report, "lent_per_user", limits->lent_per_user);
    control_json_set_number(report, "sending_per_user", limits->sending_per_user);
    json_object_set_new(report, "idle_timeout_s", seconds(limits->idle_timeout_ns));
    json_object_set_new(report, "request_timeout_s", seconds(limits->request_timeout_ns));
    json_object_set_new(report, "grace_s", seconds(limits->grace_ns));
    return report;
}

json_t *control_reading(const struct supervisor *supervisor)
{
    const struct gate_client *gate = &supervisor->gate;
    const char *trouble = gate_client_trouble(gate, monotonic_now());
    json_t *report = json_object(), *counters = json_object();
    json_object_set_new(report, "socket", control_reading_socket(supervisor));
    json_object_set_new(report, "state", json_string(gate_state_names[gate_client_state(gate)]));
    json_object_set_new(report, "pid", gate->child ? json_integer(gate->child->pid) : json_null());
    control_json_set_number(report, "restarts", gate->restarts);
    json_object_set_new(report, "last_death", control_crashes_last(&gate->obituaries));
    json_object_set_new(report, "trouble", trouble[0] ? control_text(trouble) : json_null());
    for (int i = 0; i < GATE_COUNTER_COUNT; i++)
        control_json_set_number(counters, gate_counter_infos[i].name, gate->report.value[i]);
    json_object_set_new(report, "counters", counters);
    json_object_set_new(report, "requests", requests(&gate->report));
    json_object_set_new(report, "queue_wait", durations(&gate->report.queue_wait));
    json_object_set_new(report, "limits", limits(&supervisor->settings->read_limits));
    return report;
}
