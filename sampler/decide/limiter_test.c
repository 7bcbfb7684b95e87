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

/* -- weighing ------------------------------------------------------------------------------------------------------ */

#define TRACES_MAX 8

struct traces {
    struct trace_id ids[TRACES_MAX];
    struct facts facts[TRACES_MAX];
    struct verdict_input inputs[TRACES_MAX];
    const struct verdict_input *list[TRACES_MAX];
    size_t count;
};

/* rv of spans where has_rv, else the ID's last seven bytes, which are the same number. */
static void traces_add(struct traces *traces, uint64_t randomness, uint32_t spans, bool has_rv, uint64_t now_ns)
{
    size_t i = traces->count++;

    for (unsigned byte = 0; byte < 7; byte++)
        traces->ids[i].bytes[15 - byte] = (uint8_t)(has_rv ? 0x55 : randomness >> (8 * byte));
    traces->facts[i] = (struct facts){.spans_count = spans, .ot = {.randomness = randomness & (SAMPLING_NEVER - 1), .has_randomness = has_rv}};
    traces->inputs[i] = (struct verdict_input){.trace_id = &traces->ids[i], .facts = &traces->facts[i], .now_ns = now_ns};
    traces->list[i] = &traces->inputs[i];
}

static uint64_t cost_of_spans(const struct verdict_input *input)
{
    return input->facts->spans_count;
}

/* Of traces weighed together those of the highest randomness pass, as many as the whole tokens pay for up to the first that
 * does not fit; of equal randomness all or none; what can never pass starves nobody; the kept ones' tokens are gone. */
static void test_weigh(void **state)
{
    static const struct {
        const char *what;
        int64_t per_second, capacity;
        struct {
            uint64_t randomness;
            uint32_t spans; /* 0: the end */
            bool passes;
        } traces[TRACES_MAX];
        uint64_t threshold, left; /* whole tokens afterwards */
    } cases[] = {
        {"all fit: no threshold", 5, 10, {{1, 4, true}, {9, 6, true}}, 0, 0},
        {"the highest first, the rest by its first rejected", 5, 10, {{10, 3, false}, {30, 6, true}, {20, 4, true}}, 11, 0},
        {"the first that does not fit ends it, smaller ones behind it too", 5, 10, {{30, 6, true}, {20, 5, false}, {10, 1, false}}, 21, 4},
        {"none fits: never", 2, 3, {{30, 2, false}, {30, 2, false}}, SAMPLING_NEVER, 3},
        {"what costs more than the capacity is not weighed", 5, 10, {{50, 11, false}, {40, 10, true}}, 0, 0},
        {"of equal randomness none, when not all fit", 5, 10, {{40, 2, true}, {20, 5, false}, {20, 5, false}}, 21, 8},
        {"of equal randomness all", 5, 12, {{40, 2, true}, {20, 5, true}, {20, 5, true}, {10, 1, false}}, 11, 0},
        {"the largest randomness", 1, 1, {{SAMPLING_NEVER - 1, 1, true}, {SAMPLING_NEVER - 2, 1, false}}, SAMPLING_NEVER - 1, 0},
        {"no trace at all", 5, 10, {{0, 0, false}}, 0, 10},
        {"a bucket that never holds anything", 0, 0, {{5, 1, false}}, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        for (unsigned has_rv = 0; has_rv < 2; has_rv++) {
            struct token_bucket bucket = token_bucket_of(cases[i].per_second, cases[i].capacity);
            struct traces traces = {.count = 0};

            for (size_t j = 0; j < TRACES_MAX && cases[i].traces[j].spans > 0; j++)
                traces_add(&traces, cases[i].traces[j].randomness, cases[i].traces[j].spans, has_rv, START_NS);
            token_bucket_weigh(&bucket, traces.list, traces.count, cost_of_spans);
            for (size_t j = 0; j < traces.count; j++) {
                const struct vote vote = token_bucket_vote(&bucket, cost_of_spans(traces.list[j]), traces.list[j]);
                const bool passes = cases[i].traces[j].passes;

                if (vote.decision != (passes ? DECISION_SAMPLED : DECISION_NOT_SAMPLED) || vote.threshold != (passes ? cases[i].threshold : 0))
                    fail_msg("%s: trace %zu is %s, threshold %llx", cases[i].what, j, decision_name(vote.decision),
                        (unsigned long long)vote.threshold);
            }
            if (token_bucket_take(&bucket, cases[i].left + 1, START_NS) ||
                (cases[i].left > 0 && !token_bucket_take(&bucket, cases[i].left, START_NS)))
                fail_msg("%s: not %llu tokens are left", cases[i].what, (unsigned long long)cases[i].left);
        }
    }
}

/* A threshold lasts until the next weighing, which has what time brought since. */
static void test_weigh_again(void **state)
{
    struct token_bucket bucket = token_bucket_of(2, 4);
    struct traces first = {.count = 0}, second = {.count = 0}, alone = {.count = 0};

    (void)state;
    traces_add(&first, 9, 4, true, START_NS);
    traces_add(&first, 5, 1, true, START_NS);
    token_bucket_weigh(&bucket, first.list, first.count, cost_of_spans);
    traces_add(&alone, 6, 1, true, START_NS + 1);
    assert_int_equal(token_bucket_vote(&bucket, 1, alone.list[0]).decision, DECISION_SAMPLED); /* decided early: above the threshold */
    traces_add(&second, 8, 1, true, START_NS + NS_PER_S);
    traces_add(&second, 7, 1, true, START_NS + NS_PER_S);
    traces_add(&second, 6, 1, true, START_NS + NS_PER_S);
    token_bucket_weigh(&bucket, second.list, second.count, cost_of_spans);
    assert_int_equal(token_bucket_vote(&bucket, 1, second.list[1]).decision, DECISION_SAMPLED);
    assert_int_equal(token_bucket_vote(&bucket, 1, second.list[1]).threshold, 7);
    assert_int_equal(token_bucket_vote(&bucket, 1, second.list[2]).decision, DECISION_NOT_SAMPLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_weigh),
        cmocka_unit_test(test_weigh_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
