/* SPDX-License-Identifier: MIT */
/* Requests for whole log files, of any content, to a gate that runs in a thread beside, over a real
 * folder: in it are log files, and what must never be handed out, some of it under a log file's
 * name. Whatever is lent must be a file that was asked for, read only; whatever is sent must be its
 * bytes; and what is asked for as it should be is never refused.
 *
 * The input: which name, by what, how, flags, which offset and length (a byte each), eight bytes of
 * a number, then edits of the name (place, byte). The thread never ends: it is the process's. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/avro_log_format.h"
#include "common/avro_log_header.h"
#include "common/fd.h"
#include "common/message.h"
#include "common/read_protocol.h"
#include "common/read_wake.h"
#include "worker/gate/gate.h"

#define CHANNEL     "engine"
#define STEM        CHANNEL "-0000000000000000"
#define DATE        "-20251009T085320Z"
#define BIG_SIZE    (200 * 1000) /* more than a pipe holds */
#define PATIENCE_MS 20000
#define CHOICES     14 /* bytes before the edits */

enum { LEAVES = 0x0e, TWICE = 0x10, STRANGE_CHANNEL = 0x60 }; /* flags: all of these bits */

struct file {
    const char *name;
    bool open;
    size_t size;
    ino_t id;
    uint8_t *bytes;
};

static struct file files[] = {{.name = STEM "1000" DATE ".avro", .size = 8192},
                              {.name = STEM "2000" DATE ".avro", .size = BIG_SIZE},
                              {.name = STEM "3000" DATE ".avro.open", .open = true, .size = 65536}};
#define FILES (sizeof files / sizeof *files)

/* Behind those: none of these is one to hand out. */
static const char *const others[] = {STEM "4000" DATE ".avro.damaged",
                                     STEM "4000" DATE ".avro.mending",
                                     STEM "5000" DATE ".avro", /* a link to what lies outside */
                                     STEM "6000" DATE ".avro", /* a folder */
                                     STEM "7000" DATE ".avro", /* a pipe */
                                     CHANNEL "-prepared-0000000000000001.avro.open",
                                     "other" DATE ".avro",
                                     "../secret",
                                     "../" CHANNEL "/" STEM "1000" DATE ".avro",
                                     STEM "3000" DATE ".avro", /* that it is to get */
                                     "secret",
                                     ""};
#define OTHERS (sizeof others / sizeof *others)

static char folder[128], channel_folder[160], socket_path[140];
static struct inheritance inheritance = {.generation = 7, .assign = {.role = ROLE_GATE}};
static int reader = -1;
static uint32_t last_request;

static void require(int truth)
{
    if (!truth)
        abort();
}

/* ---- the world ---- */

static void path_of(const char *name, char ret[512])
{
    snprintf(ret, 512, "%s/%s", channel_folder, name);
}

static void put(const char *name, const void *bytes, size_t size)
{
    char path[512];
    path_of(name, path);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
    require(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    close(fd);
}

static void make_file(struct file *file, uint64_t first_seq)
{
    const struct avro_log_identity identity = {
        .channel = CHANNEL, .first_seq = first_seq, .sync = "0123456789abcde"};
    const struct avro_log_totals totals = {.last_seq = first_seq + 99, .records = 100};
    struct stat status;
    char path[512];
    file->bytes = malloc(file->size);
    require(file->bytes != NULL);
    for (size_t i = 0; i < file->size; i++)
        file->bytes[i] = (uint8_t)(1 + (i * 31 + first_seq) % 255); /* none is zero */
    avro_log_write_header(file->bytes, &identity);
    put(file->name, file->bytes, file->size);
    path_of(file->name, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    require(fd >= 0 && (file->open || avro_log_write_totals(fd, &totals) == 1));
    require(pread(fd, file->bytes, file->size, 0) == (ssize_t)file->size);
    require(fstat(fd, &status) == 0);
    file->id = status.st_ino;
    close(fd);
}

static void make_folder(void)
{
    char path[512];
    const char *temporary = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.80s/fuzz-gate-XXXXXX", temporary ? temporary : "/tmp");
    require(mkdtemp(folder) != NULL);
    snprintf(channel_folder, sizeof channel_folder, "%s/" CHANNEL, folder);
    snprintf(socket_path, sizeof socket_path, "%s/sock", folder);
    require(mkdir(channel_folder, 0755) == 0);
    for (size_t i = 0; i < FILES; i++)
        make_file(&files[i], (i + 1) * 1000);
    for (size_t i = 0; i < OTHERS - 1; i++)
        if (i != 2 && i != 3 && i != 4 && i != 8 && i != 9)
            put(others[i], "secret", 6);
    path_of(others[2], path);
    require(symlink("../secret", path) == 0);
    path_of(others[3], path);
    require(mkdir(path, 0755) == 0);
    path_of(others[4], path);
    require(mkfifo(path, 0644) == 0);
}

static void remove_folder(void)
{
    char path[512];
    for (size_t i = 0; i < FILES; i++) {
        path_of(files[i].name, path);
        unlink(path);
    }
    for (size_t i = 0; i < OTHERS - 1; i++) {
        path_of(others[i], path);
        remove(path);
    }
    unlink(socket_path);
    rmdir(channel_folder);
    rmdir(folder);
}

/* ---- the gate ---- */

static void *run_gate(void *nothing)
{
    (void)nothing;
    gate_run(&inheritance);
    abort(); /* it was not told to leave */
}

static void set_address(struct sockaddr_un *ret)
{
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(ret->sun_path, sizeof ret->sun_path, "%.107s", socket_path);
}

static void inherit(void)
{
    struct sockaddr_un address;
    set_address(&address);
    inheritance.listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    require(bind(inheritance.listening, (struct sockaddr *)&address, sizeof address) == 0);
    require(listen(inheritance.listening, 64) == 0);
    inheritance.wake = memfd_create("wake", MFD_CLOEXEC);
    require(ftruncate(inheritance.wake, READ_WAKE_MEMORY_SIZE) == 0);
    inheritance.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    snprintf(inheritance.assign.log_dir, sizeof inheritance.assign.log_dir, "%s", folder);
}

static void start_gate(void)
{
    struct message_channel_lent lent = {.listen = "127.0.0.1:1", .wake_index = 5, .records = 1};
    const struct message_empty nothing = {0};
    pthread_t thread;
    int ends[2];
    /* The gate finds its supervisor under this number, which nobody else may have. */
    require(fcntl(MESSAGE_FD, F_GETFD) < 0 &&
            socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    int supervisor = fcntl(ends[0], F_DUPFD_CLOEXEC, 64);
    int other = fcntl(ends[1], F_DUPFD_CLOEXEC, 64);
    close(ends[0]);
    close(ends[1]);
    require(dup3(other, MESSAGE_FD, O_CLOEXEC) == MESSAGE_FD);
    close(other);
    inherit();
    snprintf(lent.channel, sizeof lent.channel, CHANNEL);
    require(message_send(supervisor, MESSAGE_CHANNEL_LENT, 7, &lent, sizeof lent, NULL, 0) == 0);
    require(message_send(supervisor, MESSAGE_ALL_LENT, 7, &nothing, sizeof nothing, NULL, 0) == 0);
    require(pthread_create(&thread, NULL, run_gate, NULL) == 0);
    pthread_detach(thread);
}

/* Those that have just left may still count as this user's: then it is turned away, once or more.
 */
static bool is_welcome(void)
{
    static struct read_packet packet;
    const struct read_hello hello = {"fuzz"};
    const char *what;
    struct sockaddr_un address;
    set_address(&address);
    reader = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    require(connect(reader, (struct sockaddr *)&address, sizeof address) == 0);
    return read_packet_send(reader, READ_HELLO, 1, &hello, sizeof hello, -1) == 0 &&
           read_packet_receive(reader, TO_READER, &packet, &what) == 1 &&
           packet.header.type == READ_WELCOME;
}

static void connect_reader(void)
{
    for (int tries = 0; !is_welcome(); tries++) {
        require(tries < PATIENCE_MS);
        close(reader);
        poll(NULL, 0, 1);
    }
    require(fd_set_nonblocking(reader) == 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    make_folder();
    atexit(remove_folder);
    start_gate();
    connect_reader();
    return 0;
}

/* ---- a request ---- */

static uint64_t choose_number(uint8_t choice, size_t size, uint64_t raw)
{
    const uint64_t edges[] = {0,
                              1,
                              16,
                              4095,
                              4096,
                              65535,
                              65536,
                              65537,
                              size - 1,
                              size,
                              size + 1,
                              INT64_MAX,
                              1ull << 63,
                              UINT64_MAX,
                              UINT64_MAX - size,
                              UINT64_MAX - size + 1};
    const size_t count = sizeof edges / sizeof *edges;
    return choice % 32 < count ? edges[choice % 32] : choice & 0x80 ? raw : raw % (size + 1);
}

static void make_request(const uint8_t *data, size_t size, struct read_object *ret)
{
    static const uint32_t odd[] = {0, 7, 4, 255, UINT32_MAX, 1u << 31};
    const size_t which = data[0] % (FILES + OTHERS);
    const size_t file_size = which < FILES ? files[which].size : BIG_SIZE;
    uint64_t raw;
    memcpy(&raw, data + 6, sizeof raw);
    *ret = (struct read_object){.by = data[1] < 200 ? READ_BY_NAME : data[1] % 6u + 1,
                                .how = data[2] < 240 ? data[2] % 3u + 1 : odd[data[2] % 6],
                                .seq = choose_number(data[4], 2050, raw),
                                .time_ns = (int64_t)choose_number(data[5], 2050, raw),
                                .offset = choose_number(data[4], file_size, raw),
                                .length = choose_number(data[5], file_size, raw)};
    if (data[1] >= 250)
        ret->by = odd[data[1] % 6];
    snprintf(ret->channel, sizeof ret->channel, CHANNEL);
    if ((data[3] & STRANGE_CHANNEL) == STRANGE_CHANNEL)
        ret->channel[raw % sizeof ret->channel] = (char)(raw >> 8);
    snprintf(ret->name, sizeof ret->name, "%s",
             which < FILES ? files[which].name : others[which - FILES]);
    for (size_t at = CHOICES; at + 2 <= size; at += 2)
        ret->name[data[at] % sizeof ret->name] = (char)data[at + 1];
}

/* As it should be, so that nothing but the file may come. */
static const struct file *find_due(const struct read_object *wanted)
{
    if (wanted->by != READ_BY_NAME || wanted->how < READ_FDPASS || wanted->how > READ_DESCRIBE ||
        strncmp(wanted->channel, CHANNEL, sizeof wanted->channel) != 0)
        return NULL;
    for (size_t i = 0; i < FILES; i++)
        if (strncmp(wanted->name, files[i].name, sizeof wanted->name) == 0 &&
            (wanted->how == READ_FDPASS || wanted->how == READ_DESCRIBE ||
             (!files[i].open && wanted->offset <= files[i].size)))
            return &files[i];
    return NULL;
}

/* ---- answers ---- */

static void await(int fd)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    if (poll(&readable, 1, PATIENCE_MS) == 1)
        return;
    fprintf(stderr, "request %u: nothing comes of descriptor %d\n", last_request, fd);
    abort();
}

static void receive(struct read_packet *packet)
{
    const char *what;
    await(reader);
    const int result = read_packet_receive(reader, TO_READER, packet, &what);
    if (result == 1 && packet->header.request == last_request)
        return;
    fprintf(stderr, "request %u: %s, %s to request %u\n", last_request,
            result < 0    ? strerror(-result)
            : result == 0 ? "the end"
                          : "an answer",
            result == 1 ? read_packet_name(packet->header.type) : "none",
            result == 1 ? packet->header.request : 0);
    if (result == 1 && packet->header.type == READ_REFUSED)
        fprintf(stderr, "%s\n", packet->refused->reason);
    abort();
}

static void check_bytes(int pipe, const struct file *file, const struct read_object_lent *lent)
{
    static uint8_t bytes[65536];
    uint64_t at = lent->offset;
    const uint64_t end = lent->offset + lent->length;
    ssize_t length;
    for (;;) {
        await(pipe);
        length = read(pipe, bytes, sizeof bytes);
        if (length <= 0)
            break;
        require((uint64_t)length <= end - at);
        require(memcmp(bytes, file->bytes + at, (size_t)length) == 0);
        at += (uint64_t)length;
    }
    require(length == 0 && at == end);
}

static void check_sent(const struct read_object *wanted, const struct file *file,
                       const struct read_object_lent *lent, int *pipe)
{
    static struct read_packet packet;
    const struct read_object_lent here = *lent;
    require(!file->open && here.offset == wanted->offset && here.offset <= file->size);
    const uint64_t left = file->size - here.offset;
    require(here.length == (wanted->length && wanted->length < left ? wanted->length : left));
    check_bytes(*pipe, file, &here);
    fd_close(pipe);
    receive(&packet);
    require(packet.header.type == READ_OBJECT_SENT && packet.object_sent->error == 0);
    require(packet.object_sent->bytes == here.length);
}

/* A sealed file may be asked for as it was called before. */
static bool is_name_of(const char *name, const struct file *file)
{
    const size_t length = strlen(file->name);
    return strncmp(name, file->name, length) == 0 &&
           (!name[length] || (!file->open && strcmp(name + length, ".open") == 0));
}

static void check_lent(const struct read_object *wanted, struct read_packet *packet)
{
    const struct read_object_lent *lent = packet->object_lent;
    const struct file *file = NULL;
    struct stat status;
    int fd = fd_take(&packet->fd);
    for (size_t i = 0; i < FILES && !file; i++)
        file = lent->id == files[i].id ? &files[i] : NULL;
    require(file && (fd < 0) == (wanted->how == READ_DESCRIBE));
    require(strcmp(lent->about.name, file->name) == 0);
    require(lent->about.size == file->size && lent->about.is_open == file->open);
    require(wanted->by >= READ_BY_SEQ && wanted->by <= READ_BY_NAME);
    require(wanted->by != READ_AFTER || wanted->seq < lent->about.first_seq);
    require(wanted->how >= READ_FDPASS && wanted->how <= READ_DESCRIBE);
    require(wanted->by != READ_BY_NAME || is_name_of(wanted->name, file));
    require(wanted->by != READ_BY_SEQ || wanted->seq >= lent->about.first_seq);
    require(wanted->by != READ_BY_SEQ || file->open || wanted->seq <= lent->about.last_seq);
    if (wanted->how == READ_FDPASS) {
        require(fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_ino == file->id);
        require((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
    } else if (wanted->how != READ_DESCRIBE) {
        check_sent(wanted, file, lent, &fd);
    }
    fd_close(&fd);
}

/* EBUSY: those who went away may still be sent to. */
static void check_answer(const struct read_object *wanted)
{
    static struct read_packet packet;
    receive(&packet);
    if (packet.header.type == READ_OBJECT_LENT) {
        check_lent(wanted, &packet);
    } else {
        require(packet.header.type == READ_REFUSED && packet.refused->error > 0);
        require(packet.refused->reason[0] != '\0');
        require(packet.refused->error == EBUSY || !find_due(wanted));
    }
    read_packet_release(&packet);
}

/* Those of connections that are gone are closed a moment later. */
static void check_descriptors(void)
{
    for (int tries = 0; tries < 1000; tries++) {
        int fd = fcntl(0, F_DUPFD_CLOEXEC, 0);
        close(fd);
        if (fd < 200)
            return;
        poll(NULL, 0, 10);
    }
    abort();
}

static void ask(const struct read_object *wanted)
{
    int result;
    while ((result = read_packet_send(reader, READ_OBJECT, ++last_request, wanted, sizeof *wanted,
                                      -1)) == -EAGAIN)
        poll(&(struct pollfd){.fd = reader, .events = POLLOUT}, 1, PATIENCE_MS);
    require(result == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct read_object wanted;
    if (size < CHOICES)
        return 0;
    make_request(data, size, &wanted);
    ask(&wanted);
    if ((data[3] & LEAVES) == LEAVES) { /* in the middle of it */
        close(reader);
        connect_reader();
        check_descriptors();
        return 0;
    }
    if ((data[3] & TWICE) && wanted.how == READ_FDPASS) {
        ask(&wanted);
        last_request--;
        check_answer(&wanted);
        last_request++;
    }
    wanted.channel[sizeof wanted.channel - 1] = '\0';
    wanted.name[sizeof wanted.name - 1] = '\0'; /* as the gate sees it */
    check_answer(&wanted);
    return 0;
}
