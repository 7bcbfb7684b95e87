/* What policies folded out of a trace's spans so far. A decision is logic over facts, without a second look at the spans.
 *
 * Predicates (predicate.h) are questions about one span or one header, answered while its bytes are hot; each has a bit.
 * A span's answers are OR-ed into its trace's bits; aggregates are folded by the owner after dedupe. Facts follow from a
 * trace's spans alone, whatever their order, but for one kind: an ordered question has the outcome, true or error, of the
 * first span to reach the owner that has one.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"

#define PREDICATES_MAX 256 /* distinct predicates of one policy set; more are refused at start */
#define ORDERED_MAX 32     /* ordered questions of one policy set (OTTL conditions that propagate errors) */
#define HIT_WORDS (PREDICATES_MAX / 64)

struct hits {
    uint64_t words[HIT_WORDS];
};

static inline bool hits_has(const struct hits *hits, uint32_t bit)
{
    return (hits->words[bit / 64] >> (bit % 64)) & 1;
}

static inline void hits_set(struct hits *hits, uint32_t bit)
{
    hits->words[bit / 64] |= 1ull << (bit % 64);
}

/* What spans say of how they were sampled (common/otlp/ot_tracestate), where a policy asks for it. */
struct ot_facts { /* packed: each buffered trace has one */
    uint64_t randomness : 56;    /* the first rv; valid when has_randomness */
    uint64_t has_randomness : 1;
    uint64_t has_info : 1;       /* an rv or a th */
};

/* One span's contribution, computed by the worker that received it. Whoever asks the predicates fills in the generation. */
struct span_facts {
    struct hits hits;
    uint64_t start_unix_ns, end_unix_ns;
    uint64_t span_id; /* its 8 bytes as they are, for evidence */
    bool is_root;
    uint32_t generation; /* of the policy set whose questions these are */
    uint32_t first_true, first_error; /* a bit an ordered question: how it came out first within the span */
    struct ot_facts ot;
};

/* Which span set a bit first. Kept for the first few bits: enough to explain a decision. */
#define EVIDENCE_MAX 4
struct evidence {
    uint64_t span_id; /* 0: the header, not a span */
    uint16_t bit;
};

struct cost;

struct facts {
    struct hits hits;
    uint32_t first_true, first_error; /* of each ordered question, by the first span that had an outcome */
    uint64_t min_start_unix_ns; /* smallest non-zero start; 0: none */
    uint64_t max_end_unix_ns;
    uint64_t bytes;             /* of spans */
    uint32_t spans_count;
    uint16_t evidence_count;
    bool root_seen;
    uint32_t header_bytes_most; /* of distinct headers, at most; kept only under maximum_trace_size_bytes */
    struct evidence evidence[EVIDENCE_MAX];
    struct ot_facts ot;
    struct cost *cost; /* kept only for policies that ask (policy_needs.cost, cost.h); NULL: none */
};

/* Folds one span that was not there before. header_hits: of its interned header. span_bytes: its length. */
void facts_fold(struct facts *facts, const struct span_facts *span, const struct hits *header_hits, uint32_t span_bytes);
