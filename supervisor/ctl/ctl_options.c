/* SPDX-License-Identifier: MIT */
/* holdfastctl's options, help and the check of a verb's arguments. Called by main, once. Usage
 * errors say what would have been right. */
#include "supervisor/ctl/ctl_options.h"

#include <errno.h>
#include <getopt.h>
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
    OPTION_HELP,
    OPTION_VERSION,
    OPTION_COUNT
};

static const struct {
    const char *name; /* as complaints call it */
    const char *usage;
    const char *help;
} option_infos[OPTION_COUNT] = {
    [OPTION_SOCKET] = {"--socket", "--socket PATH", "the control socket"},
    [OPTION_JSON] = {"--json", "--json", "print the result as JSON"},
    [OPTION_NO_WAIT] = {"--no-wait", "--no-wait",
                        "what changes something: return when it is accepted"},
    [OPTION_TIMEOUT] = {"--timeout", "--timeout TIME",
                        "wait at most so long: 500ms, 30s, 2m; default 10s"},
    [OPTION_WATCH] = {"--watch", "--watch", "status: once a second, on a terminal"},
    [OPTION_VERBOSE] = {"--verbose", "-v, --verbose",
                        "status CHANNEL: with what each counter means"},
    [OPTION_OUTPUT] = {"-o", "-o FILE", "recover: write to this file or folder instead"},
    [OPTION_HELP] = {"--help", "-h, --help", "print this"},
    [OPTION_VERSION] = {"--version", "--version", "print the version"},
};

/* A bit for each option that the verb has. The socket may be named for all, as in the
 * environment. */
static unsigned options_of(enum control_verb_id verb)
{
    unsigned set = 1U << OPTION_SOCKET | 1U << OPTION_JSON | 1U << OPTION_HELP;
    if (control_verb_infos[verb].effect != OFFLINE)
        set |= 1U << OPTION_TIMEOUT;
    if (control_verb_infos[verb].effect == CHANGES)
        set |= 1U << OPTION_NO_WAIT;
    if (verb == VERB_status)
        set |= 1U << OPTION_WATCH | 1U << OPTION_VERBOSE;
    if (verb == VERB_recover)
        set |= 1U << OPTION_OUTPUT;
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
    }
    return "";
}

static void print_help(void)
{
    puts("usage: holdfastctl [OPTION]... VERB [ARGUMENT]...\n"
         "Ask or command a running holdfastd, or work on its log files.\n");
    for (int verb = 0; verb < VERB_COUNT; verb++) {
        const struct control_verb_info *info = &control_verb_infos[verb];
        char usage[64];
        if (info->visibility == HIDDEN)
            continue;
        snprintf(usage, sizeof usage, "%s%s", info->name, arguments_text(info->arguments));
        printf("  %-22s %s\n", usage, info->help);
    }
    putchar('\n');
    for (int option = 0; option < OPTION_COUNT; option++)
        printf("  %-22s %s\n", option_infos[option].usage, option_infos[option].help);
    printf("\n"
           "Options may stand anywhere; what comes behind -- is none.\n"
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

static int take_option(struct line *line, enum option_id option)
{
    struct ctl_options *options = &line->command->options;
    line->given |= 1U << option;
    switch (option) {
    case OPTION_SOCKET:
        options->socket = optarg;
        if (optarg[0])
            break;
        ctl_complain("--socket: the path is empty");
        return usage_error();
    case OPTION_JSON:
        options->json = true;
        break;
    case OPTION_NO_WAIT:
        options->no_wait = true;
        break;
    case OPTION_TIMEOUT:
        return take_timeout(options, optarg);
    case OPTION_WATCH:
        options->watch = true;
        break;
    case OPTION_VERBOSE:
        options->verbose = true;
        break;
    case OPTION_OUTPUT:
        line->command->output = optarg;
        break;
    case OPTION_HELP:
        print_help();
        return -1;
    case OPTION_VERSION:
        puts("holdfastctl " HOLDFAST_VERSION);
        return -1;
    case OPTION_COUNT:
        break;
    }
    return CTL_OK;
}

/* Long options give OPTION_LONG + their number, so that no letter is one of these. */
#define OPTION_LONG 256

/* getopt's answer, the word that it has looked at last. */
static int take_word(struct line *line, int answer, char *word)
{
    switch (answer) {
    case 1: /* no option */
        line->arguments[line->argument_count++] = optarg;
        return CTL_OK;
    case 'h':
        return take_option(line, OPTION_HELP);
    case 'v':
        return take_option(line, OPTION_VERBOSE);
    case 'o':
        return take_option(line, OPTION_OUTPUT);
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
        return take_option(line, (enum option_id)(answer - OPTION_LONG));
    }
}

static int take_line(struct line *line, int argc, char **argv)
{
    static const struct option known[] = {
        {"socket", required_argument, NULL, OPTION_LONG + OPTION_SOCKET},
        {"json", no_argument, NULL, OPTION_LONG + OPTION_JSON},
        {"no-wait", no_argument, NULL, OPTION_LONG + OPTION_NO_WAIT},
        {"timeout", required_argument, NULL, OPTION_LONG + OPTION_TIMEOUT},
        {"watch", no_argument, NULL, OPTION_LONG + OPTION_WATCH},
        {"verbose", no_argument, NULL, OPTION_LONG + OPTION_VERBOSE},
        {"help", no_argument, NULL, OPTION_LONG + OPTION_HELP},
        {"version", no_argument, NULL, OPTION_LONG + OPTION_VERSION},
        {0},
    };
    int answer, status = CTL_OK;
    line->arguments = argv; /* overwritten from the front, never ahead of getopt */
    optind = 0;             /* begin anew: tests come here more than once */
    opterr = 0;
    /* "-": in the order of the line, whatever $POSIXLY_CORRECT says. */
    while (status == CTL_OK) {
        int at = optind > 0 ? optind : 1;
        answer = getopt_long(argc, argv, "-:hvo:", known, NULL);
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
    char list[128] = "";
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
    char list[256];
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
    int most = info->arguments == NO_ARGUMENT ? 0 : 1;
    if (info->arguments == FILES) {
        command->files = argv;
        command->file_count = argc;
        return CTL_OK;
    }
    if (argc > most || (argc == 0 && info->arguments == ONE_CHANNEL)) {
        ctl_complain("usage: holdfastctl %s%s", info->name, arguments_text(info->arguments));
        return usage_error();
    }
    command->channel = argc > 0 ? argv[0] : NULL;
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
