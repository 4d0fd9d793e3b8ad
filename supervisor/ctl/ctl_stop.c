/* SPDX-License-Identifier: MIT */
/* Signals that ask for the end. Called by the verbs that follow, write a file or replay. The
 * handler sets a flag and nothing else; between looking at the flag and waiting, the signals are
 * blocked, so that none is slept through. */
#include "supervisor/ctl/ctl_stop.h"

#include <signal.h>
#include <stdatomic.h>
#include <time.h>

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
static atomic_bool is_asked; /* also looked at by other threads */

static void take_signal(int number)
{
    (void)number;
    is_asked = true;
}

void ctl_stop_begin(void)
{
    struct sigaction action = {.sa_handler = take_signal}; /* without SA_RESTART */
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction before;
        /* What nohup(1) or a shell's & has switched off stays so. */
        if (sigaction(signals[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    }
}

bool ctl_stop_is_asked(void)
{
    return is_asked;
}

int ctl_stop_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    const struct timespec timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
    sigset_t blocked, before;
    int ready = 0;
    sigemptyset(&blocked);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaddset(&blocked, signals[i]);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    if (!is_asked)
        ready = ppoll(fds, count, timeout_ms < 0 ? NULL : &timeout, &before);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ready > 0 ? ready : 0;
}
