/* SPDX-License-Identifier: MIT */
/* Times without a receiver. Called by verify. A file may claim one before every record, so the list
 * is bounded and the count is not. */
#include "supervisor/ctl/ctl_uncovered.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/units.h"

#define TIMES_SHOWN 10

void ctl_print_time(int64_t us, char text[CTL_TIME_TEXT_SIZE])
{
    time_t seconds = (time_t)(us / 1000000);
    struct tm utc;
    if (!gmtime_r(&seconds, &utc) ||
        strftime(text, CTL_TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
        snprintf(text, CTL_TIME_TEXT_SIZE, "?");
}

int ctl_uncovered_add(struct ctl_uncovered *uncovered, const struct ctl_uncovered_time *time)
{
    uncovered->count++;
    if (uncovered->kept == CTL_UNCOVERED_MAX)
        return 0;
    if (!uncovered->list) {
        uncovered->list = calloc(CTL_UNCOVERED_MAX, sizeof *uncovered->list);
        if (!uncovered->list)
            return -ENOMEM;
    }
    uncovered->list[uncovered->kept++] = *time;
    return 0;
}

void ctl_uncovered_free(struct ctl_uncovered *uncovered)
{
    free(uncovered->list);
    memset(uncovered, 0, sizeof *uncovered);
}

void ctl_uncovered_print(FILE *to, const struct ctl_uncovered *uncovered)
{
    char count[32], from[CTL_TIME_TEXT_SIZE] = "", until[CTL_TIME_TEXT_SIZE];
    if (uncovered->count == 0)
        return;
    units_human_count(uncovered->count, count, sizeof count);
    fprintf(to, "  not covered, nobody was receiving: before %s record%s\n", count,
            uncovered->count == 1 ? "" : "s");
    for (size_t i = 0; i < uncovered->kept && i < TIMES_SHOWN; i++) {
        const struct ctl_uncovered_time *time = &uncovered->list[i];
        ctl_print_time(time->until_us, until);
        if (time->from_known)
            ctl_print_time(time->from_us, from);
        fprintf(to, "    before seq %" PRIu64 ": %s%s to %s\n", time->seq,
                time->from_known ? "" : "up", time->from_known ? from : "", until);
    }
    if (uncovered->count > TIMES_SHOWN)
        fprintf(to, "    …\n");
}

json_t *ctl_uncovered_json(const struct ctl_uncovered *uncovered)
{
    json_t *list = json_array();
    for (size_t i = 0; i < uncovered->kept; i++) {
        const struct ctl_uncovered_time *time = &uncovered->list[i];
        json_array_append_new(
            list, json_pack("{s:I,s:o,s:I}", "seq", (json_int_t)time->seq, "from_us",
                            time->from_known ? json_integer(time->from_us) : json_null(),
                            "until_us", (json_int_t)time->until_us));
    }
    return json_pack("{s:I,s:o}", "count", (json_int_t)uncovered->count, "before", list);
}
