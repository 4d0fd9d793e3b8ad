/* SPDX-License-Identifier: MIT */
/* Prints datagrams, one after the other. Called by cat, and by export for csv and json. What a
 * program reads must hold every byte of a payload, whatever it is; what people read must be safe to
 * look at. */
#include "supervisor/ctl/ctl_output.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/control_protocol.h"
#include "supervisor/ctl/ctl_payload.h"
#include "supervisor/ctl/ctl_text.h"
#include "supervisor/ctl/ctl_time.h"

static const char *const names[] = {
    [CTL_OUTPUT_SHORT] = "short", [CTL_OUTPUT_JSON] = "json", [CTL_OUTPUT_CSV] = "csv",
    [CTL_OUTPUT_HEX] = "hex",     [CTL_OUTPUT_RAW] = "raw",
};

bool ctl_output_find(const char *name, enum ctl_output_format *ret)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], name) == 0) {
            *ret = (enum ctl_output_format)i;
            return true;
        }
    }
    return false;
}

void ctl_output_begin(const struct ctl_output *output)
{
    if (output->format == CTL_OUTPUT_CSV)
        fputs("channel,seq,time,time_ns,source,length,cut,lost_before,quarantined,uncovered,"
              "payload_hex\r\n",
              output->to);
}

/* ---- for people ---- */

static int print_head(const struct ctl_output *output, const char *channel,
                      const struct hf_datagram *datagram, char *to, size_t size)
{
    char time[CTL_TIME_TEXT_SIZE], source[HF_ADDRESS_SIZE];
    if (output->for_eyes)
        ctl_time_print_local(datagram->time_ns, time);
    else
        ctl_time_print_local_whole(datagram->time_ns, time);
    hf_format_source(&datagram->source, source);
    int used =
        snprintf(to, size, "%s%s%s #%" PRIu64 " %s %" PRIu32, time, output->with_channel ? " " : "",
                 output->with_channel ? channel : "", datagram->seq, source, datagram->length);
    if (datagram->cut)
        used += snprintf(to + used, size - (size_t)used, " [cut by %" PRIu32 "]", datagram->cut);
    if (datagram->lost_before)
        used += snprintf(to + used, size - (size_t)used, " [%" PRIu32 " dropped before]",
                         datagram->lost_before);
    if (datagram->flags & HF_FLAG_UNCOVERED)
        used += snprintf(to + used, size - (size_t)used, " [not covered before]");
    if (datagram->flags & HF_FLAG_QUARANTINED)
        used += snprintf(to + used, size - (size_t)used, " [quarantined]");
    return used;
}

static size_t columns_of(const struct ctl_output *output)
{
    struct winsize window = {0};
    if (!output->for_eyes || ioctl(fileno(output->to), TIOCGWINSZ, &window) < 0)
        return 0;
    return window.ws_col;
}

static void put_short(const struct ctl_output *output, const char *channel,
                      const struct hf_datagram *datagram)
{
    char head[512];
    const size_t columns = columns_of(output);
    const size_t used = (size_t)print_head(output, channel, datagram, head, sizeof head) + 1;
    ctl_print_text(output->to, false, CTL_PLAIN, head);
    if (datagram->length > 0 && (columns == 0 || used < columns)) {
        const size_t room = columns ? columns - used : 0;
        fputc(' ', output->to);
        if (ctl_payload_is_text(datagram->data, datagram->length))
            ctl_payload_print_text(output->to, datagram->data, datagram->length, room);
        else
            ctl_payload_print_hex(output->to, datagram->data, datagram->length, room);
    }
    fputc('\n', output->to);
}

static void put_hex(const struct ctl_output *output, const char *channel,
                    const struct hf_datagram *datagram)
{
    char head[512];
    print_head(output, channel, datagram, head, sizeof head);
    ctl_print_text(output->to, false, CTL_PLAIN, head);
    fputc('\n', output->to);
    ctl_payload_print_dump(output->to, datagram->data, datagram->length);
}

/* ---- for programs ---- */

/* RFC 4180: in quotes where there is something in it that ends fields or lines. An interface's name
 * may have nearly anything in it. */
static void put_field(FILE *to, const char *text)
{
    const bool is_plain = strpbrk(text, ",\"\r\n") == NULL;
    if (!is_plain)
        fputc('"', to);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', to);
        fputc(*text, to);
    }
    fputs(is_plain ? "," : "\",", to);
}

static void put_csv(const struct ctl_output *output, const char *channel,
                    const struct hf_datagram *datagram)
{
    char time[CTL_TIME_TEXT_SIZE], source[HF_ADDRESS_SIZE];
    ctl_time_print_utc(datagram->time_ns, time);
    hf_format_source(&datagram->source, source);
    put_field(output->to, channel);
    fprintf(output->to, "%" PRIu64 ",%s,%" PRId64 ",", datagram->seq, time, datagram->time_ns);
    put_field(output->to, source);
    fprintf(output->to, "%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%d,%d,", datagram->length,
            datagram->cut, datagram->lost_before, (datagram->flags & HF_FLAG_QUARANTINED) != 0,
            (datagram->flags & HF_FLAG_UNCOVERED) != 0);
    ctl_payload_print_digits(output->to, datagram->data, datagram->length);
    fputs("\r\n", output->to);
}

static json_t *payload_json(const struct hf_datagram *datagram)
{
    char *text = malloc(CTL_BASE64_SIZE((size_t)datagram->length));
    if (!text)
        return NULL;
    size_t length = ctl_payload_base64(datagram->data, datagram->length, text);
    json_t *string = json_stringn_nocheck(text, length);
    free(text);
    return string;
}

static bool put_json(const struct ctl_output *output, const char *channel,
                     const struct hf_datagram *datagram)
{
    char time[CTL_TIME_TEXT_SIZE], source[HF_ADDRESS_SIZE];
    ctl_time_print_utc(datagram->time_ns, time);
    hf_format_source(&datagram->source, source);
    json_t *object =
        json_pack("{s:o,s:I,s:s,s:I,s:o,s:I,s:I,s:I}", "channel", control_text(channel), "seq",
                  (json_int_t)datagram->seq, "time", time, "time_ns", (json_int_t)datagram->time_ns,
                  "source", control_text(source), "length", (json_int_t)datagram->length, "cut",
                  (json_int_t)datagram->cut, "lost_before", (json_int_t)datagram->lost_before);
    if (datagram->flags & HF_FLAG_QUARANTINED)
        json_object_set_new(object, "quarantined", json_true());
    if (datagram->flags & HF_FLAG_UNCOVERED)
        json_object_set_new(object, "uncovered", json_true());
    bool is_whole = json_object_set_new(object, "payload_base64", payload_json(datagram)) == 0;
    if (ctl_payload_is_text(datagram->data, datagram->length))
        is_whole &= json_object_set_new(object, "payload_text",
                                        json_stringn(datagram->data, datagram->length)) == 0;
    if (is_whole) {
        json_dumpf(object, output->to, JSON_COMPACT);
        fputc('\n', output->to);
    }
    json_decref(object);
    return is_whole;
}

bool ctl_output_put(const struct ctl_output *output, const char *channel,
                    const struct hf_datagram *datagram)
{
    switch (output->format) {
    case CTL_OUTPUT_SHORT:
        put_short(output, channel, datagram);
        return true;
    case CTL_OUTPUT_JSON:
        return put_json(output, channel, datagram);
    case CTL_OUTPUT_CSV:
        put_csv(output, channel, datagram);
        return true;
    case CTL_OUTPUT_HEX:
        put_hex(output, channel, datagram);
        return true;
    case CTL_OUTPUT_RAW:
        fwrite(datagram->data, 1, datagram->length, output->to);
        return true;
    }
    return true;
}
