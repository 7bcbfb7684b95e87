/* What waits for, or is under way to, one member: pieces of many requests, coalesced into calls.
 *
 *   piece:  QUEUED --call starts--> SENT --OK--> settled
 *             ^                       '--failed--> given back to the router (retry, fallback, or refusal)
 *
 * Flush   at once while fewer than two calls are under way, else at 128 KiB or 5 ms.
 * Bound   reserved bytes, taken before anything is copied (outbox_reserve), given back when a piece is settled.
 * Owner   one worker; outbox_reserve and outbox_unreserve from any thread (note 0004).
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/buffer.h"
#include "common/base/list.h"
#include "common/export/link.h"
#include "common/run/mailbox.h"

#define OUTBOX_FLUSH_BYTES (128 * KIB)     /* past this a call costs more in bytes than in itself */
#define OUTBOX_FLUSH_WAIT_NS (5 * NS_PER_MS)
#define OUTBOX_PIECE_BYTES_MAX (1 * MIB)   /* pieces are cut here */
#define OUTBOX_CALLS_MAX 16                /* under way to one member at once */

/* Spans of one request for one member: a valid ExportTraceServiceRequest of its own, so that pieces can be joined end to end. */
struct piece {
    struct list node;
    struct mail mail;            /* to another worker */
    struct buffer *bytes;
    uint32_t span_count;
    uint64_t deadline_ns;        /* the client's */
    uint64_t first_sent_ns;      /* 0: never sent */
    unsigned attempts;
    void *owner;                 /* the router's: whom to tell */
};

struct outbox_owner {
    void *context;
    /* The member has these spans but for `rejected_count` of them that no member can ever take. */
    void (*delivered)(void *context, struct piece *piece, uint32_t rejected_count);
    /* Not delivered. The piece is the owner's again, its bytes whole; reservation given back. */
    void (*failed)(void *context, struct piece *piece, const struct link_result *result);
};

struct outbox {
    struct link *link;
    struct outbox_owner owner;
    struct list queued, calls, idle_calls;
    uint64_t queued_bytes, queued_since_ns;
    uint32_t calls_in_flight;
    uint64_t timeout_ns;             /* of one attempt */
    uint64_t ack_smoothed_ns;        /* exponentially weighted, 1/8 */
    uint64_t ring;                   /* fingerprint sent along */
    _Atomic uint64_t reserved_bytes;
    uint64_t limit_bytes;
    /* running sums */
    uint64_t calls_total, pieces_total, spans_total, bytes_total, failures_total;
};

void outbox_init(struct outbox *outbox, struct link *link, const struct outbox_owner *owner, uint64_t limit_bytes, uint64_t timeout_ns);
/* Everything queued fails; calls under way must have ended. */
void outbox_deinit(struct outbox *outbox);
bool outbox_reserve(struct outbox *outbox, uint64_t bytes);
void outbox_unreserve(struct outbox *outbox, uint64_t bytes);
void outbox_put(struct outbox *outbox, struct piece *piece, uint64_t now_ns);
/* Starts the calls that are due; returns when it next wants to run. Once a turn. */
uint64_t outbox_run(struct outbox *outbox, uint64_t now_ns);
/* Gives back everything queued and not sent, as failed with UNAVAILABLE. */
void outbox_recall(struct outbox *outbox);
/* When the oldest unacknowledged call was sent; 0: none is under way. */
uint64_t outbox_oldest_ns(const struct outbox *outbox);
