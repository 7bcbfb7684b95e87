/* Retries come when the Collector's retry_on_failure would have them: exponential within the jitter, never before
 * the server's own wish, never past max_elapsed_time, and never more often than the budget allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/export/retry.h"
#include "common/export/rpc_code.h"

#define MS NS_PER_MS
#define S NS_PER_S

static struct retry_options steady(void) /* without jitter */
{
    struct retry_options options = retry_defaults();

    options.randomization_factor = 0;
    return options;
}

static void test_defaults(void **state)
{
    struct retry_options options = retry_defaults();

    (void)state;
    assert_true(options.enabled);
    assert_int_equal(options.initial_interval_ns, 5 * S);
    assert_int_equal(options.max_interval_ns, 30 * S);
    assert_int_equal(options.max_elapsed_time_ns, 0);
    assert_true(options.multiplier > 1.49 && options.multiplier < 1.51);
    assert_true(options.randomization_factor > 0.49 && options.randomization_factor < 0.51);
}

/* Each failure comes at the time the retry was due. */
static void test_schedule(void **state)
{
    static const struct {
        const char *what;
        uint64_t initial_ns, max_ns, elapsed_ns, named_ns;
        double multiplier;
        uint64_t delays_ns[7]; /* then 0: gives up, UINT64_MAX: not looked at */
    } cases[] = {
        {"the Collector's defaults without end", 5 * S, 30 * S, 0, 0, 1.5,
            {5 * S, 7500 * MS, 11250 * MS, 16875 * MS, 25312500000ull, 30 * S, 30 * S}},
        {"ends by max_elapsed_time, counted from the first attempt", 5 * S, 30 * S, 24 * S, 0, 1.5,
            {5 * S, 7500 * MS, 11250 * MS, 0, UINT64_MAX}},
        {"exactly at max_elapsed_time is still tried", 1 * S, 8 * S, 3 * S, 0, 2,
            {1 * S, 2 * S, 0, UINT64_MAX}},
        {"the server's delay wins when longer", 1 * S, 8 * S, 0, 3 * S, 2, {3 * S, 3 * S, 4 * S, 8 * S, UINT64_MAX}},
        {"the server's delay counts against the end", 1 * S, 8 * S, 2 * S, 3 * S, 2, {0, UINT64_MAX}},
        {"an initial interval above the maximum holds once", 9 * S, 2 * S, 0, 0, 2, {9 * S, 2 * S, 2 * S, UINT64_MAX}},
        {"no interval at all is no tight loop", 0, 0, 0, 0, 0,
            {RETRY_DELAY_MIN_NS, RETRY_DELAY_MIN_NS, RETRY_DELAY_MIN_NS, UINT64_MAX}},
        {"no overflow", 1ull << 62, UINT64_MAX, 0, 0, 1e300, {1ull << 62, UINT64_MAX, UINT64_MAX}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct retry_options options = steady();
        struct retry retry = {0};
        uint64_t now_ns = 77 * S;

        options.initial_interval_ns = cases[i].initial_ns;
        options.max_interval_ns = cases[i].max_ns;
        options.max_elapsed_time_ns = cases[i].elapsed_ns;
        options.multiplier = cases[i].multiplier;
        retry_begin(&retry, now_ns);
        for (size_t k = 0; k < ARRAY_COUNT(cases[i].delays_ns); k++) {
            uint64_t want_ns = cases[i].delays_ns[k], at_ns = 1;
            bool again;

            if (want_ns == UINT64_MAX)
                break;
            again = retry_next(&retry, &options, now_ns, cases[i].named_ns, UINT64_MAX / 3, &at_ns);
            if (again != (want_ns != 0) || (again && at_ns - now_ns != want_ns))
                fail_msg("%s: retry %zu after %llu ns, expected %llu", cases[i].what, k,
                    again ? (unsigned long long)(at_ns - now_ns) : 0ull, (unsigned long long)want_ns);
            if (!again) {
                assert_int_equal(at_ns, 1); /* outputs only on success */
                break;
            }
            now_ns = at_ns;
        }
    }
}

static void test_jitter_spans_its_range_and_no_more(void **state)
{
    struct retry_options options = retry_defaults();
    uint64_t least_ns = UINT64_MAX, most_ns = 0, random = 1;

    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        struct retry retry = {0};
        uint64_t at_ns;

        random = random * 6364136223846793005ull + 1442695040888963407ull;
        assert_true(retry_next(&retry, &options, S, 0, random, &at_ns));
        least_ns = u64_min(least_ns, at_ns - S);
        most_ns = u64_max(most_ns, at_ns - S);
    }
    assert_in_range(least_ns, 2500 * MS, 2510 * MS);
    assert_in_range(most_ns, 7490 * MS, 7500 * MS);
}

static void test_off(void **state)
{
    struct retry_options options = retry_defaults();
    struct retry retry = {0};
    uint64_t at_ns;

    (void)state;
    options.enabled = false;
    assert_false(retry_next(&retry, &options, S, 0, 0, &at_ns));
}

/* The table of the OTLP specification, "Failures" (OTLP/gRPC). */
static void test_retryable(void **state)
{
    static const struct {
        int code;
        bool plain, with_info;
    } cases[] = {
        {RPC_OK, false, false}, {RPC_CANCELLED, true, true}, {RPC_UNKNOWN, false, false},
        {RPC_INVALID_ARGUMENT, false, false}, {RPC_DEADLINE_EXCEEDED, true, true}, {RPC_NOT_FOUND, false, false},
        {RPC_ALREADY_EXISTS, false, false}, {RPC_PERMISSION_DENIED, false, false},
        {RPC_RESOURCE_EXHAUSTED, false, true}, {RPC_FAILED_PRECONDITION, false, false}, {RPC_ABORTED, true, true},
        {RPC_OUT_OF_RANGE, true, true}, {RPC_UNIMPLEMENTED, false, false}, {RPC_INTERNAL, false, false},
        {RPC_UNAVAILABLE, true, true}, {RPC_DATA_LOSS, true, true}, {RPC_UNAUTHENTICATED, false, false},
        {-1, false, false}, {99, false, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        if (retry_is_retryable(cases[i].code, false) != cases[i].plain ||
            retry_is_retryable(cases[i].code, true) != cases[i].with_info)
            fail_msg("code %d", cases[i].code);
    }
}

static void test_budget_keeps_retries_a_fraction(void **state)
{
    struct retry_budget budget;
    unsigned spent = 0;

    (void)state;
    retry_budget_init(&budget, 0.25, 8);
    for (unsigned i = 0; i < 8; i++)
        assert_true(retry_budget_spend(&budget));
    assert_false(retry_budget_spend(&budget));

    for (unsigned i = 0; i < 1000; i++) {
        retry_budget_earn(&budget);
        spent += retry_budget_spend(&budget);
    }
    assert_int_equal(spent, 250);

    for (unsigned i = 0; i < 1000; i++)
        retry_budget_earn(&budget);
    for (spent = 0; retry_budget_spend(&budget); spent++)
        ;
    assert_int_equal(spent, 8); /* quiet times save no more than `most` */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_schedule),
        cmocka_unit_test(test_jitter_spans_its_range_and_no_more),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_retryable),
        cmocka_unit_test(test_budget_keeps_retries_a_fraction),
    };

    return cmocka_run_group_tests_name("retry", tests, NULL, NULL);
}
