/* SPDX-License-Identifier: MIT */
/* Opens a writer through a gate. */
#ifndef HOLDFAST_COMMON_CLIENT_WRITER_H
#define HOLDFAST_COMMON_CLIENT_WRITER_H

#include <sys/un.h>

#include "common/client/client.h"

/* Waits for its outbox for two seconds at most. 0 or -errno. */
int writer_open(const struct sockaddr_un *address, const char *channel, hf_writer **ret);

#endif
