/* SPDX-License-Identifier: MIT */
/* Names of log files. First they are made: they sort by number. Then they are taken apart, with the
 * channel known and without. Last the names that are none: another channel's, another folder's,
 * numbers of another length or too large. */
#include "common/avro_log_name.h"

#include <check.h>
#include <string.h>

#include "tests/lib/unit.h"

START_TEST(segment_names_sort_by_number)
{
    char name[SEGMENT_NAME_SIZE], later[SEGMENT_NAME_SIZE];
    avro_log_segment_name("engine", 42, 1760000000000000000ull, name);
    ck_assert_str_eq(name, "engine-00000000000000000042-20251009T085320Z.avro.open");
    avro_log_segment_name("engine", 1000, 1, later);
    ck_assert_int_lt(strcmp(name, later), 0);
}
END_TEST

START_TEST(what_was_made_comes_apart)
{
    char name[SEGMENT_NAME_SIZE];
    struct avro_log_name parts;
    avro_log_segment_name("left-1", UINT64_MAX, 1760000000000000000ull, name);
    ck_assert(avro_log_name_is_of(name, "left-1"));
    ck_assert(!avro_log_name_is_prepared(name, "left-1"));
    ck_assert(avro_log_name_ends_in(name, AVRO_LOG_OPEN_SUFFIX));
    ck_assert(!avro_log_name_ends_in(name, AVRO_LOG_SUFFIX));
    ck_assert(avro_log_name_parse(name, "left-1", &parts));
    ck_assert_uint_eq(parts.first_seq, UINT64_MAX);
    ck_assert_int_eq(strncmp(parts.utc, "20251009T085320Z", AVRO_LOG_UTC_LENGTH), 0);
    avro_log_prepared_name("left-1", 0xabc, name);
    ck_assert_str_eq(name, "left-1-prepared-0000000000000abc.avro.open");
    ck_assert(avro_log_name_is_of(name, "left-1"));
    ck_assert(avro_log_name_is_prepared(name, "left-1"));
    ck_assert(!avro_log_name_parse(name, "left-1", &parts));
}
END_TEST

START_TEST(names_of_others_are_refused)
{
    struct avro_log_name parts;
    ck_assert(!avro_log_name_is_of("engine", "engine"));
    ck_assert(!avro_log_name_is_of("engines-1", "engine"));
    ck_assert(!avro_log_name_is_of("engine-/../../x", "engine"));
    ck_assert(!avro_log_name_ends_in(".avro", AVRO_LOG_SUFFIX));
    ck_assert(!avro_log_name_parse("engine-0000000000000000042-x", "engine", &parts));   /* 19 */
    ck_assert(!avro_log_name_parse("engine-000000000000000000042-x", "engine", &parts)); /* 21 */
    ck_assert(!avro_log_name_parse("engine-00000000000000000042.avro", "engine", &parts));
    ck_assert(!avro_log_name_parse("engine-99999999999999999999-20251009T085320Z.avro", "engine",
                                   &parts));
    ck_assert(!avro_log_name_parse("engine-best-flight.avro", "engine", &parts));
    ck_assert(!avro_log_name_parse("engine-00000000000000000042-best.avro", "engine", &parts));
    ck_assert(!avro_log_name_parse("engine-00000000000000000042-20251009T085320Z-best.avro",
                                   "engine", &parts));
    ck_assert(
        !avro_log_name_parse("engine-00000000000000000042-20251009T085320Z", "engine", &parts));
    ck_assert(avro_log_name_parse("engine-00000000000000000042-20251009T085320Z-2.avro.damaged",
                                  "engine", &parts));
    ck_assert_uint_eq(parts.number, 2);
}
END_TEST

static const struct {
    const char *name;
    const char *channel;
} channels[] = {
    {"engine-00000000000000000042-20251009T085320Z.avro", "engine"},
    {"left-1-00000000000000000042-20251009T085320Z-2.avro.damaged", "left-1"},
    {"engine.avro", "engine"},
    {"engine", "engine"},
    {"engine-42-20251009T085320Z.avro", "engine-42-20251009T085320Z"},
    {"engine-00000000000000000042.avro", "engine-00000000000000000042"},
    {"", ""},
    {"01234567890123456789012345678901234567890123456789",
     "01234567890123456789012345678901234567890123456"},
};

START_TEST(the_channel_by_the_name_alone)
{
    char channel[CHANNEL_NAME_SIZE];
    avro_log_name_channel(channels[_i].name, channel);
    ck_assert_str_eq(channel, channels[_i].channel);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("avro_log_name");
    TCase *names = tcase_create("names");
    tcase_add_test(names, segment_names_sort_by_number);
    tcase_add_test(names, what_was_made_comes_apart);
    tcase_add_test(names, names_of_others_are_refused);
    tcase_add_loop_test(names, the_channel_by_the_name_alone, 0,
                        (int)(sizeof channels / sizeof channels[0]));
    suite_add_tcase(suite, names);
    return unit_run(suite);
}
