/* SPDX-License-Identifier: MIT */
/* Lengths of time as people write them: systemd.time(7)'s units. Called by ctl_time.c and for
 * options that are such a length. A number without a unit must never be taken for anything. */
#include "supervisor/ctl/ctl_span.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/monotonic.h"

#define DAY_S 86400

int ctl_span_refuse(char why[CTL_TIME_WHY_SIZE], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, CTL_TIME_WHY_SIZE, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

const char *ctl_span_skip_blanks(const char *at)
{
    while (*at == ' ' || *at == '\t')
        at++;
    return at;
}

bool ctl_span_take_fraction(const char **at, int64_t unit, int64_t *ret)
{
    int64_t sum = 0;
    if (!isdigit((unsigned char)**at))
        return false;
    for (int64_t part = unit / 10; isdigit((unsigned char)**at); (*at)++, part /= 10)
        sum += part * (**at - '0');
    *ret = sum;
    return true;
}

static const struct unit {
    const char *name;
    int64_t ns;
} units[] = {
    /* clang-format off */
    {"nsec", 1}, {"ns", 1},
    {"usec", 1000}, {"us", 1000}, {"µs", 1000}, {"μs", 1000},
    {"msec", (int64_t)NS_PER_MS}, {"ms", (int64_t)NS_PER_MS},
    {"seconds", (int64_t)NS_PER_S}, {"second", (int64_t)NS_PER_S}, {"sec", (int64_t)NS_PER_S}, {"s", (int64_t)NS_PER_S},
    {"minutes", 60 * (int64_t)NS_PER_S}, {"minute", 60 * (int64_t)NS_PER_S}, {"min", 60 * (int64_t)NS_PER_S},
    {"m", 60 * (int64_t)NS_PER_S},
    {"hours", 3600 * (int64_t)NS_PER_S}, {"hour", 3600 * (int64_t)NS_PER_S}, {"hr", 3600 * (int64_t)NS_PER_S},
    {"h", 3600 * (int64_t)NS_PER_S},
    {"days", DAY_S * (int64_t)NS_PER_S}, {"day", DAY_S * (int64_t)NS_PER_S}, {"d", DAY_S * (int64_t)NS_PER_S},
    {"weeks", 7 * DAY_S * (int64_t)NS_PER_S}, {"week", 7 * DAY_S * (int64_t)NS_PER_S}, {"w", 7 * DAY_S * (int64_t)NS_PER_S},
    /* as systemd has them: 30.44 and 365.25 days */
    {"months", 2629800 * (int64_t)NS_PER_S}, {"month", 2629800 * (int64_t)NS_PER_S}, {"M", 2629800 * (int64_t)NS_PER_S},
    {"years", 31557600 * (int64_t)NS_PER_S}, {"year", 31557600 * (int64_t)NS_PER_S}, {"y", 31557600 * (int64_t)NS_PER_S},
    /* clang-format on */
};

bool ctl_span_is_letter(char c)
{
    return isalpha((unsigned char)c) || (unsigned char)c >= 0x80;
}

static const struct unit *find_unit(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strlen(units[i].name) == length && strncmp(units[i].name, name, length) == 0)
            return &units[i];
    return NULL;
}

/* "90", ".5", "1.25" and a unit. */
static int take_span_part(const char **at, int64_t *ret_ns, char why[CTL_TIME_WHY_SIZE])
{
    int64_t whole = 0, fraction = 0;
    const char *number = *at, *c = *at;
    while (isdigit((unsigned char)*c))
        if (__builtin_mul_overflow(whole, 10, &whole) ||
            __builtin_add_overflow(whole, *c++ - '0', &whole))
            return ctl_span_refuse(why, "the number is too large");
    const char *point = c;
    if (*c == '.')
        for (c++; isdigit((unsigned char)*c);)
            c++;
    if (c == number || (c == number + 1 && *number == '.'))
        return ctl_span_refuse(why, "there is a number missing at '%.20s'; " CTL_TIME_FORMS,
                               number);
    const char *name = ctl_span_skip_blanks(c), *end = name;
    while (ctl_span_is_letter(*end))
        end++;
    if (end == name)
        return ctl_span_refuse(why, "'%.*s' has no unit: write for example %.*ss, %.*smin or %.*sh",
                               (int)(c - number < 20 ? c - number : 20), number,
                               (int)(c - number < 20 ? c - number : 20), number,
                               (int)(c - number < 20 ? c - number : 20), number,
                               (int)(c - number < 20 ? c - number : 20), number);
    const struct unit *unit = find_unit(name, (size_t)(end - name));
    if (!unit)
        return ctl_span_refuse(why,
                               "'%.*s' is no unit: there are us, ms, s, min, h, d, w, month and y",
                               (int)(end - name < 20 ? end - name : 20), name);
    if (*point == '.' && point + 1 < c) {
        point++;
        ctl_span_take_fraction(&point, unit->ns, &fraction);
    }
    if (__builtin_mul_overflow(whole, unit->ns, &whole) ||
        __builtin_add_overflow(whole, fraction, ret_ns))
        return ctl_span_refuse(why, "the time is too long");
    *at = end;
    return 0;
}

int ctl_span_take(const char **at, int64_t *ret_ns, char why[CTL_TIME_WHY_SIZE])
{
    int64_t sum = 0;
    const char *c = ctl_span_skip_blanks(*at);
    do {
        int64_t part = 0;
        int result = take_span_part(&c, &part, why);
        if (result < 0)
            return result;
        if (__builtin_add_overflow(sum, part, &sum))
            return ctl_span_refuse(why, "the time is too long");
        c = ctl_span_skip_blanks(c);
    } while (*c && !ctl_span_is_letter(*c));
    *at = c;
    *ret_ns = sum;
    return 0;
}

int ctl_span_parse(const char *text, int64_t *ret_ns, char why[CTL_TIME_WHY_SIZE])
{
    int result = ctl_span_take(&text, ret_ns, why);
    if (result == 0 && *text)
        return ctl_span_refuse(
            why, "'%.20s' is not understood: write for example 10s, 1min 30s or 2h", text);
    return result;
}
