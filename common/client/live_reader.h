/* SPDX-License-Identifier: MIT */
/* A reader of a channel through the gate. */
#ifndef HOLDFAST_COMMON_CLIENT_LIVE_READER_H
#define HOLDFAST_COMMON_CLIENT_LIVE_READER_H

#include <sys/un.h>

#include "common/client/holdfast.h"

/* hf_read(), of a channel with a valid name. */
int live_reader_open(const struct sockaddr_un *address, const char *channel,
                     const struct hf_start *start, unsigned mode, hf_reader **ret);

#endif
