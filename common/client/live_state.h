/* SPDX-License-Identifier: MIT */
/* A reader of a channel through the gate, from inside. What it knows is one number, next_seq:
 * everything else here can be found out again from that and the gate. */
#ifndef HOLDFAST_COMMON_CLIENT_LIVE_STATE_H
#define HOLDFAST_COMMON_CLIENT_LIVE_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/avro_log_format.h"
#include "common/channel_public.h"
#include "common/client/client.h"
#include "common/client/reader_link.h"
#include "common/client/record.h"
#include "common/client/segment_walk.h"
#include "common/monotonic.h"

/* The channel's public memory, as it was lent last. */
struct live_ring {
    struct channel_public_map map; /* page NULL: there is none now */
    uint64_t number;               /* ATTACHED's */
    uint64_t pair;                 /* of the page: which ring it is, whatever the gate says */
    struct commit_progress commit; /* as it was when it was looked at last */
    bool has_commit;
    /* Of the ring before, as it was left: where the segments end that it names. */
    struct commit_progress former;
    bool has_former;
    bool former_is_final; /* it was retired: nobody writes by it any more */
    /* Behind the numbers that this kind of reader had from it, or could have had. */
    uint64_t former_end;
    /* A file that begins at begun_end or later is not of a ring that was seen: behind the beginning
     * of the last one's last segment. */
    uint64_t begun_end;
    bool has_begun;
    bool asked_again;    /* it is retired, and the gate had no other one yet */
    bool attached;       /* the gate has answered at least once */
    bool changed;        /* it has answered, and nobody has looked yet */
    int error;           /* it has refused: -errno */
    monotonic attach_at; /* ask again then; 0 = no need to */
};

/* The segment that is being read. */
struct live_segment {
    struct segment_walk *walk; /* NULL: none */
    uint64_t id;
    bool unfinished;         /* as the walk was opened */
    struct read_found found; /* what the gate said of it last */
    struct segment_limit limit;
};

/* How finding the next segment goes. */
struct live_search {
    uint64_t asked_seq; /* of the FIND that is out, */
    bool asks_back;     /* or it is about what was passed */
    unsigned vain;      /* answers in a row that did not help */
    monotonic again_at; /* not before; 0 = at once */
    monotonic vain_since;
};

/* What is to be told before the next datagram. */
struct live_gap {
    uint64_t end; /* up to here; 0 = no gap */
    enum hf_why why;
};

struct live_reader {
    struct hf_reader base; /* its mode is set from the beginning */
    struct reader_link link;
    uint64_t next_seq; /* what comes next */
    /* From here up to next_seq, everything was told as lost, and nothing returned. */
    uint64_t passed_from;
    uint64_t opened_seq; /* the end at hf_read(); UINT64_MAX while it isn't known */
    bool records;        /* as ATTACHED said */
    /* It was found in a file that was still written, which begins here: of such a file's ring it
     * proves nothing. UINT64_MAX: it was not. */
    uint64_t opened_in;
    bool started;    /* hf_read() has returned */
    bool has_waited; /* hf_read(), hf_seek(): for who says how far an open file may be read */
    bool live_told;
    bool woken;     /* since it was last caught up */
    unsigned wakes; /* in a row, without a rest */
    /* From anew_seq on, numbers that were given before belong to other datagrams. */
    bool begins_anew;
    uint64_t anew_seq;
    bool awaits_ring;   /* it came out of one, and only the log's own tells where the log goes on */
    bool looks_back;    /* for what a ring has recorded that came and went unseen, */
    uint64_t look_from; /* in files that begin here or later */
    /* HF_OLD: so does everything old from here on, and is lost; UINT64_MAX: nothing does. */
    uint64_t old_end;
    bool by_position;   /* it began at its position, and nothing was returned or saved since: */
    uint64_t position;  /* that is where it was */
    bool asks_position; /* it may have gone back since, and is asked for again, */
    monotonic position_again_at, position_until; /* not before, and not for ever; 0 = not refused */
    bool begins_with_ring; /* HF_NEW: there was none, and so it begins where that does */
    bool by_ring;          /* so far, datagrams came out of the ring, not out of the log */
    bool returned_any;     /* a datagram, since it was opened or sought */
    bool uncovered_told;   /* before next_seq */
    uint64_t newest_ns;    /* of what was returned */
    struct live_ring ring;
    struct live_segment segment;
    struct live_search search;
    struct live_gap gap;
    struct avro_log_record held; /* read, and not returned yet: next_seq or higher */
    struct record_source source; /* of the record before */
    bool has_held;
    int claim_error;     /* of the last CLAIM: -errno */
    uint64_t told_seq;   /* PROGRESS */
    uint64_t told_ns;    /* when, by the coarse clock */
    uint32_t until_look; /* datagrams until the clock is looked at */
    /* What lag() says of the disk: at this offset of this segment, everything before
     * durable_candidate is there. */
    uint64_t durable_id, durable_offset, durable_candidate, durable_seq;
    uint64_t ring_read;     /* the pair of the ring that was read last; 0 = none yet */
    uint64_t ring_end;      /* behind the last number that it is known to have had */
    uint64_t lent_position; /* in it, of the datagram that was returned last, */
    bool is_lent;           /* if that is still there and not in `copy` */
    uint8_t *copy;          /* a datagram's bytes out of a ring: slot_size of them */
    size_t copy_size;
};

static inline struct live_reader *live_reader_of(hf_reader *reader)
{
    return (struct live_reader *)reader;
}

/* Inside hf_next(), beside enum HF_...: go on. */
#define MORE 64
/* Likewise: the channel records now, or no more, so that another kind of reader goes on. */
#define LIVE_READER_CHANGED 65

/* Datagrams are to come out of the ring, not out of the log. */
static inline bool live_reader_is_by_ring(const struct live_reader *reader)
{
    return reader->base.mode == HF_NEWEST || (reader->base.mode == HF_NEW && !reader->records);
}

#endif
