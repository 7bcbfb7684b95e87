/* Traces that come as a Give carries them, from another sampler or out of the journal. On the worker that got them. */
#pragma once

#include "sampler/handoff/join.h"
#include "sampler/handoff/transfer.h"
#include "sampler/span_path.h"

/* When it came, by its ages. */
struct arrival takeover_arrival(const struct sampler_worker *home, const struct transfer_trace *trace, uint64_t now_ns);
/* Verdict and spans to the worker that owns the trace. bytes: what the trace borrows from. */
void takeover_trace(struct sampler_worker *home, struct buffer *bytes, const struct transfer_trace *trace, struct arrival arrival);
/* A verdict to the worker that owns its trace. */
void verdict_share_out(struct sampler_worker *home, const struct join_verdict *verdict);
