/* SPDX-License-Identifier: MIT */
/* Runs of equal length go out as one message with UDP_SEGMENT (udp(7)); what can't be cut that way
 * goes one by one with sendmmsg(2). Called by receiver and decimator, each with outlets of its own.
 * Must never wait in the kernel for a send: a full queue is waited for here, up to PATIENCE_MS at a
 * time. The first time that this was in vain, what the queue does not take is dropped until the
 * round ends; a destination whose queue clears in time, again and again, is waited for before every
 * call, and delays those behind it by as much. */
#include "worker/channel/outlet.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "common/log.h"

/* One UDP payload over IPv4, which is also what segmentation may carry at once */
#define RUN_BYTES_MAX 65507
/* A full send queue may clear within this time; afterwards the round is dropped */
#define PATIENCE_MS 2

void outlet_open(struct outlet *outlet)
{
    outlet->segmentation = true;
    outlet->impatient = false;
    outlet->last_error = 0;
    atomic_store(outlet->state, SEGMENTATION_UNTRIED << 16);
}

bool outlet_count_repeats(const struct outlet *outlets, struct destination_progress *counts,
                          uint32_t count, uint64_t from, uint64_t attempted)
{
    if (attempted <= from)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t first = outlet_next(&outlets[i], from);
        if (first < attempted)
            counts[i].repeated += (attempted - 1 - first) / outlets[i].every + 1;
    }
    return true;
}

void parcel_cut(struct parcel *parcel)
{
    parcel->run_count = 0;
    for (uint32_t i = 0; i < parcel->count;) {
        size_t length = parcel->vectors[i].iov_len;
        size_t bytes = length;
        uint32_t count = 1;
        while (length > 0 && i + count < parcel->count) {
            size_t next = parcel->vectors[i + count].iov_len;
            if (next == 0 || next > length || bytes + next > RUN_BYTES_MAX)
                break;
            bytes += next;
            count++;
            if (next < length)
                break;
        }
        parcel->runs[parcel->run_count].first = i;
        parcel->runs[parcel->run_count++].count = count;
        i += count;
    }
}

static uint32_t prepare_runs(struct parcel *parcel)
{
    for (uint32_t i = 0; i < parcel->run_count; i++) {
        struct msghdr *header = &parcel->messages[i].msg_hdr;
        struct iovec *first = &parcel->vectors[parcel->runs[i].first];
        *header = (struct msghdr){.msg_iov = first, .msg_iovlen = parcel->runs[i].count};
        if (parcel->runs[i].count == 1)
            continue;
        header->msg_control = parcel->control[i];
        header->msg_controllen = SEGMENT_CONTROL;
        struct cmsghdr *control = CMSG_FIRSTHDR(header);
        uint16_t segment = (uint16_t)first->iov_len;
        control->cmsg_level = SOL_UDP;
        control->cmsg_type = UDP_SEGMENT;
        control->cmsg_len = CMSG_LEN(sizeof segment);
        memcpy(CMSG_DATA(control), &segment, sizeof segment);
    }
    return parcel->run_count;
}

static uint32_t prepare_singles(struct parcel *parcel, uint32_t first)
{
    for (uint32_t i = first; i < parcel->count; i++)
        parcel->messages[i - first].msg_hdr =
            (struct msghdr){.msg_iov = &parcel->vectors[i], .msg_iovlen = 1};
    return parcel->count - first;
}

static void note_error(struct outlet *outlet, int error)
{
    if (outlet->last_error != error)
        log_warning("%s %s: %s; datagrams that it refuses are counted as dropped there",
                    outlet->kind, outlet->name, strerror(error));
    outlet->last_error = error;
}

enum send_verdict { SEND_AGAIN, SEND_DROP, SEND_SINGLY };

/* What to do about the message that the kernel refused. `retried`: it was tried again already. */
static enum send_verdict judge_error(struct outlet *outlet, int error, bool is_run, bool retried)
{
    if (error == EINTR)
        return SEND_AGAIN;
    if (is_run && (error == EIO || error == EINVAL || error == EMSGSIZE || error == EOPNOTSUPP)) {
        outlet->segmentation = false;
        atomic_store(outlet->state, SEGMENTATION_REFUSED << 16 | (uint32_t)error);
        return SEND_SINGLY;
    }
    if (error == EAGAIN || error == ENOBUFS) {
        struct pollfd writable = {.fd = outlet->fd, .events = POLLOUT};
        if (!retried && !outlet->impatient && poll(&writable, 1, PATIENCE_MS) > 0)
            return SEND_AGAIN;
        outlet->impatient = true;
        note_error(outlet, error);
        return SEND_DROP;
    }
    /* An ICMP error about an earlier datagram is told once, in place of sending this one. */
    if (!retried && (error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH))
        return SEND_AGAIN;
    note_error(outlet, error);
    return SEND_DROP;
}

void outlet_send(struct outlet *outlet, struct parcel *parcel, struct destination_progress *counts)
{
    bool segmented = outlet->segmentation && parcel->run_count < parcel->count;
    uint32_t total = segmented ? prepare_runs(parcel) : prepare_singles(parcel, 0);
    uint32_t done = 0; /* messages */
    bool retried = false;

    while (done < total) {
        int sent = sendmmsg(outlet->fd, parcel->messages + done, total - done,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) {
            for (int i = 0; i < sent; i++)
                counts->sent += segmented ? parcel->runs[done + (uint32_t)i].count : 1;
            done += (uint32_t)sent;
            retried = false;
            continue;
        }
        switch (judge_error(outlet, errno, segmented && parcel->runs[done].count > 1, retried)) {
        case SEND_AGAIN:
            retried = true;
            break;
        case SEND_DROP:
            counts->dropped += segmented ? parcel->runs[done].count : 1;
            done++;
            retried = false;
            break;
        case SEND_SINGLY:
            total = prepare_singles(parcel, parcel->runs[done].first);
            segmented = false;
            done = 0;
            break;
        }
    }
    if (segmented &&
        atomic_load_explicit(outlet->state, memory_order_relaxed) == SEGMENTATION_UNTRIED << 16)
        atomic_store(outlet->state, SEGMENTATION_USED << 16);
}
