/* SPDX-License-Identifier: MIT */
/* Installs seccomp filters for unit tests, which run each in a process of its own. Filters add up:
 * the strictest one decides. */
#include "tests/lib/deny_call.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "tests/lib/unit.h"

int deny_call_install(const struct denied_call *denied)
{
    bool any = denied->argument == DENY_ANY_ARGUMENT;
    /* The lower half of the argument; all machines that this runs on are little-endian. */
    uint32_t at = (uint32_t)offsetof(struct seccomp_data, args) +
                  (any ? 0 : (uint32_t)denied->argument) * (uint32_t)sizeof(uint64_t);
    uint16_t compare = (uint16_t)(denied->has_bit ? BPF_JSET : BPF_JEQ);
    uint32_t value = denied->has_bit ? denied->has_bit : denied->is;
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)denied->number, 0, (uint8_t)(any ? 1 : 3)),
        any ? (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
                                           SECCOMP_RET_ERRNO | (uint32_t)denied->error)
            : (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at),
        any ? (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
            : (struct sock_filter)BPF_JUMP(BPF_JMP | compare | BPF_K, value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)denied->error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0)
        return -errno;
    return 0;
}

void deny_call(const struct denied_call *denied)
{
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    if (denied->number == SYS_mmap)
        unit_skip("a sanitizer maps memory of its own");
#endif
    int result = deny_call_install(denied);
    if (result < 0)
        unit_skip("no seccomp filter here: %s", strerror(-result));
}
