/* SPDX-License-Identifier: MIT */
/* The terminal's settings, changed and put back, and keys. Called by ctl_replay.c. However replay
 * ends, the terminal must be as it was; it is changed only while this program is in its foreground,
 * and put back while it is stopped. */
#include "supervisor/ctl/ctl_replay_keys.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

static struct termios before;
static volatile sig_atomic_t is_changed;

static void change(void)
{
    struct termios keys = before;
    keys.c_lflag &= ~(tcflag_t)(ICANON | ECHO); /* signals stay */
    keys.c_cc[VMIN] = 0;
    keys.c_cc[VTIME] = 0;
    is_changed = tcsetattr(STDIN_FILENO, TCSANOW, &keys) == 0;
}

void ctl_keys_end(void)
{
    if (is_changed)
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
    is_changed = 0;
}

/* Ctrl-Z: put it back, and stop as if there were no handler. */
static void stop(int number)
{
    sigset_t this_one, mask;
    ctl_keys_end();
    signal(number, SIG_DFL);
    raise(number);
    sigemptyset(&this_one);
    sigaddset(&this_one, number);
    pthread_sigmask(SIG_UNBLOCK, &this_one, &mask); /* stops here */
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

/* And on: in the foreground again, or in the background, without keys. */
static void go_on(int number)
{
    (void)number;
    signal(SIGTSTP, stop);
    if (tcgetpgrp(STDIN_FILENO) == getpgrp())
        change();
}

bool ctl_keys_begin(void)
{
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO) || tcgetpgrp(STDIN_FILENO) != getpgrp() ||
        tcgetattr(STDIN_FILENO, &before) < 0)
        return false;
    signal(SIGTSTP, stop);
    signal(SIGCONT, go_on);
    signal(SIGTTIN, SIG_IGN);
    signal(SIGTTOU, SIG_IGN);
    atexit(ctl_keys_end);
    change();
    return is_changed != 0;
}

static bool has_input(void)
{
    struct pollfd input = {STDIN_FILENO, POLLIN, 0};
    return is_changed && poll(&input, 1, 0) > 0 && (input.revents & POLLIN);
}

static char take_byte(void)
{
    char byte;
    return has_input() && read(STDIN_FILENO, &byte, 1) == 1 ? byte : '\0';
}

/* An arrow is ESC [ C, or ESC O C. */
static enum ctl_key take_arrow(void)
{
    char second = take_byte();
    if (second != '[' && second != 'O')
        return CTL_KEY_NONE;
    switch (take_byte()) {
    case 'C':
        return CTL_KEY_FORWARD;
    case 'D':
        return CTL_KEY_BACK;
    default:
        return CTL_KEY_NONE;
    }
}

enum ctl_key ctl_keys_take(void)
{
    for (char byte; (byte = take_byte()) != '\0';) {
        switch (byte) {
        case ' ':
            return CTL_KEY_PAUSE;
        case '+':
        case '=': /* the same key without shift on many keyboards */
            return CTL_KEY_FASTER;
        case '-':
            return CTL_KEY_SLOWER;
        case 'q':
        case 'Q':
            return CTL_KEY_END;
        case '\033': {
            enum ctl_key arrow = take_arrow();
            if (arrow != CTL_KEY_NONE)
                return arrow;
            break;
        }
        default:
            break;
        }
    }
    return CTL_KEY_NONE;
}
