/* What waits for, or is under way to, one member: pieces of many requests, coalesced into calls.
 *
 *   piece:  QUEUED --call starts--> SENT --OK--> settled
 *             ^                       '--failed--> given back to the router (retry, fallback, or refusal)
 *
 * Flush   at once while fewer than two calls are under way, else at 128 KiB or 5 ms. A call is at most 1 MiB and a
 *         piece, and OUTBOX_CALL_PIECES pieces, all of one set of metadata.
 * Bound   reserved bytes, taken before anything is copied (outbox_reserve). Each piece gives back bytes->len of
 *         them just before `delivered` or `failed`.
 * Waits   on a link that is CONNECTING at most a second, on one that is DOWN not at all: such pieces fail as
 *         UNAVAILABLE. No piece starts past its own deadline (DEADLINE_EXCEEDED), but a call that carries it runs
 *         its own full timeout: one impatient client cuts nobody else's call.
 * Owner   one worker; outbox_reserve and outbox_unreserve from any thread (note 0004).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/buffer.h"
#include "common/base/list.h"
#include "common/base/metadata.h"
#include "common/base/num.h"
#include "common/export/link.h"
#include "common/metrics/histogram.h"

#define OUTBOX_FLUSH_BYTES (128 * KIB)     /* past this a call costs more in bytes than in itself */
#define OUTBOX_FLUSH_WAIT_NS (5 * NS_PER_MS)
#define OUTBOX_PIECE_BYTES_MAX (1 * MIB)   /* pieces are cut here */
#define OUTBOX_CALLS_MAX 16                /* under way to one member at once */
#define OUTBOX_CALL_PIECES 256             /* joined to one call: the array of them lives on the stack */
#define OUTBOX_CONNECT_WAIT_NS (1 * NS_PER_S)

/* Spans of one request for one member: a valid ExportTraceServiceRequest of its own, so that pieces can be joined end to end. */
struct piece {
    struct list node;
    struct buffer *bytes;
    const struct metadata_set *metadata; /* of its client, the owner's reference; NULL: none */
    uint32_t span_count;
    uint64_t deadline_ns;        /* the client's; 0 or UINT64_MAX: none */
    uint64_t first_sent_ns;      /* set by the outbox; 0: never sent */
    uint64_t queued_ns;          /* set by the outbox */
    unsigned attempts;           /* calls that carried it, counted by the outbox; 0 before the first put */
    bool alone;                  /* the owner's wish: a call of its own */
    bool joined;                 /* set by the outbox: its last call carried other pieces too */
};

/* What is told may put pieces again, here or in another outbox, but not deinit this one. */
struct outbox_owner {
    void *context;
    /* The member has these spans but for `rejected_count` of them that no member can ever take. */
    void (*delivered)(void *context, struct piece *piece, uint32_t rejected_count);
    /* Not delivered. The piece is the owner's again, its bytes whole; reservation given back. */
    void (*failed)(void *context, struct piece *piece, const struct link_result *result);
};

/* One call under way. Each outbox holds all it may ever need: a call costs no allocation. */
struct outbox_call {
    struct list node; /* in calls, oldest first, or idle_calls */
    struct link_call call;
    struct outbox *outbox;
    struct list pieces;
    uint64_t sent_ns;
    uint32_t span_count;
};

struct outbox {
    struct link *link;
    struct outbox_owner owner;
    struct list queued, calls, idle_calls;
    uint64_t queued_bytes;
    uint64_t soonest_deadline_ns;    /* no queued piece's deadline is before it */
    uint32_t calls_in_flight;
    _Atomic uint64_t timeout_ns;     /* of one attempt; 0: none. Any thread may change it, and limit_bytes: live reload */
    uint64_t ack_smoothed_ns;        /* time to OK, exponentially weighted by 1/8; 0: none yet */
    struct histogram ack_times;      /* read by any thread */
    uint64_t ring;                   /* fingerprint sent along */
    _Atomic uint64_t reserved_bytes, limit_bytes;
    struct outbox_call call_slots[OUTBOX_CALLS_MAX];
    uint64_t acked_sent_ns[OUTBOX_CALLS_MAX]; /* calls answered OK since the last run, for ack_smoothed_ns */
    uint32_t acked_count;
    bool draining_said;              /* by an answer, whose pieces' owner is told after; who has heard it sets it back */
    /* running sums: of calls started and what they carried, again when it is sent again; calls that failed;
     * answers whose list of rejected spans made no sense, taken as none rejected */
    uint64_t calls_total, pieces_total, spans_total, bytes_total, failures_total, rejected_malformed_total;
};

/* link is borrowed. */
void outbox_init(struct outbox *outbox, struct link *link, const struct outbox_owner *owner, uint64_t limit_bytes,
    uint64_t timeout_ns);
/* Everything queued fails with CANCELLED; calls under way must have ended (outbox_cancel). */
void outbox_deinit(struct outbox *outbox);
/* Live reload; any thread. What is reserved above a lower limit stays. */
void outbox_change(struct outbox *outbox, uint64_t limit_bytes, uint64_t timeout_ns);
/* All or nothing: false when less than `bytes` are free. */
bool outbox_reserve(struct outbox *outbox, uint64_t bytes);
void outbox_unreserve(struct outbox *outbox, uint64_t bytes);
/* Takes a piece whose bytes->len were reserved here. */
void outbox_put(struct outbox *outbox, struct piece *piece, uint64_t now_ns);
/* Starts the calls that are due; returns when it next wants to run. Once a turn. */
uint64_t outbox_run(struct outbox *outbox, uint64_t now_ns);
/* Gives back everything queued and not sent, as failed with UNAVAILABLE. */
void outbox_recall(struct outbox *outbox);
/* Cancels the calls under way; their pieces fail as the link ends the calls, usually with CANCELLED. */
void outbox_cancel(struct outbox *outbox);
/* When the oldest unacknowledged call was sent; 0: none is under way. */
uint64_t outbox_oldest_ns(const struct outbox *outbox);
