/* SPDX-License-Identifier: MIT */
/* Judges answers of the control socket. Called by ctl_client.c with whatever has come: the path may
 * be wrong, and anything may listen there. Members beyond those looked for here are read as
 * untrusted JSON by the verbs (ctl_string and the like). */
#include "supervisor/ctl/ctl_answer.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* What a verb's result has in any case. */
static const struct {
    const char *method;
    const char *member;
    json_type type; /* JSON_TRUE: true or false; JSON_ARRAY: of objects */
    const char *what;
} shapes[] = {
    {"ping", "pid", JSON_INTEGER, "its answer to ping has no pid"},
    {"ping", "version", JSON_STRING, "its answer to ping has no version"},
    {"status", "supervisor", JSON_OBJECT, "its status has no supervisor"},
    {"status", "channels", JSON_ARRAY, "its status has no list of channels"},
    {"check", "healthy", JSON_TRUE, "its answer to check does not say whether it is healthy"},
    {"check", "problems", JSON_ARRAY, "its answer to check has no list of problems"},
    {"crashes", "crashes", JSON_ARRAY, "its answer to crashes has no list of them"},
};

static bool is_list_of_objects(const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!json_is_object(json_array_get(list, i)))
            return false;
    return json_is_array(list);
}

static bool has_type(const json_t *value, json_type type)
{
    if (type == JSON_ARRAY)
        return is_list_of_objects(value);
    return value && (json_typeof(value) == type || (type == JSON_TRUE && json_is_false(value)));
}

static const char *judge_result(const json_t *result, const char *method)
{
    if (!json_is_object(result))
        return "its result is no object";
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        if (strcmp(shapes[i].method, method) == 0 &&
            !has_type(json_object_get(result, shapes[i].member), shapes[i].type))
            return shapes[i].what;
    return NULL;
}

static const char *take_error(const json_t *error, struct ctl_answer *ret)
{
    const json_t *code = json_object_get(error, "code");
    const char *message = json_string_value(json_object_get(error, "message"));
    if (!json_is_integer(code) || !message)
        return "its error has no code or no message";
    ret->code = json_integer_value(code);
    snprintf(ret->message, sizeof ret->message, "%s", message);
    return NULL;
}

/* An error's id is null where the request could not be read, or wasn't at all. */
static bool is_for(const json_t *whole, int id, const json_t *error)
{
    const json_t *its = json_object_get(whole, "id");
    return (json_is_integer(its) && json_integer_value(its) == id) || (json_is_null(its) && error);
}

static const char *judge(const json_t *whole, const struct ctl_request *request,
                         struct ctl_answer *ret)
{
    const char *version = json_string_value(json_object_get(whole, "jsonrpc"));
    json_t *result = json_object_get(whole, "result");
    const json_t *error = json_object_get(whole, "error");
    if (!json_is_object(whole))
        return "its answer is no JSON object";
    if (!version || strcmp(version, "2.0") != 0)
        return "it does not speak JSON-RPC 2.0";
    if (!result == !error)
        return "its answer has neither or both of result and error";
    if (!is_for(whole, request->id, error))
        return "it answers another request than the one that was sent";
    if (error)
        return take_error(error, ret);
    const char *wrong = judge_result(result, request->method);
    if (!wrong)
        ret->result = json_incref(result);
    return wrong;
}

const char *ctl_answer_take(const char *line, size_t length, const struct ctl_request *request,
                            struct ctl_answer *ret)
{
    *ret = (struct ctl_answer){0};
    json_t *whole = json_loadb(line, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    const char *wrong = whole ? judge(whole, request, ret) : "its answer is not JSON";
    json_decref(whole);
    return wrong;
}
