/* SPDX-License-Identifier: MIT */
/* All sections and keys that a configuration may have, as one table that scanning, reading and
 * printing work from; and each type of value, from text and to text. */
#ifndef HOLDFAST_SUPERVISOR_CONFIG_CONFIG_KEYS_H
#define HOLDFAST_SUPERVISOR_CONFIG_CONFIG_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum config_section {
    SECTION_ROOT,
    SECTION_CONTROL,
    SECTION_RESTART,
    SECTION_CHANNEL,
    SECTION_RELAY,
    SECTION_DECIMATE,
    SECTION_RECORD,
    SECTION_COUNT
};

enum config_type {
    TYPE_TEXT,
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
    TYPE_CPUS, /* the only list */
};

/* One key and the struct member it fills. */
struct config_key {
    const char *name;
    enum config_type type;
    size_t offset; /* in the struct of its section: settings, channel_spec or destination_spec */
    size_t size;   /* TYPE_TEXT: room with the closing zero */
    const char *default_text; /* NULL: must be given */
    uint64_t minimum;
    uint64_t maximum;
    bool zero_allowed;          /* 0 means "off" although the minimum is more */
    bool empty_allowed;         /* "" means the same as not given */
    const char *const *choices; /* TYPE_CHOICE: NULL at the end, in the order of the enum */
};

#define CONFIG_KEYS_MAX 16 /* per section */

struct config_section_info {
    const char *name;
    enum config_section parent;
    bool titled;
    const struct config_key *keys;
    size_t key_count;
};

extern const struct config_section_info config_sections[SECTION_COUNT];

const struct config_key *config_find_key(enum config_section section, const char *name);

/* Put the value that `text` says into the struct at base. On -EINVAL, *why says what is wrong and
 * how to mend it. */
#define CONFIG_WHY_SIZE 256
int config_key_parse(const struct config_key *key, const char *text, void *base,
                     char why[CONFIG_WHY_SIZE]);
void config_key_set_default(const struct config_key *key, void *base);
void config_key_print(FILE *to, const struct config_key *key, const void *base);

#endif
