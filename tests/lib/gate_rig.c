/* SPDX-License-Identifier: MIT */
/* Runs the gate for tests as the supervisor does: a child with one end of a socketpair as fd 3.
 * Every wait has a deadline; a rig that is dropped by a failing test dies with its parent. */
#include "tests/lib/gate_rig.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/avro_log_header.h"
#include "common/fd.h"
#include "common/monotonic.h"
#include "tests/lib/deny_call.h"
#include "tests/lib/unit.h"
#include "worker/gate/gate.h"

#define INHERITED_FDS 100 /* where the child has them */

static int child_end = -1; /* of the rig that has been prepared and not started */

void gate_rig_prepare(struct gate_rig *rig)
{
    int ends[2];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    *rig = (struct gate_rig){.limits = GATE_LIMITS_DEFAULT};
    log_maker_folder(rig->folder);
    snprintf(rig->log_dir, sizeof rig->log_dir, "%s/log", rig->folder);
    snprintf(rig->channel, sizeof rig->channel, "%s/" GATE_RIG_CHANNEL, rig->log_dir);
    snprintf(rig->log_path, sizeof rig->log_path, "%s/gate.log", rig->folder);
    snprintf(rig->socket_path, sizeof rig->socket_path, "%s/read.sock", rig->folder);
    ck_assert_int_eq(mkdir(rig->log_dir, 0755), 0);
    ck_assert_int_eq(mkdir(rig->channel, 0755), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    rig->supervisor = ends[0];
    child_end = ends[1];
    snprintf(address.sun_path, sizeof address.sun_path, "%.107s", rig->socket_path);
    rig->listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(rig->listening, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(rig->listening, 1024), 0);
    rig->wake = memfd_create("wake", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(rig->wake, READ_WAKE_MEMORY_SIZE), 0);
    rig->words = mmap(NULL, READ_WAKE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, rig->wake, 0);
    ck_assert_ptr_ne(rig->words, MAP_FAILED);
    rig->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ck_assert_int_ge(rig->bell, 0);
}

static int move(int fd)
{
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, INHERITED_FDS);
    if (moved < 0)
        _exit(99);
    return moved;
}

static _Noreturn void run_child(const struct gate_rig *rig)
{
    static struct inheritance inheritance = {.generation = GATE_RIG_GENERATION,
                                             .assign = {.role = ROLE_GATE}};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    inheritance.listening = move(rig->listening);
    inheritance.wake = move(rig->wake);
    inheritance.bell = move(rig->bell);
    snprintf(inheritance.assign.log_dir, sizeof inheritance.assign.log_dir, "%s", rig->log_dir);
    int log = open(rig->log_path, O_CREAT | O_APPEND | O_WRONLY, 0600);
    int end = move(child_end);
    if (log < 0 || dup2(log, STDERR_FILENO) < 0 || dup2(end, MESSAGE_FD) < 0)
        _exit(99);
    close(end);
    if (close_range(MESSAGE_FD + 1, INHERITED_FDS - 1, 0) < 0) /* what an exec would close */
        _exit(99);
    if (rig->denied && deny_call_install(rig->denied) < 0)
        _exit(98);
    _exit(gate_run(&inheritance));
}

void gate_rig_start(struct gate_rig *rig)
{
    rig->pid = unit_fork();
    if (rig->pid == 0)
        run_child(rig);
    fd_close(&child_end);
    gate_rig_limit(rig);
    if (!rig->lends_later)
        gate_rig_all_lent(rig);
    gate_rig_receive(rig, MESSAGE_READY);
}

int gate_rig_wait(struct gate_rig *rig)
{
    const monotonic begun = monotonic_now();
    const struct timespec pause = {.tv_nsec = 2 * NS_PER_MS};
    int status;
    while (waitpid(rig->pid, &status, WNOHANG) == 0) {
        if (monotonic_since(monotonic_now(), begun) > GATE_RIG_DEADLINE_MS * NS_PER_MS) {
            kill(rig->pid, SIGKILL);
            waitpid(rig->pid, &status, 0);
            ck_abort_msg("the gate did not end");
        }
        nanosleep(&pause, NULL);
    }
    rig->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void gate_rig_end(struct gate_rig *rig)
{
    const struct message_stop stop = {0};
    if (rig->pid) {
        gate_rig_send(rig, MESSAGE_STOP, &stop, sizeof stop);
        ck_assert_int_eq(gate_rig_wait(rig), 0);
    }
    fd_close(&rig->supervisor);
    fd_close(&rig->listening);
    fd_close(&rig->wake);
    fd_close(&rig->bell);
    munmap(rig->words, READ_WAKE_SIZE);
    log_maker_remove_folder(rig->folder);
}

/* ---- as the supervisor ---- */

static void send_message(struct gate_rig *rig, enum message_type type, const void *payload,
                         size_t size, int fd)
{
    struct pollfd writable = {.fd = rig->supervisor, .events = POLLOUT};
    int result;
    while ((result = message_send(rig->supervisor, type, GATE_RIG_GENERATION, payload, size, &fd,
                                  fd >= 0)) == -EAGAIN)
        ck_assert_int_eq(poll(&writable, 1, GATE_RIG_DEADLINE_MS), 1);
    ck_assert_int_eq(result, 0);
}

void gate_rig_send(struct gate_rig *rig, enum message_type type, const void *payload, size_t size)
{
    send_message(rig, type, payload, size, -1);
}

void gate_rig_lend(struct gate_rig *rig, const char *channel, uint64_t ring, int memory)
{
    struct message_channel_lent lent = {.listen = "127.0.0.1:4242",
                                        .wake_index = GATE_RIG_WORD,
                                        .records = 1,
                                        .settled = 1,
                                        .has_ring = memory >= 0,
                                        .ring = memory >= 0 ? ring : 0};
    snprintf(lent.channel, sizeof lent.channel, "%s", channel);
    send_message(rig, MESSAGE_CHANNEL_LENT, &lent, sizeof lent, memory);
}

void gate_rig_limit(struct gate_rig *rig)
{
    const struct message_gate_limits limits = {rig->limits};
    gate_rig_send(rig, MESSAGE_GATE_LIMITS, &limits, sizeof limits);
}

void gate_rig_all_lent(struct gate_rig *rig)
{
    const struct message_empty nothing = {0};
    gate_rig_send(rig, MESSAGE_ALL_LENT, &nothing, sizeof nothing);
}

const struct message *gate_rig_receive(struct gate_rig *rig, enum message_type type)
{
    static struct message message;
    const char *what;
    struct pollfd readable = {.fd = rig->supervisor, .events = POLLIN};
    do {
        ck_assert_msg(poll(&readable, 1, GATE_RIG_DEADLINE_MS) == 1, "no answer: %s expected",
                      message_name(type));
        int result = message_receive(rig->supervisor, TO_PARENT, &message, &what);
        ck_assert_msg(result == 1, "%d %s: %s expected", result, what, message_name(type));
    } while (message.header.type != type && message.header.type == MESSAGE_GATE_REPORT);
    ck_assert_str_eq(message_name(message.header.type), message_name(type));
    ck_assert_uint_eq(message.header.generation, GATE_RIG_GENERATION);
    return &message;
}

const struct message_gate_report *gate_rig_report(struct gate_rig *rig)
{
    static struct message message;
    const struct message_empty ask = {0};
    const char *what;
    /* Older ones first, so that the one that comes is the answer. */
    while (recv(rig->supervisor, message.bytes, sizeof message.bytes, MSG_DONTWAIT) > 0)
        ;
    gate_rig_send(rig, MESSAGE_GATE_ASK, &ask, sizeof ask);
    struct pollfd readable = {.fd = rig->supervisor, .events = POLLIN};
    ck_assert_int_eq(poll(&readable, 1, GATE_RIG_DEADLINE_MS), 1);
    ck_assert_int_eq(message_receive(rig->supervisor, TO_PARENT, &message, &what), 1);
    ck_assert_int_eq(message.header.type, MESSAGE_GATE_REPORT);
    return message.gate_report;
}

void gate_rig_await(struct gate_rig *rig, enum gate_counter counter, uint64_t value)
{
    const monotonic begun = monotonic_now();
    const struct timespec pause = {.tv_nsec = 2 * NS_PER_MS};
    for (;;) {
        uint64_t now = gate_rig_report(rig)->value[counter];
        if (now == value)
            return;
        ck_assert_msg(monotonic_since(monotonic_now(), begun) < GATE_RIG_DEADLINE_MS * NS_PER_MS,
                      "%s is %llu, not %llu", gate_counter_infos[counter].name,
                      (unsigned long long)now, (unsigned long long)value);
        nanosleep(&pause, NULL);
    }
}

/* ---- as a reader ---- */

int gate_rig_connect(const struct gate_rig *rig)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%.107s", rig->socket_path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(fd_set_nonblocking(fd), 0);
    return fd;
}

void gate_rig_request(int reader, enum read_type type, uint32_t number, const void *payload,
                      size_t size)
{
    struct pollfd writable = {.fd = reader, .events = POLLOUT};
    int result;
    while ((result = read_packet_send(reader, type, number, payload, size, -1)) == -EAGAIN)
        ck_assert_int_eq(poll(&writable, 1, GATE_RIG_DEADLINE_MS), 1);
    ck_assert_int_eq(result, 0);
}

static struct read_packet *receive(int reader)
{
    static struct read_packet packet = {.fd = -1};
    const char *what;
    struct pollfd readable = {.fd = reader, .events = POLLIN};
    read_packet_release(&packet);
    ck_assert_msg(poll(&readable, 1, GATE_RIG_DEADLINE_MS) == 1, "the gate says nothing");
    int result = read_packet_receive(reader, TO_READER, &packet, &what);
    if (result == -ECONNRESET) /* it was closed with something unread in it: once, then what came */
        result = read_packet_receive(reader, TO_READER, &packet, &what);
    ck_assert_msg(result >= 0 || result == -ECONNRESET, "%s %s", strerror(-result), what);
    return result == 1 ? &packet : NULL;
}

struct read_packet *gate_rig_answer(int reader, enum read_type type)
{
    struct read_packet *packet = receive(reader);
    ck_assert_msg(packet, "the gate ended the connection: %s expected", read_packet_name(type));
    ck_assert_msg(packet->header.type == type, "%s expected, %s came: %s", read_packet_name(type),
                  read_packet_name(packet->header.type),
                  packet->header.type == READ_REFUSED ? packet->refused->reason : "");
    return packet;
}

static uint32_t last_number;

struct read_packet *gate_rig_ask(int reader, enum read_type type, const void *payload, size_t size,
                                 enum read_type answer)
{
    gate_rig_request(reader, type, ++last_number, payload, size);
    struct read_packet *packet = gate_rig_answer(reader, answer);
    ck_assert_uint_eq(packet->header.request, last_number);
    return packet;
}

void gate_rig_refused(int reader, enum read_type type, const void *payload, size_t size, int error)
{
    const struct read_packet *packet = gate_rig_ask(reader, type, payload, size, READ_REFUSED);
    ck_assert_msg(packet->refused->error == error, "%s (%s), not %s",
                  strerror(packet->refused->error), packet->refused->reason, strerror(error));
    ck_assert_str_ne(packet->refused->reason, "");
}

void gate_rig_quiet(int reader)
{
    const struct read_hello hello = {"quiet"};
    gate_rig_ask(reader, READ_HELLO, &hello, sizeof hello, READ_WELCOME);
}

void gate_rig_expect_end(int reader)
{
    while (receive(reader))
        ;
}

struct read_packet *gate_rig_attach(int reader, const char *channel, uint32_t mode)
{
    struct read_attach attach = {.mode = mode};
    snprintf(attach.channel, sizeof attach.channel, "%s", channel);
    return gate_rig_ask(reader, READ_ATTACH, &attach, sizeof attach, READ_ATTACHED);
}

struct read_packet *gate_rig_find(int reader, enum read_find_by by, uint64_t seq)
{
    const struct read_find find = {.by = by, .seq = seq};
    return gate_rig_ask(reader, READ_FIND, &find, sizeof find, READ_SEGMENT_FOUND);
}

/* ---- files ---- */

/* As the archive does it: nothing has its name before it is what the name says. */
static void write_log(const struct gate_rig *rig, struct log_maker *maker,
                      const struct avro_log_totals *totals, char ret_name[SEGMENT_NAME_SIZE])
{
    char prepared[SEGMENT_NAME_SIZE], from[512], to[512];
    avro_log_prepared_name(GATE_RIG_CHANNEL, maker->identity.first_seq, prepared);
    avro_log_segment_name(GATE_RIG_CHANNEL, maker->identity.first_seq, maker->identity.created_ns,
                          ret_name);
    if (totals)
        ret_name[strlen(ret_name) - strlen(AVRO_LOG_OPEN_SUFFIX) + strlen(AVRO_LOG_SUFFIX)] = '\0';
    log_maker_write(rig->channel, prepared, maker->bytes,
                    totals ? maker->block_start : maker->size);
    log_maker_free(maker);
    snprintf(from, sizeof from, "%s/%s", rig->channel, prepared);
    snprintf(to, sizeof to, "%s/%s", rig->channel, ret_name);
    if (totals) {
        int fd = open(from, O_RDWR | O_CLOEXEC);
        ck_assert_int_eq(avro_log_write_totals(fd, totals), 1);
        fd_close(&fd);
    }
    ck_assert_int_eq(rename(from, to), 0);
}

static void fill(struct log_maker *maker, uint64_t first_seq, int records)
{
    log_maker_begin(maker, 64 * 1024, GATE_RIG_CHANNEL, first_seq, 99);
    for (int i = 0; i < records; i++)
        if (!log_maker_append(maker))
            ck_abort_msg("the segment is full");
    log_maker_seal(maker);
}

void gate_rig_log(const struct gate_rig *rig, uint64_t first_seq, int records, bool open,
                  char ret_name[SEGMENT_NAME_SIZE])
{
    struct log_maker maker;
    const struct avro_log_totals totals = {.last_seq = first_seq + (uint64_t)records - 1,
                                           .records = (uint64_t)records};
    fill(&maker, first_seq, records);
    write_log(rig, &maker, open ? NULL : &totals, ret_name);
}

void gate_rig_timed_log(const struct gate_rig *rig, uint64_t first_seq, int records,
                        uint64_t time_ns, char ret_name[SEGMENT_NAME_SIZE])
{
    struct log_maker maker;
    const uint64_t last = time_ns + (uint64_t)(records - 1) * NS_PER_S;
    const struct avro_log_totals totals = {.last_seq = first_seq + (uint64_t)records - 1,
                                           .records = (uint64_t)records,
                                           .first_time_ns = time_ns,
                                           .last_time_ns = last,
                                           .latest_ns = last};
    fill(&maker, first_seq, records);
    write_log(rig, &maker, &totals, ret_name);
}

int gate_rig_hold_up(const char *folder)
{
    int fd = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY);
    if (fd < 0 || fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN_PERM | FAN_ONDIR, AT_FDCWD, folder) < 0)
        unit_skip("a folder can't be made to wait here: %s", strerror(errno));
    return fd;
}

/* ---- what it costs ---- */

int gate_rig_fds(struct gate_rig *rig)
{
    char path[64];
    int count = 0;
    gate_rig_report(rig); /* what it did last is done */
    snprintf(path, sizeof path, "/proc/%d/fd", (int)rig->pid);
    DIR *folder = opendir(path);
    ck_assert_ptr_nonnull(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

static void await_fds(struct gate_rig *rig, int least, int most)
{
    const monotonic begun = monotonic_now();
    const struct timespec pause = {.tv_nsec = 2 * NS_PER_MS};
    for (int now; (now = gate_rig_fds(rig)) < least || now > most; nanosleep(&pause, NULL))
        ck_assert_msg(monotonic_since(monotonic_now(), begun) < GATE_RIG_DEADLINE_MS * NS_PER_MS,
                      "%d descriptors are open, not %d to %d", now, least, most);
}

void gate_rig_await_fds(struct gate_rig *rig, int count)
{
    await_fds(rig, count, count);
}

void gate_rig_await_fewer_fds(struct gate_rig *rig, int most)
{
    await_fds(rig, 0, most);
}

long gate_rig_memory(const struct gate_rig *rig)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)rig->pid);
    ck_assert_int_gt(unit_read_small_file(AT_FDCWD, path, text, sizeof text), 0);
    const char *at = strstr(text, "VmRSS:");
    ck_assert_ptr_nonnull(at);
    return strtol(at + strlen("VmRSS:"), NULL, 10);
}
