/* SPDX-License-Identifier: MIT */
/* The words and signs of a configuration file, as libconfuse takes them, with their lines. Called
 * by config_text.c. Comments are blanked as they are met: libconfuse (3.3) loses count of lines
 * there. */
#include "supervisor/config/config_tokens.h"

#include <string.h>

void config_tokens_blank(struct config_tokens *tokens, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        if (tokens->text[i] != '\n')
            tokens->text[i] = ' ';
}

static bool begins(const struct config_tokens *tokens, const char *what)
{
    size_t length = strlen(what);
    return tokens->size - tokens->at >= length &&
           memcmp(tokens->text + tokens->at, what, length) == 0;
}

void config_tokens_advance(struct config_tokens *tokens, size_t count)
{
    for (; count > 0 && tokens->at < tokens->size; count--)
        if (tokens->text[tokens->at++] == '\n')
            tokens->line++;
}

/* Go to the end of what closes with `mark`, and past it. */
static bool advance_past(struct config_tokens *tokens, const char *mark)
{
    while (tokens->at < tokens->size && !begins(tokens, mark))
        config_tokens_advance(tokens, 1);
    bool found = tokens->at < tokens->size;
    config_tokens_advance(tokens, strlen(mark));
    return found;
}

static bool skip_comment(struct config_tokens *tokens)
{
    size_t from = tokens->at;
    int line = tokens->line;
    if (begins(tokens, "/*")) {
        if (!advance_past(tokens, "*/")) {
            config_error(tokens->errors, line,
                         "the comment that begins here never ends: close it with */");
            return false;
        }
    } else {
        while (tokens->at < tokens->size && tokens->text[tokens->at] != '\n')
            tokens->at++;
    }
    config_tokens_blank(tokens, from, tokens->at);
    return true;
}

static bool at_comment(const struct config_tokens *tokens)
{
    return begins(tokens, "#") || begins(tokens, "//") || begins(tokens, "/*");
}

/* libconfuse would substitute ${NAME} from the environment: a hidden input that --print-config
 * could not show. */
static enum token refuse_substitution(struct config_tokens *tokens)
{
    config_error(tokens->errors, tokens->line,
                 "environment variables are not substituted here: write the value itself, or \\$ "
                 "for a dollar sign");
    return TOKEN_BROKEN;
}

/* At a \ in double quotes: does libconfuse make a zero byte of what follows? All behind that would
 * be lost in silence. */
static bool at_escaped_zero(const struct config_tokens *tokens)
{
    bool hexadecimal = begins(tokens, "\\x");
    const char *digits = tokens->text + tokens->at + (hexadecimal ? 2 : 1); /* ends with a zero */
    const size_t most = hexadecimal ? 2 : 3, zeros = strspn(digits, "0");
    size_t count = strspn(digits, hexadecimal ? "0123456789abcdefABCDEF" : "01234567");
    if (count > most)
        count = most;
    return count > 0 && zeros >= count;
}

static enum token refuse_zero(struct config_tokens *tokens)
{
    config_error(tokens->errors, tokens->line,
                 "a zero byte can't be part of a text: remove it, or write \\\\ for a backslash");
    return TOKEN_BROKEN;
}

/* No value has a line's end in it: a quote that is missing is told where it is, not where the next
 * one is found. */
static enum token read_quoted(struct config_tokens *tokens, char quote)
{
    config_tokens_advance(tokens, 1);
    tokens->content = tokens->at;
    while (tokens->at < tokens->size && tokens->text[tokens->at] != quote &&
           tokens->text[tokens->at] != '\n') {
        if (quote == '"' && begins(tokens, "${"))
            return refuse_substitution(tokens);
        if (quote == '"' && begins(tokens, "\\") && at_escaped_zero(tokens))
            return refuse_zero(tokens);
        config_tokens_advance(tokens, tokens->text[tokens->at] == '\\' ? 2 : 1);
    }
    if (tokens->at >= tokens->size || tokens->text[tokens->at] == '\n') {
        config_error(tokens->errors, tokens->token_line,
                     "the text that begins here does not end in its line: close it with %c", quote);
        return TOKEN_BROKEN;
    }
    tokens->content_length = tokens->at - tokens->content;
    config_tokens_advance(tokens, 1);
    return TOKEN_TEXT;
}

static enum token read_word(struct config_tokens *tokens)
{
    tokens->content = tokens->at;
    /* As in libconfuse, // begins a comment only where a word could begin: a path may contain it.
     */
    while (tokens->at < tokens->size && !strchr(" \t\n\r\"'{}()=,+#*", tokens->text[tokens->at]) &&
           !begins(tokens, "/*")) {
        if (begins(tokens, "${"))
            return refuse_substitution(tokens);
        tokens->at++;
    }
    tokens->content_length = tokens->at - tokens->content;
    if (tokens->content_length > 0)
        return TOKEN_TEXT;
    config_error(tokens->errors, tokens->line,
                 "unexpected %c: put values with special characters in quotes",
                 tokens->text[tokens->at]);
    return TOKEN_BROKEN;
}

enum token config_tokens_next(struct config_tokens *tokens)
{
    for (;;) {
        while (tokens->at < tokens->size && strchr(" \t\r\n", tokens->text[tokens->at]))
            config_tokens_advance(tokens, 1);
        if (!at_comment(tokens))
            break;
        if (!skip_comment(tokens))
            return TOKEN_BROKEN;
    }
    tokens->start = tokens->at;
    tokens->token_line = tokens->line;
    enum token token = TOKEN_OTHER;
    if (tokens->at == tokens->size)
        token = TOKEN_END;
    else if (begins(tokens, "\"") || begins(tokens, "'"))
        token = read_quoted(tokens, tokens->text[tokens->at]);
    else if (begins(tokens, "+="))
        token = TOKEN_APPEND;
    else if (!strchr("{}()=,", tokens->text[tokens->at]))
        token = read_word(tokens);
    if (token == TOKEN_APPEND || token == TOKEN_OTHER)
        tokens->at += token == TOKEN_APPEND ? 2 : 1;
    tokens->end = tokens->at;
    return token;
}

bool config_tokens_is(const struct config_tokens *tokens, enum token token, char sign)
{
    return token == TOKEN_OTHER && tokens->text[tokens->start] == sign;
}

int config_tokens_indent(const struct config_tokens *tokens)
{
    size_t at = tokens->start;
    while (at > 0 && (tokens->text[at - 1] == ' ' || tokens->text[at - 1] == '\t'))
        at--;
    return at == 0 || tokens->text[at - 1] == '\n' ? (int)(tokens->start - at) : -1;
}
