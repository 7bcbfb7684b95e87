/* The way in of the back tier: one request's spans into their traces. */
#pragma once

#include "common/ingest/receiver.h"
#include "sampler/sampler_worker.h"

#define TRACE_BYTES_MOST 1024u /* of a trace beside its spans' bytes: its block, a record, a table slot, what is left over */

/* tier: the struct sampler. Runs on the worker that received the request; common/ingest calls it. */
void sampler_on_request(void *tier, struct request *request);

/* -- its parts, for spans that come otherwise: after a wait, from another sampler, out of the journal ------------------ */

/* How and when spans came. */
struct arrival {
    uint64_t now_ns;
    uint64_t came_ns;     /* when these spans came in, as far as this one knows: decision_wait_after_root_received counts from here */
    uint64_t first_ns;    /* when the trace's first span arrived anywhere, as far as this one knows: not after now_ns */
    uint64_t deadline_ns; /* when the trace is due, if this is its first span */
    enum book book;       /* BOOK_RECEIVED, _RECOVERED or _TAKEN_OVER */
    uint8_t delivered;    /* exporters that have it already (fan_out.h) */
    struct journal_pos at; /* where the bytes lie in the journal that begin at base; segment 0: nowhere */
    const uint8_t *base;
};
struct arrival arrival_now(const struct sampler_worker *home, uint64_t now_ns);

/* Walks an OTLP request into home->intake. False: *out_why to refuse it. Ends with intake_release either way. */
bool request_read(struct sampler_worker *home, struct slice bytes, const struct metadata_set *metadata, enum refusal *out_why);
/* What was rejected in home->intake: once a request, however often it is read. */
void request_count_faults(struct sampler_worker *home);
static inline struct journal_pos arrival_place(const struct arrival *arrival, struct slice span)
{
    if (LIKELY(arrival->at.segment == 0))
        return arrival->at;
    return (struct journal_pos){arrival->at.segment, arrival->at.offset + (uint32_t)(span.at - arrival->base)};
}

/* Bytes of the spans in home->intake. */
uint64_t intake_span_bytes(const struct sampler_worker *home);
/* All good spans of home->intake go to the workers that own them. held: what they borrow from; NULL with one worker only. */
void spans_take(struct sampler_worker *home, struct buffer *held, const struct arrival *arrival);
/* One span, at the worker that owns its trace. header: borrowed. */
void span_take(struct sampler_worker *home, const struct intake_span *span, struct header *header, const struct arrival *arrival);
