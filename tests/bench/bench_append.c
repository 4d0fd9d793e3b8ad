/* SPDX-License-Identifier: MIT */
/* Appends records to one file by one means, once, and prints what that took as one line of JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/bench/append.h"
#include "tests/bench/support.h"

static const struct append_backend *const backends[] = {
    &append_memcpy, &append_map,  &append_map_ahead, &append_write,
    &append_uring,  &append_avro, &append_lmdb,      &append_sqlite};

static const struct append_backend *find_backend(const char *name)
{
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (strcmp(backends[i]->name, name) == 0)
            return backends[i];
    support_refuse(
        "--backend is one of memcpy, map, map-ahead, write, io_uring, avro-c, lmdb, sqlite");
}

int main(int argc, char **argv)
{
    static struct append_job job;
    const struct append_backend *backend =
        find_backend(support_option(argc, argv, "--backend", ""));
    job.path = support_option(argc, argv, "--path", NULL);
    job.size = support_size(support_option(argc, argv, "--size", "64M"));
    job.payload = (uint32_t)support_number(support_option(argc, argv, "--payload", "256"),
                                           APPEND_PAYLOAD_MAX);
    job.readers =
        (uint32_t)support_number(support_option(argc, argv, "--readers", "0"), APPEND_READERS_MAX);
    job.deadline_ns =
        support_number(support_option(argc, argv, "--ms", "2000"), 600000) * NS_PER_MS;
    job.writer_cpu = (int)support_number(support_option(argc, argv, "--cpu", "0"), 1023);
    if (!job.path || job.size < 1 << 20)
        support_refuse("--path FILE is needed, and a --size of at least 1M");
    if (!backend->run || (job.readers > 0 && !backend->live_readers)) {
        printf("{\"unavailable\": \"%s\"}\n", backend->run ? "no live readers" : "not installed");
        return 0;
    }
    const char *why_not = backend->why_not ? backend->why_not() : NULL;
    if (why_not) {
        printf("{\"unavailable\": \"%s\"}\n", why_not);
        return 0;
    }
    append_prepare();
    backend->run(&job);
    printf("{\"what\": \"%s\", \"records\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"ns\": %" PRIu64
           ", \"cpu_ns\": %" PRIu64 ", ",
           backend->what, job.records, job.bytes, job.ns, job.cpu_ns);
    counts_print(&job.counts);
    printf(", \"reader_records\": [");
    for (uint32_t i = 0; i < job.readers; i++)
        printf("%s%" PRIu64, i ? ", " : "", job.reader_records[i]);
    printf("]}\n");
    return 0;
}
