/* SPDX-License-Identifier: MIT */
/* What the test tools sent and what they received, as a file that Python reads back
 * (tests/lib/oracle.py). Per datagram, little endian: u32 length, u32 socket index, u64 wall-clock
 * ns, then the payload. */
#ifndef HOLDFAST_TESTS_LIB_DATAGRAM_FILE_H
#define HOLDFAST_TESTS_LIB_DATAGRAM_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Append one datagram. Ends the program when the file can't be written: a tool without its record
 * proves nothing. */
void datagram_file_append(FILE *file, uint32_t socket_index, uint64_t time_ns, const void *payload,
                          size_t length);

/* The payload of datagram `id` of that size: the id in the first 8 bytes, then bytes that follow
 * from the id. A shorter one carries as many of the id's low bytes as it has room for. */
void datagram_fill(uint8_t *payload, size_t size, uint64_t id);

#endif
