/* SPDX-License-Identifier: MIT */
/* holdfastd: options, configuration, limits of the process; then daemon_run(). Exit status: 0
 * clean, 1 runtime failure, 2 usage or configuration error. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "supervisor/config/config.h"
#include "supervisor/config/config_errors.h"
#include "supervisor/config/config_print.h"
#include "supervisor/config/config_surroundings.h"
#include "supervisor/config/settings.h"
#include "supervisor/daemon.h"
#include "supervisor/system/log_writer.h"
#include "supervisor/system/manager.h"
#include "supervisor/system/process.h"

#define DEFAULT_CONFIG HOLDFAST_SYSCONFDIR "/holdfast/holdfast.conf"

enum { EXIT_USAGE = 2 };

struct options {
    const char *config;
    bool check;
    bool print_config;
};

static void print_usage(FILE *to)
{
    fprintf(
        to,
        "usage: holdfastd [--config FILE] [--check] [--print-config] [--version]\n"
        "\n"
        "  --config FILE    read FILE instead of " DEFAULT_CONFIG "\n"
        "  --check          check the configuration and exit\n"
        "  --print-config   print the configuration as understood, with all defaults, and exit\n"
        "  --version        print the version and exit\n"
        "  --help           print this and exit\n"
        "\n"
        "Exit status: 0 clean, 1 runtime failure, 2 usage or configuration error.\n"
        "Manual: holdfastd(8), holdfast.conf(5)\n");
}

/* Returns -1 to go on, else the exit status. */
static int parse_options(int argc, char **argv, struct options *ret)
{
    static const struct option known[] = {
        {"config", required_argument, NULL, 'c'}, {"check", no_argument, NULL, 'k'},
        {"print-config", no_argument, NULL, 'p'}, {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};
    int option;
    *ret = (struct options){.config = DEFAULT_CONFIG};
    while ((option = getopt_long(argc, argv, "c:h", known, NULL)) != -1) {
        switch (option) {
        case 'c':
            ret->config = optarg;
            break;
        case 'k':
            ret->check = true;
            break;
        case 'p':
            ret->print_config = true;
            break;
        case 'v':
            printf("holdfastd %s\n", HOLDFAST_VERSION);
            return 0;
        case 'h':
            print_usage(stdout);
            return 0;
        default:
            print_usage(stderr);
            return EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "holdfastd: unexpected argument \"%s\"\n", argv[optind]);
        print_usage(stderr);
        return EXIT_USAGE;
    }
    return -1;
}

static struct settings *load(const struct config_source *source)
{
    struct settings *settings = NULL;
    struct config_errors errors = {0};
    int error = config_load_from(source, &settings, &errors);
    if (error < 0)
        fprintf(stderr, "%s%s", errors.text ? errors.text : "holdfastd: out of memory\n",
                errors.text && errors.text[0] && errors.text[strlen(errors.text) - 1] != '\n' ? "\n"
                                                                                              : "");
    config_errors_free(&errors);
    return error < 0 ? NULL : settings;
}

/* Descriptors 0, 1 and 2 must be something, or a socket of ours would be opened there and be logged
 * into. */
static void open_standard_fds(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
}

/* Who goes on with what another supervisor held, goes on with what there is; everybody else had
 * better not begin what can't be gone through with. */
static bool raise_fd_limit(const struct settings *settings)
{
    struct rlimit limit;
    const unsigned long long needed = config_surroundings_descriptors(settings);
    const bool fresh = !getenv(PROGRAM_PATH_VARIABLE) && !getenv("LISTEN_FDS");
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return true;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= needed)
        return true;
    if (fresh)
        log_error("this configuration needs %llu open files, and the limit is %llu: set "
                  "LimitNOFILE=%llu in the unit, or `ulimit -Hn`, or have fewer channels",
                  needed, (unsigned long long)limit.rlim_cur, needed);
    else
        log_warning("this configuration needs %llu open files, and the limit is %llu; channels "
                    "beyond it can't open: set LimitNOFILE=%llu in the unit, or `ulimit -Hn`",
                    needed, (unsigned long long)limit.rlim_cur, needed);
    return !fresh;
}

/* Where it was started from: that may be a link that leads elsewhere by the next upgrade. `self`:
 * the file itself. */
static void find_path(struct program *program, const char *self)
{
    const char *told = getenv(PROGRAM_PATH_VARIABLE);
    const char *started_as = (const char *)getauxval(AT_EXECFN);
    bool is_path = started_as && started_as[0] == '/' && strncmp(started_as, "/dev/fd/", 8) != 0 &&
                   strncmp(started_as, "/proc/", 6) != 0;
    snprintf(program->path, sizeof program->path, "%s", told ? told : is_path ? started_as : self);
    unsetenv(PROGRAM_PATH_VARIABLE);
}

/* The worker is beside this very program (a build, a relocated install), else where it was
 * installed, else where the program before this one had it: to be looked for there later. */
static int find_programs(struct program *program)
{
    const char *told = getenv(PROGRAM_WORKER_PATH_VARIABLE);
    char self[sizeof program->path];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = '\0';
    find_path(program, self);
    const char *slash = strrchr(self, '/');
    if (slash && slash - self < 4000) {
        snprintf(program->worker_beside, sizeof program->worker_beside, "%.*s/holdfast-worker",
                 (int)(slash - self), self);
        memcpy(program->worker_path, program->worker_beside, sizeof program->worker_path);
        if (access(program->worker_path, X_OK) == 0)
            return 0;
    }
    snprintf(program->worker_path, sizeof program->worker_path, "%s/holdfast-worker",
             HOLDFAST_LIBEXECDIR);
    int error = access(program->worker_path, X_OK) == 0 ? 0 : -errno;
    if (error < 0 && told)
        snprintf(program->worker_path, sizeof program->worker_path, "%s", told);
    return error;
}

/* -1 when there is none. */
static int inherited_fd(const char *variable)
{
    const char *text = getenv(variable);
    int fd = text ? atoi(text) : -1;
    unsetenv(variable);
    return fd > STDERR_FILENO && fd_set_cloexec(fd) == 0 ? fd : -1;
}

static int pin_worker(struct program *program)
{
    char inherited[PROCESS_PIN_SIZE];
    int fd = inherited_fd(PROGRAM_WORKER_VARIABLE);
    snprintf(inherited, sizeof inherited, "/proc/self/fd/%d", fd);
    int error = process_pin(fd < 0 ? program->worker_path : inherited, program->worker_program);
    fd_close(&fd);
    return error;
}

/* Before an upgrade: by itself it only says that it does nothing, and ends with 2. 1 when it can't
 * even do that, and it is told. */
static int try_worker(void)
{
    static struct program program;
    const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    char *arguments[] = {program.worker_path, NULL}, *environment[] = {NULL};
    const struct process_fd fds[] = {{nowhere, STDOUT_FILENO}, {nowhere, STDERR_FILENO}};
    const struct process_plan plan = {.path = program.worker_path,
                                      .arguments = arguments,
                                      .environment = environment,
                                      .fds = fds,
                                      .fd_count = 2};
    siginfo_t end = {0};
    pid_t pid = 0;
    int error = find_programs(&program);
    if (error == 0)
        error = process_spawn(&plan, &pid);
    if (error == 0 && waitid(P_PID, (id_t)pid, &end, WEXITED) < 0)
        error = -errno;
    if (error == 0)
        error = -process_exec_error(&end);
    if (error == 0 && end.si_code == CLD_EXITED && end.si_status == EXIT_USAGE)
        return 0;
    fprintf(stderr, "%s can't be executed: %s; install it anew\n", program.worker_path,
            error < 0 ? strerror(-error) : "it does not end as it should");
    return 1;
}

/* Handled by the event loop, so blocked; children get their own mask. SIGPIPE: writing to a
 * vanished peer is an error code like any other. */
static void prepare_signals(void)
{
    sigset_t handled;
    sigemptyset(&handled);
    sigaddset(&handled, SIGCHLD);
    sigaddset(&handled, SIGTERM);
    sigaddset(&handled, SIGINT);
    sigaddset(&handled, SIGHUP);
    sigaddset(&handled, SIGUSR2);
    sigprocmask(SIG_BLOCK, &handled, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL); /* who started us may ignore it: then no child could be waited for */
}

/* Sockets with datagrams in them, rings and segments, of a supervisor before this one. */
static bool holds_something(void)
{
    const char *count = getenv("LISTEN_FDS");
    return count && atoi(count) > 0;
}

/* false: this program can't begin. */
static bool prepare_worker(struct program *program)
{
    int error = find_programs(program);
    unsetenv(PROGRAM_WORKER_PATH_VARIABLE);
    if (error == 0 || getenv(PROGRAM_WORKER_VARIABLE))
        error = pin_worker(program);
    if (error == 0)
        return true;
    program->worker_program[0] = '\0';
    log_error("can't find holdfast-worker, neither beside this program nor as %s: %s; is the "
              "installation complete?%s",
              program->worker_path, strerror(-error),
              holds_something() ? " What is held is kept until it is" : "");
    return holds_something();
}

static int serve(struct settings *settings, char **arguments, int config)
{
    static struct program program;
    char why[512];
    program.arguments = arguments;
    program.config = config;
    if (!raise_fd_limit(settings)) { /* a program is pinned above what a low one allows */
        settings_free(settings);
        return EXIT_USAGE;
    }
    if (!prepare_worker(&program)) {
        settings_free(settings);
        return EXIT_FAILURE;
    }
    if (getenv(PROGRAM_TROUBLE_VARIABLE))
        log_error("%s", getenv(PROGRAM_TROUBLE_VARIABLE)); /* it stays, for who asks: ping */
    prepare_signals();
    int status = daemon_run(settings, &program, why, sizeof why);
    if (why[0])
        log_error("%s", why);
    return status;
}

static struct log_writer inherited_log_writer(void)
{
    const char *pid = getenv(PROGRAM_LOG_PID_VARIABLE);
    const struct log_writer before = {.pipe = inherited_fd(PROGRAM_LOG_PIPE_VARIABLE),
                                      .file = inherited_fd(PROGRAM_LOG_FILE_VARIABLE),
                                      .pid = pid ? atoi(pid) : 0};
    unsetenv(PROGRAM_LOG_PID_VARIABLE);
    return before;
}

static int run(struct settings *settings, char **arguments, int config)
{
    const struct log_writer before = inherited_log_writer();
    manager_open(); /* else by what is said first */
    int error = log_writer_start(&before);
    log_open("holdfastd");
    if (error < 0)
        log_warning("the log's file is written directly, which waits for its disk: %s",
                    strerror(-error));
    int status = serve(settings, arguments, config);
    log_close();
    log_writer_finish();
    return status;
}

int main(int argc, char **argv)
{
    struct options options;

    open_standard_fds();
    log_open("holdfastd");
    int status = parse_options(argc, argv, &options);
    if (status >= 0)
        return status;
    bool serves = !options.check && !options.print_config;
    struct config_source source = {.path = options.config,
                                   .from = inherited_fd(PROGRAM_CONFIG_VARIABLE),
                                   .copy_to = inherited_fd(PROGRAM_CONFIG_COPY_VARIABLE)};
    if (serves) /* without it, an upgrade that fails reads the file again */
        source.copy_to = memfd_create("holdfast-config", MFD_CLOEXEC);
    struct settings *settings = load(&source);
    fd_close(&source.from);
    if (!settings)
        return EXIT_USAGE;
    if (serves)
        return run(settings, argv, source.copy_to);
    int missing =
        options.print_config ? 0 : config_surroundings_report(stderr, options.config, settings);
    if (options.check && missing == 0 && getenv(PROGRAM_FORMER_LOG_DIR_VARIABLE))
        missing = try_worker();
    if (options.print_config)
        config_print(stdout, settings);
    else if (missing == 0)
        printf("%s: ok, %zu channel%s\n", options.config, settings->channel_count,
               settings->channel_count == 1 ? "" : "s");
    settings_free(settings);
    if (missing > 0)
        return EXIT_USAGE;
    return fflush(stdout) == 0 ? 0 : EXIT_FAILURE;
}
