/* SPDX-License-Identifier: MIT */
/* What the supervisor's control socket and its clients agree on: verbs (verbs.def), error codes,
 * limits, and the framing: JSON-RPC 2.0 (https://www.jsonrpc.org/specification), one object per
 * line. holdfastctl.1 describes it for users. */
#ifndef HOLDFAST_COMMON_CONTROL_PROTOCOL_H
#define HOLDFAST_COMMON_CONTROL_PROTOCOL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define CONTROL_SOCKET_DEFAULT  "/run/holdfast/control.sock"
#define CONTROL_SOCKET_VARIABLE "HOLDFAST_SOCKET"
/* Bytes of a line to the supervisor, without its newline */
#define CONTROL_REQUEST_MAX (64u * 1024)
/* Bytes of a line from the supervisor, and that holdfastctl is ready to read */
#define CONTROL_ANSWER_MAX  (32u * 1024 * 1024)
#define CONTROL_WHY_SIZE    160
#define CONTROL_REAL_DIGITS 15 /* a time of day to the microsecond, and no 0.30000000000000004 */

enum control_error {
    CONTROL_ERROR_PARSE = -32700,
    CONTROL_ERROR_REQUEST = -32600,
    CONTROL_ERROR_METHOD = -32601,
    CONTROL_ERROR_PARAMS = -32602,
    CONTROL_ERROR_INTERNAL = -32603,
    CONTROL_ERROR_REFUSED = -32000, /* not possible as things are: the message says why */
    CONTROL_ERROR_BUSY = -32001,    /* too many clients */
};

enum control_verb_arguments {
    NO_ARGUMENT,
    MAYBE_CHANNEL,
    ONE_CHANNEL,
    FILES,
    SOURCES,
    MAYBE_SOURCES,
    CHANNEL_AND_NAME,
    CHANNEL_AND_NAMES,
};

enum control_verb_effect {
    READS,
    CHANGES,
    OFFLINE,
};

enum control_verb_visibility {
    SHOWN,
    HIDDEN,
};

enum control_verb_id {
#define VERB(identifier, name, arguments, effect, visibility, help) VERB_##identifier,
#include "common/verbs.def"
#undef VERB
    VERB_COUNT
};

struct control_verb_info {
    const char *name;
    enum control_verb_arguments arguments;
    enum control_verb_effect effect;
    enum control_verb_visibility visibility;
    const char *help;
};

extern const struct control_verb_info control_verb_infos[VERB_COUNT];

/* By name; VERB_COUNT when there is none. */
enum control_verb_id control_verb_find(const char *name);

/* "ping, status, check, ...": what can be asked of the supervisor, or with `offline` everything
 * holdfastctl does. */
void control_verb_list(bool offline, char *buffer, size_t size);

/* ---- lines out of a byte stream, with a limit ---- */

struct control_lines {
    char *bytes;  /* NULL when empty: a silent client costs nothing */
    size_t size;  /* allocated */
    size_t start; /* first byte that was not handed out */
    size_t end;
    size_t scanned; /* no newline in [start, scanned) */
    size_t limit;   /* longest line, without its newline */
};

void control_lines_init(struct control_lines *lines, size_t limit);
void control_lines_free(struct control_lines *lines);

/* Where to read the next bytes to, and how many at most. 0 or -ENOMEM; -EMSGSIZE when the line that
 * is being received is longer than the limit. Moves the bytes: a line handed out before is gone. */
int control_lines_room(struct control_lines *lines, char **ret_to, size_t *ret_size);
void control_lines_added(struct control_lines *lines, size_t count);

/* Is there a complete line? */
bool control_lines_ready(struct control_lines *lines);

/* The next complete line without its newline, not terminated; false when there is none. */
bool control_lines_next(struct control_lines *lines, const char **ret_line, size_t *ret_length);

/* ---- one line ---- */

struct control_request {
    json_t *whole; /* owns everything below */
    const char *method;
    const json_t *params; /* NULL, an object or an array */
    const json_t *id;     /* NULL for a notification */
};

/* Take one line apart. 0, or a JSON-RPC error code with why; ret->id is then the id to answer with,
 * NULL meaning null. To be released in every case. */
int control_request_parse(const char *line, size_t length, struct control_request *ret,
                          char why[CONTROL_WHY_SIZE]);
void control_request_release(struct control_request *request);

/* Lines to send, newline included; to be freed. NULL when memory is short. References are taken
 * over; an id of NULL is sent as null. */
char *control_print_request(int id, const char *method, json_t *params, size_t *ret_length);
char *control_print_result(const json_t *id, json_t *result, size_t *ret_length);
char *control_print_error(const json_t *id, int code, json_t *message, size_t *ret_length);

/* A JSON string of any bytes: what is not UTF-8 becomes '?'. For texts of peers and shared memory.
 */
json_t *control_text(const char *text);

/* For quoting a peer's text in a log line or an error: at most size - 1 characters, printable ASCII
 * only. */
void control_quote(const char *text, char *buffer, size_t size);

#endif
