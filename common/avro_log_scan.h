/* SPDX-License-Identifier: MIT */
/* clang-format off */
/* Walks a log file with pread(2) and believes nothing in it: the one reader behind verify, recover
 * and the archive.
 *
 * A record is sound when its lengths lie inside its block, its CRC is right and its sequence number
 * grows: by exactly one inside a block (the recorder seals a block at every gap), by one or more from
 * block to block.
 *
 *   block          is walked
 *   sealed         sync marker at the place that its header promises: count and size are held against
 *                  the records; a damaged record whose length is still known costs that record only,
 *                  and so do records with numbers that are not this block's
 *   open           header all zero or damaged, or the promised place holds no sync marker (a killed
 *                  recorder's successor overwrites the marker of a block whose seal was not committed):
 *                  record by record, up to a sync marker, or to bytes behind which no sound record is
 *                  before the next marker (avro_log_beyond.h)
 *   anything else  the same from there on; then the next sync marker is searched, and the scan goes
 *                  on behind it */
/* clang-format on */
#ifndef HOLDFAST_COMMON_AVRO_LOG_SCAN_H
#define HOLDFAST_COMMON_AVRO_LOG_SCAN_H

#include "common/avro_log_summary.h"
#include "common/avro_log_visitor.h"

/* 0 also when there are faults: they are in *ret. Else -errno of a read, -ENOMEM, or what a visitor
 * returned. The descriptor's file offset is moved. visitor may be NULL. */
int avro_log_scan(int fd, const struct avro_log_scan_options *options,
                  const struct avro_log_visitor *visitor, struct avro_log_summary *ret);

#endif
