/* SPDX-License-Identifier: MIT */
/* Counts what a scan finds. Called by the scan for each sound record, and by whoever seals a file.
 * Must never count a record that wasn't passed on. */
#include "common/avro_log_summary.h"

uint64_t avro_log_summary_next(const struct avro_log_summary *summary, uint64_t unknown)
{
    if (summary->records > 0)
        return summary->last_seq + 1;
    return summary->has_header ? summary->identity.first_seq : unknown;
}

uint64_t avro_log_summary_last(const struct avro_log_summary *summary)
{
    const struct avro_log_identity *identity = &summary->identity;
    bool had_more = summary->faults > 0 && identity->has_totals &&
                    identity->totals.last_seq > summary->last_seq;
    return had_more ? identity->totals.last_seq : summary->last_seq;
}

void avro_log_summary_count(struct avro_log_summary *summary, const struct avro_log_record *record)
{
    uint64_t seq = (uint64_t)record->seq, time_ns = avro_log_record_time_ns(record);
    if (summary->records++ == 0) {
        summary->first_seq = seq;
        summary->first_received_us = record->received_at_us;
        summary->earliest_ns = time_ns;
    }
    if (time_ns < summary->earliest_ns)
        summary->earliest_ns = time_ns;
    if (time_ns > summary->latest_ns)
        summary->latest_ns = time_ns;
    summary->last_seq = seq;
    summary->last_received_us = record->received_at_us;
    summary->payload_bytes += record->payload_length;
    summary->lost_before += record->lost_before > 0 ? (uint64_t)record->lost_before : 0;
    summary->quarantined += (record->flags & AVRO_LOG_QUARANTINED) != 0;
    summary->not_covered += (record->flags & AVRO_LOG_NOT_COVERED) != 0;
    summary->cut += record->cut > 0;
    summary->cut_bytes += record->cut > 0 ? (uint64_t)record->cut : 0;
    summary->records_after_fault += summary->faults > 0;
}

void avro_log_totals_of(const struct avro_log_summary *summary, uint64_t latest_before_ns,
                        struct avro_log_totals *ret)
{
    *ret = (struct avro_log_totals){
        .last_seq = summary->last_seq,
        .records = summary->records,
        .first_time_ns = summary->earliest_ns,
        .last_time_ns = summary->latest_ns,
        .latest_ns = latest_before_ns > summary->latest_ns ? latest_before_ns : summary->latest_ns};
}
