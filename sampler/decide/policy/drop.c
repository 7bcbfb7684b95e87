/* Throw away traces that all policies inside keep, whatever other policies say.   Source: tail_sampling `drop`.
 *
 * It never keeps anything: a trace that is not dropped is left to the others. Without any policy inside all are dropped. */
#include "sampler/decide/policy.h"

struct drop_policy {
    const struct config_node *drop_sub_policy;
    struct policy_list policies;
};

static const struct config_key drop_keys[] = {
    CONFIG_KEY(struct drop_policy, drop_sub_policy, CONFIG_NODE,
        "list of policies, each with name, type and settings"),
    {0},
};

static int drop_prepare(void *self, const struct policy_prepare *prepare)
{
    struct drop_policy *drop = self;

    return policy_list_read(prepare, drop->drop_sub_policy, POLICY_IN_DROP, &drop->policies);
}

static struct vote drop_evaluate(const void *self, const struct verdict_input *input)
{
    struct vote vote = policy_list_agree(&((const struct drop_policy *)self)->policies, input);

    if (vote.decision == DECISION_SAMPLED)
        vote.decision = DECISION_DROPPED;
    vote.threshold = SAMPLING_NEVER;
    return vote;
}

static bool drop_is_stateful(const void *self)
{
    return policy_list_is_stateful(&((const struct drop_policy *)self)->policies);
}

static bool drop_is_lasting(const void *self, const struct facts *facts)
{
    return policy_list_is_lasting(&((const struct drop_policy *)self)->policies, facts);
}

static void drop_inherit(void *self, const void *before)
{
    policy_list_inherit(&((struct drop_policy *)self)->policies, &((const struct drop_policy *)before)->policies);
}

static void drop_deinit(void *self)
{
    policy_list_deinit(&((struct drop_policy *)self)->policies);
}

const struct policy_type policy_drop = {
    .name = "drop",
    .goes_first = true,
    .places = POLICY_AT_TOP,
    .size = sizeof(struct drop_policy),
    .keys = drop_keys,
    .prepare = drop_prepare,
    .evaluate = drop_evaluate,
    .is_stateful = drop_is_stateful,
    .is_lasting = drop_is_lasting,
    .inherit = drop_inherit,
    .deinit = drop_deinit,
};
