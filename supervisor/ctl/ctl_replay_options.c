/* SPDX-License-Identifier: MIT */
/* Replay's options. Called by ctl_replay.c before anything is opened. */
#include "supervisor/ctl/ctl_replay_options.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/channel_spec.h"
#include "supervisor/ctl/ctl_span.h"
#include "supervisor/ctl/ctl_text.h"

#define TTL_MOST 255

/* Of two --to, one is an address and the other the end. */
static int split_to(const struct ctl_command *command, struct ctl_command *ret_rest,
                    struct ctl_replay_options *ret)
{
    *ret_rest = *command;
    ret_rest->to_count = 0;
    for (int i = 0; i < command->to_count; i++) {
        union socket_address address;
        char scope[IF_NAMESIZE];
        if (socket_address_parse_scoped(command->to[i], &address, scope) != 0) {
            if (!ctl_bound_is_end(command->to[i])) {
                ctl_complain("--to %s: give an address with its port, as 10.0.0.7:26000 or "
                             "[ff02::1%%eth0]:26000, or the end, as seq:1234 or a time",
                             command->to[i]);
                return CTL_USAGE;
            }
            ret_rest->to[ret_rest->to_count++] = command->to[i];
            continue;
        }
        if (ret->where_to) {
            ctl_complain("--to %s: one address is there already: replay sends to one only",
                         command->to[i]);
            return CTL_USAGE;
        }
        ret->where_to = command->to[i];
    }
    if (ret->where_to)
        return CTL_OK;
    ctl_complain("replay needs an address to send to: --to ADDR:PORT");
    return CTL_USAGE;
}

static int parse_target(const struct ctl_command *command, struct ctl_replay_options *ret)
{
    struct ctl_replay_target *target = &ret->target;
    uint64_t ttl;
    int result = socket_address_parse(ret->where_to, &target->address);
    if (result < 0) {
        ctl_complain("--to %s: %s", ret->where_to,
                     result == -ENODEV ? "there is no such interface here" : "this is no address");
        return CTL_USAGE;
    }
    if (command->interface) {
        if (!interface_name_is_valid(command->interface)) {
            ctl_complain("--interface %s: no interface can have this name", command->interface);
            return CTL_USAGE;
        }
        strcpy(target->interface, command->interface);
    }
    target->ttl = -1;
    if (command->ttl) {
        int status = ctl_parse_number("--ttl", command->ttl, TTL_MOST, &ttl);
        if (status != CTL_OK)
            return status;
        if (ttl == 0 && !socket_address_is_multicast(&target->address)) {
            ctl_complain("--ttl 0: only multicast can stay on this machine by that; %s is reached "
                         "with 1 or more",
                         ret->where_to);
            return CTL_USAGE;
        }
        target->ttl = (int)ttl;
    }
    return CTL_OK;
}

static int parse_rate(const char *text, struct ctl_replay_options *ret)
{
    char *end;
    ret->rate = 1;
    ret->at_once = text && strcmp(text, "max") == 0;
    if (!text || ret->at_once)
        return CTL_OK;
    ret->rate = strtod(text, &end);
    if (end > text && (*end == '\0' || strcmp(end, "x") == 0) &&
        ret->rate >= CTL_REPLAY_RATE_LEAST && ret->rate <= CTL_REPLAY_RATE_MOST)
        return CTL_OK;
    ctl_complain("--rate %s: give a number from 0.01 to 1000, such as 2 for twice as fast, or max "
                 "for as fast as it goes",
                 text);
    return CTL_USAGE;
}

int ctl_replay_options_parse(const struct ctl_command *command, struct ctl_replay_options *ret)
{
    struct ctl_command rest;
    char why[CTL_TIME_WHY_SIZE];
    *ret = (struct ctl_replay_options){.loops = 1, .silence_ns = INT64_MAX};
    int status = split_to(command, &rest, ret);
    if (status == CTL_OK)
        status = parse_target(command, ret);
    if (status == CTL_OK)
        status = parse_rate(command->rate, ret);
    if (status == CTL_OK && command->loop)
        status = ctl_parse_number("--loop", command->loop, UINT64_MAX, &ret->loops);
    if (status == CTL_OK)
        status = ctl_bounds_parse(&rest, &ret->bounds);
    if (status == CTL_OK && ret->bounds.from.kind == CTL_BOUND_NEW) {
        ctl_complain("--from new: replay sends what was recorded");
        status = CTL_USAGE;
    }
    if (status == CTL_OK && command->skip_silence &&
        ctl_span_parse(command->skip_silence, &ret->silence_ns, why) < 0) {
        const bool has_number = isdigit((unsigned char)command->skip_silence[0]);
        ctl_complain("--skip-silence %s: %s", command->skip_silence,
                     has_number ? why : "write for example 2s, 500ms or 1min");
        status = CTL_USAGE;
    }
    return status;
}
