/* SPDX-License-Identifier: MIT */
/* Moments as people write them, as in systemd.time(7). */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_TIME_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_TIME_H

#include <stdint.h>

#include "supervisor/ctl/ctl_span.h"

#define CTL_TIME_TEXT_SIZE 48

/* "2026-11-21 12:00:00.5", "2026-11-21T12:00:00Z", "2026-11-21", "12:00", "today", "yesterday",
 * "tomorrow", "now", "-1h30m", "+5min", "5min ago", "@1790000000.5": nanoseconds since 1970-01-01
 * UTC. Local time, unless "UTC", "Z" or a distance such as "+02:00" follows. now_ns: what is
 * relative is relative to it. 0, or -EINVAL with what is wrong with it. */
int ctl_time_parse(const char *text, int64_t now_ns, int64_t *ret_ns, char why[CTL_TIME_WHY_SIZE]);

/* "2026-11-21 12:00:00.500000", local time. Negative times are those before 1970. */
void ctl_time_print_local(int64_t time_ns, char ret_text[CTL_TIME_TEXT_SIZE]);
/* "2026-11-21T12:00:00.500000000+01:00", local time (RFC 3339). */
void ctl_time_print_local_whole(int64_t time_ns, char ret_text[CTL_TIME_TEXT_SIZE]);
/* "2026-11-21T11:00:00.500000000Z" (RFC 3339). */
void ctl_time_print_utc(int64_t time_ns, char ret_text[CTL_TIME_TEXT_SIZE]);

#endif
