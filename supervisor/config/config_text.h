/* SPDX-License-Identifier: MIT */
/* A configuration file as a text that libconfuse can read to its end, with the line of every
 * section and key. */
#ifndef HOLDFAST_SUPERVISOR_CONFIG_CONFIG_TEXT_H
#define HOLDFAST_SUPERVISOR_CONFIG_CONFIG_TEXT_H

#include <stddef.h>

#include "supervisor/config/config_errors.h"
#include "supervisor/config/config_keys.h"

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

#endif
