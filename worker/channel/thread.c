/* SPDX-License-Identifier: MIT */
/* The beginning of a thread, called by the thread itself. The control thread is the process's main
 * thread: its last words are prepared before it knows its channel, and its name is the program's.
 */
#include "worker/channel/thread.h"

#include <pthread.h>
#include <sched.h>

#include "worker/channel/beat.h"
#include "worker/last_words.h"

void thread_begin(struct channel_state *channel, enum channel_thread thread)
{
    last_words_thread(thread);
    pthread_setname_np(pthread_self(), channel_thread_names[thread]);
    beat_begin(channel, thread);
}

void thread_schedule_behind(void)
{
    struct sched_param none = {0};
    if (sched_getscheduler(0) != SCHED_OTHER)
        return; /* somebody has chosen another policy for all of us */
    sched_setscheduler(0, SCHED_BATCH, &none); /* a courtesy: nothing depends on it */
}
