/* SPDX-License-Identifier: MIT */
/* The story: an operator writes a configuration that is right. It becomes settings, which print in
 * a canonical form that reads back the same; damage to the file never brings the reader down; and
 * the files we ship are right. What is wrong is in test_config_errors.c. */
#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "tests/lib/config_file.h"
#include "tests/lib/unit.h"

/* A file of the source tree: the runner says where that is; by hand it is the working folder. */
static const char *shipped(const char *name)
{
    static char full[1024];
    const char *source = getenv("HOLDFAST_TEST_SOURCE");
    snprintf(full, sizeof full, "%s/%s", source ? source : ".", name);
    return full;
}

/* ---- what is right ---- */

START_TEST(a_minimal_file_has_the_documented_defaults)
{
    struct settings *settings = config_expect_settings(MINIMAL);
    const struct channel_spec *spec = settings->channels[0];
    ck_assert_str_eq(settings->log_dir, "/var/lib/holdfast");
    ck_assert_str_eq(settings->control_socket, "/run/holdfast/control.sock");
    ck_assert_uint_eq(settings->control_mode, 0660);
    ck_assert_str_eq(settings->control_group, "");
    ck_assert_str_eq(settings->read_socket, "/run/holdfast/read.sock");
    ck_assert_uint_eq(settings->read_mode, 0660);
    ck_assert_str_eq(settings->read_group, "");
    ck_assert_uint_eq(settings->read_enabled, 1);
    const struct gate_limits limits = GATE_LIMITS_DEFAULT;
    ck_assert_mem_eq(&settings->read_limits, &limits, sizeof limits);
    ck_assert_uint_eq(settings->spare_workers, 1);
    ck_assert_uint_eq(settings->hang_timeout_ns, 2 * NS_PER_S);
    ck_assert_uint_eq(settings->restart.healthy_after_ns, 10 * NS_PER_S);
    ck_assert_uint_eq(settings->restart.first_delay_ns, 10 * NS_PER_MS);
    ck_assert_uint_eq(settings->restart.max_delay_ns, 10 * NS_PER_S);
    ck_assert_uint_eq(settings->restart.give_up_after, 0);
    ck_assert_uint_eq(settings->channel_count, 1);
    ck_assert_str_eq(spec->name, "a");
    ck_assert_uint_eq(spec->receive_buffer, 32 << 20);
    ck_assert_uint_eq(spec->ring_size, 32 << 20);
    ck_assert_uint_eq(spec->max_datagram, 2048);
    ck_assert_uint_eq(spec->mapping, RING_MAPPING_AUTO);
    ck_assert_uint_eq(spec->ring_pages, RING_PAGES_NORMAL);
    ck_assert_uint_eq(spec->receive_offload, 0);
    ck_assert_uint_eq(spec->busy_poll_us, 0);
    ck_assert_uint_eq(spec->realtime_priority, 0);
    ck_assert_uint_eq(spec->record.enabled, 1);
    ck_assert_uint_eq(spec->record.segment_size, 256 << 20);
    ck_assert_uint_eq(spec->record.segment_time_ns, 3600 * NS_PER_S);
    ck_assert_uint_eq(spec->record.sync_ns, NS_PER_S);
    ck_assert_uint_eq(spec->record.sync_every, 0);
    ck_assert_uint_eq(spec->record.gather_ns, 5 * NS_PER_MS);
    ck_assert_uint_eq(spec->record.keep_for_ns, 0);
    ck_assert_uint_eq(spec->record.keep_at_most, 0);
    ck_assert_uint_eq(spec->record.keep_free_ppm, 0);
    ck_assert_uint_eq(spec->record.on_full, RECORD_ON_FULL_LAP);
    config_expect_round_trip(settings);
    settings_free(settings);
}
END_TEST

/* Wherever control stands, before or behind it. */
START_TEST(the_readers_socket_follows_the_control_socket)
{
    static const struct {
        const char *text, *socket, *group;
        mode_t mode;
    } cases[] = {
        {"control { socket = ./c.sock mode = 0600 group = telemetry }\n", "./read.sock",
         "telemetry", 0600},
        {"control { socket = c.sock }\n", "read.sock", "", 0660},
        {"control { socket = /c.sock }\n", "/read.sock", "", 0660},
        {"read { mode = 0644 }\ncontrol { socket = /a/b/c mode = 0600 group = g }\n",
         "/a/b/read.sock", "g", 0644},
        {"read { group = \"\" }\ncontrol { group = g }\n", "/run/holdfast/read.sock", "", 0660},
        {"read { socket = /x/y }\ncontrol { socket = /a/b }\n", "/x/y", "", 0660},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        snprintf(text, sizeof text, "%s%s", cases[i].text, MINIMAL);
        struct settings *settings = config_expect_settings(text);
        ck_assert_str_eq(settings->read_socket, cases[i].socket);
        ck_assert_str_eq(settings->read_group, cases[i].group);
        ck_assert_uint_eq(settings->read_mode, cases[i].mode);
        config_expect_round_trip(settings);
        settings_free(settings);
    }
}
END_TEST

static const char every_key[] =
    "log_dir = \"./da\\\"ta \\$x \\\\ \\x41\\x01\" spare_workers = 0 hang_timeout = \"500ms\"\n"
    "control { socket = './sock' mode = \"600\" group = telemetry }\n"
    "read { socket = \"/there/r\" mode = 0666 group = \"\" enabled = off connections = 12000\n"
    "  connections_per_user = 10000 requests_per_second = 500 requests_per_connection = 1000\n"
    "  queue = 100 lent_per_user = 50 sending_per_user = \"1G\" idle_timeout = \"30s\"\n"
    "  request_timeout = \"250ms\" grace = \"0\" }\n"
    "restart { healthy_after = \"1m\" first_delay = \"20ms\" max_delay = \"5s\" give_up_after = 7 "
    "}\n"
    "channel \"engine\" {\n"
    "  listen = \"239.1.1.9:26000\" interface = \"lo\" source = \"10.0.0.7\"\n"
    "  receive_buffer = \"1M\" max_datagram = 65507 ring_size = \"524288\" mapping = \"mirror\"\n"
    "  ring_pages = huge\n"
    "  receive_offload = true busy_poll = \"50us\" batch_delay = \"1ms\" expect = \"90s\" cpus = "
    "{2, 3, 1023} "
    "realtime_priority = 10\n"
    "  relay \"one\" { to = \"[ff05::1]:6000\" interface = \"lo\" ttl = 255 loop = no }\n"
    "  decimate \"two\" { to = \"10.0.0.8:6000\" keep_every = 5 }\n"
    "  relay \"three\" { to = \"[ff02::1%lo]:6000\" }\n"
    "  decimate \"four\" { to = \"[::1]:6001\" max_rate = 50 }\n"
    "  record { segment_size = \"1M\" segment_time = \"0\" sync = \"0\" sync_every = 250 gather = "
    "\"250us\" keep_for "
    "= \"7d\" "
    "keep_at_most = \"50G\"\n"
    "           keep_free = \"2.5%\" on_full = \"wait\" }\n"
    "}\n"
    "channel gps { listen = [::1]:26010 relay out { to = 127.0.0.1:1 } }\n";

START_TEST(one_user_has_a_quarter_of_the_connections)
{
    struct settings *settings = config_expect_settings("read { connections = 10 }\n" MINIMAL);
    ck_assert_uint_eq(settings->read_limits.connections_per_user, 3);
    settings_free(settings);
}
END_TEST

START_TEST(every_key_is_read)
{
    struct settings *settings = config_expect_settings(every_key);
    const struct channel_spec *spec = settings->channels[0];
    ck_assert_str_eq(settings->log_dir, "./da\"ta $x \\ A\x01");
    ck_assert_uint_eq(settings->spare_workers, 0);
    ck_assert_uint_eq(settings->hang_timeout_ns, 500 * NS_PER_MS);
    ck_assert_str_eq(settings->control_socket, "./sock");
    ck_assert_uint_eq(settings->control_mode, 0600);
    ck_assert_str_eq(settings->control_group, "telemetry");
    ck_assert_str_eq(settings->read_socket, "/there/r");
    ck_assert_uint_eq(settings->read_mode, 0666);
    ck_assert_str_eq(settings->read_group, "");
    ck_assert_uint_eq(settings->read_enabled, 0);
    ck_assert_uint_eq(settings->read_limits.connections, 12000);
    ck_assert_uint_eq(settings->read_limits.connections_given, 1);
    ck_assert_uint_eq(settings->read_limits.connections_per_user, 10000);
    ck_assert_uint_eq(settings->read_limits.requests_per_second, 500);
    ck_assert_uint_eq(settings->read_limits.requests_per_connection, 1000);
    ck_assert_uint_eq(settings->read_limits.queue, 100);
    ck_assert_uint_eq(settings->read_limits.lent_per_user, 50);
    ck_assert_uint_eq(settings->read_limits.sending_per_user, 1 << 30);
    ck_assert_uint_eq(settings->read_limits.idle_timeout_ns, 30 * NS_PER_S);
    ck_assert_uint_eq(settings->read_limits.request_timeout_ns, 250 * NS_PER_MS);
    ck_assert_uint_eq(settings->read_limits.grace_ns, 0);
    ck_assert_uint_eq(settings->restart.healthy_after_ns, 60 * NS_PER_S);
    ck_assert_uint_eq(settings->restart.give_up_after, 7);
    ck_assert_uint_eq(settings->channel_count, 2);
    ck_assert_str_eq(spec->interface, "lo");
    ck_assert_uint_eq(spec->source.family, AF_INET);
    ck_assert_uint_eq(spec->ring_size, 512 << 10);
    ck_assert_uint_eq(spec->mapping, RING_MAPPING_MIRROR);
    ck_assert_uint_eq(spec->ring_pages, RING_PAGES_HUGE);
    ck_assert_uint_eq(spec->receive_offload, 1);
    ck_assert_uint_eq(spec->busy_poll_us, 50);
    ck_assert_uint_eq(spec->batch_delay_us, 1000);
    ck_assert_uint_eq(spec->expect_ns, 90 * NS_PER_S);
    ck_assert_uint_eq(spec->cpus[0], 3 << 2);
    ck_assert_uint_eq(spec->cpus[15], 1ull << 63);
    ck_assert_uint_eq(spec->realtime_priority, 10);
    ck_assert_uint_eq(spec->relay_count, 2);
    ck_assert_uint_eq(spec->decimate_count, 2);
    ck_assert_str_eq(spec->destinations[0].name, "one");
    ck_assert_uint_eq(spec->destinations[0].ttl, 255);
    ck_assert_uint_eq(spec->destinations[0].loop, 0);
    ck_assert_str_eq(spec->destinations[1].name, "three");
    ck_assert_str_eq(spec->destinations[1].interface, "lo"); /* from the scope */
    ck_assert_str_eq(spec->destinations[2].name, "two");
    ck_assert_uint_eq(spec->destinations[2].keep_every, 5);
    ck_assert_uint_eq(spec->destinations[2].max_rate, 0);
    ck_assert_str_eq(spec->destinations[3].name, "four");
    ck_assert_uint_eq(spec->destinations[3].max_rate, 50);
    ck_assert_uint_eq(spec->destinations[3].kind, DESTINATION_DECIMATE);
    ck_assert_uint_eq(spec->record.segment_time_ns, 0);
    ck_assert_uint_eq(spec->record.sync_ns, 0);
    ck_assert_uint_eq(spec->record.sync_every, 250);
    ck_assert_uint_eq(spec->record.gather_ns, 250 * NS_PER_US);
    ck_assert_uint_eq(spec->record.keep_for_ns, 7 * 86400 * NS_PER_S);
    ck_assert_uint_eq(spec->record.keep_free_ppm, 25000);
    ck_assert_uint_eq(spec->record.on_full, RECORD_ON_FULL_WAIT);
    ck_assert_uint_eq(settings->channels[1]->record.enabled, 0);
    config_expect_round_trip(settings);
    settings_free(settings);
}
END_TEST

START_TEST(what_lets_two_channels_live_side_by_side)
{
    settings_free(
        config_expect_settings(/* a plain chain */
                               "channel a { listen = 127.0.0.1:1 relay x { to = 127.0.0.1:2 } }\n"
                               "channel b { listen = 127.0.0.1:2 relay x { to = 127.0.0.1:3 } "
                               "}\n"));
    settings_free(
        config_expect_settings(/* a diamond is no loop */
                               "channel a { listen = 127.0.0.1:1 relay x { to = 127.0.0.1:2 } "
                               "relay y { to = 127.0.0.1:3 } }\n"
                               "channel b { listen = 127.0.0.1:2 relay x { to = 127.0.0.1:4 } }\n"
                               "channel c { listen = 127.0.0.1:3 relay x { to = 127.0.0.1:4 } }\n"
                               "channel d { listen = 127.0.0.1:4 record { } }\n"));
    settings_free(
        config_expect_settings(/* one group on two interfaces, from two sources, and beside another
                                  group */
                               "channel a { listen = 239.1.1.1:1 interface = eth0 record { } }\n"
                               "channel b { listen = 239.1.1.1:1 interface = eth1 source = "
                               "10.0.0.1 record { } }\n"
                               "channel c { listen = 239.1.1.1:1 interface = eth1 source = "
                               "10.0.0.2 record { } }\n"
                               "channel d { listen = 239.1.1.2:1 record { } }\n"
                               "channel e { listen = [::]:1 record { } }\n"));
    settings_free(config_expect_settings(/* a group that this machine does not get back */
                                         "channel a { listen = 239.1.1.1:1 relay x { to = "
                                         "239.1.1.1:1 loop = false } }\n"));
    settings_free(config_expect_settings(/* an interface that may come later */
                                         "channel a { listen = 239.1.1.1:1 interface = later0 "
                                         "record { } }\n"));
}
END_TEST

START_TEST(comments_and_line_ends_are_not_counted_twice)
{
    config_expect_errors(
        "# one\n// two\n/* three\n   four */ /* still four */ spare_workers = x\r\n\n#\n" MINIMAL,
        "4: spare_workers = \"x\": not a whole number\n");
    settings_free(config_expect_settings("log_dir = /a//b # no comment inside a word\r\n" MINIMAL));
    settings_free(
        config_expect_settings("log_dir = \"/a # b // c /* d\"\n" MINIMAL "# no line end"));
}
END_TEST

/* ---- files that can't be read ---- */

START_TEST(a_file_that_cannot_be_read_is_one_error)
{
    struct settings *settings;
    struct config_errors errors;
    ck_assert_int_eq(config_load("/nonexistent/holdfast.conf", &settings, &errors), -ENOENT);
    ck_assert_uint_eq(errors.count, 1);
    ck_assert_str_eq(errors.text,
                     "/nonexistent/holdfast.conf: cannot read the configuration: No such file or "
                     "directory: check the path, or name another file with --config\n");
    config_errors_free(&errors);
    ck_assert_int_eq(config_load("/", &settings, &errors), -EISDIR);
    ck_assert_uint_eq(errors.count, 1);
    config_errors_free(&errors);
}
END_TEST

START_TEST(a_zero_byte_is_no_text)
{
    struct settings *settings;
    struct config_errors errors;
    char expected[640];
    config_file_write("# a\nlog_dir = \"x\0y\"\n", 20);
    ck_assert_int_eq(config_load(config_path, &settings, &errors), -EINVAL);
    snprintf(expected, sizeof expected, "%s:2: a zero byte: this is not a text file\n",
             config_path);
    ck_assert_str_eq(errors.text, expected);
    config_errors_free(&errors);
}
END_TEST

#define RELAY_ONLY                                                                                 \
    "\nchannel \"a\" { listen = \"127.0.0.1:5000\" relay \"r\" { to = \"127.0.0.1:5001\" } }\n"

/* libconfuse would make one of an escape, and everything behind it would be cut off in silence. */
static const struct {
    const char *text;
    const char *log_dir; /* NULL: refused */
} escapes[] = {
    {"\"/x\\0evil\"", NULL},    {"\"/x\\00evil\"", NULL}, {"\"/x\\000evil\"", NULL},
    {"\"/x\\x0\"", NULL},       {"\"/x\\x00e\"", NULL},   {"\"\\0\"", NULL},
    {"\"/x\\061y\"", "/x1y"},   {"\"/x\\x31\"", "/x1"},   {"\"/x\\x031\"", "/x\0031"},
    {"\"/x\\\\0y\"", "/x\\0y"}, {"'/x\\0y'", "/x\\0y"},   {"/x\\0y", "/x\\0y"},
};

START_TEST(an_escaped_zero_byte_cuts_nothing)
{
    char text[256];
    struct settings *settings;
    struct config_errors errors;
    snprintf(text, sizeof text, "# a\nlog_dir = %s" RELAY_ONLY, escapes[_i].text);
    config_file_write(text, strlen(text));
    int result = config_load(config_path, &settings, &errors);
    if (escapes[_i].log_dir) {
        ck_assert_msg(result == 0, "%s", errors.text);
        ck_assert_str_eq(settings->log_dir, escapes[_i].log_dir);
    } else {
        ck_assert_int_eq(result, -EINVAL);
        ck_assert_msg(strstr(errors.text, ":2: a zero byte can't be part of a text") != NULL, "%s",
                      errors.text);
    }
    settings_free(settings);
    config_errors_free(&errors);
}
END_TEST

START_TEST(an_escaped_zero_byte_in_a_name)
{
    struct settings *settings;
    struct config_errors errors;
    const char *text = "channel \"a\\0b\" { listen = \"127.0.0.1:5000\" record { } }\n";
    config_file_write(text, strlen(text));
    ck_assert_int_eq(config_load(config_path, &settings, &errors), -EINVAL);
    ck_assert_ptr_nonnull(strstr(errors.text, ":1: a zero byte can't be part of a text"));
    config_errors_free(&errors);
}
END_TEST

/* As some editors begin what they write. */
START_TEST(a_mark_of_utf_8_is_passed_over)
{
    struct settings *settings = config_expect_settings("\xef\xbb\xbflog_dir = \"/x\"" RELAY_ONLY);
    ck_assert_str_eq(settings->log_dir, "/x");
    settings_free(settings);
}
END_TEST

static const struct {
    const char *text, *log_dir;
} folders[] = {
    {"/a/b/", "/a/b"}, {"/a/b///", "/a/b"}, {"/a/b", "/a/b"},  {"/", "/"},
    {"//", "/"},       {"./", "."},         {"data/", "data"},
};

START_TEST(a_folder_has_one_name)
{
    char text[256];
    snprintf(text, sizeof text, "log_dir = \"%s\"" RELAY_ONLY, folders[_i].text);
    struct settings *settings = config_expect_settings(text);
    ck_assert_str_eq(settings->log_dir, folders[_i].log_dir);
    config_expect_round_trip(settings);
    settings_free(settings);
}
END_TEST

/* Cut a sound file at every byte, and turn every byte into another: it may be right or wrong, never
 * a crash, and what is taken goes round. */
START_TEST(no_damaged_file_brings_it_down)
{
    static const char replacements[] = "\"{}=#/*\\x,\n";
    size_t length = strlen(every_key);
    char *text = strdup(every_key);
    for (size_t i = 0; i < length; i++) {
        struct settings *settings;
        struct config_errors errors;
        text[i] = replacements[i % (sizeof replacements - 1)];
        config_file_write(text, length);
        int result = config_load(config_path, &settings, &errors);
        ck_assert((result == 0) == (errors.count == 0));
        if (result == 0)
            config_expect_round_trip(settings);
        settings_free(settings);
        config_errors_free(&errors);
        text[i] = every_key[i];
        config_file_write(every_key, i);
        result = config_load(config_path, &settings, &errors);
        ck_assert((result == 0) == (errors.count == 0));
        settings_free(settings);
        config_errors_free(&errors);
    }
    free(text);
}
END_TEST

/* ---- what we ship ---- */

static void expect_shipped(const char *name, size_t channels)
{
    struct settings *settings;
    struct config_errors errors;
    int result = config_load(shipped(name), &settings, &errors);
    ck_assert_msg(result == 0, "%s", errors.text);
    ck_assert_uint_eq(settings->channel_count, channels);
    config_expect_round_trip(settings);
    settings_free(settings);
}

START_TEST(the_shipped_configurations_are_right)
{
    expect_shipped("conf/holdfast.conf", 1);
    expect_shipped("conf/quickstart.conf", 2);
}
END_TEST

/* The commented keys of holdfast.conf show the defaults: with the marks removed the file says the
 * same. */
START_TEST(the_shipped_configuration_shows_the_defaults)
{
    static const char *const left_out[] = {"#max_rate = 50", NULL};
    struct settings *plain, *uncommented;
    struct config_errors errors;
    char line[512];
    FILE *from = fopen(shipped("conf/holdfast.conf"), "re");
    FILE *to = fopen(config_path, "we");
    size_t shown = 0;
    ck_assert_ptr_nonnull(from);
    ck_assert_ptr_nonnull(to);
    while (fgets(line, sizeof line, from)) {
        char *mark = line + strspn(line, " ");
        bool is_key = *mark == '#' && mark[1] >= 'a' && mark[1] <= 'z' && strchr(mark, '=');
        for (size_t i = 0; is_key && left_out[i]; i++)
            is_key = strncmp(mark, left_out[i], strlen(left_out[i])) != 0;
        if (is_key)
            *mark = ' ';
        shown += is_key;
        fputs(line, to);
    }
    fclose(from);
    ck_assert_int_eq(fclose(to), 0);
    ck_assert_uint_ge(shown, 20);
    ck_assert_int_eq(config_load(config_path, &uncommented, &errors), 0);
    ck_assert_int_eq(config_load(shipped("conf/holdfast.conf"), &plain, &errors), 0);
    char *first = config_print_text(plain);
    char *second = config_print_text(uncommented);
    ck_assert_str_eq(first, second);
    free(first);
    free(second);
    settings_free(plain);
    settings_free(uncommented);
}
END_TEST

START_TEST(the_shipped_schema_is_the_one_we_write)
{
    json_error_t error;
    json_t *found = json_load_file(shipped("conf/datagram.avsc"), 0, &error);
    json_t *written = json_loads(avro_log_schema, 0, &error);
    ck_assert_ptr_nonnull(found);
    ck_assert_ptr_nonnull(written);
    ck_assert(json_equal(found, written));
    json_decref(found);
    json_decref(written);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *cases = tcase_create("config");
    /* Unchecked: in the parent, so that it cleans up also after a failed test. */
    tcase_add_unchecked_fixture(cases, config_file_make, config_file_remove);
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, a_minimal_file_has_the_documented_defaults);
    tcase_add_test(cases, the_readers_socket_follows_the_control_socket);
    tcase_add_test(cases, one_user_has_a_quarter_of_the_connections);
    tcase_add_test(cases, every_key_is_read);
    tcase_add_test(cases, what_lets_two_channels_live_side_by_side);
    tcase_add_test(cases, comments_and_line_ends_are_not_counted_twice);
    tcase_add_test(cases, a_file_that_cannot_be_read_is_one_error);
    tcase_add_test(cases, a_zero_byte_is_no_text);
    tcase_add_loop_test(cases, an_escaped_zero_byte_cuts_nothing, 0,
                        sizeof escapes / sizeof escapes[0]);
    tcase_add_test(cases, an_escaped_zero_byte_in_a_name);
    tcase_add_test(cases, a_mark_of_utf_8_is_passed_over);
    tcase_add_loop_test(cases, a_folder_has_one_name, 0, sizeof folders / sizeof folders[0]);
    tcase_add_test(cases, no_damaged_file_brings_it_down);
    tcase_add_test(cases, the_shipped_configurations_are_right);
    tcase_add_test(cases, the_shipped_configuration_shows_the_defaults);
    tcase_add_test(cases, the_shipped_schema_is_the_one_we_write);
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
