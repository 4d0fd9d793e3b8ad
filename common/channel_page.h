/* SPDX-License-Identifier: MIT */
/* clang-format off */
/* What a channel's generations and the supervisor share: two memfds (channel_memory.h), mapped one behind the other.
 *
 *   private memory     whatever only they may see: the batch that recvmmsg is working on (inflight_batch.h), the positions
 *                      of relay and decimator, destinations, beats, last words, trouble. The claim (claim.h) lies on it.
 *   public memory      what a reader may be lent one day, read only: identity, what is published and reserved, the commit
 *     0                  struct channel_public
 *     descriptor_offset  one 64-byte descriptor per datagram, at seq % descriptor_count
 *     data_offset        data_capacity bytes of payload, then tail bytes used by the mirror mapping only (ring_map.h)
 *
 * Both have room to spare, which is zero: what is added there later reads as "none" in memory that is older.
 *
 * Write order of one datagram's way, and what a worker that dies between two steps leaves
 * (holdfast-internals.7):
 *   receiver   reserve -> arm batch -> recvmmsg -> fill descriptors -> published -> send -> relay slot flip
 *   recorder   encode into the segment -> commit slot flip  (published .. commit.next_seq = pending)
 *   decimator  decide and send -> decimate slot flip
 * A flip is one atomic word: slots come in pairs, the writer fills the idle one and then stores
 * version + 1. `published` counts datagrams; it is the only word by which a datagram comes to exist.
 *
 * The supervisor reads this page while the worker writes it and believes nothing: every reader here
 * checks what it returns. All fields that change are atomics, so that no two processes race in the
 * sense of the language. */
/* clang-format on */
#ifndef HOLDFAST_COMMON_CHANNEL_PAGE_H
#define HOLDFAST_COMMON_CHANNEL_PAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/channel_spec.h"
#include "common/inflight_batch.h"

#define CHANNEL_PAGE_MAGIC   0x686f6c6466617374ull /* "holdfast" */
#define CHANNEL_PAGE_VERSION 2u

/* Multiples of every page size that Linux has. */
#define CHANNEL_PRIVATE_SIZE 65536u
#define CHANNEL_PUBLIC_SIZE  65536u

/* Where everything in the public memory is: a pure function of the channel's settings, so that a
 * worker, its successor and a supervisor that was restarted come to the same answer without asking
 * the memory itself. */
struct channel_geometry {
    uint64_t total_size;
    uint64_t descriptor_offset;
    uint64_t descriptor_count;
    uint64_t data_offset;
    uint64_t data_capacity;
    uint64_t tail;              /* the longest span: one slot */
    uint32_t max_datagram;      /* bytes kept of one datagram */
    uint32_t slot_size;         /* bytes reserved per message of a batch */
    uint32_t slot_count;        /* messages per batch, at most BATCH_SLOTS_MAX */
    uint32_t segments_per_slot; /* 1, or BATCH_SEGMENTS_MAX with receive_offload */
};

/* The settings that it comes from. */
struct channel_shape {
    uint64_t ring_size;
    uint32_t max_datagram;
    uint32_t receive_offload;
    uint32_t ring_pages; /* huge: every part begins at a multiple of them, whatever it is made of */
};

struct channel_shape channel_shape_of(const struct channel_spec *spec);
void channel_shape_geometry(const struct channel_shape *shape, struct channel_geometry *ret);
void channel_geometry_compute(const struct channel_spec *spec, struct channel_geometry *ret);

enum channel_thread {
    CHANNEL_THREAD_CONTROL,
    CHANNEL_THREAD_RECEIVER,
    CHANNEL_THREAD_RECORDER,
    CHANNEL_THREAD_DECIMATOR,
    CHANNEL_THREAD_SYNCER,
    CHANNEL_THREAD_COUNT
};

extern const char *const channel_thread_names[CHANNEL_THREAD_COUNT];

enum thread_state {
    THREAD_ABSENT = 0,
    THREAD_BUSY = 1,   /* must beat by itself */
    THREAD_PARKED = 2, /* waits in the kernel with nothing to do; the control thread beats for it */
    THREAD_DISK = 3,   /* inside a call that may wait for a disk: slow is not hung */
};

struct thread_beat {
    _Alignas(CACHE_LINE) _Atomic uint64_t beat_ns; /* CLOCK_MONOTONIC of the last sign of life */
    _Atomic uint32_t thread_id;                    /* gettid(2) */
    _Atomic uint32_t state;                        /* enum thread_state */
    _Atomic uint64_t work_first; /* sequence numbers in work: [first, end); equal = none */
    _Atomic uint64_t work_end;
};

/* The consumers that may be killed by what a datagram contains. */
enum consumer { CONSUMER_RELAY, CONSUMER_RECORD, CONSUMER_DECIMATE, CONSUMER_COUNT };

/* Deaths of a consumer without progress at one place (poison datagrams). Written by successors at
 * takeover. */
struct consumer_trouble {
    _Atomic uint64_t seq;
    _Atomic uint32_t deaths;
    _Atomic uint32_t cautious; /* one datagram at a time, until the one at seq_end - 1 is done */
    _Atomic uint64_t seq_end;
};

/* One of a pair; see flip_current(). check covers the other words: a slot that was scribbled over
 * is noticed. */
struct relay_slot {
    _Atomic uint64_t next_seq; /* every datagram before it has been offered to every destination */
    _Atomic uint64_t truncated;
    _Atomic uint64_t kernel_dropped; /* sum of lost_before up to next_seq */
    _Atomic uint64_t check;
};

struct commit_slot {
    _Atomic uint64_t segment_id;    /* inode number of the segment's file; 0 = none yet */
    _Atomic uint64_t block_start;   /* offset of the open block's header in the segment */
    _Atomic uint64_t write_offset;  /* where the next record goes */
    _Atomic uint64_t block_records; /* records in the open block */
    _Atomic uint64_t next_seq;      /* every datagram before it is recorded or counted as lost */
    _Atomic uint64_t recorded;
    _Atomic uint64_t record_lost;
    _Atomic uint64_t segment_first_seq;
    _Atomic uint64_t segment_created_ns; /* wall clock */
    _Atomic uint64_t finished_id;        /* the segment before this one: */
    _Atomic uint64_t finished_length;    /* sealed by the archive at this length */
    _Atomic uint64_t check;
};

struct decimate_slot {
    _Atomic uint64_t next_seq;
    _Atomic uint64_t lost; /* lapped before a decision could be made */
    _Atomic uint64_t check;
};

struct destination_slot {
    _Atomic uint64_t sent;
    _Atomic uint64_t dropped;
    _Atomic uint64_t repeated;
    _Atomic uint64_t check;
};

enum destination_use {
    DESTINATION_UNUSED = 0,
    DESTINATION_IS_RELAY = 1,    /* its slots follow relay_version */
    DESTINATION_IS_DECIMATE = 2, /* ... decimate_version */
};

/* A destination has its place by its name, for as long as the ring lives: a list that was changed
 * is no changed ring, and nobody inherits another one's counters. Those that are gone keep theirs,
 * and their slots are flipped along, so that the ledger keeps what they were sent. Where a place is
 * needed and none is left, one of them gives its own up, and what it has counted becomes part of a
 * sum (channel_page_places.h). Places are made at takeover, while no other thread runs: name and
 * slots first, `use` last. */
struct destination_place {
    _Alignas(CACHE_LINE) char name[CHANNEL_NAME_SIZE];
    _Atomic uint16_t use; /* enum destination_use */
    /* errno of what was refused last; 0 since something was taken, or connect(2) found a way */
    _Atomic uint16_t send_error;
    /* enum segmentation << 16 | errno of what was refused. For status only. */
    _Atomic uint32_t segmentation;
    struct destination_slot slots[2];
};

/* Of a destination, beside its place: from where on it is sent. */
struct destination_rate {
    /* The number after the last datagram that came before it was there, or, of one that goes by
     * rate, that it was sent; 0 = not known. */
    _Atomic uint64_t sent;
    /* The same of one that may have been sent although `sent` is lower. Where they differ without
     * a rate, or are higher than what is published, nothing is known. */
    _Atomic uint64_t attempted;
    /* By rate, CLOCK_MONOTONIC: the next one is sent no sooner. 0: it goes by count, or is new.
     * DESTINATION_AWAY: the worker that last attached did not have it. */
    _Atomic uint64_t due_ns;
};

#define DESTINATION_AWAY UINT64_MAX

/* Does a relay send runs of equal length with one call (UDP_SEGMENT, udp(7))? */
enum segmentation {
    SEGMENTATION_UNTRIED = 0,
    SEGMENTATION_USED = 1,
    SEGMENTATION_REFUSED = 2, /* this destination's path can't: one datagram per message */
};

#define LAST_WORDS_FRAMES 32
#define LAST_WORDS_TEXT   256
#define LAST_WORDS_NAME   48

/* What a dying worker says about itself (last_words.c). Plain bytes: written once by one dying
 * thread, read by the supervisor after it has been waited for. `state` says how far the writing
 * came. */
struct last_words {
    _Atomic uint32_t state; /* 0 = none, 1 = being written, 2 = complete */
    int32_t signal;
    int32_t code;    /* si_code */
    uint32_t thread; /* enum channel_thread */
    uint64_t address;
    uint64_t time_ns; /* wall clock */
    uint64_t generation;
    uint32_t frame_count;
    uint32_t sender; /* code <= 0: who sent the signal, by the dying one's pid namespace */
    uint64_t frames[LAST_WORDS_FRAMES]; /* addresses relative to the binary */
    char frame_names[LAST_WORDS_FRAMES][LAST_WORDS_NAME];
    char text[LAST_WORDS_TEXT]; /* an assertion's text */
};

/* Why a ring takes no more datagrams. For readers. */
enum ring_retired {
    RING_NOT_RETIRED = 0,
    RING_REPLACED =
        1, /* given up, or its channel was stopped: another one begins at or after the end */
};

/* What readers may be lent. Written by the supervisor and the channel's workers alone. */
struct channel_public {
    /* Identity: written by the supervisor before the first worker, never again. */
    uint64_t magic;
    uint32_t version;
    uint32_t struct_size; /* sizeof this struct */
    uint64_t pair;        /* a random number that its private memory has too */
    struct channel_geometry geometry;
    char channel[CHANNEL_NAME_SIZE];
    uint64_t start_seq;      /* the first number this ring gives */
    uint64_t start_position; /* 0, but for tests */
    uint64_t start_check;    /* over these two; 0 = none: of an earlier version */

    _Alignas(CACHE_LINE) _Atomic uint64_t published; /* datagrams < published exist */
    /* What the receiver may be overwriting: a reader's copy at (seq, position) is whole only if,
     * after copying, position + capacity >= reserved_position and seq + descriptor_count >=
     * reserved_seq. */
    _Alignas(CACHE_LINE) _Atomic uint64_t reserved_position;
    _Atomic uint64_t reserved_seq;

    _Alignas(CACHE_LINE) _Atomic uint64_t commit_version;
    struct commit_slot commit[2];

    /* fdatasync has returned for the segment up to here. The id is 0 while the offset changes: who
     * reads them looks at the id twice. */
    _Alignas(CACHE_LINE) _Atomic uint64_t durable_segment_id;
    _Atomic uint64_t durable_offset;

    /* Set last of all, when no worker has the ring any more: no datagram from retired_end on is or
     * will be in it, and what is in it may go at any time: who has copied something looks whether
     * it is set. */
    _Alignas(CACHE_LINE) _Atomic uint64_t retired_end;
    _Atomic uint32_t retired; /* enum ring_retired */
};

/* Of a ring that takes in an older one, whose socket is the same: that one's drops_from_seq and
 * base. */
#define CHANNEL_DROPS_AS_BEFORE UINT64_MAX

/* Made to take in the ring of an older layout (channel_page_v1.h): is everything of it here? */
enum ring_converted {
    RING_NOT_OLDER = 0,
    RING_CONVERTED = 1,
    RING_TO_BE_CONVERTED =
        2, /* not without that ring: its numbers are given, its records written */
};

/* What a segment's header says, so that who restores a ring need not ask a disk. */
struct segment_identity {
    _Atomic uint64_t id; /* inode number; 0 = none */
    _Atomic uint64_t sync[2];
    _Atomic uint64_t log[2];
};

#define CHANNEL_REFUSED_MAX 5

struct channel_private {
    /* Identity, as in the public memory. */
    uint64_t magic;
    uint32_t version;
    uint32_t struct_size;
    uint64_t pair;

    /* How the last worker mapped the data: 0 = none has, 1 = double, 2 = mirror. */
    _Atomic uint32_t mapping;
    /* The socket's drop counter just before datagram drops_from_seq: when the ring was made, or
     * when a new socket came to an old ring; what the kernel had given to the worker before is the
     * former socket's, published or not. */
    _Atomic uint32_t drops_base;
    _Atomic uint64_t drops_from_seq;
    /* Nobody was receiving before this datagram: the number plus 1; 0 = no such gap in this ring.
     */
    _Atomic uint64_t gap_before;
    /* What the socket's options were made from (hold_sockets.c); 0 = not known. */
    _Atomic uint64_t socket_settings;
    _Atomic uint32_t converted; /* enum ring_converted */
    /* Not 0: a worker could not have the double mapping that was wanted. The ring stays a mirror
     * then, so it counts as one. */
    _Atomic uint32_t mapping_fell_back;

    _Alignas(CACHE_LINE) _Atomic uint64_t relay_version;
    struct relay_slot relay[2];
    /* Datagrams before it may have been sent although relay.next_seq is lower. */
    _Atomic uint64_t relay_attempted;
    _Alignas(CACHE_LINE) _Atomic uint64_t decimate_version;
    struct decimate_slot decimate[2];
    _Atomic uint64_t decimate_attempted;
    /* Did the worker that last attached have decimated destinations? If not, `decimate` stood
     * still. */
    _Atomic uint32_t decimates;
    /* ... and did it record? If not, `commit` stood still. */
    _Atomic uint32_t records;
    /* CLOCK_MONOTONIC: what was committed then is durable, of any segment; 0 = not known. */
    _Atomic uint64_t synced_ns;
    /* Not 0: the ring was made without its log, whose archive had not said yet where it goes on. So
     * these may be numbers that the log has already. */
    _Atomic uint32_t unplaced;

    /* Of the segment that the commit slot names and of the one before, in any order: noted before
     * the commit slot names a new one. */
    _Alignas(CACHE_LINE) struct segment_identity segments[2];
    /* channel_page_refused.h: inode numbers, 0 = none; were there more than these? */
    _Atomic uint64_t refused[CHANNEL_REFUSED_MAX], refused_more;

    _Alignas(CACHE_LINE) _Atomic uint64_t quarantined;
    struct thread_beat beats[CHANNEL_THREAD_COUNT];
    _Alignas(CACHE_LINE) struct consumer_trouble trouble[CONSUMER_COUNT];
    _Atomic uint64_t generation; /* of the worker that last attached */
    /* Builds with test hooks only: the step at which to stop (steps.def). */
    _Atomic uint32_t test_step;
    _Atomic uint32_t test_stopped;
    struct last_words last_words;
    struct inflight_batch batch;
    struct destination_place places[CHANNEL_DESTINATIONS_MAX];
    struct destination_rate rates[CHANNEL_DESTINATIONS_MAX]; /* as places */
};

/* The places: those of destinations, then for each use one without a name, the sum of what those
 * have counted that gave theirs up. */
#define CHANNEL_PLACES_MAX (CHANNEL_DESTINATIONS_MAX + 2)

static inline uint32_t channel_page_sum_place(enum destination_use use)
{
    return CHANNEL_DESTINATIONS_MAX + (uint32_t)use - 1;
}

/* How far each publisher's outbox is taken (outbox.h). `words`: outbox_progress, as many of its
 * entries as are used, and the check. */
struct outbox_slot {
    _Atomic uint64_t words[2 + 3 * CHANNEL_PUBLISHERS_MAX + 1];
};

/* Both, as they are mapped. */
struct channel_page {
    union {
        struct {
            struct channel_private private;
            struct destination_place sums[CHANNEL_PLACES_MAX - CHANNEL_DESTINATIONS_MAX];
            _Alignas(CACHE_LINE) _Atomic uint64_t outbox_version; /* 0: nothing ever was */
            struct outbox_slot outboxes[2];                       /* channel_page_outboxes.h */
        };
        uint8_t private_bytes[CHANNEL_PRIVATE_SIZE];
    };
    union {
        struct channel_public public;
        uint8_t public_bytes[CHANNEL_PUBLIC_SIZE];
    };
};

/* One datagram. Eight atomic words: a lapped reader may look while the receiver overwrites, and
 * then discards. */
struct ring_descriptor {
    _Atomic uint64_t position;    /* of the payload in the ring */
    _Atomic uint64_t time_ns;     /* kernel receive time, wall clock */
    _Atomic uint64_t bytes_total; /* payload bytes of this ring up to and with this datagram */
    _Atomic uint64_t length_cut;  /* length << 32 | bytes cut off */
    _Atomic uint64_t drops;       /* kernel's drop counter << 32 | lost_before */
    /* IPv6, or IPv4 in the first four bytes. Of a publisher: uid << 32 | pid, then the first 8
     * bytes of its name */
    _Atomic uint64_t address[2];
    /* scope id << 32 | port (host order) << 16 | flags << 8 | family (4, 6, or RING_FAMILY_LOCAL).
     * Of a publisher: the next 6 bytes of its name in place of scope and port, the first of them
     * lowest; so it keeps 14 */
    _Atomic uint64_t origin;
};

/* The family of a datagram that a program of this machine published. */
#define RING_FAMILY_LOCAL 1u

static inline bool ring_family_is_known(uint64_t family)
{
    return family == 4 || family == 6 || family == RING_FAMILY_LOCAL;
}

/* As the records' flags, AVRO_LOG_QUARANTINED and AVRO_LOG_NOT_COVERED. */
#define DATAGRAM_QUARANTINED 1u
#define DATAGRAM_NOT_COVERED 2u

/* What a fresh ring begins with. */
struct channel_page_start {
    const char *channel;
    uint64_t pair; /* random */
    uint64_t seq;
    uint64_t position; /* 0, but for tests */
    bool huge_pages;   /* the public memory is to be made of them */
};

/* Set up a fresh page in mapped, zeroed memory. */
void channel_page_init(struct channel_page *page, const struct channel_geometry *geometry,
                       const struct channel_page_start *start);

/* Where its numbers and positions begin. For who makes the ring, or the worker that takes in an
 * older one. */
void channel_page_set_start(struct channel_page *page, uint64_t seq, uint64_t position);
/* false when either word was damaged since. */
bool channel_page_start_is_sound(const struct channel_page *page);

/* Payload bytes of all datagrams before `published`, as the last descriptor tells and the two
 * before it confirm; where these agree with each other and not with it, as they tell. 0 when that
 * is impossible. `published` must be possible. */
uint64_t channel_page_bytes(const struct channel_page *page,
                            const struct channel_geometry *geometry, uint64_t published);

/* Bytes of this segment that the syncer has said to be on the disk; 0 where it has said nothing. As
 * it lies there: untrusted. */
uint64_t channel_page_durable(const struct channel_page *page, uint64_t segment_id);
/* For whoever syncs: the worker's syncer, or the supervisor while no worker has the ring. */
void channel_page_write_durable(struct channel_page *page, uint64_t segment_id, uint64_t offset);

/* No datagram from `end` on is or will be in this ring. For the supervisor, when no worker has it.
 */
void channel_page_retire(struct channel_page *page, enum ring_retired why, uint64_t end);

/* Datagrams from from_seq on come from a socket whose drop counter (SO_RXQ_OVFL) stands at `drops`
 * now: behind all that the worker before was given. For the supervisor, while no worker runs. */
void channel_page_set_drops(struct channel_page *page, uint64_t from_seq, uint32_t drops);

/* Plain copies of the current slots. false when no sound one could be read (scribbled, or flipping
 * all the time). */
struct relay_progress {
    uint64_t next_seq, truncated, kernel_dropped;
};
struct commit_progress {
    uint64_t segment_id, block_start, write_offset, block_records, next_seq, recorded, record_lost;
    uint64_t segment_first_seq, segment_created_ns, finished_id, finished_length;
};
struct decimate_progress {
    uint64_t next_seq, lost;
};
struct destination_progress {
    uint64_t sent, dropped, repeated;
};
bool channel_page_read_relay(const struct channel_page *page, struct relay_progress *ret);
bool channel_page_read_commit(const struct channel_page *page, struct commit_progress *ret);
bool channel_page_read_decimate(const struct channel_page *page, struct decimate_progress *ret);
bool channel_page_read_destination(const struct channel_page *page, uint32_t place,
                                   struct destination_progress *ret);

/* Does this version word vouch for the current one of these two? */
bool channel_page_slots_are_of(const struct destination_slot slots[2], uint64_t version);

/* Of the settings' destination of this index: relays come first. */
static inline enum destination_use channel_page_use_of(const struct channel_spec *spec,
                                                       uint32_t index)
{
    return index < spec->relay_count ? DESTINATION_IS_RELAY : DESTINATION_IS_DECIMATE;
}

/* Also of a sum. As constant as its page. */
static inline struct destination_place *channel_page_place(const struct channel_page *page,
                                                           uint32_t place)
{
    const struct destination_place *it = place < CHANNEL_DESTINATIONS_MAX
                                             ? &page->private.places[place]
                                             : &page->sums[place - CHANNEL_DESTINATIONS_MAX];
    return (struct destination_place *)(uintptr_t)it;
}

/* Does this place belong to the destination of this kind and name? */
bool channel_page_is_destination(const struct channel_page *page, int place,
                                 enum destination_use use, const char *name);
/* The place of the destination of this kind and name; -1 when it has none. */
int channel_page_find_destination(const struct channel_page *page, enum destination_use use,
                                  const char *name);
/* Where it is, or a new place with nothing counted. Nothing before from_seq is to be sent to it if
 * the place is new, or if it was away. For a worker, while no other thread runs. -1 when all places
 * are taken. */
int channel_page_place_destination(struct channel_page *page, enum destination_use use,
                                   const char *name, uint64_t from_seq);

/* The counters that flip with a position: those of every place of that use, in any order, and of
 * its sum. */
struct destination_tally {
    const uint32_t *places;
    const struct destination_progress *counts;
    uint32_t count;
};

/* Fill the idle slot and flip. One writer each. */
void channel_page_write_relay(struct channel_page *page, const struct relay_progress *progress,
                              const struct destination_tally *tally);
void channel_page_write_commit(struct channel_page *page, const struct commit_progress *progress);
void channel_page_write_decimate(struct channel_page *page,
                                 const struct decimate_progress *progress,
                                 const struct destination_tally *tally);

/* From the recorder, before it commits to a segment. sync and log: 16 bytes each. */
void channel_page_note_segment(struct channel_page *page, uint64_t id, const uint8_t sync[16],
                               const uint8_t log[16]);
/* false when nothing was noted of it. */
bool channel_page_find_segment(const struct channel_page *page, uint64_t id, uint8_t ret_sync[16],
                               uint8_t ret_log[16]);

/* More was recorded or lost than there was? Datagrams that came while the channel did not record
 * are neither. */
bool channel_page_is_uneven(const struct channel_page *page, const struct commit_progress *commit);

static inline struct ring_descriptor *
channel_page_descriptors(struct channel_page *page, const struct channel_geometry *geometry)
{
    return (struct ring_descriptor *)(page->public_bytes + geometry->descriptor_offset);
}

static inline const struct ring_descriptor *
channel_page_descriptor(const struct channel_page *page, const struct channel_geometry *geometry,
                        uint64_t seq)
{
    return (const struct ring_descriptor *)(page->public_bytes + geometry->descriptor_offset) +
           seq % geometry->descriptor_count;
}

#endif
