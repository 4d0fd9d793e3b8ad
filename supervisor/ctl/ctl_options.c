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
    printf(
        "\n"
        "  --socket PATH          the control socket; else $%s, else\n"
        "                         %s\n"
        "  --json                 print the result as one line of JSON\n"
        "  --no-wait              return as soon as a command was accepted\n"
        "  --timeout TIME         wait at most this long, for example 500ms, 30s, 2m; default 10s\n"
        "  --watch                status: once a second, on a terminal\n"
        "  -v, --verbose          status CHANNEL: with what each counter means\n"
        "  -o FILE                recover: write to this file or folder, not beside the damaged "
        "one\n"
        "  --help, --version\n"
        "\n"
        "Exit status: 0 yes, done; 1 no, not healthy, not reached; 2 wrong usage; 3 no holdfastd "
        "to ask.\n"
        "Manual: holdfastctl(1)\n",
        CONTROL_SOCKET_VARIABLE, CONTROL_SOCKET_DEFAULT);
}

static int usage_error(void)
{
    fputs("'holdfastctl --help' shows what there is\n", stderr);
    return CTL_USAGE;
}

enum {
    OPTION_SOCKET = 256,
    OPTION_JSON,
    OPTION_NO_WAIT,
    OPTION_TIMEOUT,
    OPTION_WATCH,
    OPTION_HELP,
    OPTION_VERSION
};

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

/* Takes the options up to the first other argument (order "+v") or all of them (order "v"). */
static int take_options(int argc, char **argv, const char *order, struct ctl_options *options)
{
    static const struct option known[] = {
        {"socket", required_argument, NULL, OPTION_SOCKET},
        {"json", no_argument, NULL, OPTION_JSON},
        {"no-wait", no_argument, NULL, OPTION_NO_WAIT},
        {"timeout", required_argument, NULL, OPTION_TIMEOUT},
        {"watch", no_argument, NULL, OPTION_WATCH},
        {"verbose", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, OPTION_HELP},
        {"version", no_argument, NULL, OPTION_VERSION},
        {0},
    };
    int option, status = CTL_OK;
    optind = 0; /* begin anew: glibc's getopt is called for two parts of the line */
    while (status == CTL_OK && (option = getopt_long(argc, argv, order, known, NULL)) != -1) {
        switch (option) {
        case OPTION_SOCKET:
            options->socket = optarg;
            break;
        case OPTION_JSON:
            options->json = true;
            break;
        case OPTION_NO_WAIT:
            options->no_wait = true;
            break;
        case OPTION_TIMEOUT:
            status = take_timeout(options, optarg);
            break;
        case OPTION_WATCH:
            options->watch = true;
            break;
        case 'v':
            options->verbose = true;
            break;
        case OPTION_HELP:
            print_help();
            return -1;
        case OPTION_VERSION:
            puts("holdfastctl " HOLDFAST_VERSION);
            return -1;
        default:
            return usage_error(); /* getopt has said what is wrong */
        }
    }
    return status;
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

static int take_arguments(struct ctl_command *command, int argc, char **argv)
{
    const struct control_verb_info *info = &control_verb_infos[command->verb];
    int most = info->arguments == NO_ARGUMENT ? 0 : 1;
    if (argc > most || (argc == 0 && info->arguments == ONE_CHANNEL)) {
        ctl_complain("usage: holdfastctl %s%s", info->name, arguments_text(info->arguments));
        return usage_error();
    }
    command->channel = argc > 0 ? argv[0] : NULL;
    if (command->options.watch &&
        (command->verb != VERB_status || command->options.json || !isatty(STDOUT_FILENO))) {
        ctl_complain("--watch is for status on a terminal, without --json");
        return usage_error();
    }
    return CTL_OK;
}

/* verify and recover have options of their own: of ours only these two are looked for behind the
 * verb. */
static int take_offline(struct ctl_command *command, int argc, char **argv)
{
    bool only_files = false;
    command->argv = argv;
    for (int i = 0; i < argc; i++) {
        if (!only_files && strcmp(argv[i], "--help") == 0) {
            print_help();
            return -1;
        }
        if (!only_files && strcmp(argv[i], "--json") == 0)
            command->options.json = true;
        else
            argv[command->argc++] = argv[i];
        only_files |= strcmp(argv[i], "--") == 0;
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
    *ret = (struct ctl_command){0};
    set_defaults(&ret->options);
    int status = take_options(argc, argv, "+v", &ret->options);
    if (status != CTL_OK)
        return status;
    if (optind >= argc) {
        ctl_complain("no verb was given");
        return usage_error();
    }
    int verb_at = optind;
    status = take_verb(argv[verb_at], &ret->verb);
    if (status != CTL_OK)
        return status;
    argc -= verb_at;
    argv += verb_at;
    if (control_verb_infos[ret->verb].effect == OFFLINE)
        return take_offline(ret, argc - 1, argv + 1);
    /* Behind an online verb the same options are understood; getopt wants a name in front, the verb
     * serves. */
    status = take_options(argc, argv, "v", &ret->options);
    return status == CTL_OK ? take_arguments(ret, argc - optind, argv + optind) : status;
}
