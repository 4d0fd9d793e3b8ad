/* SPDX-License-Identifier: MIT */
/* The list of errors. Each step of loading adds to it and goes on, so that a user sees everything
 * at once. Must never lose an error in silence: without memory for it, the list says so. */
#include "supervisor/config/config_errors.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct config_error_entry {
    int line;
    size_t order;
    char *text;
};

/* Texts may quote the file: whatever is in there, one error stays one line. */
static void make_printable(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

void config_error(struct config_error_list *errors, int line, const char *format, ...)
{
    va_list arguments;
    char *text = NULL;
    struct config_error_entry *grown =
        realloc(errors->entries, (errors->count + 1) * sizeof *errors->entries);
    if (grown)
        errors->entries = grown;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (!grown || length < 0) {
        if (length >= 0)
            free(text);
        errors->out_of_memory = true;
        return;
    }
    make_printable(text);
    errors->entries[errors->count] = (struct config_error_entry){line, errors->count, text};
    errors->count++;
}

static int compare_entries(const void *a, const void *b)
{
    const struct config_error_entry *left = a;
    const struct config_error_entry *right = b;
    if (left->line != right->line)
        return left->line < right->line ? -1 : 1;
    return left->order < right->order ? -1 : 1;
}

int config_error_list_join(struct config_error_list *list, const char *path,
                           struct config_errors *ret)
{
    size_t size = 0;
    FILE *to = open_memstream(&ret->text, &size);
    if (!to)
        return -ENOMEM;
    if (list->count > 0)
        qsort(list->entries, list->count, sizeof *list->entries, compare_entries);
    for (size_t i = 0; i < list->count; i++) {
        if (list->entries[i].line > 0)
            fprintf(to, "%s:%d: %s\n", path, list->entries[i].line, list->entries[i].text);
        else
            fprintf(to, "%s: %s\n", path, list->entries[i].text);
    }
    ret->count = list->count;
    return fclose(to) == 0 ? 0 : -ENOMEM;
}

void config_error_list_free(struct config_error_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->entries[i].text);
    free(list->entries);
}

void config_errors_free(struct config_errors *errors)
{
    free(errors->text);
    *errors = (struct config_errors){0};
}
