/* SPDX-License-Identifier: MIT */
/* Runs a program for which a system call fails: tool_deny NUMBER ERRNO ARGUMENT VALUE PROGRAM
 * [...]. The call fails with ERRNO when its argument of that place (from 0) has that value;
 * ARGUMENT -1 is always. NUMBER may be "memfd_create" or "socket". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/lib/deny_call.h"

int main(int argc, char **argv)
{
    if (argc < 6) {
        fputs("usage: tool_deny NUMBER ERRNO ARGUMENT VALUE PROGRAM [ARGUMENT]...\n", stderr);
        return 2;
    }
    const struct denied_call denied = {.number = strcmp(argv[1], "memfd_create") == 0
                                                     ? SYS_memfd_create
                                                 : strcmp(argv[1], "socket") == 0 ? SYS_socket
                                                                                  : atol(argv[1]),
                                       .error = atoi(argv[2]),
                                       .argument = atoi(argv[3]),
                                       .is = (uint32_t)strtoul(argv[4], NULL, 0)};
    int result = deny_call_install(&denied);
    if (result < 0) {
        fprintf(stderr, "tool_deny: no seccomp filter here: %s\n", strerror(-result));
        return 1;
    }
    execv(argv[5], argv + 5);
    perror(argv[5]);
    return 1;
}
