/* SPDX-License-Identifier: MIT */
/* Fetches log files of a channel through libholdfast, for the system tests: any of those that there
 * are, whole or in parts, without a pause, until its stdin ends. Says "ready" when it has begun.
 * Every fetch is a line in a file, which the test judges by what it knows of the files:
 *
 *   NAME OFFSET LENGTH RESULT BYTES CRC32 MILLISECONDS
 *
 * NAME is that of the sealed file, RESULT what hf_log_copy() returned, and BYTES came, also where
 * it failed. Of a file that is being written only what lies behind its header is asked for: the
 * header changes once, when it is sealed. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <isa-l/crc.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/monotonic.h"

#define HEADER_MOST 65536 /* more than any file's header */
#define LIST_EVERY  8     /* fetches */

static hf *handle;
static const char *channel;
static unsigned how;
static int target;
static FILE *record;
static uint64_t chance = 1;

static _Noreturn void fail(const char *what, int error)
{
    fprintf(stderr, "tool_fetcher: %s: %s\n", what, strerror(error < 0 ? -error : error));
    exit(1);
}

static uint64_t below(uint64_t count)
{
    chance = chance * 6364136223846793005u + 1442695040888963407u;
    return count ? (chance >> 33) % count : 0;
}

static bool is_over(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&input, 1, 0) != 0;
}

/* All that has come, in the words of zlib's crc32(). */
static uint32_t crc_of_target(uint64_t *ret_bytes)
{
    struct stat status;
    if (fstat(target, &status) < 0)
        fail("fstat", errno);
    *ret_bytes = (uint64_t)status.st_size;
    if (status.st_size == 0)
        return 0;
    void *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, target, 0);
    if (bytes == MAP_FAILED)
        fail("mmap", errno);
    uint32_t crc = crc32_gzip_refl(0, bytes, (uint64_t)status.st_size);
    munmap(bytes, (size_t)status.st_size);
    return crc;
}

static void fetch(const struct hf_log *log)
{
    const uint64_t least = log->is_open ? HEADER_MOST : 0;
    const uint64_t offset =
        below(2) || log->size <= least ? least : least + below(log->size - least);
    const uint64_t length = below(2) ? 0 : 1 + below(log->size);
    const char *suffix = strstr(log->name, ".open");
    const int stem = suffix ? (int)(suffix - log->name) : (int)strlen(log->name);
    uint64_t bytes;
    if (ftruncate(target, 0) < 0 || lseek(target, 0, SEEK_SET) < 0)
        fail("emptying the last one", errno);
    const monotonic begun = monotonic_now();
    const int64_t result = hf_log_copy(handle, channel, log->name, target, offset, length, how);
    const uint64_t took = monotonic_since(monotonic_now(), begun);
    const uint32_t crc = crc_of_target(&bytes);
    if (fprintf(record,
                "%.*s %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRIu64 " %" PRIu32 " %" PRIu64 "\n",
                stem, log->name, offset, length, result, bytes, crc,
                (uint64_t)(took / NS_PER_MS)) < 0 ||
        fflush(record) != 0)
        fail("writing what came", errno);
}

/* Anew now and then: files come and go. */
static void run(void)
{
    struct hf_log *logs = NULL;
    size_t count = 0;
    for (unsigned turn = 0; !is_over(); turn++) {
        if (turn % LIST_EVERY == 0 || count == 0) {
            free(logs);
            logs = NULL;
            if (hf_log_list(handle, channel, &logs, &count) < 0)
                count = 0;
        }
        if (count > 0)
            fetch(&logs[below(count)]);
        else
            poll(NULL, 0, 5);
    }
    free(logs);
}

int main(int argc, char **argv)
{
    static const char *const hows[] = {
        [HF_BY_FD] = "fd", [HF_BY_COPY] = "copy", [HF_BY_SPLICE] = "splice"};
    if (argc != 5) {
        fprintf(stderr, "usage: tool_fetcher READ_SOCKET CHANNEL fd|copy|splice FILE\n");
        return 2;
    }
    channel = argv[2];
    while (how <= HF_BY_SPLICE && strcmp(argv[3], hows[how]) != 0)
        how++;
    target = memfd_create("fetched", MFD_CLOEXEC);
    record = fopen(argv[4], "we");
    if (how > HF_BY_SPLICE || target < 0 || !record)
        fail(argv[3], EINVAL);
    chance = (uint64_t)getpid();
    int result = hf_open(&handle, argv[1]);
    if (result < 0)
        fail("connecting", result);
    printf("ready\n");
    fflush(stdout);
    run();
    hf_close(handle);
    return 0;
}
