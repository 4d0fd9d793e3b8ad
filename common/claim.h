/* SPDX-License-Identifier: MIT */
/* Who may write a ring: the one process that holds the claim. It is a record lock of fcntl(2) on
 * the memfd, which the kernel takes back when the process is gone and none of its threads can write
 * any more. Two generations meet only when a supervisor died before its workers; then the later one
 * must not begin before the earlier one has ended. */
#ifndef HOLDFAST_COMMON_CLAIM_H
#define HOLDFAST_COMMON_CLAIM_H

#include <stdint.h>
#include <sys/types.h>

/* Take the claim for this process, waiting at most patience_ns for its holder to end. It is lost
 * when the process closes any descriptor of the same memfd. 0; -EBUSY with *ret_holder (0 = a
 * process that can't be seen from here). */
int claim_take(int memfd, uint64_t patience_ns, pid_t *ret_holder);

/* Send SIGKILL to another process that holds the claim. Its pid, 0 when there is none, or -errno.
 * Does not wait. */
pid_t claim_evict(int memfd);

#endif
