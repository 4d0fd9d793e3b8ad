/* SPDX-License-Identifier: MIT */
/* Reads a channel through libholdfast and records what it got, for the system tests. Says "ready"
 * when the reader is open. Every datagram goes into a file as tool_sink writes it, with the lower
 * half of its number as the socket's; what kind of thing came, one after the other, into another:
 *
 *   datagrams FIRST END | lost SEQ COUNT WHY | live | finished | error TEXT | passed SEQ COUNT |
 *   saved SEQ
 *
 * For every line on stdin it says how far it is, as JSON; on SIGTERM it says so once more and
 * leaves. Must never record what hf_check() says was overwritten. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "tests/lib/datagram_file.h"

static const char *read_socket, *channel;
static struct hf_start start = {.at = HF_FIRST};
static bool has_start;
static unsigned flags = HF_JOINED;
static uint64_t save_every; /* 0 = never */
static unsigned slow_us;    /* a nap behind every datagram */
static bool until_finished;
static FILE *record, *events;

static uint64_t datagrams, lost, wakeups, saves, torn;
static uint64_t run_first, run_end; /* those that came without a break */
static bool is_live, is_finished;
static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

static _Noreturn void fail(const char *what, int error)
{
    fprintf(stderr, "tool_reader: %s: %s\n", what, strerror(error < 0 ? -error : error));
    exit(1);
}

static _Noreturn void usage(const char *what)
{
    fprintf(stderr,
            "tool_reader: %s\nusage: tool_reader --socket PATH --channel NAME --record FILE "
            "--events FILE [--mode old|new|joined|newest] [--from "
            "first|last|end|position|seq:N|time:NS] [--position NAME] [--save-every N] "
            "[--slow MICROSECONDS] [--until-finished]\n",
            what);
    exit(2);
}

/* ---- arguments ---- */

static unsigned parse_mode(const char *text)
{
    static const char *const names[] = {
        [HF_OLD] = "old", [HF_NEW] = "new", [HF_JOINED] = "joined", [HF_NEWEST] = "newest"};
    for (unsigned i = HF_OLD; i <= HF_NEWEST; i++)
        if (strcmp(names[i], text) == 0)
            return i;
    usage("no such mode");
}

static void parse_start(const char *text)
{
    static const char *const names[] = {
        [HF_FIRST] = "first", [HF_LAST] = "last",  [HF_END] = "end",
        [HF_SEQ] = "seq:",    [HF_TIME] = "time:", [HF_POSITION] = "position"};
    for (unsigned i = HF_FIRST; i <= HF_POSITION; i++) {
        if (strncmp(names[i], text, strlen(names[i])) != 0)
            continue;
        start.at = (enum hf_at)i;
        start.seq = strtoull(text + strlen(names[i]), NULL, 10);
        start.time_ns = (int64_t)start.seq;
        has_start = true;
        return;
    }
    usage("no such start");
}

static FILE *open_file(const char *path)
{
    FILE *file = fopen(path, "we");
    if (!file)
        fail(path, errno);
    return file;
}

static void parse_option(int option)
{
    switch (option) {
    case 's':
        read_socket = optarg;
        break;
    case 'c':
        channel = optarg;
        break;
    case 'r':
        record = open_file(optarg);
        break;
    case 'e':
        events = open_file(optarg);
        break;
    case 'm':
        flags = parse_mode(optarg);
        break;
    case 'f':
        parse_start(optarg);
        break;
    case 'p':
        start.position = optarg;
        break;
    case 'v':
        save_every = strtoull(optarg, NULL, 10);
        break;
    case 'n':
        slow_us = (unsigned)strtoul(optarg, NULL, 10);
        break;
    case 'u':
        until_finished = true;
        break;
    default:
        usage("unknown option");
    }
}

static void parse_arguments(int argc, char **argv)
{
    static const struct option options[] = {{"socket", required_argument, NULL, 's'},
                                            {"channel", required_argument, NULL, 'c'},
                                            {"record", required_argument, NULL, 'r'},
                                            {"events", required_argument, NULL, 'e'},
                                            {"mode", required_argument, NULL, 'm'},
                                            {"from", required_argument, NULL, 'f'},
                                            {"position", required_argument, NULL, 'p'},
                                            {"save-every", required_argument, NULL, 'v'},
                                            {"slow", required_argument, NULL, 'n'},
                                            {"until-finished", no_argument, NULL, 'u'},
                                            {NULL, 0, NULL, 0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        parse_option(option);
    if (!record || !events || optind != argc)
        usage("--record and --events are needed");
}

/* ---- what comes ---- */

static void end_run(void)
{
    if (run_end > run_first)
        fprintf(events, "datagrams %" PRIu64 " %" PRIu64 "\n", run_first, run_end);
    run_first = run_end = 0;
}

/* Nothing counts as done with that isn't in the files. */
static void save(hf_reader *reader)
{
    if (!save_every || datagrams % save_every != 0)
        return;
    fflush(record);
    int result = hf_save(reader, run_end);
    if (result == 0) {
        saves++;
        fprintf(events, "saved %" PRIu64 "\n", run_end);
        fflush(events);
    } else if (result != -ETIMEDOUT) {
        fprintf(events, "error hf_save: %s\n", strerror(-result));
    }
}

static void take_datagram(hf_reader *reader, const struct hf_datagram *datagram)
{
    static uint8_t copy[65536];
    memcpy(copy, datagram->data, datagram->length);
    if (!hf_check(reader, datagram)) {
        torn++;
        return;
    }
    if (datagram->lost)
        fprintf(events, "passed %" PRIu64 " %" PRIu64 "\n", datagram->seq, datagram->lost);
    if (datagram->seq != run_end || run_end == run_first) {
        end_run();
        run_first = datagram->seq;
    }
    run_end = datagram->seq + 1;
    datagram_file_append(record, (uint32_t)datagram->seq, (uint64_t)datagram->time_ns, copy,
                         datagram->length);
    datagrams++;
    save(reader);
    if (slow_us)
        usleep(slow_us);
}

/* One call of hf_next(). false: nothing more for now. */
static bool step(hf_reader *reader)
{
    struct hf_datagram datagram;
    int result = hf_next(reader, &datagram);
    if (result == HF_DATAGRAM) {
        take_datagram(reader, &datagram);
        return true;
    }
    if (result == HF_NONE)
        return false;
    end_run();
    if (result == HF_LOST) {
        lost += datagram.lost;
        fprintf(events, "lost %" PRIu64 " %" PRIu64 " %" PRIu32 "\n", datagram.seq, datagram.lost,
                datagram.why);
    } else if (result == HF_LIVE) {
        is_live = true;
        fprintf(events, "live\n");
    } else if (result == HF_FINISHED) {
        if (!is_finished)
            fprintf(events, "finished\n");
        is_finished = true;
        return false;
    } else {
        fprintf(events, "error hf_next: %s\n", strerror(-result));
    }
    return true;
}

/* ---- the loop ---- */

static void print_counts(hf_reader *reader)
{
    struct hf_lag lag = {0};
    hf_lag(reader, &lag);
    fflush(record);
    fflush(events);
    printf("{\"datagrams\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"wakeups\": %" PRIu64
           ", \"saves\": %" PRIu64 ", \"torn\": %" PRIu64 ", \"next_seq\": %" PRIu64
           ", \"end_seq\": %" PRIu64 ", \"opened_seq\": %" PRIu64 ", \"durable_seq\": %" PRIu64
           ", \"live\": %s, \"finished\": %s}\n",
           datagrams, lost, wakeups, saves, torn, lag.next_seq, lag.end_seq, lag.opened_seq,
           lag.durable_seq, is_live ? "true" : "false", is_finished ? "true" : "false");
    fflush(stdout);
}

static void answer_stdin(hf_reader *reader, struct pollfd *polled)
{
    char line[64];
    if (read(STDIN_FILENO, line, sizeof line) > 0)
        print_counts(reader);
    else
        polled->fd = -1; /* nobody asks any more; SIGTERM still ends it */
}

static void follow(hf_reader *reader, const sigset_t *mask)
{
    static const struct timespec at_once = {0};
    struct pollfd polled[] = {{.fd = hf_reader_fd(reader), .events = POLLIN},
                              {.fd = STDIN_FILENO, .events = POLLIN}};
    while (!stopped) {
        bool more = false;
        for (int i = 0; i < 256 && (more = step(reader)); i++)
            continue;
        if (is_finished)
            polled[0].fd = -1;
        if (until_finished && is_finished)
            return;
        if (ppoll(polled, 2, more ? &at_once : NULL, mask) < 0)
            continue;
        wakeups += polled[0].revents != 0 && !more;
        if (polled[1].revents)
            answer_stdin(reader, &polled[1]);
    }
}

int main(int argc, char **argv)
{
    const struct sigaction action = {.sa_handler = stop};
    sigset_t term, before;
    hf *handle;
    hf_reader *reader;
    parse_arguments(argc, argv);
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, &before);
    sigaction(SIGTERM, &action, NULL);
    int result = hf_open(&handle, read_socket);
    if (result < 0)
        fail("hf_open", result);
    result = hf_read(handle, channel, has_start || start.position ? &start : NULL, flags, &reader);
    if (result < 0)
        fail("hf_read", result);
    puts("ready");
    fflush(stdout);
    follow(reader, &before);
    end_run();
    print_counts(reader);
    fclose(record);
    fclose(events);
    hf_close(handle);
    return 0;
}
