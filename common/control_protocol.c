/* SPDX-License-Identifier: MIT */
/* The control protocol's framing and shapes. Called by the supervisor with whatever a client sends
 * and by holdfastctl with whatever answers: no input may make it read outside its bounds, recurse
 * without limit or keep more than one line of the limit's length. */
#include "common/control_protocol.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct control_verb_info control_verb_infos[VERB_COUNT] = {
#define VERB(identifier, name, arguments, effect, visibility, help)                                \
    {name, arguments, effect, visibility, help},
#include "common/verbs.def"
#undef VERB
};

enum control_verb_id control_verb_find(const char *name)
{
    for (int verb = 0; verb < VERB_COUNT; verb++)
        if (strcmp(control_verb_infos[verb].name, name) == 0)
            return (enum control_verb_id)verb;
    return VERB_COUNT;
}

void control_verb_list(bool offline, char *buffer, size_t size)
{
    size_t used = 0;
    buffer[0] = '\0';
    for (int verb = 0; verb < VERB_COUNT; verb++) {
        const struct control_verb_info *info = &control_verb_infos[verb];
        if (info->visibility == HIDDEN || (info->effect == OFFLINE && !offline))
            continue;
        int n = snprintf(buffer + used, size - used, "%s%s", used ? ", " : "", info->name);
        if (n < 0 || (size_t)n >= size - used)
            return;
        used += (size_t)n;
    }
}

/* ---- lines ---- */

#define LINES_FIRST_SIZE 4096

void control_lines_init(struct control_lines *lines, size_t limit)
{
    *lines = (struct control_lines){.limit = limit};
}

void control_lines_free(struct control_lines *lines)
{
    free(lines->bytes);
    control_lines_init(lines, lines->limit);
}

int control_lines_room(struct control_lines *lines, char **ret_to, size_t *ret_size)
{
    if (lines->start > 0) {
        memmove(lines->bytes, lines->bytes + lines->start, lines->end - lines->start);
        lines->end -= lines->start;
        lines->scanned -= lines->start;
        lines->start = 0;
    }
    if (lines->end > lines->limit && !control_lines_ready(lines))
        return -EMSGSIZE;
    if (lines->end == lines->size) {
        size_t most = lines->limit + 1; /* the newline */
        if (lines->size >= most)
            return -EMSGSIZE; /* full of lines that nobody has taken */
        size_t size = lines->size ? lines->size * 2 : LINES_FIRST_SIZE;
        if (size > most)
            size = most;
        char *bytes = realloc(lines->bytes, size);
        if (!bytes)
            return -ENOMEM;
        lines->bytes = bytes;
        lines->size = size;
    }
    *ret_to = lines->bytes + lines->end;
    *ret_size = lines->size - lines->end;
    return 0;
}

void control_lines_added(struct control_lines *lines, size_t count)
{
    lines->end += count;
}

bool control_lines_ready(struct control_lines *lines)
{
    if (lines->scanned == lines->end)
        return false;
    const char *newline = memchr(lines->bytes + lines->scanned, '\n', lines->end - lines->scanned);
    lines->scanned = newline ? (size_t)(newline - lines->bytes) : lines->end;
    return newline != NULL;
}

bool control_lines_next(struct control_lines *lines, const char **ret_line, size_t *ret_length)
{
    if (!control_lines_ready(lines)) {
        if (lines->start == lines->end)
            control_lines_free(lines);
        return false;
    }
    *ret_line = lines->bytes + lines->start;
    *ret_length = lines->scanned - lines->start;
    lines->start = ++lines->scanned;
    return true;
}

/* ---- requests ---- */

static int request_refuse(char why[CONTROL_WHY_SIZE], const char *text)
{
    snprintf(why, CONTROL_WHY_SIZE, "%s", text);
    return CONTROL_ERROR_REQUEST;
}

int control_request_parse(const char *line, size_t length, struct control_request *ret,
                          char why[CONTROL_WHY_SIZE])
{
    json_error_t error;

    *ret = (struct control_request){0};
    /* jansson itself refuses more than 2048 levels of nesting, bytes that are not UTF-8, and zero
     * bytes. */
    ret->whole = json_loadb(line, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
    if (!ret->whole && json_error_code(&error) == json_error_numeric_overflow) {
        snprintf(why, CONTROL_WHY_SIZE,
                 "a number before byte %d is beyond 64 bits; an \"id\" may be a string instead",
                 error.position);
        return CONTROL_ERROR_REQUEST;
    }
    if (!ret->whole) {
        char text[CONTROL_WHY_SIZE - 32];
        control_quote(error.text, text, sizeof text);
        snprintf(why, CONTROL_WHY_SIZE, "not JSON at byte %d: %s", error.position, text);
        return CONTROL_ERROR_PARSE;
    }
    if (json_is_array(ret->whole))
        return request_refuse(why, "batches are not supported: send one object per line");
    if (!json_is_object(ret->whole))
        return request_refuse(why, "a request is an object");

    const json_t *id = json_object_get(ret->whole, "id");
    /* A fraction would come back as another number. */
    if (id && !json_is_string(id) && !json_is_integer(id) && !json_is_null(id))
        return request_refuse(why, "\"id\" is a string, a whole number or null");
    ret->id = id;
    const char *version = json_string_value(json_object_get(ret->whole, "jsonrpc"));
    if (!version || strcmp(version, "2.0") != 0)
        return request_refuse(why, "\"jsonrpc\" must be \"2.0\"");
    ret->method = json_string_value(json_object_get(ret->whole, "method"));
    if (!ret->method)
        return request_refuse(why, "\"method\" is missing or not a string");
    ret->params = json_object_get(ret->whole, "params");
    if (ret->params && !json_is_object(ret->params) && !json_is_array(ret->params))
        return request_refuse(why, "\"params\" is an object or an array");
    return 0;
}

void control_request_release(struct control_request *request)
{
    json_decref(request->whole);
    *request = (struct control_request){0};
}

/* ---- answers ---- */

static char *print_line(json_t *whole, size_t *ret_length)
{
    char *text =
        whole ? json_dumps(whole, JSON_COMPACT | JSON_REAL_PRECISION(CONTROL_REAL_DIGITS)) : NULL;
    size_t length = text ? strlen(text) : 0;
    char *line = text ? realloc(text, length + 2) : NULL;
    if (line) {
        line[length] = '\n';
        line[length + 1] = '\0';
        *ret_length = length + 1;
    } else {
        free(text);
    }
    json_decref(whole);
    return line;
}

char *control_print_request(int id, const char *method, json_t *params, size_t *ret_length)
{
    json_t *whole = json_pack("{s:s, s:i, s:s}", "jsonrpc", "2.0", "id", id, "method", method);
    if (params)
        json_object_set_new(whole, "params", params);
    return print_line(whole, ret_length);
}

/* The id belongs to the request, which goes on owning it. */
static json_t *answer(const json_t *id)
{
    json_t *whole = json_pack("{s:s}", "jsonrpc", "2.0");
    json_object_set_new(whole, "id", id ? json_deep_copy(id) : json_null());
    return whole;
}

char *control_print_result(const json_t *id, json_t *result, size_t *ret_length)
{
    json_t *whole = answer(id);
    json_object_set_new(whole, "result", result);
    return print_line(whole, ret_length);
}

char *control_print_error(const json_t *id, int code, json_t *message, size_t *ret_length)
{
    json_t *whole = answer(id);
    json_object_set_new(whole, "error", json_pack("{s:i, s:o}", "code", code, "message", message));
    return print_line(whole, ret_length);
}

/* ---- other people's text ---- */

json_t *control_text(const char *text)
{
    json_t *string = json_string(text);
    if (string)
        return string;
    char *plain = strdup(text);
    if (!plain)
        return NULL;
    for (char *c = plain; *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    string = json_string(plain);
    free(plain);
    return string;
}

void control_quote(const char *text, char *buffer, size_t size)
{
    size_t length = 0;
    for (; length < size - 1 && text[length]; length++) {
        unsigned char c = (unsigned char)text[length];
        buffer[length] = c < 0x20 || c >= 0x7f ? '?' : (char)c;
    }
    buffer[length] = '\0';
}
