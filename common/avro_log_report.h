/* SPDX-License-Identifier: MIT */
/* A scan under way: avro_log_scan.c walks, and here it tells what it found. */
#ifndef HOLDFAST_COMMON_AVRO_LOG_REPORT_H
#define HOLDFAST_COMMON_AVRO_LOG_REPORT_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/avro_log_guess.h"
#include "common/avro_log_resume.h"
#include "common/avro_log_summary.h"
#include "common/avro_log_visitor.h"
#include "common/avro_log_window.h"

/* The scan ends only to begin again at `resume`. No visitor returns it. */
#define AVRO_LOG_REWIND INT_MIN

struct avro_log_scanning {
    const struct avro_log_scan_options *options;
    const struct avro_log_visitor *visitor;
    struct avro_log_summary *summary;
    struct avro_log_window window;
    struct avro_log_waste waste;
    struct avro_log_waste order_waste;   /* of looking ahead */
    struct avro_log_waste beyond_waste;  /* of looking behind damage */
    struct avro_log_effort before_block; /* all three, as they were where this block begins */
    bool unreadable_told;
    struct avro_log_block block; /* the one being walked */
    uint64_t expected_seq; /* the next record's number, if `exact`; else the smallest it may have */
    bool exact;
    /* In an open file: a fault only if something sound follows, else it is the unfinished end.
     * Where it is, the scan goes on if it was only not written yet when it was read. */
    const char *pending_what;
    uint64_t pending_offset;
    struct avro_log_resume resume;
    bool is_live;       /* it is being written */
    uint64_t gone_back; /* places before this one were gone back to */
    bool ended;         /* seq_end was reached */
    int result;         /* anything but 0 ends the scan */
};

/* avro_log_summary_next() of what was scanned, also before from_block. */
uint64_t avro_log_report_next(const struct avro_log_scanning *scan, uint64_t unknown);
void avro_log_report_fault(struct avro_log_scanning *scan, uint64_t offset, const char *what);
/* A fault, unless it is where an open file ends. */
void avro_log_report_end(struct avro_log_scanning *scan, uint64_t offset, const char *what,
                         const struct avro_log_resume *resume);
/* Pages that were passed over: told where the scan has come to them. */
void avro_log_report_unreadable(struct avro_log_scanning *scan);
/* The next sound record of the block that is walked. */
void avro_log_report_record(struct avro_log_scanning *scan, const struct avro_log_found *found);

#endif
