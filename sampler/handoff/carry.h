/* A trace as a Give carries it, written behind a message: what is known of it, and its spans as far as a batch goes. Travel sends such
 * messages, cleaning (clean.h) writes them to the journal.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sampler/buffer/trace.h"

struct buffer;
struct worker_handoff;

struct carried {
    size_t span_count;   /* the first so many of the trace's went, or were passed over */
    uint64_t decided_ns; /* of the verdict that went; 0: none */
};

/* Spans that another has now are not known to be exported any more: else what is given next would say so. hashes: sorted here. */
void carry_unlearn(struct worker_handoff *handoff, const struct trace_id *id, uint64_t *hashes, size_t count);
/* trace: its spans, not spilled; NULL: the verdict alone. wanted: a flag for each span; NULL: all go, and with them which
 * others were exported (a copy in the journal does not say so: its other spans may be on their way, and what has arrived is journaled). At least one goes, then as many as
 * most_bytes has room for. *message: grows, and may move. False: nothing is known of it. */
bool carry_trace(struct worker_handoff *handoff, const struct trace_id *id, const struct trace *trace, const bool *wanted, size_t most_bytes,
    struct buffer **message, struct carried *out_carried);
