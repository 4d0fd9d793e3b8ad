/* SPDX-License-Identifier: MIT */
/* Fuzzes what the supervisor does with bytes of a client: lines out of a stream that arrives in
 * pieces, requests out of lines, and the answers made from them. The first byte decides how large
 * the pieces are. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/control_protocol.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void one_line(const char *line, size_t length)
{
    struct control_request request;
    char why[CONTROL_WHY_SIZE] = "";
    size_t answer_length = 0;

    assert(length <= CONTROL_REQUEST_MAX);
    assert(memchr(line, '\n', length) == NULL);
    int code = control_request_parse(line, length, &request, why);
    char *answer =
        code ? control_print_error(request.id, code, json_string(why), &answer_length)
             : control_print_result(request.id, control_text(request.method), &answer_length);
    assert(answer != NULL);
    assert(answer[answer_length - 1] == '\n' && memchr(answer, '\n', answer_length - 1) == NULL);
    json_t *whole =
        json_loadb(answer, answer_length, 0, NULL); /* whatever came in, what goes out is JSON */
    assert(whole != NULL);
    json_decref(whole);
    free(answer);
    control_request_release(&request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct control_lines lines;
    control_lines_init(&lines, CONTROL_REQUEST_MAX);
    size_t piece = size ? data[0] + 1u : 1;
    for (size_t at = 1; at < size;) {
        char *to;
        const char *line;
        size_t room, length;
        if (control_lines_room(&lines, &to, &room) < 0)
            break;
        assert(room > 0);
        size_t n = size - at < piece ? size - at : piece;
        n = n < room ? n : room;
        memcpy(to, data + at, n);
        control_lines_added(&lines, n);
        at += n;
        while (control_lines_next(&lines, &line, &length))
            one_line(line, length);
    }
    control_lines_free(&lines);
    return 0;
}
