/* SPDX-License-Identifier: MIT */
/* The story: an address is written as text, becomes a socket address and text again; names are safe
 * to be file and fd names; and a spec that arrives at a worker is believed only when every field is
 * within its limits, whoever sent it. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/channel_spec.h"
#include "tests/lib/unit.h"

/* ---- addresses ---- */

START_TEST(addresses_are_read_and_printed)
{
    static const char *const texts[][2] = {
        {"127.0.0.1:26000", "127.0.0.1:26000"},
        {"0.0.0.0:1", "0.0.0.0:1"},
        {"255.255.255.255:65535", "255.255.255.255:65535"},
        {"[::1]:26000", "[::1]:26000"},
        {"[::]:1", "[::]:1"},
        {"[2001:DB8:0:0::1]:50123", "[2001:db8::1]:50123"},
        {"[ff02::1%lo]:7", "[ff02::1%lo]:7"},
        {"[fe80::1%1]:7", "[fe80::1%lo]:7"}, /* lo is the first interface everywhere */
        {"[::ffff:10.0.0.7]:50123", "[::ffff:10.0.0.7]:50123"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        union socket_address address, again;
        char text[SOCKET_ADDRESS_TEXT_SIZE];
        ck_assert_msg(socket_address_parse(texts[i][0], &address) == 0, "%s was refused",
                      texts[i][0]);
        ck_assert_uint_eq(socket_address_print(&address, text, sizeof text), strlen(texts[i][1]));
        ck_assert_str_eq(text, texts[i][1]);
        ck_assert_int_eq(socket_address_parse(text, &again), 0);
        ck_assert(socket_address_equal(&address, &again));
        ck_assert_int_eq(memcmp(&address, &again, sizeof address), 0);
        ck_assert_uint_eq(socket_address_length(&address),
                          address.family == AF_INET ? sizeof address.v4 : sizeof address.v6);
    }
}
END_TEST

START_TEST(texts_that_are_no_address_are_refused)
{
    static const char *const texts[] = {
        "",
        ":",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1: 1",
        "127.0.0.1:1 ",
        "127.0.0:1",
        "1.2.3.4.5:1",
        "01.2.3.4:1",
        "localhost:1",
        "::1:26000",
        "[::1]",
        "[::1]:",
        "[::1]26000",
        "[::1:26000",
        "[127.0.0.1]:1",
        "[]:1",
        "[fe80::1%]:1",
        "[fe80::1%a/b]:1",
        "[fe80::1%a name that is far too long]:1",
        "*:26000",
        "127.0.0.1:1x",
        "127.0.0.1:99999999999999999999999",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        union socket_address address;
        memset(&address, 0x55, sizeof address);
        ck_assert_msg(socket_address_parse(texts[i], &address) == -EINVAL, "\"%s\" was taken",
                      texts[i]);
        ck_assert_uint_eq(address.family, 0x5555); /* a refusal leaves the result alone */
    }
    union socket_address address;
    ck_assert_int_eq(socket_address_parse("[fe80::1%nosuch0]:1", &address), -ENODEV);
    ck_assert_int_eq(socket_address_parse("[fe80::1%99999999]:1", &address), -ENODEV);
    char scope[IF_NAMESIZE];
    ck_assert_int_eq(socket_address_parse_scoped("[fe80::1%nosuch0]:1", &address, scope), 0);
    ck_assert_str_eq(scope, "nosuch0");
    ck_assert_uint_eq(address.v6.sin6_scope_id, 0);
}
END_TEST

START_TEST(hosts_have_no_port)
{
    union socket_address address;
    char text[SOCKET_ADDRESS_TEXT_SIZE], scope[IF_NAMESIZE];
    ck_assert_int_eq(socket_address_parse_host("10.0.0.7", &address, scope), 0);
    socket_address_print_host(&address, text, sizeof text);
    ck_assert_str_eq(text, "10.0.0.7");
    ck_assert_int_eq(socket_address_parse_host("fe80::1%lo", &address, scope), 0);
    socket_address_print_host(&address, text, sizeof text);
    ck_assert_str_eq(text, "fe80::1");
    ck_assert_str_eq(scope, "lo");
    ck_assert_int_eq(socket_address_parse_host("10.0.0.7:5", &address, scope), -EINVAL);
    ck_assert_int_eq(socket_address_parse_host("[::1]", &address, scope), -EINVAL);
    ck_assert_int_eq(socket_address_parse_host("", &address, scope), -EINVAL);
}
END_TEST

START_TEST(an_interface_that_is_gone_is_printed_by_number)
{
    union socket_address address;
    char text[SOCKET_ADDRESS_TEXT_SIZE];
    ck_assert_int_eq(socket_address_parse("[fe80::1%lo]:7", &address), 0);
    address.v6.sin6_scope_id = 4294967295u;
    socket_address_print(&address, text, sizeof text);
    ck_assert_str_eq(text, "[fe80::1%4294967295]:7");
}
END_TEST

START_TEST(the_longest_address_fits_and_a_small_buffer_is_never_overrun)
{
    union socket_address address;
    char text[SOCKET_ADDRESS_TEXT_SIZE];
    memset(&address, 0xff, sizeof address);
    address.family = AF_INET6;
    size_t length = socket_address_print(&address, text, sizeof text);
    ck_assert_uint_lt(length, sizeof text);
    ck_assert_str_eq(text, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535");
    memset(text, '#', sizeof text);
    ck_assert_uint_eq(socket_address_print(&address, text, 5), 4);
    ck_assert_str_eq(text, "[fff");
    ck_assert_int_eq(text[5], '#');
    address.family = AF_UNSPEC;
    ck_assert_uint_eq(socket_address_print(&address, text, sizeof text), 0);
    ck_assert_str_eq(text, "");
    ck_assert_uint_eq(socket_address_length(&address), 0);
}
END_TEST

static bool multicast(const char *text)
{
    union socket_address address;
    ck_assert_int_eq(socket_address_parse(text, &address), 0);
    return socket_address_is_multicast(&address);
}

START_TEST(groups_are_recognised)
{
    ck_assert(multicast("224.0.0.0:1"));
    ck_assert(multicast("239.255.255.255:1"));
    ck_assert(multicast("[ff0e::1]:1"));
    ck_assert(!multicast("223.255.255.255:1"));
    ck_assert(!multicast("240.0.0.0:1"));
    ck_assert(!multicast("[fe80::1%lo]:1"));
}
END_TEST

START_TEST(addresses_are_equal_when_everything_is)
{
    static const char *const texts[] = {"127.0.0.1:1", "127.0.0.1:2", "127.0.0.2:1",
                                        "[::1]:1",     "[::1]:2",     "[fe80::1%lo]:1"};
    for (size_t i = 0; i < 6; i++) {
        for (size_t j = 0; j < 6; j++) {
            union socket_address a, b;
            ck_assert_int_eq(socket_address_parse(texts[i], &a), 0);
            ck_assert_int_eq(socket_address_parse(texts[j], &b), 0);
            ck_assert(socket_address_equal(&a, &b) == (i == j));
        }
    }
    union socket_address a, b;
    ck_assert_int_eq(socket_address_parse("[fe80::1%lo]:1", &a), 0);
    b = a;
    b.v6.sin6_scope_id++;
    ck_assert(!socket_address_equal(&a, &b));
}
END_TEST

/* ---- names ---- */

START_TEST(names_are_safe_as_file_names)
{
    static const char *const good[] = {"a", "0", "engine", "GPS-2_b",
                                       "a2345678901234567890123456789012345678901234567"};
    static const char *const bad[] = {"",
                                      "-a",
                                      "_a",
                                      ".",
                                      "..",
                                      "a/b",
                                      "a b",
                                      "a.b",
                                      "\xc3\xa4",
                                      "a\n",
                                      "a23456789012345678901234567890123456789012345678"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_msg(channel_name_is_valid(good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!channel_name_is_valid(bad[i]), "%s", bad[i]);
}
END_TEST

START_TEST(interface_names_are_what_the_kernel_takes)
{
    static const char *const good[] = {"lo",       "eth0",   "wlp0s20f3",
                                       "eth0.100", "br-lan", "fifteen-letters"};
    static const char *const bad[] = {
        "", ".", "..", "a b", "a/b", "a:1", "a%b", "a\tb", "sixteen-letters-"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_msg(interface_name_is_valid(good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!interface_name_is_valid(bad[i]), "%s", bad[i]);
}
END_TEST

/* ---- a spec from the other side ---- */

static struct channel_spec *make_spec(void)
{
    struct channel_spec *spec = calloc(1, channel_spec_size(2));
    ck_assert_ptr_nonnull(spec);
    strcpy(spec->name, "engine");
    ck_assert_int_eq(socket_address_parse("127.0.0.1:26000", &spec->listen), 0);
    spec->receive_buffer = 1 << 20;
    spec->ring_size = 1 << 20;
    spec->max_datagram = 2048;
    spec->record.enabled = 1;
    spec->record.segment_size = 16 << 20;
    spec->relay_count = 1;
    spec->decimate_count = 1;
    for (uint32_t i = 0; i < 2; i++) {
        strcpy(spec->destinations[i].name, i ? "slow" : "display");
        spec->destinations[i].kind = i ? DESTINATION_DECIMATE : DESTINATION_RELAY;
        ck_assert_int_eq(socket_address_parse("239.1.1.1:26001", &spec->destinations[i].to), 0);
    }
    spec->destinations[1].keep_every = 5;
    return spec;
}

static void expect_refusal(const struct channel_spec *spec, size_t size, const char *expected)
{
    const char *what = NULL;
    int result = channel_spec_check(spec, size, &what);
    ck_assert_msg(result == -EBADMSG, "%s was taken", expected);
    ck_assert_str_eq(what, expected);
}

START_TEST(a_sound_spec_is_taken)
{
    struct channel_spec *spec = make_spec();
    const char *what = NULL;
    ck_assert_int_eq(channel_spec_check(spec, channel_spec_size(2), &what), 0);
    ck_assert_str_eq(what, "");
    free(spec);
}
END_TEST

START_TEST(a_spec_of_the_wrong_size_is_refused)
{
    struct channel_spec *spec = make_spec();
    expect_refusal(spec, 0, "size");
    expect_refusal(spec, sizeof *spec - 1, "size");
    expect_refusal(spec, channel_spec_size(1), "size");
    expect_refusal(spec, channel_spec_size(2) - 1, "size");
    expect_refusal(spec, channel_spec_size(2) + 1, "size");
    spec->relay_count = UINT32_MAX; /* the sum wraps to 0 */
    expect_refusal(spec, channel_spec_size(0), "size");
    spec->relay_count = CHANNEL_DESTINATIONS_MAX;
    expect_refusal(spec, channel_spec_size(CHANNEL_DESTINATIONS_MAX + 1), "size");
    free(spec);
}
END_TEST

/* Change one field, expect its name, change it back. */
#define EXPECT_FIELD(spec, field, value, expected)                                                 \
    do {                                                                                           \
        __typeof__((spec)->field) before = (spec)->field;                                          \
        (spec)->field = (value);                                                                   \
        expect_refusal((spec), channel_spec_size(2), (expected));                                  \
        (spec)->field = before;                                                                    \
    } while (0)

START_TEST(every_field_of_a_channel_is_checked)
{
    struct channel_spec *spec = make_spec();
    EXPECT_FIELD(spec, name[0], '\0', "name");
    EXPECT_FIELD(spec, name[2], '/', "name");
    EXPECT_FIELD(spec, listen.family, AF_UNIX, "listen");
    EXPECT_FIELD(spec, listen.v4.sin_port, 0, "listen");
    EXPECT_FIELD(spec, interface[0], '/', "interface");
    EXPECT_FIELD(spec, source.family, AF_INET6, "source");
    EXPECT_FIELD(spec, receive_buffer, 0, "receive_buffer");
    EXPECT_FIELD(spec, receive_buffer, 1ull << 31, "receive_buffer");
    EXPECT_FIELD(spec, ring_size, 0, "ring_size");
    EXPECT_FIELD(spec, ring_size, UINT64_MAX, "ring_size");
    EXPECT_FIELD(spec, busy_poll_us, 10001, "busy_poll");
    EXPECT_FIELD(spec, batch_delay_us, 10001, "batch_delay");
    EXPECT_FIELD(spec, max_datagram, 0, "max_datagram");
    EXPECT_FIELD(spec, max_datagram, 65508, "max_datagram");
    EXPECT_FIELD(spec, mapping, 3, "mapping");
    EXPECT_FIELD(spec, ring_pages, 2, "ring_pages");
    EXPECT_FIELD(spec, receive_offload, 2, "receive_offload");
    EXPECT_FIELD(spec, realtime_priority, 100, "realtime_priority");
    EXPECT_FIELD(spec, record.enabled, 2, "record.enabled");
    EXPECT_FIELD(spec, record.on_full, 2, "record.on_full");
    EXPECT_FIELD(spec, record.segment_size, 1023 << 10, "record.segment_size");
    EXPECT_FIELD(spec, record.segment_size, UINT64_MAX, "record.segment_size");
    EXPECT_FIELD(spec, record.keep_free_ppm, 1000001, "record.keep_free");
    EXPECT_FIELD(spec, record.sync_every, 1000000001, "record.sync_every");
    memset(spec->name, 'a', sizeof spec->name); /* no closing zero */
    expect_refusal(spec, channel_spec_size(2), "name");
    strcpy(spec->name, "engine");
    memset(spec->interface, 'a', sizeof spec->interface);
    expect_refusal(spec, channel_spec_size(2), "interface");
    free(spec);
}
END_TEST

static struct channel_spec *make_local_spec(void)
{
    struct channel_spec *spec = make_spec();
    memset(&spec->listen, 0, sizeof spec->listen);
    spec->listen.family = AF_UNIX;
    strcpy(spec->local, "flight");
    spec->receive_buffer = 0;
    spec->record.on_full = RECORD_ON_FULL_WAIT;
    spec->publishers = (struct publishers_spec){
        .most = 16, .group = UINT32_MAX, .outbox_size = CHANNEL_OUTBOX_SIZE_MIN};
    return spec;
}

START_TEST(a_local_channel_has_publishers_and_no_socket)
{
    struct channel_spec *spec = make_local_spec();
    const char *what = NULL;
    ck_assert_msg(channel_spec_check(spec, channel_spec_size(2), &what) == 0, "%s", what);
    ck_assert(channel_spec_is_local(spec));
    EXPECT_FIELD(spec, listen.local.uid, 1, "listen");
    EXPECT_FIELD(spec, local[0], '\0', "local");
    EXPECT_FIELD(spec, local[1], '/', "local");
    EXPECT_FIELD(spec, interface[0], 'l', "interface");
    EXPECT_FIELD(spec, source.family, AF_INET, "source");
    EXPECT_FIELD(spec, source.family, AF_UNIX, "source");
    EXPECT_FIELD(spec, receive_buffer, 1, "receive_buffer");
    EXPECT_FIELD(spec, busy_poll_us, 1, "busy_poll");
    EXPECT_FIELD(spec, receive_offload, 1, "receive_offload");
    EXPECT_FIELD(spec, record.on_full, RECORD_ON_FULL_LAP, "record.on_full");
    EXPECT_FIELD(spec, publishers.most, 0, "publishers.most");
    EXPECT_FIELD(spec, publishers.most, 65, "publishers.most");
    EXPECT_FIELD(spec, publishers.most, UINT32_MAX, "publishers.most");
    EXPECT_FIELD(spec, publishers.outbox_size, (64 << 10) - 1, "publishers.outbox_size");
    EXPECT_FIELD(spec, publishers.outbox_size, (1ull << 30) + 1, "publishers.outbox_size");
    EXPECT_FIELD(spec, max_datagram, 32768, "publishers.outbox_size");
    memset(spec->local, 'a', sizeof spec->local); /* no closing zero */
    expect_refusal(spec, channel_spec_size(2), "local");
    free(spec);

    spec = make_spec(); /* what belongs to a local one alone */
    EXPECT_FIELD(spec, local[0], 'a', "local");
    EXPECT_FIELD(spec, publishers.most, 1, "publishers");
    EXPECT_FIELD(spec, publishers.group, 1, "publishers");
    EXPECT_FIELD(spec, publishers.outbox_size, 1, "publishers");
    free(spec);
}
END_TEST

START_TEST(what_a_channel_listens_on_is_printed)
{
    char text[SOCKET_ADDRESS_TEXT_SIZE];
    struct channel_spec *spec = make_spec();
    ck_assert_uint_eq(channel_spec_print_listen(spec, text, sizeof text), 15);
    ck_assert_str_eq(text, "127.0.0.1:26000");
    free(spec);
    spec = make_local_spec();
    ck_assert_uint_eq(channel_spec_print_listen(spec, text, sizeof text), 12);
    ck_assert_str_eq(text, "local:flight");
    memset(spec->local, 'x', CHANNEL_NAME_SIZE - 1);
    ck_assert_uint_eq(channel_spec_print_listen(spec, text, sizeof text), 6 + 47);
    ck_assert_str_eq(text + 6, spec->local);
    ck_assert_uint_eq(channel_spec_print_listen(spec, text, 8), 7);
    free(spec);
}
END_TEST

START_TEST(every_field_of_a_destination_is_checked)
{
    struct channel_spec *spec = make_spec();
    EXPECT_FIELD(spec, destinations[0].name[0], '\0', "a destination's name");
    EXPECT_FIELD(spec, destinations[0].kind, DESTINATION_DECIMATE, "a destination's kind");
    EXPECT_FIELD(spec, destinations[1].kind, DESTINATION_RELAY, "a destination's kind");
    EXPECT_FIELD(spec, destinations[1].ttl, 256, "a destination's ttl");
    EXPECT_FIELD(spec, destinations[1].loop, 2, "a destination's loop");
    EXPECT_FIELD(spec, destinations[1].interface[0], ' ', "a destination's interface");
    EXPECT_FIELD(spec, destinations[1].to.family, 0, "a destination's address");
    EXPECT_FIELD(spec, destinations[1].to.family, AF_UNIX, "a destination's address");
    EXPECT_FIELD(spec, destinations[1].to.v4.sin_port, 0, "a destination's address");
    EXPECT_FIELD(spec, destinations[1].keep_every, 0, "a destination's decimation rule");
    EXPECT_FIELD(spec, destinations[1].keep_every, UINT64_MAX, "a destination's keep_every");
    EXPECT_FIELD(spec, destinations[1].max_rate, 5, "a destination's decimation rule");
    EXPECT_FIELD(spec, destinations[0].max_rate, UINT64_MAX, "a destination's max_rate");
    EXPECT_FIELD(spec, destinations[0].keep_every, 5, "a destination's decimation rule");
    free(spec);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("channel_spec");
    TCase *cases = tcase_create("channel_spec");
    tcase_add_test(cases, addresses_are_read_and_printed);
    tcase_add_test(cases, texts_that_are_no_address_are_refused);
    tcase_add_test(cases, hosts_have_no_port);
    tcase_add_test(cases, an_interface_that_is_gone_is_printed_by_number);
    tcase_add_test(cases, the_longest_address_fits_and_a_small_buffer_is_never_overrun);
    tcase_add_test(cases, groups_are_recognised);
    tcase_add_test(cases, addresses_are_equal_when_everything_is);
    tcase_add_test(cases, names_are_safe_as_file_names);
    tcase_add_test(cases, interface_names_are_what_the_kernel_takes);
    tcase_add_test(cases, a_sound_spec_is_taken);
    tcase_add_test(cases, a_spec_of_the_wrong_size_is_refused);
    tcase_add_test(cases, every_field_of_a_channel_is_checked);
    tcase_add_test(cases, a_local_channel_has_publishers_and_no_socket);
    tcase_add_test(cases, what_a_channel_listens_on_is_printed);
    tcase_add_test(cases, every_field_of_a_destination_is_checked);
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
