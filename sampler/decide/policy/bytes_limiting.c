/* Keep traces as long as their bytes fit into a rate.   Source: tail_sampling `bytes_limiting`.
 *
 * One bucket a node, also with several workers. Tokens are spent when it is asked, even if another policy decides. What a
 * trace costs: cost.h. */
#include "sampler/decide/cost.h"
#include "sampler/decide/limiter.h"
#include "sampler/decide/policy.h"
#include "sampler/decide/predicate.h"

struct bytes_limiting {
    int64_t bytes_per_second, burst_capacity;
    struct token_bucket *bucket;
};

static const struct config_key bytes_limiting_keys[] = {
    CONFIG_KEY(struct bytes_limiting, bytes_per_second, CONFIG_INT,
        "bytes of kept traces a second, of the whole node (default 0)"),
    CONFIG_KEY(struct bytes_limiting, burst_capacity, CONFIG_INT,
        "most bytes at once, and in one trace; 0 (default): twice bytes_per_second"),
    {0},
};

static int bytes_limiting_prepare(void *self, const struct policy_prepare *prepare)
{
    struct bytes_limiting *limit = self;

    prepare->needs->state = true;
    if (prepare->use_tracestate)
        predicate_ot(prepare->builder);
    prepare->needs->cost = true;
    return token_bucket_new(limit->bytes_per_second, limit->burst_capacity, &limit->bucket);
}

static uint64_t bytes_limiting_cost(const struct verdict_input *input)
{
    return cost_bytes(input->facts->cost);
}

static struct vote bytes_limiting_evaluate(const void *self, const struct verdict_input *input)
{
    const struct bytes_limiting *limit = self;

    return token_bucket_vote(limit->bucket, bytes_limiting_cost(input), input);
}

static void bytes_limiting_weigh(const void *self, const struct verdict_input *const *inputs, size_t count)
{
    const struct bytes_limiting *limit = self;

    token_bucket_weigh(limit->bucket, inputs, count, bytes_limiting_cost);
}

static bool bytes_limiting_is_stateful(const void *self)
{
    (void)self;
    return true;
}

static void bytes_limiting_inherit(void *self, const void *before)
{
    token_bucket_inherit(&((struct bytes_limiting *)self)->bucket, ((const struct bytes_limiting *)before)->bucket);
}

static void bytes_limiting_deinit(void *self)
{
    token_bucket_unref(((struct bytes_limiting *)self)->bucket);
}

const struct policy_type policy_bytes_limiting = {
    .name = "bytes_limiting",
    .size = sizeof(struct bytes_limiting),
    .keys = bytes_limiting_keys,
    .prepare = bytes_limiting_prepare,
    .evaluate = bytes_limiting_evaluate,
    .weigh = bytes_limiting_weigh,
    .is_stateful = bytes_limiting_is_stateful,
    .inherit = bytes_limiting_inherit,
    .deinit = bytes_limiting_deinit,
};
