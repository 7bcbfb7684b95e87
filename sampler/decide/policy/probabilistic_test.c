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
#include "sampler/decide/policy.h"
#include "sampler/decide/policy/probabilistic.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash_limit),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_threshold),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
