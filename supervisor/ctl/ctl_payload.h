/* SPDX-License-Identifier: MIT */
/* A datagram's payload as something that can be looked at or carried by text. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_PAYLOAD_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Valid UTF-8 without zero bytes and without control characters but tab and ends of lines; no
 * characters that turn the direction of writing. */
bool ctl_payload_is_text(const void *payload, size_t length);

/* Print text with its control characters as \t, \n, \r and a backslash as \\; it takes no more than
 * `columns` places (0 = any number), and ends in "…" when it would. */
void ctl_payload_print_text(FILE *to, const void *payload, size_t length, size_t columns);
/* "0x0a0b0c", likewise. */
void ctl_payload_print_hex(FILE *to, const void *payload, size_t length, size_t columns);
/* "0a0b0c" */
void ctl_payload_print_digits(FILE *to, const void *payload, size_t length);
/* As hexdump -C does, but with every line. */
void ctl_payload_print_dump(FILE *to, const void *payload, size_t length);

#define CTL_BASE64_SIZE(length) (((length) + 2) / 3 * 4 + 1)
/* RFC 4648, with padding; with a closing zero. Returns the text's length. */
size_t ctl_payload_base64(const void *payload, size_t length, char *ret_text);

#endif
