/* SPDX-License-Identifier: MIT */
/* Where in the channel page the destinations of the settings count. */
#ifndef HOLDFAST_WORKER_CHANNEL_DESTINATION_PLACES_H
#define HOLDFAST_WORKER_CHANNEL_DESTINATION_PLACES_H

struct channel_state;

/* At takeover, after the page was checked, while no other thread runs: every destination has its
 * place by its name; those that are new have counted nothing, and are sent nothing that came
 * before. 0, -ENOMEM, or -EBADMSG with *ret_what saying why there is none. */
int destination_places_make(struct channel_state *channel, const char **ret_what);

#endif
