/* SPDX-License-Identifier: MIT */
/* Draws for --watch, and wraps what is printed once. Called by the verbs that print. A picture is
 * written over the one before, line by line, with the rest of each line and of the screen cleared
 * behind it: a screen that is cleared first flickers. The signal that tells of a new size is kept
 * blocked and waited for, so that none is missed. */
#include "supervisor/ctl/ctl_window.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "supervisor/ctl/ctl_wrap.h"

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

/* Where that fails there is no limit. */
static struct winsize ask_size(void)
{
    struct winsize window = {0};
    ioctl(STDOUT_FILENO, TIOCGWINSZ, &window);
    return window;
}

FILE *ctl_window_draw(struct ctl_look *look)
{
    struct winsize window = ask_size();
    /* The last row is the shell's, when this is interrupted. */
    picture.rows = window.ws_row > 1 ? window.ws_row - 1 : window.ws_row;
    picture.columns = window.ws_col;
    look->rows = picture.rows;
    look->columns = picture.columns;
    picture.stream = ctl_open_text(&picture.text, &picture.size);
    return picture.stream;
}

/* As it is where the width is not known, or is none. */
static void put_text(FILE *to, const char *text)
{
    for (const char *line = text; *line;) {
        const char *end = strchrnul(line, '\n');
        if (picture.columns < CTL_WRAP_LEAST)
            fwrite(line, 1, (size_t)(end - line) + (*end == '\n'), to);
        else
            ctl_wrap_put(to, line, end, picture.columns);
        line = *end ? end + 1 : end;
    }
}

/* What is cut off is shown by dots. */
static const char *put_line(const char *line)
{
    const char *end = strchrnul(line, '\n');
    size_t columns = picture.columns ? picture.columns : SIZE_MAX, width = 0;
    bool cut = line + ctl_wrap_bytes(line, end, columns) < end;
    size_t room = cut && columns > 3 ? columns - 3 : columns;
    while (line < end) {
        size_t code = ctl_wrap_code(line);
        width += code == 0 && ctl_wrap_takes_room(*line);
        if (code > 0)
            fwrite(line, 1, code, stdout);
        else if (width <= room)
            putchar(*line);
        line += code > 0 ? code : 1;
    }
    if (room < columns && cut)
        fputs("...", stdout);
    /* In the last column the cursor stands on the character that it has just written. */
    if (width < columns)
        fputs("\033[K", stdout);
    putchar('\n');
    return *line ? line + 1 : line;
}

/* Long lines go on in the next one where the window has the rows for that. */
static void wrap_picture(void)
{
    char *text;
    size_t size;
    FILE *wrapped = ctl_open_text(&text, &size);
    put_text(wrapped, picture.text);
    fclose(wrapped);
    if (picture.rows == 0 || ctl_count_lines(text) <= picture.rows) {
        free(picture.text);
        picture.text = text;
    } else {
        free(text);
    }
}

bool ctl_window_show(void)
{
    fclose(picture.stream);
    wrap_picture();
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

/* ---- once, line by line ---- */

FILE *ctl_window_text(struct ctl_look *look)
{
    picture.columns = look->columns = ask_size().ws_col;
    picture.stream = ctl_open_text(&picture.text, &picture.size);
    return picture.stream;
}

void ctl_window_print(void)
{
    fclose(picture.stream);
    put_text(stdout, picture.text);
    free(picture.text);
}
