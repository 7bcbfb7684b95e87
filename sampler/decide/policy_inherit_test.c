/* Over a reload a policy that has not changed shares what one decision leaves to the next with its successor, wherever it stands and
 * whatever it stands in, also while the set before still decides; one that has changed begins anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/base/cleanup.h"
#include "common/base/num.h"
#include "common/config/yaml.h"
#include "sampler/decide/policy_set.h"

#define LIMIT(name, burst) "{ name: " name ", type: rate_limiting, rate_limiting: { spans_per_second: 0, burst_capacity: " burst " } }"
#define COMPOSITE(most)                                                                                                            \
    "{ name: c, type: composite, composite: { max_total_spans_per_second: " most ", composite_sub_policy: [ { name: all, type: always_sample } ] } }"
#define IN_AND(burst) "{ name: both, type: and, and: { and_sub_policy: [ " LIMIT("inner", burst) " ] } }"
#define OTHER "{ name: other, type: numeric_attribute, numeric_attribute: { key: x, min_value: 1, max_value: 2 } }"

struct generation {
    struct config_context *context;
    const struct config_node *policies;
    struct policy_set *set;
};

static struct generation generation_new(const char *list, uint64_t number)
{
    struct generation g = {.context = config_context_new()};

    g.policies = config_node_get(config_load_text(g.context, "test.yaml", list, strlen(list)), "p");
    assert_non_null(g.policies);
    if (policy_set_new(g.context, g.policies, false, number, &g.set))
        fail_msg("%s: %s", list, config_errors(g.context));
    return g;
}

static void generation_end(struct generation *g)
{
    policy_set_unref(g->set);
    config_context_free(g->context);
}

/* How many traces of one span it keeps, of ten. */
static unsigned kept_of_ten(const struct policy_set *set)
{
    static const struct trace_id id = {{1}};
    const struct facts facts = {.spans_count = 1};
    const struct verdict_input input = {.trace_id = &id, .facts = &facts, .now_ns = NS_PER_S, .now_unix_ns = 1000 * NS_PER_S};
    unsigned kept = 0;

    for (unsigned i = 0; i < 10; i++)
        kept += policy_set_decide(set, &input).decision == DECISION_SAMPLED;
    return kept;
}

struct inherit_case {
    const char *before, *after;
    unsigned first; /* what the old one keeps of ten, then the new one of ten, then the old one again */
    unsigned then, again;
};

static const struct inherit_case cases[] = {
    {"p: [" LIMIT("a", "15") "]", "p: [" LIMIT("a", "15") "]", 10, 5, 0},
    {"p: [" LIMIT("a", "15") "]", "p: [" OTHER ", " LIMIT("a", "15") "]", 10, 5, 0},
    {"p: [" LIMIT("a", "15") "]", "p: [" LIMIT("a", "16") "]", 10, 10, 5},
    {"p: [" LIMIT("a", "15") "]", "p: [" LIMIT("b", "15") "]", 10, 10, 5}, /* another name is another policy */
    {"p: [" IN_AND("15") "]", "p: [" IN_AND("15") "]", 10, 5, 0},
    {"p: [" IN_AND("15") "]", "p: [" IN_AND("14") "]", 10, 10, 5},
    {"p: [" COMPOSITE("15") "]", "p: [" COMPOSITE("15") "]", 10, 5, 0},
    {"p: [" COMPOSITE("15") "]", "p: [" COMPOSITE("14") "]", 10, 10, 5},
    {"p: [{ name: n, type: not, not: { not_sub_policy: " LIMIT("inner", "5") " } }]",
        "p: [{ name: n, type: not, not: { not_sub_policy: " LIMIT("inner", "5") " } }]", 5, 10, 10},
};

static void test_inherit(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct generation before = generation_new(cases[i].before, 1), after = generation_new(cases[i].after, 2);
        unsigned first = kept_of_ten(before.set), then, again;

        policy_set_inherit(after.set, after.policies, before.set, before.policies);
        then = kept_of_ten(after.set);
        again = kept_of_ten(before.set);
        if (first != cases[i].first || then != cases[i].then || again != cases[i].again)
            fail_msg("%s to %s: %u, %u, %u kept", cases[i].before, cases[i].after, first, then, again);
        generation_end(i % 2 ? &before : &after); /* either may go first */
        assert_true(kept_of_ten(i % 2 ? after.set : before.set) <= 10);
        generation_end(i % 2 ? &after : &before);
    }
}

/* Through several generations the bucket stays the same, also when those between are gone. */
static void test_many_generations(void **state)
{
    struct generation now = generation_new("p: [" LIMIT("a", "25") "]", 1);
    unsigned kept = kept_of_ten(now.set);

    (void)state;
    for (uint64_t number = 2; number < 8; number++) {
        struct generation next = generation_new(number % 2 ? "p: [" LIMIT("a", "25") "]" : "p: [" OTHER ", " LIMIT("a", "25") "]", number);

        policy_set_inherit(next.set, next.policies, now.set, now.policies);
        generation_end(&now);
        now = next;
        kept += kept_of_ten(now.set);
    }
    assert_int_equal(kept, 25);
    generation_end(&now);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_inherit), cmocka_unit_test(test_many_generations)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
