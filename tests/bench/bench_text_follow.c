/* SPDX-License-Identifier: MIT */
/* What people follow without holdfast: lines that are appended to a text file, or sent to the
 * journal's socket, read by a program that waits for more, `tail -f`, `journalctl -f` or another
 * one. How long after it was written has a line come out of that program? Each begins with the time
 * at which that was. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/histogram.h"

#define LINE_SIZE 256

static struct histogram delays;

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "bench_text_follow: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* A file to append to, or the journal's socket, which takes an entry as one datagram
 * (systemd.io/JOURNAL_NATIVE_PROTOCOL). */
static int open_target(const char *path, bool *ret_is_journal)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat about;
    if (stat(path, &about) < 0)
        fail(path);
    *ret_is_journal = S_ISSOCK(about.st_mode);
    if (!*ret_is_journal)
        return open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    return fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -1 : fd;
}

/* One line at a time, evenly spaced. Ends by itself. */
static void write_lines(const char *path, long count, long rate)
{
    static const char field[] = "MESSAGE=";
    char entry[sizeof field + LINE_SIZE], *line = entry + sizeof field - 1;
    bool is_journal;
    int fd = open_target(path, &is_journal);
    struct timespec due;
    if (fd < 0)
        fail(path);
    memcpy(entry, field, sizeof field);
    clock_gettime(CLOCK_MONOTONIC, &due);
    for (long i = 0; i < count; i++) {
        due.tv_nsec += 1000000000 / rate;
        due.tv_sec += due.tv_nsec / 1000000000;
        due.tv_nsec %= 1000000000;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        memset(line, '.', LINE_SIZE);
        line[LINE_SIZE - 1] = '\n';
        int length = snprintf(line, LINE_SIZE, "%lld ", (long long)now_ns());
        line[length] = '.';
        const size_t size = is_journal ? sizeof field - 1 + LINE_SIZE : LINE_SIZE;
        if (write(fd, is_journal ? entry : line, size) != (ssize_t)size)
            fail("write");
    }
    close(fd);
}

int main(int argc, char **argv)
{
    int pipes[2];
    char line[LINE_SIZE + 1];
    if (argc < 5) {
        fprintf(stderr, "usage: bench_text_follow FILE COUNT RATE COMMAND...\n");
        return 2;
    }
    long count = strtol(argv[2], NULL, 10), rate = strtol(argv[3], NULL, 10), seen = 0;
    if (count <= 0 || rate <= 0 || pipe2(pipes, O_CLOEXEC) < 0)
        fail("arguments");
    pid_t reader = fork();
    if (reader == 0) {
        dup2(pipes[1], STDOUT_FILENO);
        execvp(argv[4], argv + 4);
        fail(argv[4]);
    }
    close(pipes[1]);
    FILE *from = fdopen(pipes[0], "r");
    if (reader < 0 || !from)
        fail("starting it");
    /* It follows when a first line has come through. */
    write_lines(argv[1], 1, 1);
    if (!fgets(line, sizeof line, from))
        fail("it ended");
    pid_t writer = fork();
    if (writer == 0) {
        write_lines(argv[1], count, rate);
        _exit(0);
    }
    for (; seen < count && fgets(line, sizeof line, from); seen++) {
        int64_t delay = now_ns() - strtoll(line, NULL, 10);
        histogram_add(&delays, delay > 0 ? (uint64_t)delay : 0);
    }
    kill(reader, SIGTERM);
    waitpid(reader, NULL, 0);
    waitpid(writer, NULL, 0);
    printf("{\"datagrams\": %ld, \"max_ns\": %llu, \"delays\": ", seen,
           (unsigned long long)delays.highest);
    histogram_print(&delays, stdout);
    printf("}\n");
    fclose(from);
    return 0;
}
