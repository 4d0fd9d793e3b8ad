/* SPDX-License-Identifier: MIT */
/* A line on standard error that says how far it has come, and goes away again. Called by the verbs
 * that read much. Must never write anything where nobody looks at a terminal. */
#include "supervisor/ctl/ctl_progress.h"

#include <stdio.h>
#include <unistd.h>

#include "supervisor/ctl/ctl_text.h"

void ctl_progress_begin(struct ctl_progress *progress)
{
    *progress = (struct ctl_progress){.on = isatty(STDERR_FILENO) != 0, .begun = monotonic_now()};
    progress->next = monotonic_add(progress->begun, NS_PER_S);
}

static void draw(struct ctl_progress *progress, monotonic now, uint64_t done, uint64_t total)
{
    char rate[CTL_TEXT_SIZE], count[CTL_TEXT_SIZE];
    const double seconds = (double)monotonic_since(now, progress->begun) / (double)NS_PER_S;
    ctl_format_rate(seconds > 0 ? (double)done / seconds : 0, rate);
    ctl_format_count(done, count);
    fputs("\r\033[K", stderr);
    if (total > 0)
        fprintf(stderr, "%3d %%, ",
                (int)(100.0 * (double)(done < total ? done : total) / (double)total));
    fprintf(stderr, "%s datagrams, %s", count, rate);
    fflush(stderr);
    progress->shown = true;
}

void ctl_progress_tell(struct ctl_progress *progress, uint64_t done, uint64_t total)
{
    if (!progress->on)
        return;
    const monotonic now = monotonic_now();
    if (now.ns < progress->next.ns)
        return;
    draw(progress, now, done, total);
    progress->next = monotonic_add(now, NS_PER_S / 5);
}

void ctl_progress_clear(struct ctl_progress *progress)
{
    if (!progress->shown)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    progress->shown = false;
}
