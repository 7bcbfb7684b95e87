/* Keep traces with a span whose flags say that it was sampled (bit 0).   Source: tail_sampling `trace_flags`. */
#include "sampler/decide/policy.h"
#include "sampler/decide/predicate.h"

struct trace_flags {
    uint32_t bit;
};

static int trace_flags_prepare(void *self, const struct policy_prepare *prepare)
{
    struct trace_flags *want = self;

    want->bit = predicate_sampled_flag(prepare->builder);
    return policy_asked(prepare, want->bit);
}

static struct vote trace_flags_evaluate(const void *self, const struct verdict_input *input)
{
    const struct trace_flags *want = self;

    return vote_filter(hits_has(&input->facts->hits, want->bit), want->bit);
}

const struct policy_type policy_trace_flags = {
    .name = "trace_flags",
    .size = sizeof(struct trace_flags),
    .prepare = trace_flags_prepare,
    .evaluate = trace_flags_evaluate,
    .is_lasting = policy_always_lasting,
};
