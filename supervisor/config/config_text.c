/* SPDX-License-Identifier: MIT */
/* Makes of a configuration file a text that libconfuse can read to its end, and notes the line of
 * every section and key. Needed because libconfuse stops at the first unknown key, lets the last of
 * two equal keys win in silence, and (3.3) loses count of lines at comments. What is reported here
 * is blanked, never moved: no later line changes its number. Must never change what a sound file
 * means. */
#include "supervisor/config/config_text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum token {
    TOKEN_END,
    TOKEN_TEXT,   /* a word or a quoted text */
    TOKEN_APPEND, /* += */
    TOKEN_BROKEN, /* reported already */
    TOKEN_OTHER,  /* one of { } ( ) = , */
};

struct scanner {
    char *text; /* comments are blanked as they are met */
    size_t size;
    size_t at;
    int line;
    /* the token just read */
    size_t start, end;
    size_t content, content_length; /* without quotes */
    int token_line;
    size_t channels; /* begun so far */
    struct config_text *result;
    struct config_error_list *errors;
    bool out_of_memory;
};

/* ---- tokens ---- */

static void blank(struct scanner *scanner, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        if (scanner->text[i] != '\n')
            scanner->text[i] = ' ';
}

static bool begins(const struct scanner *scanner, const char *what)
{
    size_t length = strlen(what);
    return scanner->size - scanner->at >= length &&
           memcmp(scanner->text + scanner->at, what, length) == 0;
}

static void advance(struct scanner *scanner, size_t count)
{
    for (; count > 0 && scanner->at < scanner->size; count--)
        if (scanner->text[scanner->at++] == '\n')
            scanner->line++;
}

/* Go to the end of what closes with `mark`, and past it. */
static bool advance_past(struct scanner *scanner, const char *mark)
{
    while (scanner->at < scanner->size && !begins(scanner, mark))
        advance(scanner, 1);
    bool found = scanner->at < scanner->size;
    advance(scanner, strlen(mark));
    return found;
}

static bool skip_comment(struct scanner *scanner)
{
    size_t from = scanner->at;
    int line = scanner->line;
    if (begins(scanner, "/*")) {
        if (!advance_past(scanner, "*/")) {
            config_error(scanner->errors, line,
                         "the comment that begins here never ends: close it with */");
            return false;
        }
    } else {
        while (scanner->at < scanner->size && scanner->text[scanner->at] != '\n')
            scanner->at++;
    }
    blank(scanner, from, scanner->at);
    return true;
}

static bool at_comment(const struct scanner *scanner)
{
    return begins(scanner, "#") || begins(scanner, "//") || begins(scanner, "/*");
}

/* libconfuse would substitute ${NAME} from the environment: a hidden input that --print-config
 * could not show. */
static enum token refuse_substitution(struct scanner *scanner)
{
    config_error(scanner->errors, scanner->line,
                 "environment variables are not substituted here: write the value itself, or \\$ "
                 "for a dollar sign");
    return TOKEN_BROKEN;
}

static enum token read_quoted(struct scanner *scanner, char quote)
{
    advance(scanner, 1);
    scanner->content = scanner->at;
    while (scanner->at < scanner->size && scanner->text[scanner->at] != quote) {
        if (quote == '"' && begins(scanner, "${"))
            return refuse_substitution(scanner);
        advance(scanner, scanner->text[scanner->at] == '\\' ? 2 : 1);
    }
    if (scanner->at >= scanner->size) {
        config_error(scanner->errors, scanner->token_line,
                     "the text that begins here never ends: close it with %c", quote);
        return TOKEN_BROKEN;
    }
    scanner->content_length = scanner->at - scanner->content;
    advance(scanner, 1);
    return TOKEN_TEXT;
}

static enum token read_word(struct scanner *scanner)
{
    scanner->content = scanner->at;
    /* As in libconfuse, // begins a comment only where a word could begin: a path may contain it.
     */
    while (scanner->at < scanner->size &&
           !strchr(" \t\n\r\"'{}()=,+#*", scanner->text[scanner->at]) && !begins(scanner, "/*")) {
        if (begins(scanner, "${"))
            return refuse_substitution(scanner);
        scanner->at++;
    }
    scanner->content_length = scanner->at - scanner->content;
    if (scanner->content_length > 0)
        return TOKEN_TEXT;
    config_error(scanner->errors, scanner->line,
                 "unexpected %c: put values with special characters in quotes",
                 scanner->text[scanner->at]);
    return TOKEN_BROKEN;
}

static enum token next_token(struct scanner *scanner)
{
    for (;;) {
        while (scanner->at < scanner->size && strchr(" \t\r\n", scanner->text[scanner->at]))
            advance(scanner, 1);
        if (!at_comment(scanner))
            break;
        if (!skip_comment(scanner))
            return TOKEN_BROKEN;
    }
    scanner->start = scanner->at;
    scanner->token_line = scanner->line;
    enum token token = TOKEN_OTHER;
    if (scanner->at == scanner->size)
        token = TOKEN_END;
    else if (begins(scanner, "\"") || begins(scanner, "'"))
        token = read_quoted(scanner, scanner->text[scanner->at]);
    else if (begins(scanner, "+="))
        token = TOKEN_APPEND;
    else if (!strchr("{}()=,", scanner->text[scanner->at]))
        token = read_word(scanner);
    if (token == TOKEN_APPEND || token == TOKEN_OTHER)
        scanner->at += token == TOKEN_APPEND ? 2 : 1;
    scanner->end = scanner->at;
    return token;
}

static bool is(const struct scanner *scanner, enum token token, char sign)
{
    return token == TOKEN_OTHER && scanner->text[scanner->start] == sign;
}

/* Report a token that fits nowhere. Always false. */
static bool unexpected(struct scanner *scanner, enum token token, const char *instead)
{
    if (token == TOKEN_END)
        config_error(scanner->errors, scanner->token_line, "the file ends too early: expected %s",
                     instead);
    else if (token != TOKEN_BROKEN)
        config_error(scanner->errors, scanner->token_line, "unexpected \"%.*s\": expected %s",
                     (int)(scanner->end - scanner->start < 60 ? scanner->end - scanner->start : 60),
                     scanner->text + scanner->start, instead);
    return false;
}

/* ---- statements ---- */

#define STATEMENT_NAME_SIZE 64

struct statement {
    enum config_section section;    /* in which it stands */
    char name[STATEMENT_NAME_SIZE]; /* cut if longer: then it is no known one anyway */
    const struct config_key *key;   /* NULL when it is none */
    enum config_section child;      /* SECTION_COUNT when it is none */
    size_t start;
    int line;
    bool sound; /* libconfuse shall see it */
};

static enum config_section find_child(enum config_section parent, const char *name)
{
    for (enum config_section i = SECTION_CONTROL; i < SECTION_COUNT; i++)
        if (config_sections[i].parent == parent && strcmp(config_sections[i].name, name) == 0)
            return i;
    return SECTION_COUNT;
}

static void reject_unknown(struct scanner *scanner, struct statement *statement)
{
    char known[512];
    size_t used = 0;
    const struct config_section_info *info = &config_sections[statement->section];
    for (size_t i = 0; i < info->key_count; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "",
                                 info->keys[i].name);
    for (enum config_section i = SECTION_CONTROL; i < SECTION_COUNT; i++)
        if (config_sections[i].parent == statement->section)
            used += (size_t)snprintf(known + used, sizeof known - used, ", %s",
                                     config_sections[i].name);
    config_error(scanner->errors, statement->line, "unknown key \"%s\": %s takes %s",
                 statement->name, info->name, known);
    statement->sound = false;
}

static void reject(struct scanner *scanner, struct statement *statement, const char *message)
{
    config_error(scanner->errors, statement->line, "%s: %s", statement->name, message);
    statement->sound = false;
}

/* After "name =": one value or a list of values. */
static bool scan_value(struct scanner *scanner, struct statement *statement)
{
    enum token token = next_token(scanner);
    if (!is(scanner, token, '{'))
        return token == TOKEN_TEXT || unexpected(scanner, token, "a value");
    if (statement->key && statement->key->type != TYPE_CPUS)
        reject(scanner, statement, "it takes one value, not a list: leave out the braces");
    for (;;) {
        token = next_token(scanner);
        if (is(scanner, token, '}'))
            return true;
        if (token != TOKEN_TEXT)
            return unexpected(scanner, token, "a value or }");
        token = next_token(scanner);
        if (is(scanner, token, '}'))
            return true;
        if (!is(scanner, token, ','))
            return unexpected(scanner, token, ", or }");
    }
}

/* Past everything up to the sign that closes what was just opened. */
static bool skip_to_close(struct scanner *scanner, char open, char close)
{
    for (unsigned depth = 1; depth > 0;) {
        enum token token = next_token(scanner);
        if (token == TOKEN_END || token == TOKEN_BROKEN)
            return unexpected(scanner, token, close == '}' ? "}" : ")");
        if (is(scanner, token, open))
            depth++;
        else if (is(scanner, token, close))
            depth--;
    }
    return true;
}

static bool scan_assignment(struct scanner *scanner, struct statement *statement, enum token sign,
                            struct config_section_lines *lines)
{
    if (statement->key) {
        int *line = &lines->key_lines[statement->key - config_sections[statement->section].keys];
        if (*line == 0)
            *line = statement->line;
        else {
            config_error(scanner->errors, statement->line,
                         "%s is set twice, first in line %d: keep one of them", statement->name,
                         *line);
            statement->sound = false;
        }
        if (sign == TOKEN_APPEND)
            reject(scanner, statement, "nothing can be appended: write = instead of +=");
    } else if (statement->child != SECTION_COUNT)
        reject(scanner, statement,
               "this is a section, not a key: write { ... } behind it instead of =");
    else
        reject_unknown(scanner, statement);
    return scan_value(scanner, statement);
}

static bool scan_statements(struct scanner *scanner, enum config_section section,
                            struct config_section_lines *lines);

static bool keep_lines(struct scanner *scanner, enum config_section section,
                       const struct config_section_lines *lines)
{
    struct config_text *result = scanner->result;
    size_t count = result->section_counts[section];
    if ((count & (count - 1)) == 0) { /* full at powers of two */
        size_t room = count ? 2 * count : 1;
        void *grown = realloc(result->sections[section], room * sizeof *lines);
        if (!grown) {
            scanner->out_of_memory = true;
            return false;
        }
        result->sections[section] = grown;
    }
    result->sections[section][count] = *lines;
    result->section_counts[section]++;
    return true;
}

/* An earlier section of the same kind, in the same channel and with the same name; without names
 * all are equal. */
static const struct config_section_lines *find_twin(const struct scanner *scanner,
                                                    enum config_section section,
                                                    const struct config_section_lines *lines)
{
    const struct config_section_lines *all = scanner->result->sections[section];
    for (size_t i = scanner->result->section_counts[section]; i-- > 0;) {
        if (all[i].parent != lines->parent)
            break;
        if (all[i].title_length == lines->title_length &&
            memcmp(scanner->text + all[i].title, scanner->text + lines->title,
                   lines->title_length) == 0)
            return &all[i];
    }
    return NULL;
}

static void reject_twin(struct scanner *scanner, struct statement *statement,
                        const struct config_section_lines *lines)
{
    const struct config_section_lines *twin = find_twin(scanner, statement->child, lines);
    if (!twin)
        return;
    if (config_sections[statement->child].titled)
        config_error(scanner->errors, statement->line,
                     "%s \"%.*s\" is there twice, first in line %d: rename one of them",
                     statement->name, (int)lines->title_length, scanner->text + lines->title,
                     twin->line);
    else
        config_error(scanner->errors, statement->line,
                     "section %s is there twice, first in line %d: join them", statement->name,
                     twin->line);
    statement->sound = false;
}

/* After "name {" or "name title {". */
static bool scan_section(struct scanner *scanner, struct statement *statement, bool titled,
                         struct config_section_lines *lines)
{
    if (statement->key) {
        reject(scanner, statement, "this is a key, not a section: write = and a value behind it");
        return skip_to_close(scanner, '{', '}');
    }
    if (statement->child == SECTION_COUNT) {
        reject_unknown(scanner, statement);
        return skip_to_close(scanner, '{', '}');
    }
    if (titled && !config_sections[statement->child].titled)
        reject(scanner, statement, "this section has no name: write { directly behind it");
    else if (!titled && config_sections[statement->child].titled)
        reject(scanner, statement, "it needs a name: write one in quotes before the {");
    else
        reject_twin(scanner, statement, lines);
    /* A section that is wrong as a whole is looked into all the same: what else is wrong shall be
     * known at once. The lines of its own parts must not be counted, libconfuse won't see them. */
    size_t counts[SECTION_COUNT];
    memcpy(counts, scanner->result->section_counts, sizeof counts);
    if (!scan_statements(scanner, statement->child, lines))
        return false;
    if (statement->sound)
        return keep_lines(scanner, statement->child, lines);
    memcpy(scanner->result->section_counts, counts, sizeof counts);
    return true;
}

static bool scan_statement(struct scanner *scanner, struct statement *statement,
                           struct config_section_lines *lines)
{
    struct config_section_lines inner = {.line = statement->line};
    enum token token = next_token(scanner);
    if (token == TOKEN_APPEND || is(scanner, token, '='))
        return scan_assignment(scanner, statement, token, lines);
    if (is(scanner, token, '(')) {
        reject(scanner, statement, "functions such as include() are not offered: remove it");
        return skip_to_close(scanner, '(', ')');
    }
    bool titled = token == TOKEN_TEXT;
    if (titled) {
        inner.title = scanner->content;
        inner.title_length = scanner->content_length;
        if (statement->key) {
            reject(scanner, statement, "= is missing between it and its value");
            return true;
        }
        struct scanner before = *scanner;
        token = next_token(scanner);
        if (statement->child == SECTION_COUNT && !is(scanner, token, '{')) {
            *scanner = before; /* it belongs to the next statement */
            reject_unknown(scanner, statement);
            return true;
        }
    }
    if (!is(scanner, token, '{'))
        return unexpected(scanner, token, titled ? "{" : "= or {");
    if (statement->child == SECTION_CHANNEL)
        scanner->channels++;
    inner.parent = statement->section == SECTION_CHANNEL ? scanner->channels : 0;
    return scan_section(scanner, statement, titled, &inner);
}

/* The statements of a section up to its }, or of the file up to its end. false when the grammar is
 * broken. */
static bool scan_statements(struct scanner *scanner, enum config_section section,
                            struct config_section_lines *lines)
{
    for (;;) {
        enum token token = next_token(scanner);
        if (section == SECTION_ROOT ? token == TOKEN_END : is(scanner, token, '}'))
            return true;
        if (token != TOKEN_TEXT)
            return unexpected(scanner, token, section == SECTION_ROOT ? "a key" : "a key or }");
        struct statement statement = {
            .section = section, .start = scanner->start, .line = scanner->token_line};
        statement.sound = true;
        snprintf(statement.name, sizeof statement.name, "%.*s",
                 (int)(scanner->content_length < sizeof statement.name ? scanner->content_length
                                                                       : sizeof statement.name - 1),
                 scanner->text + scanner->content);
        statement.key = config_find_key(section, statement.name);
        statement.child = find_child(section, statement.name);
        if (!scan_statement(scanner, &statement, lines))
            return false;
        if (!statement.sound)
            blank(scanner, statement.start, scanner->end);
    }
}

int config_text_scan(const char *file, size_t size, struct config_text *ret,
                     struct config_error_list *errors)
{
    *ret = (struct config_text){.text = malloc(size + 1)};
    if (!ret->text)
        return -ENOMEM;
    memcpy(ret->text, file, size);
    ret->text[size] = '\0';
    struct scanner scanner = {
        .text = ret->text, .size = size, .line = 1, .result = ret, .errors = errors};
    const char *zero = memchr(file, '\0', size);
    if (zero) {
        advance(&scanner, (size_t)(zero - file));
        config_error(errors, scanner.line, "a zero byte: this is not a text file");
        return -EINVAL;
    }
    struct config_section_lines root = {.line = 1};
    bool sound =
        scan_statements(&scanner, SECTION_ROOT, &root) && keep_lines(&scanner, SECTION_ROOT, &root);
    if (scanner.out_of_memory)
        return -ENOMEM;
    return sound ? 0 : -EINVAL;
}

void config_text_free(struct config_text *text)
{
    free(text->text);
    for (int i = 0; i < SECTION_COUNT; i++)
        free(text->sections[i]);
    *text = (struct config_text){0};
}
