/* SPDX-License-Identifier: MIT */
/* Names for the ends of processes. Called by the supervisor wherever an end is told, in its log and
 * on the control socket. Causes and signals may come from memory that a dead process has left:
 * every number must get a name. */
#include "common/death.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    const char *text;
} causes[] = {
#define DEATH_CAUSE(NAME, number, name, text) [number] = {name, text},
#include "common/death_causes.def"
#undef DEATH_CAUSE
};

#define CAUSES_END (sizeof causes / sizeof causes[0])

const char *death_cause_name(enum death_cause cause)
{
    return (size_t)cause < CAUSES_END && causes[cause].name ? causes[cause].name : "unknown";
}

const char *death_cause_text(enum death_cause cause)
{
    return (size_t)cause < CAUSES_END && causes[cause].text ? causes[cause].text : "unknown";
}

const char *signal_name(int signal, char buffer[SIGNAL_NAME_SIZE])
{
    const char *known = sigabbrev_np(signal);
    if (known)
        snprintf(buffer, SIGNAL_NAME_SIZE, "SIG%s", known);
    else
        snprintf(buffer, SIGNAL_NAME_SIZE, "signal %d", signal);
    return buffer;
}
