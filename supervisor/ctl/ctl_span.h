/* SPDX-License-Identifier: MIT */
/* Lengths of time as people write them, as in systemd.time(7): "1h 30min", "2.5s". */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_SPAN_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_SPAN_H

#include <stdbool.h>
#include <stdint.h>

#define CTL_TIME_WHY_SIZE 200
#define CTL_TIME_FORMS                                                                             \
    "write for example '2026-11-21 14:03:00', '14:03', 'yesterday', '-15min' or '2026-11-21 "      \
    "14:03 UTC'"

/* "1h30m", "2.5s", "90 s": 0, or -EINVAL with what is wrong with it. */
int ctl_span_parse(const char *text, int64_t *ret_ns, char why[CTL_TIME_WHY_SIZE]);

/* ---- for what has spans in it ---- */

/* The same up to the text's end, or to a word that no number precedes. */
int ctl_span_take(const char **at, int64_t *ret_ns, char why[CTL_TIME_WHY_SIZE]);
/* The digits behind a point, as parts of `unit`; those that are too fine fall away. */
bool ctl_span_take_fraction(const char **at, int64_t unit, int64_t *ret);
const char *ctl_span_skip_blanks(const char *at);
/* A letter, or a byte of one beyond ASCII. */
bool ctl_span_is_letter(char c);
/* Sets why; returns -EINVAL. */
int ctl_span_refuse(char why[CTL_TIME_WHY_SIZE], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
