/* SPDX-License-Identifier: MIT */
/* How wide text is on a terminal, and lines that are no wider than that. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_WRAP_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_WRAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Below it, wrapping makes nothing better. */
#define CTL_WRAP_LEAST 20

/* The bytes of a colour's code, if one begins here; else 0. */
size_t ctl_wrap_code(const char *at);
/* Of a character of several bytes only the first takes room. */
bool ctl_wrap_takes_room(char byte);
/* Bytes from here that take `width` places, or up to the line's end. */
size_t ctl_wrap_bytes(const char *text, const char *end, size_t width);
/* A line, with its end; what does not fit goes below it, under its last column. */
void ctl_wrap_put(FILE *to, const char *line, const char *end, size_t columns);

#endif
