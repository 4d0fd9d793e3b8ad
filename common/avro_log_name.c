/* SPDX-License-Identifier: MIT */
/* Makes and takes apart the names of log files. Called by the supervisor, the archive and
 * holdfastctl. Names come from messages and from folders that anybody may have written to: none may
 * be read beyond its end, nor lead out of its channel's folder. */
#include "common/avro_log_name.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/monotonic.h"

#define SEQ_DIGITS 20
#define PREPARED   "-prepared-"

void avro_log_segment_name(const char *channel, uint64_t first_seq, uint64_t created_ns,
                           char ret_name[SEGMENT_NAME_SIZE])
{
    time_t seconds = (time_t)(created_ns / NS_PER_S);
    struct tm utc;
    char when[32];
    gmtime_r(&seconds, &utc);
    strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", &utc);
    snprintf(ret_name, SEGMENT_NAME_SIZE, "%s-%020llu-%s" AVRO_LOG_OPEN_SUFFIX, channel,
             (unsigned long long)first_seq, when);
}

void avro_log_prepared_name(const char *channel, uint64_t unique, char ret_name[SEGMENT_NAME_SIZE])
{
    snprintf(ret_name, SEGMENT_NAME_SIZE, "%s" PREPARED "%016llx" AVRO_LOG_OPEN_SUFFIX, channel,
             (unsigned long long)unique);
}

bool avro_log_name_ends_in(const char *name, const char *suffix)
{
    size_t length = strlen(name), suffix_length = strlen(suffix);
    return length > suffix_length && strcmp(name + length - suffix_length, suffix) == 0;
}

bool avro_log_name_is_of(const char *name, const char *channel)
{
    size_t length = strlen(channel);
    return strncmp(name, channel, length) == 0 && name[length] == '-' && !strchr(name, '/');
}

bool avro_log_name_is_prepared(const char *name, const char *channel)
{
    return strncmp(name + strlen(channel), PREPARED, strlen(PREPARED)) == 0;
}

/* Does "-" and a number of the right length stand here? */
static bool is_number_at(const char *at)
{
    return *at == '-' && strspn(at + 1, "0123456789") == SEQ_DIGITS;
}

/* "20251009T085320Z" */
static bool is_utc(const char *at)
{
    return strspn(at, "0123456789") == 8 && at[8] == 'T' && strspn(at + 9, "0123456789") == 6 &&
           at[15] == 'Z';
}

/* ".avro..." or "-2.avro..."; 0 when neither. */
static unsigned read_number(const char *at)
{
    unsigned number = 1;
    if (at[0] == '-' && at[1] >= '2' && at[1] <= '9') {
        number = (unsigned)(at[1] - '0');
        at += 2;
    }
    return strncmp(at, AVRO_LOG_SUFFIX, strlen(AVRO_LOG_SUFFIX)) == 0 ? number : 0;
}

bool avro_log_name_parse(const char *name, const char *channel, struct avro_log_name *ret)
{
    const char *at = name + strlen(channel);
    if (!is_number_at(at) || at[1 + SEQ_DIGITS] != '-')
        return false;
    errno = 0;
    ret->first_seq = strtoull(at + 1, NULL, 10);
    ret->utc = at + 1 + SEQ_DIGITS + 1;
    ret->number = is_utc(ret->utc) ? read_number(ret->utc + AVRO_LOG_UTC_LENGTH) : 0;
    return errno == 0 && ret->number > 0;
}

void avro_log_name_channel(const char *name, char ret_channel[CHANNEL_NAME_SIZE])
{
    size_t length = strcspn(name, ".");
    for (size_t i = 0; i + 1 + SEQ_DIGITS < length; i++) {
        if (is_number_at(name + i)) {
            length = i;
            break;
        }
    }
    if (length >= CHANNEL_NAME_SIZE)
        length = CHANNEL_NAME_SIZE - 1;
    snprintf(ret_channel, CHANNEL_NAME_SIZE, "%.*s", (int)length, name);
}
