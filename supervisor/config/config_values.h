/* SPDX-License-Identifier: MIT */
/* The value of a key, from text and to text, by its type. */
#ifndef HOLDFAST_SUPERVISOR_CONFIG_CONFIG_VALUES_H
#define HOLDFAST_SUPERVISOR_CONFIG_CONFIG_VALUES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "supervisor/config/config_errors.h"

enum config_type {
    TYPE_TEXT,
    TYPE_FOLDER, /* a path, kept without slashes at its end */
    TYPE_FILE,   /* a path without a slash at its end */
    TYPE_INTERFACE,
    TYPE_MODE,
    TYPE_SIZE,
    TYPE_DURATION,    /* kept in ns */
    TYPE_DURATION_US, /* kept in us */
    TYPE_PERCENT,     /* kept in parts per million */
    TYPE_NUMBER,      /* uint32_t */
    TYPE_NUMBER64,
    TYPE_FLAG,
    TYPE_CHOICE,
    TYPE_ADDRESS,
    TYPE_HOST,
    TYPE_LISTEN, /* of a channel_spec: an address, or local:NAME */
    TYPE_GROUP,  /* uint32_t: its number; UINT32_MAX for "" */
    TYPE_CPUS,   /* the only list */
    TYPE_COUNT
};

/* One key and the struct member it fills. */
struct config_key {
    const char *name;
    enum config_type type;
    size_t offset; /* in the struct of its section: settings, channel_spec or destination_spec */
    size_t size;   /* TYPE_TEXT, FOLDER and FILE: room with the closing zero */
    const char *default_text; /* NULL: must be given */
    uint64_t minimum;
    uint64_t maximum;
    bool zero_allowed;          /* 0 means "off" although the minimum is more */
    bool empty_allowed;         /* "" means the same as not given */
    bool needs_socket;          /* of a channel: means nothing where programs write into it */
    const char *const *choices; /* TYPE_CHOICE: NULL at the end, in the order of the enum */
};

/* Put the value that `text` says into the struct at base. On -EINVAL, *why says what is wrong and
 * how to mend it. */
int config_value_parse(const struct config_key *key, const char *text, void *base,
                       char why[CONFIG_WHY_SIZE]);
void config_value_set_default(const struct config_key *key, void *base);
void config_value_print(FILE *to, const struct config_key *key, const void *base);

#endif
