/* Traces that come as a Give carries them, from another sampler or out of the journal. On the worker that got them. */
#pragma once

#include "sampler/handoff/join.h"
#include "sampler/handoff/transfer.h"
#include "sampler/span_path.h"

/* When it came, by its ages. */
struct arrival takeover_arrival(const struct sampler_worker *home, const struct transfer_trace *trace, uint64_t now_ns);
/* Verdict and spans to the worker that owns the trace. bytes: what the trace borrows from. Returns the bytes of its spans. */
uint64_t takeover_trace(struct sampler_worker *home, struct buffer *bytes, const struct transfer_trace *trace, struct arrival arrival);
/* Its two halves, and what of it some exporters have already. */
void takeover_verdict(struct sampler_worker *home, const struct transfer_trace *trace, uint64_t now_ns);
uint8_t takeover_delivered(const struct sampler_worker *home, const struct transfer_trace *trace);

enum verdict_news {
    VERDICT_IS,
    VERDICT_GONE,   /* to another sampler: only the ID counts */
    VERDICT_HASHES, /* spans known to be exported, of a verdict that is known or was */
};
/* To the worker that owns the trace. */
void verdict_share_out(struct sampler_worker *home, enum verdict_news news, const struct join_verdict *verdict);
