/* SPDX-License-Identifier: MIT */
/* Where a reader that has a name goes on: one small text file for each,
 * <log_dir>/.positions/CHANNEL/NAME. The archive writes it, the gate reads it.
 *
 *   seq 4711                         everything before it is done with
 *   uid 1000                         whose it is
 *   saved 1795780000123456789        when, wall clock, in nanoseconds since 1970
 *   check 8453d580                   CRC-32C of the lines before it
 *
 * These lines, in this order, and nothing else. */
#ifndef HOLDFAST_COMMON_POSITION_FILE_H
#define HOLDFAST_COMMON_POSITION_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POSITION_FOLDER        ".positions" /* in log_dir; no channel can be called so */
#define POSITION_FILE_SIZE_MAX 128          /* with a closing zero */
/* What a file is called until it is complete. No position can be called so. */
#define POSITION_TEMPORARY ".new"

struct position_file {
    uint64_t seq;
    int64_t saved_ns;
    uint32_t uid;
};

/* A position's name: by the rules of a channel's, but shorter than READ_POSITION_SIZE. Looks at no
 * more bytes than that. */
bool position_name_is_valid(const char *name);

/* The whole file's text; its length. */
size_t position_file_print(const struct position_file *position, char text[POSITION_FILE_SIZE_MAX]);

/* 0, or -EBADMSG: it is none, or damaged. The text need not be terminated. */
int position_file_parse(const char *text, size_t length, struct position_file *ret);

/* The one of this name, of the folder that lies open; may wait for a disk. 0, -ENOENT, -EBADMSG;
 * -EINVAL: it is no file; or another -errno. */
int position_file_read(int folder, const char *name, struct position_file *ret);

#endif
