/* SPDX-License-Identifier: MIT */
/* Sends to fd 3. Called by the main loop. Must never wait for the supervisor, which waits for
 * nobody either. */
#include "worker/gate/gate_supervisor.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "common/message.h"

/* 0 or -EAGAIN; on anything else there is nobody to work for any more. */
static int send_it(struct gate *gate, enum message_type type, const void *payload, size_t size)
{
    int result = message_send(gate->supervisor, type, gate->generation, payload, size, NULL, 0);
    if (result < 0 && result != -EAGAIN)
        gate->leaving = gate->failed = true;
    return result;
}

static void set_events(struct gate *gate)
{
    uint32_t events = EPOLLIN | (gate->savings || gate->reporting.asked ? EPOLLOUT : 0);
    struct epoll_event event = {.events = events, .data.u64 = GATE_SOURCE_SUPERVISOR};
    if (events != gate->supervisor_events &&
        epoll_ctl(gate->epoll, EPOLL_CTL_MOD, gate->supervisor, &event) == 0)
        gate->supervisor_events = events;
}

bool gate_supervisor_report(struct gate *gate)
{
    if (send_it(gate, MESSAGE_GATE_REPORT, &gate->reporting.last, sizeof gate->reporting.last) < 0)
        return false;
    gate->reporting.asked = false;
    return true;
}

void gate_supervisor_flush(struct gate *gate)
{
    while (gate->savings) {
        struct gate_saving *saving = gate->savings;
        if (send_it(gate, MESSAGE_POSITION_SAVE, &saving->save, sizeof saving->save) < 0)
            break;
        gate->savings = saving->next;
        if (!gate->savings)
            gate->savings_end = &gate->savings;
        free(saving);
    }
    if (gate->reporting.asked)
        gate_supervisor_report(gate);
    set_events(gate);
}

bool gate_supervisor_save(struct gate *gate, const struct message_position_save *save)
{
    struct gate_saving *saving = malloc(sizeof *saving);
    if (!saving)
        return false;
    *saving = (struct gate_saving){NULL, *save};
    *gate->savings_end = saving;
    gate->savings_end = &saving->next;
    gate_supervisor_flush(gate);
    return true;
}
