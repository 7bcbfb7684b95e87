/* A trace is decided before it is complete only when no further span can change the decision; and which policies the
 * Collector calls stateful. */
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

#define P(name, rest)   "  - {name: " name ", " rest "}\n"
#define ERROR_          "type: status_code, status_code: {status_codes: [ERROR]}"
#define INVERTED        "type: boolean_attribute, boolean_attribute: {key: k, value: true, invert_match: true}"
#define LATENCY(bounds) "type: latency, latency: {" bounds "}"
#define COUNT(bounds)   "type: span_count, span_count: {" bounds "}"
#define ALL             "type: always_sample"
#define NOT(sub)        "type: not, not: {not_sub_policy: {" sub "}}"
#define AND(subs)       "type: and, and: {and_sub_policy: [" subs "]}"
#define DROP(subs)      "type: drop, drop: {drop_sub_policy: [" subs "]}"
#define RATE            "type: rate_limiting, rate_limiting: {spans_per_second: 1000}"
#define COMPOSITE(sub)  "type: composite, composite: {max_total_spans_per_second: 9, composite_sub_policy: [{name: s, " sub "}]}"

static struct policy_set *load(const char *policies)
{
    struct config_context *context = config_context_new();
    struct policy_set *set = NULL;
    const struct config_node *root;
    char yaml[4096];

    (void)snprintf(yaml, sizeof(yaml), "policies:\n%s", policies);
    root = config_load_text(context, "test.yaml", yaml, strlen(yaml));
    if (!root || policy_set_new(context, config_node_get(root, "policies"), false, 1, &set) != 0)
        fail_msg("%s", config_errors(context));
    config_context_free(context);
    return set;
}

static void test_early(void **state)
{
    static const struct {
        const char *policies;
        const char *by;      /* NULL: it must wait */
        bool hits;           /* every question was answered with yes */
        bool is_dropped, has_no_start;
    } cases[] = {
        {"", NULL, true, false, false},
        {P("a", ALL), "a", false, false, false},
        {P("a", ERROR_), "a", true, false, false},
        {P("a", ERROR_), NULL, false, false, false},
        {P("a", INVERTED), NULL, false, false, false},
        {P("a", INVERTED) P("b", ERROR_), "b", true, false, false},
        {P("a", LATENCY("threshold_ms: 50")), "a", false, false, false},
        {P("a", LATENCY("threshold_ms: 50")), NULL, false, false, true},
        {P("a", LATENCY("threshold_ms: 500")), NULL, false, false, false},
        {P("a", LATENCY("threshold_ms: 50, upper_threshold_ms: 500")), NULL, false, false, false},
        {P("a", COUNT("min_spans: 3")), "a", false, false, false},
        {P("a", COUNT("min_spans: 4")), NULL, false, false, false},
        {P("a", COUNT("min_spans: 3, max_spans: 9")), NULL, false, false, false},
        {P("a", NOT(ERROR_)), NULL, false, false, false},
        {P("a", AND("{" ERROR_ "}, {" COUNT("min_spans: 2") "}")), "a", true, false, false},
        {P("a", AND("{" ALL "}, {" NOT(ERROR_) "}")), NULL, false, false, false},
        {P("a", AND("")), "a", false, false, false},
        {P("a", COMPOSITE(ALL)), NULL, false, false, false},
        {P("a", RATE), NULL, false, false, false},
        /* of two the first */
        {P("a", ERROR_) P("b", ALL), "a", true, false, false},
        {P("a", NOT(ERROR_)) P("b", ALL), "b", false, false, false},
        /* what may still be dropped waits; what is dropped for good does not */
        {P("a", ALL) P("d", DROP("{" ERROR_ "}")), NULL, false, false, false},
        {P("a", ALL) P("d", DROP("{" ERROR_ "}")), "d", true, true, false},
        {P("a", ALL) P("d", DROP("{" NOT(ERROR_) "}")), NULL, false, false, false},
        {P("d", DROP("")), "d", false, true, false},
    };
    const struct trace_id id = {{1}};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct policy_set *set = load(cases[i].policies);
        struct facts facts = {.spans_count = 3, .min_start_unix_ns = cases[i].has_no_start ? 0 : 1,
            .max_end_unix_ns = 100 * NS_PER_MS + 1};
        const struct verdict_input input = {.trace_id = &id, .facts = &facts};
        struct policy_votes votes[4] = {{0}};
        struct decided decided;
        bool early;

        if (cases[i].hits)
            memset(&facts.hits, 0xff, sizeof(facts.hits));
        early = policy_set_decide_early(set, &input, votes, &decided);
        if (early != (cases[i].by != NULL))
            fail_msg("case %zu: %s", i, early ? policy_set_name(set, decided.policy) : "waits");
        if (early) {
            assert_string_equal(policy_set_name(set, decided.policy), cases[i].by);
            assert_int_equal(decided.decision, cases[i].is_dropped ? DECISION_DROPPED : DECISION_SAMPLED);
            assert_int_equal(votes[decided.policy].sampled + votes[decided.policy].dropped, 1);
        }
        policy_set_unref(set);
    }
}

static void test_stateful(void **state)
{
    static const struct {
        const char *policies;
        const char *stateful; /* the first; NULL: none */
    } cases[] = {
        {P("a", ERROR_) P("b", NOT(ERROR_)) P("c", INVERTED) P("d", DROP("")), NULL},
        {P("a", RATE), "a"},
        {P("a", "type: bytes_limiting"), "a"},
        {P("a", LATENCY("threshold_ms: 5")), NULL},
        {P("a", LATENCY("upper_threshold_ms: 5")), "a"},
        {P("a", LATENCY("upper_threshold_ms: -5")), NULL},
        {P("a", COUNT("min_spans: 5")), NULL},
        {P("a", ALL) P("b", COUNT("max_spans: 5")), "b"},
        {P("a", AND("{" ALL "}, {" RATE "}")), "a"},
        {P("a", AND("{" ALL "}, {" NOT(RATE) "}")), "a"},
        {P("a", DROP("{" RATE "}")), "a"},
        {P("a", NOT(COUNT("max_spans: 5"))), "a"},
        {P("a", COMPOSITE(ALL)), NULL},
        {P("a", COMPOSITE(AND("{" RATE "}"))), "a"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct policy_set *set = load(cases[i].policies);
        const char *stateful = policy_set_stateful(set);

        if ((stateful == NULL) != (cases[i].stateful == NULL) || (stateful && strcmp(stateful, cases[i].stateful) != 0))
            fail_msg("case %zu: %s", i, stateful ? stateful : "none");
        policy_set_unref(set);
    }
}

/* What stands inside a policy needs what it would need outside. */
static void test_needs(void **state)
{
    static const struct {
        const char *policies;
        bool state, wall_clock, cost;
    } cases[] = {
        {P("a", ERROR_), false, false, false},
        {P("a", RATE), true, false, false},
        {P("a", AND("{" NOT(RATE) "}")), true, false, false},
        {P("a", COMPOSITE(ALL)), true, true, false},
        {P("a", DROP("{" NOT("type: bytes_limiting") "}")), true, false, true},
        {P("a", COMPOSITE(AND("{type: bytes_limiting}"))), true, true, true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct policy_set *set = load(cases[i].policies);
        const struct policy_needs *needs = policy_set_needs(set);

        if (needs->state != cases[i].state || needs->wall_clock != cases[i].wall_clock || needs->cost != cases[i].cost)
            fail_msg("case %zu", i);
        policy_set_unref(set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_early),
        cmocka_unit_test(test_stateful),
        cmocka_unit_test(test_needs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
