/* SPDX-License-Identifier: MIT */
/* Keeps that socket open. Called by gate_client.c. Whatever it can't be had for, readers on this
 * machine and all channels go on. */
#include "supervisor/gate/gate_tcp.h"

#include <stdio.h>
#include <string.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "supervisor/system/listening_tcp.h"

#define RETRY_NS NS_PER_S

void gate_tcp_init(struct gate_tcp *tcp, sd_event *event, const union socket_address *address,
                   void (*opened)(void *data), void *data)
{
    *tcp = (struct gate_tcp){
        .event = event, .address = address, .fd = -1, .opened = opened, .data = data};
}

static int on_retry(sd_event_source *source, uint64_t time_us, void *userdata)
{
    (void)source;
    (void)time_us;
    gate_tcp_open(userdata);
    return 0;
}

/* Told once for each reason. */
static void try_again(struct gate_tcp *tcp, const char *why)
{
    if (strcmp(tcp->trouble, why) != 0)
        log_error("%s; nobody can read over TCP, all else goes on, and it is tried again every "
                  "second",
                  why);
    snprintf(tcp->trouble, sizeof tcp->trouble, "%s", why);
    timer_arm(&tcp->retry, tcp->event, RETRY_NS, on_retry, tcp);
}

void gate_tcp_open(struct gate_tcp *tcp)
{
    char why[sizeof tcp->trouble], text[SOCKET_ADDRESS_TEXT_SIZE];
    if (tcp->address->family == 0 || tcp->fd >= 0)
        return;
    int fd = listening_tcp_open(tcp->address, "read { tcp }", why, sizeof why);
    if (fd < 0) {
        try_again(tcp, why);
        return;
    }
    socket_address_print(tcp->address, text, sizeof text);
    log_notice("whoever can connect to TCP %s can fetch every log", text);
    tcp->fd = fd;
    tcp->trouble[0] = '\0';
    tcp->opened(tcp->data);
}

void gate_tcp_close(struct gate_tcp *tcp)
{
    timer_disarm(&tcp->retry);
    fd_close(&tcp->fd);
}
