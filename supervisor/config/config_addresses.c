/* SPDX-License-Identifier: MIT */
/* Reads addresses, and says of a wrong one how it would be right. Called by the types of values.
 * Must never look up a host name: a resolver blocks. */
#include "supervisor/config/config_addresses.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/channel_spec.h"
#include "common/local_address.h"

static int take_address(int result, const union socket_address *address, const char *refusal,
                        union socket_address *to, char why[CONFIG_WHY_SIZE])
{
    if (result == 0 && address->family == AF_INET6 &&
        IN6_IS_ADDR_V4MAPPED(&address->v6.sin6_addr)) {
        refusal = "an IPv4 address in IPv6 form: write it as IPv4";
        result = -EINVAL;
    }
    if (result < 0) {
        snprintf(why, CONFIG_WHY_SIZE, "%s", refusal);
        return -EINVAL;
    }
    *to = *address;
    return 0;
}

/* Would it be one with another port? */
static bool is_port_wrong(const char *text)
{
    char other[SOCKET_ADDRESS_TEXT_SIZE + IF_NAMESIZE], scope[IF_NAMESIZE];
    union socket_address address;
    const char *colon = strrchr(text, ':');
    if (!colon || (size_t)(colon - text) + 3 > sizeof other)
        return false;
    snprintf(other, sizeof other, "%.*s:1", (int)(colon - text), text);
    return socket_address_parse_scoped(other, &address, scope) == 0;
}

static bool is_local(const char *text)
{
    return strncmp(text, LOCAL_ADDRESS_PREFIX, strlen(LOCAL_ADDRESS_PREFIX)) == 0;
}

int config_address_parse(const char *text, union socket_address *to, char why[CONFIG_WHY_SIZE])
{
    union socket_address address;
    char scope[IF_NAMESIZE];
    const char *refusal = "not an address with port: write 10.0.0.7:26000 or [::1]:26000; host "
                          "names are not looked up";
    if (is_port_wrong(text))
        refusal = "its port is none: it must be a number between 1 and 65535";
    else if (is_local(text))
        refusal = "that is where programs write, not a place to send to: write an address with "
                  "port, like 10.0.0.7:26000";
    return take_address(socket_address_parse_scoped(text, &address, scope), &address, refusal, to,
                        why);
}

int config_address_parse_host(const char *text, union socket_address *to, char why[CONFIG_WHY_SIZE])
{
    union socket_address address;
    char scope[IF_NAMESIZE]; /* the kernel has no use for a source's */
    if (*text == '\0') {
        memset(to, 0, sizeof *to);
        return 0;
    }
    return take_address(
        socket_address_parse_host(text, &address, scope), &address,
        "not an address: write 10.0.0.7 or fe80::1%eth0, without a port and no host name", to, why);
}

int config_address_parse_listen(const char *text, struct channel_spec *to,
                                char why[CONFIG_WHY_SIZE])
{
    if (!is_local(text))
        return config_address_parse(text, &to->listen, why);
    const char *name = text + strlen(LOCAL_ADDRESS_PREFIX);
    if (!channel_name_is_valid(name)) {
        snprintf(why, CONFIG_WHY_SIZE,
                 "not a name behind local: use 1 to %d letters, digits, _ and -, beginning with a "
                 "letter or digit",
                 CHANNEL_NAME_SIZE - 1);
        return -EINVAL;
    }
    to->listen.family = AF_UNIX;
    memcpy(to->local, name, strlen(name));
    return 0;
}
