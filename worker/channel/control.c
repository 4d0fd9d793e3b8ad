/* SPDX-License-Identifier: MIT */
/* The control thread listens to the supervisor on fd 3 (the control socket, which operators talk
 * to, is the supervisor's): messages, the other threads' reports, beats on behalf of those who
 * sleep, and the orderly end. It must never wait for a thread to end or to answer: that is looked
 * at again in the next round. It may wait for a slow disk only when a further segment comes: to
 * map it takes the lock of the address space, which the syncer holds while it populates pages. */
#include "worker/channel/control.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "common/channel_page.h"
#include "common/log.h"
#include "common/message.h"
#include "common/monotonic.h"
#include "common/ring.h"
#include "worker/channel/attention.h"
#include "worker/channel/beat.h"
#include "worker/channel/channel_state.h"
#include "worker/channel/intake.h"
#include "worker/channel/reading.h"
#include "worker/channel/recorder_mailbox.h"
#include "worker/channel/wakeup.h"
#include "worker/step.h"

#define STOP_ROUND_MS 10
/* Orphaned: how long recorder and decimator may take to work off what was relayed. */
#define ORPHAN_NS (10 * NS_PER_S)

struct control {
    struct channel_state *channel;
    struct message *message;
    bool stopping;
    bool orphaned; /* the supervisor is gone */
    monotonic stop_began;
};

/* false when the supervisor's queue is full: to be tried again. */
static bool send_message(struct control *control, enum message_type type, const void *payload,
                         size_t size)
{
    if (control->orphaned)
        return true;
    int result = message_send(MESSAGE_FD, type, control->channel->inheritance->generation, payload,
                              size, NULL, 0);
    if (result == -EAGAIN)
        return false;
    if (result < 0 && result != -EPIPE && result != -ECONNRESET)
        log_error("telling the supervisor %s: %s", message_name(type), strerror(-result));
    return true;
}

static void begin_stop(struct control *control, bool drain, bool seal)
{
    struct channel_state *channel = control->channel;
    if (control->stopping)
        return;
    control->stopping = true;
    prctl(PR_SET_TIMERSLACK, 0ul, 0, 0, 0); /* as it was: the short rounds are meant to be short */
    control->stop_began = monotonic_now();
    atomic_store(&channel->stop_drains, drain);
    atomic_store(&channel->stop_seals, seal);
    atomic_store_explicit(&channel->stop_phase, STOP_RECEIVER, memory_order_release);
}

static void handle_message(struct control *control)
{
    struct channel_state *channel = control->channel;
    struct message *message = control->message;
    switch (message->header.type) {
    case MESSAGE_SEGMENT:
        if (channel->mailbox && message->segment->error == 0)
            recorder_mailbox_give(channel->mailbox, &message->fds[0], &message->segment->grant);
        break;
    case MESSAGE_ROTATE:
        if (channel->mailbox)
            recorder_mailbox_rotate(channel->mailbox);
        break;
    case MESSAGE_OUTBOX:
        if (channel->intake)
            intake_offer(channel->intake, message->outbox, message->fds);
        break;
    case MESSAGE_STOP:
        /* When the next worker takes over at once, what the kernel has queued is left to it. */
        begin_stop(control, message->stop->seal != 0, message->stop->seal != 0);
        break;
    default:
        log_warning("%s is not for a channel's worker; ignored",
                    message_name(message->header.type));
        break;
    }
}

static void read_messages(struct control *control)
{
    const char *what;
    for (;;) {
        struct pollfd readable = {.fd = MESSAGE_FD, .events = POLLIN};
        if (control->orphaned || poll(&readable, 1, 0) != 1)
            return;
        int result = message_receive(MESSAGE_FD, TO_CHILD, control->message, &what);
        if (result == -EBADMSG) {
            log_warning("refused a message from the supervisor: %s", what);
        } else if (result <= 0) {
            log_notice("the supervisor is gone; committing and leaving");
            control->orphaned = true;
            begin_stop(control, false, false); /* whoever gets the ring from a store goes on */
        } else {
            if (control->message->header.generation == control->channel->inheritance->generation)
                handle_message(control);
            message_release(control->message);
        }
    }
}

static void send_recorder_reports(struct control *control)
{
    struct channel_state *channel = control->channel;
    if (!channel->mailbox)
        return;
    struct recorder_reports reports = recorder_mailbox_see_reports(channel->mailbox);
    struct recorder_reports sent = {0};
    while (sent.done_count < reports.done_count &&
           send_message(control, MESSAGE_SEGMENT_DONE, &reports.done[sent.done_count],
                        sizeof *reports.done)) {
        sent.done_count++;
        REACHED(channel->ring.page, roll_reported);
    }
    while (sent.failed_count < reports.failed_count &&
           send_message(control, MESSAGE_SEGMENT_FAILED, &reports.failed[sent.failed_count],
                        sizeof *reports.failed))
        sent.failed_count++;
    if (reports.wanted) {
        struct commit_progress committed;
        struct message_segment_wanted wanted = {0};
        if (channel_page_read_commit(channel->ring.page, &committed))
            wanted.current_id = committed.segment_id;
        sent.wanted = send_message(control, MESSAGE_SEGMENT_WANTED, &wanted, sizeof wanted);
    }
    if (sent.done_count || sent.failed_count || sent.wanted)
        recorder_mailbox_forget_reports(channel->mailbox, &sent);
}

static void send_reports(struct control *control)
{
    struct intake *intake = control->channel->intake;
    struct message_outbox_done done;
    send_recorder_reports(control);
    while (intake && intake_see_done(intake, &done) &&
           send_message(control, MESSAGE_OUTBOX_DONE, &done, sizeof done))
        intake_forget_done(intake);
}

static void rouse_receiver(struct channel_state *channel)
{
    /* It may be about to enter recvmmsg, where a flag is not seen: the signal is repeated until it
     * has ended. */
    pthread_kill(channel->receiver_thread, SIGUSR1);
    wakeup_now(&channel->space_wakeup);
}

/* One look at the stop. Returns true when every thread that has anything to save has ended. */
static bool stop_progress(struct channel_state *channel)
{
    if (atomic_load(&channel->receiver_state) == RECEIVER_RUNS) {
        rouse_receiver(channel);
        return false;
    }
    if (channel_state_stop_phase(channel) < STOP_READERS)
        atomic_store_explicit(&channel->stop_phase, STOP_READERS, memory_order_release);
    wakeup_now(&channel->recorder_wakeup);
    wakeup_now(&channel->decimator_wakeup);
    return atomic_load(&channel->recorder_done) && atomic_load(&channel->decimator_done);
}

static void say_bye(struct control *control)
{
    struct commit_progress committed;
    struct message_bye bye = {.next_seq = ring_published(&control->channel->ring)};
    if (control->channel->mailbox &&
        channel_page_read_commit(control->channel->ring.page, &committed)) {
        bye.segment_id = committed.segment_id;
        bye.committed_length = committed.block_records ? UINT64_MAX : committed.block_start;
        if (committed.next_seq == committed.segment_first_seq)
            bye.committed_length = 0; /* begun, but nothing came */
    }
    send_message(control, MESSAGE_BYE, &bye, sizeof bye);
}

static void ignore_signal(int signal_number)
{
    (void)signal_number; /* it only interrupts a system call */
}

int control_run(struct channel_state *channel)
{
    struct control control = {.channel = channel, .message = malloc(sizeof *control.message)};
    struct sigaction interrupt = {.sa_handler =
                                      ignore_signal}; /* no SA_RESTART: that is its purpose */
    if (!control.message) {
        log_error("no memory for messages");
        return 1;
    }
    sigaction(SIGUSR1, &interrupt, NULL);
    /* A round in time for the next beat, and no sooner than the kernel finds it convenient: idle
     * workers wake up together, and the processor with them once. A courtesy: nothing depends on
     * it. */
    uint32_t beat_ms = channel->inheritance->assign.beat_ms;
    int round_ms = (int)(beat_ms - beat_ms / 5);
    prctl(PR_SET_TIMERSLACK, (unsigned long)(beat_ms / 6 * NS_PER_MS), 0, 0, 0);
    for (bool message_waits = false;;) {
        beat_busy(channel, CHANNEL_THREAD_CONTROL);
        beat_for_parked(channel);
        reading_look(channel);
        if (message_waits)
            read_messages(&control);
        send_reports(&control);
        if (atomic_load(&channel->receiver_state) == RECEIVER_SOCKET_BROKEN)
            begin_stop(&control, false, false);
        if (control.stopping && stop_progress(channel))
            break;
        if (control.orphaned && monotonic_since(monotonic_now(), control.stop_began) > ORPHAN_NS)
            break;
        struct pollfd fds[] = {{.fd = control.orphaned ? -1 : MESSAGE_FD, .events = POLLIN},
                               {.fd = channel->attention.event, .events = POLLIN}};
        beat_parked(channel, CHANNEL_THREAD_CONTROL);
        int events = poll(fds, 2, control.stopping ? STOP_ROUND_MS : round_ms);
        message_waits = events > 0 && fds[0].revents;
        if (events > 0 && fds[1].revents)
            attention_heard(&channel->attention);
    }
    send_reports(&control);
    reading_look(channel); /* what came last, if its readers have not been told */
    say_bye(&control);
    free(control.message);
    return atomic_load(&channel->receiver_state) == RECEIVER_SOCKET_BROKEN ? 1 : 0;
}
