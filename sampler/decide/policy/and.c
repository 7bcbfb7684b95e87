/* Keep traces that all policies inside keep.   Source: tail_sampling `and`.
 *
 * They are asked in order up to the first that does not: what stands behind it spends nothing. Without any the trace is
 * kept. The vote's threshold is the largest of theirs. */
#include <stdlib.h>

#include "sampler/decide/policy.h"

struct and_policy {
    const struct config_node *and_sub_policy;
    struct policy_list policies;
};

static const struct config_key and_keys[] = {
    CONFIG_KEY(struct and_policy, and_sub_policy, CONFIG_NODE,
        "list of policies, each with name, type and settings"),
    {0},
};

static int and_prepare(void *self, const struct policy_prepare *prepare)
{
    struct and_policy *and = self;

    return policy_list_read(prepare, and->and_sub_policy, POLICY_IN_AND, &and->policies);
}

static struct vote and_evaluate(const void *self, const struct verdict_input *input)
{
    return policy_list_agree(&((const struct and_policy *)self)->policies, input);
}

/* Whether the policies that do not weigh keep the trace: only such traces are worth a limiter's tokens. */
static bool and_is_candidate(const struct and_policy *and, const struct verdict_input *input)
{
    for (size_t i = 0; i < and->policies.count; i++) {
        const struct policy *policy = &and->policies.items[i];

        if (!policy_is_weighed(policy) && policy_evaluate(policy, input).decision != DECISION_SAMPLED)
            return false;
    }
    return true;
}

static void and_weigh(const void *self, const struct verdict_input *const *inputs, size_t count)
{
    const struct and_policy *and = self;
    const struct verdict_input **candidates = malloc((count + 1) * sizeof(candidates[0]));
    size_t candidate_count = 0;

    if (!candidates)
        return; /* the thresholds stay what they were */
    for (size_t i = 0; i < count; i++)
        if (and_is_candidate(and, inputs[i]))
            candidates[candidate_count++] = inputs[i];
    for (size_t i = 0; i < and->policies.count; i++)
        if (policy_is_weighed(&and->policies.items[i]))
            and->policies.items[i].type->weigh(and->policies.items[i].self, candidates, candidate_count);
    free(candidates);
}

static bool and_is_weighed(const void *self)
{
    const struct and_policy *and = self;

    for (size_t i = 0; i < and->policies.count; i++)
        if (policy_is_weighed(&and->policies.items[i]))
            return true;
    return false;
}

static bool and_is_stateful(const void *self)
{
    return policy_list_is_stateful(&((const struct and_policy *)self)->policies);
}

static bool and_is_lasting(const void *self, const struct facts *facts)
{
    return policy_list_is_lasting(&((const struct and_policy *)self)->policies, facts);
}

static void and_inherit(void *self, const void *before)
{
    policy_list_inherit(&((struct and_policy *)self)->policies, &((const struct and_policy *)before)->policies);
}

static void and_deinit(void *self)
{
    policy_list_deinit(&((struct and_policy *)self)->policies);
}

const struct policy_type policy_and = {
    .name = "and",
    .places = POLICY_AT_TOP | POLICY_IN_COMPOSITE,
    .size = sizeof(struct and_policy),
    .keys = and_keys,
    .prepare = and_prepare,
    .evaluate = and_evaluate,
    .weigh = and_weigh,
    .is_weighed = and_is_weighed,
    .is_stateful = and_is_stateful,
    .is_lasting = and_is_lasting,
    .inherit = and_inherit,
    .deinit = and_deinit,
};
