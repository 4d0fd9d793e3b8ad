/* SPDX-License-Identifier: MIT */
/* Text for people: aligned columns, ages, colour, and other people's strings made harmless for a
 * terminal. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_TEXT_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CTL_TEXT_SIZE   64
#define CTL_COLUMNS_MAX 12

enum ctl_colour {
    CTL_PLAIN,
    CTL_BOLD,
    CTL_GREEN,
    CTL_YELLOW,
    CTL_RED,
};

/* What a window that is too small does without, this first. */
enum {
    CTL_WITHOUT_NOTHINGS = 1, /* what is none, or 0 */
    CTL_WITHOUT_OUTLOOK,      /* how long it could do without whom */
    CTL_WITHOUT_NAMES,        /* of its worker, its addresses and its folder */
    CTL_WITHOUT_BLANKS,
};

/* How a report is to look. */
struct ctl_look {
    bool colour;
    bool verbose;     /* explain it, at whatever length */
    unsigned rows;    /* say in so many lines what there is room for; 0 = there is room for all */
    unsigned columns; /* the same; 0 = as wide as it likes */
    unsigned terse;   /* 0 = all of it */
};

/* What it means for somebody who looks at a wall of channels. */
enum ctl_colour ctl_state_colour(const char *state);

/* Print text in a colour (plain unless `on`). Control characters become '?'. */
void ctl_print_text(FILE *to, bool on, enum ctl_colour colour, const char *text);

/* "holdfastctl: ..." on stderr, one line; control characters in it are made harmless. */
void ctl_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One line on stdout, as --json prints it. */
void ctl_print_json(const json_t *result);

/* Members of untrusted JSON: "" or 0 when they are missing or something else. */
const char *ctl_string(const json_t *object, const char *key);
double ctl_number(const json_t *object, const char *key);
uint64_t ctl_count(const json_t *object, const char *key);

/* "12,345,678", "3 h 12 min", "31.4 MiB", "31.4 MiB/s", "19,998/s" from numbers of any kind; never
 * longer than CTL_TEXT_SIZE. */
void ctl_format_count(uint64_t count, char text[CTL_TEXT_SIZE]);
/* The same of what may be more. */
void ctl_format_least(uint64_t count, char text[CTL_TEXT_SIZE]);
void ctl_format_seconds(double seconds, char text[CTL_TEXT_SIZE]);
void ctl_format_bytes(double bytes, char text[CTL_TEXT_SIZE]);
void ctl_format_byte_rate(double per_second, char text[CTL_TEXT_SIZE]);
void ctl_format_rate(double per_second, char text[CTL_TEXT_SIZE]);

/* open_memstream(3), or the end of this program. */
FILE *ctl_open_text(char **text, size_t *size);
size_t ctl_count_lines(const char *text);

struct ctl_column {
    const char *title;
    bool right; /* numbers */
};

struct ctl_cell {
    char *text;
    enum ctl_colour colour;
};

struct ctl_table {
    const struct ctl_column *columns;
    size_t column_count; /* at most CTL_COLUMNS_MAX */
    struct ctl_cell *cells;
    size_t cell_count;
    unsigned hidden; /* a bit for each column that isn't printed */
};

struct ctl_rows {
    size_t first, end;
};

void ctl_table_init(struct ctl_table *table, const struct ctl_column *columns, size_t column_count);
/* Cells come row by row, left to right. */
void ctl_table_add(struct ctl_table *table, enum ctl_colour colour, const char *text);
/* With titles, two spaces between columns, no blank at the end of a line. */
void ctl_table_print(const struct ctl_table *table, FILE *to, const char *indent, bool colour);
/* The same of some rows only; titles come before row 0. All rows decide how wide a column is. */
void ctl_table_print_rows(const struct ctl_table *table, FILE *to, const struct ctl_rows *rows,
                          bool colour);
/* Hide columns, in this order, until it is no wider than this. */
void ctl_table_fit(struct ctl_table *table, size_t width, const int *expendable, size_t count);
void ctl_table_free(struct ctl_table *table);

#endif
