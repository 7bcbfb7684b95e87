/* Keep traces that the policy inside does not keep.   Source: tail_sampling `not`. */
#include "sampler/decide/policy.h"

struct not_policy {
    const struct config_node *not_sub_policy;
    struct policy policy;
};

static const struct config_key not_keys[] = {
    CONFIG_KEY(
        struct not_policy, not_sub_policy, CONFIG_NODE, "one policy, with name, type and settings"),
    {0},
};

static int not_prepare(void *self, const struct policy_prepare *prepare)
{
    struct not_policy *not = self;
    int r = policy_read(prepare, not->not_sub_policy, POLICY_IN_NOT, &not->policy);

    if (r)
        policy_deinit(&not->policy);
    return r;
}

static struct vote not_evaluate(const void *self, const struct verdict_input *input)
{
    const struct not_policy *not = self;
    struct vote vote = policy_evaluate(&not->policy, input);

    if (vote.decision != DECISION_SAMPLED && vote.decision != DECISION_NOT_SAMPLED)
        return vote; /* an error stays one */
    return vote_filter(vote.decision == DECISION_NOT_SAMPLED, UINT32_MAX);
}

static bool not_is_stateful(const void *self)
{
    return policy_is_stateful(&((const struct not_policy *)self)->policy);
}

static void not_inherit(void *self, const void *before)
{
    policy_inherit(&((struct not_policy *)self)->policy, &((const struct not_policy *)before)->policy);
}

static void not_deinit(void *self)
{
    policy_deinit(&((struct not_policy *)self)->policy);
}

const struct policy_type policy_not = {
    .name = "not",
    .places = POLICY_AT_TOP | POLICY_IN_AND | POLICY_IN_DROP,
    .size = sizeof(struct not_policy),
    .keys = not_keys,
    .prepare = not_prepare,
    .evaluate = not_evaluate,
    .is_stateful = not_is_stateful,
    .inherit = not_inherit,
    .deinit = not_deinit,
};
