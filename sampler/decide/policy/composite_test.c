/* Within a second each policy inside keeps as many spans as it was given, and not one more; a new second begins anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/num.h"
#include "common/config/yaml.h"
#include "sampler/decide/policy_set.h"

#define START_UNIX_NS (1700000000 * NS_PER_S)

enum kind { NUM, STR, REST };

struct asked {
    uint64_t unix_ns; /* since the start */
    uint32_t spans;
    enum kind kind;
    bool kept;
};

static const char policies[] =
    "policies:\n"
    "  - name: c\n"
    "    type: composite\n"
    "    composite:\n"
    "      max_total_spans_per_second: 20\n"
    "      policy_order: [rest, num]\n"
    "      composite_sub_policy:\n"
    "        - {name: num, type: numeric_attribute, numeric_attribute: {key: k, min_value: 50}}\n"
    "        - {name: str, type: string_attribute, string_attribute: {key: k, values: [v]}}\n"
    "        - {name: rest, type: always_sample}\n"
    "      rate_allocation: [{policy: num, percent: 50}, {policy: str, percent: 10}]\n";

static struct policy_set *new_set(void)
{
    struct config_context *context = config_context_new();
    const struct config_node *root = config_load_text(context, "test.yaml", policies, strlen(policies));
    struct policy_set *set = NULL;

    if (!root || policy_set_new(context, config_node_get(root, "policies"), false, 1, &set) != 0)
        fail_msg("%s", config_errors(context));
    config_context_free(context);
    return set;
}

static bool is_kept(const struct policy_set *set, const struct asked *asked)
{
    const struct trace_id id = {{1}};
    struct facts facts = {.spans_count = asked->spans};

    if (asked->kind != REST)
        hits_set(&facts.hits, asked->kind); /* bits in the order of the questions */
    return policy_set_decide(set, &(struct verdict_input){.trace_id = &id, .facts = &facts,
                                      .now_unix_ns = START_UNIX_NS + asked->unix_ns})
               .decision == DECISION_SAMPLED;
}

static void test_seconds(void **state)
{
    static const struct asked asked[] = {
        {0, 4, NUM, true},  /* 0 of 10 before */
        {0, 3, REST, true}, /* 0 of 6: a third of 20, cut */
        {0, 8, NUM, false}, /* 4 of 10 */
        {0, 2, STR, true},  /* 0 of 2 */
        {0, 1, NUM, true},  /* 4 of 10: what was refused cost nothing */
        {0, 1, REST, true}, /* 3 of 6 */
        {0, 5, NUM, true},  /* 5 of 10 */
        {0, 1, REST, true}, /* 4 of 6 */
        {0, 12, NUM, false}, /* 10 of 10 */
        {0, 1, STR, false}, /* 2 of 2 */
        {0, 2, NUM, false},
        {0, 1, REST, true}, /* 5 of 6 */
        {NS_PER_S - 1, 1, REST, false}, /* still the same second */
        {NS_PER_S, 6, REST, true},      /* a new one */
        {NS_PER_S, 1, REST, false},
        {NS_PER_S - 1, 1, REST, false}, /* read a moment ago by another worker: no new second */
        {NS_PER_S, 10, NUM, true},
        {NS_PER_S, 1, NUM, false},
        {100 * NS_PER_S, 10, NUM, true},
        {10 * NS_PER_S, 10, NUM, true}, /* the clock was set back */
        {10 * NS_PER_S, 1, NUM, false},
        {11 * NS_PER_S, 11, NUM, false}, /* more than its share never */
    };
    struct policy_set *set = new_set();

    (void)state;
    assert_true(policy_set_needs(set)->state && policy_set_needs(set)->wall_clock);
    assert_null(policy_set_stateful(set)); /* its own counters do not count there */
    for (size_t i = 0; i < ARRAY_COUNT(asked); i++)
        if (is_kept(set, &asked[i]) != asked[i].kept)
            fail_msg("ask %zu", i);
    policy_set_unref(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_seconds)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
