/* Keep traces as long as their spans fit into a rate.   Source: tail_sampling `rate_limiting`.
 *
 * One bucket a node, also with several workers. Tokens are spent when it is asked, even if another policy decides. */
#include "sampler/decide/limiter.h"
#include "sampler/decide/policy.h"
#include "sampler/decide/predicate.h"

struct rate_limiting {
    int64_t spans_per_second, burst_capacity;
    struct token_bucket *bucket;
};

static const struct config_key rate_limiting_keys[] = {
    CONFIG_KEY(struct rate_limiting, spans_per_second, CONFIG_INT,
        "spans of kept traces a second, of the whole node (default 0)"),
    CONFIG_KEY(struct rate_limiting, burst_capacity, CONFIG_INT,
        "most spans at once, and in one trace; 0 (default): twice spans_per_second"),
    {0},
};

static int rate_limiting_prepare(void *self, const struct policy_prepare *prepare)
{
    struct rate_limiting *limit = self;

    prepare->needs->state = true;
    if (prepare->use_tracestate)
        predicate_ot(prepare->builder);
    return token_bucket_new(limit->spans_per_second, limit->burst_capacity, &limit->bucket);
}

static uint64_t rate_limiting_cost(const struct verdict_input *input)
{
    return input->facts->spans_count;
}

static struct vote rate_limiting_evaluate(const void *self, const struct verdict_input *input)
{
    const struct rate_limiting *limit = self;

    return token_bucket_vote(limit->bucket, rate_limiting_cost(input), input);
}

static void rate_limiting_weigh(const void *self, const struct verdict_input *const *inputs, size_t count)
{
    const struct rate_limiting *limit = self;

    token_bucket_weigh(limit->bucket, inputs, count, rate_limiting_cost);
}

static bool rate_limiting_is_stateful(const void *self)
{
    (void)self;
    return true;
}

static void rate_limiting_inherit(void *self, const void *before)
{
    token_bucket_inherit(&((struct rate_limiting *)self)->bucket, ((const struct rate_limiting *)before)->bucket);
}

static void rate_limiting_deinit(void *self)
{
    token_bucket_unref(((struct rate_limiting *)self)->bucket);
}

const struct policy_type policy_rate_limiting = {
    .name = "rate_limiting",
    .size = sizeof(struct rate_limiting),
    .keys = rate_limiting_keys,
    .prepare = rate_limiting_prepare,
    .evaluate = rate_limiting_evaluate,
    .weigh = rate_limiting_weigh,
    .is_stateful = rate_limiting_is_stateful,
    .inherit = rate_limiting_inherit,
    .deinit = rate_limiting_deinit,
};
