/* SPDX-License-Identifier: MIT */
/* What every bench program needs: to fail loudly, to read its arguments, to stand on a CPU, to open
 * UDP sockets. */
#ifndef HOLDFAST_TESTS_BENCH_SUPPORT_H
#define HOLDFAST_TESTS_BENCH_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/channel_spec.h"
#include "common/monotonic.h"

/* Ends the program: a bench that goes on after an error measures something else. */
_Noreturn void support_fail(const char *what);    /* with errno */
_Noreturn void support_refuse(const char *what);  /* without: a wrong argument, a wrong result */
void support_check(int result, const char *what); /* -errno ends the program */

uint64_t support_number(const char *text, uint64_t most);
uint64_t support_size(const char *text); /* "8G" */
void support_address(const char *text, union socket_address *ret);
/* "--name value" pairs; NULL when there is no such pair. */
const char *support_option(int argc, char **argv, const char *name, const char *otherwise);

void support_pin(int cpu); /* the calling thread; -1 = leave it */
uint64_t support_thread_cpu_ns(void);
void support_sleep_until(uint64_t monotonic_ns);

/* A bound UDP socket with this receive buffer, beyond rmem_max where that is allowed. */
int support_bind(const union socket_address *address, uint64_t receive_buffer);
int support_connect(const union socket_address *address);

int support_compare_u64(const void *a, const void *b); /* for qsort(3) */
/* Sorts; p in 0..100. */
uint64_t support_percentile(uint64_t *values, size_t count, double p);

#endif
