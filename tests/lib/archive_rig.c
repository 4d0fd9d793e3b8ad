/* SPDX-License-Identifier: MIT */
/* Runs the archive for tests as the supervisor does: a child with one end of a socketpair as fd 3.
 * Every wait has a deadline; a rig that is dropped by a failing test dies with its parent. */
#include "tests/lib/archive_rig.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/avro_log_name.h"
#include "common/fd.h"
#include "common/monotonic.h"
#include "tests/lib/deny_call.h"
#include "tests/lib/unit.h"
#include "worker/archive/archive.h"
#include "worker/archive/folder.h"

#define GENERATION  7
#define DEADLINE_MS 10000
#define LOCK_FD     100 /* where the child has it */

static int child_end = -1; /* of the rig that has been prepared and not started */

static void make_socket(struct archive_rig *rig)
{
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    rig->socket = ends[0];
    child_end = ends[1];
}

void archive_rig_prepare(struct archive_rig *rig)
{
    memset(rig, 0, sizeof *rig);
    rig->lock = -1;
    log_maker_folder(rig->folder);
    snprintf(rig->log_dir, sizeof rig->log_dir, "%s/log", rig->folder);
    snprintf(rig->channel, sizeof rig->channel, "%s/" RIG_CHANNEL, rig->log_dir);
    snprintf(rig->log_path, sizeof rig->log_path, "%s/archive.log", rig->folder);
    make_socket(rig);
}

void archive_rig_make_folder(const struct archive_rig *rig)
{
    ck_assert_int_eq(mkdir(rig->log_dir, 0755), 0);
    ck_assert_int_eq(mkdir(rig->channel, 0755), 0);
}

void archive_rig_make_log(struct log_maker *maker, uint64_t seed, uint64_t first_seq, int blocks,
                          char ret_open[SEGMENT_NAME_SIZE], char ret_sealed[SEGMENT_NAME_SIZE])
{
    log_maker_begin(maker, RIG_SEGMENT, RIG_CHANNEL, first_seq, seed);
    for (int block = 0; block < blocks; block++) {
        log_maker_seal(maker);
        for (int i = 0; i < 20; i++)
            if (!log_maker_append(maker)) /* no ck_assert(): each one is a write to Check's pipe */
                ck_abort_msg("the segment is full");
    }
    avro_log_segment_name(RIG_CHANNEL, first_seq, maker->identity.created_ns, ret_open);
    folder_number_name(ret_open, AVRO_LOG_SUFFIX, 1, ret_sealed);
}

/* From here on the call fails where this argument of it is not 0. (linkat: the target folder.) */
static void refuse_call(long number, int argument, int error)
{
    const struct denied_call denied = {
        .number = number, .error = error, .argument = argument, .has_bit = UINT32_MAX};
    if (deny_call_install(&denied) < 0)
        _exit(98);
}

static _Noreturn void run_child(const struct archive_rig *rig)
{
    static struct message_assign assign = {.role = ROLE_ARCHIVE};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (rig->without_noreplace)
        refuse_call(SYS_renameat2, 4, EINVAL);
    if (rig->without_links)
        refuse_call(SYS_linkat, 2, EPERM);
    if (rig->denied && deny_call_install(rig->denied) < 0)
        _exit(98);
    close(rig->socket);
    int lock = rig->lock < 0 ? -1 : fcntl(rig->lock, F_DUPFD_CLOEXEC, LOCK_FD);
    int log = open(rig->log_path, O_CREAT | O_APPEND | O_WRONLY, 0600);
    if (log < 0 || dup2(log, STDERR_FILENO) < 0)
        _exit(99);
    if (log != MESSAGE_FD)
        close(log);
    if (child_end != MESSAGE_FD) {
        if (dup2(child_end, MESSAGE_FD) < 0)
            _exit(99);
        close(child_end);
    }
    if (close_range(MESSAGE_FD + 1, LOCK_FD - 1, 0) < 0) /* what an exec would close */
        _exit(99);
    snprintf(assign.log_dir, sizeof assign.log_dir, "%s", rig->log_dir);
    assign.outer_mount = rig->outer_mount;
    _exit(archive_run(&assign, GENERATION, lock));
}

void archive_rig_start(struct archive_rig *rig)
{
    rig->pid = unit_fork();
    if (rig->pid == 0)
        run_child(rig);
    fd_close(&child_end);
}

int archive_rig_wait(struct archive_rig *rig)
{
    const monotonic begun = monotonic_now();
    const struct timespec pause = {.tv_nsec = 2 * NS_PER_MS};
    int status;
    while (waitpid(rig->pid, &status, WNOHANG) == 0) {
        if (monotonic_since(monotonic_now(), begun) > DEADLINE_MS * NS_PER_MS) {
            kill(rig->pid, SIGKILL);
            waitpid(rig->pid, &status, 0);
            ck_abort_msg("the archive did not end");
        }
        nanosleep(&pause, NULL);
    }
    rig->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void archive_rig_replace(struct archive_rig *rig)
{
    if (rig->pid) { /* 0: its end has been waited for already */
        kill(rig->pid, SIGKILL);
        ck_assert_int_eq(archive_rig_wait(rig), -1);
    }
    fd_close(&rig->socket);
    make_socket(rig);
    archive_rig_start(rig);
}

void archive_rig_end(struct archive_rig *rig)
{
    fd_close(&rig->socket);
    fd_close(&rig->lock);
    int status = rig->pid ? archive_rig_wait(rig) : 0; /* 0: its end has been waited for already */
    log_maker_remove_folder(rig->folder);
    ck_assert_int_eq(status, 0);
}

void archive_rig_send(struct archive_rig *rig, enum message_type type, const void *payload,
                      size_t size)
{
    struct pollfd writable = {.fd = rig->socket, .events = POLLOUT};
    int result;
    while ((result = message_send(rig->socket, type, GENERATION, payload, size, NULL, 0)) ==
           -EAGAIN)
        ck_assert_int_eq(poll(&writable, 1, DEADLINE_MS), 1);
    ck_assert_int_eq(result, 0);
}

struct message *archive_rig_receive(struct archive_rig *rig, enum message_type type)
{
    static struct message message;
    const char *what;
    struct pollfd readable = {.fd = rig->socket, .events = POLLIN};
    ck_assert_msg(poll(&readable, 1, DEADLINE_MS) == 1, "no answer: %s expected",
                  message_name(type));
    int result = message_receive(rig->socket, TO_PARENT, &message, &what);
    ck_assert_msg(result == 1, "%d %s: %s expected", result, what, message_name(type));
    if (message.header.type == MESSAGE_LOG_DIR && type != MESSAGE_LOG_DIR) {
        rig->log_dir_error = message.log_dir->error;
        fd_close(&rig->lock);
        if (!rig->log_dir_error)
            rig->lock = fd_take(&message.fds[0]);
        rig->outer_mount = message.log_dir->outer_mount;
        return archive_rig_receive(rig, type);
    }
    ck_assert_str_eq(message_name(message.header.type), message_name(type));
    ck_assert_uint_eq(message.header.generation, GENERATION);
    return &message;
}

struct segment_grant archive_rig_open(struct archive_rig *rig, const char *channel, uint64_t size,
                                      int *ret_fd)
{
    struct message_open_segment request = {.size = size};
    snprintf(request.channel, sizeof request.channel, "%s", channel);
    archive_rig_send(rig, MESSAGE_OPEN_SEGMENT, &request, sizeof request);
    struct message *answer = archive_rig_receive(rig, MESSAGE_SEGMENT);
    ck_assert_msg(answer->segment->error == 0, "%s", answer->segment->reason);
    ck_assert_str_eq(answer->segment->channel, channel);
    *ret_fd = fd_take(&answer->fds[0]);
    return answer->segment->grant;
}

void archive_rig_begin(struct archive_rig *rig, const char *from, const char *to)
{
    struct message_begin_segment request = {.channel = RIG_CHANNEL};
    snprintf(request.from, sizeof request.from, "%s", from);
    snprintf(request.to, sizeof request.to, "%s", to);
    archive_rig_send(rig, MESSAGE_BEGIN_SEGMENT, &request, sizeof request);
}

struct message_sealed archive_rig_seal(struct archive_rig *rig, const char *name, uint64_t id,
                                       uint64_t length)
{
    struct message_seal request = {.channel = RIG_CHANNEL, .id = id, .length = length};
    snprintf(request.name, sizeof request.name, "%s", name);
    archive_rig_send(rig, MESSAGE_SEAL, &request, sizeof request);
    return *archive_rig_receive(rig, MESSAGE_SEALED)->sealed;
}

struct message_recovered archive_rig_recover(struct archive_rig *rig, const char *keep0,
                                             const char *keep1)
{
    struct message_recover request = {.channel = RIG_CHANNEL,
                                      .keep_count = keep1   ? 2
                                                    : keep0 ? 1
                                                            : 0};
    snprintf(request.keep[0], sizeof request.keep[0], "%s", keep0 ? keep0 : "");
    snprintf(request.keep[1], sizeof request.keep[1], "%s", keep1 ? keep1 : "");
    archive_rig_send(rig, MESSAGE_RECOVER, &request, sizeof request);
    return *archive_rig_receive(rig, MESSAGE_RECOVERED)->recovered;
}

void archive_rig_expire(struct archive_rig *rig, const struct message_expire *limits)
{
    const struct message_seal unknown = {.channel = "!"}; /* served after it, and always answered */
    archive_rig_send(rig, MESSAGE_EXPIRE, limits, sizeof *limits);
    archive_rig_send(rig, MESSAGE_SEAL, &unknown, sizeof unknown);
    archive_rig_receive(rig, MESSAGE_SEALED);
}

static void path_of(const struct archive_rig *rig, const char *name, char ret_path[512])
{
    snprintf(ret_path, 512, "%s/%s", rig->channel, name);
}

bool archive_rig_has(const struct archive_rig *rig, const char *name)
{
    char path[512];
    path_of(rig, name, path);
    return access(path, F_OK) == 0;
}

int archive_rig_count(const struct archive_rig *rig, const char *suffix)
{
    struct dirent *entry;
    int count = 0;
    DIR *folder = opendir(rig->channel);
    while (folder && (entry = readdir(folder)))
        count += entry->d_name[0] != '.' && avro_log_name_ends_in(entry->d_name, suffix);
    if (folder)
        closedir(folder);
    return count;
}

long archive_rig_read(const struct archive_rig *rig, const char *name, uint8_t **ret_bytes)
{
    char path[512];
    struct stat status;
    path_of(rig, name, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ck_assert_int_eq(fstat(fd, &status), 0);
    if (ret_bytes) {
        *ret_bytes = malloc((size_t)status.st_size + 1);
        ck_assert_int_eq(read(fd, *ret_bytes, (size_t)status.st_size), status.st_size);
    }
    close(fd);
    return status.st_size;
}

uint64_t archive_rig_inode(const struct archive_rig *rig, const char *name)
{
    char path[512];
    struct stat status;
    path_of(rig, name, path);
    ck_assert_int_eq(stat(path, &status), 0);
    return status.st_ino;
}

static int check_record(void *context, const struct avro_log_found *found)
{
    ck_assert(log_maker_is_genuine(context, &found->record));
    return 0;
}

void archive_rig_check_sealed(const struct archive_rig *rig, const struct log_maker *maker,
                              const char *name, uint64_t first_seq, uint64_t records)
{
    const struct avro_log_scan_options sealed = {.open = false, .seq_end = UINT64_MAX};
    const struct avro_log_visitor visitor = {.context = (void *)maker, .record = check_record};
    struct avro_log_summary summary;
    char path[512];
    path_of(rig, name, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_msg(fd >= 0, "%s is not there", name);
    ck_assert_int_eq(avro_log_scan(fd, &sealed, &visitor, &summary), 0);
    close(fd);
    ck_assert_msg(summary.faults == 0, "%s: %s", name, summary.fault_what);
    ck_assert_uint_eq(summary.records, records);
    ck_assert_uint_eq(summary.first_seq, first_seq);
}

bool archive_rig_said(const struct archive_rig *rig, const char *text)
{
    char said[64 * 1024];
    return unit_read_small_file(AT_FDCWD, rig->log_path, said, sizeof said) > 0 &&
           strstr(said, text) != NULL;
}
