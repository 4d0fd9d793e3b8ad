/* SPDX-License-Identifier: MIT */
/* One channel in detail. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_STATUS_CHANNEL_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_STATUS_CHANNEL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "supervisor/ctl/ctl_text.h"

/* Everything about one channel: a member of "channels" in the result of status. */
void ctl_report_channel(FILE *to, const json_t *channel, const struct ctl_look *look);

/* So many segments are not sealed. */
void ctl_print_unsealed(FILE *to, uint64_t count, bool colour);

#endif
