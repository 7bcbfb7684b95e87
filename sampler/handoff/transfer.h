/* The bytes of Give and Forward: read in place, written with sizes first. Field numbers: proto/peer.proto.
 *
 * Readers take any bytes. A message is checked whole, once (transfer_*_read); what it holds many of is then gone through by
 * cursors, which cannot fail any more. Nothing is allocated; what is read borrows from the message.
 * Law     what was written reads back the same; what cannot be read is refused, never guessed.
 * Times   ages and remainders in milliseconds, never times of day: skewed clocks cannot move a deadline. The journal keeps the
 *         same bytes beside a time of day of its own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buffer.h"
#include "common/base/metadata.h"
#include "common/base/slice.h"
#include "common/otlp/wire.h"
#include "sampler/decide/policy.h"

#define TRANSFER_GIVE "/tailrace.v1.Peer/Give"
#define TRANSFER_FORWARD "/tailrace.v1.Peer/Forward"

/* -- what both begin with ----------------------------------------------------------------------------------------- */

struct transfer_sender {
    struct slice name;
    uint64_t incarnation;
    uint32_t ring_no; /* the sender's */
    uint64_t batch_no; /* Give only */
};

/* -- one trace of a Give ------------------------------------------------------------------------------------------ */

struct transfer_part { /* spans of one client's metadata */
    struct slice spans; /* ExportTraceServiceRequest */
    const struct metadata_set *metadata; /* written; NULL: none */
    struct slice body;  /* read: for transfer_part_metadata */
};

struct transfer_verdict {
    enum decision decision; /* DECISION_PENDING: there is none; all else is zero then */
    bool too_large;
    struct slice policy;    /* its name at the sender; len 0: none */
    uint32_t span_count;
    uint64_t evidence_span_id;
    uint16_t evidence_bit;  /* UINT16_MAX: none */
    uint64_t threshold;
    uint64_t age_ms;        /* since it was decided */
};

struct transfer_trace {
    struct trace_id id;
    uint64_t age_ms;      /* since the first span arrived anywhere */
    int64_t remaining_ms; /* to its deadline; negative: overdue */
    struct transfer_verdict verdict;
    /* what there may be many of; to be written */
    const struct transfer_part *parts;
    size_t part_count;
    const uint64_t *hashes; /* of spans that were exported */
    size_t hash_count;      /* read, too */
    const char *const *delivered; /* IDs of exporters that have the held spans already */
    size_t delivered_count;
    /* read */
    struct slice body;    /* for the cursors */
    struct slice field;   /* with tag and length: a journal keeps, and a give cuts, whole traces */
};

/* -- a Give ------------------------------------------------------------------------------------------------------- */

size_t transfer_sender_size(const struct transfer_sender *sender);
uint8_t *transfer_sender_write(const struct transfer_sender *sender, uint8_t *out);
/* As a field of the request, to be put behind the sender. */
size_t transfer_trace_size(const struct transfer_trace *trace);
uint8_t *transfer_trace_write(const struct transfer_trace *trace, uint8_t *out);

/* False: it is none. message: a GiveRequest; one without a sender (of the journal) is good. *out_traces: how many. */
bool transfer_give_read(struct slice message, struct transfer_sender *out_sender, size_t *out_traces);

/* Cursors over a message that was read: start with wire_of(message), wire_of(trace.body). False: no more. */
bool transfer_trace_next(struct wire *give, struct transfer_trace *out_trace);
bool transfer_part_next(struct wire *trace, struct transfer_part *out_part);
bool transfer_delivered_next(struct wire *trace, struct slice *out_exporter);
struct transfer_hashes {
    struct wire trace, packed;
};
struct transfer_hashes transfer_hashes(const struct transfer_trace *trace);
bool transfer_hash_next(struct transfer_hashes *hashes, uint64_t *out_hash);
/* 0 and a reference (NULL: none there), or -ENOMEM. */
int transfer_part_metadata(const struct transfer_part *part, struct metadata_set **out_set);

/* -- its answer ---------------------------------------------------------------------------------------------------- */

enum transfer_outcome { TRANSFER_ACCEPTED = 1, TRANSFER_NOT_OWNER = 2, TRANSFER_BUSY = 3 };

struct transfer_answer {
    uint64_t fingerprint;  /* F of who answers */
    uint64_t retry_ms;     /* for what is busy */
    struct slice outcomes; /* of a Give: an enum transfer_outcome a trace, one byte each, in order */
    enum transfer_outcome outcome; /* of a Forward */
};

/* A buffer of its own; NULL: no memory. */
struct buffer *transfer_give_answer(const struct transfer_answer *answer);
struct buffer *transfer_forward_answer(const struct transfer_answer *answer);
/* False: it cannot be read, or an outcome is none of ours. */
bool transfer_give_answer_read(struct slice message, struct transfer_answer *out_answer);
bool transfer_forward_answer_read(struct slice message, struct transfer_answer *out_answer);

/* -- a Forward: fresh spans, all or nothing (rule S2) ----------------------------------------------------------------- */

struct transfer_forward {
    struct transfer_sender sender;
    const struct metadata_set *metadata; /* written */
    struct slice spans; /* ExportTraceServiceRequest */
    struct slice body;  /* read: for transfer_forward_metadata */
};

/* Up to the spans, which follow it as they are. spans.len counts, spans.at does not. */
size_t transfer_forward_head_size(const struct transfer_forward *forward);
uint8_t *transfer_forward_head_write(const struct transfer_forward *forward, uint8_t *out);
bool transfer_forward_read(struct slice message, struct transfer_forward *out_forward);
int transfer_forward_metadata(const struct transfer_forward *forward, struct metadata_set **out_set);
