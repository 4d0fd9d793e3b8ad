/* SPDX-License-Identifier: MIT */
/* Segments of which the disk has refused a part, as the shared page notes them: the kernel says it
 * once, to one process, and their records are nowhere but in memory until the archive has copied
 * them to another file. Noted by a worker before anything else follows from the refusal, by the
 * supervisor for what the archive was refused while there was no worker; forgotten by the
 * supervisor. */
#ifndef HOLDFAST_COMMON_CHANNEL_PAGE_REFUSED_H
#define HOLDFAST_COMMON_CHANNEL_PAGE_REFUSED_H

#include <stdbool.h>
#include <stdint.h>

#include "common/channel_page.h"

void channel_page_note_refused(struct channel_page *page, uint64_t segment_id);
/* Also of one that may be among those that there was no room for. */
bool channel_page_was_refused(const struct channel_page *page, uint64_t segment_id);
/* As long as there is one, nothing that was written later may be said to be durable. */
bool channel_page_any_refused(const struct channel_page *page);

/* It is another file by now. */
void channel_page_forget_refused(struct channel_page *page, uint64_t segment_id);
/* No copy is due any more, but of those for which `stays` says so. */
void channel_page_settle_refused(struct channel_page *page,
                                 bool (*stays)(void *data, uint64_t segment_id), void *data);

#endif
