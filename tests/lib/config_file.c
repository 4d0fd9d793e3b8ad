/* SPDX-License-Identifier: MIT */
/* Writes a configuration into a file of its own, loads it, and compares what comes of it. For the
 * tests of the configuration; everything fails the running test when it is not as expected. */
#include "tests/lib/config_file.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "supervisor/config/config_print.h"

char config_path[512];

void config_file_make(void)
{
    const char *folder = getenv("TMPDIR");
    snprintf(config_path, sizeof config_path, "%s/holdfast-config-XXXXXX",
             folder ? folder : "/tmp");
    int fd = mkstemp(config_path);
    ck_assert_int_ge(fd, 0);
    close(fd);
}

void config_file_remove(void)
{
    unlink(config_path);
}

void config_file_write(const char *text, size_t size)
{
    FILE *to = fopen(config_path, "we");
    ck_assert_ptr_nonnull(to);
    ck_assert_uint_eq(fwrite(text, 1, size, to), size);
    ck_assert_int_eq(fclose(to), 0);
}

/* `expected`: one line per error, "LINE: message"; the file's name is put before each. */
void config_expect_errors(const char *text, const char *expected)
{
    struct settings *settings;
    struct config_errors errors;
    char *full = NULL;
    size_t size = 0, lines = 0;
    FILE *to = open_memstream(&full, &size);
    for (const char *line = expected; *line; lines++) {
        size_t length = strcspn(line, "\n");
        fprintf(to, "%s:%.*s\n", config_path, (int)length, line);
        line += length + (line[length] == '\n');
    }
    fclose(to);
    config_file_write(text, strlen(text));
    int result = config_load(config_path, &settings, &errors);
    ck_assert_msg(result == -EINVAL, "taken (%d): %s", result, text);
    ck_assert_ptr_null(settings);
    ck_assert_str_eq(errors.text, full);
    ck_assert_uint_eq(errors.count, lines);
    config_errors_free(&errors);
    free(full);
}

struct settings *config_expect_settings(const char *text)
{
    struct settings *settings;
    struct config_errors errors;
    const char *what;
    config_file_write(text, strlen(text));
    int result = config_load(config_path, &settings, &errors);
    ck_assert_msg(result == 0, "%s", errors.text);
    ck_assert_ptr_null(errors.text);
    ck_assert_uint_eq(errors.count, 0);
    for (size_t i = 0; i < settings->channel_count; i++) {
        size_t size = channel_spec_size(channel_spec_destination_count(settings->channels[i]));
        ck_assert_int_eq(channel_spec_check(settings->channels[i], size, &what), 0);
    }
    return settings;
}

char *config_print_text(const struct settings *settings)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(to);
    config_print(to, settings);
    ck_assert_int_eq(fclose(to), 0);
    return text;
}

/* Printing, reading that and printing again must give the same bytes, and the same settings. */
void config_expect_round_trip(const struct settings *settings)
{
    char *first = config_print_text(settings);
    struct settings *again = config_expect_settings(first);
    char *second = config_print_text(again);
    ck_assert_str_eq(first, second);
    ck_assert_uint_eq(settings->channel_count, again->channel_count);
    for (size_t i = 0; i < settings->channel_count; i++)
        ck_assert_int_eq(
            memcmp(settings->channels[i], again->channels[i],
                   channel_spec_size(channel_spec_destination_count(settings->channels[i]))),
            0);
    free(first);
    free(second);
    settings_free(again);
}
