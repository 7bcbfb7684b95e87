/* A verdict meets what is here of its trace: rules T4 and T5. At the worker that owns the trace.
 *
 * Verdicts come with a Give and out of the journal; spans that come later follow what is remembered by then (span_path.c). Joining the
 * same once more changes nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sampler/decide/decision_cache.h"

struct sampler_worker;

struct join_verdict {
    struct trace_id id;
    enum decision decision; /* sampled, not sampled or dropped */
    bool too_large;
    struct slice policy;    /* its name; len 0: none */
    uint32_t span_count;
    uint64_t evidence_span_id;
    uint64_t threshold;
    uint64_t decided_ns;
    const uint64_t *hashes; /* of spans that were exported; none unless sampled */
    size_t hash_count;
};

enum join_outcome {
    JOIN_TAKE,        /* theirs is remembered from here on */
    JOIN_KEEP,        /* mine stays */
    JOIN_CONFLICT_TAKE, JOIN_CONFLICT_KEEP, /* the same, and two verdicts of one decision period disagree */
};
/* mine: NULL: there is none. Two that lie verdict_keep apart are of two periods of one ID: the later counts. */
enum join_outcome join_choose(const struct decision_record *mine, const struct join_verdict *theirs, uint64_t verdict_keep_ns);

void join_verdict(struct sampler_worker *home, uint64_t id_hash, const struct join_verdict *verdict, uint64_t now_ns);
