/* SPDX-License-Identifier: MIT */
/* An eventfd(2) that any thread writes and the control thread polls. Must never make the caller
 * wait: a call that can't be noted is made up for by the control thread's regular round. */
#include "worker/channel/attention.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/log.h"

int attention_open(struct attention *attention)
{
    attention->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return attention->event < 0 ? -errno : 0;
}

void attention_call(struct attention *attention)
{
    uint64_t one = 1;
    if (write(attention->event, &one, sizeof one) < 0)
        log_error("waking the control thread: %s", strerror(errno)); /* it looks every round */
}

void attention_heard(struct attention *attention)
{
    uint64_t count;
    ssize_t ignored = read(attention->event, &count, sizeof count);
    (void)ignored; /* nonblocking; what there is to see tells itself */
}
