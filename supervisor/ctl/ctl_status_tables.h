/* SPDX-License-Identifier: MIT */
/* Destinations and counters of one channel: a member of "channels" in the result of status. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_STATUS_TABLES_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_STATUS_TABLES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "supervisor/ctl/ctl_text.h"

/* With a blank line before it, and why those that are down are so; nothing where there are none. */
void ctl_print_destinations(FILE *to, const json_t *channel, const struct ctl_look *look);
void ctl_print_counters(FILE *to, const json_t *channel, const struct ctl_look *look);

/* Does the counter of this name count what is not where it should be? */
bool ctl_is_loss(const char *name);
/* Has the kernel dropped some, and may it be more than it says? */
bool ctl_drops_are_least(const json_t *channel);

#endif
