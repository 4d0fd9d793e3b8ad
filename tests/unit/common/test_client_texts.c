/* SPDX-License-Identifier: MIT */
/* What a program is given of a record, texts, and the times of a replay. */
#include <arpa/inet.h>
#include <check.h>
#include <math.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/un.h>

#include "common/client/holdfast.h"
#include "common/client/record.h"
#include "tests/lib/unit.h"

#define SECOND 1000000000ll

/* ---- records ---- */

static struct hf_datagram datagram_from(const char *source, struct record_source *cache)
{
    struct hf_datagram datagram;
    const struct avro_log_record record = {.seq = 7,
                                           .received_at_us = 1760000000000001,
                                           .received_ns = 234,
                                           .source = source,
                                           .source_length = strlen(source),
                                           .lost_before = 3,
                                           .cut = 4,
                                           .flags =
                                               AVRO_LOG_QUARANTINED | AVRO_LOG_NOT_COVERED | 64,
                                           .payload = (const uint8_t *)"abc",
                                           .payload_length = 3};
    memset(&datagram, 0xff, sizeof datagram);
    record_to_datagram(&record, cache, &datagram);
    return datagram;
}

START_TEST(test_a_record_as_a_datagram)
{
    struct record_source cache = {0};
    struct hf_datagram datagram = datagram_from("10.0.0.7:50123", &cache);
    ck_assert_uint_eq(datagram.seq, 7);
    ck_assert_int_eq(datagram.time_ns, 1760000000000001234);
    ck_assert_uint_eq(datagram.length, 3);
    ck_assert_int_eq(memcmp(datagram.data, "abc", 3), 0);
    ck_assert_uint_eq(datagram.lost_before, 3);
    ck_assert_uint_eq(datagram.cut, 4);
    ck_assert_uint_eq(datagram.flags, HF_FLAG_QUARANTINED | HF_FLAG_UNCOVERED);
    ck_assert_uint_eq(datagram.lost, 0);
    ck_assert_uint_eq(datagram.why, 0);
}
END_TEST

START_TEST(test_sources_there_and_back)
{
    static const char *const texts[] = {"10.0.0.7:50123",
                                        "1.2.3.4:1",
                                        "255.255.255.255:65535",
                                        "10.0.0.7:50124",
                                        "[::1]:5",
                                        "[fe80::1%lo]:50123",
                                        "10.0.0.7:0",
                                        "[::1]:0",
                                        "[fe80::1%lo]:0",
                                        "10.0.0.7:10",
                                        "10.0.0.7:1",
                                        "[2001:db8::ffff]:65535",
                                        "local:1000/4711/engine",
                                        "10.0.0.7:50123",
                                        "local:4294967295/4294967295/fourteen-bytes",
                                        "local:0/1/a:0",
                                        "10.0.0.7:50123"};
    struct record_source cache = {0};
    char text[HF_ADDRESS_SIZE];
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (int again = 0; again < 2; again++) {
            struct hf_datagram datagram = datagram_from(texts[i], &cache);
            hf_format_source(&datagram.source, text);
            ck_assert_str_eq(text, texts[i]);
        }
    struct hf_datagram datagram = datagram_from("[fe80::1%no-such-if]:9", &cache);
    hf_format_source(&datagram.source, text); /* another machine's interface */
    ck_assert_str_eq(text, "[fe80::1]:9");
}
END_TEST

/* A program may compare it as bytes, or show sun_path. */
START_TEST(test_a_publisher_is_a_text_in_sun_path)
{
    struct record_source cache = {0};
    for (int again = 0; again < 2; again++) {
        struct hf_datagram datagram = datagram_from("local:1000/4711/engine", &cache);
        const struct sockaddr_un *source = (const struct sockaddr_un *)&datagram.source;
        ck_assert_int_eq(source->sun_family, AF_UNIX);
        ck_assert_str_eq(source->sun_path, "local:1000/4711/engine");
        datagram = datagram_from("10.0.0.7:50123", &cache);
        ck_assert_int_eq(datagram.source.ss_family, AF_INET);
    }
    struct sockaddr_storage wild; /* of somebody else: no end, or no publisher */
    char text[HF_ADDRESS_SIZE];
    memset(&wild, 'x', sizeof wild);
    wild.ss_family = AF_UNIX;
    hf_format_source(&wild, text);
    ck_assert_str_eq(text, "?");
    strcpy(((struct sockaddr_un *)&wild)->sun_path, "/run/x.sock");
    hf_format_source(&wild, text);
    ck_assert_str_eq(text, "?");
}
END_TEST

START_TEST(test_sources_that_are_none)
{
    static const char *const texts[] = {"",
                                        "x",
                                        ":",
                                        ":0",
                                        "0",
                                        "10.0.0.7",
                                        "10.0.0.7:70000",
                                        "10.0.0.7:-1",
                                        "[::1]",
                                        "[::1]0",
                                        "::1:5",
                                        "name:5",
                                        "[fe80::1%]:5",
                                        "]:0",
                                        "local:1000",
                                        "local:1000/4711",
                                        "local:1000/4711/",
                                        "local:1/2/sixteen-letters-",
                                        "[:0"};
    struct record_source cache = {0};
    char text[HF_ADDRESS_SIZE];
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct hf_datagram datagram = datagram_from(texts[i], &cache);
        ck_assert_msg(datagram.source.ss_family == AF_UNSPEC, "%s", texts[i]);
        hf_format_source(&datagram.source, text);
        ck_assert_str_eq(text, "?");
    }
    struct avro_log_record record = {.source = "10.0.0.7:5\0\0", .source_length = 12};
    struct hf_datagram datagram;
    record_to_datagram(&record, &cache, &datagram); /* zeros inside */
    ck_assert_int_eq(datagram.source.ss_family, AF_UNSPEC);
    struct sockaddr_storage unix_address = {.ss_family = AF_UNIX};
    hf_format_source(&unix_address, text);
    ck_assert_str_eq(text, "?");
}
END_TEST

START_TEST(test_texts)
{
    static const char *const whys[] = {"unknown", "expired",   "lapped", "unrecorded",
                                       "damaged", "uncovered", "unknown"};
    for (uint32_t why = 0; why < 7; why++)
        ck_assert_str_eq(hf_why_text(why), whys[why]);
    ck_assert_str_eq(hf_version(), HOLDFAST_VERSION);
}
END_TEST

/* ---- pace ---- */

START_TEST(test_pace_at_several_rates)
{
    struct hf_pace pace;
    const int64_t log = 1760000000 * SECOND, now = 5000 * SECOND;
    hf_pace_start(&pace, log, now, 1);
    ck_assert_int_eq(hf_pace_due(&pace, log), now);
    ck_assert_int_eq(hf_pace_due(&pace, log + 1234567891), now + 1234567891);
    ck_assert_int_eq(hf_pace_due(&pace, log - SECOND), now - SECOND);
    hf_pace_start(&pace, log, now, 2);
    ck_assert_int_eq(hf_pace_due(&pace, log + 10 * SECOND), now + 5 * SECOND);
    hf_pace_start(&pace, log, now, 0.5);
    ck_assert_int_eq(hf_pace_due(&pace, log + 10 * SECOND), now + 20 * SECOND);
}
END_TEST

START_TEST(test_pace_changes_where_it_is)
{
    struct hf_pace pace;
    const int64_t log = 1760000000 * SECOND, now = 5000 * SECOND;
    hf_pace_start(&pace, log, now, 1);
    hf_pace_change(&pace, now + 10 * SECOND, 4); /* 10 s of the log are over */
    ck_assert_int_eq(hf_pace_due(&pace, log + 10 * SECOND), now + 10 * SECOND);
    ck_assert_int_eq(hf_pace_due(&pace, log + 18 * SECOND), now + 12 * SECOND);
    hf_pace_change(&pace, now + 12 * SECOND, 0);
    ck_assert_int_eq(hf_pace_due(&pace, log + 18 * SECOND), INT64_MAX);
    ck_assert_int_eq(hf_pace_due(&pace, log), INT64_MAX);
    hf_pace_change(&pace, now + 1000 * SECOND, 1); /* a long pause is no time of the log */
    ck_assert_int_eq(hf_pace_due(&pace, log + 19 * SECOND), now + 1001 * SECOND);
}
END_TEST

/* Whatever a log says, and for hours at odd rates: no overflow, and no error that adds up. */
START_TEST(test_pace_at_the_limits)
{
    static const int64_t times[] = {INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX - 1, INT64_MAX};
    static const double rates[] = {-1, 0, 1e-300, 1e-9, 1, 1e9, 1e300, INFINITY, NAN};
    struct hf_pace pace;
    int64_t due;
    for (size_t i = 0; i < 7; i++)
        for (size_t j = 0; j < 7; j++)
            for (size_t k = 0; k < 9; k++) {
                hf_pace_start(&pace, times[i], times[j], rates[k]);
                due = hf_pace_due(&pace, times[j]);
                ck_assert(due == INT64_MAX || rates[k] > 0);
                hf_pace_change(&pace, times[i], rates[8 - k]);
                hf_pace_due(&pace, times[i]);
            }
    hf_pace_start(&pace, 0, 0, 1);
    for (int64_t step = 1; step <= 10000; step++)
        hf_pace_change(&pace, step * SECOND, 0.5 + (double)(step % 7) / 3);
    due = hf_pace_due(&pace, pace.log_ns);
    ck_assert_int_eq(due, 10000 * SECOND);
    double log_seconds = 1;
    for (int64_t step = 1; step < 10000; step++)
        log_seconds += 0.5 + (double)(step % 7) / 3;
    ck_assert(fabs((double)pace.log_ns / 1e9 - log_seconds) < 1e-4);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client_texts");
    TCase *tests = tcase_create("texts");
    tcase_add_test(tests, test_a_record_as_a_datagram);
    tcase_add_test(tests, test_sources_there_and_back);
    tcase_add_test(tests, test_a_publisher_is_a_text_in_sun_path);
    tcase_add_test(tests, test_sources_that_are_none);
    tcase_add_test(tests, test_texts);
    tcase_add_test(tests, test_pace_at_several_rates);
    tcase_add_test(tests, test_pace_changes_where_it_is);
    tcase_add_test(tests, test_pace_at_the_limits);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
