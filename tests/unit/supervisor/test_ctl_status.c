/* SPDX-License-Identifier: MIT */
/* What holdfastctl prints for people, from fixed results. The story: a wall of channels with what
 * needs attention below it; one channel in detail; check; crashes; and a supervisor that tells
 * nonsense, which may look odd but never breaks a terminal or the program. */
#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "supervisor/ctl/ctl_crashes.h"
#include "supervisor/ctl/ctl_status.h"
#include "supervisor/ctl/ctl_status_channel.h"
#include "supervisor/ctl/ctl_status_list.h"
#include "supervisor/ctl/ctl_text.h"
#include "tests/lib/unit.h"

static const char status_json[] =
    "{\"supervisor\":{\"pid\":4711,\"version\":\"0.1.0\",\"uptime_s\":11570.5,\"stopping\":false},"
    "\"channels\":["
    "{\"name\":\"engine\",\"state\":\"RUNNING\",\"state_since_s\":11569.2,\"cause\":\"ready\","
    "\"wanted\":true,"
    "\"listen\":\"127.0.0.1:26000\",\"interface\":\"eth0\",\"source\":\"10.0.0.5\","
    "\"last_datagram\":{\"seq\":12345677,\"time\":1760000000.25,\"age_s\":2.5,\"source\":\"10.0."
    "0.5:4000\"},"
    "\"pid\":4720,\"generation\":7,\"restarts\":2,\"deaths_in_a_"
    "row\":0,"
    "\"last_death\":{\"time\":1760000000.25,\"age_s\":190,\"cause\":\"crash\",\"signal\":"
    "\"SIGSEGV\","
    "\"exit_status\":null,\"generation\":6},\"next_start_ms\":null,"
    "\"counters\":{\"received\":12345678,\"received_bytes\":9876542400,\"kernel_dropped\":0,"
    "\"truncated\":1,"
    "\"relayed\":12345678,\"relay_dropped\":0,\"relay_repeated\":3,\"decimated\":2469135,"
    "\"decimate_lost\":0,"
    "\"recorded\":12345600,\"record_lost\":0,\"quarantined\":0,\"restarts\":2},\"counters_"
    "current\":true,"
    "\"rate\":{\"datagrams_per_s\":19998.4,\"bytes_per_s\":15998720.0},\"stall_tolerance_s\":2.09,"
    "\"ring_lasts_s\":2.09,\"receive_buffer_lasts_s\":1.2,\"receive_buffer_bytes\":33554432,"
    "\"relays\":[{\"name\":\"display\",\"to\":\"239.1.1.1:6000\",\"sent\":12345678,\"dropped\":0,"
    "\"repeated\":3}],"
    "\"decimates\":[{\"name\":\"slow\",\"to\":\"239.1.1.2:6001\",\"sent\":2469135,\"dropped\":5,"
    "\"repeated\":0,"
    "\"keep_every\":5}],"
    "\"log\":{\"state\":\"open\",\"segment\":\"engine-00000000000000000000-20260117T120000Z.avro."
    "open\","
    "\"committed_bytes\":12897485,\"durable_bytes\":12582912,\"next_seq\":12345600,\"trouble\":"
    "null,\"folder\":\"/var/lib/holdfast/engine\",\"disk\":{\"free_bytes\":13207024435,\"size_"
    "bytes\":107374182400,\"reason\":null}},"
    "\"ring\":{\"mapping\":\"double\",\"reason\":\"\",\"capacity_bytes\":33554432,\"pending\":78}},"
    "{\"name\":\"gps\",\"state\":\"BACKOFF\",\"state_since_s\":0.25,\"cause\":\"bind: Address "
    "already in use\","
    "\"wanted\":true,\"listen\":\"[::1]:26001\",\"pid\":null,\"generation\":0,\"restarts\":0,"
    "\"deaths_in_a_row\":0,"
    "\"last_death\":null,\"next_start_ms\":2300,\"counters\":{\"received\":0,\"kernel_dropped\":17}"
    ",\"rate\":null,"
    "\"stall_tolerance_s\":null,\"relays\":[],\"decimates\":[],\"log\":null,"
    "\"ring\":{\"mapping\":\"none\",\"reason\":\"\",\"capacity_bytes\":33554432,\"pending\":0}},"
    "{\"name\":\"old\",\"state\":\"STOPPED\",\"state_since_s\":65,\"cause\":\"an operator stopped "
    "it\",\"wanted\":false,"
    "\"counters\":{},\"rate\":null,\"log\":{\"state\":\"trouble\",\"segment\":null,\"trouble\":"
    "\"No space left\"},"
    "\"ring\":{}}]}";

/* ---- a result in, text out ---- */

static char *render(void (*report)(FILE *, const json_t *, bool), const json_t *result, bool colour)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    report(to, result, colour);
    fclose(to);
    return text;
}

static void expect(void (*report)(FILE *, const json_t *, bool), json_t *result, bool colour,
                   const char *expected)
{
    ck_assert_ptr_nonnull(result);
    char *text = render(report, result, colour);
    ck_assert_str_eq(text, expected);
    free(text);
    json_decref(result);
}

static void report_channel(FILE *to, const json_t *channel, bool colour)
{
    ctl_report_channel(to, channel, &(struct ctl_look){.colour = colour});
}

static void report_list(FILE *to, const json_t *whole, bool colour)
{
    ctl_report_status(to, whole, &(struct ctl_look){.colour = colour});
}

static void report_verbosely(FILE *to, const json_t *channel, bool colour)
{
    ctl_report_channel(to, channel, &(struct ctl_look){.colour = colour, .verbose = true});
}

static json_t *status(void)
{
    return json_loads(status_json, 0, NULL);
}

static json_t *channel(size_t index)
{
    json_t *whole = status();
    json_t *one = json_incref(json_array_get(json_object_get(whole, "channels"), index));
    json_decref(whole);
    return one;
}

/* Those in trouble first, then the well, then those that should not run. */
START_TEST(wall_of_channels)
{
    expect(
        report_list, status(), false,
        "holdfastd 0.1.0, pid 4711, up for 3 h 12 min\n"
        "\n"
        "CHANNEL     STATE           FOR    RECEIVED      RATE       BYTES    RECORDED  PENDING  "
        "LOST  RESTARTS\n"
        "gps         BACKOFF      250 ms           0         -           -           -        0  "
        "  17         0\n"
        "old         STOPPED   1 min 5 s           0         -           -           0        0  "
        "   0         0\n"
        "engine      RUNNING  3 h 12 min  12,345,678  19,998/s  15.3 MiB/s  12,345,600       78  "
        "   0         2\n"
        "3 channels  1 run                12,345,678  19,998/s  15.3 MiB/s  12,345,600       78  "
        "  17         2\n"
        "\n"
        "gps: BACKOFF, next start in 2.3 s: bind: Address already in use\n"
        "old: not recording: No space left\n");
}
END_TEST

/* Its segment has room, and only the next one can't be had. */
START_TEST(what_records_is_not_said_not_to)
{
    json_t *whole = status();
    json_t *log = json_object_get(json_array_get(json_object_get(whole, "channels"), 0), "log");
    json_object_set_new(log, "recording", json_true());
    json_object_set_new(log, "trouble", json_string("no space"));
    char *text = render(report_list, whole, false);
    ck_assert_ptr_nonnull(strstr(text, "\nengine: trouble with its recording: no space\n"));
    free(text);
    json_decref(whole);
}
END_TEST

static void take_down(json_t *channel, const char *kind, const char *reason)
{
    json_t *destination = json_array_get(json_object_get(channel, kind), 0);
    json_object_set_new(destination, "state", json_string("down"));
    json_object_set_new(destination, "reason", json_string(reason));
}

/* The first one of them, and that there are more. */
START_TEST(all_that_is_down_is_counted)
{
    json_t *whole = status();
    json_t *engine = json_array_get(json_object_get(whole, "channels"), 0);
    take_down(engine, "decimates", "no route");
    char *one = render(report_list, whole, false);
    take_down(engine, "relays", "no interface");
    char *two = render(report_list, whole, false);
    ck_assert_ptr_nonnull(strstr(one, "\nengine: destination slow is down: no route\n"));
    ck_assert_ptr_nonnull(
        strstr(two, "\nengine: destinations display and 1 more are down: no interface\n"));
    free(one);
    free(two);
    json_decref(whole);
}
END_TEST

static json_t *many(int well, int troubled)
{
    json_t *list = json_array();
    for (int i = 0; i < well + troubled; i++)
        json_array_append_new(list, json_pack("{s:s+%, s:s, s:b, s:s}", "name",
                                              i < well ? "well-" : "sick-", i % 10 == 0 ? "0" : "1",
                                              (size_t)1, "state", i < well ? "RUNNING" : "BACKOFF",
                                              "wanted", 1, "cause", "the reason"));
    return json_pack("{s:{}, s:o}", "supervisor", "channels", list);
}

static char *in_window(const json_t *whole, unsigned rows, unsigned columns, size_t *ret_rows)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    ctl_report_status(to, whole, &(struct ctl_look){.rows = rows, .columns = columns});
    fclose(to);
    *ret_rows = 0;
    for (const char *at = text; *at; at++)
        *ret_rows += *at == '\n';
    return text;
}

START_TEST(a_small_window_gets_the_worst_and_is_told_of_the_rest)
{
    static const struct {
        int well, troubled;
        unsigned rows;
        const char *channels_left_out, *lines_left_out;
    } cases[] = {
        {100, 0, 23, "... 82 more channels have no room here\n", NULL},
        {100, 3, 23, "... 89 more channels have no room here\n", NULL},
        {0, 100, 23, "... 91 more channels have no room here, 91 of them in trouble\n",
         "... 93 more lines of trouble have no room here\n"},
        {3, 2, 12, NULL, NULL},
        {1, 2, 9, NULL, NULL},
        {1, 2, 8, "... 2 more channels have no room here, 1 of them in trouble\n", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *whole = many(cases[i].well, cases[i].troubled);
        size_t rows;
        char *text = in_window(whole, cases[i].rows, 0, &rows);
        ck_assert_msg(rows <= cases[i].rows, "%zu rows in %u:\n%s", rows, cases[i].rows, text);
        ck_assert_msg(!cases[i].channels_left_out || strstr(text, cases[i].channels_left_out), "%s",
                      text);
        ck_assert_msg(!cases[i].lines_left_out || strstr(text, cases[i].lines_left_out), "%s",
                      text);
        ck_assert_msg(cases[i].channels_left_out || cases[i].lines_left_out ||
                          !strstr(text, "no room"),
                      "%s", text);
        free(text);
        for (unsigned small = 1; small < 120; small++) {
            text = in_window(whole, small, 0, &rows);
            ck_assert_msg(rows <= (small > 8 ? small : 8), "%zu rows in %u:\n%s", rows, small,
                          text);
            free(text);
        }
        json_decref(whole);
    }
}
END_TEST

START_TEST(a_narrow_window_has_fewer_columns)
{
    json_t *whole = status();
    size_t rows;
    char *text = in_window(whole, 0, 80, &rows);
    static const char expected[] =
        "CHANNEL     STATE      RECEIVED      RATE       BYTES    RECORDED  PENDING  LOST\n";
    ck_assert_msg(strstr(text, expected) != NULL, "%s", text);
    free(text);
    text = in_window(whole, 0, 10, &rows);
    ck_assert_msg(strstr(text, "CHANNEL     STATE        RATE  LOST\n") != NULL, "%s", text);
    free(text);
    json_decref(whole);
}
END_TEST

START_TEST(colour_does_not_move_columns)
{
    json_t *whole = status();
    char *text = render(report_list, whole, true);
    ck_assert_ptr_nonnull(
        strstr(text, "engine      \033[32mRUNNING\033[0m  3 h 12 min  12,345,678"));
    ck_assert_ptr_nonnull(strstr(text, "gps         \033[31mBACKOFF\033[0m      250 ms"));
    ck_assert_ptr_nonnull(strstr(text, "    \033[31m17\033[0m         0\n"));
    free(text);
    json_decref(whole);
}
END_TEST

/* Ordinary: one destination, nothing wrong. It fits 80 columns and, with a prompt below, 24 rows.
 */
START_TEST(one_channel_fits_a_terminal)
{
    json_t *one = channel(0);
    json_array_clear(json_object_get(one, "decimates"));
    setenv("TZ", "UTC", 1);
    tzset();
    static const char expected[] =
        "engine\n"
        "  state         RUNNING for 3 h 12 min: ready\n"
        "  worker        pid 4720, generation 7, 2 restarts\n"
        "  last death    crash, SIGSEGV, generation 6, 3 min 10 s ago\n"
        "  listens on    127.0.0.1:26000 at eth0, from 10.0.0.5 only\n"
        "  last datagram 10.0.0.5:4000 at 2025-10-09 08:53:20, 2.5 s ago\n"
        "  rate          19,998/s, 15.3 MiB/s; kernel buffer 32.0 MiB\n"
        "  stall         ring lasts 2.0 s without disk, buffer 1.2 s without worker\n"
        "  ring          32.0 MiB, mapping double, 78 pending\n"
        "  log           engine-00000000000000000000-20260117T120000Z.avro.open\n"
        "                12.3 MiB written, 12.0 MiB durable, next seq 12345600\n"
        "  folder        /var/lib/holdfast/engine, 12.3 GiB of 100.0 GiB free\n"
        "\n"
        "  DESTINATION  TO              GETS                  SENT  DROPPED  REPEATED\n"
        "  display      239.1.1.1:6000  every datagram  12,345,678        0         3\n"
        "\n"
        "  received           12,345,678  decimated       2,469,135\n"
        "  received_bytes  9,876,542,400  decimate_lost           0\n"
        "  kernel_dropped              0  recorded       12,345,600\n"
        "  truncated                   1  record_lost             0\n"
        "  relayed            12,345,678  unrecorded              0\n"
        "  relay_dropped               0  quarantined             0\n"
        "  relay_repeated              3  restarts                2\n";
    int rows = 0;
    for (const char *line = expected; *line; line = strchr(line, '\n') + 1, rows++)
        ck_assert_uint_le(strcspn(line, "\n"), 80);
    ck_assert_int_le(rows, 23);
    expect(report_channel, one, false, expected);
}
END_TEST

static char *channel_in_window(const json_t *one, unsigned rows)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    ctl_report_channel(to, one, &(struct ctl_look){.rows = rows});
    fclose(to);
    return text;
}

/* What says nothing goes first, what was lost last. */
START_TEST(a_small_window_keeps_what_one_looks_for)
{
    json_t *one = channel(0);
    json_object_set_new(json_object_get(one, "counters"), "record_lost", json_integer(5));
    json_object_set_new(one, "not_covered_before", json_integer(7));
    for (unsigned rows = 23; rows > 15; rows--) {
        char *text = channel_in_window(one, rows);
        ck_assert_msg(ctl_count_lines(text) <= rows, "more than %u rows:\n%s", rows, text);
        ck_assert_msg(strncmp(text, "engine (", 8) == 0 && strstr(text, "that say least") &&
                          strstr(text, "  record_lost ") && !strstr(text, "kernel_dropped") &&
                          strstr(text, "nobody was receiving"),
                      "%u rows:\n%s", rows, text);
        free(text);
    }
    json_decref(one);
}
END_TEST

/* The only row that there is for channels is for the worst one, not for how many there are. */
START_TEST(a_tiny_window_has_the_worst_channel)
{
    json_t *whole = many(1, 1);
    size_t rows;
    char *text = in_window(whole, 6, 0, &rows);
    ck_assert_msg(rows == 6 && strstr(text, "\nsick-1 ") && strstr(text, "\nsick-1: BACKOFF") &&
                      strstr(text, "\n2 channels  1 run"),
                  "%s", text);
    free(text);
    json_decref(whole);
}
END_TEST

START_TEST(one_channel_explained)
{
    setenv("TZ", "UTC", 1);
    tzset();
    expect(report_verbosely, channel(0), false,
           "engine\n"
           "  state         RUNNING for 3 h 12 min: ready\n"
           "  worker        pid 4720, generation 7, 2 restarts\n"
           "  last death    crash, SIGSEGV, generation 6, 3 min 10 s ago ('holdfastctl crashes "
           "engine' shows more)\n"
           "  listens on    127.0.0.1:26000 at eth0, from 10.0.0.5 only\n"
           "  last datagram 10.0.0.5:4000 at 2025-10-09 08:53:20.250 +0000, 2.5 s ago, seq "
           "12345677\n"
           "  rate          19,998/s, 15.3 MiB/s; kernel buffer 32.0 MiB\n"
           "  stall         at this rate the ring lasts 2.0 s without recording, the kernel buffer "
           "about 1.2 s "
           "without a "
           "worker\n"
           "  ring          32.0 MiB, mapping double, 78 pending\n"
           "  log           engine-00000000000000000000-20260117T120000Z.avro.open\n"
           "                12.3 MiB written, 12.0 MiB durable, next seq 12345600\n"
           "  folder        /var/lib/holdfast/engine, 12.3 GiB of 100.0 GiB free\n"
           "\n"
           "  DESTINATION  TO              GETS                  SENT  DROPPED  REPEATED\n"
           "  display      239.1.1.1:6000  every datagram  12,345,678        0         3\n"
           "  slow         239.1.1.2:6001  1 of 5           2,469,135        5         0\n"
           "\n"
           "  COUNTER                 VALUE  UNIT       MEANING\n"
           "  received           12,345,678  datagrams  taken from the socket and numbered\n"
           "  received_bytes  9,876,542,400  bytes      payload bytes of the received datagrams, "
           "after cutting\n"
           "  kernel_dropped              0  datagrams  dropped by the kernel before holdfast "
           "could take them (socket "
           "buffer full); at least so many with "
           "receive_offload\n"
           "  truncated                   1  datagrams  received longer than max_datagram and cut\n"
           "  relayed            12,345,678  datagrams  handed to the kernel on full-rate "
           "destinations, summed "
           "over them\n"
           "  relay_dropped               0  datagrams  not accepted by the kernel on a full-rate "
           "destination, summed "
           "over them\n"
           "  relay_repeated              3  datagrams  possibly sent twice because a worker died "
           "between sending and "
           "noting it\n"
           "  decimated           2,469,135  datagrams  sent on decimated destinations, summed "
           "over them\n"
           "  decimate_lost               0  datagrams  chosen or choosable for a decimated "
           "destination but "
           "overwritten "
           "or refused before\n"
           "  recorded           12,345,600  datagrams  committed to the log\n"
           "  record_lost                 0  datagrams  received but overwritten in the ring "
           "before they could be "
           "recorded\n"
           "  unrecorded                  0  datagrams  received while the channel had no record "
           "section\n"
           "  quarantined                 0  datagrams  recorded with the quarantine flag and not "
           "relayed, for killing "
           "workers\n"
           "  map_fallbacks               0  rings      mapped once, although mapped twice was "
           "wanted\n"
           "  restarts                    2  workers    started after another worker of the "
           "channel ended by itself\n");
}
END_TEST

START_TEST(a_channel_that_waits_says_when_and_why)
{
    json_t *gps = channel(1);
    char *text = render(report_channel, gps, false);
    static const char expected[] =
        "gps\n"
        "  state         BACKOFF for 250 ms: bind: Address already in use\n"
        "  next start    in 2.3 s\n"
        "  worker        none, 0 restarts\n"
        "  last death    none\n"
        "  listens on    [::1]:26001, no interface set, from any source\n"
        "  last datagram none yet\n"
        "  rate          not known; kernel buffer 0 B\n"
        "  ring          32.0 MiB, mapping none, 0 pending\n"
        "  log           not recorded\n";
    ck_assert_msg(strncmp(text, expected, strlen(expected)) == 0, "%s", text);
    free(text);

    json_object_set_new(gps, "restart",
                        json_pack("{s:s, s:i, s:i}", "rule", "processor share", "stall_budget_ms",
                                  1200, "expected_drops", 22000));
    text = render(report_channel, gps, false);
    ck_assert_msg(strstr(text, "  next start    in 2.3 s; rule: processor share; the kernel's "
                               "buffer lasts 1.2 s, about 22000 datagrams will be dropped\n"),
                  "%s", text);
    free(text);
    json_decref(gps);
}
END_TEST

START_TEST(a_folder_that_cannot_be_looked_at)
{
    json_t *one = channel(0), *log = json_object_get(one, "log");
    json_object_set_new(log, "disk",
                        json_pack("{s:n, s:n, s:s}", "free_bytes", "size_bytes", "reason",
                                  "its disk does not answer"));
    char *text = render(report_channel, one, false);
    ck_assert_ptr_nonnull(strstr(text, "  folder        /var/lib/holdfast/engine, free space not "
                                       "known: its disk does not answer\n"));
    free(text);
    json_decref(one);
}
END_TEST

START_TEST(check_says_what_is_wrong)
{
    expect(ctl_report_check, json_loads("{\"healthy\":true,\"problems\":[]}", 0, NULL), false,
           "healthy: every channel that should run is RUNNING\n");
    expect(ctl_report_check,
           json_loads("{\"healthy\":false,\"problems\":["
                      "{\"channel\":\"gps\",\"kind\":\"not_running\",\"state\":\"BACKOFF\","
                      "\"cause\":\"bind failed\"},"
                      "{\"channel\":\"old\",\"kind\":\"degraded\",\"state\":\"RUNNING\",\"cause\":"
                      "\"disk full\"}]}",
                      0, NULL),
           false,
           "gps is BACKOFF: bind failed\nwarning: old has trouble with its recording: disk full\n");
}
END_TEST

START_TEST(crashes_tell_the_whole_story)
{
    expect(ctl_report_crashes, json_loads("{\"crashes\":[],\"omitted\":0}", 0, NULL), false,
           "no worker has died, nor the gate\n");
    setenv("TZ", "UTC", 1);
    tzset();
    expect(
        ctl_report_crashes,
        json_loads(
            "{\"crashes\":[{\"time\":1760000000.25,\"age_s\":190,\"cause\":\"crash\",\"signal\":"
            "\"SIGABRT\","
            "\"exit_status\":null,\"generation\":6,\"channel\":\"engine\",\"pid\":99,\"lived_s\":"
            "61,"
            "\"hung_thread\":null,\"work\":{\"record\":{\"first\":100,\"end\":101}},\"takeover_"
            "ms\":0.31,"
            "\"waited\":12,\"kernel_dropped\":7,\"thread\":\"recorder\",\"address\":\"0x0\","
            "\"text\":\"a >= b\",\"frames\":[{\"address\":\"0x1a2b\",\"name\":\"recorder_commit\"},"
            "{\"address\":\"0x99\",\"name\":\"\"}]},"
            "{\"time\":1760000000,\"age_s\":191,\"cause\":\"exit\",\"signal\":null,\"exit_status\":"
            "3,"
            "\"generation\":5,\"channel\":\"gps\",\"pid\":98,\"lived_s\":0.5,\"hung_thread\":null,"
            "\"work\":{},"
            "\"takeover_ms\":null,\"waited\":0,\"kernel_dropped\":0}],\"omitted\":4}",
            0, NULL),
        false,
        "engine: crash, SIGABRT, pid 99, generation 6\n"
        "  when        2025-10-09 08:53:20 +0000, 3 min 10 s ago; it had lived 1 min 1 s\n"
        "  thread      recorder\n"
        "  said        a >= b\n"
        "  address     0x0\n"
        "  in work     record was at seq 100\n"
        "  takeover    after 0.31 ms; 12 datagrams waited meanwhile, at least 7 were dropped by "
        "the kernel\n"
        "  frames      #0 0x1a2b recorder_commit\n"
        "              #1 0x99\n"
        "\n"
        "gps: exit, status 3, pid 98, generation 5\n"
        "  when        2025-10-09 08:53:20 +0000, 3 min 11 s ago; it had lived 500 ms\n"
        "  takeover    no successor has taken over yet\n"
        "\n"
        "4 older ones are not shown: 'holdfastctl crashes CHANNEL' shows one channel's\n");
}
END_TEST

/* Every member missing, of the wrong type, negative or huge. */
static const char *const nonsense[] = {
    "{}",
    "[]",
    "null",
    "{\"supervisor\":[],\"channels\":[{},[],null,7]}",
    "{\"supervisor\":{\"pid\":-1,\"uptime_s\":1e308},\"channels\":[{\"name\":\"\\u001b[2J\\u0007\","
    "\"state\":7,"
    "\"state_since_s\":-5,\"wanted\":true,\"cause\":\"a\\nb\",\"next_start_ms\":-"
    "9223372036854775808,"
    "\"rate\":{\"datagrams_per_s\":1e300,\"bytes_per_s\":-1e300},\"counters\":{\"received\":-1,"
    "\"kernel_dropped\":9223372036854775807,\"record_lost\":9223372036854775807},\"log\":{"
    "\"trouble\":\"\\u001b\"},"
    "\"last_death\":{\"age_s\":1e300},\"ring_lasts_s\":1e300,\"receive_buffer_lasts_s\":-1,"
    "\"relays\":[{\"keep_every\":9223372036854775807}],\"frames\":[{}]}],\"crashes\":[{\"time\":"
    "1e300,"
    "\"takeover_ms\":-1,\"work\":{\"relay\":{}},\"frames\":[7]}],\"problems\":[{}]}",
};

START_TEST(nonsense_never_reaches_the_terminal)
{
    static void (*const reports[])(FILE *, const json_t *, bool) = {
        report_list, report_channel, report_verbosely, ctl_report_check, ctl_report_crashes};
    json_t *result = json_loads(nonsense[_i], JSON_DECODE_ANY, NULL);
    ck_assert_ptr_nonnull(result);
    for (size_t i = 0; i < sizeof reports / sizeof reports[0]; i++) {
        char *text = render(reports[i], result, false);
        ck_assert_ptr_null(strpbrk(text, "\033\007"));
        free(text);
    }
    const json_t *first = json_array_get(json_object_get(result, "channels"), 0);
    char *text = render(report_channel, first, false);
    ck_assert_ptr_null(strpbrk(text, "\033\007"));
    free(text);
    json_decref(result);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("holdfastctl's output");
    TCase *tests = tcase_create("text");
    tcase_add_test(tests, wall_of_channels);
    tcase_add_test(tests, a_small_window_keeps_what_one_looks_for);
    tcase_add_test(tests, a_tiny_window_has_the_worst_channel);
    tcase_add_test(tests, all_that_is_down_is_counted);
    tcase_add_test(tests, what_records_is_not_said_not_to);
    tcase_add_test(tests, a_small_window_gets_the_worst_and_is_told_of_the_rest);
    tcase_add_test(tests, a_narrow_window_has_fewer_columns);
    tcase_add_test(tests, colour_does_not_move_columns);
    tcase_add_test(tests, one_channel_fits_a_terminal);
    tcase_add_test(tests, one_channel_explained);
    tcase_add_test(tests, a_folder_that_cannot_be_looked_at);
    tcase_add_test(tests, a_channel_that_waits_says_when_and_why);
    tcase_add_test(tests, check_says_what_is_wrong);
    tcase_add_test(tests, crashes_tell_the_whole_story);
    tcase_add_loop_test(tests, nonsense_never_reaches_the_terminal, 0,
                        sizeof nonsense / sizeof nonsense[0]);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
