/* Votes become one decision as the reference says, and what is wrong with a list of policies is said with its place.
 *
 * The registry here is this test's own (the library's is left out by the linker): next to real types it has ones that say
 * what they are told to, to reach what no policy of this release does. */
#include "sampler/decide/policy_set.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/config/yaml.h"

struct says {
    int64_t decision, threshold;
    char *bit_of;
    uint32_t bit;
};

static unsigned asked_count, deinit_count;

static const struct config_key says_keys[] = {
    CONFIG_KEY(struct says, decision, CONFIG_INT, "an enum decision"),
    CONFIG_KEY(struct says, threshold, CONFIG_INT, "of the vote"),
    {0},
};

static void says_defaults(void *self)
{
    ((struct says *)self)->decision = DECISION_NOT_SAMPLED;
}

static struct vote says_evaluate(const void *self, const struct verdict_input *input)
{
    const struct says *says = self;

    (void)input;
    asked_count++;
    return (struct vote){(enum decision)says->decision, (uint64_t)says->threshold, 7, NULL};
}

static void says_deinit(void *self)
{
    (void)self;
    deinit_count++;
}

static const struct policy_type says_type = {.name = "says", .size = sizeof(struct says), .keys = says_keys,
    .defaults = says_defaults, .evaluate = says_evaluate, .deinit = says_deinit};
static const struct policy_type first_type = {.name = "says_first", .goes_first = true, .size = sizeof(struct says), .keys = says_keys,
    .defaults = says_defaults, .evaluate = says_evaluate, .deinit = says_deinit};

/* Yes for traces with a root, or a drop. */
static struct vote roots_evaluate(const void *self, const struct verdict_input *input)
{
    (void)self;
    return vote_filter(input->facts->root_seen, UINT32_MAX);
}

static struct vote drops_evaluate(const void *self, const struct verdict_input *input)
{
    (void)self;
    return (struct vote){input->facts->root_seen ? DECISION_NOT_SAMPLED : DECISION_DROPPED, 0, UINT32_MAX, NULL};
}

static const struct policy_type roots_type = {.name = "roots", .size = 1, .evaluate = roots_evaluate};
static const struct policy_type drops_type = {.name = "drops_rootless", .goes_first = true, .size = 1, .evaluate = drops_evaluate};

extern const struct policy_type policy_always_sample, policy_and, policy_not, policy_probabilistic, policy_rate_limiting, policy_string_attribute;
const struct policy_type *const policy_types[] = {&policy_always_sample, &policy_and, &policy_not, &policy_probabilistic,
    &policy_rate_limiting, &policy_string_attribute, &says_type, &first_type, &roots_type, &drops_type, NULL};

static int load(struct config_context *context, const char *yaml, bool first_match, struct policy_set **out_set)
{
    const struct config_node *root = config_load_text(context, "test.yaml", yaml, strlen(yaml));

    if (!root)
        fail_msg("%s", config_errors(context));
    return policy_set_new(context, config_node_get(root, "policies"), first_match, 42, out_set);
}

#define SAYS(name, decision, threshold) "  - {name: " name ", type: says, says: {decision: " decision ", threshold: " threshold "}}\n"
#define FIRST(name, decision) "  - {name: " name ", type: says_first, says_first: {decision: " decision "}}\n"
/* enum decision: 1 sampled, 2 not, 3 dropped, 4 error */

/* Drop policies go first wherever they stand; errors are skipped; the smallest threshold takes the credit, ties go to the
 * earlier; with first match the rest is not asked. */
static void test_decide(void **state)
{
    static const struct {
        const char *policies;
        bool first_match;
        enum decision decision;
        const char *credited;
        unsigned asked;
        uint32_t errors;
    } cases[] = {
        {"", false, DECISION_NOT_SAMPLED, "", 0, 0},
        {SAYS("a", "2", "0") SAYS("b", "2", "0"), false, DECISION_NOT_SAMPLED, "", 2, 0},
        {SAYS("a", "1", "5") SAYS("b", "2", "0"), false, DECISION_SAMPLED, "a", 2, 0},
        {SAYS("a", "1", "5") SAYS("b", "1", "0"), false, DECISION_SAMPLED, "b", 2, 0},
        {SAYS("a", "1", "5") SAYS("b", "1", "5"), false, DECISION_SAMPLED, "a", 2, 0},
        {SAYS("a", "1", "5") SAYS("b", "1", "0") SAYS("c", "1", "3"), false, DECISION_SAMPLED, "b", 3, 0},
        {SAYS("a", "1", "72057594037927936"), false, DECISION_SAMPLED, "a", 1, 0},
        {SAYS("a", "1", "5") SAYS("b", "1", "0"), true, DECISION_SAMPLED, "a", 1, 0},
        {SAYS("a", "2", "5") SAYS("b", "1", "9") SAYS("c", "1", "0"), true, DECISION_SAMPLED, "b", 2, 0},
        {SAYS("a", "4", "0") SAYS("b", "1", "0"), false, DECISION_SAMPLED, "b", 2, 1},
        {SAYS("a", "4", "0") SAYS("b", "4", "0"), false, DECISION_NOT_SAMPLED, "", 2, 2},
        {SAYS("a", "1", "0") FIRST("d", "3"), false, DECISION_DROPPED, "d", 1, 0},
        {SAYS("a", "1", "0") FIRST("d", "3"), true, DECISION_DROPPED, "d", 1, 0},
        {SAYS("a", "1", "0") FIRST("d", "2"), false, DECISION_SAMPLED, "a", 2, 0},
        {SAYS("a", "1", "0") FIRST("d", "2") FIRST("e", "3"), false, DECISION_DROPPED, "e", 2, 0},
        {SAYS("a", "1", "0") FIRST("d", "4"), false, DECISION_SAMPLED, "a", 2, 1},
        {SAYS("a", "1", "0") SAYS("b", "3", "0"), false, DECISION_DROPPED, "b", 2, 0},
    };
    const struct trace_id id = {{1}};
    const struct facts facts = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct config_context *context = config_context_new();
        struct policy_votes votes[4] = {{0}};
        struct policy_set *set = NULL;
        struct decided decided;
        char yaml[1024];
        uint64_t counted = 0;

        (void)snprintf(yaml, sizeof(yaml), "policies:\n%s", cases[i].policies);
        if (load(context, yaml, cases[i].first_match, &set) != 0)
            fail_msg("case %zu: %s", i, config_errors(context));
        config_context_free(context); /* the set needs nothing of it */
        asked_count = 0;
        decided = policy_set_decide_counted(set, &(struct verdict_input){.trace_id = &id, .facts = &facts}, votes);
        if (decided.decision != cases[i].decision || strcmp(policy_set_name(set, decided.policy), cases[i].credited) != 0)
            fail_msg("case %zu: %s by %s", i, decision_name(decided.decision), policy_set_name(set, decided.policy));
        assert_int_equal(asked_count, cases[i].asked);
        assert_int_equal(decided.error_count, cases[i].errors);
        assert_int_equal(decided.evidence_bit, cases[i].credited[0] ? 7 : UINT32_MAX);
        for (size_t j = 0; j < ARRAY_COUNT(votes); j++)
            counted += votes[j].sampled + votes[j].not_sampled + votes[j].dropped + votes[j].errors;
        assert_int_equal(counted, cases[i].asked);
        assert_int_equal(policy_set_decide(set, &(struct verdict_input){.trace_id = &id, .facts = &facts}).decision, cases[i].decision);
        policy_set_unref(set);
    }
}

/* Each vote is counted for its own policy, by what it said. */
static void test_votes(void **state)
{
    struct config_context *context = config_context_new();
    const struct trace_id id = {{1}};
    const struct facts facts = {0};
    struct policy_votes votes[4] = {{0}};
    struct policy_set *set = NULL;

    (void)state;
    assert_int_equal(load(context, "policies:\n" SAYS("a", "1", "0") SAYS("b", "2", "0") SAYS("c", "4", "0") FIRST("d", "2"), false, &set), 0);
    assert_int_equal(policy_set_count(set), 4);
    assert_int_equal(policy_set_generation(set), 42);
    for (unsigned i = 0; i < 3; i++)
        (void)policy_set_decide_counted(set, &(struct verdict_input){.trace_id = &id, .facts = &facts}, votes);
    assert_int_equal(votes[0].sampled, 3);
    assert_int_equal(votes[1].not_sampled, 3);
    assert_int_equal(votes[2].errors, 3);
    assert_int_equal(votes[3].not_sampled, 3);
    assert_int_equal(votes[0].not_sampled + votes[0].errors + votes[0].dropped, 0);
    assert_string_equal(policy_set_name(set, 2), "c");
    policy_set_unref(set);
    config_context_free(context);
}

/* The last reference frees the set and each policy once; nothing does so before. */
static void test_references(void **state)
{
    struct config_context *context = config_context_new();
    struct policy_set *set = NULL;

    (void)state;
    assert_int_equal(load(context, "policies:\n" SAYS("a", "1", "0") SAYS("b", "1", "0"), false, &set), 0);
    config_context_free(context);
    deinit_count = 0;
    assert_ptr_equal(policy_set_ref(set), set);
    policy_set_unref(set);
    assert_int_equal(deinit_count, 0);
    assert_string_equal(policy_set_name(set, 1), "b");
    policy_set_unref(set);
    assert_int_equal(deinit_count, 2);
    policy_set_unref(NULL);
}

/* What is refused is refused with file, line and the policy's name, and with what would be right. */
static void test_refused(void **state)
{
    static const struct {
        const char *yaml;
        const char *words[3];
    } cases[] = {
        {"policies: 5\n", {"test.yaml:1", "expected a list of policies"}},
        {"policies: {name: a, type: says}\n", {"test.yaml:1", "expected a list of policies"}},
        {"policies:\n  - 5\n", {"test.yaml:2", "expected a policy"}},
        {"policies:\n  -\n", {"test.yaml:2", "expected a policy"}},
        {"policies:\n  - {name: a, type: 5}\n", {"test.yaml:2", "type", "expected text"}},
        {"policies:\n  - {name: a, type: says}\n\n  - {name: a, type: says}\n", {"test.yaml:4", "duplicate policy name \"a\""}},
        {"policies:\n  - {name: a, type: alwayssample}\n",
            {"test.yaml:2", "failed to create policy evaluator for \"a\": unknown sampling policy type alwayssample", "did you mean always_sample?"}},
        {"policies:\n  - {name: a, type: zzz}\n", {"unknown sampling policy type zzz; known are", "string_attribute"}},
        {"policies:\n  - {name: a}\n", {"unknown sampling policy type: none is given; known are always_sample"}},
        {"policies:\n  - {name: a, type: my_company, my_company: {x: 1}}\n", {"unknown sampling policy type my_company; were it an extension's"}},
        {"policies:\n  - {name: a, type: probabilistic, probabilistic: {sampling_percentage: .nan}}\n",
            {"failed to create policy evaluator for \"a\": sampling_percentage is not a number"}},
        {"policies:\n  - {name: a, type: says, says: {decison: 1}}\n", {"decison", "decision"}},
        {"policies:\n  - {name: a, type: says, other: [1]}\n", {"test.yaml:2", "other", "expected a map"}},
        /* both of two faults */
        {"policies:\n  - {name: a, type: x}\n  - {name: b, type: y}\n", {"test.yaml:2", "test.yaml:3", "for \"b\": unknown"}},
        {"policies:\n  - {name: a, type: string_attribute, string_attribute: {key: k, values: ['('], enabled_regex_matching: true}}\n",
            {"test.yaml:2", "invalid regex `(`"}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct config_context *context = config_context_new();
        struct policy_set *set = NULL;

        if (load(context, cases[i].yaml, false, &set) != CONFIG_E_INVALID)
            fail_msg("accepted: %s", cases[i].yaml);
        assert_null(set);
        for (size_t j = 0; j < ARRAY_COUNT(cases[i].words) && cases[i].words[j]; j++)
            if (!strstr(config_errors(context), cases[i].words[j]))
                fail_msg("`%s` is not in: %s", cases[i].words[j], config_errors(context));
        config_context_free(context);
    }
}

/* More questions than there are bits are refused; as many as there are bits are not. */
static void test_too_many(void **state)
{
    (void)state;
    for (unsigned count = PREDICATES_MAX; count <= PREDICATES_MAX + 1; count++) {
        struct config_context *context = config_context_new();
        struct policy_set *set = NULL;
        static char yaml[64 * 1024];
        size_t len = (size_t)snprintf(yaml, sizeof(yaml), "policies:\n");
        int r;

        for (unsigned i = 0; i < count; i++)
            len += (size_t)snprintf(yaml + len, sizeof(yaml) - len,
                "  - {name: p%u, type: string_attribute, string_attribute: {key: k%u, values: [v]}}\n", i, i);
        assert_true(len < sizeof(yaml) - 1);
        r = load(context, yaml, false, &set);
        if (count == PREDICATES_MAX) {
            assert_int_equal(r, 0);
        } else {
            assert_int_equal(r, CONFIG_E_INVALID);
            assert_non_null(strstr(config_errors(context), "failed to create policy evaluator for \"p256\": all policies together ask more than 256"));
        }
        policy_set_unref(set);
        config_context_free(context);
    }
}

/* What is accepted without effect is said. */
static void test_warned(void **state)
{
    static const char *const yamls[] = {
        "policies:\n  - {name: a, type: says, extra: {x: 1}}\n",
        "policies:\n  - {name: a, type: says, probabilistic: {sampling_percentage: 5}}\n",
        "policies:\n  - {name: a, type: always_sample, always_sample: {x: 1}}\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(yamls); i++) {
        struct config_context *context = config_context_new();
        struct policy_set *set = NULL;

        assert_int_equal(load(context, yamls[i], false, &set), 0);
        if (!strstr(config_warnings(context), "has no effect: the policy's type is"))
            fail_msg("not warned of: %s", yamls[i]);
        policy_set_unref(set);
        config_context_free(context);
    }
}

#define GATE "processor.tailsamplingprocessor.usetracestate"
#define LIMIT(tokens) "type: rate_limiting, rate_limiting: {spans_per_second: 1, burst_capacity: " tokens "}}"

#define NONE DECISION_NOT_SAMPLED
#define KEPT DECISION_SAMPLED
#define DROP DECISION_DROPPED

/* Traces that are due together: those that are dropped are out of it; the others' limiters are weighed, at the top and
 * directly inside `and`, there over what its other policies want; everywhere else a limiter is a plain bucket. */
static void test_batch(void **state)
{
    static const struct {
        uint64_t randomness;
        bool has_root;
    } traces[] = {{10, true}, {50, false}, {30, true}, {40, false}, {20, true}};
    static const struct {
        const char *what, *policies;
        bool batch;
        enum decision decisions[ARRAY_COUNT(traces)];
        uint64_t threshold; /* of those that are kept */
    } cases[] = {
        {"the highest three", "  - {name: r, " LIMIT("3") "\n", true, {NONE, KEPT, KEPT, KEPT, NONE}, 21},
        {"what is dropped spends nothing", "  - {name: r, " LIMIT("2") "\n  - {name: d, type: drops_rootless}\n", true,
            {NONE, DROP, KEPT, DROP, KEPT}, 11},
        {"in `and`, candidates of the others", "  - {name: a, type: and, and: {and_sub_policy: [{name: w, type: roots}, {name: r, " LIMIT("2") "]}}\n",
            true, {NONE, NONE, KEPT, NONE, KEPT}, 11},
        {"in `and`, the limiter first", "  - {name: a, type: and, and: {and_sub_policy: [{name: r, " LIMIT("1") ", {name: w, type: roots}]}}\n",
            true, {NONE, NONE, KEPT, NONE, NONE}, 21},
        {"two limiters, each of its own", "  - {name: r, " LIMIT("1") "\n  - {name: s, " LIMIT("1") "\n", true, {NONE, KEPT, NONE, NONE, NONE}, 41},
        {"in `not`, a plain bucket", "  - {name: n, type: not, not: {not_sub_policy: {name: r, " LIMIT("3") "}}\n", false,
            {NONE, NONE, NONE, KEPT, KEPT}, 0},
    };
    struct trace_id ids[ARRAY_COUNT(traces)] = {{{0}}};
    struct facts facts[ARRAY_COUNT(traces)];
    struct verdict_input inputs[ARRAY_COUNT(traces)];

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(traces); i++) {
        facts[i] = (struct facts){.spans_count = 1, .root_seen = traces[i].has_root};
        ids[i].bytes[15] = (uint8_t)traces[i].randomness;
        inputs[i] = (struct verdict_input){.trace_id = &ids[i], .facts = &facts[i], .now_ns = 1000000000};
    }
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct config_context *context = config_context_new();
        struct decided decided[ARRAY_COUNT(traces)];
        struct policy_votes votes[4] = {{0}};
        struct policy_set *set = NULL;
        char yaml[1024];

        (void)snprintf(yaml, sizeof(yaml), "policies:\n%s", cases[i].policies);
        config_gates_set(context, GATE);
        if (load(context, yaml, false, &set) != 0)
            fail_msg("%s: %s", cases[i].what, config_errors(context));
        config_context_free(context);
        assert_int_equal(policy_set_needs(set)->batch, cases[i].batch);
        assert_int_equal(policy_set_decide_batch(set, inputs, ARRAY_COUNT(traces), votes, decided), 0);
        for (size_t j = 0; j < ARRAY_COUNT(traces); j++)
            if (decided[j].decision != cases[i].decisions[j] || (decided[j].decision == KEPT && decided[j].threshold != cases[i].threshold))
                fail_msg("%s: trace %zu is %s, threshold %llx", cases[i].what, j, decision_name(decided[j].decision),
                    (unsigned long long)decided[j].threshold);
        assert_int_equal(policy_set_decide_batch(set, inputs, 0, votes, decided), 0);
        policy_set_unref(set);
    }
}

/* Without the gate no set asks to be weighed. */
static void test_no_batch(void **state)
{
    struct config_context *context = config_context_new();
    struct policy_set *set = NULL;

    (void)state;
    assert_int_equal(load(context, "policies:\n  - {name: r, " LIMIT("3") "\n", false, &set), 0);
    assert_false(policy_set_needs(set)->batch);
    policy_set_unref(set);
    config_context_free(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decide),
        cmocka_unit_test(test_votes),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_too_many),
        cmocka_unit_test(test_warned),
        cmocka_unit_test(test_batch),
        cmocka_unit_test(test_no_batch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
