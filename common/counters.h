/* SPDX-License-Identifier: MIT */
/* The ledger's counters by name; declared in counters.def. */
#ifndef HOLDFAST_COMMON_COUNTERS_H
#define HOLDFAST_COMMON_COUNTERS_H

#include <stdint.h>

enum counter {
#define COUNTER(name, unit, help) COUNTER_##name,
#include "common/counters.def"
#undef COUNTER
    COUNTER_COUNT
};

struct counters {
    uint64_t value[COUNTER_COUNT];
};

struct counter_info {
    const char *name;
    const char *unit;
    const char *help;
};

extern const struct counter_info counter_infos[COUNTER_COUNT];

#endif
