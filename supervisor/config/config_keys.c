/* SPDX-License-Identifier: MIT */
/* The table of all configuration keys: type, default, limits and the struct member each one fills.
 * Reading, printing and the list of known keys in error messages come from it; holdfast.conf.5 says
 * the same to people. */
#include "supervisor/config/config_keys.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/channel_spec.h"
#include "common/monotonic.h"
#include "common/units.h"
#include "supervisor/config/settings.h"

#define KIB                     (1ull << 10)
#define MIB                     (1ull << 20)
#define HOUR                    (3600 * NS_PER_S)
#define DAY                     (24 * HOUR)

#define IN(struct_name, member) .offset = offsetof(struct struct_name, member)
#define TEXT_IN(struct_name, member)                                                               \
    IN(struct_name, member), .size = sizeof((struct struct_name *)0)->member

static const struct config_key root_keys[] = {
    {"log_dir", TYPE_TEXT, TEXT_IN(settings, log_dir), .default_text = "/var/lib/holdfast"},
    {"spare_workers", TYPE_NUMBER, IN(settings, spare_workers), .default_text = "1", .maximum = 64},
    {"hang_timeout", TYPE_DURATION, IN(settings, hang_timeout_ns), .default_text = "2s",
     .minimum = 500 * NS_PER_MS, .maximum = HOUR},
};

static const struct config_key control_keys[] = {
    {"socket", TYPE_TEXT, TEXT_IN(settings, control_socket),
     .default_text = "/run/holdfast/control.sock"},
    {"mode", TYPE_MODE, IN(settings, control_mode), .default_text = "0660"},
    {"group", TYPE_TEXT, TEXT_IN(settings, control_group), .default_text = "",
     .empty_allowed = true},
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
static const char *const on_full_choices[] = {"lap", "wait", NULL};

static const struct config_key channel_keys[] = {
    {"listen", TYPE_ADDRESS, IN(channel_spec, listen)},
    {"interface", TYPE_INTERFACE, IN(channel_spec, interface), .default_text = "",
     .empty_allowed = true},
    {"source", TYPE_HOST, IN(channel_spec, source), .default_text = "", .empty_allowed = true},
    {"receive_buffer", TYPE_SIZE, IN(channel_spec, receive_buffer), .default_text = "32M",
     .minimum = 4 * KIB, .maximum = CHANNEL_RECEIVE_BUFFER_MAX},
    {"max_datagram", TYPE_NUMBER, IN(channel_spec, max_datagram), .default_text = "2048",
     .minimum = 1, .maximum = CHANNEL_DATAGRAM_MAX},
    {"ring_size", TYPE_SIZE, IN(channel_spec, ring_size), .default_text = "32M",
     .minimum = CHANNEL_RING_SIZE_MIN, .maximum = CHANNEL_RING_SIZE_MAX},
    {"mapping", TYPE_CHOICE, IN(channel_spec, mapping), .default_text = "auto",
     .choices = mapping_choices},
    {"receive_offload", TYPE_FLAG, IN(channel_spec, receive_offload), .default_text = "false"},
    {"busy_poll", TYPE_DURATION_US, IN(channel_spec, busy_poll_us), .default_text = "0",
     .maximum = CHANNEL_BUSY_POLL_MAX_US * NS_PER_US},
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
    {"keep_for", TYPE_DURATION, IN(channel_spec, record.keep_for_ns), .default_text = "0",
     .minimum = NS_PER_S, .maximum = 36500 * DAY, .zero_allowed = true, .empty_allowed = true},
    {"keep_at_most", TYPE_SIZE, IN(channel_spec, record.keep_at_most), .default_text = "0",
     .minimum = MIB, .maximum = INT64_MAX, .zero_allowed = true, .empty_allowed = true},
    {"keep_free", TYPE_PERCENT, IN(channel_spec, record.keep_free_ppm), .default_text = "0",
     .zero_allowed = true, .empty_allowed = true},
    {"on_full", TYPE_CHOICE, IN(channel_spec, record.on_full), .default_text = "lap",
     .choices = on_full_choices},
};

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define KEYS(array)     .keys = array, .key_count = COUNT_OF(array)

const struct config_section_info config_sections[SECTION_COUNT] = {
    [SECTION_ROOT] = {"the file", SECTION_COUNT, KEYS(root_keys)},
    [SECTION_CONTROL] = {"control", SECTION_ROOT, KEYS(control_keys)},
    [SECTION_RESTART] = {"restart", SECTION_ROOT, KEYS(restart_keys)},
    [SECTION_CHANNEL] = {"channel", SECTION_ROOT, .titled = true, KEYS(channel_keys)},
    [SECTION_RELAY] = {"relay", SECTION_CHANNEL, .titled = true, KEYS(relay_keys)},
    [SECTION_DECIMATE] = {"decimate", SECTION_CHANNEL, .titled = true, KEYS(decimate_keys)},
    [SECTION_RECORD] = {"record", SECTION_CHANNEL, KEYS(record_keys)},
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

/* ---- from text ---- */

static int refuse(char why[CONFIG_WHY_SIZE], const char *what)
{
    snprintf(why, CONFIG_WHY_SIZE, "%s", what);
    return -EINVAL;
}

/* The number as a user would write it: limits in messages are in the key's own unit. */
static void print_amount(const struct config_key *key, uint64_t value, char *buffer, size_t size)
{
    if (key->type == TYPE_SIZE)
        units_print_size(value, buffer, size);
    else if (key->type == TYPE_DURATION || key->type == TYPE_DURATION_US)
        units_print_duration(value, buffer, size);
    else
        snprintf(buffer, size, "%llu", (unsigned long long)value);
}

static int check_range(const struct config_key *key, uint64_t value, char why[CONFIG_WHY_SIZE])
{
    char low[32], high[32];
    if ((value >= key->minimum && value <= key->maximum) || (value == 0 && key->zero_allowed))
        return 0;
    print_amount(key, key->minimum, low, sizeof low);
    print_amount(key, key->maximum, high, sizeof high);
    snprintf(why, CONFIG_WHY_SIZE, "it must be between %s and %s%s", low, high,
             key->zero_allowed ? ", or 0" : "");
    return -EINVAL;
}

static int parse_whole_number(const char *text, uint64_t *ret)
{
    /* A size without a unit is what a whole number looks like. */
    if (*text == '\0' || text[strspn(text, "0123456789")] != '\0')
        return -EINVAL;
    return units_parse_size(text, ret);
}

static const char amount_too_large[] = "the number is too large";

static int parse_amount(const struct config_key *key, const char *text, uint64_t *ret,
                        char why[CONFIG_WHY_SIZE])
{
    int result;
    const char *what;
    switch (key->type) {
    case TYPE_SIZE:
        result = units_parse_size(text, ret);
        what = "not a size: write a whole number with K, M or G behind it, like \"32M\"";
        break;
    case TYPE_DURATION:
    case TYPE_DURATION_US:
        result = units_parse_duration(text, ret);
        what = "not a duration: write a whole number with us, ms, s, m, h or d behind it, like "
               "\"10s\"";
        break;
    default:
        result = parse_whole_number(text, ret);
        what = "not a whole number";
        break;
    }
    if (result < 0)
        return refuse(why, result == -ERANGE ? amount_too_large : what);
    return check_range(key, *ret, why);
}

static int parse_text(const struct config_key *key, const char *text, char *to,
                      char why[CONFIG_WHY_SIZE])
{
    if (*text == '\0' && !key->empty_allowed)
        return refuse(why, "it must not be empty");
    if (strlen(text) >= key->size) {
        snprintf(why, CONFIG_WHY_SIZE, "it is longer than %zu bytes: choose a shorter one",
                 key->size - 1);
        return -EINVAL;
    }
    memset(to, 0, key->size);
    memcpy(to, text, strlen(text));
    return 0;
}

static int parse_interface(const char *text, char to[IF_NAMESIZE], char why[CONFIG_WHY_SIZE])
{
    if (*text != '\0' && !interface_name_is_valid(text))
        return refuse(
            why, "no interface can have this name: 1 to 15 characters without space, /, : and %; "
                 "`ip link` lists them");
    memset(to, 0, IF_NAMESIZE);
    memcpy(to, text, strlen(text));
    return 0;
}

static int parse_mode(const char *text, mode_t *to, char why[CONFIG_WHY_SIZE])
{
    size_t length = strlen(text);
    mode_t mode = 0;
    if (length == 0 || length > 4 || text[strspn(text, "01234567")] != '\0')
        return refuse(why, "not a file mode: write three or four octal digits, like \"0660\"");
    for (; *text; text++)
        mode = mode * 8 + (mode_t)(*text - '0');
    if (mode > 0777)
        return refuse(why, "not a file mode: it must be between 0000 and 0777");
    *to = mode;
    return 0;
}

static int parse_percent(const char *text, uint32_t *to, char why[CONFIG_WHY_SIZE])
{
    if (strcmp(text, "0") == 0) {
        *to = 0;
        return 0;
    }
    if (units_parse_percent(text, to) < 0)
        return refuse(why, "not a percentage: write 0% to 100%, like \"5%\" or \"2.5%\"");
    return 0;
}

static int parse_flag(const char *text, uint32_t *to, char why[CONFIG_WHY_SIZE])
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            *to = i % 2;
            return 0;
        }
    }
    return refuse(why, "write true or false");
}

static int parse_choice(const struct config_key *key, const char *text, uint32_t *to,
                        char why[CONFIG_WHY_SIZE])
{
    size_t used = (size_t)snprintf(why, CONFIG_WHY_SIZE, "choose one of");
    for (uint32_t i = 0; key->choices[i]; i++) {
        if (strcmp(text, key->choices[i]) == 0) {
            *to = i;
            return 0;
        }
        used += (size_t)snprintf(why + used, CONFIG_WHY_SIZE - used, "%s \"%s\"", i ? "," : "",
                                 key->choices[i]);
    }
    return -EINVAL;
}

static int parse_address(const struct config_key *key, const char *text, union socket_address *to,
                         char why[CONFIG_WHY_SIZE])
{
    bool host = key->type == TYPE_HOST;
    union socket_address address;
    if (host && *text == '\0') {
        memset(to, 0, sizeof *to);
        return 0;
    }
    int result =
        host ? socket_address_parse_host(text, &address) : socket_address_parse(text, &address);
    if (result == -ENODEV)
        return refuse(why, "there is no interface of the name after % now; `ip link` lists them");
    if (result < 0)
        return refuse(
            why,
            host ? "not an address: write 10.0.0.7 or fe80::1%eth0, without a port and no host name"
                 : "not an address with port: write 10.0.0.7:26000 or [::1]:26000; host names are "
                   "not looked up");
    if (address.family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&address.v6.sin6_addr))
        return refuse(why, "an IPv4 address in IPv6 form: write it as IPv4");
    *to = address;
    return 0;
}

static int parse_cpu(const struct config_key *key, const char *text, uint64_t *set,
                     char why[CONFIG_WHY_SIZE])
{
    uint64_t cpu;
    if (parse_whole_number(text, &cpu) < 0)
        return refuse(why, "not a CPU's number: write a list like {2, 3}");
    if (check_range(key, cpu, why) < 0)
        return -EINVAL;
    set[cpu / 64] |= 1ull << cpu % 64;
    return 0;
}

int config_key_parse(const struct config_key *key, const char *text, void *base,
                     char why[CONFIG_WHY_SIZE])
{
    void *to = (char *)base + key->offset;
    uint64_t amount;

    if (*text == '\0' && key->empty_allowed && key->type != TYPE_TEXT)
        text = key->default_text;
    switch (key->type) {
    case TYPE_TEXT:
        return parse_text(key, text, to, why);
    case TYPE_INTERFACE:
        return parse_interface(text, to, why);
    case TYPE_MODE:
        return parse_mode(text, to, why);
    case TYPE_PERCENT:
        return parse_percent(text, to, why);
    case TYPE_FLAG:
        return parse_flag(text, to, why);
    case TYPE_CHOICE:
        return parse_choice(key, text, to, why);
    case TYPE_ADDRESS:
    case TYPE_HOST:
        return parse_address(key, text, to, why);
    case TYPE_CPUS:
        return parse_cpu(key, text, to, why);
    case TYPE_SIZE:
    case TYPE_DURATION:
    case TYPE_DURATION_US:
    case TYPE_NUMBER:
    case TYPE_NUMBER64:
        break;
    }
    if (parse_amount(key, text, &amount, why) < 0)
        return -EINVAL;
    if (key->type == TYPE_DURATION_US && amount % NS_PER_US != 0)
        return refuse(why, "it must be a whole number of microseconds, like \"50us\"");
    if (key->type == TYPE_DURATION_US)
        amount /= NS_PER_US;
    if (key->type == TYPE_NUMBER)
        *(uint32_t *)to = (uint32_t)amount;
    else
        *(uint64_t *)to = amount;
    return 0;
}

void config_key_set_default(const struct config_key *key, void *base)
{
    char why[CONFIG_WHY_SIZE];
    struct config_key relaxed = *key;
    relaxed.zero_allowed =
        true; /* keep_every and max_rate: 0 is "not given", but nobody may write it */
    if (!key->default_text ||
        key->type == TYPE_CPUS) /* nothing is all zero bytes, which is there already */
        return;
    int result = config_key_parse(&relaxed, key->default_text, base, why);
    assert(result == 0);
    (void)result;
}

/* ---- to text ---- */

/* Quoted so that libconfuse reads the same bytes back: it substitutes ${...} and knows \xNN. */
static void print_quoted(FILE *to, const char *text)
{
    putc('"', to);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\' || *text == '$')
            fprintf(to, "\\%c", *text);
        else if ((unsigned char)*text < ' ' || *text == 0x7f)
            fprintf(to, "\\x%02x", (unsigned char)*text);
        else
            putc(*text, to);
    }
    putc('"', to);
}

static void print_cpus(FILE *to, const uint64_t *set)
{
    bool first = true;
    putc('{', to);
    for (unsigned cpu = 0; cpu < CHANNEL_CPUS_MAX; cpu++) {
        if (set[cpu / 64] >> cpu % 64 & 1) {
            fprintf(to, "%s%u", first ? "" : ", ", cpu);
            first = false;
        }
    }
    putc('}', to);
}

void config_key_print(FILE *to, const struct config_key *key, const void *base)
{
    const void *from = (const char *)base + key->offset;
    char text[SOCKET_ADDRESS_TEXT_SIZE] = "";

    switch (key->type) {
    case TYPE_NUMBER:
        fprintf(to, "%u", *(const uint32_t *)from);
        return;
    case TYPE_NUMBER64:
        fprintf(to, "%llu", (unsigned long long)*(const uint64_t *)from);
        return;
    case TYPE_FLAG:
        fputs(*(const uint32_t *)from ? "true" : "false", to);
        return;
    case TYPE_CPUS:
        print_cpus(to, from);
        return;
    case TYPE_TEXT:
    case TYPE_INTERFACE:
        print_quoted(to, from);
        return;
    case TYPE_CHOICE:
        print_quoted(to, key->choices[*(const uint32_t *)from]);
        return;
    case TYPE_MODE:
        snprintf(text, sizeof text, "0%03o", (unsigned)*(const mode_t *)from);
        break;
    case TYPE_SIZE:
        units_print_size(*(const uint64_t *)from, text, sizeof text);
        break;
    case TYPE_DURATION:
        units_print_duration(*(const uint64_t *)from, text, sizeof text);
        break;
    case TYPE_DURATION_US:
        units_print_duration(*(const uint64_t *)from * NS_PER_US, text, sizeof text);
        break;
    case TYPE_PERCENT:
        if (*(const uint32_t *)from == 0)
            snprintf(text, sizeof text, "0");
        else
            units_print_percent(*(const uint32_t *)from, text, sizeof text);
        break;
    case TYPE_ADDRESS:
        socket_address_print(from, text, sizeof text);
        break;
    case TYPE_HOST:
        socket_address_print_host(from, text, sizeof text);
        break;
    }
    print_quoted(to, text);
}
