/* SPDX-License-Identifier: MIT */
/* Who has sent how much. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_TALLY_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_TALLY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define CTL_TALLY_MAX 1000000 /* senders that are told apart; datagrams of more are `others` */

struct ctl_tally_entry {
    struct sockaddr_storage source;
    uint64_t datagrams, bytes;
};

struct ctl_tally {
    void *tree; /* tsearch(3) */
    size_t count;
    uint64_t others;
    struct ctl_tally_entry *last; /* most datagrams come from whom the one before came from */
};

/* 0 or -ENOMEM. */
int ctl_tally_add(struct ctl_tally *tally, const struct sockaddr_storage *source, uint64_t bytes);
/* The `most` with the most datagrams, those first: pointers into the tally, for free(3). NULL when
 * memory is short or there are none. */
const struct ctl_tally_entry **ctl_tally_top(const struct ctl_tally *tally, size_t most,
                                             size_t *ret_count);
void ctl_tally_free(struct ctl_tally *tally);

#endif
