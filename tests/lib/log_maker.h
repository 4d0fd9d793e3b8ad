/* SPDX-License-Identifier: MIT */
/* Log files for tests, in memory, written in exactly the order that avro_log_format.h demands, with
 * records that prove themselves: everything in a record follows from the maker's seed and its
 * sequence number. */
#ifndef HOLDFAST_TESTS_LIB_LOG_MAKER_H
#define HOLDFAST_TESTS_LIB_LOG_MAKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/avro_log_scan.h"

/* A small generator (splitmix64): the same numbers from the same seed everywhere. */
uint64_t log_maker_random(uint64_t *state);
/* $HOLDFAST_TEST_SEED or this; printed, so that a failure can be repeated. */
uint64_t log_maker_seed(uint64_t otherwise);

struct log_maker {
    uint8_t *bytes; /* size of them, zero where nothing was written: like a preallocated segment */
    size_t size;
    size_t header_size;
    size_t block_start;  /* of the open block's header */
    size_t write_offset; /* where the next record goes */
    uint64_t block_records;
    uint64_t next_seq;
    uint64_t seed;
    size_t payload_max;
    struct avro_log_identity identity;
    int32_t other_flags; /* bits in which the next records are not what follows from the seed */
};

/* Header and an empty open block. */
void log_maker_begin(struct log_maker *maker, size_t size, const char *channel, uint64_t first_seq,
                     uint64_t seed);
/* Before the first record: give it the header that versions wrote before there was a checksum in
 * it. */
void log_maker_age(struct log_maker *maker);
void log_maker_free(struct log_maker *maker);
/* Append record next_seq; false when it doesn't fit any more. */
bool log_maker_append(struct log_maker *maker);
/* Seal the block if it has records, and open the next one. */
void log_maker_seal(struct log_maker *maker);
/* Leave numbers out, as a recorder does that was lapped. */
void log_maker_skip(struct log_maker *maker, uint64_t count);

/* The record that belongs to this number; payload goes to buffer (payload_max bytes), source is
 * static. */
void log_maker_record(uint64_t seed, size_t payload_max, uint64_t seq, uint8_t *buffer,
                      struct avro_log_record *ret);
/* Is it exactly that record? */
bool log_maker_is_genuine(const struct log_maker *maker, const struct avro_log_record *record);

/* Run a suite with a temporary folder around it, so that a test which fails leaves nothing behind
 * either. Returns the exit status. */
struct Suite;
int log_maker_run(struct Suite *suite);
/* A temporary folder, in memory where the machine has a place for it; ended with
 * log_maker_remove_folder(). */
void log_maker_folder(char ret_path[64]);
void log_maker_remove_folder(const char *path);
/* Write a file below a folder; ends the test on failure. */
void log_maker_write(const char *folder, const char *name, const void *bytes, size_t size);
/* A memfd with these bytes. */
int log_maker_memfd(const void *bytes, size_t size);

#endif
