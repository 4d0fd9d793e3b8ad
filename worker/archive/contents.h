/* SPDX-License-Identifier: MIT */
/* What a file of a channel's folder tells, sealed or not, whatever has become of it. */
#ifndef HOLDFAST_WORKER_ARCHIVE_CONTENTS_H
#define HOLDFAST_WORKER_ARCHIVE_CONTENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/avro_log_header.h"
#include "common/avro_log_scan.h"
#include "worker/archive/folder.h"

/* Its header's length, -EBADMSG when there is none, or -errno. */
long contents_load_header(int folder, const char *name, struct avro_log_identity *ret);

/* Where the numbers of an open file begin: by its header, else its name, else its first sound
 * record; UINT64_MAX if nothing tells. */
uint64_t contents_first_seq(int folder, const struct folder_file *file);

/* Its last sound record's number; 0 if there is none, UINT64_MAX if that can't be read. */
uint64_t contents_last_seq(int folder, const char *name);
/* The largest receive time of its sound records; 0 if there is none or that can't be read. */
uint64_t contents_latest_ns(int folder, const char *name);

/* No sound record is in it, wherever it may lie. False also where that can't be read. */
bool contents_have_no_record(int folder, const char *name);
/* The same of a sealed file, by its length: it ends with its header. 1, 0, or -errno: that can't be
 * told. */
int contents_are_bare(int folder, const char *name);

#endif
