/* SPDX-License-Identifier: MIT */
/* A channel between its parts. A recording that comes into trouble never keeps its channel from
 * relaying, whoever brought it there. The story: a channel is OPENING and waits for the archive; a
 * new archive is there, but dies before it can be asked. Real event loop, real sockets, a real
 * process as worker. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/channel_page.h"
#include "common/channel_page_refused.h"
#include "common/fd.h"
#include "supervisor/archive/archive_client.h"
#include "supervisor/channel/channel_former.h"
#include "supervisor/channel/channel_machine.h"
#include "supervisor/channel/channel_progress.h"
#include "supervisor/channel/channel_recording.h"
#include "supervisor/channel/channel_ring.h"
#include "supervisor/channel/channel_segments.h"
#include "supervisor/channel/channel_verbs.h"
#include "supervisor/channel/channels.h"
#include "tests/lib/unit.h"

static struct settings settings = {.restart = {.healthy_after_ns = NS_PER_S,
                                               .first_delay_ns = NS_PER_S,
                                               .max_delay_ns = NS_PER_S}};
static struct channel_spec spec = {.name = "engine", .max_datagram = 2048, .ring_size = 1 << 20};
static struct channel_spec *specs[] = {&spec};
static struct channel_host host;
static struct channels channels;
static struct spares spares;
static struct archive_client archive;
static struct store store;
static struct child *dying; /* an archive that died with a request unread */

static void changed(void *data)
{
    (void)data;
}

static void set_up(void)
{
    int pair[2];
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD); /* as main() has it: the event loop waits for them */
    sigprocmask(SIG_BLOCK, &children, NULL);
    struct archive_owner owner = channels_as_archive_owner(&channels);
    static const struct program program = {.worker_path = "/bin/true"};
    spec.record.enabled = 1;
    settings.channel_count = 1;
    settings.channels = specs;
    ck_assert_int_ge(sd_event_new(&host.event), 0);
    host.settings = &settings;
    host.spares = &spares;
    host.archive = &archive;
    host.store = &store;
    host.changed = changed;
    store_init(&store, host.event, changed, NULL);
    archive_client_init(&archive, host.event, &spares, &settings, &owner);
    ck_assert_int_eq(spares_init(&spares, host.event, &program, &settings), 0);
    ck_assert_int_eq(channels_make(&channels, &host), 0);

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
                     0);
    ck_assert_int_eq(send(pair[0], "x", 1, 0), 1);
    close(pair[1]);
    dying = calloc(1, sizeof *dying);
    dying->socket = pair[0];
    dying->queue_tail = &dying->queue;
    dying->owner.role = "archive";
    archive.child = dying;
}

static void tear_down(void)
{
    channels_free(&channels);
    archive_client_free(&archive);
    spares_free(&spares);
    store_free(&store);
    sd_event_unref(host.event);
}

START_TEST(trouble_while_opening_starts_the_relay)
{
    struct archive_owner owner = channels_as_archive_owner(&channels);
    struct channel *channel = channels.list[0];
    channel->life.state = CHANNEL_OPENING;
    channel->recording.state = RECORDING_RECOVERING;
    owner.back(owner.data);
    ck_assert_int_eq(channel->recording.state, RECORDING_TROUBLE);
    ck_assert_msg(channel->life.state == CHANNEL_STARTING, "%s",
                  channel_state_names[channel->life.state]);
}
END_TEST

/* Told to stop, and its last worker died before it could drain: that ends the stop. */
START_TEST(a_death_while_stopping_starts_nothing)
{
    struct channel *channel = channels.list[0];
    channel->life.state = CHANNEL_STARTING;
    channel->life.wanted = false;
    channel_machine_handle(channel, CHANNEL_EVENT_DIED, "test");
    ck_assert_msg(channel->life.state == CHANNEL_STOPPED, "%s",
                  channel_state_names[channel->life.state]);
}
END_TEST

/* What its former socket has comes first; an operator has the last word on what comes then. */
START_TEST(what_is_said_while_former_settings_are_dealt_with_counts)
{
    static const struct {
        bool wanted, stop, start, begins;
    } rows[] = {{true, false, false, true},
                {true, true, false, false},
                {false, false, true, true},
                {true, true, true, true},
                {false, false, false, false}};
    struct channel *channel = channels.list[0];
    const char *why;
    ck_assert_int_eq(channel_former_begin(channel), 0);
    ck_assert_ptr_ne(channel->spec, &spec);
    channel->former.wanted = rows[_i].wanted;
    channel->life.kept_stopped = !rows[_i].wanted;
    channel->life.wanted = false;
    channel->life.state = CHANNEL_STOPPING;
    if (rows[_i].stop)
        ck_assert_int_eq(channel_verb_stop(channel, &why), 0);
    if (rows[_i].start)
        ck_assert_int_eq(channel_verb_start(channel, &why), 0);
    channel->life.stop_seals = channel->lent.bye_received = true;
    channel_machine_handle(channel, CHANNEL_EVENT_DIED, "test");
    ck_assert_ptr_eq(channel->spec, &spec);
    ck_assert_int_eq(channel->life.state != CHANNEL_STOPPED, rows[_i].begins);
    ck_assert_int_eq(channel->life.wanted, rows[_i].begins);
}
END_TEST

/* Its socket's interface goes and comes back once more while what that has is dealt with, which an
 * operator does not wait for. */
START_TEST(former_settings_are_dealt_with_once)
{
    struct channel *channel = channels.list[0];
    const char *why;
    ck_assert_int_eq(channel_former_begin(channel), 0);
    channel->life.wanted = false;
    channel->life.state = CHANNEL_STOPPING;
    ck_assert_int_eq(channel_verb_start(channel, &why), 0);
    ck_assert_int_eq(channel_verb_restart(channel, &why), 0);
    ck_assert_msg(!channel->life.wanted && channel_former_is_wanted(channel),
                  "it would wait in BACKOFF with the settings of the socket that is of no use");
    ck_assert_int_eq(channel_former_begin(channel), -EALREADY);
    ck_assert_str_eq(channel->spec->name, "engine");
    ck_assert_ptr_eq(channel->former.configured, &spec);
    ck_assert(channel_former_finish(channel));
    ck_assert_ptr_eq(channel->spec, &spec);
}
END_TEST

/* A fresh ring for later numbers needs an orderly end of the one before. A worker that dies over
 * every such stop is not asked again at once, and ever more rarely. */
START_TEST(a_worker_that_dies_at_every_stop_is_no_storm)
{
    struct channel *channel = channels.list[0];
    uint64_t before = 0;
    settings.restart.max_delay_ns = 100 * NS_PER_S;
    for (int i = 0; i < 4; i++) {
        channel->life.state = CHANNEL_STOPPING;
        channel->life.wanted = channel->life.restart_wanted = true;
        channel->recording.renumber = true;
        channel_machine_handle(channel, CHANNEL_EVENT_DIED, "test");
        ck_assert_msg(channel->life.state == CHANNEL_BACKOFF, "%s",
                      channel_state_names[channel->life.state]);
        uint64_t wait = monotonic_since(channel->life.next_start, monotonic_now());
        ck_assert_msg(wait > before, "%llu ns after %llu ns", (unsigned long long)wait,
                      (unsigned long long)before);
        before = wait;
    }
    settings.restart.max_delay_ns = NS_PER_S;
}
END_TEST

/* A socket whose buffer in the kernel is full. */
static void hold_full_socket(struct channel *channel)
{
    union socket_address address = {
        .v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address.v4;
    const int small = 4096;
    char bytes[512] = "";
    int rx = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert(setsockopt(rx, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    ck_assert(bind(rx, &address.any, length) == 0 && getsockname(rx, &address.any, &length) == 0);
    for (int i = 0; i < 100; i++)
        sendto(rx, bytes, sizeof bytes, MSG_DONTWAIT, &address.any, length);
    channel->hold.rx = rx;
    channel->hold.receive_buffer = small;
}

/* Neither a spare nor a new process is to be had (no descriptor is left) while the kernel's buffer
 * is full: what presses must not have it tried again without end. */
START_TEST(a_worker_that_can_not_be_started_is_waited_for)
{
    struct channel *channel = channels.list[0];
    hold_full_socket(channel);
    channel->hold.ring = open("/dev/null", O_RDWR | O_CLOEXEC); /* complete, as it seems */
    struct rlimit limit, none;
    ck_assert(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    none = (struct rlimit){0, limit.rlim_max};
    ck_assert(setrlimit(RLIMIT_NOFILE, &none) == 0);
    channel->life.wanted = true;
    channel->life.state = CHANNEL_STARTING;
    channel_machine_handle(channel, CHANNEL_EVENT_DIED, "test");
    ck_assert(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    ck_assert_msg(channel->life.state == CHANNEL_BACKOFF, "%s",
                  channel_state_names[channel->life.state]);
    ck_assert_uint_le(channel->life.restart.deaths_in_a_row, 2);
}
END_TEST

/* What comes in after there is no room for it any more. */
START_TEST(what_a_wait_costs_is_known)
{
    struct channel *channel = channels.list[0];
    const monotonic now = monotonic_now();
    channel->ledger.rate = (struct receive_rate){
        .at = now, .known = true, .datagrams_per_s = 1000, .bytes_per_s = 512000};
    channel->life.state = CHANNEL_BACKOFF;
    channel->life.next_start = monotonic_add(now, 3 * NS_PER_S);
    ck_assert_uint_eq(channel_progress_expected_drops(channel, now), 0); /* it has no socket */
    hold_full_socket(channel);
    ck_assert_uint_eq(channel_progress_stall_budget(channel), 0);
    ck_assert_uint_eq(channel_progress_expected_drops(channel, now), 3000);
    channel->life.state = CHANNEL_RUNNING;
    ck_assert_uint_eq(channel_progress_expected_drops(channel, now), 0);
}
END_TEST

START_TEST(what_keeps_a_log_from_being_rotated_is_said)
{
    struct channel *channel = channels.list[0];
    const char *why = "";
    channel->life.state = CHANNEL_BACKOFF;
    channel->recording.state = RECORDING_NONE;
    ck_assert_int_eq(channel_verb_rotate(channel, &why), -EAGAIN);
    ck_assert_ptr_nonnull(strstr(why, "not running"));
    spec.record.enabled = 0;
    ck_assert_int_eq(channel_verb_rotate(channel, &why), -EINVAL);
    ck_assert_ptr_nonnull(strstr(why, "no record section"));
}
END_TEST

/* Right after datagrams came there may be no record yet; what waits in the ring is something to
 * rotate all the same. */
START_TEST(only_a_segment_without_records_and_without_datagrams_is_empty)
{
    static struct channel_page page;
    struct channel *channel = channels.list[0];
    struct commit_progress commit = {.next_seq = 7};
    const char *why = "";
    channel->hold.page = &page;
    channel->life.state = CHANNEL_RUNNING;
    channel->recording.state = RECORDING_OPEN;
    page.public.published = 7;
    channel_page_write_commit(&page, &commit);
    ck_assert_int_eq(channel_verb_rotate(channel, &why), CHANNEL_VERB_NOTHING);
    ck_assert_ptr_nonnull(strstr(why, "empty"));

    page.public.published = 8;
    ck_assert(!channel_segments_is_empty(channel));
    commit = (struct commit_progress){.segment_id = 1, .segment_first_seq = 7, .next_seq = 8};
    channel_page_write_commit(&page, &commit);
    ck_assert_msg(!channel_segments_is_empty(channel), "also before the worker has reported it");
    commit = (struct commit_progress){.segment_id = 2, .segment_first_seq = 8, .next_seq = 8};
    channel_page_write_commit(&page, &commit);
    ck_assert_msg(channel_segments_is_empty(channel), "it has just begun");

    channel_page_write_commit(&page, &commit);
    page.public.commit[0].recorded = page.public.commit[1].recorded = 99;
    ck_assert_msg(!channel_segments_is_empty(channel), "who can't read it doesn't know");
    channel->hold.page = NULL;
}
END_TEST

/* ---- an archive that listens ---- */

static int listening(void)
{
    int pair[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair),
                     0);
    fd_close(&dying->socket);
    dying->socket = pair[0];
    return pair[1];
}

/* The next request of this type; NULL when none was made. */
static const struct message *asked(int archive_end, enum message_type type)
{
    static struct message message;
    const char *what = "";
    while (message_receive(archive_end, TO_CHILD, &message, &what) > 0)
        if (message.header.type == type)
            return &message;
    return NULL;
}

static void record_to(struct channel *channel, uint64_t id, uint64_t next_id)
{
    channel->life.state = CHANNEL_BACKOFF; /* nobody listens */
    channel->recording.state = RECORDING_OPEN;
    channel->recording.recovered = true;
    channel->hold.segment = open("/dev/null", O_RDWR | O_CLOEXEC);
    channel->hold.segment_grant = (struct segment_grant){.id = id, .size = 1 << 20};
    channel->hold.next = next_id ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
    channel->hold.next_grant = (struct segment_grant){.id = next_id, .size = 1 << 20};
}

START_TEST(when_the_next_segment_fails_and_then_the_current_one_recording_is_tried_again)
{
    struct channel *channel = channels.list[0];
    struct message_segment_failed failed = {.segment_id = 8, .error = EIO};
    int archive_end = listening();
    record_to(channel, 7, 8);
    channel_segments_failed(channel, &failed);
    ck_assert(channel->recording.next_retry);
    failed.segment_id = 7;
    channel_segments_failed(channel, &failed);
    ck_assert_int_eq(channel->recording.state, RECORDING_TROUBLE);
    ck_assert_ptr_null(asked(archive_end, MESSAGE_OPEN_SEGMENT));
    channel_segments_retry(channel);
    ck_assert_int_eq(channel->recording.state, RECORDING_OPENING);
    ck_assert_ptr_nonnull(asked(archive_end, MESSAGE_OPEN_SEGMENT));

    static struct message message;
    static const struct message_segment segment = {.grant = {.id = 9, .size = 1 << 20}};
    message.header.type = MESSAGE_SEGMENT;
    message.segment = &segment;
    message.fds[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
    channel_recording_answer(channel, &message);
    ck_assert_int_eq(channel->recording.state, RECORDING_OPEN);
    channel_segments_wanted(channel);
    ck_assert_msg(channel->recording.next_requested, "the one after it can be had as well");
    ck_assert_ptr_nonnull(asked(archive_end, MESSAGE_OPEN_SEGMENT));
    fd_close(&archive_end);
}
END_TEST

/* A disk gives room, and refuses what is written: segment after segment is made and given up, ever
 * more slowly. One that was filled makes it forgotten. */
START_TEST(a_disk_that_refuses_every_segment_is_given_them_ever_more_slowly)
{
    struct channel *channel = channels.list[0];
    struct message_segment_failed failed = {.error = EIO};
    int archive_end = listening();
    for (uint64_t id = 7; id < 10; id++) {
        record_to(channel, id, id + 1);
        channel->recording.next_requested = channel->recording.next_retry = false;
        failed.segment_id = id;
        channel_segments_failed(channel, &failed);
        ck_assert_int_eq(channel->recording.state, RECORDING_OPEN);
        channel_segments_wanted(channel);
        ck_assert_int_eq(channel->recording.next_requested, id < 9);
        ck_assert_int_eq(channel->recording.next_retry, id == 9);
        ck_assert_int_eq(asked(archive_end, MESSAGE_OPEN_SEGMENT) != NULL, id < 9);
        fd_close(&channel->hold.segment);
    }
    channel_segments_retry(channel);
    ck_assert(channel->recording.next_requested);

    const struct message_segment_done done = {
        .finished_id = 11, .finished_length = 1000, .begun_id = 12};
    record_to(channel, 11, 12);
    channel->recording.next_requested = false;
    channel_segments_done(channel, &done);
    asked(archive_end, MESSAGE_OPEN_SEGMENT);
    channel_segments_wanted(channel);
    ck_assert(channel->recording.next_requested && !channel->recording.next_retry);
    fd_close(&archive_end);
}
END_TEST

/* Length 0 has the archive remove the file. */
START_TEST(no_worker_can_have_a_segment_with_records_removed)
{
    struct channel *channel = channels.list[0];
    const struct message_segment_failed failed = {.segment_id = 7, .error = EIO};
    int archive_end = listening();
    record_to(channel, 7, 0);
    channel->recording.begun = true;
    channel_segments_failed(channel, &failed);
    const struct message *seal = asked(archive_end, MESSAGE_SEAL);
    ck_assert_ptr_nonnull(seal);
    ck_assert_uint_eq(seal->seal->length, UINT64_MAX);

    record_to(channel, 7, 0);
    channel->recording.begun = false;
    channel_segments_failed(channel, &failed);
    seal = asked(archive_end, MESSAGE_SEAL);
    ck_assert_ptr_nonnull(seal);
    ck_assert_uint_eq(seal->seal->length, 0);
    fd_close(&archive_end);
}
END_TEST

/* A supervisor before this one may have asked for the copy: what it left has to be recovered first.
 * And what neither is held nor waits to be sealed is dealt with. */
START_TEST(a_refusal_is_noted_until_recovery_has_come_to_it)
{
    static struct channel_page page;
    struct channel *channel = channels.list[0];
    const uint64_t left_before = 11, current = 12;
    channel->hold.page = &page;
    channel->hold.segment = open("/dev/null", O_RDWR | O_CLOEXEC);
    channel->hold.segment_grant.id = current;
    channel_page_note_refused(&page, left_before);
    channel_page_note_refused(&page, current);
    channel->recording.recovered = false;
    channel_segments_look(channel);
    ck_assert(channel_page_was_refused(&page, left_before));
    channel->recording.recovered = true;
    channel_segments_look(channel);
    ck_assert(!channel_page_was_refused(&page, left_before));
    ck_assert(channel_page_was_refused(&page, current));
    channel->hold.page = NULL;
}
END_TEST

/* ---- a ring that is given up while its log is recovered ---- */

static void answer_recovered(uint32_t flags, int error)
{
    const struct archive_owner owner = channels_as_archive_owner(&channels);
    static struct message message;
    const struct message_recovered recovered = {
        .channel = "engine", .flags = flags, .error = error, .next_seq = 100};
    message = (struct message){.header = {.type = MESSAGE_RECOVERED}, .recovered = &recovered};
    for (size_t i = 0; i < sizeof message.fds / sizeof *message.fds; i++)
        message.fds[i] = -1;
    owner.answer(owner.data, "engine", &message);
}

static void give_up_ring(struct channel *channel)
{
    channel->lent.ring_refused = true;
    channel_ring_give_up(channel);
    channel_recording_begin(channel);
}

/* A ring was restored, and its segment was not: what was asked for it says nothing of the next. */
START_TEST(recovery_is_asked_anew_when_the_ring_is_given_up)
{
    struct channel *channel = channels.list[0];
    int archive_end = listening();
    channel->life.state = CHANNEL_BACKOFF;
    channel->recording.restored = channel->recording.placed = true;
    channel_recording_begin(channel);
    const struct message *first = asked(archive_end, MESSAGE_RECOVER);
    ck_assert_ptr_nonnull(first);
    ck_assert_uint_eq(first->recover->flags & RECOVER_ANEW, 0);
    give_up_ring(channel);
    const struct message *second = asked(archive_end, MESSAGE_RECOVER);
    ck_assert_ptr_nonnull(second);
    ck_assert_uint_eq(second->recover->flags & RECOVER_ANEW, RECOVER_ANEW);
    answer_recovered(0, 0);
    ck_assert_int_eq(channel->recording.state, RECORDING_RECOVERING);
    answer_recovered(RECOVER_ANEW, 0);
    ck_assert_int_eq(channel->recording.state, RECORDING_OPENING);
    ck_assert(channel->recording.placed);
}
END_TEST

/* The same beside a segment in use; then the archive dies, or can't say where the log goes on. */
START_TEST(no_segment_is_asked_for_before_the_log_is_known)
{
    struct channel *channel = channels.list[0];
    int archive_end = listening();
    record_to(channel, 7, 0);
    channel->recording.recovered = false;
    channel->recording.restored = channel->recording.placed = true;
    channel_recording_begin(channel);
    ck_assert(channel->recording.cleaning);
    give_up_ring(channel);
    ck_assert_int_eq(channel->recording.state, RECORDING_RECOVERING);
    while (asked(archive_end, MESSAGE_RECOVER))
        ;
    answer_recovered(0, 0);
    ck_assert_int_eq(channel->recording.state, RECORDING_RECOVERING);
    if (_i == 0) {
        channel_recording_archive_back(channel);
    } else {
        answer_recovered(RECOVER_ANEW, EIO);
        ck_assert_int_eq(channel->recording.state, RECORDING_TROUBLE);
        channel_segments_retry(channel);
    }
    ck_assert_int_eq(channel->recording.state, RECORDING_RECOVERING);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("channel_machine");
    TCase *cases = tcase_create("between");
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, trouble_while_opening_starts_the_relay);
    tcase_add_loop_test(cases, what_is_said_while_former_settings_are_dealt_with_counts, 0, 5);
    tcase_add_test(cases, former_settings_are_dealt_with_once);
    tcase_add_test(cases, a_death_while_stopping_starts_nothing);
    tcase_add_test(cases, a_worker_that_dies_at_every_stop_is_no_storm);
    tcase_add_test(cases, a_worker_that_can_not_be_started_is_waited_for);
    tcase_add_test(cases, what_a_wait_costs_is_known);
    tcase_add_test(cases, what_keeps_a_log_from_being_rotated_is_said);
    tcase_add_test(cases, only_a_segment_without_records_and_without_datagrams_is_empty);
    tcase_add_test(cases,
                   when_the_next_segment_fails_and_then_the_current_one_recording_is_tried_again);
    tcase_add_test(cases, a_disk_that_refuses_every_segment_is_given_them_ever_more_slowly);
    tcase_add_test(cases, no_worker_can_have_a_segment_with_records_removed);
    tcase_add_test(cases, recovery_is_asked_anew_when_the_ring_is_given_up);
    tcase_add_loop_test(cases, no_segment_is_asked_for_before_the_log_is_known, 0, 2);
    tcase_add_test(cases, a_refusal_is_noted_until_recovery_has_come_to_it);
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
