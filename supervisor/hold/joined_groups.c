/* SPDX-License-Identifier: MIT */
/* Reads proc_net(5)'s igmp and igmp6. Asked by membership.c about a socket that was adopted: a
 * socket remembers that it has joined, also when its interface has been away since and remembers
 * nothing. Must never wait: the kernel makes these texts from its memory. */
#include "supervisor/hold/joined_groups.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_SIZE 256

/* "2\tnear0     :     1      V3", and below it for each group "\t\t\t\tFB0000E0     1
 * 0:00000000\t\t0": the address as a number of this machine's own order. */
static bool find_v4(FILE *list, uint32_t address, unsigned interface)
{
    char line[LINE_SIZE];
    bool here = false;
    while (fgets(line, sizeof line, list)) {
        if (line[0] != '\t')
            here = strtoul(line, NULL, 10) == interface;
        else if (here && strtoul(line, NULL, 16) == address)
            return true;
    }
    return false;
}

/* "2    near0           ff0200000000000000000000000000fb     1 0000000C 0" */
static bool find_v6(FILE *list, const struct in6_addr *address, unsigned interface)
{
    char line[LINE_SIZE], wanted[2 * sizeof *address + 1], group[sizeof wanted];
    unsigned index;
    for (size_t i = 0; i < sizeof *address; i++)
        snprintf(wanted + 2 * i, 3, "%02x", address->s6_addr[i]);
    while (fgets(line, sizeof line, list))
        if (sscanf(line, "%u %*s %32s", &index, group) == 2 && index == interface &&
            strcmp(group, wanted) == 0)
            return true;
    return false;
}

bool joined_groups_have(const union socket_address *group, unsigned interface)
{
    bool is_v6 = group->family == AF_INET6;
    FILE *list = fopen(is_v6 ? "/proc/net/igmp6" : "/proc/net/igmp", "re");
    if (!list)
        return true;
    bool found = is_v6 ? find_v6(list, &group->v6.sin6_addr, interface)
                       : find_v4(list, group->v4.sin_addr.s_addr, interface);
    fclose(list);
    return found;
}
