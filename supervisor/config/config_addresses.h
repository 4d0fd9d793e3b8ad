/* SPDX-License-Identifier: MIT */
/* Addresses as a configuration writes them, and what is wrong with those that are none. */
#ifndef HOLDFAST_SUPERVISOR_CONFIG_CONFIG_ADDRESSES_H
#define HOLDFAST_SUPERVISOR_CONFIG_CONFIG_ADDRESSES_H

#include "supervisor/config/config_errors.h"

struct channel_spec;
union socket_address;

/* With a port. 0, or -EINVAL with *why saying what is wrong and how to mend it, and the rest as it
 * was; so do the others. An interface after % is for config_read.c, which knows where it belongs.
 */
int config_address_parse(const char *text, union socket_address *to, char why[CONFIG_WHY_SIZE]);
/* Without one; "" is none at all. */
int config_address_parse_host(const char *text, union socket_address *to,
                              char why[CONFIG_WHY_SIZE]);
/* What a channel listens on: an address with a port, or local:NAME. */
int config_address_parse_listen(const char *text, struct channel_spec *to,
                                char why[CONFIG_WHY_SIZE]);

#endif
