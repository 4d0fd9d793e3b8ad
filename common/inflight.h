/* SPDX-License-Identifier: MIT */
/* clang-format off */
/* The batch that recvmmsg(2) is working on, in memory that outlives the worker.
 *
 * recvmmsg takes datagrams out of the kernel before the worker has published them. So its result
 * array lies in the ring memfd: before each call every msg_len is set to a sentinel, and the kernel
 * overwrites it, and the address's length before it, datagram by datagram. The batch is live exactly
 * while armed is set and armed_seq equals `published`; a successor publishes the entries whose
 * sentinel is gone.
 *
 *   crash before armed = 1          nothing was asked of the kernel
 *   crash in recvmmsg, or after it  armed_seq == published: the successor harvests the delivered entries
 *   crash after published           armed_seq < published: the batch is history
 *
 * The kernel loses a datagram if it can't write to the buffer of a process that is being killed (a
 * page fault is refused then); ring_reserve therefore populates the pages of the whole batch in this
 * process first.
 *
 * Harvesting computes every address anew and checks every length. */
/* clang-format on */
#ifndef HOLDFAST_COMMON_INFLIGHT_H
#define HOLDFAST_COMMON_INFLIGHT_H

#include <stdint.h>
#include <sys/socket.h>

#include "common/inflight_batch.h"
#include "common/ring.h"

/* Prepare `count` messages at the writer's position, which must be reserved. The result goes to
 * recvmmsg with MSG_TRUNC in its flags, so that msg_len is a datagram's full length. */
struct mmsghdr *inflight_arm(struct ring_writer *writer, uint32_t count);

/* The same where nothing is asked of the kernel, because datagrams come from elsewhere: a successor
 * knows by it what may have been overwritten. */
void inflight_note(struct ring_writer *writer, uint32_t count);

/* Fill descriptors for the first `delivered` messages and publish them. Returns the number of
 * datagrams published (with receive_offload more than `delivered`). */
uint32_t inflight_publish(struct ring_writer *writer, uint32_t delivered);

/* For a successor, before its first arm: publish what the kernel had delivered to the predecessor.
 * Returns the number of datagrams saved. */
uint32_t inflight_recover(struct ring_writer *writer);

#endif
