/* SPDX-License-Identifier: MIT */
/* The table of gate_counters.def as data, for whoever prints them. Its order is that of enum
 * gate_counter. */
#include "common/gate_counters.h"

const struct counter_info gate_counter_infos[GATE_COUNTER_COUNT] = {
#define GATE_COUNTER(name, unit, help) {#name, unit, help},
#include "common/gate_counters.def"
#undef GATE_COUNTER
};
