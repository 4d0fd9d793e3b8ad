/* SPDX-License-Identifier: MIT */
/* The gate's counters by name; declared in gate_counters.def. */
#ifndef HOLDFAST_COMMON_GATE_COUNTERS_H
#define HOLDFAST_COMMON_GATE_COUNTERS_H

#include "common/counters.h"

enum gate_counter {
#define GATE_COUNTER(name, unit, help) GATE_COUNTER_##name,
#include "common/gate_counters.def"
#undef GATE_COUNTER
    GATE_COUNTER_COUNT
};

extern const struct counter_info gate_counter_infos[GATE_COUNTER_COUNT];

#endif
