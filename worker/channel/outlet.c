/* SPDX-License-Identifier: MIT */
/* Runs of equal length go out as one message with UDP_SEGMENT (udp(7)); what can't be cut that way
 * goes one by one with sendmmsg(2). Called by receiver and decimator, each with outlets of its own.
 * Must never wait while there is something to receive: a full queue is waited for only in silence,
 * up to PATIENCE_MS, and no longer after that was in vain, until the queue takes a datagram again.
 */
#include "worker/channel/outlet.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "common/log.h"

/* One UDP payload over IPv4, which is also what segmentation may carry at once */
#define RUN_BYTES_MAX 65507
/* A full send queue may clear within this time */
#define PATIENCE_MS   2
#define TOLD_EVERY_NS (3600 * NS_PER_S)

void outlet_open(struct outlet *outlet)
{
    outlet->segmentation = true;
    outlet->impatient = false;
    outlet->last_error = 0;
    atomic_store(&outlet->place->segmentation, SEGMENTATION_UNTRIED << 16);
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
    monotonic now = monotonic_now();
    atomic_store_explicit(&outlet->place->send_error, (uint16_t)error, memory_order_relaxed);
    if (outlet->last_error == error && monotonic_since(now, outlet->told) < TOLD_EVERY_NS)
        return;
    log_warning("%s %s: %s; datagrams that it refuses are counted as dropped there", outlet->kind,
                outlet->name, strerror(error));
    outlet->last_error = error;
    outlet->told = now;
}

/* It takes datagrams again. What it refuses next is told again, but only if that is something else:
 * one that takes every other datagram would fill the log. */
static void note_taken(struct outlet *outlet)
{
    outlet->impatient = false;
    if (atomic_load_explicit(&outlet->place->send_error, memory_order_relaxed))
        atomic_store_explicit(&outlet->place->send_error, 0, memory_order_relaxed);
}

/* Until its send queue has room; false when that takes too long, or something is to be received. A
 * signal, which stopping and rotating send, is no reason to drop. */
static bool wait_for_room(const struct outlet *outlet)
{
    struct pollfd fds[] = {{.fd = outlet->fd, .events = POLLOUT},
                           {.fd = outlet->receives, .events = POLLIN}};
    int ready;
    if (outlet->impatient)
        return false;
    do
        ready = poll(fds, 2, PATIENCE_MS);
    while (ready < 0 && errno == EINTR);
    return ready > 0 && fds[0].revents && !fds[1].revents;
}

enum send_verdict { SEND_AGAIN, SEND_DROP, SEND_DROP_ALL, SEND_SINGLY };

/* What to do about the message that the kernel refused. run_segment: the length of the datagrams of
 * a run, 0 for a single one. `retried`: it was tried again already. */
static enum send_verdict judge_error(struct outlet *outlet, int error, size_t run_segment,
                                     bool retried)
{
    if (error == EINTR)
        return SEND_AGAIN;
    if (run_segment > 0 && (error == EINVAL || error == EMSGSIZE)) {
        outlet->segment_refused = run_segment; /* more than the path's MTU: shorter ones may do */
        return SEND_SINGLY;
    }
    if (run_segment > 0 && (error == EIO || error == EOPNOTSUPP)) {
        outlet->segmentation = false;
        atomic_store(&outlet->place->segmentation, SEGMENTATION_REFUSED << 16 | (uint32_t)error);
        return SEND_SINGLY;
    }
    if (error == EDESTADDRREQ) /* it is down: the supervisor has said so, and tries to reach it */
        return SEND_DROP_ALL;
    if (error == EAGAIN || error == ENOBUFS) {
        if (!retried && wait_for_room(outlet))
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

static size_t run_segment(const struct parcel *parcel, uint32_t run)
{
    return parcel->runs[run].count > 1 ? parcel->vectors[parcel->runs[run].first].iov_len : 0;
}

static bool may_segment(const struct outlet *outlet, const struct parcel *parcel)
{
    if (!outlet->segmentation || parcel->run_count == parcel->count)
        return false;
    for (uint32_t i = 0; i < parcel->run_count && outlet->segment_refused; i++)
        if (run_segment(parcel, i) >= outlet->segment_refused)
            return false;
    return true;
}

static uint32_t datagrams_in(const struct parcel *parcel, bool segmented, uint32_t message)
{
    return segmented ? parcel->runs[message].count : 1;
}

void outlet_send(struct outlet *outlet, struct parcel *parcel, struct destination_progress *counts)
{
    bool segmented = may_segment(outlet, parcel);
    uint32_t total = segmented ? prepare_runs(parcel) : prepare_singles(parcel, 0);
    uint32_t done = 0; /* messages */
    bool retried = false;

    while (done < total) {
        int sent = sendmmsg(outlet->fd, parcel->messages + done, total - done,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) {
            for (int i = 0; i < sent; i++)
                counts->sent += datagrams_in(parcel, segmented, done + (uint32_t)i);
            done += (uint32_t)sent;
            retried = false;
            note_taken(outlet);
            continue;
        }
        size_t segment = segmented ? run_segment(parcel, done) : 0;
        switch (judge_error(outlet, errno, segment, retried)) {
        case SEND_AGAIN:
            retried = true;
            break;
        case SEND_DROP:
            counts->dropped += datagrams_in(parcel, segmented, done);
            done++;
            retried = false;
            break;
        case SEND_DROP_ALL:
            for (; done < total; done++)
                counts->dropped += datagrams_in(parcel, segmented, done);
            break;
        case SEND_SINGLY:
            total = prepare_singles(parcel, parcel->runs[done].first);
            segmented = false;
            done = 0;
            break;
        }
    }
    if (segmented && atomic_load_explicit(&outlet->place->segmentation, memory_order_relaxed) ==
                         SEGMENTATION_UNTRIED << 16)
        atomic_store(&outlet->place->segmentation, SEGMENTATION_USED << 16);
}
