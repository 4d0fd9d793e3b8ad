/* SPDX-License-Identifier: MIT */
/* One channel's settings as plain data, as the configuration states them and as ASSIGN carries them
 * to a worker. No pointers: it crosses a process boundary. Every limit that both sides rely on is
 * here. */
#ifndef HOLDFAST_COMMON_CHANNEL_SPEC_H
#define HOLDFAST_COMMON_CHANNEL_SPEC_H

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/local_address.h"

/* With the closing zero; names are [A-Za-z0-9_-]+ and start with a letter or digit */
#define CHANNEL_NAME_SIZE    48
#define CHANNEL_DATAGRAM_MAX 65507 /* the largest UDP payload over IPv4 */
/* Relays and decimates together: SCM_RIGHTS takes 253 fds per message (unix(7)) */
#define CHANNEL_DESTINATIONS_MAX 240
#define CHANNEL_CPUS_MAX         1024
/* The kernel doubles it and counts in an int */
#define CHANNEL_RECEIVE_BUFFER_MAX (1023ull << 20)
#define CHANNEL_RING_SIZE_MIN      (64ull << 10)
#define CHANNEL_RING_SIZE_MAX      (64ull << 30)
#define CHANNEL_BUSY_POLL_MAX_US   10000
#define CHANNEL_BATCH_DELAY_MAX_US 10000
/* Holds the header and several records of any size */
#define CHANNEL_SEGMENT_SIZE_MIN (1ull << 20)
#define CHANNEL_SEGMENT_SIZE_MAX (1ull << 40)
#define CHANNEL_SYNC_EVERY_MAX   1000000000u
#define CHANNEL_GATHER_NS        5000000ull /* where nothing is said about it */
#define CHANNEL_GATHER_MAX_NS    100000000ull
#define CHANNEL_DECIMATE_MAX     1000000000ull /* keep_every, and max_rate per second */
#define CHANNEL_PUBLISHERS_MAX   64
/* What a publisher costs of the descriptors that the daemon may have */
#define CHANNEL_PUBLISHER_FDS   4
#define CHANNEL_OUTBOX_SIZE_MIN (64ull << 10)
#define CHANNEL_OUTBOX_SIZE_MAX (1ull << 30)
/* What a datagram takes in an outbox besides its bytes, at most: header and padding */
#define CHANNEL_OUTBOX_OVERHEAD 64u

/* An IPv4 or IPv6 socket address, or AF_UNIX: a program of this machine; family 0 means "none". */
union socket_address {
    sa_family_t family;
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct local_address local;
};
_Static_assert(sizeof(union socket_address) == sizeof(struct sockaddr_in6),
               "a local address takes no more room than what was there");

/* "10.0.0.7:50123", "[fe80::1%eth0]:50123", "local:1000/4711/engine"; fits with its closing zero.
 */
#define SOCKET_ADDRESS_TEXT_SIZE 80

/* Length for bind(2) and connect(2): by family. 0 for AF_UNIX, which no socket here has, and for
 * family 0. */
socklen_t socket_address_length(const union socket_address *address);
/* Returns the text's length. A scope is printed by interface name where the kernel knows it, else
 * by number. */
size_t socket_address_print(const union socket_address *address, char *buffer, size_t size);
/* The same of a configured one, which has its scope as the name beside it. */
size_t socket_address_print_at(const union socket_address *address, const char *interface,
                               char *buffer, size_t size);
/* The same without port and brackets; of a local one it is all. */
size_t socket_address_print_host(const union socket_address *address, char *buffer, size_t size);
/* "127.0.0.1:26000", "[::1]:26000", "[fe80::1%lo]:26000". 0 or -EINVAL; a %scope must be an
 * existing interface (-ENODEV). Port 0 is refused. Host names are not looked up: a resolver could
 * block the supervisor. */
int socket_address_parse(const char *text, union socket_address *ret_address);
/* "local:1000/4711/engine", exactly as it is printed: 0 or -EINVAL. The others refuse it: they are
 * for addresses that one can listen on or send to. */
int socket_address_parse_local(const char *text, union socket_address *ret_address);
/* A publisher's, with the name that it gave: see local_address_make(). */
void socket_address_local(uint32_t uid, uint32_t pid, const char *name,
                          union socket_address *ret_address);
/* As socket_address_parse(), but a %scope stays the name that it is, whether there is such an
 * interface or not; "" when there is none. */
int socket_address_parse_scoped(const char *text, union socket_address *ret_address,
                                char ret_scope[IF_NAMESIZE]);
/* The same without a port: "10.0.0.7", "fe80::1%lo". */
int socket_address_parse_host(const char *text, union socket_address *ret_address,
                              char ret_scope[IF_NAMESIZE]);
/* Does it mean something only together with an interface? */
bool socket_address_is_link_local(const union socket_address *address);
bool socket_address_is_multicast(const union socket_address *address);
bool socket_address_equal(const union socket_address *a, const union socket_address *b);

/* A channel's or destination's name, see CHANNEL_NAME_SIZE. Looks at no more bytes than that. */
bool channel_name_is_valid(const char *name);
/* Could the kernel have an interface of that name? Looks at no more than IF_NAMESIZE bytes. */
bool interface_name_is_valid(const char *name);

enum ring_pages_wanted {
    RING_PAGES_NORMAL = 0,
    RING_PAGES_HUGE = 1, /* where they can be had */
};

enum ring_mapping_wanted {
    RING_MAPPING_AUTO = 0, /* double; mirror when double can't be had */
    RING_MAPPING_DOUBLE = 1,
    RING_MAPPING_MIRROR = 2,
};

enum record_on_full {
    /* Relay first: a recorder that is too slow loses the oldest, counted as record_lost. */
    RECORD_ON_FULL_LAP = 0,
    /* Record first: a full ring holds the receiver; the kernel's buffer absorbs and counts. */
    RECORD_ON_FULL_WAIT = 1,
};

enum destination_kind {
    DESTINATION_RELAY = 0,
    DESTINATION_DECIMATE = 1,
};

struct destination_spec {
    char name[CHANNEL_NAME_SIZE];
    uint32_t kind;               /* enum destination_kind */
    uint32_t ttl;                /* multicast TTL or hop limit, 0..255; default 1 */
    uint32_t loop;               /* deliver multicast to this machine too: 0 or 1; default 1 */
    char interface[IF_NAMESIZE]; /* outgoing interface for multicast; "" = by routing table */
    union socket_address to;
    uint64_t keep_every; /* decimate: keep seq % keep_every == keep_every - 1; 0 = not by count */
    uint64_t max_rate;   /* decimate: at most this many per second, newest first; 0 = not by rate */
};

struct record_spec {
    uint32_t enabled;
    uint32_t on_full;         /* enum record_on_full */
    uint64_t segment_size;    /* bytes */
    uint64_t segment_time_ns; /* 0 = by size only */
    uint64_t sync_ns;         /* 0 = never by itself */
    uint64_t gather_ns;       /* while datagrams flow, they are collected this long; 0 = not */
    uint64_t keep_for_ns;     /* 0 = for ever */
    uint64_t keep_at_most;    /* bytes of sealed segments; 0 = no limit */
    uint32_t keep_free_ppm;   /* keep this part of the file system free; 0 = no limit */
    uint32_t sync_every;      /* records; 0 = not by count */
};

/* Who may write into a local channel, and with what. All zero for a channel that has a socket. */
struct publishers_spec {
    uint32_t most;        /* at a time: 1..CHANNEL_PUBLISHERS_MAX */
    uint32_t group;       /* gid; UINT32_MAX = whoever may open the read socket */
    uint64_t outbox_size; /* bytes of payload area of each; rounded up to whole pages */
};

struct channel_spec {
    char name[CHANNEL_NAME_SIZE];
    union socket_address listen;
    char interface[IF_NAMESIZE]; /* for multicast joins; "" = the kernel chooses */
    union socket_address source; /* source-specific join; family 0 = any source */
    uint64_t receive_buffer;     /* bytes wanted of SO_RCVBUF */
    uint64_t ring_size;          /* bytes of payload; rounded up to whole pages */
    uint64_t busy_poll_us;       /* SO_BUSY_POLL; 0 = off */
    uint64_t batch_delay_us;     /* let datagrams gather in the kernel; 0 = off */
    uint64_t expect_ns;          /* longer silence is told; 0 = nothing is expected */
    uint32_t max_datagram;       /* 1..CHANNEL_DATAGRAM_MAX; longer datagrams are cut */
    uint32_t mapping;            /* enum ring_mapping_wanted */
    uint32_t receive_offload;    /* UDP_GRO: 0 or 1 */
    uint32_t realtime_priority;  /* SCHED_FIFO 1..99 for the receiver thread; 0 = off */
    uint32_t ring_pages;         /* enum ring_pages_wanted */
    uint32_t reserved;
    uint64_t cpus[CHANNEL_CPUS_MAX / 64]; /* allowed CPUs as a bit set; all zero = any */
    struct record_spec record;
    /* NAME of listen = "local:NAME", a channel that programs of this machine write into and that
     * has no socket: of `listen`, only the family is set, AF_UNIX. "" for all others */
    char local[CHANNEL_NAME_SIZE];
    struct publishers_spec publishers;
    uint32_t relay_count;
    uint32_t decimate_count;
    /* relays first, then decimates; relay_count + decimate_count of them follow */
    struct destination_spec destinations[];
};

static inline uint32_t channel_spec_destination_count(const struct channel_spec *spec)
{
    return spec->relay_count + spec->decimate_count;
}

/* Bytes of a spec with that many destinations. */
static inline size_t channel_spec_size(uint32_t destination_count)
{
    return sizeof(struct channel_spec) + destination_count * sizeof(struct destination_spec);
}

static inline bool channel_spec_is_local(const struct channel_spec *spec)
{
    return spec->listen.family == AF_UNIX;
}

/* The least outbox that takes datagrams of that size: one can be written while another is read. */
static inline uint64_t channel_spec_outbox_least(uint32_t max_datagram)
{
    uint64_t least = 2ull * (max_datagram + CHANNEL_OUTBOX_OVERHEAD);
    return least > CHANNEL_OUTBOX_SIZE_MIN ? least : CHANNEL_OUTBOX_SIZE_MIN;
}

/* What it listens on: "10.0.0.7:26000", "[fe80::1%eth0]:26000", "local:NAME". Returns the text's
 * length; SOCKET_ADDRESS_TEXT_SIZE holds any. */
size_t channel_spec_print_listen(const struct channel_spec *spec, char *buffer, size_t size);

/* Is every field within its limits, given that size bytes arrived? A worker asks before it believes
 * an ASSIGN. 0, or -EBADMSG with *ret_what naming the field. */
int channel_spec_check(const struct channel_spec *spec, size_t size, const char **ret_what);

#endif
