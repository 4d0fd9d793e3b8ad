/* SPDX-License-Identifier: MIT */
/* What the config_*.c files share; nobody else includes this. The way of a configuration file:
 *
 *   config_text.c   the file -> text without comments, unknown keys and duplicates, and the line of
 * every key config_read.c   that text -> libconfuse -> settings, value by value config_check.c
 * settings -> the rules that need more than one value config_keys.c   the table of all keys that
 * the others work from
 *
 * Each of them adds to one list of errors and goes on, so that a user sees everything at once. */
#ifndef HOLDFAST_SUPERVISOR_CONFIG_CONFIG_PARTS_H
#define HOLDFAST_SUPERVISOR_CONFIG_CONFIG_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "supervisor/config/config.h"

/* ---- config_keys.c ---- */

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

/* ---- config_text.c ---- */

/* One section as it stands in the file. */
struct config_section_lines {
    int line;                       /* where it begins */
    int key_lines[CONFIG_KEYS_MAX]; /* by the key's place in its table; 0 = not given */
    size_t title;                   /* offset and length of its name in the file */
    size_t title_length;
    size_t parent; /* which channel it belongs to, counted from 1 */
};

struct config_text {
    char *text; /* what libconfuse gets: line by line as long as the file */
    /* Of each kind in the order of the file, which is also the order in which libconfuse keeps
     * them. */
    struct config_section_lines *sections[SECTION_COUNT];
    size_t section_counts[SECTION_COUNT];
};

/* Returns 0; -EINVAL when the text breaks the grammar, so that nothing more can be said about it;
 * -ENOMEM. */
int config_text_scan(const char *file, size_t size, struct config_text *ret,
                     struct config_error_list *errors);
void config_text_free(struct config_text *text);

bool config_key_is_given(enum config_section section, const struct config_section_lines *lines,
                         const char *key);
/* The line of a key; that of its section when it is not given. */
int config_key_line(enum config_section section, const struct config_section_lines *lines,
                    const char *key);

/* ---- config_read.c ---- */

/* A channel, and where in the file its parts are. */
struct config_channel {
    struct channel_spec *spec;
    const struct config_section_lines *lines;
    const struct config_section_lines *relay_lines;    /* relay_count of them */
    const struct config_section_lines *decimate_lines; /* decimate_count of them */
    const struct config_section_lines *record_lines;   /* NULL without a record section */
};

struct config_draft {
    struct settings *settings;
    struct config_channel *channels; /* settings->channel_count of them */
    const struct config_text *text;
};

/* Returns 0 also when values are wrong (see errors); -EINVAL when libconfuse refuses the text;
 * -ENOMEM. */
int config_read(const struct config_text *text, struct config_draft *ret,
                struct config_error_list *errors);

/* ---- config_check.c, config_routes.c ---- */

void config_check(const struct config_draft *draft, struct config_error_list *errors);
/* Who listens where, and who feeds whom. */
void config_check_routes(const struct config_draft *draft, struct config_error_list *errors);

/* The place of a channel's destination in the file. */
const struct config_section_lines *config_destination_lines(const struct config_channel *channel,
                                                            uint32_t index);
int config_destination_key_line(const struct config_channel *channel, uint32_t index,
                                const char *key);
const char *config_destination_kind(const struct destination_spec *destination);

#endif
