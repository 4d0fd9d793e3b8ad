/* SPDX-License-Identifier: MIT */
/* How readers are served: the socket, the gate behind it, and what that has counted as it last
 * told. Called by control_status.c and control_verbs.c. Asks nobody. */
#include "supervisor/control/control_reading.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "common/control_protocol.h"
#include "common/gate_counters.h"
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
    return report;
}
