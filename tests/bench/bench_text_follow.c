/* SPDX-License-Identifier: MIT */
/* What people follow without holdfast: lines that are appended to a text file, read by a program
 * that waits for more, `tail -f` or another one. How long after its write(2) has a line come out of
 * that program? Each line begins with the time at which it was written. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* One line at a time, evenly spaced. Ends by itself. */
static void write_lines(const char *path, long count, long rate)
{
    char line[LINE_SIZE + 1];
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    struct timespec due;
    if (fd < 0)
        fail(path);
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
        if (write(fd, line, LINE_SIZE) != LINE_SIZE)
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
