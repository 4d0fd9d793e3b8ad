/* SPDX-License-Identifier: MIT */
/* The table of all configuration keys: type, default, limits and the struct member each one fills.
 * Reading, printing and the list of known keys in error messages come from it; holdfast.conf.5 says
 * the same to people. */
#include "supervisor/config/config_keys.h"

#include <stddef.h>
#include <string.h>

#include "common/channel_spec.h"
#include "common/monotonic.h"
#include "common/read_protocol.h"
#include "supervisor/config/config_values.h"
#include "supervisor/config/settings.h"

#define KIB                     (1ull << 10)
#define MIB                     (1ull << 20)
#define HOUR                    (3600 * NS_PER_S)
#define DAY                     (24 * HOUR)

#define IN(struct_name, member) .offset = offsetof(struct struct_name, member)
#define TEXT_IN(struct_name, member)                                                               \
    IN(struct_name, member), .size = sizeof((struct struct_name *)0)->member

static const struct config_key root_keys[] = {
    {"log_dir", TYPE_FOLDER, TEXT_IN(settings, log_dir), .default_text = "/var/lib/holdfast"},
    {"spare_workers", TYPE_NUMBER, IN(settings, spare_workers), .default_text = "1", .maximum = 64},
    {"hang_timeout", TYPE_DURATION, IN(settings, hang_timeout_ns), .default_text = "2s",
     .minimum = 500 * NS_PER_MS, .maximum = HOUR},
};

static const struct config_key control_keys[] = {
    {"socket", TYPE_FILE, TEXT_IN(settings, control_socket),
     .default_text = "/run/holdfast/control.sock"},
    {"mode", TYPE_MODE, IN(settings, control_mode), .default_text = "0660"},
    {"group", TYPE_TEXT, TEXT_IN(settings, control_group), .default_text = "",
     .empty_allowed = true},
};

/* Where the first three are not given, they follow those of control (config_read.c). */
static const struct config_key read_keys[] = {
    {"socket", TYPE_FILE, TEXT_IN(settings, read_socket), .default_text = READ_SOCKET_DEFAULT},
    {"mode", TYPE_MODE, IN(settings, read_mode), .default_text = "0660"},
    {"group", TYPE_TEXT, TEXT_IN(settings, read_group), .default_text = "", .empty_allowed = true},
    {"tcp", TYPE_ADDRESS, IN(settings, read_tcp), .default_text = "", .empty_allowed = true},
    {"enabled", TYPE_FLAG, IN(settings, read_enabled), .default_text = "true"},
    {"connections", TYPE_NUMBER, IN(settings, read_limits.connections), .default_text = "4096",
     .minimum = 1, .maximum = GATE_CONNECTIONS_MAX},
    {"connections_per_user", TYPE_NUMBER, IN(settings, read_limits.connections_per_user),
     .default_text = "1024", .minimum = 1, .maximum = GATE_CONNECTIONS_MAX},
    {"requests_per_second", TYPE_NUMBER, IN(settings, read_limits.requests_per_second),
     .default_text = "0", .minimum = 10, .maximum = 10000000, .zero_allowed = true},
    {"requests_per_connection", TYPE_NUMBER64, IN(settings, read_limits.requests_per_connection),
     .default_text = "0", .minimum = 16, .maximum = INT64_MAX, .zero_allowed = true},
    {"queue", TYPE_NUMBER, IN(settings, read_limits.queue), .default_text = "8192", .minimum = 1,
     .maximum = 1000000},
    {"lent_per_user", TYPE_NUMBER, IN(settings, read_limits.lent_per_user), .default_text = "4096",
     .minimum = 1, .maximum = 1000000},
    {"sending_per_user", TYPE_SIZE, IN(settings, read_limits.sending_per_user), .default_text = "0",
     .minimum = 64 * KIB, .maximum = INT64_MAX, .zero_allowed = true},
    {"idle_timeout", TYPE_DURATION, IN(settings, read_limits.idle_timeout_ns), .default_text = "0",
     .minimum = NS_PER_S, .maximum = DAY, .zero_allowed = true},
    {"request_timeout", TYPE_DURATION, IN(settings, read_limits.request_timeout_ns),
     .default_text = "1m", .minimum = 100 * NS_PER_MS, .maximum = HOUR, .zero_allowed = true},
    {"grace", TYPE_DURATION, IN(settings, read_limits.grace_ns), .default_text = "1s",
     .maximum = 10 * NS_PER_S},
};

static const struct config_key restart_keys[] = {
    {"healthy_after", TYPE_DURATION, IN(settings, restart.healthy_after_ns), .default_text = "10s",
     .minimum = NS_PER_MS, .maximum = DAY},
    {"first_delay", TYPE_DURATION, IN(settings, restart.first_delay_ns), .default_text = "10ms",
     .minimum = NS_PER_MS, .maximum = DAY},
    {"max_delay", TYPE_DURATION, IN(settings, restart.max_delay_ns), .default_text = "10s",
     .minimum = NS_PER_MS, .maximum = DAY},
    {"give_up_after", TYPE_NUMBER, IN(settings, restart.give_up_after), .default_text = "0",
     .maximum = 1000000},
};

static const char *const mapping_choices[] = {"auto", "double", "mirror", NULL};
static const char *const ring_pages_choices[] = {"normal", "huge", NULL};
static const char *const on_full_choices[] = {"lap", "wait", NULL};

static const struct config_key channel_keys[] = {
    {"listen", TYPE_LISTEN, IN(channel_spec, listen)},
    {"interface", TYPE_INTERFACE, IN(channel_spec, interface), .default_text = "",
     .empty_allowed = true, .needs_socket = true},
    {"source", TYPE_HOST, IN(channel_spec, source), .default_text = "", .empty_allowed = true,
     .needs_socket = true},
    {"receive_buffer", TYPE_SIZE, IN(channel_spec, receive_buffer), .default_text = "32M",
     .minimum = 4 * KIB, .maximum = CHANNEL_RECEIVE_BUFFER_MAX, .needs_socket = true},
    {"max_datagram", TYPE_NUMBER, IN(channel_spec, max_datagram), .default_text = "2048",
     .minimum = 1, .maximum = CHANNEL_DATAGRAM_MAX},
    {"ring_size", TYPE_SIZE, IN(channel_spec, ring_size), .default_text = "32M",
     .minimum = CHANNEL_RING_SIZE_MIN, .maximum = CHANNEL_RING_SIZE_MAX},
    {"mapping", TYPE_CHOICE, IN(channel_spec, mapping), .default_text = "auto",
     .choices = mapping_choices},
    {"ring_pages", TYPE_CHOICE, IN(channel_spec, ring_pages), .default_text = "normal",
     .choices = ring_pages_choices},
    {"receive_offload", TYPE_FLAG, IN(channel_spec, receive_offload), .default_text = "false",
     .needs_socket = true},
    {"busy_poll", TYPE_DURATION_US, IN(channel_spec, busy_poll_us), .default_text = "0",
     .maximum = CHANNEL_BUSY_POLL_MAX_US * NS_PER_US, .needs_socket = true},
    {"batch_delay", TYPE_DURATION_US, IN(channel_spec, batch_delay_us), .default_text = "0",
     .maximum = CHANNEL_BATCH_DELAY_MAX_US * NS_PER_US},
    {"expect", TYPE_DURATION, IN(channel_spec, expect_ns), .default_text = "0", .minimum = NS_PER_S,
     .maximum = 365 * DAY, .zero_allowed = true},
    {"cpus", TYPE_CPUS, IN(channel_spec, cpus), .default_text = "",
     .maximum = CHANNEL_CPUS_MAX - 1},
    {"realtime_priority", TYPE_NUMBER, IN(channel_spec, realtime_priority), .default_text = "0",
     .maximum = 99},
};

/* clang-format off */
#define DESTINATION_KEYS \
    {"to", TYPE_ADDRESS, IN(destination_spec, to)}, \
    {"interface", TYPE_INTERFACE, IN(destination_spec, interface), .default_text = "", .empty_allowed = true}, \
    {"ttl", TYPE_NUMBER, IN(destination_spec, ttl), .default_text = "1", .maximum = 255}, \
    {"loop", TYPE_FLAG, IN(destination_spec, loop), .default_text = "true"}
/* clang-format on */

static const struct config_key relay_keys[] = {DESTINATION_KEYS};

static const struct config_key decimate_keys[] = {
    DESTINATION_KEYS,
    {"keep_every", TYPE_NUMBER64, IN(destination_spec, keep_every), .default_text = "0",
     .minimum = 1, .maximum = CHANNEL_DECIMATE_MAX},
    {"max_rate", TYPE_NUMBER64, IN(destination_spec, max_rate), .default_text = "0", .minimum = 1,
     .maximum = CHANNEL_DECIMATE_MAX},
};

static const struct config_key record_keys[] = {
    {"segment_size", TYPE_SIZE, IN(channel_spec, record.segment_size), .default_text = "256M",
     .minimum = CHANNEL_SEGMENT_SIZE_MIN, .maximum = CHANNEL_SEGMENT_SIZE_MAX},
    {"segment_time", TYPE_DURATION, IN(channel_spec, record.segment_time_ns), .default_text = "1h",
     .minimum = NS_PER_S, .maximum = 365 * DAY, .zero_allowed = true},
    {"sync", TYPE_DURATION, IN(channel_spec, record.sync_ns), .default_text = "1s",
     .minimum = NS_PER_MS, .maximum = HOUR, .zero_allowed = true},
    {"gather", TYPE_DURATION, IN(channel_spec, record.gather_ns), .default_text = "5ms",
     .maximum = CHANNEL_GATHER_MAX_NS},
    {"sync_every", TYPE_NUMBER, IN(channel_spec, record.sync_every), .default_text = "0",
     .maximum = CHANNEL_SYNC_EVERY_MAX},
    {"keep_for", TYPE_DURATION, IN(channel_spec, record.keep_for_ns), .default_text = "0",
     .minimum = NS_PER_S, .maximum = 36500 * DAY, .zero_allowed = true, .empty_allowed = true},
    {"keep_at_most", TYPE_SIZE, IN(channel_spec, record.keep_at_most), .default_text = "0",
     .minimum = MIB, .maximum = INT64_MAX, .zero_allowed = true, .empty_allowed = true},
    {"keep_free", TYPE_PERCENT, IN(channel_spec, record.keep_free_ppm), .default_text = "0",
     .zero_allowed = true, .empty_allowed = true},
    {"on_full", TYPE_CHOICE, IN(channel_spec, record.on_full), .default_text = "lap",
     .choices = on_full_choices},
};

static const struct config_key publishers_keys[] = {
    {"group", TYPE_GROUP, IN(channel_spec, publishers.group), .default_text = "",
     .empty_allowed = true},
    {"most", TYPE_NUMBER, IN(channel_spec, publishers.most), .default_text = "16", .minimum = 1,
     .maximum = CHANNEL_PUBLISHERS_MAX},
    {"outbox_size", TYPE_SIZE, IN(channel_spec, publishers.outbox_size), .default_text = "1M",
     .minimum = CHANNEL_OUTBOX_SIZE_MIN, .maximum = CHANNEL_OUTBOX_SIZE_MAX},
};

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define KEYS(array)     .keys = array, .key_count = COUNT_OF(array)

const struct config_section_info config_sections[SECTION_COUNT] = {
    [SECTION_ROOT] = {"the file", SECTION_COUNT, KEYS(root_keys)},
    [SECTION_CONTROL] = {"control", SECTION_ROOT, KEYS(control_keys)},
    [SECTION_READ] = {"read", SECTION_ROOT, KEYS(read_keys)},
    [SECTION_RESTART] = {"restart", SECTION_ROOT, KEYS(restart_keys)},
    [SECTION_CHANNEL] = {"channel", SECTION_ROOT, .titled = true, KEYS(channel_keys)},
    [SECTION_RELAY] = {"relay", SECTION_CHANNEL, .titled = true, KEYS(relay_keys)},
    [SECTION_DECIMATE] = {"decimate", SECTION_CHANNEL, .titled = true, KEYS(decimate_keys)},
    [SECTION_RECORD] = {"record", SECTION_CHANNEL, KEYS(record_keys)},
    [SECTION_PUBLISHERS] = {"publishers", SECTION_CHANNEL, KEYS(publishers_keys)},
};

_Static_assert(COUNT_OF(channel_keys) <= CONFIG_KEYS_MAX, "the longest table");

const struct config_key *config_find_key(enum config_section section, const char *name)
{
    const struct config_section_info *info = &config_sections[section];
    for (size_t i = 0; i < info->key_count; i++)
        if (strcmp(info->keys[i].name, name) == 0)
            return &info->keys[i];
    return NULL;
}
