/* SPDX-License-Identifier: MIT */
/* Keeps the gate running, which serves readers, and its socket open. Called by the daemon at start
 * and end, by channels, which announce themselves, and by the regular look. Must never wait for the
 * gate or for a reader, nor lend it anything by which a channel's memory can be changed. */
#include "supervisor/gate/gate_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/channel_spec.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/outbox.h"
#include "common/position_file.h"
#include "common/read_wake.h"
#include "supervisor/child/child.h"
#include "supervisor/config/settings.h"
#include "supervisor/system/process.h"
#include "supervisor/system/timer.h"

/* As many may wait as the kernel allows: while a gate starts, all of them do. */
#define SOCKET_BACKLOG  4096
#define SOCKET_RETRY_NS NS_PER_S

#define SETTLED_NS      (2 * NS_PER_S)  /* so long it has not crashed */
#define QUIET_NS        (30 * NS_PER_S) /* nothing was heard: it is asked */
#define ANSWER_NS       (5 * NS_PER_S)  /* ... and has so long to answer */
#define STOPPED_NS      (5 * NS_PER_S)  /* by somebody's signal */
#define ABORT_NS        (2 * NS_PER_S)  /* so long it may say where it is */
#define DEAD_NS         (5 * NS_PER_S)  /* since it was killed: a disk holds it */
#define GRACE_NS        (300 * NS_PER_MS) /* behind the configured one, then it is killed, then let go */
#define ROOM_NS         (20 * NS_PER_MS) /* what waits for it may have been taken by then */
#define DOWN_NS         (10 * NS_PER_S)  /* so long without one is worth a word */

const char *const gate_state_names[] = {[GATE_DISABLED] = "disabled",
                                        [GATE_NO_SOCKET] = "no socket",
                                        [GATE_RUNNING] = "running",
                                        [GATE_WAITING] = "waiting",
                                        [GATE_STOPPED] = "stopped"};

/* ---- what workers and gate share ---- */

static int make_wake_memory(void)
{
    int fd = memfd_create("holdfast-wake", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    int error = fchmod(fd, 0600) < 0 || ftruncate(fd, READ_WAKE_MEMORY_SIZE) < 0 ||
                        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0
                    ? -errno
                    : 0;
    if (error < 0)
        fd_close(&fd);
    return error < 0 ? error : fd;
}

static void make_shared(struct gate_client *client)
{
    int wake = make_wake_memory();
    int bell = wake < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error = wake < 0 ? -wake : bell < 0 ? errno : 0;
    if (error == 0) {
        void *words = mmap(NULL, sizeof *client->words, PROT_READ | PROT_WRITE, MAP_SHARED, wake,
                           READ_WAKE_LAST_WORDS);
        client->words = words == MAP_FAILED ? NULL : words;
        client->wake = wake;
        client->bell = bell;
        return;
    }
    fd_close(&wake);
    snprintf(client->trouble, sizeof client->trouble,
             "can't make what channels wake readers by: %s; until a restart nobody can read",
             strerror(error));
    log_error("%s", client->trouble);
}

bool gate_client_is_enabled(const struct gate_client *client)
{
    return client->bell >= 0;
}

/* ---- its socket ---- */

/* One group is looked up once. */
static const char *group_variable(const struct settings *settings)
{
    bool same = strcmp(settings->read_group, settings->control_group) == 0;
    return same ? CONTROL_GROUP_VARIABLE : GATE_GROUP_VARIABLE;
}

static struct listening_plan plan_of(const struct settings *settings)
{
    _Static_assert(sizeof settings->read_socket == LISTENING_PATH_SIZE, "the path fits");
    return (struct listening_plan){.section = "read",
                                   .type = SOCK_SEQPACKET,
                                   .backlog = SOCKET_BACKLOG,
                                   .path = settings->read_enabled ? settings->read_socket : NULL,
                                   .mode = settings->read_mode,
                                   .group = settings->read_group,
                                   .group_variable = group_variable(settings),
                                   .kept_variable = GATE_KEPT_VARIABLE};
}

static void start_process(struct gate_client *client);

static int on_socket_retry(sd_event_source *source, uint64_t time_us, void *userdata);

/* Not patiently: channels go on meanwhile, and it is tried again. Told once for each reason. */
static void open_socket(struct gate_client *client)
{
    const struct listening_plan plan = plan_of(client->settings);
    char why[sizeof client->trouble];
    if (listening_open(&plan, false, &client->socket, why, sizeof why) == 0) {
        if (client->trouble[0])
            log_notice("the readers' socket is open: %s", client->socket.path);
        client->trouble[0] = '\0';
        return;
    }
    if (strcmp(client->trouble, why) != 0)
        log_error("%s; nobody can read, the channels go on, and it is tried again every second",
                  why);
    memcpy(client->trouble, why, sizeof why);
    timer_arm(&client->socket_retry, client->event, SOCKET_RETRY_NS, on_socket_retry, client);
}

static int on_socket_retry(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct gate_client *client = userdata;
    (void)source;
    (void)time_us;
    open_socket(client);
    if (client->socket.fd >= 0 && !client->child && !client->told_to_stop)
        start_process(client);
    return 0;
}

/* Whoever reads over TCP connects there, from the next gate on, too. */
static void lend_tcp(void *data)
{
    struct gate_client *client = data;
    const struct message_empty nothing = {0};
    if (client->tcp.fd >= 0 && client->child && !client->told_to_stop)
        child_send(client->child, MESSAGE_TCP_LENT, &nothing, sizeof nothing, &client->tcp.fd, 1);
}

void gate_client_close_socket(struct gate_client *client)
{
    gate_tcp_close(&client->tcp);
    timer_disarm(&client->socket_retry);
    listening_close(&client->socket);
}

int gate_client_leave(struct gate_client *client)
{
    const struct listening_plan plan = plan_of(client->settings);
    timer_disarm(&client->socket_retry);
    gate_tcp_close(&client->tcp); /* the next program claims it anew */
    return client->socket.fd < 0 ? -1 : listening_leave(&client->socket, &plan);
}

/* ---- what is said to it ---- */

static int on_room(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct gate_client *client = userdata;
    (void)source;
    (void)time_us;
    client->owner.room(client->owner.data);
    return 0;
}

int gate_client_lend(struct gate_client *client, const struct message_channel_lent *lent, int ring)
{
    if (!client->child || client->told_to_stop)
        return -ENOTCONN;
    if (client->child->queue) { /* each would keep a descriptor of this process meanwhile */
        if (!timer_is_armed(&client->room))
            timer_arm(&client->room, client->event, ROOM_NS, on_room, client);
        return -EAGAIN;
    }
    return child_send(client->child, MESSAGE_CHANNEL_LENT, lent, sizeof *lent, &ring,
                      lent->has_ring);
}

bool gate_client_all_lent(struct gate_client *client)
{
    const struct message_empty nothing = {0};
    if (!client->child || client->told_to_stop || client->all_lent)
        return true; /* nobody, or nothing, is to be told */
    client->all_lent =
        child_send(client->child, MESSAGE_ALL_LENT, &nothing, sizeof nothing, NULL, 0) == 0;
    return client->all_lent;
}

void gate_client_answer(struct gate_client *client, uint64_t generation,
                        const struct message_position_saved *saved)
{
    if (client->child && client->child->generation == generation)
        child_send(client->child, MESSAGE_POSITION_SAVED, saved, sizeof *saved, NULL, 0);
}

void gate_client_answer_publish(struct gate_client *client,
                                const struct message_published *published, const int *fds)
{
    int error = client->child
                    ? child_send(client->child, MESSAGE_PUBLISHED, published, sizeof *published,
                                 fds, published->error ? 0 : OUTBOX_FDS)
                    : 0; /* gone: its outbox ends when nobody has the other end */
    if (error == 0 || error == -EPIPE)
        return;
    log_warning("the gate can't be given an outbox: %s; its publisher asks again",
                strerror(-error));
    if (published->error)
        return;
    /* Without an answer the gate would keep its connection's place for ever. */
    const struct message_published refused = {
        .turn = published->turn, .error = EAGAIN, .reason = "its outbox can't be handed over"};
    child_send(client->child, MESSAGE_PUBLISHED, &refused, sizeof refused, NULL, 0);
}

/* ---- what it says ---- */

static void gate_message(struct child *child, struct message *message)
{
    struct gate_client *client = child->owner.data;
    spares_prove(client->spares, child);
    client->heard = monotonic_now();
    client->asked = (monotonic){0};
    switch (message->header.type) {
    case MESSAGE_READY:
        obituary_note_takeover(&client->obituaries, client->heard);
        break;
    case MESSAGE_BYE:
        break;
    case MESSAGE_GATE_REPORT:
        client->report = *message->gate_report;
        break;
    case MESSAGE_PUBLISH:
        if (channel_name_is_valid(message->publish->channel))
            client->owner.publish(client->owner.data, message->publish);
        else
            child_violated(child, "a channel's name that can't be");
        break;
    case MESSAGE_POSITION_SAVE:
        if (channel_name_is_valid(message->position_save->channel) &&
            position_name_is_valid(message->position_save->name))
            client->owner.position(client->owner.data, message->position_save);
        else
            child_violated(child, "a name that is none");
        break;
    default:
        child_violated(child, "a message that is not the gate's to send");
        break;
    }
}

/* ---- the process ---- */

static int on_restart(sd_event_source *source, uint64_t time_us, void *userdata)
{
    (void)source;
    (void)time_us;
    start_process(userdata);
    return 0;
}

/* Never given up: its failing costs nobody else anything. */
static void restart_later(struct gate_client *client, const char *what)
{
    uint64_t delay = restart_delay(&client->restart, &client->settings->restart);
    if (client->down_since.ns == 0)
        client->down_since = monotonic_now();
    log_error("%s; nobody reads until the next gate runs, in %.3g s: readers connect again by "
              "themselves",
              what, (double)delay / 1e9);
    if (timer_arm(&client->timer, client->event, delay, on_restart, client) < 0)
        log_error("no memory for a timer: the gate is not restarted");
}

/* However it came to that. */
static void forget_child(struct gate_client *client, const char *what)
{
    client->child = NULL;
    client->report = (struct message_gate_report){0};
    timer_disarm(&client->timer);
    timer_disarm(&client->room);
    if (!client->told_to_stop)
        restart_later(client, what);
    client->owner.ended(client->owner.data);
}

/* Unless it was told to end. */
static void write_obituary(struct gate_client *client, const siginfo_t *end)
{
    const struct child *child = client->child;
    const struct death death = {.generation = child->generation,
                                .pid = child->pid,
                                .assigned = child->assigned,
                                .hung_thread = client->hung,
                                .end = end};
    const struct obituary *obituary =
        client->leaves ? NULL : obituary_write(&client->obituaries, client->words, NULL, &death);
    if (obituary)
        obituary_log(NULL, obituary);
}

static void gate_ended(struct child *child, const siginfo_t *end)
{
    struct gate_client *client = child->owner.data;
    char how[PROCESS_END_SIZE], what[PROCESS_END_SIZE + 64];
    write_obituary(client, end);
    process_describe_end(end, how, sizeof how);
    snprintf(what, sizeof what, "%s %s", child_describe(child), how);
    forget_child(client, what);
}

/* It was killed, and a disk holds it: its end will be nobody's. It has nothing that another one
 * needs, and runs no code of its own any more. */
static void let_go(struct gate_client *client)
{
    const siginfo_t end = {.si_code = CLD_KILLED, .si_status = SIGKILL};
    struct child *child = client->child;
    char what[128];
    write_obituary(client, &end);
    snprintf(what, sizeof what, "%s was killed and does not end: it waits for a disk",
             child_describe(child));
    child_free(child);
    if (client->told_to_stop)
        log_warning("%s; it is not waited for", what);
    forget_child(client, what);
}

static void kill_it(struct gate_client *client)
{
    client->killed = monotonic_now();
    child_kill(client->child, SIGKILL);
}

static void start_process(struct gate_client *client)
{
    const struct child_owner owner = {
        .role = "gate", .message = gate_message, .ended = gate_ended, .data = client};
    struct message_assign assign = {.role = ROLE_GATE};
    char what[128];
    int error = 0;

    if (client->socket.fd < 0 || !gate_client_is_enabled(client))
        return;
    struct child *child = spares_take(client->spares, &owner, &error);
    if (!child) {
        snprintf(what, sizeof what, "can't start the gate: %s", strerror(-error));
        restart_later(client, what);
        return;
    }
    client->restarts += client->started;
    client->started = true;
    client->all_lent = client->leaves = false;
    client->child = child;
    client->restart.running_since = client->heard = child->assigned;
    client->asked = client->stopped_since = client->aborted = client->killed = (monotonic){0};
    client->hung = NULL;
    snprintf(assign.log_dir, sizeof assign.log_dir, "%s", client->settings->log_dir);
    const int fds[] = {client->socket.fd, client->wake, client->bell};
    error = child_send(child, MESSAGE_ASSIGN, &assign, sizeof assign, fds, 3);
    const struct message_gate_limits limits = {client->settings->read_limits};
    if (error == 0)
        error = child_send(child, MESSAGE_GATE_LIMITS, &limits, sizeof limits, NULL, 0);
    if (error < 0) { /* a spare that died unseen, most likely: its end follows */
        log_error("can't tell the gate what it is: %s", strerror(-error));
        kill_it(client);
        return;
    }
    lend_tcp(client);
    client->owner.back(client->owner.data);
}

void gate_client_start(struct gate_client *client, int left)
{
    const struct listening_plan plan = plan_of(client->settings);
    client->told_to_stop = false;
    bool goes_on = listening_take(left, &plan, &client->socket);
    if (!gate_client_is_enabled(client))
        return;
    if (!goes_on)
        open_socket(client);
    gate_tcp_open(&client->tcp);
    start_process(client);
}

/* ---- the regular look ---- */

static bool is_stopped(struct gate_client *client, monotonic now)
{
    char state = process_task_state(client->child->pid, (uint32_t)client->child->pid);
    if (state != 'T' && state != 't')
        client->stopped_since = (monotonic){0};
    else if (client->stopped_since.ns == 0)
        client->stopped_since = now;
    return client->stopped_since.ns && monotonic_since(now, client->stopped_since) >= STOPPED_NS;
}

/* It is seldom asked: each question wakes it up. */
static bool is_silent(struct gate_client *client, monotonic now)
{
    const struct message_empty nothing = {0};
    if (client->asked.ns == 0 && monotonic_since(now, client->heard) >= QUIET_NS &&
        child_send(client->child, MESSAGE_GATE_ASK, &nothing, sizeof nothing, NULL, 0) == 0)
        client->asked = now;
    return client->asked.ns && monotonic_since(now, client->asked) >= ANSWER_NS;
}

void gate_client_look(struct gate_client *client, monotonic now)
{
    if (!client->child || client->told_to_stop)
        return;
    if (monotonic_since(now, client->child->assigned) > SETTLED_NS && client->killed.ns == 0)
        client->down_since = (monotonic){0};
    if (client->asked.ns)
        child_listen(client->child); /* this process may have stood still longer than the gate */
    if (client->killed.ns) {
        if (monotonic_since(now, client->killed) >= DEAD_NS)
            let_go(client);
    } else if (client->aborted.ns) {
        if (monotonic_since(now, client->aborted) >= ABORT_NS)
            kill_it(client);
    } else if (is_stopped(client, now)) {
        log_error("%s has been stopped for %llu s; it is killed, and another one started",
                  child_describe(client->child), (unsigned long long)(STOPPED_NS / NS_PER_S));
        client->hung = "process";
        kill_it(client);
    } else if (client->stopped_since.ns == 0 && is_silent(client, now)) {
        log_error("%s has not answered for %llu s; it is killed, and another one started",
                  child_describe(client->child), (unsigned long long)(ANSWER_NS / NS_PER_S));
        client->hung = "main loop";
        client->aborted = now;
        child_kill(client->child, SIGABRT); /* it may say where it is */
    }
}

/* ---- the end ---- */

static int on_grace(sd_event_source *source, uint64_t time_us, void *userdata)
{
    struct gate_client *client = userdata;
    (void)source;
    (void)time_us;
    if (!client->child)
        return 0;
    if (client->killed.ns) {
        let_go(client);
        return 0;
    }
    kill_it(client);
    return timer_arm(&client->timer, client->event, GRACE_NS, on_grace, client);
}

void gate_client_stop(struct gate_client *client)
{
    const struct message_stop stop = {.seal = 1};
    if (client->told_to_stop)
        return;
    client->told_to_stop = true;
    timer_disarm(&client->timer);
    if (!client->child)
        return;
    client->leaves = true;
    if (child_send(client->child, MESSAGE_STOP, &stop, sizeof stop, NULL, 0) < 0)
        kill_it(client);
    if (timer_arm(&client->timer, client->event, client->settings->read_limits.grace_ns + GRACE_NS,
                  on_grace, client) < 0)
        let_go(client);
}

void gate_client_go_on(struct gate_client *client)
{
    client->told_to_stop = false;
    if (client->child)
        return; /* its end is an end like any other */
    timer_disarm(&client->timer);
    start_process(client);
}

bool gate_client_has_ended(const struct gate_client *client)
{
    return !client->child;
}

/* ---- life ---- */

void gate_client_init(struct gate_client *client, sd_event *event, struct spares *spares,
                      const struct settings *settings, const struct gate_owner *owner)
{
    *client = (struct gate_client){.event = event,
                                   .spares = spares,
                                   .settings = settings,
                                   .owner = *owner,
                                   .socket = {.fd = -1},
                                   .wake = -1,
                                   .bell = -1};
    gate_tcp_init(&client->tcp, event, &settings->read_tcp, lend_tcp, client);
    if (settings->read_enabled)
        make_shared(client);
}

void gate_client_free(struct gate_client *client)
{
    child_free(client->child);
    client->child = NULL;
    timer_disarm(&client->timer);
    timer_disarm(&client->room);
    gate_client_close_socket(client);
    fd_close(&client->wake);
    fd_close(&client->bell);
    if (client->words)
        munmap(client->words, sizeof *client->words);
    client->words = NULL;
    obituary_list_free(&client->obituaries);
}

/* ---- for reports ---- */

enum gate_state gate_client_state(const struct gate_client *client)
{
    return !client->settings->read_enabled ? GATE_DISABLED
           : client->told_to_stop          ? GATE_STOPPED
           : client->child                 ? GATE_RUNNING
           : client->socket.fd < 0         ? GATE_NO_SOCKET
                                           : GATE_WAITING;
}

const char *gate_client_trouble(const struct gate_client *client, monotonic now)
{
    if (client->trouble[0] || client->tcp.trouble[0])
        return client->trouble[0] ? client->trouble : client->tcp.trouble;
    return client->down_since.ns && monotonic_since(now, client->down_since) >= DOWN_NS
               ? "the gate has ended, and none that was started since has lived for long: see the "
                 "log"
               : "";
}
