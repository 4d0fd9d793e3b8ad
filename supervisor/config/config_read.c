/* SPDX-License-Identifier: MIT */
/* Hands the scanned text to libconfuse and turns its tree into settings, key by key as
 * config_keys.c says. Every value is a string to libconfuse: what a size or an address is, we know
 * better, and libconfuse would stop at the first wrong one. A value that is wrong leaves the
 * default behind, so that later checks don't complain about it again. */
#include "supervisor/config/config_read.h"

#include <assert.h>
#include <confuse.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/channel_spec.h"
#include "common/read_protocol.h"
#include "supervisor/config/config_draft.h"
#include "supervisor/config/config_keys.h"
#include "supervisor/config/config_values.h"
#include "supervisor/config/settings.h"

/* libconfuse's error callback has no argument of ours. */
static struct config_error_list *parse_errors;

static void __attribute__((format(printf, 2, 0)))
note_parse_error(cfg_t *cfg, const char *format, va_list arguments)
{
    char text[256];
    vsnprintf(text, sizeof text, format, arguments);
    config_error(parse_errors, cfg->line,
                 "%s: put values with special characters in quotes and write \\ as \\\\", text);
}

/* ---- the option table of libconfuse, from ours ---- */

#define OPTIONS_MAX (CONFIG_KEYS_MAX + SECTION_COUNT + 1)

static cfg_opt_t *build_options(cfg_opt_t all[SECTION_COUNT][OPTIONS_MAX],
                                enum config_section section)
{
    const struct config_section_info *info = &config_sections[section];
    cfg_opt_t *option = all[section];
    for (size_t i = 0; i < info->key_count; i++) {
        if (info->keys[i].type == TYPE_CPUS)
            *option++ = (cfg_opt_t)CFG_STR_LIST(info->keys[i].name, NULL, CFGF_NODEFAULT);
        else
            *option++ = (cfg_opt_t)CFG_STR(info->keys[i].name, NULL, CFGF_NODEFAULT);
    }
    for (enum config_section child = SECTION_CONTROL; child < SECTION_COUNT; child++) {
        if (config_sections[child].parent != section)
            continue;
        /* MULTI also where there may be one only: without it libconfuse makes one up when there is
         * none. */
        cfg_flag_t flags =
            CFGF_MULTI | (config_sections[child].titled ? CFGF_TITLE | CFGF_NO_TITLE_DUPES : 0);
        *option++ =
            (cfg_opt_t)CFG_SEC(config_sections[child].name, build_options(all, child), flags);
    }
    *option = (cfg_opt_t)CFG_END();
    return all[section];
}

/* ---- from the tree ---- */

struct reader {
    struct config_draft *draft;
    struct config_error_list *errors;
    /* The next section of each kind: the file's order is the tree's order, kind by kind. */
    size_t next[SECTION_COUNT];
};

static const struct config_section_lines *take_lines(struct reader *reader,
                                                     enum config_section section)
{
    const struct config_text *text = reader->draft->text;
    assert(reader->next[section] < text->section_counts[section]);
    return &text->sections[section][reader->next[section]++];
}

static void read_key(struct reader *reader, cfg_t *cfg, const struct config_key *key, int line,
                     void *base)
{
    char why[CONFIG_WHY_SIZE];
    for (unsigned i = 0; i < cfg_size(cfg, key->name); i++) {
        const char *text = cfg_getnstr(cfg, key->name, i);
        if (config_value_parse(key, text, base, why) < 0)
            config_error(reader->errors, line, "%s = \"%s\": %s", key->name, text, why);
    }
}

static void set_defaults(enum config_section section, void *base)
{
    for (size_t i = 0; i < config_sections[section].key_count; i++)
        config_value_set_default(&config_sections[section].keys[i], base);
}

static void read_keys(struct reader *reader, cfg_t *cfg, enum config_section section,
                      const struct config_section_lines *lines, void *base)
{
    const struct config_section_info *info = &config_sections[section];
    set_defaults(section, base);
    for (size_t i = 0; i < info->key_count; i++) {
        const struct config_key *key = &info->keys[i];
        if (lines->key_lines[i])
            read_key(reader, cfg, key, lines->key_lines[i], base);
        else if (!key->default_text)
            config_error(reader->errors, lines->line,
                         "%s \"%s\" has no %s: add %s = \"ADDRESS:PORT\"", info->name,
                         cfg_title(cfg), key->name, key->name);
    }
}

/* An address of the configuration, and where it stands. */
struct scoped_address {
    enum config_section section;
    const struct config_section_lines *lines;
    const char *key;
    const union socket_address *address;
};

static void read_name(struct reader *reader, cfg_t *cfg, int line, char to[CHANNEL_NAME_SIZE])
{
    const char *title = cfg_title(cfg);
    if (!channel_name_is_valid(title))
        config_error(reader->errors, line,
                     "%s \"%s\": not a name: use 1 to %d letters, digits, _ and -, beginning with "
                     "a letter or digit",
                     cfg_name(cfg), title, CHANNEL_NAME_SIZE - 1);
    snprintf(to, CHANNEL_NAME_SIZE, "%s", title);
}

/* Instead of its name an interface's number may be given; a name has precedence. */
static void name_interface(char scope[IF_NAMESIZE])
{
    char name[IF_NAMESIZE];
    if (strspn(scope, "0123456789") == strlen(scope) && !if_nametoindex(scope) &&
        strtoul(scope, NULL, 10) <= UINT32_MAX &&
        if_indextoname((unsigned)strtoul(scope, NULL, 10), name))
        memcpy(scope, name, IF_NAMESIZE);
}

/* The %scope behind an IPv6 address is its interface, by name: it may come and go. */
static void adopt_scope(struct reader *reader, cfg_t *cfg, const struct scoped_address *where,
                        char interface[IF_NAMESIZE])
{
    const char *text = cfg_getstr(cfg, where->key);
    const union socket_address *address = where->address;
    union socket_address same;
    char scope[IF_NAMESIZE];
    if (!text || socket_address_parse_scoped(text, &same, scope) < 0 || scope[0] == '\0')
        return;
    name_interface(scope);
    if (!socket_address_is_multicast(address) && !socket_address_is_link_local(address))
        config_error(reader->errors,
                     config_draft_key_line(where->section, where->lines, where->key),
                     "%s = \"%s\": only link-local addresses take an interface after %%: remove it",
                     where->key, text);
    else if (interface[0] && strcmp(interface, scope) != 0)
        config_error(reader->errors,
                     config_draft_key_line(where->section, where->lines, "interface"),
                     "interface = \"%s\": %s = \"%s\" names another interface: keep one of them",
                     interface, where->key, text);
    else
        snprintf(interface, IF_NAMESIZE, "%s", scope);
}

static void read_destinations(struct reader *reader, cfg_t *cfg, enum destination_kind kind,
                              struct config_channel *channel)
{
    enum config_section section = kind == DESTINATION_RELAY ? SECTION_RELAY : SECTION_DECIMATE;
    const char *name = config_sections[section].name;
    struct destination_spec *destination = channel->spec->destinations;
    if (kind == DESTINATION_DECIMATE)
        destination += channel->spec->relay_count;
    for (unsigned i = 0; i < cfg_size(cfg, name); i++, destination++) {
        cfg_t *child = cfg_getnsec(cfg, name, i);
        const struct config_section_lines *lines = take_lines(reader, section);
        if (i == 0 && kind == DESTINATION_RELAY)
            channel->relay_lines = lines;
        else if (i == 0)
            channel->decimate_lines = lines;
        destination->kind = (uint32_t)kind;
        read_name(reader, child, lines->line, destination->name);
        read_keys(reader, child, section, lines, destination);
        adopt_scope(reader, child, &(struct scoped_address){section, lines, "to", &destination->to},
                    destination->interface);
    }
}

/* What nobody gave and a local channel has in another way: no socket, so no buffer of one, and a
 * recorder that is never lapped, for its publishers can wait. */
static void follow_local(cfg_t *cfg, struct config_channel *channel)
{
    struct channel_spec *spec = channel->spec;
    if (!config_draft_key_is_given(SECTION_CHANNEL, channel->lines, "receive_buffer"))
        spec->receive_buffer = 0;
    const char *on_full =
        spec->record.enabled ? cfg_getstr(cfg_getsec(cfg, "record"), "on_full") : NULL;
    if (spec->record.enabled && (!on_full || strcmp(on_full, "lap") != 0))
        spec->record.on_full = RECORD_ON_FULL_WAIT;
    if (!channel->publishers_lines)
        set_defaults(SECTION_PUBLISHERS, spec);
}

static int read_channel(struct reader *reader, cfg_t *cfg, struct config_channel *channel)
{
    uint32_t relays = cfg_size(cfg, "relay");
    uint32_t decimates = cfg_size(cfg, "decimate");
    /* calloc: the spec crosses a process boundary and is compared as bytes; its padding must be
     * zero. */
    struct channel_spec *spec = calloc(1, channel_spec_size(relays + decimates));
    if (!spec)
        return -ENOMEM;
    spec->relay_count = relays;
    spec->decimate_count = decimates;
    channel->spec = spec;
    channel->lines = take_lines(reader, SECTION_CHANNEL);
    read_name(reader, cfg, channel->lines->line, spec->name);
    read_keys(reader, cfg, SECTION_CHANNEL, channel->lines, spec);
    adopt_scope(reader, cfg,
                &(struct scoped_address){SECTION_CHANNEL, channel->lines, "listen", &spec->listen},
                spec->interface);
    read_destinations(reader, cfg, DESTINATION_RELAY, channel);
    read_destinations(reader, cfg, DESTINATION_DECIMATE, channel);
    if (cfg_size(cfg, "record") > 0) {
        spec->record.enabled = 1;
        channel->record_lines = take_lines(reader, SECTION_RECORD);
        read_keys(reader, cfg_getsec(cfg, "record"), SECTION_RECORD, channel->record_lines, spec);
    }
    if (cfg_size(cfg, "publishers") > 0) {
        channel->publishers_lines = take_lines(reader, SECTION_PUBLISHERS);
        read_keys(reader, cfg_getsec(cfg, "publishers"), SECTION_PUBLISHERS,
                  channel->publishers_lines, spec);
    }
    if (channel_spec_is_local(spec))
        follow_local(cfg, channel);
    return 0;
}

static void read_single(struct reader *reader, cfg_t *cfg, enum config_section section)
{
    const char *name = config_sections[section].name;
    if (cfg_size(cfg, name) > 0)
        read_keys(reader, cfg_getsec(cfg, name), section, take_lines(reader, section),
                  reader->draft->settings);
    else
        set_defaults(section, reader->draft->settings);
}

/* Beside the control socket. A path that has no room for it is told by the checks. */
static void place_read_socket(struct settings *settings)
{
    const char *control = settings->control_socket, *slash = strrchr(control, '/');
    int folder = slash ? (int)(slash - control) + 1 : 0;
    snprintf(settings->read_socket, sizeof settings->read_socket, "%.*s%s", folder, control,
             READ_SOCKET_NAME);
}

/* Who may give orders may read, and who else is for the configuration to say. */
static void follow_control(const struct config_draft *draft)
{
    struct settings *settings = draft->settings;
    if (!config_draft_read_is_given(draft, "socket"))
        place_read_socket(settings);
    if (!config_draft_read_is_given(draft, "mode"))
        settings->read_mode = settings->control_mode;
    if (!config_draft_read_is_given(draft, "group"))
        memcpy(settings->read_group, settings->control_group, sizeof settings->read_group);
}

/* Nobody has all of them, unless it is said. */
static void share_connections(const struct config_draft *draft)
{
    struct gate_limits *limits = &draft->settings->read_limits;
    limits->connections_given = config_draft_read_is_given(draft, "connections");
    if (!config_draft_read_is_given(draft, "connections_per_user"))
        limits->connections_per_user = (limits->connections + 3) / 4;
}

static int read_tree(struct reader *reader, cfg_t *cfg)
{
    struct config_draft *draft = reader->draft;
    size_t count = cfg_size(cfg, "channel");
    draft->settings = calloc(1, sizeof *draft->settings);
    draft->channels = calloc(count ? count : 1, sizeof *draft->channels);
    if (!draft->settings || !draft->channels)
        return -ENOMEM;
    draft->settings->channels = calloc(count ? count : 1, sizeof *draft->settings->channels);
    if (!draft->settings->channels)
        return -ENOMEM;
    read_keys(reader, cfg, SECTION_ROOT, take_lines(reader, SECTION_ROOT), draft->settings);
    read_single(reader, cfg, SECTION_CONTROL);
    read_single(reader, cfg, SECTION_READ);
    read_single(reader, cfg, SECTION_RESTART);
    follow_control(draft);
    share_connections(draft);
    for (size_t i = 0; i < count; i++) {
        int result =
            read_channel(reader, cfg_getnsec(cfg, "channel", (unsigned)i), &draft->channels[i]);
        if (result < 0)
            return result;
        draft->settings->channels[i] = draft->channels[i].spec;
        draft->settings->channel_count = i + 1;
    }
    return 0;
}

int config_read(const struct config_text *text, struct config_draft *ret,
                struct config_error_list *errors)
{
    static cfg_opt_t options[SECTION_COUNT][OPTIONS_MAX];
    struct reader reader = {.draft = ret, .errors = errors};
    *ret = (struct config_draft){.text = text};

    cfg_t *cfg = cfg_init(build_options(options, SECTION_ROOT), CFGF_NONE);
    if (!cfg)
        return -ENOMEM;
    cfg_set_error_function(cfg, note_parse_error);
    parse_errors = errors;
    int result = cfg_parse_buf(cfg, text->text) == CFG_SUCCESS ? 0 : -EINVAL;
    parse_errors = NULL;
    if (result == 0)
        result = read_tree(&reader, cfg);
    cfg_free(cfg);
    return result;
}
