/* SPDX-License-Identifier: MIT */
/* What verify and recover share: sequence numbers as ranges. A file with a gap at every second
 * number must not eat the memory, so the list is bounded and the counts are not. */
#include "supervisor/ctl/ctl_ranges.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/units.h"

#define RANGES_SHOWN 10

int ctl_ranges_add(struct ctl_ranges *ranges, uint64_t first, uint64_t last)
{
    ranges->numbers += last - first + 1;
    if (ranges->kept > 0 && ranges->kept == ranges->ranges &&
        ranges->list[ranges->kept - 1].last + 1 == first) {
        ranges->list[ranges->kept - 1].last = last;
        return 0;
    }
    ranges->ranges++;
    if (ranges->kept == CTL_RANGES_MAX)
        return 0;
    if ((ranges->kept & (ranges->kept - 1)) ==
        0) { /* at every power of two: room for twice as many */
        size_t room = ranges->kept ? ranges->kept * 2 : 1;
        struct ctl_range *list = realloc(ranges->list, room * sizeof *list);
        if (!list)
            return -ENOMEM;
        ranges->list = list;
    }
    ranges->list[ranges->kept++] = (struct ctl_range){first, last};
    return 0;
}

void ctl_ranges_free(struct ctl_ranges *ranges)
{
    free(ranges->list);
    memset(ranges, 0, sizeof *ranges);
}

void ctl_ranges_print(FILE *to, const struct ctl_ranges *ranges, const char *title)
{
    char numbers[32], count[32];
    if (ranges->ranges == 0)
        return;
    units_human_count(ranges->numbers, numbers, sizeof numbers);
    units_human_count(ranges->ranges, count, sizeof count);
    fprintf(to, "  %s: %s", title, numbers);
    if (ranges->ranges > 1)
        fprintf(to, " in %s ranges", count);
    for (size_t i = 0; i < ranges->kept && i < RANGES_SHOWN; i++) {
        const struct ctl_range *range = &ranges->list[i];
        fprintf(to, "%s%" PRIu64, i == 0 ? ": seq " : ", ", range->first);
        if (range->last > range->first)
            fprintf(to, "..%" PRIu64, range->last);
    }
    fprintf(to, "%s\n", ranges->ranges > RANGES_SHOWN ? ", …" : "");
}
