/* SPDX-License-Identifier: MIT */
/* Prints settings in canonical form, key by key as config_keys.c says. Called for --print-config.
 * Must never print what a later reading would take differently. */
#include "supervisor/config/config_print.h"

#include "common/channel_spec.h"
#include "supervisor/config/config_keys.h"
#include "supervisor/config/config_values.h"
#include "supervisor/config/settings.h"

/* without_socket: leave out what a channel without one can't have. */
static void print_some(FILE *to, enum config_section section, const void *base, const char *indent,
                       bool without_socket)
{
    const struct config_section_info *info = &config_sections[section];
    for (size_t i = 0; i < info->key_count; i++) {
        if (without_socket && info->keys[i].needs_socket)
            continue;
        fprintf(to, "%s%s = ", indent, info->keys[i].name);
        config_value_print(to, &info->keys[i], base);
        putc('\n', to);
    }
}

static void print_keys(FILE *to, enum config_section section, const void *base, const char *indent)
{
    print_some(to, section, base, indent, false);
}

static void print_destination(FILE *to, const struct destination_spec *destination)
{
    bool relay = destination->kind == DESTINATION_RELAY;
    fprintf(to, "\n    %s \"%s\" {\n", relay ? "relay" : "decimate", destination->name);
    print_keys(to, SECTION_RELAY, destination, "        ");
    /* Of these two only one may be written. */
    if (!relay) {
        const char *rule = destination->keep_every ? "keep_every" : "max_rate";
        fprintf(to, "        %s = ", rule);
        config_value_print(to, config_find_key(SECTION_DECIMATE, rule), destination);
        putc('\n', to);
    }
    fputs("    }\n", to);
}

static void print_channel(FILE *to, const struct channel_spec *spec)
{
    fprintf(to, "\nchannel \"%s\" {\n", spec->name);
    print_some(to, SECTION_CHANNEL, spec, "    ", channel_spec_is_local(spec));
    for (uint32_t i = 0; i < channel_spec_destination_count(spec); i++)
        print_destination(to, &spec->destinations[i]);
    if (spec->record.enabled) {
        fputs("\n    record {\n", to);
        print_keys(to, SECTION_RECORD, spec, "        ");
        fputs("    }\n", to);
    }
    if (channel_spec_is_local(spec)) {
        fputs("\n    publishers {\n", to);
        print_keys(to, SECTION_PUBLISHERS, spec, "        ");
        fputs("    }\n", to);
    }
    fputs("}\n", to);
}

void config_print(FILE *to, const struct settings *settings)
{
    print_keys(to, SECTION_ROOT, settings, "");
    fputs("\ncontrol {\n", to);
    print_keys(to, SECTION_CONTROL, settings, "    ");
    fputs("}\n\nread {\n", to);
    print_keys(to, SECTION_READ, settings, "    ");
    fputs("}\n\nrestart {\n", to);
    print_keys(to, SECTION_RESTART, settings, "    ");
    fputs("}\n", to);
    for (size_t i = 0; i < settings->channel_count; i++)
        print_channel(to, settings->channels[i]);
}
