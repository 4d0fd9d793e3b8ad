/* SPDX-License-Identifier: MIT */
/* A reader's position as a file: what was printed comes back, and what was damaged anywhere is no
 * position. */
#include "common/position_file.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/avro_log_format.h"
#include "common/read_protocol.h"
#include "tests/lib/unit.h"

static const struct position_file positions[] = {
    {0, 0, 0},
    {4711, 1795780000123456789, 1000},
    {UINT64_MAX, INT64_MAX, UINT32_MAX},
    {1, INT64_MIN, 65534},
};

START_TEST(it_comes_back)
{
    char text[POSITION_FILE_SIZE_MAX];
    struct position_file back;
    size_t length = position_file_print(&positions[_i], text);
    ck_assert_uint_lt(length, sizeof text);
    ck_assert_uint_eq(strlen(text), length);
    ck_assert_int_eq(position_file_parse(text, length, &back), 0);
    ck_assert_uint_eq(back.seq, positions[_i].seq);
    ck_assert_int_eq(back.saved_ns, positions[_i].saved_ns);
    ck_assert_uint_eq(back.uid, positions[_i].uid);
}
END_TEST

START_TEST(it_is_text_that_people_can_read)
{
    char text[POSITION_FILE_SIZE_MAX];
    position_file_print(&positions[1], text);
    ck_assert_int_eq(strncmp(text, "seq 4711\nuid 1000\nsaved 1795780000123456789\ncheck ", 50), 0);
}
END_TEST

START_TEST(no_part_of_it_is_a_position)
{
    char text[POSITION_FILE_SIZE_MAX];
    struct position_file back;
    size_t length = position_file_print(&positions[1], text);
    for (size_t part = 0; part < length; part++)
        ck_assert_int_eq(position_file_parse(text, part, &back), -EBADMSG);
}
END_TEST

START_TEST(no_flipped_bit_is_overlooked)
{
    char text[POSITION_FILE_SIZE_MAX];
    struct position_file back;
    size_t length = position_file_print(&positions[1], text);
    for (size_t bit = 0; bit < 8 * length; bit++) {
        text[bit / 8] ^= (char)(1 << bit % 8);
        ck_assert_msg(position_file_parse(text, length, &back) == -EBADMSG, "bit %zu", bit);
        text[bit / 8] ^= (char)(1 << bit % 8);
    }
    ck_assert_int_eq(position_file_parse(text, length, &back), 0);
}
END_TEST

/* Their check words are right, so they were written so; and no number is what it seems. */
START_TEST(odd_ones_are_refused)
{
    static const char *const odd[] = {
        "",
        "seq 1\n",
        "seq -1\nuid 0\nsaved 0\n",
        "seq 01\nuid 0\nsaved 0\n",
        "seq +1\nuid 0\nsaved 0\n",
        "seq 18446744073709551616\nuid 0\nsaved 0\n",
        "seq 1\nuid 4294967296\nsaved 0\n",
        "seq 1\nuid 0\nsaved 9223372036854775808\n",
        "seq 1\r\nuid 0\nsaved 0\n",
        " seq 1\nuid 0\nsaved 0\n",
        "seq 1\nuid 0\nsaved 0\n\n",
        "seq 1\nsaved 0\nuid 0\n",
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        char text[POSITION_FILE_SIZE_MAX];
        struct position_file back;
        int length = snprintf(text, sizeof text, "%scheck %08x\n", odd[i],
                              avro_log_crc32c((const uint8_t *)odd[i], strlen(odd[i])));
        ck_assert_msg(position_file_parse(text, (size_t)length, &back) == -EBADMSG, "%s", odd[i]);
    }
}
END_TEST

START_TEST(what_follows_it_is_no_position)
{
    char text[POSITION_FILE_SIZE_MAX * 2] = {0};
    struct position_file back;
    size_t length = position_file_print(&positions[1], text);
    ck_assert_int_eq(position_file_parse(text, length + 1, &back), -EBADMSG);
    text[length] = '\n';
    ck_assert_int_eq(position_file_parse(text, length + 1, &back), -EBADMSG);
    ck_assert_int_eq(position_file_parse(text, sizeof text, &back), -EBADMSG);
}
END_TEST

START_TEST(names_stay_in_their_folder)
{
    char longest[READ_POSITION_SIZE + 1];
    static const char *const wrong[] = {"",   ".",      "..",         ".new", "a/b",      "../x",
                                        "-a", "_first", "with space", "a.b",  "\xc3\xa4", "a\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(!position_name_is_valid(wrong[i]), "%s", wrong[i]);
    ck_assert(position_name_is_valid("a"));
    ck_assert(position_name_is_valid("0-store_A"));
    memset(longest, 'x', sizeof longest);
    ck_assert(!position_name_is_valid(longest)); /* and it is not ended */
    longest[READ_POSITION_SIZE - 1] = '\0';
    ck_assert(position_name_is_valid(longest));
    ck_assert(!position_name_is_valid(POSITION_FOLDER));
    ck_assert(!position_name_is_valid(POSITION_TEMPORARY));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("position_file");
    TCase *tcase = tcase_create("position_file");
    tcase_add_loop_test(tcase, it_comes_back, 0, sizeof positions / sizeof *positions);
    tcase_add_test(tcase, it_is_text_that_people_can_read);
    tcase_add_test(tcase, no_part_of_it_is_a_position);
    tcase_add_test(tcase, no_flipped_bit_is_overlooked);
    tcase_add_test(tcase, odd_ones_are_refused);
    tcase_add_test(tcase, what_follows_it_is_no_position);
    tcase_add_test(tcase, names_stay_in_their_folder);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
