/* Keep every trace.   Source: tail_sampling `always_sample`. */
#include "sampler/decide/policy.h"

static struct vote always_sample_evaluate(const void *self, const struct verdict_input *input)
{
    (void)self;
    (void)input;
    return vote_filter(true, UINT32_MAX);
}

const struct policy_type policy_always_sample = {
    .name = "always_sample",
    .evaluate = always_sample_evaluate,
    .is_lasting = policy_always_lasting,
};
