/* SPDX-License-Identifier: MIT */
/* A configuration file for a test. */
#ifndef HOLDFAST_TESTS_CONFIG_FILE_H
#define HOLDFAST_TESTS_CONFIG_FILE_H

#include <stddef.h>

#include "supervisor/config/config.h"

/* The smallest configuration that is right; one line. */
#define MINIMAL "channel \"a\" { listen = \"127.0.0.1:26000\" record { } }\n"

extern char config_path[512];

void config_file_make(void);
void config_file_remove(void);
void config_file_write(const char *text, size_t size);

/* `expected`: one line per error, "LINE: message"; the file's name is put before each. */
void config_expect_errors(const char *text, const char *expected);

/* The text must be right. */
struct settings *config_expect_settings(const char *text);

char *config_print_text(const struct settings *settings);

/* Printing, reading that and printing again must give the same bytes, and the same settings. */
void config_expect_round_trip(const struct settings *settings);

#endif
