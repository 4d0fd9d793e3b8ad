/* SPDX-License-Identifier: MIT */
/* Draws for --watch. Called by status. A picture is written over the one before, line by line, with
 * the rest of each line and of the screen cleared behind it: a screen that is cleared first
 * flickers. The signal that tells of a new size is kept blocked and waited for, so that none is
 * missed. */
#include "supervisor/ctl/ctl_window.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define ESCAPE '\033'

static struct {
    FILE *stream;
    char *text;
    size_t size;
    unsigned rows, columns;
} picture;

static sigset_t resized;

void ctl_window_begin(void)
{
    static char one_write[256 * 1024];
    setvbuf(stdout, one_write, _IOFBF, sizeof one_write);
    sigemptyset(&resized);
    sigaddset(&resized, SIGWINCH);
    sigprocmask(SIG_BLOCK, &resized, NULL);
}

FILE *ctl_window_draw(struct ctl_look *look)
{
    struct winsize window = {0};
    ioctl(STDOUT_FILENO, TIOCGWINSZ, &window); /* where that fails there is no limit */
    /* The last row is the shell's, when this is interrupted. */
    picture.rows = window.ws_row > 1 ? window.ws_row - 1 : window.ws_row;
    picture.columns = window.ws_col;
    look->rows = picture.rows;
    look->columns = picture.columns;
    picture.stream = ctl_open_text(&picture.text, &picture.size);
    return picture.stream;
}

/* A colour's code takes no room; of a character of several bytes only the first does. */
static const char *put_line(const char *line)
{
    unsigned width = 0;
    for (; *line && *line != '\n'; line++) {
        if (*line == ESCAPE) {
            size_t length = strcspn(line, "m\n");
            fwrite(line, 1, length + (line[length] == 'm'), stdout);
            line += length - (line[length] != 'm');
            continue;
        }
        width += ((unsigned char)*line & 0xc0) != 0x80;
        if (picture.columns == 0 || width <= picture.columns)
            putchar(*line);
    }
    /* In the last column the cursor stands on the character that it has just written. */
    if (picture.columns == 0 || width < picture.columns)
        fputs("\033[K", stdout);
    putchar('\n');
    return *line ? line + 1 : line;
}

bool ctl_window_show(void)
{
    fclose(picture.stream);
    const char *line = picture.text;
    size_t lines = ctl_count_lines(line), shown = lines;
    if (picture.rows && lines > picture.rows)
        shown = picture.rows - 1;
    fputs("\033[H", stdout);
    for (size_t i = 0; i < shown; i++)
        line = put_line(line);
    if (shown < lines) {
        char more[64];
        snprintf(more, sizeof more, "... %zu more lines have no room here", lines - shown);
        put_line(more);
    }
    fputs("\033[J", stdout);
    free(picture.text);
    return fflush(stdout) == 0;
}

void ctl_window_note(const char *text)
{
    if (picture.columns == 0 || strlen(text) < picture.columns)
        printf("%s\r", text);
    fflush(stdout);
}

void ctl_window_wait(void)
{
    sigtimedwait(&resized, NULL, &(struct timespec){.tv_sec = 1});
}
