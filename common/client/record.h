/* SPDX-License-Identifier: MIT */
/* A record of the log as a program is given it. For both kinds of readers. */
#ifndef HOLDFAST_COMMON_CLIENT_RECORD_H
#define HOLDFAST_COMMON_CLIENT_RECORD_H

#include "common/avro_log_format.h"
#include "common/channel_spec.h"
#include "common/client/holdfast.h"
#include "common/local_address.h"

/* As much of a datagram's source as can be set: the longest is a publisher's text in sun_path. */
#define RECORD_ADDRESS_SIZE (sizeof(sa_family_t) + LOCAL_ADDRESS_TEXT_SIZE)

/* The last source that was taken apart: as a rule, the next record has the same. Zeros at first. */
struct record_source {
    char text[SOCKET_ADDRESS_TEXT_SIZE];
    size_t length;
    uint8_t address[RECORD_ADDRESS_SIZE]; /* as the datagram has it */
};

/* A datagram's source as a program is given it: zeros behind what its family has. */
void record_set_source(const union socket_address *address, struct sockaddr_storage *ret);

/* Fill in all but lost and why, which become 0. ret->data points where the record's payload does.
 * A source that is no address is one of family AF_UNSPEC. */
void record_to_datagram(const struct avro_log_record *record, struct record_source *source,
                        struct hf_datagram *ret);

#endif
