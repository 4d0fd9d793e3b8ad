/* SPDX-License-Identifier: MIT */
/* --from, --to, --until and --source. Called by the verbs that read. What is not all understood
 * must never bound anything: it is a usage error that says what would be right. */
#include "supervisor/ctl/ctl_bound.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "common/monotonic.h"
#include "supervisor/ctl/ctl_text.h"
#include "supervisor/ctl/ctl_time.h"

#define SEQ_PREFIX "seq:"

static bool take_number(const char *text, uint64_t *ret)
{
    char *end;
    if (!isdigit((unsigned char)*text))
        return false;
    errno = 0;
    *ret = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

int ctl_parse_number(const char *option, const char *text, uint64_t most, uint64_t *ret)
{
    if (take_number(text, ret) && *ret <= most)
        return CTL_OK;
    ctl_complain("%s %s: give a whole number from 0 to %" PRIu64, option, text, most);
    return CTL_USAGE;
}

static int parse_bound(const char *option, const char *text, struct ctl_bound *ret)
{
    char why[CTL_TIME_WHY_SIZE];
    if (strcmp(text, "first") == 0 || strcmp(text, "new") == 0) {
        ctl_complain("%s %s: '%s' is a begin, for --from: an end is seq:1234 or a time", option,
                     text, text);
        return CTL_USAGE;
    }
    if (strncmp(text, SEQ_PREFIX, strlen(SEQ_PREFIX)) == 0) {
        ret->kind = CTL_BOUND_SEQ;
        if (take_number(text + strlen(SEQ_PREFIX), &ret->seq))
            return CTL_OK;
        ctl_complain("%s %s: behind 'seq:' stands a datagram's number, as in seq:1234", option,
                     text);
        return CTL_USAGE;
    }
    ret->kind = CTL_BOUND_TIME;
    if (ctl_time_parse(text, (int64_t)realtime_now_ns(), &ret->time_ns, why) == 0)
        return CTL_OK;
    uint64_t number;
    if (take_number(text, &number))
        ctl_complain(
            "%s %s: is it a number or a time? A datagram's number is seq:%s, seconds since "
            "1970 are @%s",
            option, text, text, text);
    else
        ctl_complain("%s %s: %s", option, text, why);
    return CTL_USAGE;
}

static int parse_from(const char *text, struct ctl_bound *ret)
{
    *ret = (struct ctl_bound){0};
    if (!text)
        return CTL_OK;
    if (strcmp(text, "first") == 0)
        ret->kind = CTL_BOUND_FIRST;
    else if (strcmp(text, "new") == 0)
        ret->kind = CTL_BOUND_NEW;
    else
        return parse_bound("--from", text, ret);
    return CTL_OK;
}

bool ctl_bound_is_end(const char *text)
{
    char why[CTL_TIME_WHY_SIZE];
    uint64_t seq;
    int64_t time_ns;
    if (strncmp(text, SEQ_PREFIX, strlen(SEQ_PREFIX)) == 0)
        return take_number(text + strlen(SEQ_PREFIX), &seq);
    return ctl_time_parse(text, 0, &time_ns, why) == 0 || *text == '-';
}

/* A range that can hold nothing is a mistake in it. */
static int check_order(const struct ctl_bounds *range)
{
    const struct ctl_bound *from = &range->from, *to = &range->to;
    const bool is_empty =
        from->kind == to->kind && ((to->kind == CTL_BOUND_SEQ && from->seq > to->seq) ||
                                   (to->kind == CTL_BOUND_TIME && from->time_ns >= to->time_ns));
    if (!is_empty)
        return CTL_OK;
    ctl_complain("the range ends before it begins: nothing can be in it");
    return CTL_USAGE;
}

/* A user's publishers, a process's, or one by its name too: with what is left out, it is an
 * address. */
static bool parse_publisher(const char *text, struct ctl_bounds *ret)
{
    static const char *const left_out[] = {"", "/_", "/0/_"};
    char whole[LOCAL_ADDRESS_TEXT_SIZE + 8];
    for (size_t i = 0; i < sizeof left_out / sizeof *left_out; i++) {
        int length = snprintf(whole, sizeof whole, "%s%s", text, left_out[i]);
        if ((size_t)length >= sizeof whole || socket_address_parse_local(whole, &ret->source) < 0)
            continue;
        if (i == 0) { /* as the log has it */
            ret->source.local.name[LOCAL_ADDRESS_PACKED_NAME] = '\0';
            socket_address_print(&ret->source, ret->local, sizeof ret->local);
        } else
            snprintf(ret->local, sizeof ret->local, "%s", text);
        return true;
    }
    return false;
}

/* Of a publisher only whole parts count: local:10 is not local:1000. */
static bool is_publisher(const struct ctl_bounds *range, const struct sockaddr_storage *source)
{
    const char *is = ((const struct sockaddr_un *)source)->sun_path;
    const size_t length = strlen(range->local);
    return strncmp(is, range->local, length) == 0 && (is[length] == '\0' || is[length] == '/');
}

static int parse_source(const char *text, struct ctl_bounds *ret)
{
    char scope[IF_NAMESIZE];
    char host[SOCKET_ADDRESS_TEXT_SIZE];
    const size_t length = strlen(text);
    ret->has_source = true;
    snprintf(host, sizeof host, "%s", text);
    if (text[0] == '[' && text[length - 1] == ']') /* without a port */
        snprintf(host, sizeof host, "%.*s", (int)length - 2, text + 1);
    if (socket_address_parse_scoped(text, &ret->source, scope) == 0 ||
        socket_address_parse_host(host, &ret->source, scope) == 0 || parse_publisher(text, ret))
        return CTL_OK;
    ctl_complain(
        "--source %s: give a sender's address, with its port or without: 10.0.0.7, "
        "10.0.0.7:50123, fe80::1 or [fe80::1]:50123; or a publisher's, as far as it matters: "
        "local:UID, local:UID/PID or local:UID/PID/NAME",
        text);
    return CTL_USAGE;
}

int ctl_bounds_parse(const struct ctl_command *command, struct ctl_bounds *ret)
{
    *ret = (struct ctl_bounds){0};
    const char *to = command->to_count > 0 ? command->to[0] : NULL;
    int status = parse_from(command->from, &ret->from);
    if (status == CTL_OK && (command->to_count > 1 || (to && command->until))) {
        ctl_complain("the end was given twice: leave one --to or --until out");
        status = CTL_USAGE;
    }
    if (status == CTL_OK && (to || command->until))
        status = parse_bound(to ? "--to" : "--until", to ? to : command->until, &ret->to);
    if (status == CTL_OK)
        status = check_order(ret);
    if (status == CTL_OK && command->source)
        status = parse_source(command->source, ret);
    return status;
}

bool ctl_bounds_has_source(const struct ctl_bounds *range, const struct sockaddr_storage *source)
{
    union socket_address is = {0};
    if (!range->has_source)
        return true;
    if (source->ss_family != range->source.family)
        return false;
    if (source->ss_family == AF_UNIX)
        return is_publisher(range, source);
    if (source->ss_family == AF_INET) {
        memcpy(&is.v4, source, sizeof is.v4);
        return is.v4.sin_addr.s_addr == range->source.v4.sin_addr.s_addr &&
               (range->source.v4.sin_port == 0 || is.v4.sin_port == range->source.v4.sin_port);
    }
    memcpy(&is.v6, source, sizeof is.v6);
    return memcmp(&is.v6.sin6_addr, &range->source.v6.sin6_addr, sizeof is.v6.sin6_addr) == 0 &&
           (range->source.v6.sin6_port == 0 || is.v6.sin6_port == range->source.v6.sin6_port);
}
