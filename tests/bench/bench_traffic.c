/* SPDX-License-Identifier: MIT */
/* Sends a bounded number of numbered datagrams at a steady rate, takes what comes out of the system
 * under test, and prints what arrived, how fast, and how late, as one line of JSON. Started by the
 * relay benches, once per trial. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/support.h"
#include "tests/bench/traffic.h"

static struct traffic traffic = {.count = 1000,
                                 .rate = 1000,
                                 .size = 800,
                                 .segments = TRAFFIC_SEGMENTS_MAX,
                                 .idle_ns = 200 * NS_PER_MS,
                                 .deadline_ns = 60 * NS_PER_S,
                                 .coalesce_ns = 50 * NS_PER_US,
                                 .send_cpu = -1,
                                 .receive_cpu = -1};

static const char usage[] = "usage: bench_traffic --to ADDRESS:PORT... [--on ADDRESS:PORT...] "
                            "[--also ADDRESS:PORT...] [--count N] [--rate N]\n"
                            "  [--size BYTES] [--segments N] [--tag N] [--idle-ms N] [--deadline-s "
                            "N] [--coalesce-us N] [--latency 0|1]\n"
                            "  [--send-cpu N] [--receive-cpu N]\n"
                            "--on is measured, --also only counted and must come after all --on";

static void take_sink(const char *value, bool also)
{
    if (traffic.on_count == TRAFFIC_SOCKETS_MAX || (!also && traffic.also_count > 0))
        support_refuse(usage);
    support_address(value, &traffic.on[traffic.on_count++]);
    traffic.also_count += also;
}

static void take_option(const char *name, const char *value)
{
    if (strcmp(name, "--to") == 0) {
        if (traffic.to_count == TRAFFIC_DESTINATIONS_MAX)
            support_refuse("too many destinations");
        support_address(value, &traffic.to[traffic.to_count++]);
    } else if (strcmp(name, "--on") == 0 || strcmp(name, "--also") == 0) {
        take_sink(value, name[2] == 'a');
    } else if (strcmp(name, "--count") == 0) {
        traffic.count = support_number(value, TRAFFIC_COUNT_MAX);
    } else if (strcmp(name, "--rate") == 0) {
        traffic.rate = support_number(value, 100000000);
    } else if (strcmp(name, "--size") == 0) {
        traffic.size = (uint32_t)support_number(value, TRAFFIC_BYTES_MAX);
    } else if (strcmp(name, "--segments") == 0) {
        traffic.segments = (uint32_t)support_number(value, TRAFFIC_SEGMENTS_MAX);
    } else if (strcmp(name, "--tag") == 0) {
        traffic.tag = support_number(value, UINT32_MAX);
    } else if (strcmp(name, "--idle-ms") == 0) {
        traffic.idle_ns = support_number(value, 60000) * NS_PER_MS;
    } else if (strcmp(name, "--deadline-s") == 0) {
        traffic.deadline_ns = support_number(value, 3600) * NS_PER_S;
    } else if (strcmp(name, "--coalesce-us") == 0) {
        traffic.coalesce_ns = support_number(value, 1000000) * NS_PER_US;
    } else if (strcmp(name, "--latency") == 0) {
        traffic.latency = support_number(value, 1) == 1;
    } else if (strcmp(name, "--send-cpu") == 0) {
        traffic.send_cpu = (int)support_number(value, 1023);
    } else if (strcmp(name, "--receive-cpu") == 0) {
        traffic.receive_cpu = (int)support_number(value, 1023);
    } else {
        support_refuse(usage);
    }
}

static void print_result(void)
{
    double seconds = (double)traffic.send_ns / 1e9;
    uint64_t sent = atomic_load(&traffic.sent);
    printf("{\"sent\": %" PRIu64 ", \"rate\": %.1f, \"received\": %" PRIu64
           ", \"repeated\": %" PRIu64 ", \"strangers\": %" PRIu64 ", \"sink_dropped\": %" PRIu64
           ", \"refused\": %" PRIu64 ", \"send_s\": %.6f, "
           "\"send_cpu_s\": %.6f, \"receive_cpu_s\": %.6f, \"also\": [",
           sent, seconds > 0 ? (double)sent / seconds : 0, traffic.received, traffic.repeated,
           traffic.strangers, traffic.dropped, traffic.refused, seconds,
           (double)traffic.send_cpu_ns / 1e9, (double)traffic.receive_cpu_ns / 1e9);
    for (uint32_t i = 0; i < traffic.also_count; i++)
        printf("%s%" PRIu64, i ? ", " : "", traffic.also_received[i]);
    printf("], \"latency_max_ns\": %" PRIu64 ", \"latency\": ", traffic.histogram->highest);
    histogram_print(traffic.histogram, stdout);
    printf("}\n");
}

int main(int argc, char **argv)
{
    pthread_t receiver, sender;
    if (argc % 2 == 0)
        support_refuse(usage);
    for (int i = 1; i + 1 < argc; i += 2)
        take_option(argv[i], argv[i + 1]);
    if (traffic.to_count == 0 || traffic.count == 0 || traffic.rate == 0 || traffic.segments == 0 ||
        traffic.size < sizeof(struct traffic_stamp))
        support_refuse(usage);
    traffic.histogram = calloc(1, sizeof *traffic.histogram);
    if (!traffic.histogram)
        support_fail("calloc");
    traffic_receive_open(&traffic);
    if (traffic.on_count > 0 && pthread_create(&receiver, NULL, traffic_receive, &traffic) != 0)
        support_fail("pthread_create");
    if (pthread_create(&sender, NULL, traffic_send, &traffic) != 0)
        support_fail("pthread_create");
    pthread_join(sender, NULL);
    if (traffic.on_count > 0)
        pthread_join(receiver, NULL);
    print_result();
    free(traffic.histogram);
    return 0;
}
