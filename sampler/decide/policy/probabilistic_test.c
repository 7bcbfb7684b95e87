/* The numbers behind `probabilistic` are the Collector's, bit for bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/hash.h"
#include "common/config/yaml.h"
#include "sampler/decide/policy.h"
#include "sampler/decide/policy/probabilistic.h"
#include "sampler/decide/predicate.h"

/* A percentage becomes the Collector's hash limit, rounding and saturation included. */
static void test_hash_limit(void **state)
{
    static const struct {
        double percentage;
        uint64_t limit;
    } cases[] = {
        {0.1, 0x004189374bc6a7efull},
        {1, 0x028f5c28f5c28f5full},
        {5, 0x0cccccccccccccffull},
        {10, 0x19999999999999ffull},
        {25, 0x3fffffffffffffffull},
        {33.3, 0x553f7ced91686fffull},
        {50, 0x7fffffffffffffffull},
        {99.99, 0xfff972474538e7ffull},
        {100, UINT64_MAX},
        {100.5, UINT64_MAX},
        {1e300, UINT64_MAX},
        {(double)INFINITY, UINT64_MAX},
        {0, 0},
        {-1, 0},
        {-(double)INFINITY, 0},
        {5e-324, 0},        /* ratio is 0 */
        {1e-307, 0},        /* a ratio far below 2^-64 */
        {0x1p-64 * 100, 0}, /* (2^64 - 1) / 2^64 rounds to 64 bits, then is cut to 0 */
        {0x1p-63 * 100, 1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        uint64_t limit = probabilistic_hash_limit(cases[i].percentage);

        if (limit != cases[i].limit)
            fail_msg("%.17g %%: 0x%016llx, expected 0x%016llx", cases[i].percentage,
                (unsigned long long)limit, (unsigned long long)cases[i].limit);
    }
    /* The largest ratio below 1 stays below the limit that keeps all. */
    assert_true(probabilistic_hash_limit(nextafter(100, 0)) < UINT64_MAX);
}

/* A salt and an ID hash as in the Collector. */
static void test_hash(void **state)
{
    static const struct trace_id one = {{[15] = 1}};
    static const struct trace_id other = {{0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3,
        0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36}};
    static const struct {
        const char *salt;
        const struct trace_id *id;
        uint64_t hash;
    } cases[] = {
        {"default-hash-seed", &one, 0xe19535eed1bbaa8aull},
        {"default-hash-seed", &other, 0xa54533ba2e4970b5ull},
        {"custom-salt", &one, 0x1211e05596f5af32ull},
        {"custom-salt", &other, 0xfcb74addd5ed06fdull},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        uint64_t salt_state = hash_fnv1a(FNV1A_64_START, cases[i].salt, strlen(cases[i].salt));
        uint64_t hash = probabilistic_hash(salt_state, cases[i].id);

        if (hash != cases[i].hash)
            fail_msg("case %zu (%s): 0x%016llx, expected 0x%016llx", i, cases[i].salt,
                (unsigned long long)hash, (unsigned long long)cases[i].hash);
    }
}

/* The sampling threshold, which gives the credit, is 2^56 less the share, halves rounded away from zero. */
static void test_threshold(void **state)
{
    static const struct {
        double percentage;
        uint64_t threshold;
    } cases[] = {
        {100, 0},
        {250, 0},
        {50, 0x80000000000000ull},
        {25, 0xc0000000000000ull},
        {10, 0xe6666666666666ull},
        {0, SAMPLING_NEVER},
        {-3, SAMPLING_NEVER},
        {0x1p-56 * 100, SAMPLING_NEVER - 1},
        {0x1p-57 * 100, SAMPLING_NEVER},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        uint64_t threshold = probabilistic_threshold(cases[i].percentage);

        if (threshold != cases[i].threshold)
            fail_msg("%.17g %%: %014llx, expected %014llx", cases[i].percentage,
                (unsigned long long)threshold, (unsigned long long)cases[i].threshold);
    }
}

/* A first byte with which the hash of the ID is above half: the hash says no. */
static uint8_t salted_high(const struct trace_id *id)
{
    uint64_t salt_state = hash_fnv1a(FNV1A_64_START, "default-hash-seed", strlen("default-hash-seed"));
    struct trace_id tried = *id;

    for (unsigned byte = 0; byte < 256; byte++) {
        tried.bytes[0] = (uint8_t)byte;
        if (probabilistic_hash(salt_state, &tried) > probabilistic_hash_limit(50))
            return (uint8_t)byte;
    }
    fail_msg("no byte does");
    return 0;
}

/* Where spans carry rv or th, their randomness (or the ID's last 56 bits) is compared with the threshold; without them, and
 * without the gate, the hash decides. The policy's threshold is the vote's in each case. */
static void test_tracestate(void **state)
{
    static const struct {
        const char *what;
        bool use_tracestate;
        struct ot_facts ot;
        uint64_t id_low;
        bool sampled;
    } cases[] = {
        {"at the threshold", true, {.randomness = 0x80000000000000ull, .has_randomness = 1, .has_info = 1}, 0, true},
        {"below it", true, {.randomness = 0x7fffffffffffffull, .has_randomness = 1, .has_info = 1}, 0, false},
        {"th alone: the ID's randomness", true, {.has_info = 1}, 0x80000000000000ull, true},
        {"th alone, a low ID", true, {.has_info = 1}, 0x7fffffffffffffull, false},
        {"without the gate the hash", false, {.randomness = 0x80000000000000ull, .has_randomness = 1, .has_info = 1}, 0, false},
        {"nothing said: the hash, in spite of the ID", true, {.has_info = 0}, 0xffffffffffffffull, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct config_context *context = config_context_new();
        struct policy_needs needs = {.state = false};
        struct predicate_builder *builder = predicate_builder_new();
        const struct policy_prepare prepare = {
            .context = context, .name = "p", .builder = builder, .needs = &needs, .use_tracestate = cases[i].use_tracestate};
        const char *yaml = "name: p\ntype: probabilistic\nprobabilistic: {sampling_percentage: 50}\n";
        struct trace_id id = {{0}};
        const struct facts facts = {.ot = cases[i].ot};
        struct policy policy = {0};
        struct vote vote;

        for (unsigned byte = 0; byte < 7; byte++)
            id.bytes[15 - byte] = (uint8_t)(cases[i].id_low >> (8 * byte));
        id.bytes[0] = salted_high(&id);
        if (policy_read(&prepare, config_load_text(context, "test.yaml", yaml, strlen(yaml)), POLICY_AT_TOP, &policy) != 0)
            fail_msg("%s", config_errors(context));
        vote = policy_evaluate(&policy, &(struct verdict_input){.trace_id = &id, .facts = &facts});
        if (vote.decision != (cases[i].sampled ? DECISION_SAMPLED : DECISION_NOT_SAMPLED))
            fail_msg("%s: %s", cases[i].what, decision_name(vote.decision));
        assert_int_equal(vote.threshold, 0x80000000000000ull);
        policy_deinit(&policy);
        predicate_builder_free(builder);
        config_context_free(context);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash_limit),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_threshold),
        cmocka_unit_test(test_tracestate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
