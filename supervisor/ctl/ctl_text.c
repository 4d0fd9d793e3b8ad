/* SPDX-License-Identifier: MIT */
/* How holdfastctl's output looks. Called by the verbs that print for people. What comes from the
 * supervisor may quote a worker's last words: nothing of it reaches the terminal as a control
 * character. */
#include "supervisor/ctl/ctl_text.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/control_protocol.h"
#include "common/units.h"
#include "supervisor/ctl/ctl_wrap.h"

enum ctl_colour ctl_state_colour(const char *state)
{
    if (strcmp(state, "RUNNING") == 0)
        return CTL_GREEN;
    if (strcmp(state, "FAILED") == 0 || strcmp(state, "BACKOFF") == 0)
        return CTL_RED;
    return CTL_YELLOW;
}

void ctl_print_text(FILE *to, bool on, enum ctl_colour colour, const char *text)
{
    static const char *const codes[] = {[CTL_PLAIN] = "",
                                        [CTL_BOLD] = "\033[1m",
                                        [CTL_GREEN] = "\033[32m",
                                        [CTL_YELLOW] = "\033[33m",
                                        [CTL_RED] = "\033[31m"};
    bool coloured = on && colour != CTL_PLAIN && text[0] != '\0';
    if (coloured)
        fputs(codes[colour], to);
    for (const char *c = text; *c; c++)
        fputc((unsigned char)*c < 0x20 || *c == 0x7f ? '?' : *c, to);
    if (coloured)
        fputs("\033[0m", to);
}

void ctl_print_json(const json_t *result)
{
    json_dumpf(result, stdout, JSON_COMPACT | JSON_REAL_PRECISION(CONTROL_REAL_DIGITS));
    putchar('\n');
}

const char *ctl_string(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

double ctl_number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

uint64_t ctl_count(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}

/* Any double as an integer, without overflow. */
static uint64_t bounded(double value)
{
    if (!(value > 0))
        return 0;
    return value < 9e18 ? (uint64_t)value : (uint64_t)9e18;
}

void ctl_format_count(uint64_t count, char text[CTL_TEXT_SIZE])
{
    units_human_count(count, text, CTL_TEXT_SIZE);
}

void ctl_format_least(uint64_t count, char text[CTL_TEXT_SIZE])
{
    char number[CTL_TEXT_SIZE - 4];
    units_human_count(count, number, sizeof number);
    snprintf(text, CTL_TEXT_SIZE, "≥%s", number);
}

void ctl_format_seconds(double seconds, char text[CTL_TEXT_SIZE])
{
    units_human_duration(bounded(seconds * 1e9), text, CTL_TEXT_SIZE);
}

void ctl_format_bytes(double bytes, char text[CTL_TEXT_SIZE])
{
    units_human_bytes(bounded(bytes), text, CTL_TEXT_SIZE);
}

void ctl_format_byte_rate(double per_second, char text[CTL_TEXT_SIZE])
{
    units_human_bytes(bounded(per_second), text, CTL_TEXT_SIZE - 2);
    strcat(text, "/s");
}

void ctl_format_rate(double per_second, char text[CTL_TEXT_SIZE])
{
    if (per_second > 0 && per_second < 10) {
        snprintf(text, CTL_TEXT_SIZE, "%.1f/s", per_second);
        return;
    }
    units_human_count(bounded(per_second + 0.5), text, CTL_TEXT_SIZE - 2);
    strcat(text, "/s");
}

/* In lines that fit, where standard error is a terminal. */
static void complain(const char *line)
{
    struct winsize window = {0};
    char *text;
    size_t size;
    FILE *to = ctl_open_text(&text, &size);
    fputs("holdfastctl: ", to);
    ctl_print_text(to, false, CTL_PLAIN, line);
    fclose(to);
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col >= CTL_WRAP_LEAST)
        ctl_wrap_put(stderr, text, text + size, window.ws_col);
    else
        fprintf(stderr, "%s\n", text);
    free(text);
}

void ctl_complain(const char *format, ...)
{
    char line[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    fflush(stdout);
    complain(line);
}

/* ---- tables ---- */

static _Noreturn void give_up(void)
{
    fputs("holdfastctl: memory is short\n", stderr);
    exit(1);
}

FILE *ctl_open_text(char **text, size_t *size)
{
    FILE *stream = open_memstream(text, size);
    if (!stream)
        give_up();
    return stream;
}

size_t ctl_count_lines(const char *text)
{
    size_t lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

void ctl_table_init(struct ctl_table *table, const struct ctl_column *columns, size_t column_count)
{
    *table = (struct ctl_table){.columns = columns, .column_count = column_count};
}

void ctl_table_add(struct ctl_table *table, enum ctl_colour colour, const char *text)
{
    struct ctl_cell *cells = reallocarray(table->cells, table->cell_count + 1, sizeof *cells);
    char *copy = cells ? strdup(text) : NULL;
    if (cells)
        table->cells = cells;
    if (!copy)
        give_up();
    table->cells[table->cell_count++] = (struct ctl_cell){copy, colour};
}

static void print_cell(FILE *to, const struct ctl_column *column, const struct ctl_cell *cell,
                       int width, bool colour)
{
    int padding = width - (int)strlen(cell->text);
    if (column->right)
        fprintf(to, "%*s", padding, "");
    ctl_print_text(to, colour, cell->colour, cell->text);
    if (!column->right)
        fprintf(to, "%*s", padding, "");
}

static bool is_hidden(const struct ctl_table *table, size_t column)
{
    return (table->hidden >> column) & 1;
}

static size_t last_shown(const struct ctl_table *table)
{
    size_t last = table->column_count - 1;
    while (last > 0 && is_hidden(table, last))
        last--;
    return last;
}

static void print_row(const struct ctl_table *table, const struct ctl_cell *row, const int *widths,
                      FILE *to, bool colour)
{
    size_t last = last_shown(table);
    for (size_t i = 0; i < last; i++) {
        if (is_hidden(table, i))
            continue;
        print_cell(to, &table->columns[i], &row[i], widths[i], colour);
        fputs("  ", to);
    }
    int width = table->columns[last].right ? widths[last] : (int)strlen(row[last].text);
    print_cell(to, &table->columns[last], &row[last], width, colour);
    fputc('\n', to);
}

static void measure(const struct ctl_table *table, int ret_widths[CTL_COLUMNS_MAX])
{
    assert(table->column_count > 0 && table->column_count <= CTL_COLUMNS_MAX);
    for (size_t i = 0; i < table->column_count; i++)
        ret_widths[i] = (int)strlen(table->columns[i].title);
    for (size_t i = 0; i < table->cell_count; i++) {
        int width = (int)strlen(table->cells[i].text);
        int *widest = &ret_widths[i % table->column_count];
        *widest = width > *widest ? width : *widest;
    }
}

static size_t whole_width(const struct ctl_table *table)
{
    int widths[CTL_COLUMNS_MAX];
    size_t sum = 0;
    measure(table, widths);
    for (size_t i = 0; i < table->column_count; i++)
        if (!is_hidden(table, i))
            sum += (size_t)widths[i] + (sum ? 2 : 0);
    return sum;
}

void ctl_table_fit(struct ctl_table *table, size_t width, const int *expendable, size_t count)
{
    for (size_t i = 0; i < count && whole_width(table) > width; i++)
        table->hidden |= 1U << expendable[i];
}

static void print_titles(const struct ctl_table *table, const int *widths, FILE *to, bool colour)
{
    struct ctl_cell titles[CTL_COLUMNS_MAX] = {0};
    for (size_t i = 0; i < CTL_COLUMNS_MAX; i++) /* only read */
        titles[i] = (struct ctl_cell){
            i < table->column_count ? (char *)table->columns[i].title : (char *)"", CTL_BOLD};
    print_row(table, titles, widths, to, colour);
}

static void print_part(const struct ctl_table *table, FILE *to, const struct ctl_rows *rows,
                       const char *indent, bool colour)
{
    int widths[CTL_COLUMNS_MAX] = {0};
    size_t count = table->cell_count / table->column_count;
    measure(table, widths);
    if (rows->first == 0 && table->columns[0].title[0]) {
        fputs(indent, to);
        print_titles(table, widths, to, colour);
    }
    for (size_t i = rows->first; i < rows->end && i < count; i++) {
        fputs(indent, to);
        print_row(table, &table->cells[i * table->column_count], widths, to, colour);
    }
}

void ctl_table_print_rows(const struct ctl_table *table, FILE *to, const struct ctl_rows *rows,
                          bool colour)
{
    print_part(table, to, rows, "", colour);
}

void ctl_table_print(const struct ctl_table *table, FILE *to, const char *indent, bool colour)
{
    print_part(table, to, &(struct ctl_rows){0, SIZE_MAX}, indent, colour);
}

void ctl_table_free(struct ctl_table *table)
{
    for (size_t i = 0; i < table->cell_count; i++)
        free(table->cells[i].text);
    free(table->cells);
    *table = (struct ctl_table){0};
}
