/* SPDX-License-Identifier: MIT */
/* How the reports write numbers and times. Called by control_status.c and control_crashes.c. Must
 * never give a number that a reader would take for a negative one. */
#include "supervisor/control/control_json.h"

#include "common/monotonic.h"

json_t *control_json_number(uint64_t value)
{
    return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

void control_json_set_number(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, control_json_number(value));
}

json_t *control_json_seconds(uint64_t ns)
{
    return json_real((double)(ns / NS_PER_US) / 1e6);
}
