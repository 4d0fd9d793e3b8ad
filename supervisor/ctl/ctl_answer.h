/* SPDX-License-Identifier: MIT */
/* One line of whoever answers on the control socket, judged before anything of it is believed. */
#ifndef HOLDFAST_SUPERVISOR_CTL_CTL_ANSWER_H
#define HOLDFAST_SUPERVISOR_CTL_CTL_ANSWER_H

#include <jansson.h>
#include <stddef.h>

struct ctl_answer {
    json_t *result;     /* NULL: it is an error; a new reference */
    json_int_t code;    /* of the error, as in control_protocol.h */
    char message[4000]; /* the error's, as much of it as is printed */
};

struct ctl_request {
    int id;
    const char *method;
};

/* Take the line apart. NULL, or what is wrong with it as the answer to this request: it is no JSON,
 * no JSON-RPC 2.0 (https://www.jsonrpc.org/specification), of another request, or its result lacks
 * what every holdfastd puts there. */
const char *ctl_answer_take(const char *line, size_t length, const struct ctl_request *request,
                            struct ctl_answer *ret);

#endif
