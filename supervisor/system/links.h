/* SPDX-License-Identifier: MIT */
/* Network interfaces that go. */
#ifndef HOLDFAST_SUPERVISOR_SYSTEM_LINKS_H
#define HOLDFAST_SUPERVISOR_SYSTEM_LINKS_H

#include <systemd/sd-event.h>

/* index: the interface's number; 0: the kernel had more to say than could be heard, any may have
 * gone. */
typedef void (*links_gone)(void *data, unsigned index);

struct links {
    int fd;
    sd_event_source *source;
    links_gone gone;
    void *data;
};

/* Hear of every interface that is removed, also of one whose number another one has by now. 0 or
 * -errno. */
int links_watch(struct links *links, sd_event *event, links_gone gone, void *data);
void links_stop(struct links *links);

#endif
