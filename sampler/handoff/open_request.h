/* An answer that waits: for the journal, for owners of slots, for a view.
 *
 *   open --wait--wait--done--done--> last done: answered once, freed
 *
 * The first refusal is the answer; until all else is done nobody is answered, so that nothing is under way for a caller who has gone.
 */
#pragma once

#include "common/base/buffer.h"
#include "common/base/list.h"
#include "common/ingest/receiver.h"
#include "sampler/handoff/transfer.h"

struct worker_handoff;

enum open_kind {
    OPEN_CLIENT,  /* an Export request */
    OPEN_FORWARD, /* fresh spans of another member's client */
    OPEN_GIVE,
};

struct open_request {
    struct list node; /* of the worker's open ones */
    struct worker_handoff *handoff;
    enum open_kind kind;
    struct request *request; /* of a client */
    void *call;              /* of a peer */
    struct buffer *bytes;    /* one reference: what it brought */
    const struct metadata_set *metadata; /* a reference */
    uint64_t received_ns;
    uint64_t counted_bytes;  /* in admission */
    uint64_t span_count;     /* good ones */
    uint32_t waits;
    uint32_t *rejected;      /* of a client's: indices, malloc'd */
    size_t rejected_count;
    bool refused;
    enum refusal refusal;
    struct answer_status status;
    enum transfer_outcome outcome; /* of a Forward */
    uint64_t retry_ms;
    uint8_t *outcomes;       /* of a Give: one a trace, malloc'd */
    size_t outcome_count;
};

/* bytes: a reference is taken over. metadata: one is taken. Waits once for its maker: open_done ends that. */
struct open_request *open_begin(struct worker_handoff *handoff, enum open_kind kind, void *request_or_call, struct buffer *bytes,
    const struct metadata_set *metadata, uint64_t now_ns);
static inline void open_wait(struct open_request *open)
{
    open->waits++;
}
/* The last one answers and frees. */
void open_done(struct open_request *open);
/* The answer will be this refusal, unless there was one before. Ends no wait. */
void open_refuse(struct open_request *open, enum refusal refusal, struct answer_status status);
/* Of a Give: what would have been accepted is busy. */
void open_not_accepted(struct open_request *open);
/* Of a Forward: the whole of it. Ends no wait. */
void open_outcome(struct open_request *open, enum transfer_outcome outcome, uint64_t retry_ms);
