/* SPDX-License-Identifier: MIT */
/* Reads and prints sizes, durations and percentages. Called by the configuration, by status and by
 * holdfastctl. Must never accept a text that it does not understand to its last character: "10 m"
 * or "1.5G" is an error of the one who wrote it, not a guess to be made here. */
#include "common/units.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/monotonic.h"

struct unit {
    const char *suffix;
    uint64_t factor;
};

/* Both tables from large to small: the first unit that divides a value prints it. */
static const struct unit size_units[] = {
    {"G", 1ull << 30},
    {"M", 1ull << 20},
    {"K", 1ull << 10},
    {"", 1},
};

static const struct unit duration_units[] = {
    {"d", 86400 * NS_PER_S},
    {"h", 3600 * NS_PER_S},
    {"m", 60 * NS_PER_S},
    {"s", NS_PER_S},
    {"ms", NS_PER_MS},
    {"us", NS_PER_US},
    {"ns", 1},
};

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* Digits only: strtoull would take signs and leading blanks. Returns what follows the digits, or
 * NULL. */
static const char *parse_digits(const char *text, uint64_t *ret, int *ret_error)
{
    uint64_t value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value)) {
            *ret_error = -ERANGE;
            return NULL;
        }
    }
    *ret = value;
    *ret_error = -EINVAL;
    return at == text ? NULL : at;
}

static int parse_with_unit(const char *text, const struct unit *units, size_t count, uint64_t *ret)
{
    uint64_t number;
    int error;
    const char *suffix = parse_digits(text, &number, &error);
    if (!suffix)
        return error;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(suffix, units[i].suffix) != 0)
            continue;
        uint64_t value;
        if (__builtin_mul_overflow(number, units[i].factor, &value))
            return -ERANGE;
        *ret = value;
        return 0;
    }
    return -EINVAL;
}

static void print_with_unit(uint64_t value, const struct unit *units, char *buffer, size_t size)
{
    if (value == 0) {
        snprintf(buffer, size, "0");
        return;
    }
    while (value % units->factor != 0) /* the last unit's factor is 1 */
        units++;
    snprintf(buffer, size, "%llu%s", (unsigned long long)(value / units->factor), units->suffix);
}

int units_parse_size(const char *text, uint64_t *ret_bytes)
{
    return parse_with_unit(text, size_units, COUNT_OF(size_units), ret_bytes);
}

int units_parse_duration(const char *text, uint64_t *ret_ns)
{
    if (strcmp(text, "0") == 0) {
        *ret_ns = 0;
        return 0;
    }
    return parse_with_unit(text, duration_units, COUNT_OF(duration_units), ret_ns);
}

#define PPM_PER_PERCENT 10000u

int units_parse_percent(const char *text, uint32_t *ret_ppm)
{
    uint64_t whole;
    int error;
    const char *at = parse_digits(text, &whole, &error);
    if (!at)
        return error;
    uint32_t fraction = 0;
    if (*at == '.') {
        uint32_t place = PPM_PER_PERCENT / 10;
        const char *first = ++at;
        for (; *at >= '0' && *at <= '9'; at++, place /= 10) {
            if (place == 0)
                return -EINVAL; /* finer than a part per million */
            fraction += (uint32_t)(*at - '0') * place;
        }
        if (at == first)
            return -EINVAL;
    }
    if (strcmp(at, "%") != 0)
        return -EINVAL;
    if (whole > 100 || (whole == 100 && fraction > 0))
        return -ERANGE;
    *ret_ppm = (uint32_t)whole * PPM_PER_PERCENT + fraction;
    return 0;
}

void units_print_size(uint64_t bytes, char *buffer, size_t size)
{
    print_with_unit(bytes, size_units, buffer, size);
}

void units_print_duration(uint64_t ns, char *buffer, size_t size)
{
    print_with_unit(ns, duration_units, buffer, size);
}

void units_print_percent(uint32_t ppm, char *buffer, size_t size)
{
    uint32_t whole = ppm / PPM_PER_PERCENT;
    uint32_t fraction = ppm % PPM_PER_PERCENT;
    int digits = 4;
    if (fraction == 0) {
        snprintf(buffer, size, "%u%%", whole);
        return;
    }
    for (; fraction % 10 == 0; fraction /= 10)
        digits--;
    snprintf(buffer, size, "%u.%0*u%%", whole, digits, fraction);
}

void units_human_bytes(uint64_t bytes, char *buffer, size_t size)
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(buffer, size, "%llu B", (unsigned long long)bytes);
        return;
    }
    size_t power = 1;
    while (power + 1 < COUNT_OF(names) && bytes >> (10 * (power + 1)) != 0)
        power++;
    /* Tenths, rounded half up, with the whole part taken off first so that nothing overflows. */
    uint64_t unit = 1ull << (10 * power);
    uint64_t tenths = bytes / unit * 10 + (bytes % unit / (unit / 1024) * 10 + 512) / 1024;
    if (tenths >= 10240 && power + 1 < COUNT_OF(names)) {
        tenths = 10; /* 1023.97 KiB is 1.0 MiB, not 1024.0 KiB */
        power++;
    }
    snprintf(buffer, size, "%llu.%llu %s", (unsigned long long)(tenths / 10),
             (unsigned long long)(tenths % 10), names[power]);
}

static void print_pair(const unsigned long long numbers[2], const char *const names[2],
                       char *buffer, size_t size)
{
    if (numbers[1] == 0)
        snprintf(buffer, size, "%llu %s", numbers[0], names[0]);
    else
        snprintf(buffer, size, "%llu %s %llu %s", numbers[0], names[0], numbers[1], names[1]);
}

void units_human_duration(uint64_t ns, char *buffer, size_t size)
{
    unsigned long long seconds = ns / NS_PER_S;
    if (ns < NS_PER_US)
        snprintf(buffer, size, "%llu ns", (unsigned long long)ns);
    else if (ns < NS_PER_MS)
        snprintf(buffer, size, "%llu us", (unsigned long long)(ns / NS_PER_US));
    else if (ns < NS_PER_S)
        snprintf(buffer, size, "%llu ms", (unsigned long long)(ns / NS_PER_MS));
    else if (seconds < 10)
        snprintf(buffer, size, "%llu.%llu s", seconds,
                 (unsigned long long)(ns / (NS_PER_S / 10)) % 10);
    else if (seconds < 60)
        snprintf(buffer, size, "%llu s", seconds);
    else if (seconds < 3600)
        print_pair((unsigned long long[]){seconds / 60, seconds % 60}, (const char *[]){"min", "s"},
                   buffer, size);
    else if (seconds < 86400)
        print_pair((unsigned long long[]){seconds / 3600, seconds / 60 % 60},
                   (const char *[]){"h", "min"}, buffer, size);
    else
        print_pair((unsigned long long[]){seconds / 86400, seconds / 3600 % 24},
                   (const char *[]){"d", "h"}, buffer, size);
}

void units_human_count(uint64_t count, char *buffer, size_t size)
{
    char digits[24];
    char grouped[32];
    size_t length = (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)count);
    size_t at = 0;
    for (size_t i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            grouped[at++] = ',';
        grouped[at++] = digits[i];
    }
    grouped[at] = '\0';
    snprintf(buffer, size, "%s", grouped);
}
