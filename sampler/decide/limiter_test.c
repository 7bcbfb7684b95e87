/* A bucket gives what it holds and nothing it lacks; a refusal costs nothing; time fills it up to its capacity. */
#include "sampler/decide/limiter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/num.h"

#define START_NS (1000 * NS_PER_S)

struct ask {
    uint64_t after_ns; /* since the start */
    uint64_t cost;
    bool allowed;
};

static void test_sequences(void **state)
{
    static const struct {
        const char *what;
        int64_t per_second, capacity;
        struct ask asks[16]; /* cost 0: the end */
    } cases[] = {
        {"twice the rate at first; what is refused costs nothing", 6, 0,
            {{0, 4, true}, {0, 3, true}, {0, 8, false}, {0, 2, true}, {0, 1, true}, {0, 1, true}, {0, 5, false}, {0, 1, true},
                {0, 12, false}, {0, 1, false}, {0, 2, false}, {0, 1, false}}},
        {"it fills by the rate", 6, 0,
            {{0, 12, true}, {NS_PER_S / 2, 4, false}, {NS_PER_S / 2, 3, true}, {NS_PER_S / 2, 1, false}, {NS_PER_S, 3, true}}},
        {"a refusal does not put the filling off", 10, 10,
            {{0, 10, true}, {90 * NS_PER_MS, 1, false}, {100 * NS_PER_MS, 1, true}}},
        {"up to its capacity", 10, 5, {{0, 5, true}, {100 * NS_PER_S, 6, false}, {100 * NS_PER_S, 5, true}, {100 * NS_PER_S, 1, false}}},
        {"more than the capacity never", 1000000000, 3, {{0, 4, false}, {NS_PER_S, 4, false}, {NS_PER_S, 3, true}}},
        {"no rate: what there was at first", 0, 2, {{0, 3, false}, {0, 2, true}, {NS_PER_S, 1, false}}},
        {"no rate, no capacity", 0, 0, {{0, 1, false}}},
        {"a rate below 0", -5, 0, {{0, 1, false}, {NS_PER_S, 1, false}}},
        {"a rate below 0 fills nothing", -5, 2, {{0, 2, true}, {NS_PER_S, 1, false}}},
        {"a capacity below 0 is none", 4, -1, {{0, 8, true}, {0, 1, false}}},
        {"what lacks less than a nanosecond is let through", 3, 3, {{0, 3, true}, {NS_PER_S / 3 - 1, 1, false}, {NS_PER_S / 3, 1, true}}},
        {"at such a rate a token takes less than one", 2000000000, 4, {{0, 4, true}, {0, 1, true}, {0, 2, false}, {1, 1, true}}},
        {"time that goes back stands still", 10, 10, {{NS_PER_S, 10, true}, {0, 1, false}, {NS_PER_S + 100 * NS_PER_MS, 1, true}}},
        {"the largest rate", INT64_MAX, 0, {{0, 1000000, true}, {0, INT64_MAX / 2, true}}},
        {"a cost beyond all", INT64_MAX, 0, {{0, UINT64_MAX, false}}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct token_bucket bucket = token_bucket_of(cases[i].per_second, cases[i].capacity);

        for (size_t j = 0; j < ARRAY_COUNT(cases[i].asks) && cases[i].asks[j].cost > 0; j++) {
            const struct ask *ask = &cases[i].asks[j];

            if (token_bucket_take(&bucket, ask->cost, START_NS + ask->after_ns) != ask->allowed)
                fail_msg("%s: ask %zu", cases[i].what, j);
        }
    }
}

/* Over a long time no more passes than the rate and the first fill allow, and nothing of it is lost. */
static void test_rate(void **state)
{
    struct token_bucket bucket = token_bucket_of(1000, 0);
    uint64_t passed = 0;

    (void)state;
    for (uint64_t ms = 0; ms <= 100 * 1000; ms++)
        for (unsigned i = 0; i < 3; i++)
            passed += token_bucket_take(&bucket, 1, START_NS + ms * NS_PER_MS);
    assert_in_range(passed, 2000 + 100 * 1000 - 1, 2000 + 100 * 1000 + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_rate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
