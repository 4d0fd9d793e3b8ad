/* SPDX-License-Identifier: MIT */
/* Whether memory that somebody else has left may be continued. */
#ifndef HOLDFAST_COMMON_CHANNEL_PAGE_CHECK_H
#define HOLDFAST_COMMON_CHANNEL_PAGE_CHECK_H

#include "common/channel_page.h"

/* May this memory be continued? Checks identity, geometry and every position against each other,
 * and the descriptors of all pending datagrams. 0, or -EBADMSG with *ret_what saying what is wrong.
 * Reads only inside `geometry`. */
int channel_page_check(const struct channel_page *page, const struct ring_descriptor *descriptors,
                       const struct channel_geometry *geometry, const char *channel,
                       const char **ret_what);

/* Why it is not this channel's memory at all, of this layout and version; NULL: it is, and what a
 * check word vouches for may be believed. */
const char *channel_page_stranger(const struct channel_page *page,
                                  const struct channel_geometry *geometry, const char *channel);

#endif
