/* SPDX-License-Identifier: MIT */
/* A system call that fails, as a sandbox or an older kernel would have it (seccomp(2)). */
#ifndef HOLDFAST_TESTS_LIB_DENY_CALL_H
#define HOLDFAST_TESTS_LIB_DENY_CALL_H

#include <stdint.h>

#define DENY_ANY_ARGUMENT (-1)

struct denied_call {
    long number;      /* SYS_... */
    int error;        /* what it fails with */
    int argument;     /* only when this one, from 0 on, ... */
    uint32_t is;      /* ... is this; or DENY_ANY_ARGUMENT */
    uint32_t has_bit; /* ... or, when not 0, has one of these bits */
};

/* From here on, in this process and its children, for good. 0 or -errno. */
int deny_call_install(const struct denied_call *denied);

/* The same in a unit test, which is skipped when the kernel has no seccomp. */
void deny_call(const struct denied_call *denied);

#endif
