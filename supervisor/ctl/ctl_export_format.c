/* SPDX-License-Identifier: MIT */
/* csv, json, pcapng and avro, written and read again. Called by ctl_export.c. What is read again
 * must not be taken from what was remembered while writing. */
#include "supervisor/ctl/ctl_export_format.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/avro_log_scan.h"
#include "common/channel_spec.h"
#include "common/client/holdfast.h"
#include "common/local_address.h"
#include "supervisor/ctl/ctl_pcapng.h"
#include "supervisor/ctl/ctl_text.h"

static int stream_error(FILE *stream)
{
    if (!ferror(stream))
        return 0;
    return errno ? -errno : -EIO;
}

/* ---- csv and json ---- */

static int begin_text(struct ctl_export *export)
{
    const bool is_csv = strcmp(export->format->name, "csv") == 0;
    export->text =
        (struct ctl_output){.to = export->to, .format = is_csv ? CTL_OUTPUT_CSV : CTL_OUTPUT_JSON};
    ctl_output_begin(&export->text);
    return stream_error(export->to);
}

static int put_text(struct ctl_export *export, const struct ctl_stream *stream)
{
    if (!ctl_output_put(&export->text, stream->source->info.name, &stream->head))
        return -ENOMEM;
    return stream_error(export->to);
}

/* The second field of a line, and as many bytes of payload as it says. */
static bool take_line(const char *line, struct ctl_export_contents *contents)
{
    unsigned long long seq, length;
    const char *payload = strrchr(line, ',');
    const char *field = strchr(line, ',');
    if (!payload || !field || sscanf(field, ",%llu,", &seq) != 1)
        return false;
    /* From the end: payload, two flags, lost_before, cut, length. */
    const char *at = payload;
    for (int commas = 0; commas < 5 && at > line; at--)
        commas += at[-1] == ',';
    if (sscanf(at, ",%llu,", &length) != 1 || strlen(payload) != 2 * length + strlen(",\r\n"))
        return false;
    contents->records++;
    contents->has_last_seq = true;
    contents->last_seq = seq;
    return true;
}

static int read_csv(FILE *from, struct ctl_export_contents *ret)
{
    char *line = NULL;
    size_t size = 0;
    bool is_well = true;
    *ret = (struct ctl_export_contents){0};
    if (getline(&line, &size, from) < 0 || strncmp(line, "channel,seq,", 12) != 0)
        is_well = false;
    while (is_well && getline(&line, &size, from) >= 0)
        is_well = take_line(line, ret);
    free(line);
    return ferror(from) ? stream_error(from) : is_well ? 0 : -EBADMSG;
}

static int read_json(FILE *from, struct ctl_export_contents *ret)
{
    json_error_t error;
    json_t *object;
    *ret = (struct ctl_export_contents){0};
    for (;;) {
        int next = getc(from);
        if (next == EOF)
            return stream_error(from);
        ungetc(next, from);
        object = json_loadf(from, JSON_DISABLE_EOF_CHECK, &error);
        if (!object || !json_is_integer(json_object_get(object, "seq")) || getc(from) != '\n') {
            json_decref(object);
            return ferror(from) ? stream_error(from) : -EBADMSG;
        }
        ret->records++;
        ret->has_last_seq = true;
        ret->last_seq = ctl_count(object, "seq");
        json_decref(object);
    }
}

/* ---- pcapng ---- */

static uint32_t index_of(const struct ctl_export *export, const struct ctl_stream *stream)
{
    return (uint32_t)(stream - export->streams->list);
}

static int begin_pcapng(struct ctl_export *export)
{
    const struct ctl_streams *streams = export->streams;
    export->destinations = calloc(streams->count + 1, sizeof *export->destinations);
    export->dropped = calloc(streams->count + 1, sizeof *export->dropped);
    if (!export->destinations || !export->dropped)
        return -ENOMEM;
    ctl_pcapng_begin(export->to);
    for (size_t i = 0; i < streams->count; i++) {
        const struct hf_channel *channel = &streams->list[i].source->info;
        char scope[IF_NAMESIZE];
        ctl_pcapng_interface(export->to, channel->name);
        if (socket_address_parse_scoped(channel->listen, &export->destinations[i], scope) == 0)
            continue;
        export->destinations[i] = (union socket_address){0};
        if (strncmp(channel->listen, LOCAL_ADDRESS_PREFIX, strlen(LOCAL_ADDRESS_PREFIX)) == 0)
            ctl_complain("%s: programs of this machine published it: packets have 0.0.0.0, port 0, "
                         "at both ends, and a comment that says who",
                         channel->name);
        else
            ctl_complain("%s: its listen address is not known: packets go to 0.0.0.0, port 0",
                         channel->name);
    }
    return stream_error(export->to);
}

static int put_pcapng(struct ctl_export *export, const struct ctl_stream *stream)
{
    const struct hf_datagram *datagram = &stream->head;
    const uint32_t index = index_of(export, stream);
    const struct ctl_pcapng_packet packet = {
        .interface = index,
        .time_ns = datagram->time_ns,
        .source = &datagram->source,
        .destination = &export->destinations[index],
        .payload = datagram->data,
        .length = datagram->length,
        .cut = datagram->cut,
        .dropped = export->dropped[index] + datagram->lost_before,
    };
    ctl_pcapng_packet(export->to, &packet);
    export->dropped[index] = 0;
    return stream_error(export->to);
}

static void lost_pcapng(struct ctl_export *export, const struct ctl_stream *stream)
{
    export->dropped[index_of(export, stream)] += stream->head.lost;
}

static int read_pcapng(FILE *from, struct ctl_export_contents *ret)
{
    struct ctl_pcapng_contents contents;
    int result = ctl_pcapng_read(from, &contents);
    *ret = (struct ctl_export_contents){.records = contents.packets,
                                        .last_time_ns = contents.last_time_ns};
    return result;
}

/* ---- avro ---- */

static int begin_avro(struct ctl_export *export)
{
    return avro_log_writer_init(&export->avro, fileno(export->to));
}

/* A recording's own header isn't at hand; what is known of it goes into the new one. */
static int begin_file(struct ctl_export *export, const struct ctl_stream *stream)
{
    const struct hf_datagram *first = &stream->head;
    struct avro_log_identity identity = {
        .first_seq = first->seq, .created_ns = first->time_ns > 0 ? (uint64_t)first->time_ns : 0};
    snprintf(identity.channel, sizeof identity.channel, "%.*s", (int)sizeof identity.channel - 1,
             stream->source->info.name);
    snprintf(identity.listen, sizeof identity.listen, "%s", stream->source->info.listen);
    export->summary.identity = identity;
    return avro_log_writer_begin(&export->avro, &identity);
}

static int put_avro(struct ctl_export *export, const struct ctl_stream *stream)
{
    static uint8_t bytes[AVRO_LOG_RECORD_MAX];
    const struct hf_datagram *datagram = &stream->head;
    char source[HF_ADDRESS_SIZE];
    int64_t us = datagram->time_ns / 1000, ns = datagram->time_ns % 1000;
    int result = export->avro.begun ? 0 : begin_file(export, stream);
    if (result < 0)
        return result;
    if (datagram->length > CHANNEL_DATAGRAM_MAX)
        return -EMSGSIZE;
    hf_format_source(&datagram->source, source);
    const struct avro_log_record record = {
        .seq = (int64_t)datagram->seq,
        .received_at_us = ns < 0 ? us - 1 : us,
        .received_ns = (int32_t)(ns < 0 ? ns + 1000 : ns),
        .source = source,
        .source_length = strlen(source),
        .lost_before = (int32_t)datagram->lost_before,
        .cut = (int32_t)datagram->cut,
        .flags = (datagram->flags & HF_FLAG_QUARANTINED ? AVRO_LOG_QUARANTINED : 0) |
                 (datagram->flags & HF_FLAG_UNCOVERED ? AVRO_LOG_NOT_COVERED : 0),
        .payload = datagram->data,
        .payload_length = datagram->length,
    };
    uint8_t *end = avro_log_write_record_head(bytes, &record);
    memcpy(end, datagram->data, datagram->length);
    end = avro_log_write_record_crc(bytes, end + datagram->length);
    avro_log_summary_count(&export->summary, &record);
    return avro_log_writer_add(&export->avro, bytes, (size_t)(end - bytes), datagram->seq);
}

static int end_avro(struct ctl_export *export)
{
    struct avro_log_totals totals;
    if (!export->avro.begun)
        return -ENODATA;
    int result = avro_log_writer_end(&export->avro);
    if (result < 0)
        return result;
    avro_log_totals_of(&export->summary, 0, &totals);
    result = avro_log_write_totals(fileno(export->to), &totals);
    return result < 0 ? result : 0;
}

static int read_avro(FILE *from, struct ctl_export_contents *ret)
{
    const struct avro_log_scan_options options = {.seq_end = UINT64_MAX};
    struct avro_log_summary summary;
    int result = avro_log_scan(fileno(from), &options, NULL, &summary);
    const struct avro_log_identity *identity = &summary.identity;
    *ret = (struct ctl_export_contents){
        .records = summary.records, .has_last_seq = true, .last_seq = summary.last_seq};
    if (result < 0)
        return result;
    return summary.faults == 0 && identity->has_totals &&
                   identity->totals.records == summary.records &&
                   identity->totals.last_seq == summary.last_seq
               ? 0
               : -EBADMSG;
}

/* ---- the table ---- */

static const struct ctl_export_format formats[] = {
    {"pcapng", false, false, begin_pcapng, put_pcapng, lost_pcapng, NULL, read_pcapng},
    {"csv", false, false, begin_text, put_text, NULL, NULL, read_csv},
    {"json", false, false, begin_text, put_text, NULL, NULL, read_json},
    {"avro", true, true, begin_avro, put_avro, NULL, end_avro, read_avro},
};

const struct ctl_export_format *ctl_export_format_find(const char *name)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, name) == 0)
            return &formats[i];
    return NULL;
}

void ctl_export_release(struct ctl_export *export)
{
    free(export->destinations);
    free(export->dropped);
    avro_log_writer_free(&export->avro);
}
