/* SPDX-License-Identifier: MIT */
/* Publishers' addresses: what is printed reads back, nothing else is taken, and no byte that a
 * program or damaged memory put into a name is ever shown. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "common/channel_spec.h"
#include "common/ring.h"
#include "tests/lib/unit.h"

static void expect_text(const union socket_address *address, const char *expected)
{
    char text[SOCKET_ADDRESS_TEXT_SIZE];
    ck_assert_uint_eq(socket_address_print(address, text, sizeof text), strlen(expected));
    ck_assert_str_eq(text, expected);
}

START_TEST(what_is_printed_reads_back)
{
    static const char *const texts[] = {"local:0/1/a", "local:1000/4711/engine-2",
                                        "local:4294967295/4294967295/fifteen-letters",
                                        "local:1/2/a:\"b\",%s"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        union socket_address address, again;
        memset(&again, 0xff, sizeof again);
        ck_assert_msg(socket_address_parse_local(texts[i], &address) == 0, "%s", texts[i]);
        expect_text(&address, texts[i]);
        ck_assert_uint_eq(address.family, AF_UNIX);
        ck_assert_uint_eq(socket_address_length(&address), 0);
        ck_assert(!socket_address_is_multicast(&address));
        ck_assert(!socket_address_is_link_local(&address));
        ck_assert_int_eq(socket_address_parse_local(texts[i], &again), 0);
        ck_assert_mem_eq(&address, &again, sizeof address);
        ck_assert(socket_address_equal(&address, &again));
        again.local.pid++;
        ck_assert(!socket_address_equal(&address, &again));
        again.local.pid--;
        again.local.uid++;
        ck_assert(!socket_address_equal(&address, &again));
        again.local.uid--;
        again.local.name[0] = 'X';
        ck_assert(!socket_address_equal(&address, &again));
    }
}
END_TEST

START_TEST(nothing_else_is_taken)
{
    static const char *const texts[] = {"",
                                        "local:",
                                        "local:flight",
                                        "local:1/2",
                                        "local:1/2/",
                                        "local:/2/a",
                                        "local:1//a",
                                        "local:01/2/a",
                                        "local:1/00/a",
                                        "local:+1/2/a",
                                        "local: 1/2/a",
                                        "local:-1/2/a",
                                        "local:4294967296/2/a",
                                        "local:1/99999999999999999999999/a",
                                        "local:1/2/a/b",
                                        "local:1/2/a b",
                                        "local:1/2/a\n",
                                        "local:1/2/\xc3\xa4",
                                        "local:1/2/sixteen-letters-",
                                        "LOCAL:1/2/a",
                                        " local:1/2/a",
                                        "10.0.0.7:26000"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        union socket_address address = {.family = 0x5555};
        ck_assert_msg(socket_address_parse_local(texts[i], &address) == -EINVAL, "\"%s\"",
                      texts[i]);
        ck_assert_uint_eq(address.family, 0x5555);
    }
}
END_TEST

/* Who looks for an address to listen on or to send to is never given this one. */
START_TEST(it_is_no_address_of_a_socket)
{
    union socket_address address;
    char scope[IF_NAMESIZE];
    ck_assert_int_eq(socket_address_parse("local:1/2/a", &address), -EINVAL);
    ck_assert_int_eq(socket_address_parse_scoped("local:1/2/a", &address, scope), -EINVAL);
    ck_assert_int_eq(socket_address_parse_host("local:1/2/a", &address, scope), -EINVAL);
}
END_TEST

START_TEST(a_name_is_made_printable)
{
    static const char *const names[][2] = {{"engine", "local:7/8/engine"},
                                           {"", "local:7/8/_"},
                                           {"a b/c", "local:7/8/a_b_c"},
                                           {"\x1b[2J\xff\n", "local:7/8/_[2J__"},
                                           {"sixteen-letters-", "local:7/8/sixteen-letters"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        union socket_address address;
        memset(&address, 0xff, sizeof address);
        socket_address_local(7, 8, names[i][0], &address);
        expect_text(&address, names[i][1]);
        ck_assert_uint_eq(address.local.reserved, 0);
    }
    union socket_address wild; /* not made at all */
    memset(&wild, 0xff, sizeof wild);
    wild.family = AF_UNIX;
    expect_text(&wild, "local:4294967295/4294967295/_______________");
    char small[9];
    ck_assert_uint_eq(socket_address_print(&wild, small, sizeof small), 8);
    ck_assert_str_eq(small, "local:42");
}
END_TEST

START_TEST(a_descriptor_keeps_fourteen_bytes_of_the_name)
{
    static const char *const names[][2] = {{"a", "a"},
                                           {"eight-by", "eight-by"},
                                           {"fourteen-bytes", "fourteen-bytes"},
                                           {"fifteen-letters", "fifteen-letter"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        union socket_address address, again, expected;
        uint64_t words[2], origin;
        socket_address_local(4000000001u, 4100000002u, names[i][0], &address);
        socket_address_local(4000000001u, 4100000002u, names[i][1], &expected);
        ring_local_words(&address, words, &origin);
        ck_assert_uint_eq(words[0], 4000000001ull << 32 | 4100000002u);
        ck_assert_uint_eq(origin & 0xffff, RING_FAMILY_LOCAL); /* the flags are free */
        ring_local_source(words, origin | 0xff00, &again);
        ck_assert_mem_eq(&again, &expected, sizeof again);
    }
}
END_TEST

/* Words from shared memory that something wrote over. */
START_TEST(any_words_make_a_sound_address)
{
    uint64_t state = 88172645463325252ull;
    for (int i = 0; i < 100000; i++) {
        uint64_t words[3];
        for (int k = 0; k < 3; k++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            words[k] = i == 0 ? 0 : i == 1 ? UINT64_MAX : state;
        }
        union socket_address address, again;
        char text[SOCKET_ADDRESS_TEXT_SIZE];
        ring_local_source(words, words[2], &address);
        socket_address_print(&address, text, sizeof text);
        ck_assert_msg(socket_address_parse_local(text, &again) == 0, "%s", text);
        ck_assert_mem_eq(&address, &again, sizeof address);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("local_address");
    TCase *cases = tcase_create("local_address");
    tcase_add_test(cases, what_is_printed_reads_back);
    tcase_add_test(cases, nothing_else_is_taken);
    tcase_add_test(cases, it_is_no_address_of_a_socket);
    tcase_add_test(cases, a_name_is_made_printable);
    tcase_add_test(cases, a_descriptor_keeps_fourteen_bytes_of_the_name);
    tcase_add_test(cases, any_words_make_a_sound_address);
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
