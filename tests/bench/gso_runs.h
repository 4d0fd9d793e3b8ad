/* SPDX-License-Identifier: MIT */
/* Sends datagrams in runs of equal length with UDP_SEGMENT (udp(7)): what the bare loop and the
 * write() relay share. */
#ifndef HOLDFAST_TESTS_BENCH_GSO_RUNS_H
#define HOLDFAST_TESTS_BENCH_GSO_RUNS_H

#include <stdint.h>
#include <sys/uio.h>

#define GSO_RUNS_MAX 64

/* Send count (1..GSO_RUNS_MAX) datagrams on a connected socket. What the kernel refuses is dropped.
 */
void gso_runs_send(int socket, struct iovec *vectors, uint32_t count);

#endif
