/* SPDX-License-Identifier: MIT */
/* Everything that is wrong with a configuration: collected as a list while it is read and checked,
 * handed out as one text in the order of the file. */
#ifndef HOLDFAST_SUPERVISOR_CONFIG_CONFIG_ERRORS_H
#define HOLDFAST_SUPERVISOR_CONFIG_CONFIG_ERRORS_H

#include <stdbool.h>
#include <stddef.h>

/* What is wrong with one value, and how to mend it. */
#define CONFIG_WHY_SIZE 256

/* One message per line, "FILE:LINE: what and how to mend it". */
struct config_errors {
    size_t count;
    char *text; /* NULL when count is 0; freed by config_errors_free() */
};

void config_errors_free(struct config_errors *errors);

/* While a file is being loaded; starts as zero bytes. */
struct config_error_list {
    struct config_error_entry *entries;
    size_t count;
    bool out_of_memory; /* an error is missing: the list must not be taken for complete */
};

/* Line 0: the file as a whole. */
void config_error(struct config_error_list *errors, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The list in the order of the file as one text. 0 or -ENOMEM. */
int config_error_list_join(struct config_error_list *list, const char *path,
                           struct config_errors *ret);
void config_error_list_free(struct config_error_list *list);

#endif
