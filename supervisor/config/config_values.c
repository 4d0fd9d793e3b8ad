/* SPDX-License-Identifier: MIT */
/* The types of values: each reads a text into a struct's member and prints it again. Called key by
 * key while a configuration is read and printed. Must never leave half a value behind: one that is
 * refused leaves the member as it was. */
#include "supervisor/config/config_values.h"

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <net/if.h>
#include <string.h>
#include <sys/types.h>

#include "common/channel_spec.h"
#include "common/monotonic.h"
#include "common/units.h"
#include "supervisor/config/config_addresses.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static void *place_of(const struct config_key *key, void *base)
{
    return (char *)base + key->offset;
}

static const void *value_of(const struct config_key *key, const void *base)
{
    return (const char *)base + key->offset;
}

static int refuse(char why[CONFIG_WHY_SIZE], const char *what)
{
    snprintf(why, CONFIG_WHY_SIZE, "%s", what);
    return -EINVAL;
}

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

/* ---- text, interface, mode ---- */

static int parse_text(const struct config_key *key, const char *text, void *base,
                      char why[CONFIG_WHY_SIZE])
{
    char *to = place_of(key, base);
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

/* One folder has one name, whatever is compared with it. */
static int parse_folder(const struct config_key *key, const char *text, void *base,
                        char why[CONFIG_WHY_SIZE])
{
    char *path = place_of(key, base);
    int error = parse_text(key, text, base, why);
    for (size_t end = error ? 0 : strlen(path); end > 1 && path[end - 1] == '/'; end--)
        path[end - 1] = '\0';
    return error;
}

static int parse_file(const struct config_key *key, const char *text, void *base,
                      char why[CONFIG_WHY_SIZE])
{
    size_t length = strlen(text);
    if (length > 0 && text[length - 1] == '/')
        return refuse(why, "it ends with /, as the name of a folder does: name a file in it");
    return parse_text(key, text, base, why);
}

static int parse_interface(const struct config_key *key, const char *text, void *base,
                           char why[CONFIG_WHY_SIZE])
{
    char *to = place_of(key, base);
    if (*text != '\0' && !interface_name_is_valid(text))
        return refuse(
            why, "no interface can have this name: 1 to 15 characters without space, /, : and %; "
                 "`ip link` lists them");
    memset(to, 0, IF_NAMESIZE);
    memcpy(to, text, strlen(text));
    return 0;
}

static void print_text(FILE *to, const struct config_key *key, const void *base)
{
    print_quoted(to, value_of(key, base));
}

static int parse_mode(const struct config_key *key, const char *text, void *base,
                      char why[CONFIG_WHY_SIZE])
{
    size_t length = strlen(text);
    mode_t mode = 0;
    if (length == 0 || length > 4 || text[strspn(text, "01234567")] != '\0')
        return refuse(why, "not a file mode: write three or four octal digits, like \"0660\"");
    for (; *text; text++)
        mode = mode * 8 + (mode_t)(*text - '0');
    if (mode > 0777)
        return refuse(why, "not a file mode: it must be between 0000 and 0777");
    *(mode_t *)place_of(key, base) = mode;
    return 0;
}

static void print_mode(FILE *to, const struct config_key *key, const void *base)
{
    fprintf(to, "\"0%03o\"", (unsigned)*(const mode_t *)value_of(key, base));
}

/* ---- amounts: whatever has a least and a most ---- */

struct amount_kind {
    int (*parse)(const char *text, uint64_t *ret);
    void (*print)(uint64_t amount, char *buffer, size_t size); /* limits: in the key's own unit */
    const char *refusal;
};

static int parse_whole_number(const char *text, uint64_t *ret)
{
    /* A size without a unit is what a whole number looks like. */
    if (*text == '\0' || text[strspn(text, "0123456789")] != '\0')
        return -EINVAL;
    return units_parse_size(text, ret);
}

static void print_whole_number(uint64_t number, char *buffer, size_t size)
{
    snprintf(buffer, size, "%llu", (unsigned long long)number);
}

static const struct amount_kind a_size = {
    units_parse_size, units_print_size,
    "not a size: write a whole number with K, M or G behind it, like \"32M\""};
static const struct amount_kind a_duration = {
    units_parse_duration, units_print_duration,
    "not a duration: write a whole number with us, ms, s, m, h or d behind it, like \"10s\""};
static const struct amount_kind a_number = {parse_whole_number, print_whole_number,
                                            "not a whole number"};

static int check_range(const struct config_key *key, const struct amount_kind *kind,
                       uint64_t amount, char why[CONFIG_WHY_SIZE])
{
    char low[32], high[32];
    if ((amount >= key->minimum && amount <= key->maximum) || (amount == 0 && key->zero_allowed))
        return 0;
    kind->print(key->minimum, low, sizeof low);
    kind->print(key->maximum, high, sizeof high);
    snprintf(why, CONFIG_WHY_SIZE, "it must be between %s and %s%s", low, high,
             key->zero_allowed ? ", or 0" : "");
    return -EINVAL;
}

static int parse_amount(const struct config_key *key, const struct amount_kind *kind,
                        const char *text, uint64_t *ret, char why[CONFIG_WHY_SIZE])
{
    int result = kind->parse(text, ret);
    if (result < 0)
        return refuse(why, result == -ERANGE ? "the number is too large" : kind->refusal);
    return check_range(key, kind, *ret, why);
}

static void print_amount(FILE *to, const struct amount_kind *kind, uint64_t amount)
{
    char text[32];
    kind->print(amount, text, sizeof text);
    print_quoted(to, text);
}

/* A value that is refused leaves the old one behind. */
static int parse_into(const struct config_key *key, const struct amount_kind *kind,
                      const char *text, void *base, char why[CONFIG_WHY_SIZE])
{
    uint64_t amount;
    if (parse_amount(key, kind, text, &amount, why) < 0)
        return -EINVAL;
    *(uint64_t *)place_of(key, base) = amount;
    return 0;
}

static int parse_size(const struct config_key *key, const char *text, void *base,
                      char why[CONFIG_WHY_SIZE])
{
    return parse_into(key, &a_size, text, base, why);
}

static void print_size(FILE *to, const struct config_key *key, const void *base)
{
    print_amount(to, &a_size, *(const uint64_t *)value_of(key, base));
}

static int parse_duration(const struct config_key *key, const char *text, void *base,
                          char why[CONFIG_WHY_SIZE])
{
    return parse_into(key, &a_duration, text, base, why);
}

static void print_duration(FILE *to, const struct config_key *key, const void *base)
{
    print_amount(to, &a_duration, *(const uint64_t *)value_of(key, base));
}

static int parse_duration_us(const struct config_key *key, const char *text, void *base,
                             char why[CONFIG_WHY_SIZE])
{
    uint64_t ns;
    if (parse_amount(key, &a_duration, text, &ns, why) < 0)
        return -EINVAL;
    if (ns % NS_PER_US != 0)
        return refuse(why, "it must be a whole number of microseconds, like \"50us\"");
    *(uint64_t *)place_of(key, base) = ns / NS_PER_US;
    return 0;
}

static void print_duration_us(FILE *to, const struct config_key *key, const void *base)
{
    print_amount(to, &a_duration, *(const uint64_t *)value_of(key, base) * NS_PER_US);
}

static int parse_number(const struct config_key *key, const char *text, void *base,
                        char why[CONFIG_WHY_SIZE])
{
    uint64_t number;
    if (parse_amount(key, &a_number, text, &number, why) < 0)
        return -EINVAL;
    *(uint32_t *)place_of(key, base) = (uint32_t)number;
    return 0;
}

static void print_number(FILE *to, const struct config_key *key, const void *base)
{
    fprintf(to, "%u", *(const uint32_t *)value_of(key, base));
}

static int parse_number64(const struct config_key *key, const char *text, void *base,
                          char why[CONFIG_WHY_SIZE])
{
    return parse_into(key, &a_number, text, base, why);
}

static void print_number64(FILE *to, const struct config_key *key, const void *base)
{
    fprintf(to, "%llu", (unsigned long long)*(const uint64_t *)value_of(key, base));
}

/* ---- percent, flag, choice ---- */

static int parse_percent(const struct config_key *key, const char *text, void *base,
                         char why[CONFIG_WHY_SIZE])
{
    uint32_t *to = place_of(key, base);
    if (strcmp(text, "0") == 0) {
        *to = 0;
        return 0;
    }
    if (units_parse_percent(text, to) < 0)
        return refuse(why, "not a percentage: write 0% to 100%, like \"5%\" or \"2.5%\"");
    return 0;
}

static void print_percent(FILE *to, const struct config_key *key, const void *base)
{
    uint32_t ppm = *(const uint32_t *)value_of(key, base);
    char text[32] = "0";
    if (ppm != 0)
        units_print_percent(ppm, text, sizeof text);
    print_quoted(to, text);
}

static int parse_flag(const struct config_key *key, const char *text, void *base,
                      char why[CONFIG_WHY_SIZE])
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (strcmp(text, words[i]) == 0) {
            *(uint32_t *)place_of(key, base) = i % 2;
            return 0;
        }
    }
    return refuse(why, "write true or false");
}

static void print_flag(FILE *to, const struct config_key *key, const void *base)
{
    fputs(*(const uint32_t *)value_of(key, base) ? "true" : "false", to);
}

static int parse_choice(const struct config_key *key, const char *text, void *base,
                        char why[CONFIG_WHY_SIZE])
{
    size_t used = (size_t)snprintf(why, CONFIG_WHY_SIZE, "choose one of");
    for (uint32_t i = 0; key->choices[i]; i++) {
        if (strcmp(text, key->choices[i]) == 0) {
            *(uint32_t *)place_of(key, base) = i;
            return 0;
        }
        used += (size_t)snprintf(why + used, CONFIG_WHY_SIZE - used, "%s \"%s\"", i ? "," : "",
                                 key->choices[i]);
    }
    return -EINVAL;
}

static void print_choice(FILE *to, const struct config_key *key, const void *base)
{
    print_quoted(to, key->choices[*(const uint32_t *)value_of(key, base)]);
}

/* ---- addresses ---- */

static int parse_address(const struct config_key *key, const char *text, void *base,
                         char why[CONFIG_WHY_SIZE])
{
    if (*text == '\0' && key->empty_allowed) {
        memset(place_of(key, base), 0, sizeof(union socket_address));
        return 0;
    }
    return config_address_parse(text, place_of(key, base), why);
}

static void print_address(FILE *to, const struct config_key *key, const void *base)
{
    char text[SOCKET_ADDRESS_TEXT_SIZE] = "";
    socket_address_print(value_of(key, base), text, sizeof text);
    print_quoted(to, text);
}

static int parse_host(const struct config_key *key, const char *text, void *base,
                      char why[CONFIG_WHY_SIZE])
{
    return config_address_parse_host(text, place_of(key, base), why);
}

static void print_host(FILE *to, const struct config_key *key, const void *base)
{
    char text[SOCKET_ADDRESS_TEXT_SIZE];
    socket_address_print_host(value_of(key, base), text, sizeof text);
    print_quoted(to, text);
}

/* Of a channel as a whole: an address, or a name that stands in another member. */
static int parse_listen(const struct config_key *key, const char *text, void *base,
                        char why[CONFIG_WHY_SIZE])
{
    (void)key;
    return config_address_parse_listen(text, base, why);
}

/* Without the interface, which is a key of its own. */
static void print_listen(FILE *to, const struct config_key *key, const void *base)
{
    char text[SOCKET_ADDRESS_TEXT_SIZE];
    if (channel_spec_is_local(base)) {
        channel_spec_print_listen(base, text, sizeof text);
        print_quoted(to, text);
    } else
        print_address(to, key, base);
}

/* ---- a group, kept as its number ---- */

static int parse_group(const struct config_key *key, const char *text, void *base,
                       char why[CONFIG_WHY_SIZE])
{
    uint64_t number;
    const struct group *group = *text ? getgrnam(text) : NULL;
    if (*text == '\0')
        number = UINT32_MAX;
    else if (group)
        number = group->gr_gid;
    else if (parse_whole_number(text, &number) < 0)
        return refuse(why, "there is no such group: make it with groupadd(8)");
    else if (number >= UINT32_MAX)
        return refuse(why, "no group has such a number");
    *(uint32_t *)place_of(key, base) = (uint32_t)number;
    return 0;
}

static void print_group(FILE *to, const struct config_key *key, const void *base)
{
    uint32_t number = *(const uint32_t *)value_of(key, base);
    const struct group *group = number != UINT32_MAX ? getgrgid(number) : NULL;
    char text[16] = "";
    if (number != UINT32_MAX)
        print_whole_number(number, text, sizeof text);
    print_quoted(to, group ? group->gr_name : text);
}

/* ---- a list of CPUs, one at a time ---- */

static int parse_cpu(const struct config_key *key, const char *text, void *base,
                     char why[CONFIG_WHY_SIZE])
{
    uint64_t *set = place_of(key, base);
    uint64_t cpu;
    if (parse_whole_number(text, &cpu) < 0)
        return refuse(why, "not a CPU's number: write a list like {2, 3}");
    if (check_range(key, &a_number, cpu, why) < 0)
        return -EINVAL;
    set[cpu / 64] |= 1ull << cpu % 64;
    return 0;
}

static void print_cpus(FILE *to, const struct config_key *key, const void *base)
{
    const uint64_t *set = value_of(key, base);
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

/* ---- each type a row ---- */

static const struct {
    int (*parse)(const struct config_key *key, const char *text, void *base,
                 char why[CONFIG_WHY_SIZE]);
    void (*print)(FILE *to, const struct config_key *key, const void *base);
} types[TYPE_COUNT] = {
    [TYPE_TEXT] = {parse_text, print_text},
    [TYPE_FOLDER] = {parse_folder, print_text},
    [TYPE_FILE] = {parse_file, print_text},
    [TYPE_INTERFACE] = {parse_interface, print_text},
    [TYPE_MODE] = {parse_mode, print_mode},
    [TYPE_SIZE] = {parse_size, print_size},
    [TYPE_DURATION] = {parse_duration, print_duration},
    [TYPE_DURATION_US] = {parse_duration_us, print_duration_us},
    [TYPE_PERCENT] = {parse_percent, print_percent},
    [TYPE_NUMBER] = {parse_number, print_number},
    [TYPE_NUMBER64] = {parse_number64, print_number64},
    [TYPE_FLAG] = {parse_flag, print_flag},
    [TYPE_CHOICE] = {parse_choice, print_choice},
    [TYPE_ADDRESS] = {parse_address, print_address},
    [TYPE_HOST] = {parse_host, print_host},
    [TYPE_LISTEN] = {parse_listen, print_listen},
    [TYPE_GROUP] = {parse_group, print_group},
    [TYPE_CPUS] = {parse_cpu, print_cpus},
};

int config_value_parse(const struct config_key *key, const char *text, void *base,
                       char why[CONFIG_WHY_SIZE])
{
    if (*text == '\0' && key->empty_allowed && key->type != TYPE_TEXT)
        text = key->default_text;
    return types[key->type].parse(key, text, base, why);
}

void config_value_set_default(const struct config_key *key, void *base)
{
    char why[CONFIG_WHY_SIZE];
    struct config_key relaxed = *key;
    /* keep_every and max_rate: 0 is "not given", but nobody may write it */
    relaxed.zero_allowed = true;
    /* no CPU is all zero bytes, which is there already */
    if (!key->default_text || key->type == TYPE_CPUS)
        return;
    int result = config_value_parse(&relaxed, key->default_text, base, why);
    assert(result == 0);
    (void)result;
}

void config_value_print(FILE *to, const struct config_key *key, const void *base)
{
    types[key->type].print(to, key, base);
}
