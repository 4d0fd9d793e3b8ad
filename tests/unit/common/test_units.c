/* SPDX-License-Identifier: MIT */
/* The story: an operator writes sizes, durations and percentages into the configuration and reads
 * them in status. What the parsers take is printed back in canonical form and means the same again;
 * what they can't understand to the last character is refused; and the texts for people stay right
 * where a unit ends and the next begins. */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "common/monotonic.h"
#include "common/units.h"
#include "tests/lib/unit.h"

static void expect_size(const char *text, uint64_t bytes, const char *canonical)
{
    uint64_t value = 0;
    char printed[32];
    ck_assert_msg(units_parse_size(text, &value) == 0, "%s was refused", text);
    ck_assert_uint_eq(value, bytes);
    units_print_size(value, printed, sizeof printed);
    ck_assert_str_eq(printed, canonical);
}

START_TEST(sizes_are_read_and_printed)
{
    expect_size("0", 0, "0");
    expect_size("1", 1, "1");
    expect_size("4096", 4096, "4K");
    expect_size("4097", 4097, "4097");
    expect_size("64K", 65536, "64K");
    expect_size("1024K", 1 << 20, "1M");
    expect_size("32M", 32 << 20, "32M");
    expect_size("2G", 2ull << 30, "2G");
    expect_size("1536M", 1536ull << 20, "1536M");
    expect_size("18446744073709551615", UINT64_MAX, "18446744073709551615");
}
END_TEST

START_TEST(sizes_that_make_no_sense_are_refused)
{
    static const char *const texts[] = {"",
                                        "K",
                                        "-1",
                                        "+1",
                                        " 1",
                                        "1 ",
                                        "1 K",
                                        "1.5G",
                                        "1k",
                                        "1KB",
                                        "1KK",
                                        "0x10",
                                        "1T",
                                        "abc",
                                        "1\n",
                                        "G32",
                                        ("\xff"
                                         "1"),
                                        "1\xff",
                                        "32MiB"};
    uint64_t value = 7;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        ck_assert_msg(units_parse_size(texts[i], &value) == -EINVAL, "\"%s\" was taken", texts[i]);
    ck_assert_int_eq(units_parse_size("18446744073709551616", &value), -ERANGE);
    ck_assert_int_eq(units_parse_size("17179869184G", &value), -ERANGE);
    ck_assert_int_eq(units_parse_size("99999999999999999999999999999999999G", &value), -ERANGE);
    ck_assert_uint_eq(value, 7); /* a refusal leaves the result alone */
}
END_TEST

static void expect_duration(const char *text, uint64_t ns, const char *canonical)
{
    uint64_t value = 0;
    char printed[32];
    ck_assert_msg(units_parse_duration(text, &value) == 0, "%s was refused", text);
    ck_assert_uint_eq(value, ns);
    units_print_duration(value, printed, sizeof printed);
    ck_assert_str_eq(printed, canonical);
}

START_TEST(durations_are_read_and_printed)
{
    expect_duration("0", 0, "0");
    expect_duration("0s", 0, "0");
    expect_duration("7ns", 7, "7ns");
    expect_duration("50us", 50 * NS_PER_US, "50us");
    expect_duration("250ms", 250 * NS_PER_MS, "250ms");
    expect_duration("1000ms", NS_PER_S, "1s");
    expect_duration("90s", 90 * NS_PER_S, "90s");
    expect_duration("60m", 3600 * NS_PER_S, "1h");
    expect_duration("36h", 36 * 3600 * NS_PER_S, "36h");
    expect_duration("7d", 7 * 86400 * NS_PER_S, "7d");
}
END_TEST

START_TEST(durations_that_make_no_sense_are_refused)
{
    static const char *const texts[] = {"",   "5",    "s",  "-1s", "1.5s", "1 s",
                                        "1S", "1sec", "1w", "1s1", "m1"};
    uint64_t value;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        ck_assert_msg(units_parse_duration(texts[i], &value) == -EINVAL, "\"%s\" was taken",
                      texts[i]);
    ck_assert_int_eq(units_parse_duration("213504d", &value), -ERANGE);
}
END_TEST

static void expect_percent(const char *text, uint32_t ppm, const char *canonical)
{
    uint32_t value = 0;
    char printed[32];
    ck_assert_msg(units_parse_percent(text, &value) == 0, "%s was refused", text);
    ck_assert_uint_eq(value, ppm);
    units_print_percent(value, printed, sizeof printed);
    ck_assert_str_eq(printed, canonical);
}

START_TEST(percentages_are_read_and_printed)
{
    expect_percent("0%", 0, "0%");
    expect_percent("5%", 50000, "5%");
    expect_percent("2.5%", 25000, "2.5%");
    expect_percent("2.50%", 25000, "2.5%");
    expect_percent("0.0001%", 1, "0.0001%");
    expect_percent("99.9999%", 999999, "99.9999%");
    expect_percent("100.0%", 1000000, "100%");
}
END_TEST

START_TEST(percentages_that_make_no_sense_are_refused)
{
    static const char *const texts[] = {"",         "5",   "%",   ".5%", "5.%",
                                        "5.00001%", "5 %", "-5%", "5%%", "5.5.5%"};
    uint32_t value;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        ck_assert_msg(units_parse_percent(texts[i], &value) == -EINVAL, "\"%s\" was taken",
                      texts[i]);
    ck_assert_int_eq(units_parse_percent("101%", &value), -ERANGE);
    ck_assert_int_eq(units_parse_percent("100.0001%", &value), -ERANGE);
}
END_TEST

/* Every canonical text is read back to the value it was printed from. */
START_TEST(printed_values_read_back_the_same)
{
    uint64_t state = 88172645463325252ull;
    for (int i = 0; i < 20000; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        uint64_t value = state >> (state % 64), back = 0;
        uint32_t ppm = (uint32_t)(state % 1000001), ppm_back = 0;
        char text[32];
        units_print_size(value, text, sizeof text);
        ck_assert_msg(units_parse_size(text, &back) == 0 && back == value, "%s", text);
        units_print_duration(value, text, sizeof text);
        ck_assert_msg(units_parse_duration(text, &back) == 0 && back == value, "%s", text);
        units_print_percent(ppm, text, sizeof text);
        ck_assert_msg(units_parse_percent(text, &ppm_back) == 0 && ppm_back == ppm, "%s", text);
    }
}
END_TEST

struct human {
    uint64_t value;
    const char *text;
};

static void expect_human(void (*print)(uint64_t, char *, size_t), const struct human *cases,
                         size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char text[32];
        print(cases[i].value, text, sizeof text);
        ck_assert_str_eq(text, cases[i].text);
    }
}

START_TEST(people_read_round_numbers)
{
    static const struct human bytes[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1.0 KiB"},
        {1536, "1.5 KiB"},
        {1048575, "1.0 MiB"}, /* not 1024.0 KiB */
        {32925286, "31.4 MiB"},
        {(1ull << 40) - 1, "1.0 TiB"},
        {UINT64_MAX, "16.0 EiB"},
    };
    static const struct human durations[] = {
        {0, "0 ns"},
        {999, "999 ns"},
        {1000, "1 us"},
        {350 * NS_PER_MS, "350 ms"},
        {4250 * NS_PER_MS, "4.2 s"},
        {NS_PER_S * 59, "59 s"},
        {NS_PER_S * 60, "1 min"},
        {NS_PER_S * 61, "1 min 1 s"},
        {NS_PER_S * (3 * 3600 + 12 * 60 + 59), "3 h 12 min"},
        {NS_PER_S * 86400 * 2, "2 d"},
        {NS_PER_S * (86400 * 2 + 3600), "2 d 1 h"},
    };
    static const struct human counts[] = {
        {0, "0"},
        {999, "999"},
        {1000, "1,000"},
        {12345678, "12,345,678"},
        {UINT64_MAX, "18,446,744,073,709,551,615"},
    };
    expect_human(units_human_bytes, bytes, sizeof bytes / sizeof *bytes);
    expect_human(units_human_duration, durations, sizeof durations / sizeof *durations);
    expect_human(units_human_count, counts, sizeof counts / sizeof *counts);
}
END_TEST

START_TEST(a_small_buffer_is_never_overrun)
{
    char buffer[8];
    memset(buffer, '#', sizeof buffer);
    units_human_count(UINT64_MAX, buffer, 4);
    ck_assert_str_eq(buffer, "18,");
    ck_assert_int_eq(buffer[4], '#');
    units_print_size(UINT64_MAX, buffer, 4);
    ck_assert_str_eq(buffer, "184");
    ck_assert_int_eq(buffer[4], '#');
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("units");
    TCase *cases = tcase_create("units");
    tcase_add_test(cases, sizes_are_read_and_printed);
    tcase_add_test(cases, sizes_that_make_no_sense_are_refused);
    tcase_add_test(cases, durations_are_read_and_printed);
    tcase_add_test(cases, durations_that_make_no_sense_are_refused);
    tcase_add_test(cases, percentages_are_read_and_printed);
    tcase_add_test(cases, percentages_that_make_no_sense_are_refused);
    tcase_add_test(cases, printed_values_read_back_the_same);
    tcase_add_test(cases, people_read_round_numbers);
    tcase_add_test(cases, a_small_buffer_is_never_overrun);
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
