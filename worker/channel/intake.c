/* SPDX-License-Identifier: MIT */
/* Takes datagrams out of outboxes into the ring. The receiver's, but for what comes from and goes
 * to the control thread. A batch is complete in the ring before the page says that it was taken,
 * and the page says so before anybody else does; so no datagram is lost or taken twice, wherever
 * the worker dies. Must never be led astray by a publisher, nor let one keep another one waiting.
 */
#include "worker/channel/intake.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/channel_page_outboxes.h"
#include "common/fd.h"
#include "common/inflight.h"
#include "common/log.h"
#include "common/monotonic.h"
#include "common/ring.h"
#include "worker/channel/attention.h"
#include "worker/channel/channel_state.h"
#include "worker/channel/intake_box.h"
#include "worker/step.h"

/* So long it looks before it sleeps, while datagrams come more often than that: being woken costs
 * either side more. */
#define LOOK_NS (50 * NS_PER_US)
/* A publisher that has gone is noticed while others keep the receiver busy. */
#define LISTEN_NS (100 * NS_PER_MS)

struct intake {
    struct channel_state *channel;
    int call;  /* eventfd(2): there is something new for the receiver */
    int epoll; /* that, and every box's bell (its hang-up alone) and call (edges) */

    /* Between control thread and receiver. Held for moments only. */
    pthread_mutex_t lock;
    struct intake_box *offered, *done;
    _Atomic uint32_t has_offered;

    _Atomic uint64_t durable_seq; /* the syncer's */
    _Atomic uint32_t has_marks;   /* and the receiver wants to know */

    /* The receiver's, from here on. */
    struct intake_box *boxes[CHANNEL_PUBLISHERS_MAX];
    uint32_t count;
    uint32_t turn;     /* who begins */
    uint64_t told_seq; /* durable_seq as the publishers know it */
    struct outbox_progress progress;
    bool may_look; /* there is more than one processor: nobody is kept from committing */
    bool looks;    /* the last pause was a short one */
    monotonic listened;
};

int intake_open(struct channel_state *channel)
{
    struct intake *intake = calloc(1, sizeof *intake);
    if (!intake)
        return -ENOMEM;
    intake->channel = channel;
    pthread_mutex_init(&intake->lock, NULL);
    intake->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    intake->epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event edges = {.events = EPOLLIN | EPOLLET}; /* so it is never read either */
    if (intake->call < 0 || intake->epoll < 0 ||
        epoll_ctl(intake->epoll, EPOLL_CTL_ADD, intake->call, &edges) < 0) {
        int error = errno;
        fd_close(&intake->call);
        fd_close(&intake->epoll);
        free(intake);
        return -error;
    }
    cpu_set_t cpus;
    intake->may_look = sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 1;
    /* Sound: the takeover has read it. */
    channel_page_read_outboxes(channel->ring.page, &intake->progress);
    channel->intake = intake;
    return 0;
}

static void call(struct intake *intake)
{
    const uint64_t one = 1;
    ssize_t written = write(intake->call, &one, sizeof one); /* full is called enough */
    (void)written;
}

/* ---- from and to the control thread ---- */

static void append(struct intake_box **list, struct intake_box *box)
{
    while (*list)
        list = &(*list)->next;
    box->next = NULL;
    *list = box;
}

static void finish(struct intake *intake, struct intake_box *box)
{
    pthread_mutex_lock(&intake->lock);
    append(&intake->done, box);
    pthread_mutex_unlock(&intake->lock);
    attention_call(&intake->channel->attention);
}

void intake_offer(struct intake *intake, const struct message_outbox *outbox, int fds[OUTBOX_FDS])
{
    struct outbox_progress progress;
    int error;
    /* The receiver changes other places of it only. */
    if (!channel_page_read_outboxes(intake->channel->ring.page, &progress))
        progress = (struct outbox_progress){0};
    struct intake_box *box = intake_box_new(outbox, fds, &progress.entries[outbox->place],
                                            intake->channel->spec->max_datagram, &error);
    if (!box) {
        log_error("an outbox can't be worked with: %s; its publisher gets another one",
                  strerror(-error));
        box = intake_box_of_none(outbox);
        if (box)
            finish(intake, box);
        return;
    }
    pthread_mutex_lock(&intake->lock);
    append(&intake->offered, box);
    atomic_store(&intake->has_offered, 1);
    pthread_mutex_unlock(&intake->lock);
    call(intake);
}

bool intake_see_done(struct intake *intake, struct message_outbox_done *ret)
{
    pthread_mutex_lock(&intake->lock);
    const struct intake_box *box = intake->done;
    pthread_mutex_unlock(&intake->lock);
    if (!box)
        return false;
    *ret = (struct message_outbox_done){
        .id = box->id, .place = box->place, .cut_off = box->broken != NULL};
    if (box->broken)
        strncpy(ret->reason, box->broken, sizeof ret->reason - 1);
    return true;
}

void intake_forget_done(struct intake *intake)
{
    pthread_mutex_lock(&intake->lock);
    struct intake_box *box = intake->done;
    intake->done = box->next;
    pthread_mutex_unlock(&intake->lock);
    intake_box_free(&box);
}

void intake_durable(struct intake *intake, uint64_t next_seq)
{
    atomic_store(&intake->durable_seq, next_seq);
    if (atomic_load(&intake->has_marks))
        call(intake);
}

/* ---- boxes come and go ---- */

/* Odd while it sleeps. */
static void set_asleep_for(struct intake_box *box, uint32_t asleep)
{
    _Atomic uint32_t *word = &box->consumer.map.answer->asleep;
    uint32_t now = atomic_load_explicit(word, memory_order_relaxed);
    if (now % 2 != asleep)
        atomic_store_explicit(word, now + 1, memory_order_relaxed);
}

static void set_asleep(struct intake *intake, uint32_t asleep)
{
    for (uint32_t i = 0; i < intake->count; i++)
        set_asleep_for(intake->boxes[i], asleep);
}

static bool listen_to(struct intake *intake, struct intake_box *box)
{
    struct epoll_event hang_up = {.events = EPOLLET, .data.ptr = box};
    struct epoll_event edges = {.events = EPOLLIN | EPOLLET, .data.ptr = box};
    return epoll_ctl(intake->epoll, EPOLL_CTL_ADD, box->bell, &hang_up) == 0 &&
           epoll_ctl(intake->epoll, EPOLL_CTL_ADD, box->call, &edges) == 0;
}

/* The supervisor has descriptors of the same: closing ours would not end it. */
static void listen_no_more(struct intake *intake, const struct intake_box *box)
{
    epoll_ctl(intake->epoll, EPOLL_CTL_DEL, box->bell, NULL);
    epoll_ctl(intake->epoll, EPOLL_CTL_DEL, box->call, NULL);
}

/* What it has of a box before this one at its place is history: that one was done with. */
static void take_in(struct intake *intake, struct intake_box *box)
{
    uint64_t published = intake->channel->writer.seq;
    intake->progress.entries[box->place] =
        (struct outbox_entry){box->id, box->consumer.at, box->count};
    if (intake->progress.used <= box->place)
        intake->progress.used = box->place + 1;
    intake->boxes[intake->count++] = box;
    if (!listen_to(intake, box))
        box->broken = "its descriptors are not what they are said to be";
    if (box->count > atomic_load(&box->consumer.map.answer->durable))
        intake_box_mark(box, published);
    /* The worker before may have died asleep, and its publisher may wait for what it did not live
     * to say. */
    set_asleep_for(box, 0);
    outbox_release(&box->consumer, box->count);
    intake_box_ring(box);
}

static void take_offered(struct intake *intake)
{
    if (!atomic_load_explicit(&intake->has_offered, memory_order_relaxed))
        return;
    pthread_mutex_lock(&intake->lock);
    struct intake_box *box = intake->offered;
    intake->offered = NULL;
    atomic_store(&intake->has_offered, 0);
    pthread_mutex_unlock(&intake->lock);
    while (box) {
        struct intake_box *next = box->next;
        if (intake->count < CHANNEL_PUBLISHERS_MAX) {
            take_in(intake, box);
        } else {
            box->broken = "there are more outboxes than places";
            finish(intake, box);
        }
        box = next;
    }
}

static void drop(struct intake *intake, uint32_t index)
{
    struct intake_box *box = intake->boxes[index];
    listen_no_more(intake, box);
    intake->boxes[index] = intake->boxes[--intake->count];
    if (box->broken) {
        atomic_store(&box->consumer.map.answer->state, OUTBOX_CUT_OFF);
        intake_box_ring(box);
    }
    finish(intake, box);
}

/* Those that have nothing more to give. */
static void drop_done(struct intake *intake)
{
    const char *what;
    for (uint32_t i = intake->count; i-- > 0;) {
        struct intake_box *box = intake->boxes[i];
        if (box->broken || (box->hung_up && outbox_look(&box->consumer, &what) <= 0))
            drop(intake, i);
    }
}

static void say_durable(struct intake *intake)
{
    uint64_t durable_seq = atomic_load_explicit(&intake->durable_seq, memory_order_acquire);
    uint32_t marks = 0;
    if (durable_seq != intake->told_seq) {
        for (uint32_t i = 0; i < intake->count; i++)
            intake_box_durable(intake->boxes[i], durable_seq);
        intake->told_seq = durable_seq;
    }
    for (uint32_t i = 0; i < intake->count; i++)
        marks += intake->boxes[i]->mark_count;
    atomic_store_explicit(&intake->has_marks, marks > 0, memory_order_relaxed);
}

/* ---- taking ---- */

/* How many have something; those that say what can't be are cut off. */
static uint32_t look(struct intake *intake)
{
    uint32_t ready = 0;
    for (uint32_t i = 0; i < intake->count; i++) {
        struct intake_box *box = intake->boxes[i];
        if (!box->broken)
            ready += outbox_look(&box->consumer, &box->broken) > 0;
    }
    return ready;
}

struct batch {
    uint32_t count, most;
    uint64_t position; /* of the next one */
    int64_t now_ns;
};

/* Up to `share` of one box. */
static void take_from(struct intake *intake, struct intake_box *box, uint32_t share,
                      struct batch *batch)
{
    struct ring_writer *writer = &intake->channel->writer;
    struct outbox_taken taken;
    while (share-- > 0 && batch->count < batch->most && !box->broken &&
           outbox_take(&box->consumer, batch->now_ns, &taken, &box->broken) > 0) {
        ring_copy(ring_map_at(&writer->ring->data, batch->position), taken.data, taken.length);
        const struct ring_entry entry = {.position = batch->position,
                                         .time_ns = (uint64_t)taken.time_ns,
                                         .length = taken.length,
                                         .drops = writer->drops,
                                         .address = {box->address[0], box->address[1]},
                                         .origin = box->origin};
        ring_append(writer, batch->count, &entry);
        batch->position += (taken.length + CACHE_LINE - 1) & ~(uint64_t)(CACHE_LINE - 1);
        batch->count++;
        box->count++;
        box->touched = true;
    }
}

static void take_from_all(struct intake *intake, uint32_t ready, struct batch *batch)
{
    uint32_t before;
    do {
        uint32_t share = (batch->most - batch->count + ready - 1) / ready;
        before = batch->count;
        for (uint32_t i = 0; i < intake->count; i++)
            take_from(intake, intake->boxes[(intake->turn + i) % intake->count],
                      share > 0 ? share : 1, batch);
    } while (batch->count < batch->most && batch->count > before);
    intake->turn++;
}

static void note_taken(struct intake *intake, uint64_t end_seq)
{
    intake->progress.seq = end_seq;
    for (uint32_t i = 0; i < intake->count; i++) {
        const struct intake_box *box = intake->boxes[i];
        if (box->touched)
            intake->progress.entries[box->place] =
                (struct outbox_entry){box->id, box->consumer.at, box->count};
    }
    channel_page_write_outboxes(intake->channel->ring.page, &intake->progress);
}

static void release_taken(struct intake *intake, uint64_t end_seq)
{
    bool records = intake->channel->syncer != NULL;
    for (uint32_t i = 0; i < intake->count; i++) {
        struct intake_box *box = intake->boxes[i];
        if (!box->touched)
            continue;
        box->touched = false;
        if (records)
            intake_box_mark(box, end_seq);
        if (outbox_release(&box->consumer, box->count))
            intake_box_ring(box);
    }
}

/* Who has called, which is looked at anyhow, and who is gone. */
static void hear(struct intake *intake, int timeout_ms)
{
    struct epoll_event events[16];
    int count = epoll_wait(intake->epoll, events, 16, timeout_ms);
    for (int i = 0; i < count; i++) {
        struct intake_box *box = events[i].data.ptr;
        if (box && events[i].events & (EPOLLHUP | EPOLLERR))
            box->hung_up = true;
    }
    intake->listened = monotonic_now();
}

uint32_t intake_take(struct intake *intake, uint32_t most)
{
    struct ring_writer *writer = &intake->channel->writer;
    struct channel_page *page = writer->ring->page;
    take_offered(intake);
    say_durable(intake);
    if (monotonic_since(monotonic_now(), intake->listened) > LISTEN_NS)
        hear(intake, 0);
    uint32_t ready = look(intake);
    drop_done(intake);
    if (ready == 0)
        return 0;
    ring_reserve(writer, most);
    inflight_note(writer, most);
    struct batch batch = {
        .most = most, .position = writer->position, .now_ns = (int64_t)realtime_now_ns()};
    REACHED(page, intake_reserved);
    take_from_all(intake, ready, &batch);
    if (batch.count == 0)
        return 0;
    REACHED(page, intake_copied);
    uint64_t end_seq = writer->seq + batch.count;
    note_taken(intake, end_seq);
    REACHED(page, intake_taken);
    ring_publish(writer, batch.count, batch.position);
    REACHED(page, intake_published);
    release_taken(intake, end_seq);
    REACHED(page, intake_released);
    return batch.count;
}

/* ---- waiting ---- */

/* Is there anything to do? */
static bool is_stirred(struct intake *intake)
{
    if (atomic_load_explicit(&intake->has_offered, memory_order_relaxed) ||
        atomic_load_explicit(&intake->durable_seq, memory_order_relaxed) != intake->told_seq ||
        channel_state_stop_phase(intake->channel) != STOP_NOT)
        return true;
    for (uint32_t i = 0; i < intake->count; i++) {
        const struct outbox_consumer *consumer = &intake->boxes[i]->consumer;
        if (atomic_load_explicit(&consumer->map.head->committed, memory_order_relaxed) !=
            consumer->at)
            return true;
    }
    return false;
}

/* All were empty behind this time: what comes was committed later. */
static void note_looked(struct intake *intake, int64_t now_ns)
{
    for (uint32_t i = 0; i < intake->count; i++) {
        struct outbox_consumer *consumer = &intake->boxes[i]->consumer;
        consumer->not_before_ns = now_ns;
        atomic_store_explicit(&consumer->map.answer->looked_ns, now_ns, memory_order_relaxed);
    }
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void intake_wait(struct intake *intake)
{
    monotonic began = monotonic_now();
    while (intake->looks && monotonic_since(monotonic_now(), began) < LOOK_NS)
        for (int i = 0; i < 32; i++) {
            if (is_stirred(intake))
                return;
            relax();
        }
    int64_t now_ns = (int64_t)realtime_now_ns();
    set_asleep(intake, 1);
    atomic_thread_fence(memory_order_seq_cst);
    if (!is_stirred(intake)) {
        note_looked(intake, now_ns);
        hear(intake, -1);
    }
    set_asleep(intake, 0);
    intake->looks = intake->may_look && monotonic_since(monotonic_now(), began) < 2 * LOOK_NS;
}
