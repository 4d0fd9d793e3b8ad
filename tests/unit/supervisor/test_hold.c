/* SPDX-License-Identifier: MIT */
/* The hold with real sockets and real memory: what it opens works over IPv4, IPv6 and multicast on
 * lo; what it can't open is told with what to do; what it makes is sealed; nothing is leaked; and
 * its descriptors can be carried over to another hold by name alone, but never under a false name.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/channel_page_check.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "supervisor/hold/hold_adopt.h"
#include "supervisor/hold/hold_ring.h"
#include "supervisor/hold/hold_sockets.h"
#include "supervisor/hold/hold_destinations.h"
#include "tests/lib/unit.h"

static union socket_address address_of(const char *text)
{
    union socket_address address;
    ck_assert_msg(socket_address_parse(text, &address) == 0, "%s", text);
    return address;
}

/* A port that was free a moment ago. */
static int free_port(int family)
{
    union socket_address address = {.family = (sa_family_t)family};
    socklen_t length = family == AF_INET ? sizeof address.v4 : sizeof address.v6;
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, &address.any, length), 0);
    ck_assert_int_eq(getsockname(fd, &address.any, &length), 0);
    close(fd);
    return ntohs(family == AF_INET ? address.v4.sin_port : address.v6.sin6_port);
}

static struct channel_spec *make_spec(const char *listen, uint32_t relays, uint32_t decimates)
{
    struct channel_spec *spec = calloc(1, channel_spec_size(relays + decimates));
    ck_assert_ptr_nonnull(spec);
    strcpy(spec->name, "engine");
    spec->listen = address_of(listen);
    spec->receive_buffer = 1 << 16;
    spec->ring_size = 1 << 20;
    spec->max_datagram = 2048;
    spec->relay_count = relays;
    spec->decimate_count = decimates;
    return spec;
}

static void set_destination(struct channel_spec *spec, uint32_t index, const char *to,
                            const char *interface)
{
    struct destination_spec *destination = &spec->destinations[index];
    snprintf(destination->name, sizeof destination->name, "to%u", index);
    destination->to = address_of(to);
    destination->ttl = 1;
    destination->loop = 1;
    strcpy(destination->interface, interface);
}

static void open_hold(struct hold *hold, const struct channel_spec *spec)
{
    char why[320] = "";
    ck_assert_int_eq(hold_init(hold, spec), 0);
    ck_assert_msg(hold_sockets_open(hold, spec, why, sizeof why) == 0, "%s", why);
}

static void expect_text(int fd, const char *text)
{
    char buffer[64];
    struct timeval limit = {.tv_sec = 5};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ssize_t length = recv(fd, buffer, sizeof buffer, 0);
    ck_assert_msg(length == (ssize_t)strlen(text) && memcmp(buffer, text, strlen(text)) == 0,
                  "%zd: %s", length, strerror(errno));
}

struct way {
    const char *host;
    const char *interface;
    int family;
};

static const struct way ways[] = {
    {"127.0.0.1", "", AF_INET},
    {"[::1]", "", AF_INET6},
    {"239.77.1.9", "lo", AF_INET},
};

/* What one hold sends, another one receives. */
START_TEST(datagrams_pass_from_a_destination_to_a_receiver)
{
    char listen[64], elsewhere[64];
    struct hold receiver, sender;
    const struct way *way = &ways[_i];

    int before = unit_count_fds();
    snprintf(listen, sizeof listen, "%s:%d", way->host, free_port(way->family));
    snprintf(elsewhere, sizeof elsewhere, "127.0.0.1:%d", free_port(AF_INET));
    struct channel_spec *to = make_spec(listen, 0, 0);
    struct channel_spec *from = make_spec(elsewhere, 1, 0);
    strcpy(to->interface, way->interface);
    set_destination(from, 0, listen, way->interface);
    open_hold(&receiver, to);
    open_hold(&sender, from);
    ck_assert_int_eq((int)send(sender.destinations[0], "holdfast", 8, 0), 8);
    expect_text(receiver.rx, "holdfast");
    ck_assert_int_eq((int)send(sender.destinations[0], "", 0, 0), 0);
    expect_text(receiver.rx, "");
    hold_close(&receiver);
    hold_close(&sender);
    free(to);
    free(from);
    ck_assert_int_eq(unit_count_fds(), before);
}
END_TEST

/* Linux sends no IPv6 multicast over lo (it has no multicast route there), so this looks at the
 * membership itself. */
START_TEST(ipv6_groups_are_joined_at_their_interface)
{
    static const char *const groups[] = {"[ff02::77:9%lo]", "[ff12::77:9]", "[ff15::77:9]"};
    char listen[64], members[8192];
    struct hold hold;

    snprintf(listen, sizeof listen, "%s:%d", groups[_i], free_port(AF_INET6));
    struct channel_spec *spec = make_spec(listen, 0, 0);
    strcpy(spec->interface, "lo");
    open_hold(&hold, spec);
    ck_assert_int_gt(
        (int)unit_read_small_file(AT_FDCWD, "/proc/net/igmp6", members, sizeof members), 0);
    const char *line = strstr(members, _i == 0   ? "ff020000000000000000000000770009"
                                       : _i == 1 ? "ff120000000000000000000000770009"
                                                 : "ff150000000000000000000000770009");
    ck_assert_ptr_nonnull(line);
    while (line > members && line[-1] != '\n')
        line--;
    ck_assert_ptr_nonnull(strstr(line, "lo "));
    hold_close(&hold);
    free(spec);
}
END_TEST

START_TEST(a_source_specific_join_takes_that_source_only)
{
    char listen[64], elsewhere[64], scope[IF_NAMESIZE];
    int port = free_port(AF_INET);
    snprintf(listen, sizeof listen, "232.77.1.9:%d", port);
    snprintf(elsewhere, sizeof elsewhere, "127.0.0.1:%d", free_port(AF_INET));
    struct channel_spec *to = make_spec(listen, 0, 0);
    struct channel_spec *other = make_spec(listen, 0, 0);
    struct channel_spec *from = make_spec(elsewhere, 1, 0);
    struct hold receiver, deaf, sender;

    strcpy(to->interface, "lo");
    strcpy(other->interface, "lo");
    ck_assert_int_eq(socket_address_parse_host("127.0.0.1", &to->source, scope), 0);
    ck_assert_int_eq(socket_address_parse_host("127.0.0.99", &other->source, scope), 0);
    set_destination(from, 0, listen, "lo");
    open_hold(&receiver, to);
    open_hold(&deaf, other); /* the same group and port: multicast addresses are shared */
    open_hold(&sender, from);
    /* Sent from 127.0.0.1 whatever the routing table says. */
    int out = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    union socket_address home = address_of("127.0.0.1:1"), group = address_of(listen);
    home.v4.sin_port = 0;
    struct ip_mreqn lo = {.imr_address = home.v4.sin_addr};
    ck_assert_int_eq(setsockopt(out, IPPROTO_IP, IP_MULTICAST_IF, &lo, sizeof lo), 0);
    ck_assert_int_eq(bind(out, &home.any, sizeof home.v4), 0);
    ck_assert_int_eq((int)sendto(out, "mine", 4, 0, &group.any, sizeof group.v4), 4);
    expect_text(receiver.rx, "mine");
    char buffer[8]; /* loopback delivers to all sockets before sendto returns */
    ck_assert_int_lt((int)recv(deaf.rx, buffer, sizeof buffer, MSG_DONTWAIT), 0);
    close(out);
    hold_close(&receiver);
    hold_close(&deaf);
    hold_close(&sender);
    free(to);
    free(other);
    free(from);
}
END_TEST

static int get_int(int fd, int level, int option)
{
    int value = -1;
    socklen_t length = sizeof value;
    ck_assert_int_eq(getsockopt(fd, level, option, &value, &length), 0);
    return value;
}

START_TEST(sockets_are_set_up_as_workers_need_them)
{
    char listen[64];
    struct hold hold;
    snprintf(listen, sizeof listen, "127.0.0.1:%d", free_port(AF_INET));
    struct channel_spec *spec = make_spec(listen, 1, 1);
    spec->receive_offload = 1;
    set_destination(spec, 0, "239.77.1.1:40001", "lo");
    set_destination(spec, 1, "127.0.0.1:40002", "");
    open_hold(&hold, spec);
    ck_assert_int_eq(get_int(hold.rx, SOL_SOCKET, SO_TIMESTAMPNS), 1);
    ck_assert_int_eq(get_int(hold.rx, SOL_SOCKET, SO_RXQ_OVFL), 1);
    ck_assert_int_eq(get_int(hold.rx, SOL_SOCKET, SO_REUSEADDR),
                     0); /* a second listener must be noticed */
    ck_assert_int_eq(get_int(hold.rx, IPPROTO_UDP, 104 /* UDP_GRO */), 1);
    ck_assert_uint_ge(hold.receive_buffer, 1 << 16);
    ck_assert_int_eq(fcntl(hold.rx, F_GETFL) & O_NONBLOCK, 0);
    for (uint32_t i = 0; i < 2; i++) {
        ck_assert_int_ne(fcntl(hold.destinations[i], F_GETFL) & O_NONBLOCK, 0);
        ck_assert_int_eq(fcntl(hold.destinations[i], F_GETFD), FD_CLOEXEC);
    }
    ck_assert_int_eq(fcntl(hold.rx, F_GETFD), FD_CLOEXEC);
    ck_assert_int_eq(get_int(hold.destinations[0], IPPROTO_IP, IP_MULTICAST_TTL), 1);
    hold_close(&hold);
    free(spec);
}
END_TEST

START_TEST(what_can_not_be_opened_is_told_and_can_be_opened_later)
{
    char listen[64], why[320];
    struct hold first, second;
    int before = unit_count_fds();
    snprintf(listen, sizeof listen, "127.0.0.1:%d", free_port(AF_INET));
    struct channel_spec *spec = make_spec(listen, 1, 0);
    set_destination(spec, 0, "127.0.0.1:40003", "");
    open_hold(&first, spec);
    ck_assert_int_eq(hold_init(&second, spec), 0);
    ck_assert_int_eq(hold_sockets_open(&second, spec, why, sizeof why), -EADDRINUSE);
    ck_assert_ptr_nonnull(strstr(why, listen));
    ck_assert_ptr_nonnull(strstr(why, "another program uses this address"));
    ck_assert_int_eq(second.rx, -1);
    hold_close(&first);
    ck_assert_int_eq(hold_sockets_open(&second, spec, why, sizeof why), 0);
    hold_close(&second);

    strcpy(spec->destinations[0].interface, "nosuch0");
    ck_assert_int_eq(hold_init(&second, spec), 0);
    ck_assert_int_eq(hold_sockets_open(&second, spec, why, sizeof why), 0);
    ck_assert_ptr_nonnull(strstr(second.down[0].reason, "nosuch0"));
    int lent = second.destinations[0]; /* what was lent is lent as it then is */
    ck_assert_int_ge(lent, 0);
    ck_assert(send(lent, "x", 1, MSG_NOSIGNAL) < 0 && errno == EDESTADDRREQ);
    hold_destinations_try_down(&second, spec, true);
    ck_assert(second.down[0].reason[0] != '\0');
    spec->destinations[0].interface[0] = '\0';
    hold_destinations_try_down(&second, spec, true);
    ck_assert(second.down[0].reason[0] == '\0');
    ck_assert_int_eq(second.destinations[0], lent);
    ck_assert_int_eq(send(lent, "x", 1, MSG_NOSIGNAL), 1);
    hold_close(&second);
    hold_close(&second); /* closing twice is closing once */
    free(spec);
    ck_assert_int_eq(unit_count_fds(), before);
}
END_TEST

/* Lines that say of a destination that it is down, of what stderr was given since it is this file.
 */
static int count_told(int file)
{
    char text[8192];
    int count = 0;
    ssize_t length = pread(file, text, sizeof text - 1, 0);
    ck_assert_int_ge(length, 0);
    text[length] = '\0';
    for (const char *at = text; (at = strstr(at, "counted as dropped")); at++)
        count++;
    return count;
}

START_TEST(what_is_down_is_told_when_it_changes_and_then_once_an_hour)
{
    static const uint64_t hour = 3600 * NS_PER_S;
    struct channel_spec *spec = make_spec("127.0.0.1:1", 1, 0);
    struct hold hold;
    char text[64];
    int file = memfd_create("stderr", MFD_CLOEXEC);
    if (monotonic_now().ns < hour + NS_PER_S)
        unit_skip("this machine has run for less than an hour");
    ck_assert(file >= 0 && dup2(file, STDERR_FILENO) == STDERR_FILENO);
    snprintf(text, sizeof text, "127.0.0.1:%d", free_port(AF_INET));
    spec->listen = address_of(text);
    set_destination(spec, 0, "127.0.0.1:9", "nosuch0");
    open_hold(&hold, spec);
    ck_assert_int_eq(count_told(file), 1);
    for (int i = 0; i < 5; i++)
        hold_destinations_try_down(&hold, spec, true);
    ck_assert_int_eq(count_told(file), 1);
    hold.down[0].told.ns = monotonic_now().ns - hour + 100 * NS_PER_S;
    hold_destinations_try_down(&hold, spec, true);
    ck_assert_int_eq(count_told(file), 1);
    hold.down[0].told.ns = monotonic_now().ns - hour;
    for (int i = 0; i < 2; i++)
        hold_destinations_try_down(&hold, spec, true);
    ck_assert_int_eq(count_told(file), 2);
    strcpy(spec->destinations[0].interface, "nosuch1");
    for (int i = 0; i < 2; i++)
        hold_destinations_try_down(&hold, spec, true);
    ck_assert_int_eq(count_told(file), 3);
    hold_close(&hold);
    close(file);
    free(spec);
}
END_TEST

/* What a worker has been lent stays, until one can be given what comes in its place. */
START_TEST(a_stand_in_is_replaced_only_when_its_worker_can_follow)
{
    struct channel_spec *spec = make_spec("127.0.0.1:1", 1, 0);
    struct hold hold;
    char text[64];
    snprintf(text, sizeof text, "127.0.0.1:%d", free_port(AF_INET));
    spec->listen = address_of(text);
    set_destination(spec, 0, "127.0.0.1:9", "");
    open_hold(&hold, spec);
    int stand_in = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    fd_close(&hold.destinations[0]);
    hold.destinations[0] = stand_in;
    hold.down[0].stand_in = true;
    strcpy(hold.down[0].reason, "it can't be had");
    ck_assert(!hold_destinations_try_down(&hold, spec, false));
    ck_assert_int_eq(hold.destinations[0], stand_in);
    ck_assert(hold.down[0].stand_in);
    ck_assert_str_eq(hold.down[0].reason, "it can't be had");
    ck_assert(hold_destinations_try_down(&hold, spec, true));
    ck_assert(!hold.down[0].stand_in);
    ck_assert_str_eq(hold.down[0].reason, "");
    union socket_address peer = {0};
    socklen_t length = sizeof peer;
    ck_assert_int_eq(getpeername(hold.destinations[0], &peer.any, &length), 0);
    ck_assert(!hold_destinations_try_down(&hold, spec, true));
    hold_close(&hold);
    free(spec);
}
END_TEST

START_TEST(a_ring_is_sealed_sized_and_sound)
{
    char why[256];
    const char *what;
    struct hold hold;
    struct stat about;
    struct channel_spec *spec = make_spec("127.0.0.1:40004", 0, 0);
    ck_assert_int_eq(hold_init(&hold, spec), 0);
    ck_assert_int_eq(hold_ring_make(&hold, spec, 12345, why, sizeof why), 0);
    ck_assert(hold.ring_fresh);
    ck_assert_int_eq(fstat(hold.ring, &about), 0);
    ck_assert_uint_eq((uint64_t)about.st_size, hold.geometry.total_size);
    ck_assert_int_lt(ftruncate(hold.ring, 4096), 0);
    ck_assert_int_lt(ftruncate(hold.ring, about.st_size * 2), 0);
    ck_assert_int_lt(fcntl(hold.ring, F_ADD_SEALS, F_SEAL_WRITE), 0);
    ck_assert_int_eq(channel_page_check(hold.page,
                                        channel_page_descriptors(hold.page, &hold.geometry),
                                        &hold.geometry, "engine", &what),
                     0);
    ck_assert_uint_eq(atomic_load(&hold.page->public.published), 12345);
    int before = unit_count_fds();
    ck_assert_int_eq(hold_ring_make(&hold, spec, 7, why, sizeof why),
                     0); /* replaces the earlier one */
    ck_assert_int_eq(unit_count_fds(), before);
    ck_assert_uint_eq(atomic_load(&hold.page->public.published), 7);
    hold_close(&hold);
    free(spec);
}
END_TEST

/* ---- by name ---- */

struct named {
    char name[HOLD_NAME_SIZE];
    int fd;
};

struct carried {
    struct named list[16];
    int count;
};

static void carry(struct carried *carried, const struct hold *hold)
{
    for (uint32_t place = 0; place < hold_place_count(hold); place++) {
        int fd = hold_place(hold, place, carried->list[carried->count].name);
        if (fd >= 0)
            carried->list[carried->count++].fd = dup(fd);
    }
}

static void fill(struct hold *hold, struct channel_spec *spec)
{
    char why[256];
    open_hold(hold, spec);
    ck_assert_int_eq(hold_ring_make(hold, spec, 99, why, sizeof why), 0);
    hold->segment = memfd_create("log", MFD_CLOEXEC);
    hold->next = memfd_create("next", MFD_CLOEXEC);
}

static struct channel_spec *full_spec(void)
{
    char listen[64];
    snprintf(listen, sizeof listen, "127.0.0.1:%d", free_port(AF_INET));
    struct channel_spec *spec = make_spec(listen, 2, 1);
    spec->record.enabled = 1;
    set_destination(spec, 0, "127.0.0.1:40005", "");
    set_destination(spec, 1, "[::1]:40006", "");
    set_destination(spec, 2, "239.77.1.2:40007", "lo");
    return spec;
}

START_TEST(a_hold_is_restored_from_names_alone)
{
    struct channel_spec *spec = full_spec();
    struct hold hold, restored;
    struct carried carried = {0};
    int before = unit_count_fds();

    fill(&hold, spec);
    carry(&carried, &hold);
    ck_assert_int_eq(carried.count, 8);
    hold_close(&hold);
    ck_assert_int_eq(hold_init(&restored, spec), 0);
    for (int i = 0; i < carried.count; i++)
        ck_assert_msg(hold_adopt(&restored, spec, carried.list[i].name, carried.list[i].fd) == 0,
                      "%s", carried.list[i].name);
    ck_assert_uint_eq(atomic_load(&restored.page->public.published), 99);
    ck_assert(!restored.ring_fresh);
    int rx = restored.rx;
    char why[256];
    ck_assert_int_eq(hold_sockets_open(&restored, spec, why, sizeof why), 0);
    ck_assert_int_eq(restored.rx, rx);
    ck_assert_uint_ge(restored.receive_buffer, 1 << 16);
    hold_close(&restored);
    ck_assert_int_eq(unit_count_fds(), before);
    free(spec);
}
END_TEST

START_TEST(a_descriptor_under_a_false_name_is_refused)
{
    struct channel_spec *spec = full_spec();
    struct hold hold, other;
    fill(&hold, spec);
    ck_assert_int_eq(hold_init(&other, spec), 0);
    const struct {
        const char *name;
        int fd;
    } lies[] = {
        {"rx", hold.ring},
        {"rx", hold.destinations[0]},
        {"ring", hold.rx},
        {"ring", hold.segment},
        {"out.0", hold.rx},
        {"out.0", hold.destinations[1]},
        {"out.2", hold.destinations[2]},
        {"dec.0", hold.destinations[0]},
        {"dec.1", hold.destinations[2]},
        {"out.", hold.destinations[0]},
        {"out.0x", hold.destinations[0]},
        {"out.-1", hold.destinations[0]},
        {"out.99999999999999999999", hold.destinations[0]},
        {"log", hold.rx},
        {"stored", hold.rx},
        {"", hold.rx},
    };
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++)
        ck_assert_msg(hold_adopt(&other, spec, lies[i].name, lies[i].fd) == -EINVAL, "%s",
                      lies[i].name);
    int twice = dup(hold.rx);
    ck_assert_int_eq(hold_adopt(&other, spec, "rx", dup(hold.rx)), 0);
    ck_assert(hold_adopted_socket_suits(&other, spec));
    spec->listen.v4.sin_port = htons(1); /* it is what the settings were */
    ck_assert(!hold_adopted_socket_suits(&other, spec));
    ck_assert_int_eq(hold_adopt(&other, spec, "rx", twice), -EINVAL);
    close(twice);
    spec->ring_size *= 2; /* the configuration has changed: the ring keeps its shape */
    struct hold changed;
    ck_assert_int_eq(hold_init(&changed, spec), 0);
    ck_assert_int_eq(hold_adopt(&changed, spec, "ring", dup(hold.ring)), 0);
    ck_assert(hold_is_outdated(&changed, spec));
    ck_assert_uint_eq(changed.geometry.data_capacity, hold.geometry.data_capacity);
    hold_close(&changed);
    snprintf(spec->name, sizeof spec->name, "another");
    ck_assert_int_eq(hold_init(&changed, spec), 0);
    ck_assert_int_eq(hold_adopt(&changed, spec, "ring", hold.ring), -EINVAL);
    hold_close(&changed);
    hold_close(&other);
    hold_close(&hold);
    free(spec);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("hold");
    TCase *cases = tcase_create("hold");
    log_open("test");
    tcase_set_timeout(cases, 20);
    tcase_add_loop_test(cases, datagrams_pass_from_a_destination_to_a_receiver, 0,
                        (int)(sizeof ways / sizeof ways[0]));
    tcase_add_loop_test(cases, ipv6_groups_are_joined_at_their_interface, 0, 3);
    tcase_add_test(cases, a_source_specific_join_takes_that_source_only);
    tcase_add_test(cases, sockets_are_set_up_as_workers_need_them);
    tcase_add_test(cases, what_can_not_be_opened_is_told_and_can_be_opened_later);
    tcase_add_test(cases, what_is_down_is_told_when_it_changes_and_then_once_an_hour);
    tcase_add_test(cases, a_stand_in_is_replaced_only_when_its_worker_can_follow);
    tcase_add_test(cases, a_ring_is_sealed_sized_and_sound);
    tcase_add_test(cases, a_hold_is_restored_from_names_alone);
    tcase_add_test(cases, a_descriptor_under_a_false_name_is_refused);
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
