/* SPDX-License-Identifier: MIT */
/* libholdfast: reads what holdfast records, while it is recorded and afterwards; and writes into
 * channels that programs of this machine publish into.
 *
 *   from        opened by          what there is to read
 *   a daemon    hf_open()          its channels, live and recorded, through its read socket
 *   files       hf_open_files()    log files and folders of them, without a daemon
 *
 * Every function returns 0 or more when it succeeded, or -errno. There are no hidden threads and no
 * signal handlers; a handle is used by one thread at a time; every descriptor is close-on-exec. A
 * request to the daemon waits for 2 seconds at most, then the answer is -ETIMEDOUT (a long list
 * comes in parts: so long for each of them, and 30 seconds for all); hf_next(), hf_check() and
 * hf_lag(), hf_reserve() and hf_commit() never wait for the daemon. When the daemon, or the process
 * that serves readers, ends, a reader connects again by itself and goes on at its position, and a
 * writer goes on, too.
 *
 * Times are nanoseconds since 1970-01-01 UTC, as the kernel stamped the datagram on receipt.
 * Sequence numbers count the datagrams of a channel, from 0. */
#ifndef HOLDFAST_H
#define HOLDFAST_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HF_NAME_SIZE    64  /* a channel's or a position's name, with its closing zero */
#define HF_ADDRESS_SIZE 80  /* "[fe80::1%eth0]:50123", with its closing zero */
#define HF_FILE_SIZE    128 /* a log file's name, with its closing zero */

typedef struct hf hf;
typedef struct hf_reader hf_reader;
typedef struct hf_writer hf_writer;

/* ---- where to read ---- */

/* Connect to the read socket at this path. NULL: $HOLDFAST_READ_SOCKET, else
 * /run/holdfast/read.sock. Nobody there: -ENOENT or -ECONNREFUSED; not allowed to: -EACCES.
 * "tcp:HOST:PORT" (or [ADDRESS]:PORT): over TCP, where the daemon has read { tcp }. There,
 * hf_list(), hf_log_list(), hf_log_find() and hf_log_copy() work, by HF_BY_COPY and HF_BY_SPLICE;
 * all else is -EOPNOTSUPP, for it takes descriptors or a user of the daemon's machine. A host's
 * name is looked up, which takes as long as the resolver does; none such: -EHOSTUNREACH. */
int hf_open(hf **ret, const char *read_socket);

/* Read files, without a daemon. A path is a log file (.avro, or .avro.open while it is being
 * written), a folder of a channel, or a log_dir with such folders in it. Files are ordered by their
 * numbers, whatever their names and order here are; those of one channel are read as one recording,
 * and if they are parts of two, hf_read() and hf_log_list() refuse it with -ENOTUNIQ.
 * -ENOENT, -EACCES, or -ENODATA when there is no log file. A file that isn't one of holdfast's:
 * -EBADMSG. hf_file_problem() tells which path it was. */
int hf_open_files(hf **ret, const char *const paths[], size_t count);

/* After hf_open_files() failed, or -ENOTUNIQ, on this thread: the path that was the reason, and
 * why; "" when there is none. Valid until the next call. */
const char *hf_file_problem(void);

/* Closes its readers and writers, too. NULL is fine. Returns NULL. */
hf *hf_close(hf *handle);

enum {
    HF_CAN_OLD = 1,    /* there is a recording to read */
    HF_CAN_NEW = 2,    /* what comes can be followed */
    HF_CAN_NEWEST = 4, /* HF_NEWEST */
    HF_CAN_PUBLISH = 8 /* programs write into it: hf_publish() */
};

struct hf_channel {
    char name[HF_NAME_SIZE];
    char listen[HF_ADDRESS_SIZE]; /* where it receives; "" when it isn't known */
    uint32_t can;                 /* HF_CAN_... */
    uint32_t reserved;
    /* Numbers: what is recorded lies in [first_seq, end_seq); both 0 when nothing is. Those of an
     * unfinished file without a daemon: end_seq as far as its name and header tell. */
    uint64_t first_seq, end_seq;
};

/* The channels, ordered by name: one block for free(3). Returns 0. */
int hf_list(hf *handle, struct hf_channel **ret, size_t *ret_count);

/* ---- reading ---- */

enum hf_at {
    HF_FIRST,   /* the oldest record that is there */
    HF_LAST,    /* the newest one */
    HF_END,     /* behind the newest one */
    HF_SEQ,     /* seq, or the first one after it */
    HF_TIME,    /* the first record that was received at time_ns or later */
    HF_POSITION /* where the named position is; HF_FIRST when it has never been saved */
};

struct hf_start {
    enum hf_at at;
    uint64_t seq;
    int64_t time_ns;
    /* With HF_POSITION where to begin; with any other start, a name to save by. NULL: none. */
    const char *position;
};

enum {
    HF_OLD = 1,    /* up to what was recorded when hf_read() was called, then HF_FINISHED */
    HF_NEW = 2,    /* what comes after it; starts at HF_END, or at HF_SEQ if it is said so */
    HF_JOINED = 3, /* both without a seam; HF_LIVE comes once, in between */
    HF_NEWEST =
        4, /* the newest datagram each time, out of memory: also where nothing is recorded */
    HF_STRICT = 8, /* nothing after a loss: hf_next() returns -ENODATA once HF_LOST was told */
    HF_COPY = 16   /* kept for programs that ask for it: every datagram is a copy, as always */
};

/* What hf_next() returns. */
enum {
    HF_NONE,     /* nothing more for now: wait for hf_reader_fd() */
    HF_DATAGRAM, /* *ret is one */
    HF_LOST,     /* ret->lost datagrams from ret->seq on are not there, ret->why says why */
    HF_LIVE,     /* HF_JOINED: all that had been recorded was read; what follows is new */
    HF_FINISHED  /* HF_OLD and files: that was all */
};

enum hf_why {
    HF_EXPIRED = 1, /* removed by the channel's limits (keep_for and others) */
    HF_LAPPED,      /* overwritten in memory before this reader came to it */
    HF_UNRECORDED,  /* received, and never recorded: the disk was too slow, or full */
    HF_DAMAGED,     /* recorded, and not readable any more */
    HF_UNCOVERED    /* nobody was receiving for a while: nobody knows how many (lost is 0) */
};

/* Flags of a datagram. */
enum {
    HF_FLAG_QUARANTINED = 1, /* it has killed workers: recorded, and not relayed */
    HF_FLAG_UNCOVERED = 2    /* nobody was receiving for a while before it */
};

struct hf_datagram {
    uint64_t seq;
    int64_t time_ns;
    const void *data; /* length bytes, valid until the next call with this reader */
    uint32_t length;
    uint32_t cut;         /* bytes that max_datagram has cut off behind them */
    uint32_t lost_before; /* the kernel dropped (at least) so many just before it */
    uint32_t flags;
    /* AF_INET or AF_INET6: as many bytes as that has. AF_UNIX: a program of this machine published
     * it; sun_path of this struct sockaddr_un is the text "local:UID/PID/NAME", no file's name */
    struct sockaddr_storage source;
    /* HF_LOST: how many, from seq on; 0 = not known. HF_NEWEST: how many came since the datagram
     * that was returned before, and were passed over. */
    uint64_t lost;
    uint32_t why; /* HF_LOST: enum hf_why */
};

/* A reader of one channel. flags: one of HF_OLD, HF_NEW, HF_JOINED, HF_NEWEST, with HF_STRICT if
 * wanted. channel may be NULL where there is only one. start may be NULL: HF_FIRST, or HF_END for
 * HF_NEW and HF_NEWEST. -ENOENT: no such channel; -EOPNOTSUPP: the channel can't do that
 * (hf_list()); -EBUSY: another reader has this position; -EACCES: it is another user's; -EINVAL. */
int hf_read(hf *handle, const char *channel, const struct hf_start *start, unsigned flags,
            hf_reader **ret);
hf_reader *hf_reader_close(hf_reader *reader); /* NULL is fine. Returns NULL */

/* The next datagram or event. *ret is written for HF_DATAGRAM and HF_LOST. -ENODATA: see HF_STRICT;
 * -EIO and other -errno: a file can't be read; the next call tries again. */
int hf_next(hf_reader *reader, struct hf_datagram *ret);

/* For poll(2) and epoll(7), the same descriptor until the reader is closed. When it is readable,
 * call hf_next() until it returns HF_NONE. Of files: -EOPNOTSUPP, nothing is to be waited for. */
int hf_reader_fd(hf_reader *reader);

/* HF_NEWEST: was all of this datagram's data there until now? 1, or 0: it was being overwritten,
 * forget it. Other readers: 1. */
int hf_check(hf_reader *reader, const struct hf_datagram *datagram);

/* Go on elsewhere, with the flags that it was opened with. HF_OLD ends where it would have. */
int hf_seek(hf_reader *reader, const struct hf_start *start);

/* Where it is. */
struct hf_lag {
    uint64_t next_seq;     /* what hf_next() comes to next */
    uint64_t end_seq;      /* behind the newest record; of files, behind the last one */
    uint64_t opened_seq;   /* what end_seq was at hf_read(): where HF_OLD ends, HF_NEW begins */
    uint64_t durable_seq;  /* everything before it survives a power cut; 0 = not known */
    int64_t newest_ns;     /* receive time of the newest datagram returned; 0 = none yet */
    uint64_t received_seq; /* behind the newest one received; UINT64_MAX = not known */
};
int hf_lag(hf_reader *reader, struct hf_lag *ret);

/* ---- named positions ---- */

/* Everything before this number is done with: the reader's named position is there, on the disk,
 * when it returns. -EINVAL: it was opened without a name. -EAGAIN: the channel's log is being
 * recovered: save again later. */
int hf_save(hf_reader *reader, uint64_t done_before);
/* Remove a position. -ENOENT; -EBUSY: a reader has it; -EACCES: another user's. */
int hf_forget(hf *handle, const char *channel, const char *position);

struct hf_position {
    char channel[HF_NAME_SIZE];
    char name[HF_NAME_SIZE];
    uint64_t seq;     /* everything before it is done with */
    int64_t saved_ns; /* when */
    uint32_t uid;     /* whose */
    uint32_t in_use;  /* a reader has it now */
};
/* Of one channel, or of all for NULL. One block for free(3). */
int hf_position_list(hf *handle, const char *channel, struct hf_position **ret, size_t *ret_count);

/* ---- log files ---- */

struct hf_log {
    char channel[HF_NAME_SIZE];
    char name[HF_FILE_SIZE];
    uint64_t first_seq;
    uint64_t last_seq, records;          /* 0 when has_totals is */
    int64_t first_time_ns, last_time_ns; /* smallest and largest receive time, likewise */
    int64_t created_ns;
    uint64_t size;       /* bytes of the file */
    uint32_t is_open;    /* it is being written, or was not finished */
    uint32_t has_totals; /* its header says what is in it */
    int fd;              /* -1, or of hf_log_open(): read only, the caller's to close */
    uint32_t reserved;
};
/* Ordered by number. One block for free(3); fd is -1. channel NULL: where there is only one. */
int hf_log_list(hf *handle, const char *channel, struct hf_log **ret, size_t *ret_count);
/* One of them, opened: ret->fd is read only, and the caller's to close. name: that of the file, or
 * where to look: "first", "last", "seq:N" the one that has this number, or "@N" the first one
 * with something received then or later (seconds since 1970). -ENOENT: there is none such. */
int hf_log_open(hf *handle, const char *channel, const char *name, struct hf_log *ret);
/* The same without opening it: ret->fd is -1. */
int hf_log_find(hf *handle, const char *channel, const char *name, struct hf_log *ret);

/* One file's part of a range of records: whole finished blocks, so that the records before and
 * behind the range that share a block with its own come along. The file's header lies before
 * header_length. Where the file is damaged, what is damaged comes along, too. */
struct hf_log_piece {
    struct hf_log log; /* its fd is read only, and the caller's to close */
    uint64_t header_length;
    uint64_t offset, length;      /* bytes of the file */
    uint64_t first_seq, last_seq; /* of these blocks */
};
/* The files that have records A to B, B included: name is "seq:A..B". In their order; one block for
 * free(3). What is still in an unfinished block is in none of them. -ENOENT: there is no such
 * record. hf_log_open() takes such a name, too, where one file has them all (else -E2BIG). */
int hf_log_pieces(hf *handle, const char *channel, const char *name, struct hf_log_piece **ret,
                  size_t *ret_count);

/* How its bytes come here. */
enum hf_how {
    HF_BY_FD,     /* by a descriptor of the file, as of hf_log_open() */
    HF_BY_COPY,   /* the daemon reads it, and sends them */
    HF_BY_SPLICE, /* likewise, without copying them in memory where the kernel can do without */
};
/* Write the file's bytes [offset, offset + length) to the descriptor `to`, length 0: up to its end;
 * of one that is being written, what lies in finished blocks. How many were written. -ESTALE: it
 * was removed meanwhile, and the last ones may be missing; what was written is right in any case.
 * Waits as long as `to` does, and for the daemon two seconds at a time. */
int64_t hf_log_copy(hf *handle, const char *channel, const char *name, int to, uint64_t offset,
                    uint64_t length, unsigned how);

/* name "seq:A..B": a log file of exactly the records A to B that there are, B included, in blocks
 * of their own, written anew: offset and length must be 0. One that is being written is read as far
 * as it is committed; HF_BY_FD: what lies in finished blocks. HF_BY_SPLICE copies, too. -ENOENT:
 * there is no such record. -ECONNRESET: the daemon's process ended over it; what was written is no
 * complete file then. What it had of the range, after the last hf_log_copy() of one: -ENODATA when
 * that has failed, or there was none. */
struct hf_log_range {
    uint64_t first_seq, last_seq; /* the first and the last record that there was */
    uint64_t records; /* fewer than last_seq - first_seq + 1: some between are missing */
};
int hf_log_copied(hf *handle, struct hf_log_range *ret);

/* ---- who reads ---- */

struct hf_connection {
    uint32_t uid, pid; /* UINT32_MAX and 0: over TCP */
    char program[16];
    char channel[HF_NAME_SIZE]; /* "" = none yet */
    uint32_t mode;              /* HF_OLD, HF_NEW, HF_JOINED, HF_NEWEST; 0 = none yet */
    uint32_t reserved;
    uint64_t next_seq, end_seq; /* as it told last, and as it is now */
    int64_t since_ns;           /* connected, wall clock */
    uint64_t requests, bytes;   /* made, and handed out to it of log files, since then */
    double requests_per_second, bytes_per_second; /* over the last few seconds */
};
int hf_connection_list(hf *handle, struct hf_connection **ret, size_t *ret_count);

/* ---- publishing ---- */

/* Write into a channel whose `listen` is "local:NAME". Datagrams go through memory that this
 * program and the channel share: while the channel's process is replaced, or the one that serves
 * readers, nothing is to be noticed. When the daemon is, the writer connects again by itself, and
 * what it had committed and nobody has taken goes before anything new. After fork(2), only the
 * parent may use it. -ENOENT: no such channel; -EOPNOTSUPP: it takes UDP, or the handle is of
 * files; -EACCES: not for this user (publishers { group }); -EUSERS, -EBUSY: as many publishers as
 * there may be. */
int hf_publish(hf *handle, const char *channel, hf_writer **ret);
/* A reservation is dropped. What was committed is taken all the same, if the daemon is there: to
 * know, hf_wait_durable() before. NULL is fine. Returns NULL. */
hf_writer *hf_writer_close(hf_writer *writer);

/* For poll(2) and epoll(7), the same descriptor until the writer is closed. Readable: there is room
 * after -EAGAIN, or something is to be done: call hf_reserve(), or, with nothing to publish,
 * hf_wait_durable(writer, 0, 0). */
int hf_writer_fd(hf_writer *writer);

/* Room for a datagram of at most `length` bytes at *ret, to be filled and committed. One at a time;
 * another one takes its place. It may be kept for as long as one likes. -EAGAIN: there is none now;
 * -EMSGSIZE: longer than the channel's max_datagram, see hf_writer_limit(); -ECONNABORTED: what
 * this program wrote into the shared memory was nonsense, and nothing more is taken from it, for
 * ever. Once the channel can't be published to any more, what hf_publish() would say; it is tried
 * again. */
int hf_reserve(hf_writer *writer, uint32_t length, void **ret);
/* The reserved one, with its first `length` bytes. -EINVAL: nothing, or less, is reserved. */
int hf_commit(hf_writer *writer, uint32_t length);
void hf_abort(hf_writer *writer);

/* The longest datagram that the channel takes. */
uint32_t hf_writer_limit(const hf_writer *writer);

/* Bytes of the outbox that are committed, and not the channel's yet; 0: all of it is. */
uint64_t hf_writer_untaken(hf_writer *writer);

/* Until the first `count` datagrams that this writer has committed are on the disk. timeout_ms 0:
 * just look; -1: as long as it takes. -ETIMEDOUT: not yet, and hf_writer_fd() will be readable when
 * they are; -EINTR: by a signal; -EINVAL: so many were not committed; -EOPNOTSUPP: the channel does
 * not record; -ENODATA: the daemon died when it had taken some of them, and before it said so, and
 * nobody can know; or as hf_reserve(). */
int hf_wait_durable(hf_writer *writer, uint64_t count, int timeout_ms);

/* ---- replaying in the log's own time ---- */

/* When is what to be sent? An anchor joins a moment of the log with one of CLOCK_MONOTONIC; at each
 * change of the rate, pause, seek or loop a new one is set, so that no error adds up. */
struct hf_pace {
    int64_t log_ns, mono_ns;
    double rate; /* 2 = twice as fast; 0 = paused */
};
void hf_pace_start(struct hf_pace *pace, int64_t log_ns, int64_t mono_ns, double rate);
/* From now (mono_ns) on at another rate. */
void hf_pace_change(struct hf_pace *pace, int64_t mono_ns, double rate);
/* CLOCK_MONOTONIC at which this moment of the log is due; INT64_MAX while paused. */
int64_t hf_pace_due(const struct hf_pace *pace, int64_t log_ns);

/* ---- texts ---- */

/* "10.0.0.7:50123", "[fe80::1%eth0]:50123", "local:1000/4711/engine" of a datagram's source; "?"
 * for what is no address. */
void hf_format_source(const struct sockaddr_storage *source, char ret_text[HF_ADDRESS_SIZE]);
/* "expired", "lapped", "unrecorded", "damaged", "uncovered". */
const char *hf_why_text(uint32_t why);
/* The library's version, "0.2.0". */
const char *hf_version(void);

#ifdef __cplusplus
}
#endif

#endif
