/* SPDX-License-Identifier: MIT */
/* holdfastctl's options, help and the check of a verb's arguments. Called by main, once. Usage
 * errors say what would have been right. */
#include "supervisor/ctl/ctl_options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/control_protocol.h"
#include "common/monotonic.h"
#include "common/units.h"
#include "supervisor/ctl/ctl_text.h"

#define TIMEOUT_DEFAULT_NS (10 * NS_PER_S)

enum option_id {
    OPTION_SOCKET,
    OPTION_JSON,
    OPTION_NO_WAIT,
    OPTION_TIMEOUT,
    OPTION_WATCH,
    OPTION_VERBOSE,
    OPTION_OUTPUT,
    OPTION_READ_SOCKET,
    OPTION_FROM,
    OPTION_TO,
    OPTION_UNTIL,
    OPTION_SOURCE,
    OPTION_FOLLOW,
    OPTION_COUNT_OF, /* --count */
    OPTION_POSITION,
    OPTION_STRICT,
    OPTION_FORMAT,
    OPTION_FORCE,
    OPTION_HOW,
    OPTION_RATE,
    OPTION_LOOP,
    OPTION_INTERFACE,
    OPTION_TTL,
    OPTION_SKIP_SILENCE,
    OPTION_LINES,
    OPTION_SIZE,
    OPTION_DURABLE,
    OPTION_HELP,
    OPTION_VERSION,
    OPTION_COUNT
};

#define TEXT(member) offsetof(struct ctl_command, member), true, false
#define FLAG(member) offsetof(struct ctl_command, member), false, true

static const struct option_info {
    const char *name;  /* as complaints call it */
    const char *usage; /* the long name is in it */
    const char *help;
    size_t at; /* in the command: the text or the flag; 0 where take_option() knows more */
    bool takes_text, is_flag;
    char letter; /* or 0 */
} option_infos[OPTION_COUNT] = {
    /* clang-format off */
    [OPTION_SOCKET] = {"--socket", "--socket PATH", "the control socket", TEXT(options.socket), 0},
    [OPTION_JSON] = {"--json", "--json", "print the result as JSON", FLAG(options.json), 0},
    [OPTION_NO_WAIT] = {"--no-wait", "--no-wait", "what changes something: return when it is accepted",
                        FLAG(options.no_wait), 0},
    [OPTION_TIMEOUT] = {"--timeout", "--timeout TIME", "wait at most so long: 500ms, 30s, 2m; default 10s",
                        0, true, false, 0},
    [OPTION_WATCH] = {"--watch", "--watch", "status: once a second, on a terminal", FLAG(options.watch), 0},
    [OPTION_VERBOSE] = {"--verbose", "-v, --verbose", "status CHANNEL: with what each counter means",
                        FLAG(options.verbose), 'v'},
    [OPTION_OUTPUT] = {"-o", "-o, --output OUT", "a file, or -; cat: short, json, csv, hex or raw", TEXT(output), 'o'},
    [OPTION_READ_SOCKET] = {"--read-socket", "--read-socket PATH", "the socket for readers, or tcp:HOST:PORT", TEXT(read_socket), 0},
    [OPTION_FROM] = {"--from", "--from WHERE", "first, new (with -f), seq:N or a time, such as -5min", TEXT(from), 0},
    [OPTION_TO] = {"--to", "--to WHERE", "the end: seq:N or a time; replay: an address, too", 0, true, false, 0},
    [OPTION_UNTIL] = {"--until", "--until WHERE", "the end, too", TEXT(until), 0},
    [OPTION_SOURCE] = {"--source", "--source ADDR[:PORT]", "only what this sender sent", TEXT(source), 0},
    [OPTION_FOLLOW] = {"--follow", "-f, --follow", "cat: go on with what comes", FLAG(follow), 'f'},
    [OPTION_COUNT_OF] = {"--count", "-n, --count N", "cat: so many datagrams at most", TEXT(count), 'n'},
    [OPTION_POSITION] = {"--position", "--position NAME", "cat: go on where this reader ended, and keep that",
                         TEXT(position), 0},
    [OPTION_STRICT] = {"--strict", "--strict", "end at the first loss, with exit status 1", FLAG(strict), 0},
    [OPTION_FORMAT] = {"--format", "--format FORMAT", "export: pcapng, csv, json or avro", TEXT(format), 0},
    [OPTION_FORCE] = {"--force", "--force", "export, fetch: replace a file that is there", FLAG(force), 0},
    [OPTION_HOW] = {"--how", "--how HOW", "fetch: by fd, copy or splice", TEXT(how), 0},
    [OPTION_RATE] = {"--rate", "--rate R", "replay: so many times as fast, or max", TEXT(rate), 0},
    [OPTION_LOOP] = {"--loop", "--loop N", "replay: so often; 0 is for ever", TEXT(loop), 0},
    [OPTION_INTERFACE] = {"--interface", "--interface IF", "replay: send through this interface", TEXT(interface), 0},
    [OPTION_TTL] = {"--ttl", "--ttl N", "replay: so many routers, multicast; default 1", TEXT(ttl), 0},
    [OPTION_SKIP_SILENCE] = {"--skip-silence", "--skip-silence TIME", "replay: no silence is longer than this",
                             TEXT(skip_silence), 0},
    [OPTION_LINES] = {"--lines", "--lines", "publish: each line is a datagram; that is the default", FLAG(lines), 0},
    [OPTION_SIZE] = {"--size", "--size N", "publish: so many bytes are a datagram", TEXT(size), 0},
    [OPTION_DURABLE] = {"--durable", "--durable", "publish: end when all of it is on the disk", FLAG(durable), 0},
    [OPTION_HELP] = {"--help", "-h, --help", "print this", 0, false, false, 'h'},
    [OPTION_VERSION] = {"--version", "--version", "print the version", 0, false, false, 0},
    /* clang-format on */
};

#define BIT(option) (1U << (option))
#define BIT_RANGE   (BIT(OPTION_FROM) | BIT(OPTION_TO) | BIT(OPTION_UNTIL) | BIT(OPTION_SOURCE))

static const unsigned options_of_verb[VERB_COUNT] = {
    [VERB_status] = BIT(OPTION_WATCH) | BIT(OPTION_VERBOSE),
    [VERB_recover] = BIT(OPTION_OUTPUT),
    [VERB_info] = BIT(OPTION_READ_SOCKET) | BIT_RANGE,
    [VERB_cat] = BIT(OPTION_READ_SOCKET) | BIT_RANGE | BIT(OPTION_FOLLOW) | BIT(OPTION_COUNT_OF) |
                 BIT(OPTION_OUTPUT) | BIT(OPTION_POSITION) | BIT(OPTION_STRICT),
    [VERB_export] = BIT(OPTION_READ_SOCKET) | BIT_RANGE | BIT(OPTION_FORMAT) | BIT(OPTION_OUTPUT) |
                    BIT(OPTION_FORCE) | BIT(OPTION_STRICT),
    [VERB_replay] = BIT(OPTION_READ_SOCKET) | BIT_RANGE | BIT(OPTION_RATE) | BIT(OPTION_LOOP) |
                    BIT(OPTION_INTERFACE) | BIT(OPTION_TTL) | BIT(OPTION_SKIP_SILENCE),
    [VERB_logs] = BIT(OPTION_READ_SOCKET),
    [VERB_fetch] =
        BIT(OPTION_READ_SOCKET) | BIT(OPTION_OUTPUT) | BIT(OPTION_FORCE) | BIT(OPTION_HOW),
    [VERB_publish] =
        BIT(OPTION_READ_SOCKET) | BIT(OPTION_LINES) | BIT(OPTION_SIZE) | BIT(OPTION_DURABLE),
    [VERB_positions] = BIT(OPTION_READ_SOCKET),
    [VERB_forget] = BIT(OPTION_READ_SOCKET),
    [VERB_readers] = BIT(OPTION_READ_SOCKET),
};

/* A bit for each option that the verb has. The socket may be named for all, as in the
 * environment. */
static unsigned options_of(enum control_verb_id verb)
{
    unsigned set = options_of_verb[verb] | BIT(OPTION_SOCKET) | BIT(OPTION_JSON) | BIT(OPTION_HELP);
    if (control_verb_infos[verb].effect != OFFLINE)
        set |= BIT(OPTION_TIMEOUT);
    if (control_verb_infos[verb].effect == CHANGES)
        set |= BIT(OPTION_NO_WAIT);
    return set;
}

static const char *arguments_text(enum control_verb_arguments arguments)
{
    switch (arguments) {
    case NO_ARGUMENT:
        return "";
    case MAYBE_CHANNEL:
        return " [CHANNEL]";
    case ONE_CHANNEL:
        return " CHANNEL";
    case FILES:
        return " FILE...";
    case SOURCES:
        return " CHANNEL|FILE...";
    case MAYBE_SOURCES:
        return " [CHANNEL|FILE...]";
    case CHANNEL_AND_NAME:
        return " CHANNEL NAME";
    case CHANNEL_AND_NAMES:
        return " CHANNEL NAME...";
    }
    return "";
}

static void print_help(void)
{
    puts("usage: holdfastctl [OPTION]... VERB [ARGUMENT]...\n"
         "Ask or command a running holdfastd, read recordings, or work on log files.\n");
    for (int verb = 0; verb < VERB_COUNT; verb++) {
        const struct control_verb_info *info = &control_verb_infos[verb];
        char usage[64];
        if (info->visibility == HIDDEN)
            continue;
        snprintf(usage, sizeof usage, "%s%s", info->name, arguments_text(info->arguments));
        printf("  %-23s %s\n", usage, info->help);
    }
    putchar('\n');
    for (int option = 0; option < OPTION_COUNT; option++)
        printf("  %-23s %s\n", option_infos[option].usage, option_infos[option].help);
    printf("\n"
           "Options may stand anywhere; what comes behind -- is none. To read, a FILE is a\n"
           "log file or a folder; it has a slash in it, or ends in .avro or .avro.open.\n"
           "The socket is else $%s, or %s.\n"
           "\n"
           "Exit status: 0 yes, done; 1 no, not healthy, not reached; 2 wrong usage;\n"
           "3 no holdfastd to ask.\n"
           "Manual: holdfastctl(1)\n",
           CONTROL_SOCKET_VARIABLE, CONTROL_SOCKET_DEFAULT);
}

static int usage_error(void)
{
    fputs("'holdfastctl --help' shows what there is\n", stderr);
    return CTL_USAGE;
}

static int take_timeout(struct ctl_options *options, const char *text)
{
    if (units_parse_duration(text, &options->timeout_ns) == 0 && options->timeout_ns > 0 &&
        options->timeout_ns <= 24 * 3600 * NS_PER_S)
        return CTL_OK;
    ctl_complain("--timeout %s: give a time with its unit, more than 0 and at most 1d, for example "
                 "500ms, 30s or 2m",
                 text);
    return usage_error();
}

/* ---- the line ---- */

struct line {
    struct ctl_command *command;
    unsigned given;   /* a bit for each option */
    char **arguments; /* what is no option: the verb first */
    int argument_count;
};

static int complain_unknown(const char *word)
{
    ctl_complain("there is no option '%s'; a file whose name begins with '-' comes behind '--'",
                 word);
    return usage_error();
}

static int take_to(struct line *line)
{
    struct ctl_command *command = line->command;
    if (command->to_count == (int)(sizeof command->to / sizeof *command->to)) {
        ctl_complain("--to %s: this is once too often: replay takes an address and an end, and the "
                     "other verbs an end",
                     optarg);
        return usage_error();
    }
    command->to[command->to_count++] = optarg;
    return CTL_OK;
}

static int take_option(struct line *line, enum option_id option)
{
    const struct option_info *info = &option_infos[option];
    char *to = (char *)line->command + info->at;
    line->given |= BIT(option);
    if (info->takes_text && optarg[0] == '\0') {
        ctl_complain("%s: what stands behind it is empty", info->name);
        return usage_error();
    }
    switch (option) {
    case OPTION_TIMEOUT:
        return take_timeout(&line->command->options, optarg);
    case OPTION_TO:
        return take_to(line);
    case OPTION_HELP:
        print_help();
        return -1;
    case OPTION_VERSION:
        puts("holdfastctl " HOLDFAST_VERSION);
        return -1;
    default:
        break;
    }
    if (info->takes_text)
        memcpy(to, &optarg, sizeof optarg);
    else
        *(bool *)to = true;
    return CTL_OK;
}

/* Long options give OPTION_LONG + their number, so that no letter is one of these. */
#define OPTION_LONG 256

static int take_letter(struct line *line, int letter)
{
    for (int option = 0; option < OPTION_COUNT; option++)
        if (option_infos[option].letter == letter)
            return take_option(line, (enum option_id)option);
    return CTL_USAGE;
}

/* getopt's answer, the word that it has looked at last. */
static int take_word(struct line *line, int answer, char *word)
{
    switch (answer) {
    case 1: /* no option */
        line->arguments[line->argument_count++] = optarg;
        return CTL_OK;
    case ':':
        ctl_complain("something is missing behind '%s'", word);
        return usage_error();
    case '?':
        if (optopt >= OPTION_LONG) {
            ctl_complain("'%s': this option takes no value", word);
            return usage_error();
        }
        return complain_unknown(word);
    default:
        return answer < OPTION_LONG ? take_letter(line, answer)
                                    : take_option(line, (enum option_id)(answer - OPTION_LONG));
    }
}

#define LONG_NAME_SIZE 24

/* "-v, --verbose" -> "verbose", "--socket PATH" -> "socket" */
static void name_options(char names[OPTION_COUNT][LONG_NAME_SIZE],
                         struct option ret_known[OPTION_COUNT + 1])
{
    for (int option = 0; option < OPTION_COUNT; option++) {
        const char *name = strstr(option_infos[option].usage, "--") + 2;
        snprintf(names[option], LONG_NAME_SIZE, "%.*s", (int)strcspn(name, " "), name);
        ret_known[option] = (struct option){
            names[option], option_infos[option].takes_text ? required_argument : no_argument, NULL,
            OPTION_LONG + option};
    }
    ret_known[OPTION_COUNT] = (struct option){0};
}

static int take_line(struct line *line, int argc, char **argv)
{
    char names[OPTION_COUNT][LONG_NAME_SIZE];
    struct option known[OPTION_COUNT + 1];
    int answer, status = CTL_OK;
    name_options(names, known);
    line->arguments = argv; /* overwritten from the front, never ahead of getopt */
    optind = 0;             /* begin anew: tests come here more than once */
    opterr = 0;
    /* "-": in the order of the line, whatever $POSIXLY_CORRECT says. */
    while (status == CTL_OK) {
        int at = optind > 0 ? optind : 1;
        answer = getopt_long(argc, argv, "-:hvo:fn:", known, NULL);
        if (answer == -1)
            break;
        status = take_word(line, answer, argv[at]);
    }
    for (; status == CTL_OK && optind < argc; optind++)
        line->arguments[line->argument_count++] = argv[optind];
    return status;
}

static int check_options(const struct line *line, enum control_verb_id verb)
{
    unsigned has = options_of(verb);
    char list[256] = "";
    for (int option = 0; option < OPTION_COUNT; option++)
        if (has >> option & 1)
            snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", list[0] ? ", " : "",
                     option_infos[option].name);
    for (int option = 0; option < OPTION_COUNT; option++)
        if (line->given & ~has & 1U << option) {
            ctl_complain("%s is no option of %s, which has: %s", option_infos[option].name,
                         control_verb_infos[verb].name, list);
            return usage_error();
        }
    return CTL_OK;
}

static int take_verb(const char *name, enum control_verb_id *ret)
{
    char list[512];
    *ret = control_verb_find(name);
    if (*ret != VERB_COUNT)
        return CTL_OK;
    control_verb_list(true, list, sizeof list);
    ctl_complain("there is no verb '%s'; there are: %s", name, list);
    return CTL_USAGE;
}

/* argv: what follows the verb. */
static int take_arguments(struct ctl_command *command, int argc, char **argv)
{
    const struct control_verb_info *info = &control_verb_infos[command->verb];
    static const struct {
        int least, most;
    } counts[] = {
        [NO_ARGUMENT] = {0, 0},
        [MAYBE_CHANNEL] = {0, 1},
        [ONE_CHANNEL] = {1, 1},
        [FILES] = {0, INT_MAX}, /* the verb itself says what is missing */
        [SOURCES] = {1, INT_MAX},
        [MAYBE_SOURCES] = {0, INT_MAX},
        [CHANNEL_AND_NAME] = {2, 2},
        [CHANNEL_AND_NAMES] = {2, INT_MAX},
    };
    if (argc > counts[info->arguments].most || argc < counts[info->arguments].least) {
        ctl_complain("usage: holdfastctl %s%s", info->name, arguments_text(info->arguments));
        return usage_error();
    }
    if (counts[info->arguments].most == INT_MAX) {
        command->files = argv;
        command->file_count = argc;
        return CTL_OK;
    }
    command->channel = argc > 0 ? argv[0] : NULL;
    if (info->arguments == CHANNEL_AND_NAME)
        command->position = argv[1];
    if (command->options.watch && (command->options.json || !isatty(STDOUT_FILENO))) {
        ctl_complain("--watch draws on a terminal, and not with --json");
        return usage_error();
    }
    return CTL_OK;
}

static void set_defaults(struct ctl_options *options)
{
    const char *from_environment = getenv(CONTROL_SOCKET_VARIABLE), *no_colour = getenv("NO_COLOR");
    const char *terminal = getenv("TERM");
    *options = (struct ctl_options){.timeout_ns = TIMEOUT_DEFAULT_NS};
    options->socket =
        from_environment && from_environment[0] ? from_environment : CONTROL_SOCKET_DEFAULT;
    /* https://no-color.org: present and not empty */
    options->colour = isatty(STDOUT_FILENO) && !(no_colour && no_colour[0]) &&
                      !(terminal && strcmp(terminal, "dumb") == 0);
}

int ctl_options_parse(int argc, char **argv, struct ctl_command *ret)
{
    struct line line = {.command = ret};
    *ret = (struct ctl_command){0};
    set_defaults(&ret->options);
    int status = take_line(&line, argc, argv);
    if (status != CTL_OK)
        return status;
    if (line.argument_count == 0) {
        ctl_complain("no verb was given");
        return usage_error();
    }
    status = take_verb(line.arguments[0], &ret->verb);
    if (status == CTL_OK)
        status = check_options(&line, ret->verb);
    return status == CTL_OK ? take_arguments(ret, line.argument_count - 1, line.arguments + 1)
                            : status;
}
