/* SPDX-License-Identifier: MIT */
/* What export and cat make of datagrams. The story: packets whose headers are taken apart byte by
 * byte and whose checksums are computed anew; files that end too early or lie about their lengths;
 * then payloads as text, digits and base64, and how late things were. */
#include <arpa/inet.h>
#include <check.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "supervisor/ctl/ctl_lateness.h"
#include "common/monotonic.h"
#include "supervisor/ctl/ctl_payload.h"
#include "supervisor/ctl/ctl_pcapng.h"
#include "supervisor/ctl/ctl_wake.h"
#include "tests/lib/unit.h"

#define TIME_NS 1795264496123456789

static uint8_t file_bytes[200000];
static size_t file_size;
static uint8_t payload[CHANNEL_DATAGRAM_MAX];

static union socket_address address(const char *text)
{
    union socket_address parsed = {0};
    char scope[IF_NAMESIZE];
    if (text[0])
        ck_assert_int_eq(socket_address_parse_scoped(text, &parsed, scope), 0);
    return parsed;
}

struct scene {
    const char *from, *to; /* "" = not known */
    uint32_t length, cut;
    uint64_t dropped;
};

static void write_scene(FILE *to, const struct scene *scene)
{
    const union socket_address source = address(scene->from), destination = address(scene->to);
    struct sockaddr_storage from = {0};
    memcpy(&from, &source, sizeof source);
    ctl_pcapng_begin(to);
    ctl_pcapng_interface(to, "engine");
    ctl_pcapng_packet(to, &(struct ctl_pcapng_packet){.time_ns = TIME_NS,
                                                      .source = &from,
                                                      .destination = &destination,
                                                      .payload = payload,
                                                      .length = scene->length,
                                                      .cut = scene->cut,
                                                      .dropped = scene->dropped});
}

static void make(const struct scene *scene)
{
    FILE *to = fmemopen(file_bytes, sizeof file_bytes, "w");
    ck_assert_ptr_nonnull(to);
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i * 7 + 3);
    write_scene(to, scene);
    file_size = (size_t)ftell(to);
    ck_assert_int_eq(fclose(to), 0);
}

static int read_again(size_t size, struct ctl_pcapng_contents *ret)
{
    FILE *from = fmemopen(file_bytes, size, "r");
    ck_assert_ptr_nonnull(from);
    int result = ctl_pcapng_read(from, ret);
    fclose(from);
    return result;
}

static uint32_t at_32(size_t offset)
{
    uint32_t value;
    memcpy(&value, file_bytes + offset, sizeof value);
    return le32toh(value);
}

static uint32_t at_16_network(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

/* Over all words of it, 0xffff when the checksum in it is right. */
static uint32_t sum_of(const uint8_t *bytes, size_t size, uint32_t sum)
{
    for (size_t i = 0; i < size; i++)
        sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

/* The packet's block, where it begins. */
static size_t find_packet(void)
{
    size_t at = 0;
    while (at_32(at) != 6) {
        ck_assert_uint_lt(at, file_size);
        ck_assert_uint_eq(at_32(at + 4), at_32(at + at_32(at + 4) - 4));
        at += at_32(at + 4);
    }
    ck_assert_uint_eq(at + at_32(at + 4), file_size);
    return at;
}

static const struct scene scenes[] = {
    {"10.0.0.7:50123", "10.0.0.1:26000", 0, 0, 0},
    {"10.0.0.7:50123", "10.0.0.1:26000", 1, 0, 0},
    {"10.0.0.7:50123", "10.0.0.1:26000", 64, 0, 3},
    {"10.0.0.7:50123", "239.1.2.3:26000", 1001, 0, 0},
    {"10.0.0.7:50123", "0.0.0.0:26000", 65507, 0, 1ull << 40},
    {"10.0.0.7:50123", "", 5, 0, 0},
    {"10.0.0.7:50123", "[::]:26000", 5, 0, 0},
    {"10.0.0.7:50123", "10.0.0.1:26000", 100, 1900, 0},
    {"[fd00::7]:50123", "[fd00::1]:26000", 0, 0, 0},
    {"[fe80::7%lo]:50123", "[ff02::1%lo]:26000", 33, 0, 0},
    {"[fd00::7]:50123", "[::]:26000", 65507, 0, 0},
    {"[fd00::7]:50123", "[fd00::1]:26000", 100, 1900, 2},
    {"", "10.0.0.1:26000", 5, 0, 0},
};

START_TEST(headers_are_what_they_would_have_been)
{
    const struct scene *scene = &scenes[_i];
    make(scene);
    const size_t at = find_packet();
    const uint8_t *ip = file_bytes + at + 28;
    const bool is_v6 = scene->from[0] == '[';
    const size_t ip_size = is_v6 ? 40 : 20, udp_length = 8 + scene->length + scene->cut;
    const uint8_t *udp = ip + ip_size;
    ck_assert_uint_eq((uint64_t)at_32(at + 12) << 32 | at_32(at + 16), TIME_NS);
    ck_assert_uint_eq(at_32(at + 20), ip_size + 8 + scene->length);
    ck_assert_uint_eq(at_32(at + 24), ip_size + udp_length);
    ck_assert_uint_eq(at_16_network(udp + 4), udp_length);
    ck_assert_uint_eq(at_16_network(udp), scene->from[0] ? 50123 : 0);
    ck_assert_uint_eq(at_16_network(udp + 2), scene->to[0] ? 26000 : 0);
    ck_assert_mem_eq(udp + 8, payload, scene->length);
    if (is_v6) {
        ck_assert_uint_eq(ip[0] >> 4, 6);
        ck_assert_uint_eq(at_16_network(ip + 4), udp_length);
        ck_assert_uint_eq(ip[6], IPPROTO_UDP);
    } else {
        ck_assert_uint_eq(ip[0], 0x45);
        ck_assert_uint_eq(at_16_network(ip + 2), 20 + udp_length);
        ck_assert_uint_eq(ip[9], IPPROTO_UDP);
        ck_assert_uint_eq(sum_of(ip, 20, 0), 0xffff);
    }
    /* Both addresses stand just before the UDP header. */
    const size_t addresses = is_v6 ? 32 : 8;
    const uint32_t pseudo =
        sum_of(udp - addresses, addresses, (uint32_t)(IPPROTO_UDP + udp_length));
    if (scene->cut == 0)
        ck_assert_uint_eq(sum_of(udp, udp_length, pseudo), 0xffff);
    else
        ck_assert_uint_eq(at_16_network(udp + 6), is_v6 ? 0xffff : 0);
}
END_TEST

START_TEST(addresses_are_in_their_places)
{
    uint8_t expected[16];
    make(&scenes[2]);
    const uint8_t *ip = file_bytes + find_packet() + 28;
    inet_pton(AF_INET, "10.0.0.7", expected);
    ck_assert_mem_eq(ip + 12, expected, 4);
    inet_pton(AF_INET, "10.0.0.1", expected);
    ck_assert_mem_eq(ip + 16, expected, 4);
    make(&scenes[9]);
    ip = file_bytes + find_packet() + 28;
    inet_pton(AF_INET6, "fe80::7", expected);
    ck_assert_mem_eq(ip + 8, expected, 16);
    inet_pton(AF_INET6, "ff02::1", expected);
    ck_assert_mem_eq(ip + 24, expected, 16);
}
END_TEST

START_TEST(what_is_missing_before_it_is_told)
{
    uint64_t dropped;
    make(&scenes[4]);
    const size_t end = file_size - 4; /* the option, its end, the length */
    ck_assert_uint_eq(at_32(end - 16), 4 | 8 << 16);
    memcpy(&dropped, file_bytes + end - 12, sizeof dropped);
    ck_assert_uint_eq(le64toh(dropped), scenes[4].dropped);
}
END_TEST

/* No header can name it, and none may seem to: the comment does. */
START_TEST(a_publisher_is_named_in_the_comment)
{
    static const char who[] = "local:1000/4711/engine";
    for (uint64_t dropped = 0; dropped < 2; dropped++) {
        struct sockaddr_storage from = {.ss_family = AF_UNIX};
        const union socket_address destination = {.family = AF_UNSPEC};
        struct ctl_pcapng_contents contents;
        strcpy(((struct sockaddr_un *)&from)->sun_path, who);
        FILE *to = fmemopen(file_bytes, sizeof file_bytes, "w");
        ck_assert_ptr_nonnull(to);
        ctl_pcapng_begin(to);
        ctl_pcapng_interface(to, "flight");
        ctl_pcapng_packet(to, &(struct ctl_pcapng_packet){.time_ns = TIME_NS,
                                                          .source = &from,
                                                          .destination = &destination,
                                                          .payload = payload,
                                                          .length = 5,
                                                          .dropped = dropped});
        file_size = (size_t)ftell(to);
        ck_assert_int_eq(fclose(to), 0);
        const size_t ip = find_packet() + 28, options = ip + 20 + 8 + 5 + 3;
        ck_assert_uint_eq(file_bytes[ip] >> 4, 4);
        for (size_t i = 12; i < 24; i++) /* both addresses and ports */
            ck_assert_uint_eq(file_bytes[ip + i], 0);
        ck_assert_uint_eq(at_32(options), 1 | (sizeof who - 1) << 16);
        ck_assert_mem_eq(file_bytes + options + 4, who, sizeof who - 1);
        ck_assert_uint_eq(at_32(file_size - 8), 0); /* the end of the options */
        if (dropped)
            ck_assert_uint_eq(at_32(file_size - 20), 4 | 8 << 16);
        ck_assert_int_eq(read_again(file_size, &contents), 0);
        ck_assert_uint_eq(contents.packets, 1);
    }
}
END_TEST

START_TEST(files_are_read_again)
{
    struct ctl_pcapng_contents contents;
    make(&scenes[_i]);
    ck_assert_int_eq(read_again(file_size, &contents), 0);
    ck_assert_uint_eq(contents.interfaces, 1);
    ck_assert_uint_eq(contents.packets, 1);
    ck_assert_int_eq(contents.last_time_ns, TIME_NS);
}
END_TEST

START_TEST(files_that_are_damaged_are_noticed)
{
    struct ctl_pcapng_contents contents;
    make(&scenes[2]);
    const size_t packet = find_packet();
    /* Cut anywhere but between blocks. */
    for (size_t size = 1; size < file_size; size++) {
        int result = read_again(size, &contents);
        ck_assert_msg(result == -EBADMSG || (result == 0 && contents.packets == 0), "at %zu: %d",
                      size, result);
    }
    static const size_t offsets[] = {0, 4, 8, 20};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        const uint8_t before = file_bytes[packet + offsets[i]];
        file_bytes[packet + offsets[i]] ^= 0xff;
        ck_assert_int_eq(read_again(file_size, &contents), -EBADMSG);
        file_bytes[packet + offsets[i]] = before;
    }
    file_bytes[0] ^= 1; /* no section */
    ck_assert_int_eq(read_again(file_size, &contents), -EBADMSG);
}
END_TEST

/* ---- payloads ---- */

static char printed[4096];

#define CAPTURE(call)                                                                              \
    do {                                                                                           \
        FILE *to = fmemopen(printed, sizeof printed, "w");                                         \
        ck_assert_ptr_nonnull(to);                                                                 \
        call;                                                                                      \
        ck_assert_int_eq(fclose(to), 0);                                                           \
    } while (0)

static const struct {
    const char *bytes;
    size_t length;
    bool is_text;
} texts[] = {
    {"", 0, true},
    {"plain", 5, true},
    {"$GPGGA,1*00\r\n", 13, true},
    {"a\tb", 3, true},
    {"\0", 1, false},
    {"a\0b", 3, false},
    {"\x1b[2J", 4, false},
    {"\x7f", 1, false},
    {"gr\xc3\xbc\xc3\x9f", 6, true},
    {"\xe2\x82\xac", 3, true},
    {"\xf0\x9f\x9a\x80", 4, true},
    {"\xc3", 1, false},
    {"\xc0\xaf", 2, false},         /* longer than it needs to be */
    {"\xed\xa0\x80", 3, false},     /* half of a pair */
    {"\xf4\x90\x80\x80", 4, false}, /* beyond the last character */
    {"\x80", 1, false},
    {"\xff", 1, false},
    {"\xc2\x85", 2, false},     /* a control character */
    {"\xe2\x80\xae", 3, false}, /* turns the direction of writing */
};

START_TEST(text_is_told_from_bytes)
{
    ck_assert_int_eq(ctl_payload_is_text(texts[_i].bytes, texts[_i].length), texts[_i].is_text);
}
END_TEST

START_TEST(text_is_shown_and_cut)
{
    CAPTURE(ctl_payload_print_text(to, "a\tb\\\r\n", 6, 0));
    ck_assert_str_eq(printed, "a\\tb\\\\\\r\\n");
    CAPTURE(ctl_payload_print_text(to, "12345", 5, 5));
    ck_assert_str_eq(printed, "12345");
    CAPTURE(ctl_payload_print_text(to, "123456", 6, 5));
    ck_assert_str_eq(printed, "1234…");
    CAPTURE(ctl_payload_print_text(to, "1234\n", 5, 5));
    ck_assert_str_eq(printed, "1234…");
    CAPTURE(ctl_payload_print_hex(to, "\x0a\xff", 2, 0));
    ck_assert_str_eq(printed, "0x0aff");
    CAPTURE(ctl_payload_print_hex(to, "\x0a\xff\x11", 3, 7));
    ck_assert_str_eq(printed, "0x0aff…");
    CAPTURE(ctl_payload_print_digits(to, "\x00\x9f", 2));
    ck_assert_str_eq(printed, "009f");
    CAPTURE(ctl_payload_print_dump(to, "0123456789abcdef\x01", 17));
    ck_assert_str_eq(
        printed, "00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|\n"
                 "00000010  01                                                |.|\n");
}
END_TEST

START_TEST(base64_is_as_in_the_specification)
{
    static const struct {
        const char *bytes, *text;
    } rows[] = {{"", ""},
                {"f", "Zg=="},
                {"fo", "Zm8="},
                {"foo", "Zm9v"},
                {"foob", "Zm9vYg=="},
                {"fooba", "Zm9vYmE="},
                {"foobar", "Zm9vYmFy"}};
    char text[CTL_BASE64_SIZE(8)];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_uint_eq(ctl_payload_base64(rows[i].bytes, strlen(rows[i].bytes), text),
                          strlen(rows[i].text));
        ck_assert_str_eq(text, rows[i].text);
    }
    ctl_payload_base64("\xfb\xff\xfe", 3, text);
    ck_assert_str_eq(text, "+//+");
}
END_TEST

/* ---- lateness ---- */

START_TEST(quantiles_are_within_their_buckets)
{
    static struct ctl_lateness lateness;
    ck_assert_uint_eq(ctl_lateness_quantile(&lateness, 500), 0);
    for (uint64_t ns = 1; ns <= 100000; ns++)
        ctl_lateness_add(&lateness, ns);
    ck_assert_uint_eq(lateness.most_ns, 100000);
    const uint64_t half = ctl_lateness_quantile(&lateness, 500);
    const uint64_t most = ctl_lateness_quantile(&lateness, 990);
    ck_assert_msg(half >= 50000 && half < 50000 + 50000 / 16 + 1, "%llu", (unsigned long long)half);
    ck_assert_msg(most >= 99000 && most <= 100000, "%llu", (unsigned long long)most);
    ck_assert_uint_eq(ctl_lateness_quantile(&lateness, 1000), 100000);
    ctl_lateness_add(&lateness, UINT64_MAX);
    ck_assert_uint_eq(ctl_lateness_quantile(&lateness, 1000), UINT64_MAX);
}
END_TEST

START_TEST(it_is_woken_as_early_as_three_of_four_were_late)
{
    struct ctl_wake wake = {0};
    for (int i = 0; i < 10000; i++)
        ctl_wake_learn(&wake, i * 37 % 100 * 500);
    ck_assert_int_ge(wake.early_ns, 33000);
    ck_assert_int_le(wake.early_ns, 42000);
    for (int i = 0; i < 1000; i++)
        ctl_wake_learn(&wake, 1000000);
    ck_assert_int_eq(wake.early_ns, CTL_WAKE_EARLY_MOST_NS);
    for (int i = 0; i < 1000; i++)
        ctl_wake_learn(&wake, 0);
    ck_assert_int_eq(wake.early_ns, 0);
}
END_TEST

START_TEST(it_asks_for_no_more_than_a_part_of_the_time_left)
{
    struct ctl_wake wake = {.early_ns = 60000};
    ck_assert_int_eq(ctl_wake_early(&wake, 1000000), 60000);
    ck_assert_int_eq(ctl_wake_early(&wake, 100000), 25000);
    ck_assert_int_eq(ctl_wake_early(&wake, 3), 0);
    wake.alone = true;
    ck_assert_int_eq(ctl_wake_early(&wake, 1000000), 0);
}
END_TEST

/* Also what is near: else it would keep the processor for good once it has learnt too much. */
START_TEST(it_learns_from_every_sleep)
{
    struct ctl_wake wake = {.early_ns = CTL_WAKE_EARLY_MOST_NS};
    const int64_t far_away = CTL_WAKE_EARLY_MOST_NS / 2;
    for (int i = 0; i < 2000 && wake.early_ns == CTL_WAKE_EARLY_MOST_NS; i++)
        ctl_wake_at(&wake, (int64_t)monotonic_now().ns + far_away);
    ck_assert_int_lt(wake.early_ns, CTL_WAKE_EARLY_MOST_NS);
}
END_TEST

START_TEST(it_wakes_at_the_moment_or_later)
{
    struct ctl_wake wake;
    ctl_wake_begin(&wake);
    for (int i = 0; i < 300; i++) {
        const int64_t moment = (int64_t)monotonic_now().ns + i * 1000;
        ctl_wake_at(&wake, moment);
        ck_assert_int_ge((int64_t)monotonic_now().ns, moment);
        ck_assert(wake.early_ns >= 0 && wake.early_ns <= CTL_WAKE_EARLY_MOST_NS);
    }
    ctl_wake_at(&wake, 0); /* long ago */
}
END_TEST

int main(void)
{
    const int scene_count = sizeof scenes / sizeof *scenes;
    Suite *suite = suite_create("what holdfastctl makes of datagrams");
    TCase *tests = tcase_create("pcapng");
    tcase_add_loop_test(tests, headers_are_what_they_would_have_been, 0, scene_count);
    tcase_add_test(tests, addresses_are_in_their_places);
    tcase_add_test(tests, what_is_missing_before_it_is_told);
    tcase_add_test(tests, a_publisher_is_named_in_the_comment);
    tcase_add_loop_test(tests, files_are_read_again, 0, scene_count);
    tcase_add_test(tests, files_that_are_damaged_are_noticed);
    suite_add_tcase(suite, tests);
    tests = tcase_create("payloads");
    tcase_add_loop_test(tests, text_is_told_from_bytes, 0, sizeof texts / sizeof *texts);
    tcase_add_test(tests, text_is_shown_and_cut);
    tcase_add_test(tests, base64_is_as_in_the_specification);
    suite_add_tcase(suite, tests);
    tests = tcase_create("lateness");
    tcase_add_test(tests, quantiles_are_within_their_buckets);
    tcase_add_test(tests, it_is_woken_as_early_as_three_of_four_were_late);
    tcase_add_test(tests, it_asks_for_no_more_than_a_part_of_the_time_left);
    tcase_add_test(tests, it_learns_from_every_sleep);
    tcase_add_test(tests, it_wakes_at_the_moment_or_later);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
