/* SPDX-License-Identifier: MIT */
/* Counts what a scan finds, and tells its visitor. Called by the scan alone. Where a file is being
 * written, what looks like damage may be its end: it is told only when something sound follows. */
#include "common/avro_log_report.h"

uint64_t avro_log_report_next(const struct avro_log_scanning *scan, uint64_t unknown)
{
    if (scan->summary->records == 0 && scan->options->from_seq > 0)
        return scan->options->from_seq;
    return avro_log_summary_next(scan->summary, unknown);
}

void avro_log_report_fault(struct avro_log_scanning *scan, uint64_t offset, const char *what)
{
    struct avro_log_summary *summary = scan->summary;
    if (scan->result != 0)
        return;
    if (summary->faults++ == 0) {
        summary->fault_offset = offset;
        summary->fault_what = what;
    }
    if (scan->visitor->fault)
        scan->result = scan->visitor->fault(scan->visitor->context, offset, what);
}

void avro_log_report_unreadable(struct avro_log_scanning *scan)
{
    if (scan->window.unreadable > 0 && !scan->unreadable_told) {
        scan->unreadable_told = true;
        avro_log_report_fault(scan, scan->window.unreadable_offset, "the disk can't read it here");
    }
}

/* Something sound follows, which is written last: so what was unfinished then is finished now, or
 * is a fault. */
static void report_pending(struct avro_log_scanning *scan)
{
    if (!scan->pending_what)
        return;
    /* Each place once: a file that is made so could keep it for ever. */
    if (scan->resume.at >= scan->gone_back &&
        avro_log_resume_is_possible(&scan->resume, &scan->window, scan->summary->identity.sync)) {
        scan->gone_back = scan->resume.at + 1;
        scan->result = scan->result ? scan->result : AVRO_LOG_REWIND;
        return;
    }
    avro_log_report_fault(scan, scan->pending_offset, scan->pending_what);
    scan->pending_what = NULL;
}

void avro_log_report_end(struct avro_log_scanning *scan, uint64_t offset, const char *what,
                         const struct avro_log_resume *resume)
{
    if (!scan->options->open) {
        avro_log_report_fault(scan, offset, what);
    } else if (!scan->pending_what) {
        scan->pending_offset = offset;
        scan->pending_what = what;
        scan->resume = *resume;
    }
}

void avro_log_report_record(struct avro_log_scanning *scan, const struct avro_log_found *found)
{
    const struct avro_log_visitor *visitor = scan->visitor;
    struct avro_log_summary *summary = scan->summary;
    uint64_t seq = (uint64_t)found->record.seq;

    report_pending(scan);
    if (scan->result != 0)
        return;
    uint64_t next = avro_log_report_next(scan, seq);
    if (seq < next) /* the header has no CRC, the record has */
        avro_log_report_fault(scan, 0,
                              "the header's first number is higher than the first record's");
    if (seq > next) {
        summary->gaps++;
        summary->missing += seq - next;
        if (scan->result == 0 && visitor->gap)
            scan->result = visitor->gap(visitor->context, next, seq);
    }
    if (scan->result != 0)
        return;
    avro_log_summary_count(summary, &found->record);
    if (scan->block.count++ == 0)
        summary->blocks++;
    scan->block.size =
        found->offset + found->length - (scan->block.offset + AVRO_LOG_BLOCK_HEADER_SIZE);
    scan->expected_seq = seq + 1;
    scan->exact = true;
    if (visitor->record)
        scan->result = visitor->record(visitor->context, found);
}
