/* SPDX-License-Identifier: MIT */
/* holdfastctl's end of the control socket: one connection, requests one after the other, never
 * waiting beyond a deadline. Errors are printed here; what is returned is an exit status. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_CLIENT_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_CLIENT_H

#include <jansson.h>

#include "common/control_protocol.h"
#include "common/monotonic.h"
#include "supervisor/ctl/ctl.h"

struct ctl_client {
    const struct ctl_options *options;
    int fd;
    int last_id;
    bool lost; /* the connection ended before an answer */
    monotonic deadline;
    struct control_lines lines;
};

/* A connection to the control socket at this path. Or -errno: -ENAMETOOLONG when no path is so
 * long, -EAGAIN when holdfastd has more clients waiting than it can take. Never waits, prints
 * nothing. */
int ctl_connect(const char *path);

/* Accepted by ctl_client_close() in every case. */
int ctl_client_open(struct ctl_client *client, const struct ctl_options *options);
void ctl_client_close(struct ctl_client *client);

/* Begin the deadline anew. */
void ctl_client_rearm(struct ctl_client *client);

/* Ask. params are taken over, NULL for none. CTL_OK and *ret_result (a new reference), or an error
 * was printed. */
int ctl_client_call(struct ctl_client *client, const char *method, json_t *params,
                    json_t **ret_result);

/* As ctl_client_call(), but nothing is printed when the connection ends without an answer:
 * client->lost. */
int ctl_client_try(struct ctl_client *client, const char *method, json_t *params,
                   json_t **ret_result);

/* Ask what changes nothing, about a channel, or all for NULL. When the connection ends without an
 * answer, as at an upgrade, it is asked once more. */
int ctl_client_look(struct ctl_client *client, const char *method, const char *channel,
                    json_t **ret_result);

/* Ask for the status of a channel, or of all for NULL, as somebody who follows it: an end of the
 * connection is no error while another holdfastd answers at the same path before the deadline, as
 * after an upgrade. tell, if any: the connection has ended, and it is tried again. */
int ctl_client_follow(struct ctl_client *client, const char *channel, void (*tell)(void),
                      json_t **ret_status);

/* Wait until the supervisor closes the connection. CTL_OK, or CTL_NO at the deadline (nothing is
 * printed). */
int ctl_client_wait_end(struct ctl_client *client);

/* {"channel": name}, or NULL for NULL. */
json_t *ctl_channel_params(const char *channel);

/* Connect, look, close. */
int ctl_ask(const struct ctl_options *options, const char *method, const char *channel,
            json_t **ret_result);

#endif
