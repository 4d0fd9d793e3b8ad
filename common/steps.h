/* SPDX-License-Identifier: MIT */
/* The steps of steps.def by number; 0 means none. */
#ifndef HOLDFAST_COMMON_STEPS_H
#define HOLDFAST_COMMON_STEPS_H

enum step {
    STEP_none,
#define STEP(name, what) STEP_##name,
#include "common/steps.def"
#undef STEP
    STEP_COUNT
};

#endif
