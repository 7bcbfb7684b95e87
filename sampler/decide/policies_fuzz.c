/* Laws: a list of policies is either read or refused with a reason. What was read decides; twice alike, unless something is
 * left from one decision to the next; and what is decided early is decided so too once more spans have come. */
#include <stdint.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/config/yaml.h"
#include "sampler/decide/policy_set.h"

/* Two states of one trace: the later has all that the earlier has, and more. */
static void make_facts(const uint8_t *data, size_t size, struct facts *early, struct facts *late)
{
    uint64_t seed = 0x9e3779b97f4a7c15ull;

    for (size_t i = 0; i < size; i++)
        seed = (seed ^ data[i]) * 0x100000001b3ull;
    *early = (struct facts){.spans_count = 1 + (uint32_t)(seed % 7), .max_end_unix_ns = seed % (10 * NS_PER_S)};
    early->min_start_unix_ns = seed & 0x10000 ? 1 + (seed >> 8) % NS_PER_S : 0;
    for (unsigned word = 0; word < HIT_WORDS; word++)
        early->hits.words[word] = seed * (2 * word + 1);
    *late = *early;
    late->spans_count += 5;
    late->max_end_unix_ns += NS_PER_S;
    late->min_start_unix_ns = late->min_start_unix_ns ? (late->min_start_unix_ns + 1) / 2 : 5;
    for (unsigned word = 0; word < HIT_WORDS; word++)
        late->hits.words[word] |= seed >> (word + 3);
}

static void check_set(const struct policy_set *set, const uint8_t *data, size_t size)
{
    const struct trace_id id = {{1, 2, 3, (uint8_t)size}};
    struct facts early, late;
    struct verdict_input input = {.trace_id = &id, .now_ns = NS_PER_S, .now_unix_ns = NS_PER_S};
    struct decided decided, again, soon;

    make_facts(data, size, &early, &late);
    input.facts = &late;
    decided = policy_set_decide(set, &input);
    again = policy_set_decide(set, &input);
    ASSERT(decided.decision != DECISION_PENDING && decided.decision != DECISION_ERROR);
    ASSERT((decided.decision == DECISION_NOT_SAMPLED) == (decided.policy == UINT16_MAX));
    ASSERT(policy_set_needs(set)->state || (decided.decision == again.decision && decided.policy == again.policy));
    input.facts = &early;
    if (policy_set_decide_early(set, &input, NULL, &soon) && decided.error_count == 0)
        ASSERT(soon.decision == decided.decision);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_context *context = config_context_new();
    const struct config_node *root = config_load_text(context, "fuzz", (const char *)data, size);
    struct policy_set *set = NULL;
    int r;

    if (root) {
        r = policy_set_new(context, config_node_get(root, "policies"), size % 2 == 0, 1, &set);
        ASSERT(r == 0 || (r == CONFIG_E_INVALID && !set && config_errors(context)[0] != '\0'));
        if (r == 0)
            check_set(set, data, size);
        policy_set_unref(set);
    }
    config_context_free(context);
    return 0;
}
