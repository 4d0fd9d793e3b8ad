/* SPDX-License-Identifier: MIT */
/* Finds the place of a draft's part in the file. Called by the checks, for the line of an error. A
 * key that is not given is told at its section. */
#include "supervisor/config/config_draft.h"

#include "common/channel_spec.h"
#include "supervisor/config/config_keys.h"
#include "supervisor/config/config_text.h"

static int given_line(enum config_section section, const struct config_section_lines *lines,
                      const char *key)
{
    return lines->key_lines[config_find_key(section, key) - config_sections[section].keys];
}

bool config_draft_key_is_given(enum config_section section,
                               const struct config_section_lines *lines, const char *key)
{
    return given_line(section, lines, key) != 0;
}

int config_draft_key_line(enum config_section section, const struct config_section_lines *lines,
                          const char *key)
{
    int line = given_line(section, lines, key);
    return line ? line : lines->line;
}

bool config_draft_read_is_given(const struct config_draft *draft, const char *key)
{
    return draft->text->section_counts[SECTION_READ] > 0 &&
           config_draft_key_is_given(SECTION_READ, draft->text->sections[SECTION_READ], key);
}

const struct config_section_lines *
config_draft_destination_lines(const struct config_channel *channel, uint32_t index)
{
    uint32_t relays = channel->spec->relay_count;
    return index < relays ? &channel->relay_lines[index] : &channel->decimate_lines[index - relays];
}

int config_draft_destination_key_line(const struct config_channel *channel, uint32_t index,
                                      const char *key)
{
    return config_draft_key_line(index < channel->spec->relay_count ? SECTION_RELAY
                                                                    : SECTION_DECIMATE,
                                 config_draft_destination_lines(channel, index), key);
}

const char *config_draft_destination_kind(const struct destination_spec *destination)
{
    return destination->kind == DESTINATION_RELAY ? "relay" : "decimate";
}
