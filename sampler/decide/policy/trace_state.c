/* Keep traces with a span whose tracestate holds one of the values under the key.   Source: tail_sampling `trace_state`. */
#include "sampler/decide/policy.h"
#include "sampler/decide/predicate.h"

struct trace_state {
    char *key;
    struct config_strings values;
    uint32_t bit;
};

static const struct config_key trace_state_keys[] = {
    CONFIG_KEY(struct trace_state, key, CONFIG_STRING, "of the tracestate's member"),
    CONFIG_KEY(struct trace_state, values, CONFIG_STRINGS,
        "any of them matches, as a whole; empty ones, and those longer than 255 with the key, never do"),
    {0},
};

static int trace_state_prepare(void *self, const struct policy_prepare *prepare)
{
    struct trace_state *want = self;

    want->bit = predicate_trace_state(
        prepare->builder, want->key ? want->key : "", want->values.items, want->values.count);
    return policy_asked(prepare, want->bit);
}

static struct vote trace_state_evaluate(const void *self, const struct verdict_input *input)
{
    const struct trace_state *want = self;

    return vote_filter(hits_has(&input->facts->hits, want->bit), want->bit);
}

const struct policy_type policy_trace_state = {
    .name = "trace_state",
    .size = sizeof(struct trace_state),
    .keys = trace_state_keys,
    .prepare = trace_state_prepare,
    .evaluate = trace_state_evaluate,
    .is_lasting = policy_always_lasting,
};
