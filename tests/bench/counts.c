/* SPDX-License-Identifier: MIT */
/* Counts what a thread costs beside time. Called around what is measured, on its thread. What the
 * machine doesn't count is said to be so, and is never 0. */
#include "tests/bench/counts.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/bench/support.h"

static int open_tlb(uint64_t operation)
{
    struct perf_event_attr event = {.type = PERF_TYPE_HW_CACHE,
                                    .size = sizeof event,
                                    .config = PERF_COUNT_HW_CACHE_DTLB | operation << 8 |
                                              PERF_COUNT_HW_CACHE_RESULT_MISS << 16,
                                    .disabled = 1};
    int fd = (int)syscall(SYS_perf_event_open, &event, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0 && errno == EACCES) { /* perf_event_paranoid: what the kernel does is not ours */
        event.exclude_kernel = 1;
        fd = (int)syscall(SYS_perf_event_open, &event, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    }
    return fd;
}

static void read_usage(struct counts *counts, int sign)
{
    struct rusage usage;
    if (getrusage(RUSAGE_THREAD, &usage) < 0)
        support_fail("getrusage");
    counts->faults += (uint64_t)(sign * usage.ru_minflt);
    counts->disk_faults += (uint64_t)(sign * usage.ru_majflt);
    counts->waited += (uint64_t)(sign * usage.ru_nvcsw);
    counts->preempted += (uint64_t)(sign * usage.ru_nivcsw);
}

void counts_begin(struct counts *counts)
{
    *counts = (struct counts){.tlb_read = open_tlb(PERF_COUNT_HW_CACHE_OP_READ)};
    if (counts->tlb_read < 0)
        snprintf(counts->tlb_why, sizeof counts->tlb_why, "not counted here (perf_event_open: %s)",
                 strerror(errno));
    counts->tlb_write =
        open_tlb(PERF_COUNT_HW_CACHE_OP_WRITE); /* some processors know reads only */
    ioctl(counts->tlb_read, PERF_EVENT_IOC_ENABLE, 0);
    ioctl(counts->tlb_write, PERF_EVENT_IOC_ENABLE, 0);
    read_usage(counts, -1);
}

static uint64_t end_tlb(int *fd)
{
    uint64_t count = 0;
    if (*fd >= 0 && read(*fd, &count, sizeof count) != (ssize_t)sizeof count)
        support_fail("reading a perf event");
    fd_close(fd);
    return count;
}

void counts_end(struct counts *counts)
{
    read_usage(counts, 1);
    counts->tlb_misses = end_tlb(&counts->tlb_read);
    counts->tlb_misses += end_tlb(&counts->tlb_write);
}

void counts_print(const struct counts *counts)
{
    printf("\"faults\": %" PRIu64 ", \"disk_faults\": %" PRIu64 ", \"waited\": %" PRIu64
           ", \"preempted\": %" PRIu64 ", ",
           counts->faults, counts->disk_faults, counts->waited, counts->preempted);
    if (counts->tlb_why[0])
        printf("\"tlb_misses\": null, \"tlb_why\": \"%s\"", counts->tlb_why);
    else
        printf("\"tlb_misses\": %" PRIu64 ", \"tlb_why\": \"\"", counts->tlb_misses);
}
