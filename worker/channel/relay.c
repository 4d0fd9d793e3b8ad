/* SPDX-License-Identifier: MIT */
/* The relay: sends what was just received to every full-rate destination, straight from ring memory, on the receiver's
 * thread. Runs of equal length go out as one message with UDP_SEGMENT (udp(7)); what can't be cut that way goes one by
 * one with sendmmsg(2). A destination that fails never delays the others by more than PATIENCE_MS per batch. */
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/log.h"
#include "worker/channel/channel_worker.h"

#define CHUNK_MAX          64    /* datagrams per round */
#define RUN_BYTES_MAX      65507 /* one UDP payload over IPv4, which is also what segmentation may carry at once */
#define PATIENCE_MS        2     /* a full send queue may clear within this time; afterwards the batch is dropped */
#define SEGMENT_CONTROL    CMSG_SPACE(sizeof(uint16_t))

struct relay_destination {
    int fd;
    bool segmentation;
    bool impatient; /* its queue was full in this round already */
    int last_error; /* logged when it changes */
};

/* Datagrams [first, first + count) of a chunk that leave as one message. */
struct run {
    uint32_t first;
    uint32_t count;
};

struct relay {
    uint32_t count;
    struct relay_destination *destinations;
    struct destination_progress *counts;
    struct relay_progress progress;
    uint64_t repeat_until; /* datagrams before it may have been sent by the predecessor */
    /* the chunk in work */
    struct iovec vectors[CHUNK_MAX];
    uint32_t vector_count;
    uint32_t repeated;    /* datagrams of it that are < repeat_until */
    uint32_t quarantined; /* left out */
    struct run runs[CHUNK_MAX];
    uint32_t run_count;
    struct mmsghdr messages[CHUNK_MAX];
    _Alignas(struct cmsghdr) uint8_t control[CHUNK_MAX][SEGMENT_CONTROL];
};

int relay_open(struct channel_worker *worker)
{
    struct channel_page *page = worker->ring.page;
    uint32_t count = worker->spec->relay_count;
    struct relay *relay = calloc(1, sizeof *relay);
    if (!relay)
        return -ENOMEM;
    worker->relay = relay;
    relay->count = count;
    relay->destinations = calloc(count + 1, sizeof *relay->destinations);
    relay->counts = calloc(count + 1, sizeof *relay->counts);
    if (!relay->destinations || !relay->counts)
        return -ENOMEM;
    channel_page_read_relay(page, &relay->progress); /* sound: takeover_attach() has checked */
    for (uint32_t i = 0; i < count; i++) {
        relay->destinations[i] =
            (struct relay_destination){.fd = worker->inheritance->destinations[i], .segmentation = true};
        channel_page_read_destination(page, i, true, &relay->counts[i]);
        atomic_store(&page->segmentation[i], SEGMENTATION_UNTRIED << 16);
    }
    atomic_store(&worker->relay_cursor, relay->progress.next_seq);
    relay->repeat_until = atomic_load(&page->relay_attempted);
    if (relay->repeat_until > worker->writer.seq)
        relay->repeat_until = relay->progress.next_seq; /* impossible: damaged, and good for a count only */
    return 0;
}

/* Gather [from, to) into the chunk; what is in quarantine stays out. */
static void gather(struct channel_worker *worker, uint64_t from, uint64_t to)
{
    struct relay *relay = worker->relay;
    struct ring_datagram datagram;
    relay->vector_count = relay->repeated = relay->quarantined = 0;
    for (uint64_t seq = from; seq < to; seq++) {
        ring_peek(&worker->ring, seq, &datagram); /* nobody can overwrite but this thread */
        relay->progress.truncated += datagram.cut > 0;
        relay->progress.kernel_dropped += datagram.lost_before;
        if (datagram.flags & DATAGRAM_QUARANTINED) {
            relay->quarantined++;
            continue;
        }
        TEST_PAYLOAD(CONSUMER_RELAY, datagram.data, datagram.length);
        relay->repeated += seq < relay->repeat_until;
        relay->vectors[relay->vector_count++] =
            (struct iovec){(uint8_t *)(uintptr_t)datagram.data, datagram.length};
    }
}

/* Cut the chunk into runs: equal lengths, the last may be shorter; an empty datagram is a run of its own. */
static void cut_runs(struct relay *relay)
{
    relay->run_count = 0;
    for (uint32_t i = 0; i < relay->vector_count;) {
        size_t length = relay->vectors[i].iov_len;
        size_t bytes = length;
        uint32_t count = 1;
        while (length > 0 && i + count < relay->vector_count) {
            size_t next = relay->vectors[i + count].iov_len;
            if (next == 0 || next > length || bytes + next > RUN_BYTES_MAX)
                break;
            bytes += next;
            count++;
            if (next < length)
                break;
        }
        relay->runs[relay->run_count++] = (struct run){i, count};
        i += count;
    }
}

/* Messages for runs, or for single datagrams from `first` on. */
static uint32_t prepare_runs(struct relay *relay)
{
    for (uint32_t i = 0; i < relay->run_count; i++) {
        const struct run *run = &relay->runs[i];
        struct msghdr *header = &relay->messages[i].msg_hdr;
        *header = (struct msghdr){.msg_iov = &relay->vectors[run->first], .msg_iovlen = run->count};
        if (run->count == 1)
            continue;
        header->msg_control = relay->control[i];
        header->msg_controllen = SEGMENT_CONTROL;
        struct cmsghdr *control = CMSG_FIRSTHDR(header);
        uint16_t segment = (uint16_t)relay->vectors[run->first].iov_len;
        control->cmsg_level = SOL_UDP;
        control->cmsg_type = UDP_SEGMENT;
        control->cmsg_len = CMSG_LEN(sizeof segment);
        memcpy(CMSG_DATA(control), &segment, sizeof segment);
    }
    return relay->run_count;
}

static uint32_t prepare_singles(struct relay *relay, uint32_t first)
{
    for (uint32_t i = first; i < relay->vector_count; i++)
        relay->messages[i - first].msg_hdr = (struct msghdr){.msg_iov = &relay->vectors[i], .msg_iovlen = 1};
    return relay->vector_count - first;
}

static void note_error(struct channel_worker *worker, uint32_t index, int error)
{
    struct relay_destination *destination = &worker->relay->destinations[index];
    if (destination->last_error != error)
        log_warning("relay %s: %s; datagrams that it refuses are counted as relay_dropped",
                    worker->spec->destinations[index].name, strerror(error));
    destination->last_error = error;
}

enum send_verdict { SEND_AGAIN, SEND_DROP, SEND_SINGLY };

/* What to do about the message that the kernel refused. `retried`: it was tried again already. */
static enum send_verdict judge_error(struct channel_worker *worker, uint32_t index, int error, bool segmented,
                                     bool retried)
{
    struct relay_destination *destination = &worker->relay->destinations[index];
    if (error == EINTR)
        return SEND_AGAIN;
    if (segmented && (error == EIO || error == EINVAL || error == EMSGSIZE || error == EOPNOTSUPP)) {
        destination->segmentation = false;
        atomic_store(&worker->ring.page->segmentation[index], SEGMENTATION_REFUSED << 16 | (uint32_t)error);
        return SEND_SINGLY;
    }
    if (error == EAGAIN || error == ENOBUFS) {
        struct pollfd writable = {.fd = destination->fd, .events = POLLOUT};
        if (!retried && !destination->impatient && poll(&writable, 1, PATIENCE_MS) > 0)
            return SEND_AGAIN;
        destination->impatient = true;
        note_error(worker, index, error);
        return SEND_DROP;
    }
    /* An ICMP error about an earlier datagram is told once, in place of sending this one. */
    if (!retried && (error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH))
        return SEND_AGAIN;
    note_error(worker, index, error);
    return SEND_DROP;
}

static void send_chunk(struct channel_worker *worker, uint32_t index)
{
    struct relay *relay = worker->relay;
    struct relay_destination *destination = &relay->destinations[index];
    struct destination_progress *counts = &relay->counts[index];
    bool segmented = destination->segmentation && relay->run_count < relay->vector_count;
    uint32_t total = segmented ? prepare_runs(relay) : prepare_singles(relay, 0);
    uint32_t done = 0; /* messages */
    bool retried = false;

    counts->dropped += relay->quarantined;
    counts->repeated += relay->repeated;
    while (done < total) {
        int sent = sendmmsg(destination->fd, relay->messages + done, total - done, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) {
            for (int i = 0; i < sent; i++)
                counts->sent += segmented ? relay->runs[done + (uint32_t)i].count : 1;
            done += (uint32_t)sent;
            retried = false;
            continue;
        }
        bool is_run = segmented && relay->runs[done].count > 1;
        switch (judge_error(worker, index, errno, is_run, retried)) {
        case SEND_AGAIN:
            retried = true;
            break;
        case SEND_DROP:
            counts->dropped += segmented ? relay->runs[done].count : 1;
            done++;
            retried = false;
            break;
        case SEND_SINGLY:
            total = prepare_singles(relay, relay->runs[done].first);
            segmented = false;
            done = 0;
            break;
        }
    }
    if (segmented && atomic_load_explicit(&worker->ring.page->segmentation[index], memory_order_relaxed) == 0)
        atomic_store(&worker->ring.page->segmentation[index], SEGMENTATION_USED << 16);
}

void relay_run(struct channel_worker *worker)
{
    struct relay *relay = worker->relay;
    struct channel_page *page = worker->ring.page;
    uint64_t end = worker->writer.seq;

    for (uint32_t i = 0; i < relay->count; i++)
        relay->destinations[i].impatient = false;
    while (relay->progress.next_seq < end) {
        uint64_t from = relay->progress.next_seq;
        uint64_t to = end - from > CHUNK_MAX ? from + CHUNK_MAX : end;
        to = caution_limit(&worker->caution[CONSUMER_RELAY], from, to);

        atomic_store_explicit(&page->relay_attempted, to, memory_order_release);
        REACHED(page, relay_attempted);
        beat_work(worker, CHANNEL_THREAD_RECEIVER, from, to);
        gather(worker, from, to);
        cut_runs(relay);
        for (uint32_t i = 0; i < relay->count; i++)
            send_chunk(worker, i);
        REACHED(page, relay_sent);
        relay->progress.next_seq = to;
        channel_page_write_relay(page, &relay->progress, relay->counts, relay->count);
        REACHED(page, relay_committed);
        atomic_store_explicit(&worker->relay_cursor, to, memory_order_release);
    }
    beat_work(worker, CHANNEL_THREAD_RECEIVER, 0, 0);
}
