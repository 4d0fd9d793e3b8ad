/* SPDX-License-Identifier: MIT */
#ifndef HOLDFAST_COMMON_CLIENT_READER_ANEW_H
#define HOLDFAST_COMMON_CLIENT_READER_ANEW_H

struct live_reader;

/* Before anything else is read: have numbers been given again that this reader has passed? MORE:
 * that is known (reader->begins_anew); HF_NONE; or -errno. */
int reader_anew_look(struct live_reader *reader);

#endif
