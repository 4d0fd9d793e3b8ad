/* SPDX-License-Identifier: MIT */
/* How the other threads get the control thread's attention. What it is about lies elsewhere: the
 * control thread looks at everything when it is called. */
#ifndef HOLDFAST_WORKER_CHANNEL_ATTENTION_H
#define HOLDFAST_WORKER_CHANNEL_ATTENTION_H

struct attention {
    int event; /* eventfd(2), readable after a call; for the control thread's poll */
};

/* 0 or -errno. */
int attention_open(struct attention *attention);

/* From any other thread: there is something for the control thread to look at. Never waits. */
void attention_call(struct attention *attention);

/* The control thread is about to look: the calls so far are heard. */
void attention_heard(struct attention *attention);

#endif
