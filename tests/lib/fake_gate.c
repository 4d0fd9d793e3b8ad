/* SPDX-License-Identifier: MIT */
/* Serves readers for unit tests, simply: one thread that looks every two milliseconds. What it
 * can't do ends the test. */
#include "tests/lib/fake_gate.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/client/holdfast.h"
#include "common/fd.h"
#include "tests/lib/log_maker.h"
#include "tests/lib/outbox_fixture.h"
#include "tests/lib/ring_fixture.h"

#define LOOK_MS 2

struct request {
    struct fake_gate *gate;
    struct fake_connection *from;
    const struct read_packet *packet;
};

static void answer_with_fd(const struct request *request, enum read_type type, const void *payload,
                           size_t size, int fd)
{
    read_packet_send(request->from->fd, type, request->packet->header.request, payload, size, fd);
}

static void answer(const struct request *request, enum read_type type, const void *payload,
                   size_t size)
{
    answer_with_fd(request, type, payload, size, -1);
}

static void refuse(const struct request *request, int error)
{
    const struct read_refused refused = {.error = error, .reason = "as the test wants"};
    answer(request, READ_REFUSED, &refused, sizeof refused);
}

/* ---- requests ---- */

static int open_read_only(int fd)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static void on_attach(const struct request *request)
{
    const struct fake_gate *gate = request->gate;
    if (strcmp(request->packet->attach->channel, RING_FIXTURE_CHANNEL) != 0) {
        refuse(request, ENOENT);
        return;
    }
    request->from->attached = true;
    const struct read_attached attached = {
        .records = gate->records, .has_ring = gate->ring != NULL, .ring = gate->ring_number};
    int fd = gate->ring ? open_read_only(gate->ring->memory.ring) : -1;
    answer_with_fd(request, READ_ATTACHED, &attached, sizeof attached, fd);
    fd_close(&fd);
}

/* The segment that the question is about, or count. */
static size_t find_segment(const struct fake_gate *gate, const struct read_find *find)
{
    size_t count = gate->segment_count, at = 0;
    switch (find->by) {
    case READ_BY_SEQ:
        while (at + 1 < count && gate->segments[at + 1].first_seq <= find->seq)
            at++;
        return at;
    case READ_FIRST:
    case READ_BY_TIME: /* any earlier one will do */
        return 0;
    case READ_LAST:
        return count > 0 ? count - 1 : 0;
    default:
        while (at < count && gate->segments[at].first_seq <= find->seq)
            at++;
        return at;
    }
}

static void on_find(const struct request *request)
{
    const struct fake_gate *gate = request->gate;
    size_t at = find_segment(gate, request->packet->find);
    if (gate->find_error || at >= gate->segment_count) {
        refuse(request, gate->find_error ? gate->find_error : ENOENT);
        return;
    }
    const struct fake_segment *segment = &gate->segments[at];
    struct read_found found = {.first_seq = segment->first_seq,
                               .next_first_seq = UINT64_MAX,
                               .oldest_seq = gate->segments[0].first_seq,
                               .is_open = segment->is_open};
    if (at + 1 < gate->segment_count)
        found.next_first_seq = gate->segments[at + 1].first_seq;
    int fd = open(segment->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        refuse(request, errno);
    else
        answer_with_fd(request, READ_SEGMENT_FOUND, &found, sizeof found, fd);
    fd_close(&fd);
}

static struct read_position_entry *find_position(struct fake_gate *gate, const char *name,
                                                 bool make)
{
    for (size_t i = 0; i < gate->position_count; i++)
        if (strcmp(gate->positions[i].name, name) == 0)
            return &gate->positions[i];
    if (!make || gate->position_count == FAKE_GATE_POSITIONS)
        return NULL;
    struct read_position_entry *entry = &gate->positions[gate->position_count++];
    *entry = (struct read_position_entry){.channel = RING_FIXTURE_CHANNEL, .uid = getuid()};
    snprintf(entry->name, sizeof entry->name, "%s", name);
    return entry;
}

static void on_position(const struct request *request)
{
    struct fake_gate *gate = request->gate;
    unsigned type = request->packet->header.type;
    struct read_position position = *request->packet->position;
    for (int i = 0; i < FAKE_GATE_CONNECTIONS; i++) {
        const struct fake_connection *other = &gate->connections[i];
        if (other != request->from && other->fd >= 0 &&
            strcmp(other->position, position.name) == 0) {
            refuse(request, EBUSY);
            return;
        }
    }
    if (type == READ_SAVE && strcmp(request->from->position, position.name) != 0) {
        refuse(request, EINVAL);
        return;
    }
    struct read_position_entry *entry = find_position(gate, position.name, type == READ_SAVE);
    if (type == READ_FORGET && !entry) {
        refuse(request, ENOENT);
        return;
    }
    if (type == READ_FORGET && entry)
        *entry = gate->positions[--gate->position_count];
    if (type == READ_CLAIM) {
        snprintf(request->from->position, sizeof request->from->position, "%s", position.name);
        position.seq = entry ? entry->seq : 0;
    }
    if (type == READ_SAVE && entry)
        entry->seq = position.seq;
    position.known = entry != NULL;
    answer(request, READ_POSITION, &position, sizeof position);
}

/* Entry number `index` of the list of channels. */
static void name_channel(size_t index, char ret[CHANNEL_NAME_SIZE])
{
    if (index == 0)
        snprintf(ret, CHANNEL_NAME_SIZE, "%s", RING_FIXTURE_CHANNEL);
    else
        snprintf(ret, CHANNEL_NAME_SIZE, "x%03zu", index);
}

static void on_list(const struct request *request)
{
    struct {
        struct read_channels head;
        struct read_channel entries[READ_LIST_MAX];
    } list = {0};
    for (size_t i = 0; i < request->gate->channel_count && list.head.count < READ_LIST_MAX; i++) {
        struct read_channel *entry = &list.entries[list.head.count];
        name_channel(i, entry->name);
        entry->can = HF_CAN_OLD | HF_CAN_NEW;
        entry->end_seq = i;
        if (request->gate->endless || strcmp(entry->name, request->packet->list->after) > 0)
            list.head.count++;
    }
    answer(request, READ_CHANNELS, &list,
           sizeof list.head + list.head.count * sizeof *list.entries);
}

static void on_positions(const struct request *request)
{
    struct {
        struct read_positions head;
        struct read_position_entry entries[READ_LIST_MAX];
    } list = {0};
    const struct fake_gate *gate = request->gate;
    for (size_t i = 0; i < gate->position_count && list.head.count < READ_LIST_MAX; i++)
        if (strcmp(gate->positions[i].name, request->packet->list_positions->after) > 0)
            list.entries[list.head.count++] = gate->positions[i];
    answer(request, READ_POSITION_LIST, &list,
           sizeof list.head + list.head.count * sizeof *list.entries);
}

static void on_segments(const struct request *request)
{
    struct {
        struct read_segments head;
        struct read_segment_entry entries[READ_LIST_MAX];
    } list = {0};
    const struct fake_gate *gate = request->gate;
    for (size_t i = 0; i < gate->segment_count && list.head.count < READ_LIST_MAX; i++) {
        struct read_segment_entry *entry = &list.entries[list.head.count];
        *entry = (struct read_segment_entry){.first_seq = gate->segments[i].first_seq,
                                             .is_open = gate->segments[i].is_open};
        snprintf(entry->name, sizeof entry->name, "%s", strrchr(gate->segments[i].path, '/') + 1);
        if (strcmp(entry->name, request->packet->list_segments->after) > 0)
            list.head.count++;
    }
    answer(request, READ_SEGMENT_LIST, &list,
           sizeof list.head + list.head.count * sizeof *list.entries);
}

static void on_readers(const struct request *request)
{
    struct {
        struct read_readers head;
        struct read_reader_entry entries[FAKE_GATE_CONNECTIONS];
    } list = {0};
    for (uint32_t i = 0; i < FAKE_GATE_CONNECTIONS; i++)
        if (request->gate->connections[i].fd >= 0 && i + 1 > request->packet->list_readers->after)
            list.entries[list.head.count++] =
                (struct read_reader_entry){.number = i + 1, .pid = (uint32_t)getpid()};
    answer(request, READ_READER_LIST, &list,
           sizeof list.head + list.head.count * sizeof *list.entries);
}

static void on_hello(const struct request *request)
{
    const struct read_welcome welcome = {1};
    if (request->gate->greet_error)
        refuse(request, request->gate->greet_error);
    else
        answer(request, READ_WELCOME, &welcome, sizeof welcome);
}

static void on_publish(const struct request *request)
{
    struct fake_gate *gate = request->gate;
    const struct read_header about = {.type = READ_PUBLISHED,
                                      .request = request->packet->header.request,
                                      .size = sizeof(struct read_published)};
    if (gate->publish_error || !gate->outbox) {
        refuse(request, gate->publish_error ? gate->publish_error : EAGAIN);
        return;
    }
    const struct read_published published = {gate->outbox->map.answer->id};
    int fds[OUTBOX_FDS];
    outbox_fixture_lend(gate->outbox, fds);
    read_packet_send_fds(request->from->fd, &about, &published, fds, OUTBOX_FDS);
    outbox_fixture_let_go(gate->outbox);
    gate->outbox = NULL;
}

static void serve(const struct request *request)
{
    switch (request->packet->header.type) {
    case READ_HELLO:
        on_hello(request);
        break;
    case READ_ATTACH:
        on_attach(request);
        break;
    case READ_FIND:
        on_find(request);
        break;
    case READ_ARM:
        request->from->armed = true;
        request->from->arm = *request->packet->arm;
        break;
    case READ_PROGRESS:
        request->gate->progress = request->packet->progress->next_seq;
        break;
    case READ_CLAIM:
    case READ_SAVE:
    case READ_FORGET:
        on_position(request);
        break;
    case READ_LIST:
        on_list(request);
        break;
    case READ_POSITIONS:
        on_positions(request);
        break;
    case READ_SEGMENTS:
        on_segments(request);
        break;
    case READ_PUBLISH:
        on_publish(request);
        break;
    default:
        on_readers(request);
        break;
    }
}

/* ---- the thread ---- */

static void disconnect(struct fake_connection *connection)
{
    fd_close(&connection->fd);
    *connection = (struct fake_connection){.fd = -1};
}

static void receive(struct fake_gate *gate, struct fake_connection *connection)
{
    static struct read_packet packet;
    const char *what;
    const struct request request = {gate, connection, &packet};
    while (connection->fd >= 0) {
        int result = read_packet_receive(connection->fd, TO_GATE, &packet, &what);
        if (result == -EAGAIN)
            return;
        if (result <= 0) {
            disconnect(connection);
            return;
        }
        gate->requests[packet.header.type]++;
        if (gate->drop_once)
            disconnect(connection);
        else if (!gate->deaf)
            serve(&request);
        gate->drop_once = false;
        read_packet_release(&packet);
    }
}

static void wake(struct fake_gate *gate, struct fake_connection *connection)
{
    struct commit_progress commit = {0};
    const struct read_woken woken = {gate->ring ? gate->ring_number : 0};
    bool due = connection->arm.ring != woken.ring;
    if (!due && gate->ring && connection->arm.what == READ_FOR_COMMITTED)
        due = channel_page_read_commit(gate->ring->ring.page, &commit) &&
              commit.next_seq > connection->arm.seq;
    else if (!due && gate->ring)
        due = ring_published(&gate->ring->ring) > connection->arm.seq;
    if (due && read_packet_send(connection->fd, READ_WOKEN, 0, &woken, sizeof woken, -1) == 0)
        connection->armed = false;
}

static bool flood(const struct fake_gate *gate, const struct fake_connection *connection)
{
    const struct read_woken woken = {gate->ring ? gate->ring_number : 0};
    const struct read_channels none = {0};
    const enum read_type type = gate->flood;
    int result = type ? 0 : -EAGAIN;
    while (result == 0 && gate->flood)
        result = type == READ_WOKEN
                     ? read_packet_send(connection->fd, type, 0, &woken, sizeof woken, -1)
                     : read_packet_send(connection->fd, READ_CHANNELS, INT32_MAX, &none,
                                        sizeof none, -1);
    return result < 0;
}

static void take_in(struct fake_gate *gate)
{
    const struct read_refused refused = {.error = EBUSY};
    int fd = accept4(gate->listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0 && gate->turns_away > 0) {
        gate->turns_away--;
        read_packet_send(fd, READ_REFUSED, 0, &refused, sizeof refused, -1);
        fd_close(&fd);
    }
    for (int i = 0; fd >= 0 && i < FAKE_GATE_CONNECTIONS; i++)
        if (gate->connections[i].fd < 0)
            gate->connections[i] = (struct fake_connection){.fd = fd_take(&fd)};
    fd_close(&fd);
}

static void *gate_main(void *data)
{
    struct fake_gate *gate = data;
    for (;;) {
        pthread_mutex_lock(&gate->lock);
        bool stop = gate->stop, is_full = true;
        take_in(gate);
        for (int i = 0; !stop && i < FAKE_GATE_CONNECTIONS; i++) {
            struct fake_connection *connection = &gate->connections[i];
            receive(gate, connection);
            if (connection->fd >= 0 && connection->armed)
                wake(gate, connection);
            if (connection->fd >= 0)
                is_full &= flood(gate, connection);
        }
        gate->is_full = is_full && gate->flood;
        pthread_mutex_unlock(&gate->lock);
        if (stop)
            return NULL;
        poll(NULL, 0, gate->flood ? 0 : LOOK_MS);
    }
}

void fake_gate_start(struct fake_gate *gate)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    *gate = (struct fake_gate){.records = true, .ring_number = 1, .channel_count = 1};
    for (int i = 0; i < FAKE_GATE_CONNECTIONS; i++)
        gate->connections[i].fd = -1;
    pthread_mutex_init(&gate->lock, NULL);
    log_maker_folder(gate->folder);
    snprintf(gate->socket, sizeof gate->socket, "%s/read.sock", gate->folder);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", gate->socket);
    gate->listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_ge(gate->listening, 0);
    ck_assert_int_eq(bind(gate->listening, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(gate->listening, 64), 0);
    ck_assert_int_eq(pthread_create(&gate->thread, NULL, gate_main, gate), 0);
}

void fake_gate_kill(struct fake_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    for (int i = 0; i < FAKE_GATE_CONNECTIONS; i++)
        disconnect(&gate->connections[i]);
    pthread_mutex_unlock(&gate->lock);
}

void fake_gate_stop(struct fake_gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->stop = true;
    pthread_mutex_unlock(&gate->lock);
    pthread_join(gate->thread, NULL);
    fake_gate_kill(gate);
    fd_close(&gate->listening);
    log_maker_remove_folder(gate->folder);
    pthread_mutex_destroy(&gate->lock);
}

unsigned fake_gate_count(struct fake_gate *gate, enum read_type type)
{
    pthread_mutex_lock(&gate->lock);
    unsigned count = gate->requests[type];
    pthread_mutex_unlock(&gate->lock);
    return count;
}
