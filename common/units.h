/* SPDX-License-Identifier: MIT */
/* Sizes, durations and percentages as people write them (holdfast.conf.5) and as they read them. */
#ifndef HOLDFAST_COMMON_UNITS_H
#define HOLDFAST_COMMON_UNITS_H

#include <stddef.h>
#include <stdint.h>

/* "4096", "64K", "32M", "2G": factor 1024. Whole numbers only. 0, -EINVAL or -ERANGE. */
int units_parse_size(const char *text, uint64_t *ret_bytes);

/* "50us", "250ms", "2s", "10m", "1h", "7d". A number without a unit is refused, but for 0. */
int units_parse_duration(const char *text, uint64_t *ret_ns);

/* "5%" or "2.5%", 0..100, in parts per million. */
int units_parse_percent(const char *text, uint32_t *ret_ppm);

/* Canonical forms that the parsers read back to the same value. */
void units_print_size(uint64_t bytes, char *buffer, size_t size);
void units_print_duration(uint64_t ns, char *buffer, size_t size);
void units_print_percent(uint32_t ppm, char *buffer, size_t size);

/* For people: "31.4 MiB", "3 h 12 min", "12,345,678". Not meant to be read back. */
void units_human_bytes(uint64_t bytes, char *buffer, size_t size);
void units_human_duration(uint64_t ns, char *buffer, size_t size);
void units_human_count(uint64_t count, char *buffer, size_t size);

#endif
