/* SPDX-License-Identifier: MIT */
/* All sections and keys that a configuration may have, as one table that scanning, reading and
 * printing work from. */
#ifndef HOLDFAST_SUPERVISOR_CONFIG_CONFIG_KEYS_H
#define HOLDFAST_SUPERVISOR_CONFIG_CONFIG_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "supervisor/config/config_values.h"

enum config_section {
    SECTION_ROOT,
    SECTION_CONTROL,
    SECTION_READ,
    SECTION_RESTART,
    SECTION_CHANNEL,
    SECTION_RELAY,
    SECTION_DECIMATE,
    SECTION_RECORD,
    SECTION_PUBLISHERS,
    SECTION_COUNT
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

#endif
