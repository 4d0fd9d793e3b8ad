/* SPDX-License-Identifier: MIT */
/* What is known about the death of a worker or of the gate: wait status, last words, and what the
 * takeover cost. The last 32 of each channel, and of the gate, are kept and shown by `holdfastctl
 * crashes`; each is logged once with structured journal fields. */
#ifndef HOLDFAST_SUPERVISOR_CHILD_OBITUARY_H
#define HOLDFAST_SUPERVISOR_CHILD_OBITUARY_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/channel_page.h"
#include "common/message.h"
#include "common/monotonic.h"

#define OBITUARIES_KEPT 32

struct obituary {
    uint64_t generation;
    pid_t pid;
    uint64_t time_ns;  /* wall clock */
    uint64_t lived_ns; /* since it was assigned */
    enum death_cause cause;
    int exit_status; /* -1 unless it exited */
    int signal;      /* 0 unless a signal ended it */
    char hung_thread[16];
    bool has_words;
    struct last_words words; /* a checked copy: texts terminated, counts bounded */
    uint64_t work_first[CONSUMER_COUNT], work_end[CONSUMER_COUNT];
    uint64_t takeover_ns;    /* death seen -> successor READY; 0 while not known */
    uint64_t waited;         /* datagrams that the successor found waiting or in flight */
    uint64_t kernel_dropped; /* by the kernel between the two */
    monotonic seen;
};

struct obituary_list {
    struct obituary
        *entries[OBITUARIES_KEPT]; /* ring: oldest at next % OBITUARIES_KEPT once full */
    uint64_t next;
};

/* A worker that was waited for. */
struct death {
    uint64_t generation;
    pid_t pid;
    monotonic assigned;
    const char *hung_thread; /* NULL unless it was ended because this thread hung */
    const siginfo_t *end;
};

/* Write its obituary. Its last words are taken out of the place where it had to leave them; page is
 * its ring's. Both may be NULL. The list owns it. NULL when there is no memory. */
struct obituary *obituary_write(struct obituary_list *list, struct last_words *words,
                                struct channel_page *page, const struct death *death);
/* The thread it died of; CHANNEL_THREAD_COUNT when that is not known. */
enum channel_thread obituary_thread(const struct obituary *obituary);
struct obituary *
obituary_newest(const struct obituary_list *list); /* NULL when the list is empty */
/* Append a copy; the oldest one goes when there are too many. */
void obituary_add(struct obituary_list *list, const struct obituary *obituary);
/* The i-th of those that are kept, oldest first; NULL behind the newest. */
const struct obituary *obituary_by_age(const struct obituary_list *list, uint64_t i);
/* A successor is READY. It succeeds those too who died before they became so. */
void obituary_note_takeover(struct obituary_list *list, monotonic now);
/* channel NULL: the gate's. */
void obituary_log(const char *channel, const struct obituary *obituary);
void obituary_list_free(struct obituary_list *list);

#endif
