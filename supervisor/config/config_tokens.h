/* SPDX-License-Identifier: MIT */
/* A configuration file, token by token. */
#ifndef HOLDFAST_SUPERVISOR_CONFIG_CONFIG_TOKENS_H
#define HOLDFAST_SUPERVISOR_CONFIG_CONFIG_TOKENS_H

#include <stdbool.h>
#include <stddef.h>

#include "supervisor/config/config_errors.h"

enum token {
    TOKEN_END,
    TOKEN_TEXT,   /* a word or a quoted text */
    TOKEN_APPEND, /* += */
    TOKEN_BROKEN, /* reported already */
    TOKEN_OTHER,  /* one of { } ( ) = , */
};

struct config_tokens {
    char *text; /* comments are blanked as they are met */
    size_t size;
    size_t at;
    int line;
    /* the token just read */
    size_t start, end;
    size_t content, content_length; /* without quotes */
    int token_line;
    struct config_error_list *errors;
};

enum token config_tokens_next(struct config_tokens *tokens);
/* Is the token just read this sign? */
bool config_tokens_is(const struct config_tokens *tokens, enum token token, char sign);
/* How far from the left the token just read stands; -1 when it is not the first one of its line. */
int config_tokens_indent(const struct config_tokens *tokens);
/* Line breaks stay. */
void config_tokens_blank(struct config_tokens *tokens, size_t from, size_t to);
/* Go on behind so many bytes. */
void config_tokens_advance(struct config_tokens *tokens, size_t count);

#endif
