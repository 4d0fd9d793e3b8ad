/* SPDX-License-Identifier: MIT */
/* How long does it take to have log files sent by a running daemon, into /dev/null?
 *
 *   bench_fetch SOCKET CHANNEL copy|splice TIMES NAME... */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/client/holdfast.h"
#include "common/monotonic.h"

int main(int argc, char **argv)
{
    hf *handle;
    if (argc < 6) {
        fprintf(stderr, "usage: bench_fetch SOCKET CHANNEL copy|splice TIMES NAME...\n");
        return 2;
    }
    const unsigned how = strcmp(argv[3], "splice") == 0 ? HF_BY_SPLICE : HF_BY_COPY;
    const int to = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int64_t result = hf_open(&handle, argv[1]);
    const monotonic begun = monotonic_now();
    for (long i = strtol(argv[4], NULL, 10); i > 0 && result >= 0; i--)
        for (int name = 5; name < argc && result >= 0; name++)
            result = hf_log_copy(handle, argv[2], argv[name], to, 0, 0, how);
    if (result < 0) {
        fprintf(stderr, "bench_fetch: %s\n", strerror((int)-result));
        return 1;
    }
    printf("{\"seconds\": %.6f}\n", (double)monotonic_since(monotonic_now(), begun) / 1e9);
    hf_close(handle);
    return 0;
}
