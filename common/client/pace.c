/* SPDX-License-Identifier: MIT */
/* When a moment of the log is due. One anchor and one multiplication for each, never a sum of
 * waits: an error stays as small as it is, however long a replay lasts. */
#include "common/client/holdfast.h"

#include <stdint.h>

void hf_pace_start(struct hf_pace *pace, int64_t log_ns, int64_t mono_ns, double rate)
{
    *pace = (struct hf_pace){.log_ns = log_ns, .mono_ns = mono_ns, .rate = rate};
}

/* A difference of two times, kept inside what there is: logs may say anything. */
static int64_t minus(int64_t a, int64_t b)
{
    int64_t difference;
    if (__builtin_sub_overflow(a, b, &difference))
        return a > b ? INT64_MAX : INT64_MIN;
    return difference;
}

static int64_t plus(int64_t a, int64_t b)
{
    int64_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return b > 0 ? INT64_MAX : INT64_MIN;
    return sum;
}

/* At an ordinary rate nothing is lost by a double's 53 bits: whole nanoseconds for 104 days on
 * either side of the anchor. */
static int64_t whole(double scaled)
{
    if (scaled >= 9.2e18)
        return INT64_MAX;
    if (scaled <= -9.2e18)
        return INT64_MIN;
    return (int64_t)scaled;
}

void hf_pace_change(struct hf_pace *pace, int64_t mono_ns, double rate)
{
    int64_t elapsed = minus(mono_ns, pace->mono_ns);
    if (pace->rate > 0)
        pace->log_ns = plus(pace->log_ns, whole((double)elapsed * pace->rate));
    pace->mono_ns = mono_ns;
    pace->rate = rate;
}

int64_t hf_pace_due(const struct hf_pace *pace, int64_t log_ns)
{
    if (!(pace->rate > 0))
        return INT64_MAX;
    return plus(pace->mono_ns, whole((double)minus(log_ns, pace->log_ns) / pace->rate));
}
