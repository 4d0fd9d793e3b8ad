/* SPDX-License-Identifier: MIT */
/* The story: a channel takes its data from programs of this machine, not from a socket. What such a
 * channel has by itself, what it prints, and what it can't have, each with the message that says
 * so. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/config/config_surroundings.h"
#include "tests/lib/config_file.h"
#include "tests/lib/unit.h"

#define LOCAL "channel \"a\" { listen = \"local:flight\" record { } }\n"

START_TEST(a_local_channel_needs_nothing_but_its_name)
{
    struct settings *settings = config_expect_settings(LOCAL);
    const struct channel_spec *spec = settings->channels[0];
    ck_assert(channel_spec_is_local(spec));
    ck_assert_str_eq(spec->local, "flight");
    ck_assert_uint_eq(spec->receive_buffer, 0);
    ck_assert_uint_eq(spec->record.on_full, RECORD_ON_FULL_WAIT);
    ck_assert_uint_eq(spec->publishers.most, 16);
    ck_assert_uint_eq(spec->publishers.group, UINT32_MAX);
    ck_assert_uint_eq(spec->publishers.outbox_size, 1 << 20);
    config_expect_round_trip(settings);
    settings_free(settings);
}
END_TEST

START_TEST(everything_that_is_set_is_taken_and_printed)
{
    struct settings *settings = config_expect_settings(
        "channel \"a\" { listen = \"local:a-47-bytes-long-name-that-fits-but-only-just-he\"\n"
        "max_datagram = 60000 record { on_full = \"wait\" }\n"
        "relay \"r\" { to = \"127.0.0.1:26001\" }\n"
        "publishers { group = \"root\" most = 64 outbox_size = \"256M\" } }\n"
        "channel \"b\" { listen = \"local:b\" interface = \"\" source = \"\" record { }\n"
        "publishers { group = \"4294967294\" } }\n"
        "channel \"c\" { listen = \"127.0.0.1:26000\" record { } }\n");
    const struct channel_spec *spec = settings->channels[0];
    ck_assert_uint_eq(strlen(spec->local), 47);
    ck_assert_uint_eq(spec->publishers.most, 64);
    ck_assert_uint_eq(spec->publishers.group, 0);
    ck_assert_uint_eq(spec->publishers.outbox_size, 256 << 20);
    ck_assert_uint_eq(settings->channels[1]->publishers.group, UINT32_MAX - 1);
    const struct publishers_spec nobody = {0};
    ck_assert_mem_eq(&settings->channels[2]->publishers, &nobody, sizeof nobody);
    ck_assert_uint_eq(settings->channels[2]->record.on_full, RECORD_ON_FULL_LAP);

    char *text = config_print_text(settings);
    ck_assert_ptr_nonnull(strstr(text, "listen = \"local:b\"\n    max_datagram"));
    ck_assert_ptr_nonnull(strstr(text, "    publishers {\n        group = \"root\"\n"
                                       "        most = 64\n        outbox_size = \"256M\"\n"));
    ck_assert_ptr_nonnull(strstr(text, "group = \"4294967294\"\n"));
    free(text);
    config_expect_round_trip(settings);
    settings_free(settings);
}
END_TEST

struct wrong {
    const char *text, *errors;
};

/* Each in a line of its own, behind the first, which is channel "a" { listen = "local:flight". */
static void expect_wrong(const struct wrong *cases, size_t count)
{
    char text[4096];
    for (size_t i = 0; i < count; i++) {
        snprintf(text, sizeof text, "channel \"a\" { listen = \"local:flight\"\n%s }\n",
                 cases[i].text);
        config_expect_errors(text, cases[i].errors);
    }
}

#define NO_SOCKET                                                                                  \
    ": listen = \"local:flight\" has no socket, programs write into shared memory: remove it"

START_TEST(what_needs_a_socket_is_refused)
{
    static const struct wrong cases[] = {
        {"record { }\ninterface = \"lo\"", "3: interface" NO_SOCKET},
        {"record { }\nsource = \"10.0.0.1\"", "3: source" NO_SOCKET},
        {"record { }\nreceive_buffer = \"1M\"\nbusy_poll = \"50us\"\nreceive_offload = false",
         "3: receive_buffer" NO_SOCKET "\n4: busy_poll" NO_SOCKET "\n5: receive_offload" NO_SOCKET},
        {"record {\non_full = \"lap\" }",
         "3: on_full = \"lap\": publishers can wait, so nothing need be lost: write \"wait\", or "
         "remove it"},
        {"record {\non_full = \"never\" }",
         "3: on_full = \"never\": choose one of \"lap\", \"wait\""},
    };
    expect_wrong(cases, sizeof cases / sizeof *cases);
}
END_TEST

START_TEST(publishers_have_limits)
{
    static const struct wrong cases[] = {
        {"record { } publishers {\nmost = 0\noutbox_size = \"63K\" }",
         "3: most = \"0\": it must be between 1 and 64\n"
         "4: outbox_size = \"63K\": it must be between 64K and 1G"},
        {"record { } publishers {\nmost = 65\noutbox_size = \"2G\" }",
         "3: most = \"65\": it must be between 1 and 64\n"
         "4: outbox_size = \"2G\": it must be between 64K and 1G"},
        {"record { } publishers {\ngroup = \"no such group\" }",
         "3: group = \"no such group\": there is no such group: make it with groupadd(8)"},
        {"record { } publishers {\ngroup = \"4294967295\" }",
         "3: group = \"4294967295\": no group has such a number"},
        {"record { } publishers {\nmost = 1 }\npublishers { }",
         "4: section publishers is there twice, first in line 2: join them"},
        {"record { } max_datagram = 65507 publishers {\noutbox_size = \"64K\" }",
         "3: outbox_size = \"64K\": too small for two datagrams of max_datagram: make it at least "
         "132K"},
    };
    expect_wrong(cases, sizeof cases / sizeof *cases);
    config_expect_errors(MINIMAL "channel \"b\" { listen = \"127.0.0.1:1\" record { }\n"
                                 "publishers { } }",
                         "3: publishers: channel \"b\" listens on a socket, and whoever reaches it "
                         "may send: remove the section, or write listen = \"local:NAME\"");
}
END_TEST

#define NO_NAME                                                                                    \
    "not a name behind local: use 1 to 47 letters, digits, _ and -, beginning with a letter or "   \
    "digit"

START_TEST(a_name_is_one_and_there_once)
{
    static const char *const names[] = {
        "",   "a/b",           "a b",
        "-a", "1000/1/engine", "a-48-bytes-long-name-that-does-not-fit-any-morex"};
    char text[512], errors[512];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(text, sizeof text, "channel \"a\" { listen = \"local:%s\" record { } }", names[i]);
        snprintf(errors, sizeof errors, "1: listen = \"local:%s\": " NO_NAME, names[i]);
        config_expect_errors(text, errors);
    }
    config_expect_errors(LOCAL "channel \"b\" { listen = \"local:flight\" record { } }",
                         "2: listen = \"local:flight\": channel \"a\" receives there too, see line "
                         "1: give one of them another name");
    settings_free(
        config_expect_settings(LOCAL "channel \"b\" { listen = \"local:Flight\" record { } }"));
    config_expect_errors(
        LOCAL "channel \"b\" { listen = \"127.0.0.1:1\" relay \"r\" { to = \"local:flight\" } }",
        "2: to = \"local:flight\": that is where programs write, not a place to send to: write an "
        "address with port, like 10.0.0.7:26000");
    config_expect_errors("read { enabled = false }\n" LOCAL,
                         "2: listen = \"local:flight\": programs reach it at the read socket, and "
                         "read { enabled = false } leaves none: enable it");
}
END_TEST

/* --check opens no socket for it, and counts what its publishers take. */
START_TEST(the_surroundings_are_looked_at_without_a_socket)
{
    struct settings *settings = config_expect_settings(
        "log_dir = \"/tmp\" control { socket = \"/tmp/c.sock\" } channel \"a\" { listen = "
        "\"local:flight\" record { } publishers { most = 64 } }");
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    ck_assert_int_eq(config_surroundings_report(to, "file", settings), 0);
    fclose(to);
    ck_assert_ptr_null(strstr(text, "channel"));
    rlim_t many = config_surroundings_descriptors(settings);
    settings->channels[0]->publishers.most = 44;
    ck_assert_uint_eq(config_surroundings_descriptors(settings), many - CHANNEL_PUBLISHER_FDS * 20);
    free(text);
    settings_free(settings);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config_local");
    TCase *cases = tcase_create("config_local");
    tcase_add_checked_fixture(cases, config_file_make, config_file_remove);
    tcase_add_test(cases, a_local_channel_needs_nothing_but_its_name);
    tcase_add_test(cases, everything_that_is_set_is_taken_and_printed);
    tcase_add_test(cases, what_needs_a_socket_is_refused);
    tcase_add_test(cases, publishers_have_limits);
    tcase_add_test(cases, a_name_is_one_and_there_once);
    tcase_add_test(cases, the_surroundings_are_looked_at_without_a_socket);
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
