/* SPDX-License-Identifier: MIT */
/* Settings that are not yet known to be right, and where in the file each of their parts stands, so
 * that a rule that is broken can be told with its line. */
#ifndef HOLDFAST_SUPERVISOR_CONFIG_CONFIG_DRAFT_H
#define HOLDFAST_SUPERVISOR_CONFIG_CONFIG_DRAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "supervisor/config/config_keys.h"
#include "supervisor/config/config_text.h"

struct channel_spec;
struct destination_spec;
struct settings;

/* A channel, and where in the file its parts are. */
struct config_channel {
    struct channel_spec *spec;
    const struct config_section_lines *lines;
    const struct config_section_lines *relay_lines;      /* relay_count of them */
    const struct config_section_lines *decimate_lines;   /* decimate_count of them */
    const struct config_section_lines *record_lines;     /* NULL without a record section */
    const struct config_section_lines *publishers_lines; /* NULL without such a section */
};

struct config_draft {
    struct settings *settings;
    struct config_channel *channels; /* settings->channel_count of them */
    const struct config_text *text;
};

bool config_draft_key_is_given(enum config_section section,
                               const struct config_section_lines *lines, const char *key);
/* The line of a key; that of its section when it is not given. */
int config_draft_key_line(enum config_section section, const struct config_section_lines *lines,
                          const char *key);

/* The same of the one section for readers, which may be absent as a whole. */
bool config_draft_read_is_given(const struct config_draft *draft, const char *key);

/* The place of a channel's destination in the file. */
const struct config_section_lines *
config_draft_destination_lines(const struct config_channel *channel, uint32_t index);
int config_draft_destination_key_line(const struct config_channel *channel, uint32_t index,
                                      const char *key);
const char *config_draft_destination_kind(const struct destination_spec *destination);

#endif
