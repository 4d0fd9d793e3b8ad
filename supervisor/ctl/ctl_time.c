/* SPDX-License-Identifier: MIT */
/* Moments as people write them: systemd.time(7)'s forms that point to one moment. Called for the
 * options that bound what is read. A moment that doesn't exist, or text that isn't all understood,
 * must never pass as another moment. */
#include "supervisor/ctl/ctl_time.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/monotonic.h"
#include "supervisor/ctl/ctl_span.h"

#define YEAR_FIRST 1969 /* its last hours may be 1970 elsewhere */
#define YEAR_LAST  2261 /* the last whole one that nanoseconds in 64 bits can tell */

/* `count` digits, no fewer. */
static bool take_digits(const char **at, int count, int *ret)
{
    int value = 0;
    for (int i = 0; i < count; i++) {
        if (!isdigit((unsigned char)(*at)[i]))
            return false;
        value = value * 10 + ((*at)[i] - '0');
    }
    *at += count;
    *ret = value;
    return true;
}

/* "-1h30m", "+5min", "5min ago", "2h left". */
static int parse_relative(const char *text, int64_t now_ns, int64_t *ret_ns,
                          char why[CTL_TIME_WHY_SIZE])
{
    const char sign = *text == '-' || *text == '+' ? *text++ : '\0';
    int64_t span;
    int result = ctl_span_take(&text, &span, why);
    if (result < 0)
        return result;
    const bool is_ago = strcmp(text, "ago") == 0;
    if (*text && !is_ago && strcmp(text, "left") != 0)
        return ctl_span_refuse(why, "'%.20s' is not understood; " CTL_TIME_FORMS, text);
    if (sign && *text)
        return ctl_span_refuse(why, "a sign and '%s' together are too much: leave one out", text);
    if (!sign && !*text)
        return ctl_span_refuse(
            why, "is it before or after now? Write '-' before it, or 'ago' behind it");
    if (sign == '-' || is_ago ? __builtin_sub_overflow(now_ns, span, ret_ns)
                              : __builtin_add_overflow(now_ns, span, ret_ns))
        return ctl_span_refuse(why, "that is too far away");
    return *ret_ns >= 0 ? 0 : ctl_span_refuse(why, "that is before 1970");
}

/* "@1790000000.5" */
static int parse_epoch(const char *text, int64_t *ret_ns, char why[CTL_TIME_WHY_SIZE])
{
    int64_t seconds = 0, fraction = 0;
    const char *c = text + 1;
    bool any = isdigit((unsigned char)*c);
    for (; isdigit((unsigned char)*c); c++)
        if (__builtin_mul_overflow(seconds, 10, &seconds) ||
            __builtin_add_overflow(seconds, *c - '0', &seconds))
            return ctl_span_refuse(why, "the number is too large");
    if (any && *c == '.') {
        c++;
        any = ctl_span_take_fraction(&c, (int64_t)NS_PER_S, &fraction);
    }
    if (!any || *c)
        return ctl_span_refuse(why, "behind '@' stand seconds since 1970, as in @1790000000 or "
                                    "@1790000000.5");
    if (__builtin_mul_overflow(seconds, (int64_t)NS_PER_S, &seconds) ||
        __builtin_add_overflow(seconds, fraction, ret_ns))
        return ctl_span_refuse(why, "that is too far away");
    return 0;
}

/* ---- dates and times of day ---- */

struct moment {
    struct tm date; /* a date and a time of day */
    int64_t fraction_ns;
    bool is_local;
    long east_s; /* of UTC, if it isn't local */
};

static bool is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_in(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return month == 2 && is_leap(year) ? 29 : days[month - 1];
}

/* "2026-11-21" */
static int take_date(const char **at, struct moment *moment, char why[CTL_TIME_WHY_SIZE])
{
    int year, month, day;
    const char *c = *at;
    if (!take_digits(&c, 4, &year) || *c++ != '-' || !take_digits(&c, 2, &month) || *c++ != '-' ||
        !take_digits(&c, 2, &day))
        return ctl_span_refuse(why, "a date is year-month-day with all its digits, as 2026-11-21");
    if (year < YEAR_FIRST || year > YEAR_LAST)
        return ctl_span_refuse(why, "years go from 1970 to %d", YEAR_LAST);
    if (month < 1 || month > 12)
        return ctl_span_refuse(why, "there is no month %d: a date is year-month-day, as 2026-11-21",
                               month);
    if (day < 1 || day > days_in(year, month))
        return ctl_span_refuse(why, "%d-%02d has %d days, there is no %d", year, month,
                               days_in(year, month), day);
    moment->date.tm_year = year - 1900;
    moment->date.tm_mon = month - 1;
    moment->date.tm_mday = day;
    *at = c;
    return 0;
}

/* "12:00", "12:00:05", "12:00:05.25" */
static int take_time(const char **at, struct moment *moment, char why[CTL_TIME_WHY_SIZE])
{
    int hour, minute, second = 0;
    const char *c = *at;
    if (!take_digits(&c, 2, &hour) || *c++ != ':' || !take_digits(&c, 2, &minute))
        return ctl_span_refuse(why, "a time of day is 14:03 or 14:03:05.25, with all its digits");
    if (*c == ':') {
        c++;
        if (!take_digits(&c, 2, &second))
            return ctl_span_refuse(why, "seconds have two digits, as in 14:03:05");
        if (*c == '.') {
            c++;
            if (!ctl_span_take_fraction(&c, (int64_t)NS_PER_S, &moment->fraction_ns))
                return ctl_span_refuse(why, "there are digits missing behind the point");
        }
    }
    if (hour > 23 || minute > 59 || second > 59)
        return ctl_span_refuse(why,
                               "there is no %02d:%02d:%02d: a day goes from 00:00:00 to 23:59:59",
                               hour, minute, second);
    moment->date.tm_hour = hour;
    moment->date.tm_min = minute;
    moment->date.tm_sec = second;
    *at = c;
    return 0;
}

/* Behind it: nothing, "UTC", "Z", "+02:00", "-0330". */
static int take_zone(const char *at, struct moment *moment, char why[CTL_TIME_WHY_SIZE])
{
    int hours, minutes;
    at = ctl_span_skip_blanks(at);
    moment->is_local = *at == '\0';
    if (moment->is_local || strcasecmp(at, "UTC") == 0 || strcasecmp(at, "Z") == 0)
        return 0;
    const char *c = at + 1;
    if (*at == '+' || *at == '-') {
        bool is_whole = take_digits(&c, 2, &hours);
        if (is_whole && *c == ':')
            c++;
        if (is_whole && take_digits(&c, 2, &minutes) && *c == '\0' && hours < 24 && minutes < 60) {
            moment->east_s = (hours * 60L + minutes) * 60 * (*at == '-' ? -1 : 1);
            return 0;
        }
    }
    return ctl_span_refuse(
        why,
        "'%.20s' behind it is not understood: a time is local, or has UTC, Z or a "
        "distance such as +02:00 behind it",
        at);
}

static bool is_same(const struct tm *a, const struct tm *b)
{
    return a->tm_year == b->tm_year && a->tm_mon == b->tm_mon && a->tm_mday == b->tm_mday &&
           a->tm_hour == b->tm_hour && a->tm_min == b->tm_min && a->tm_sec == b->tm_sec;
}

/* The first moment that the clocks here show so. mktime() makes something of times that no clock
 * ever shows, and chooses one of two where an hour comes twice. */
static bool find_local(const struct tm *date, time_t *ret)
{
    bool found = false;
    for (int is_dst = 0; is_dst < 2; is_dst++) {
        struct tm try = *date, shown;
        try.tm_isdst = is_dst;
        time_t when = mktime(&try);
        if (when == -1 || !localtime_r(&when, &shown) || !is_same(&shown, date))
            continue;
        *ret = !found || when < *ret ? when : *ret;
        found = true;
    }
    return found;
}

static int moment_ns(const struct moment *moment, int64_t *ret_ns, char why[CTL_TIME_WHY_SIZE])
{
    struct tm date = moment->date;
    time_t seconds;
    if (!moment->is_local) {
        seconds = timegm(&date) - moment->east_s;
    } else if (!find_local(&date, &seconds)) {
        return ctl_span_refuse(
            why,
            "there was no %02d:%02d:%02d on %d-%02d-%02d here: the clocks were set "
            "forward; give another time, or UTC",
            date.tm_hour, date.tm_min, date.tm_sec, date.tm_year + 1900, date.tm_mon + 1,
            date.tm_mday);
    }
    if (seconds < 0)
        return ctl_span_refuse(why, "that is before 1970");
    *ret_ns = seconds * (int64_t)NS_PER_S + moment->fraction_ns;
    return 0;
}

/* Midnight of the day that is so many days from today, here or, with a zone behind it, there. */
static void set_day(struct moment *moment, int64_t now_ns, int days)
{
    time_t now = (time_t)(now_ns / (int64_t)NS_PER_S) + moment->east_s;
    struct tm today = {0};
    if (moment->is_local)
        localtime_r(&now, &today);
    else
        gmtime_r(&now, &today);
    /* By the calendar: a day here may have 23 hours. */
    struct tm noon = {.tm_year = today.tm_year,
                      .tm_mon = today.tm_mon,
                      .tm_mday = today.tm_mday + days,
                      .tm_hour = 12};
    timegm(&noon);
    moment->date.tm_year = noon.tm_year;
    moment->date.tm_mon = noon.tm_mon;
    moment->date.tm_mday = noon.tm_mday;
}

/* Some zones set their clocks at midnight: the day begins when it begins. */
static int day_ns(const struct moment *moment, int64_t *ret_ns, char why[CTL_TIME_WHY_SIZE])
{
    struct moment begin = *moment;
    for (int minutes = 0; minutes <= 180; minutes += 15) {
        begin.date.tm_hour = minutes / 60;
        begin.date.tm_min = minutes % 60;
        if (moment_ns(&begin, ret_ns, why) == 0)
            return 0;
    }
    return moment_ns(moment, ret_ns, why);
}

static const struct {
    const char *word;
    int days;
} day_words[] = {{"today", 0}, {"yesterday", -1}, {"tomorrow", 1}};

/* "today", "yesterday 14:03", "tomorrow UTC". False when no such word begins it. */
static bool take_day_word(const char **at, int *ret_days)
{
    for (size_t i = 0; i < sizeof day_words / sizeof *day_words; i++) {
        size_t length = strlen(day_words[i].word);
        if (strncmp(*at, day_words[i].word, length) == 0 && !ctl_span_is_letter((*at)[length])) {
            *at += length;
            *ret_days = day_words[i].days;
            return true;
        }
    }
    return false;
}

static bool is_time_of_day(const char *at)
{
    while (isdigit((unsigned char)*at))
        at++;
    return *at == ':';
}

static int parse_absolute(const char *text, int64_t now_ns, int64_t *ret_ns,
                          char why[CTL_TIME_WHY_SIZE])
{
    struct moment moment = {.is_local = true};
    const char *c = text;
    int days = 0, result = 0;
    const bool has_word = take_day_word(&c, &days);
    const bool has_date = !has_word && !is_time_of_day(c);
    if (has_date)
        result = take_date(&c, &moment, why);
    if (result < 0)
        return result;
    if (has_date && (*c == 'T' || *c == 't') && isdigit((unsigned char)c[1]))
        c++;
    c = ctl_span_skip_blanks(c);
    const bool has_time = isdigit((unsigned char)*c);
    if (has_time)
        result = take_time(&c, &moment, why);
    if (result == 0)
        result = take_zone(c, &moment, why);
    if (result < 0)
        return result;
    if (!has_date)
        set_day(&moment, now_ns, days);
    return has_time ? moment_ns(&moment, ret_ns, why) : day_ns(&moment, ret_ns, why);
}

/* Does a number stand here that a letter follows, as in "5min ago"? */
static bool is_span(const char *text)
{
    while (isdigit((unsigned char)*text) || *text == '.')
        text++;
    text = ctl_span_skip_blanks(text);
    return ctl_span_is_letter(*text) && *text != 'T';
}

int ctl_time_parse(const char *text, int64_t now_ns, int64_t *ret_ns, char why[CTL_TIME_WHY_SIZE])
{
    int days;
    text = ctl_span_skip_blanks(text);
    const char *word = text;
    if (*text == '\0')
        return ctl_span_refuse(why, "no time is given; " CTL_TIME_FORMS);
    if (strcmp(text, "now") == 0) {
        *ret_ns = now_ns;
        return 0;
    }
    if (*text == '@')
        return parse_epoch(text, ret_ns, why);
    if (*text == '-' || *text == '+' || (isdigit((unsigned char)*text) && is_span(text)))
        return parse_relative(text, now_ns, ret_ns, why);
    if (isdigit((unsigned char)*text) || take_day_word(&word, &days))
        return parse_absolute(text, now_ns, ret_ns, why);
    return ctl_span_refuse(why, "it is no time; " CTL_TIME_FORMS);
}

/* ---- the way back ---- */

static int64_t floor_seconds(int64_t time_ns, int64_t *ret_rest)
{
    int64_t seconds = time_ns / (int64_t)NS_PER_S, rest = time_ns % (int64_t)NS_PER_S;
    if (rest < 0) {
        seconds--;
        rest += (int64_t)NS_PER_S;
    }
    *ret_rest = rest;
    return seconds;
}

void ctl_time_print_local(int64_t time_ns, char ret_text[CTL_TIME_TEXT_SIZE])
{
    int64_t rest;
    time_t seconds = (time_t)floor_seconds(time_ns, &rest);
    struct tm date = {0};
    localtime_r(&seconds, &date);
    size_t at = strftime(ret_text, CTL_TIME_TEXT_SIZE, "%Y-%m-%d %H:%M:%S", &date);
    snprintf(ret_text + at, CTL_TIME_TEXT_SIZE - at, ".%06d", (int)(rest / 1000));
}

void ctl_time_print_local_whole(int64_t time_ns, char ret_text[CTL_TIME_TEXT_SIZE])
{
    int64_t rest;
    time_t seconds = (time_t)floor_seconds(time_ns, &rest);
    struct tm date = {0};
    localtime_r(&seconds, &date);
    size_t at = strftime(ret_text, CTL_TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &date);
    const long minutes = date.tm_gmtoff / 60, whole = minutes < 0 ? -minutes : minutes;
    snprintf(ret_text + at, CTL_TIME_TEXT_SIZE - at, ".%09d%c%02d:%02d", (int)rest,
             minutes < 0 ? '-' : '+', (int)(whole / 60 % 100), (int)(whole % 60));
}

void ctl_time_print_utc(int64_t time_ns, char ret_text[CTL_TIME_TEXT_SIZE])
{
    int64_t rest;
    time_t seconds = (time_t)floor_seconds(time_ns, &rest);
    struct tm date = {0};
    gmtime_r(&seconds, &date);
    size_t at = strftime(ret_text, CTL_TIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%S", &date);
    snprintf(ret_text + at, CTL_TIME_TEXT_SIZE - at, ".%09dZ", (int)rest);
}
