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

/* With a step in channel_page.test_step: exit there instead of stopping. */
#define STEP_EXIT 0x80000000u

#endif
