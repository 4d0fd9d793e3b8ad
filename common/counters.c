/* SPDX-License-Identifier: MIT */
/* The table of counters.def as data, for whoever prints counters: status, JSON, holdfastctl. Its
 * order is that of enum counter. */
#include "common/counters.h"

const struct counter_info counter_infos[COUNTER_COUNT] = {
#define COUNTER(name, unit, help) {#name, unit, help},
#include "common/counters.def"
#undef COUNTER
};
