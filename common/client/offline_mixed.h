/* SPDX-License-Identifier: MIT */
/* Are the files that a program named, channel by channel, of one recording each? */
#ifndef HOLDFAST_COMMON_CLIENT_OFFLINE_MIXED_H
#define HOLDFAST_COMMON_CLIENT_OFFLINE_MIXED_H

#include "common/client/offline_files.h"

/* Says it in each channel's `mixed`. Called once, when they are in their order
 * and twins are there. 0 or -ENOMEM. */
int offline_mixed_look(struct offline_set *set);

#endif
