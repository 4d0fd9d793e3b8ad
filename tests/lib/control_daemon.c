/* SPDX-License-Identifier: MIT */
/* A control socket to be tested against: control.c in a forked process. The process ends with its
 * parent. */
#include "tests/lib/control_daemon.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/channel_page.h"
#include "supervisor/control/control.h"
#include "supervisor/control/control_verbs.h"
#include "supervisor/gate/gate_client.h"
#include "supervisor/hold/hold_ring.h"
#include "supervisor/supervisor.h"

#define DEADLINE_MS 5000

static char base[] = "/tmp/holdfast-control-XXXXXX";

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

static void remove_tree(const char *folder)
{
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

void control_daemon_begin_all(void)
{
    if (!mkdtemp(base) || chmod(base, 0711) < 0)
        abort();
}

void control_daemon_end_all(void)
{
    remove_tree(base);
}

void control_daemon_init(struct control_daemon *daemon)
{
    *daemon = (struct control_daemon){.mode = 0660, .times = 1};
    snprintf(daemon->folder, sizeof daemon->folder, "%s/XXXXXX", base);
    if (!mkdtemp(daemon->folder))
        abort();
    snprintf(daemon->socket, sizeof daemon->socket, "%s/run/control.sock", daemon->folder);
    snprintf(daemon->log, sizeof daemon->log, "%s/log", daemon->folder);
}

/* ---- the process ---- */

static void make_supervisor(struct supervisor *supervisor, struct settings *settings,
                            unsigned times)
{
    static struct channel channel;
    static struct channel *channels[CONTROL_DAEMON_TIMES_MAX];
    static struct channel_spec spec = {
        .name = CONTROL_DAEMON_CHANNEL, .max_datagram = 2048, .ring_size = 1 << 20};
    spec.listen.v4.sin_family = AF_INET;
    spec.listen.v4.sin_port = htons(26000);
    spec.listen.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    char why[256];
    if (hold_init(&channel.hold, &spec) < 0 ||
        hold_ring_make(&channel.hold, &spec, 0, why, sizeof why) < 0)
        _exit(1);
    channel.spec = &spec;
    channel.host = &supervisor->host;
    channel.life.state = CHANNEL_STOPPED;
    channel.life.since = monotonic_now();
    supervisor->host.archive = &supervisor->archive;
    const struct gate_owner nobody = {0};
    gate_client_init(&supervisor->gate, supervisor->event, &supervisor->spares, settings, &nobody);
    supervisor->settings = settings;
    supervisor->started = monotonic_now();
    supervisor->channels = (struct channels){
        .host = &supervisor->host, .list = channels, .by_name = channels, .count = times};
    for (unsigned i = 0; i < times; i++)
        channels[i] = &channel;
}

static int on_term(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
    (void)info;
    (void)userdata;
    return sd_event_exit(sd_event_source_get_event(source), 0);
}

static void watch_term(sd_event *event)
{
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    if (sd_event_add_signal(event, NULL, SIGTERM, on_term, NULL) < 0)
        _exit(1);
}

static void report(int to, int result, const char *why)
{
    struct control_daemon answer = {.result = result};
    snprintf(answer.why, sizeof answer.why, "%s", why);
    if (write(to, &answer, sizeof answer) != sizeof answer)
        _exit(1);
}

static void run(const struct control_daemon *daemon, int report_to)
{
    static struct supervisor supervisor;
    static struct settings settings;
    struct control *control = NULL;
    char why[512] = "";

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int log = open(daemon->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0 || dup2(log, STDERR_FILENO) < 0 || sd_event_new(&supervisor.event) < 0)
        _exit(1);
    close(log);
    if (daemon->descriptors)
        setrlimit(RLIMIT_NOFILE, &(struct rlimit){daemon->descriptors, daemon->descriptors});
    snprintf(settings.control_socket, sizeof settings.control_socket, "%s", daemon->socket);
    settings.control_mode = daemon->mode;
    make_supervisor(&supervisor, &settings, daemon->times);
    watch_term(supervisor.event);
    const struct control_setup setup = {.event = supervisor.event,
                                        .settings = &settings,
                                        .serve = control_verb,
                                        .data = &supervisor};
    int result = control_open(&setup, &control, why, sizeof why);
    report(report_to, result, why);
    if (result == 0)
        sd_event_loop(supervisor.event);
    control_close(control);
    sd_event_unref(supervisor.event);
    hold_close(&supervisor.channels.list[0]->hold);
    exit(0); /* and not _exit: sanitizers look for leaks then */
}

int control_daemon_start(struct control_daemon *daemon)
{
    int pipes[2];
    struct control_daemon answer = {.result = -EIO};
    fflush(NULL);
    if (pipe2(pipes, O_CLOEXEC) < 0)
        abort();
    daemon->pid = fork();
    if (daemon->pid == 0) {
        close(pipes[0]);
        run(daemon, pipes[1]);
    }
    close(pipes[1]);
    if (read(pipes[0], &answer, sizeof answer) != sizeof answer)
        answer.result = -EIO;
    close(pipes[0]);
    daemon->result = answer.result;
    snprintf(daemon->why, sizeof daemon->why, "%s", answer.why);
    if (answer.result < 0)
        control_daemon_stop(daemon);
    return answer.result;
}

static int end(struct control_daemon *daemon, int signal)
{
    int status = 0;
    if (daemon->pid <= 0)
        return 0;
    kill(daemon->pid, signal);
    waitpid(daemon->pid, &status, 0);
    daemon->pid = 0;
    return status;
}

void control_daemon_stop(struct control_daemon *daemon)
{
    int status = end(daemon, SIGTERM);
    bool refused = daemon->result < 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM;
    if (status != 0 && !refused) { /* a sanitizer's report, for example */
        fprintf(stderr, "the control daemon ended with wait status 0x%x; its log follows\n",
                (unsigned)status);
        char line[1024];
        FILE *log = fopen(daemon->log, "re");
        while (log && fgets(line, sizeof line, log))
            fputs(line, stderr);
        abort();
    }
}

void control_daemon_kill(struct control_daemon *daemon)
{
    end(daemon, SIGKILL);
}

void control_daemon_cleanup(struct control_daemon *daemon)
{
    control_daemon_kill(daemon);
    remove_tree(daemon->folder);
}

unsigned long long control_daemon_cpu_ns(const struct control_daemon *daemon)
{
    clockid_t clock;
    struct timespec used = {0};
    if (clock_getcpuclockid(daemon->pid, &clock) != 0 || clock_gettime(clock, &used) != 0)
        return 0;
    return timespec_ns(&used);
}

/* ---- the client ---- */

int control_connect(const struct control_daemon *daemon)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memcpy(address.sun_path, daemon->socket, sizeof daemon->socket);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : fd;
}

static int wait_for(int fd, short events, int milliseconds)
{
    struct pollfd ready = {.fd = fd, .events = events};
    int n = poll(&ready, 1, milliseconds);
    return n == 1 ? 0 : n == 0 ? -ETIMEDOUT : -errno;
}

int control_send(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t n = send(fd, bytes, length, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            return -errno;
        int error = n < 0 ? wait_for(fd, POLLOUT, DEADLINE_MS) : 0;
        if (error < 0)
            return error;
        bytes += n > 0 ? n : 0;
        length -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int control_send_text(int fd, const char *text)
{
    return control_send(fd, text, strlen(text));
}

long control_read_line(int fd, char *line, size_t size)
{
    for (size_t length = 0; length < size - 1;) {
        ssize_t n = recv(fd, line + length, 1, 0);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return 0;
        if (n < 0 && errno != EAGAIN)
            return -errno;
        int error = n < 0 ? wait_for(fd, POLLIN, DEADLINE_MS) : 0;
        if (error < 0)
            return error;
        if (n == 1 && line[length] == '\n') {
            line[length] = '\0';
            return (long)length;
        }
        length += n == 1 ? 1 : 0;
    }
    return -EMSGSIZE;
}

int control_wait_end(int fd, int milliseconds)
{
    char byte;
    int error = wait_for(fd, POLLIN, milliseconds);
    if (error < 0)
        return error;
    ssize_t n = recv(fd, &byte, 1, 0);
    return n == 0 || (n < 0 && errno == ECONNRESET) ? 0 : -EBUSY;
}
