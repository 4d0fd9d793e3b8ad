/* SPDX-License-Identifier: MIT */
/* How datagrams are printed: cat's formats, of which export has csv and json, too. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_OUTPUT_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_OUTPUT_H

#include <stdbool.h>
#include <stdio.h>

#include "common/client/holdfast.h"

enum ctl_output_format {
    CTL_OUTPUT_SHORT,
    CTL_OUTPUT_JSON,
    CTL_OUTPUT_CSV,
    CTL_OUTPUT_HEX,
    CTL_OUTPUT_RAW,
};

struct ctl_output {
    FILE *to;
    enum ctl_output_format format;
    bool for_eyes;     /* a terminal: lines end where it ends */
    bool with_channel; /* short, hex: there are several */
};

/* "json" ...; false when there is none of that name. */
bool ctl_output_find(const char *name, enum ctl_output_format *ret);

/* What comes before the first one. */
void ctl_output_begin(const struct ctl_output *output);
/* False: memory is short. Whether it could be written, ferror(3) tells. */
bool ctl_output_put(const struct ctl_output *output, const char *channel,
                    const struct hf_datagram *datagram);

#endif
