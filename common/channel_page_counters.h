/* SPDX-License-Identifier: MIT */
/* What a channel page says of the counters. */
#ifndef HOLDFAST_COMMON_CHANNEL_PAGE_COUNTERS_H
#define HOLDFAST_COMMON_CHANNEL_PAGE_COUNTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/channel_page.h"
#include "common/channel_spec.h"
#include "common/counters.h"

/* The ledger as of now, with destinations that are gone; `recording` comes from the spec.
 * COUNTER_restarts stays 0: the supervisor knows it. Also tells the pending datagrams of the
 * recorder. false when the page can't be read. */
bool channel_page_counters(const struct channel_page *page, const struct channel_spec *spec,
                           const struct channel_geometry *geometry, struct counters *ret,
                           uint64_t *ret_pending);

#endif
