/* SPDX-License-Identifier: MIT */
/* Tries what the running kernel can, one thing after the other, and says of each that it is there
 * or why not. What changes the process that tries it is tried in a child. Must never report what
 * was not tried, nor leave anything behind. */
#include "supervisor/ctl/ctl_capabilities.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/control_protocol.h"
#include "common/fd.h"
#include "common/huge_pages.h"
#include "common/memory_page.h"
#include "common/ring_map.h"
#include "supervisor/ctl/ctl_text.h"
#include "supervisor/ctl/ctl_window.h"

#define TEXT_SIZE 200

struct answer {
    bool present;
    char why[TEXT_SIZE];  /* not present: why */
    char more[TEXT_SIZE]; /* present: what else there is to say; may be "" */
};

__attribute__((format(printf, 2, 3))) static void refuse(struct answer *answer, const char *format,
                                                         ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(answer->why, sizeof answer->why, format, arguments);
    va_end(arguments);
    answer->present = false;
}

/* ---- memory ---- */

static void try_memfd(struct answer *answer)
{
    int fd = memfd_create("holdfast-capabilities", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    answer->present = fd >= 0;
    if (fd < 0)
        refuse(answer, "memfd_create: %s", strerror(errno));
    else if (ftruncate(fd, (off_t)memory_page_size()) < 0)
        refuse(answer, "ftruncate: %s", strerror(errno));
    else if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        refuse(answer, "sealing it: %s", strerror(errno));
    fd_close(&fd);
}

static void try_double_mapping(struct answer *answer)
{
    const char *reason;
    answer->present = ring_map_probe(&reason) == 0;
    if (!answer->present)
        refuse(answer, "%s", reason);
}

static void try_huge_pages(struct answer *answer)
{
    int fd = huge_pages_memfd("holdfast-capabilities", MFD_CLOEXEC, HUGE_PAGE_SIZE);
    answer->present = fd >= 0;
    if (fd < 0)
        huge_pages_explain(-fd, HUGE_PAGE_SIZE, answer->why, sizeof answer->why);
    fd_close(&fd);
}

/* ---- UDP: runs of datagrams ---- */

struct udp_pair {
    int from, to;
};

static void close_pair(struct udp_pair *pair)
{
    fd_close(&pair->from);
    fd_close(&pair->to);
}

/* A socket that sends to another one over loopback; 0 or -errno. */
static int open_pair(struct udp_pair *ret)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    ret->from = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ret->to = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (ret->from >= 0 && ret->to >= 0 &&
        bind(ret->to, (struct sockaddr *)&address, sizeof address) == 0 &&
        getsockname(ret->to, (struct sockaddr *)&address, &size) == 0 &&
        connect(ret->from, (struct sockaddr *)&address, sizeof address) == 0)
        return 0;
    int error = errno;
    close_pair(ret);
    return -error;
}

#define RUN_PART  100
#define RUN_PARTS 3

/* Give the kernel one run and take what arrives. The length of the first datagram, with the size of
 * its parts where the kernel tells it; -errno. */
static ssize_t send_run(const struct udp_pair *pair, int *ret_part)
{
    static const char run[RUN_PARTS * RUN_PART];
    char bytes[2 * sizeof run];
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec span = {bytes, sizeof bytes};
    struct msghdr message = {.msg_iov = &span,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    struct pollfd wait = {.fd = pair->to, .events = POLLIN};
    *ret_part = 0;
    if (send(pair->from, run, sizeof run, 0) < 0)
        return -errno;
    int ready = poll(&wait, 1, 1000);
    if (ready <= 0)
        return ready < 0 ? -errno : -ETIMEDOUT;
    ssize_t length = recvmsg(pair->to, &message, MSG_DONTWAIT);
    if (length < 0)
        return -errno;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_UDP && header->cmsg_type == UDP_GRO)
        memcpy(ret_part, CMSG_DATA(header), sizeof *ret_part);
    return length;
}

static void try_runs(struct answer *answer, bool joined)
{
    struct udp_pair pair = {-1, -1};
    const int part = RUN_PART, on = 1;
    int told = 0, result = open_pair(&pair);
    answer->present = true;
    if (result < 0) {
        refuse(answer, "no UDP over loopback to try it on: %s", strerror(-result));
        return;
    }
    if (joined && setsockopt(pair.to, SOL_UDP, UDP_GRO, &on, sizeof on) < 0)
        refuse(answer, "UDP_GRO: %s (Linux 5.0 has it)", strerror(errno));
    else if (setsockopt(pair.from, SOL_UDP, UDP_SEGMENT, &part, sizeof part) < 0)
        refuse(answer, "UDP_SEGMENT: %s (Linux 4.18 has it)", strerror(errno));
    ssize_t length = answer->present ? send_run(&pair, &told) : 0;
    close_pair(&pair);
    if (!answer->present)
        return;
    if (length < 0)
        refuse(answer, "taken, but sending a run over loopback: %s", strerror((int)-length));
    else if (!joined && length != RUN_PART)
        refuse(answer, "taken, but a run was not cut");
    else if (joined && (length != RUN_PARTS * RUN_PART || told != RUN_PART))
        refuse(answer, "taken, but a run over loopback arrived in pieces");
}

static void try_gso(struct answer *answer)
{
    try_runs(answer, false);
}

static void try_gro(struct answer *answer)
{
    try_runs(answer, true);
}

/* ---- sandboxes: in a child, since there is no way back ---- */

#define WITHOUT_EFFECT 255 /* no errno is as large */

/* What `run` returns in a child: 0, an errno or WITHOUT_EFFECT. -errno when there was no child,
 * -ENOTRECOVERABLE when something killed it. */
static int in_child(int (*run)(void))
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child < 0)
        return -errno;
    if (child == 0)
        _exit(run());
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -ENOTRECOVERABLE;
}

static void refuse_child(struct answer *answer, int error)
{
    if (error == ENOTRECOVERABLE)
        refuse(answer, "the process that tried it was killed");
    else
        refuse(answer, "no process to try it in: %s", strerror(error));
}

static int seccomp_child(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0)
        return errno;
    return syscall(SYS_getppid) < 0 && errno == EXDEV ? 0 : WITHOUT_EFFECT;
}

static void try_seccomp(struct answer *answer)
{
    int result = in_child(seccomp_child);
    answer->present = result == 0;
    if (result < 0)
        refuse_child(answer, -result);
    else if (result == EINVAL)
        refuse(answer, "the kernel was built without CONFIG_SECCOMP_FILTER");
    else if (result == WITHOUT_EFFECT)
        refuse(answer, "a filter was taken but has no effect");
    else if (result > 0)
        refuse(answer, "PR_SET_SECCOMP: %s", strerror(result));
}

static int landlock_child(void)
{
    const struct landlock_ruleset_attr rules = {.handled_access_fs = LANDLOCK_ACCESS_FS_READ_DIR};
    int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0);
    if (fd < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        syscall(SYS_landlock_restrict_self, fd, 0) < 0)
        return errno;
    return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC) < 0 && errno == EACCES ? 0
                                                                                : WITHOUT_EFFECT;
}

static void try_landlock(struct answer *answer)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    int result = in_child(landlock_child);
    answer->present = result == 0;
    if (result < 0)
        refuse_child(answer, -result);
    else if (result == ENOSYS)
        refuse(answer, "Linux before 5.13, or built without CONFIG_SECURITY_LANDLOCK");
    else if (result == EOPNOTSUPP)
        refuse(answer, "switched off at boot: it is missing in the kernel's lsm=");
    else if (result == WITHOUT_EFFECT)
        refuse(answer, "rules were taken but have no effect");
    else if (result > 0)
        refuse(answer, "landlock: %s", strerror(result));
    else
        snprintf(answer->more, sizeof answer->more, "ABI %ld", version);
}

/* ---- all of them ---- */

static const struct capability {
    const char *key, *name;
    void (*probe)(struct answer *answer);
    bool needed; /* holdfastd does not run without */
} capabilities[] = {
    {"memfd", "memfd", try_memfd, true},
    {"double_mapping", "double mapping", try_double_mapping, false},
    {"huge_pages", "huge pages", try_huge_pages, false},
    {"gso", "GSO (UDP_SEGMENT)", try_gso, false},
    {"gro", "GRO (UDP_GRO)", try_gro, false},
    {"seccomp", "seccomp", try_seccomp, false},
    {"landlock", "landlock", try_landlock, false},
};

static void add_huge_pages(json_t *report)
{
    struct huge_pages pages;
    char transparent[32];
    huge_pages_read(&pages);
    huge_pages_read_transparent(transparent, sizeof transparent);
    json_object_set_new(report, "page_bytes", json_integer((json_int_t)HUGE_PAGE_SIZE));
    json_object_set_new(report, "configured", json_integer((json_int_t)pages.configured));
    json_object_set_new(report, "free", json_integer((json_int_t)pages.free));
    json_object_set_new(report, "transparent_shmem",
                        transparent[0] ? control_text(transparent) : json_null());
}

/* Also as text: how many there are decides whether one channel more has room. */
static void tell_huge_pages(FILE *to, const json_t *report)
{
    const char *transparent = ctl_string(report, "transparent_shmem");
    fprintf(to, "; %llu configured, %llu free; transparent ones for shared memory: ",
            (unsigned long long)ctl_count(report, "configured"),
            (unsigned long long)ctl_count(report, "free"));
    ctl_print_text(to, false, CTL_PLAIN, transparent[0] ? transparent : "none");
}

static void tell(FILE *to, const struct capability *capability, const struct answer *answer,
                 const json_t *report, bool colour)
{
    fprintf(to, "%-18s ", capability->name);
    if (answer->present) {
        ctl_print_text(to, colour, CTL_GREEN, "present");
        fprintf(to, "%s%s", answer->more[0] ? ", " : "", answer->more);
    } else {
        ctl_print_text(to, colour, capability->needed ? CTL_RED : CTL_YELLOW, "absent");
        fputs(": ", to);
        ctl_print_text(to, false, CTL_PLAIN, answer->why);
    }
    if (capability->probe == try_huge_pages)
        tell_huge_pages(to, report);
    fputc('\n', to);
}

int ctl_capabilities(const struct ctl_options *options)
{
    int status = CTL_OK;
    struct utsname kernel = {0};
    struct ctl_look look;
    FILE *to = options->json ? NULL : ctl_window_text(&look);
    json_t *all = json_object();
    uname(&kernel);
    json_object_set_new(all, "kernel", control_text(kernel.release));
    json_object_set_new(all, "page_bytes", json_integer((json_int_t)memory_page_size()));
    if (to)
        fprintf(to, "%-18s %s\n%-18s %llu bytes\n", "kernel", kernel.release, "page size",
                (unsigned long long)memory_page_size());
    for (size_t i = 0; i < sizeof capabilities / sizeof *capabilities; i++) {
        const struct capability *capability = &capabilities[i];
        struct answer answer = {0};
        capability->probe(&answer);
        json_t *report = json_object();
        json_object_set_new(report, "present", json_boolean(answer.present));
        json_object_set_new(report, "reason",
                            answer.present ? json_null() : control_text(answer.why));
        json_object_set_new(report, "detail",
                            answer.more[0] ? control_text(answer.more) : json_null());
        if (capability->probe == try_huge_pages)
            add_huge_pages(report);
        if (to)
            tell(to, capability, &answer, report, options->colour);
        json_object_set_new(all, capability->key, report);
        if (capability->needed && !answer.present)
            status = CTL_NO;
    }
    if (to)
        ctl_window_print();
    else
        ctl_print_json(all);
    json_decref(all);
    return status;
}
