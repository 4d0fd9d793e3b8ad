/* SPDX-License-Identifier: MIT */
/* Makes of a configuration file a text that libconfuse can read to its end, and notes the line of
 * every section and key. Needed because libconfuse stops at the first unknown key, lets the last of
 * two equal keys win in silence, and (3.3) loses count of lines at comments. What is reported here
 * is blanked, never moved: no later line changes its number. Must never change what a sound file
 * means. */
#include "supervisor/config/config_text.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/config/config_tokens.h"

#define SECTIONS_DEEP 3 /* the file, a channel, a relay */

/* A section whose } has not come yet. */
struct open_section {
    const char *name;
    size_t title, title_length;
    int line;
    int indent; /* -1 unknown */
};

struct scanner {
    struct config_tokens tokens;
    size_t channels; /* begun so far */
    struct open_section open[SECTIONS_DEEP];
    size_t depth;
    /* The first section that was closed by a } which stands further left than the section itself:
     * if a } is missing in the end, it is likely this one's. Line 0 = none. */
    struct open_section suspect;
    struct config_text *result;
    bool out_of_memory;
};

static enum token next_token(struct scanner *scanner)
{
    return config_tokens_next(&scanner->tokens);
}

static bool is(const struct scanner *scanner, enum token token, char sign)
{
    return config_tokens_is(&scanner->tokens, token, sign);
}

/* ---- braces ---- */

static void opens(struct scanner *scanner, const char *name,
                  const struct config_section_lines *lines, int indent)
{
    assert(scanner->depth < SECTIONS_DEEP);
    scanner->open[scanner->depth++] = (struct open_section){.name = name,
                                                            .title = lines->title,
                                                            .title_length = lines->title_length,
                                                            .line = lines->line,
                                                            .indent = indent};
}

/* At the } of the innermost section. */
static void closes(struct scanner *scanner)
{
    const struct open_section *section = &scanner->open[--scanner->depth];
    int indent = config_tokens_indent(&scanner->tokens);
    if (!scanner->suspect.line && indent >= 0 && indent < section->indent)
        scanner->suspect = *section;
}

/* Always false. */
static bool missing_close(struct scanner *scanner)
{
    const struct open_section *section =
        scanner->suspect.line ? &scanner->suspect : &scanner->open[scanner->depth - 1];
    bool titled = section->title_length > 0;
    config_error(scanner->tokens.errors, section->line,
                 "%s%s%.*s%s: the } that closes this section is missing (noticed in line %d)",
                 section->name, titled ? " \"" : "", (int)section->title_length,
                 scanner->tokens.text + section->title, titled ? "\"" : "",
                 scanner->tokens.token_line);
    return false;
}

/* Looks ahead, behind a { inside the innermost section: are there enough } for all that is open? */
static bool closes_in_the_end(const struct scanner *scanner)
{
    struct config_error_list unheard = {0};
    struct config_tokens ahead = scanner->tokens;
    int depth = (int)scanner->depth + 1;
    enum token token;
    ahead.errors = &unheard;
    while ((token = config_tokens_next(&ahead)) != TOKEN_END && token != TOKEN_BROKEN &&
           depth > 0) {
        if (config_tokens_is(&ahead, token, '{'))
            depth++;
        else if (config_tokens_is(&ahead, token, '}'))
            depth--;
    }
    config_error_list_free(&unheard);
    return token != TOKEN_END || depth == 0;
}

/* Report a token that fits nowhere. Always false. */
static bool unexpected(struct scanner *scanner, enum token token, const char *instead)
{
    if (token == TOKEN_END)
        config_error(scanner->tokens.errors, scanner->tokens.token_line,
                     "the file ends too early: expected %s", instead);
    else if (token != TOKEN_BROKEN)
        config_error(scanner->tokens.errors, scanner->tokens.token_line,
                     "unexpected \"%.*s\": expected %s",
                     (int)(scanner->tokens.end - scanner->tokens.start < 60
                               ? scanner->tokens.end - scanner->tokens.start
                               : 60),
                     scanner->tokens.text + scanner->tokens.start, instead);
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
    int indent;
    bool sound; /* libconfuse shall see it */
};

static enum config_section find_child(enum config_section parent, const char *name)
{
    for (enum config_section i = SECTION_CONTROL; i < SECTION_COUNT; i++)
        if (config_sections[i].parent == parent && strcmp(config_sections[i].name, name) == 0)
            return i;
    return SECTION_COUNT;
}

/* Which sections have such a key or section, for people; "" when none does. */
static void list_homes(const char *name, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (enum config_section i = SECTION_ROOT; i < SECTION_COUNT; i++) {
        bool has = config_find_key(i, name) != NULL;
        for (enum config_section child = SECTION_CONTROL; child < SECTION_COUNT; child++)
            has |= config_sections[child].parent == i && !strcmp(config_sections[child].name, name);
        if (has)
            used += (size_t)snprintf(text + used, size - used, "%s%s%s",
                                     used ? " or " : "; it belongs in ", config_sections[i].name,
                                     i == SECTION_ROOT ? " itself" : " { }");
    }
}

static void reject_unknown(struct scanner *scanner, struct statement *statement)
{
    char known[512], homes[128];
    size_t used = 0;
    const struct config_section_info *info = &config_sections[statement->section];
    for (size_t i = 0; i < info->key_count; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "",
                                 info->keys[i].name);
    for (enum config_section i = SECTION_CONTROL; i < SECTION_COUNT; i++)
        if (config_sections[i].parent == statement->section)
            used += (size_t)snprintf(known + used, sizeof known - used, ", %s",
                                     config_sections[i].name);
    list_homes(statement->name, homes, sizeof homes);
    config_error(scanner->tokens.errors, statement->line, "unknown key \"%s\": %s takes %s%s",
                 statement->name, info->name, known, homes);
    statement->sound = false;
}

static void reject(struct scanner *scanner, struct statement *statement, const char *message)
{
    config_error(scanner->tokens.errors, statement->line, "%s: %s", statement->name, message);
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
            config_error(scanner->tokens.errors, statement->line,
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
            memcmp(scanner->tokens.text + all[i].title, scanner->tokens.text + lines->title,
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
        config_error(scanner->tokens.errors, statement->line,
                     "%s \"%.*s\" is there twice, first in line %d: rename one of them",
                     statement->name, (int)lines->title_length, scanner->tokens.text + lines->title,
                     twin->line);
    else
        config_error(scanner->tokens.errors, statement->line,
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
        if (scanner->depth > 0 && find_child(SECTION_ROOT, statement->name) != SECTION_COUNT &&
            !closes_in_the_end(scanner)) {
            scanner->tokens.token_line = statement->line;
            return missing_close(scanner);
        }
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
    opens(scanner, config_sections[statement->child].name, lines, statement->indent);
    if (!scan_statements(scanner, statement->child, lines))
        return false;
    if (statement->sound)
        return keep_lines(scanner, statement->child, lines);
    memcpy(scanner->result->section_counts, counts, sizeof counts);
    return true;
}

/* Behind a section's name, and title if it has one: does something else come where its { should be?
 * What is wrong in the same line is told as it stands there. */
static bool lacks_open(struct scanner *scanner, const struct statement *statement, enum token token)
{
    if (statement->child == SECTION_COUNT || scanner->tokens.token_line == statement->line ||
        token == TOKEN_BROKEN || is(scanner, token, '{'))
        return false;
    config_error(scanner->tokens.errors, statement->line,
                 "%s: the { that opens this section is missing", statement->name);
    return true;
}

/* At a word that no name can be: "key: value" of other languages. */
static bool has_colon(struct scanner *scanner, struct statement *statement)
{
    char *colon = strchr(statement->name, ':');
    if (!colon)
        return false;
    *colon = '\0';
    if (config_find_key(statement->section, statement->name))
        reject(scanner, statement, "write = instead of :");
    *colon = ':';
    return !statement->sound;
}

/* Past the value behind it, if there is one. */
static bool skip_value(struct scanner *scanner)
{
    struct scanner before = *scanner;
    enum token token = next_token(scanner);
    if (token == TOKEN_TEXT && scanner->tokens.token_line == before.tokens.token_line)
        return true;
    if (token != TOKEN_BROKEN)
        *scanner = before;
    return token != TOKEN_BROKEN;
}

static bool scan_statement(struct scanner *scanner, struct statement *statement,
                           struct config_section_lines *lines)
{
    if (has_colon(scanner, statement))
        return skip_value(scanner);
    struct config_section_lines inner = {.line = statement->line};
    enum token token = next_token(scanner);
    if (token == TOKEN_APPEND || is(scanner, token, '='))
        return scan_assignment(scanner, statement, token, lines);
    if (is(scanner, token, '(')) {
        reject(scanner, statement, "functions such as include() are not offered: remove it");
        return skip_to_close(scanner, '(', ')');
    }
    bool titled = token == TOKEN_TEXT;
    bool title_may_follow =
        statement->child != SECTION_COUNT && config_sections[statement->child].titled;
    if (!(titled && title_may_follow) && lacks_open(scanner, statement, token))
        return false;
    if (titled) {
        inner.title = scanner->tokens.content;
        inner.title_length = scanner->tokens.content_length;
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
    if (lacks_open(scanner, statement, token))
        return false;
    if (!is(scanner, token, '{'))
        return unexpected(scanner, token, titled ? "{" : "= or {");
    if (statement->child == SECTION_CHANNEL)
        scanner->channels++;
    inner.parent = statement->section == SECTION_CHANNEL ? scanner->channels : 0;
    return scan_section(scanner, statement, titled, &inner);
}

static bool drop_semicolon(struct scanner *scanner)
{
    struct config_tokens *tokens = &scanner->tokens;
    if (tokens->text[tokens->start] != ';')
        return false;
    config_error(tokens->errors, tokens->token_line,
                 "unexpected \";\": a value needs nothing behind it, remove it");
    tokens->at = tokens->start + 1; /* what follows may be sound */
    config_tokens_blank(tokens, tokens->start, tokens->at);
    return true;
}

/* The statements of a section up to its }, or of the file up to its end. false when the grammar is
 * broken. */
static bool scan_statements(struct scanner *scanner, enum config_section section,
                            struct config_section_lines *lines)
{
    for (;;) {
        enum token token = next_token(scanner);
        if (section == SECTION_ROOT ? token == TOKEN_END : is(scanner, token, '}')) {
            if (section != SECTION_ROOT)
                closes(scanner);
            return true;
        }
        if (token == TOKEN_END)
            return missing_close(scanner);
        if (token != TOKEN_TEXT)
            return unexpected(scanner, token, section == SECTION_ROOT ? "a key" : "a key or }");
        if (drop_semicolon(scanner))
            continue;
        struct statement statement = {
            .section = section, .start = scanner->tokens.start, .line = scanner->tokens.token_line};
        statement.indent = config_tokens_indent(&scanner->tokens);
        statement.sound = true;
        snprintf(statement.name, sizeof statement.name, "%.*s",
                 (int)(scanner->tokens.content_length < sizeof statement.name
                           ? scanner->tokens.content_length
                           : sizeof statement.name - 1),
                 scanner->tokens.text + scanner->tokens.content);
        statement.key = config_find_key(section, statement.name);
        statement.child = find_child(section, statement.name);
        if (!scan_statement(scanner, &statement, lines))
            return false;
        if (!statement.sound)
            config_tokens_blank(&scanner->tokens, statement.start, scanner->tokens.end);
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
        .tokens = {.text = ret->text, .size = size, .line = 1, .errors = errors}, .result = ret};
    if (size >= 3 && memcmp(file, "\xef\xbb\xbf", 3) == 0) /* UTF-8, as some editors mark it */
        config_tokens_blank(&scanner.tokens, 0, 3);
    const char *zero = memchr(file, '\0', size);
    if (zero) {
        config_tokens_advance(&scanner.tokens, (size_t)(zero - file));
        config_error(errors, scanner.tokens.line, "a zero byte: this is not a text file");
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
