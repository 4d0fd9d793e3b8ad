/* SPDX-License-Identifier: MIT */
/* Receive rates and what a stall may last. The story: two readings make a rate; readings too close
 * together, counters that went back and channels without traffic make none; room divided by rate is
 * time. */
#include <check.h>
#include <stdint.h>

#include "supervisor/policy/receive_rate.h"
#include "tests/lib/unit.h"

static struct counters counters(uint64_t received, uint64_t bytes)
{
    struct counters result = {0};
    result.value[COUNTER_received] = received;
    result.value[COUNTER_received_bytes] = bytes;
    return result;
}

static void sample(struct receive_rate *rate, uint64_t at_ms, uint64_t received, uint64_t bytes)
{
    struct counters now = counters(received, bytes);
    receive_rate_sample(rate, &now, (monotonic){at_ms * NS_PER_MS});
}

START_TEST(two_readings_make_a_rate)
{
    struct receive_rate rate = {0};
    sample(&rate, 1000, 500, 400000);
    ck_assert(!rate.known);
    sample(&rate, 1100, 999, 999999); /* too soon: passed over */
    ck_assert(!rate.known);
    sample(&rate, 3000, 40500, 32400000);
    ck_assert(rate.known);
    ck_assert_double_eq_tol(rate.datagrams_per_s, 20000, 1e-6);
    ck_assert_double_eq_tol(rate.bytes_per_s, 16000000, 1e-6);
}
END_TEST

START_TEST(counters_that_went_back_begin_anew)
{
    struct receive_rate rate = {0};
    sample(&rate, 1000, 5000, 5000);
    sample(&rate, 2000, 6000, 6000);
    ck_assert(rate.known);
    sample(&rate, 3000, 10, 10);
    ck_assert(!rate.known);
    sample(&rate, 4000, 20, 30);
    ck_assert(rate.known);
    ck_assert_double_eq_tol(rate.datagrams_per_s, 10, 1e-9);
}
END_TEST

START_TEST(room_divided_by_rate_is_time)
{
    struct receive_rate rate = {0};
    struct stall_room room = {
        .ring_bytes = 32 << 20, .ring_datagrams = 65536, .receive_buffer = 1344 * 10000};
    ck_assert_double_lt(receive_rate_ring_lasts(&rate, &room), 0); /* nothing is known */
    sample(&rate, 1000, 0, 0);
    sample(&rate, 2000, 0, 0);
    ck_assert_double_lt(receive_rate_ring_lasts(&rate, &room), 0); /* no traffic */
    ck_assert_double_lt(receive_rate_buffer_lasts(&rate, &room), 0);
    sample(&rate, 3000, 10000, 1000000); /* 100 bytes each: descriptors run out first */
    ck_assert_double_eq_tol(receive_rate_ring_lasts(&rate, &room), 6.5536, 1e-9);
    ck_assert_double_eq_tol(receive_rate_buffer_lasts(&rate, &room), 2,
                            1e-9);        /* 832 + 512 charged of twice the buffer */
    sample(&rate, 4000, 20000, 17777216); /* bytes run out first */
    ck_assert_double_eq_tol(receive_rate_ring_lasts(&rate, &room), 2, 1e-9);
}
END_TEST

START_TEST(damaged_counters_do_no_harm)
{
    struct receive_rate rate = {0};
    struct stall_room room = {
        .ring_bytes = UINT64_MAX, .ring_datagrams = UINT64_MAX, .receive_buffer = UINT64_MAX};
    sample(&rate, 1000, 0, 0);
    sample(&rate, 2000, 1, UINT64_MAX);
    ck_assert_double_ge(receive_rate_ring_lasts(&rate, &room), 0);
    ck_assert_double_ge(receive_rate_buffer_lasts(&rate, &room), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("receive rate");
    TCase *tests = tcase_create("rate");
    tcase_add_test(tests, two_readings_make_a_rate);
    tcase_add_test(tests, counters_that_went_back_begin_anew);
    tcase_add_test(tests, room_divided_by_rate_is_time);
    tcase_add_test(tests, damaged_counters_do_no_harm);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
