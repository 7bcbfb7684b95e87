/* Facts follow from a trace's spans alone, whatever their order; evidence names who answered a question first. */
#include "sampler/decide/facts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/cleanup.h"

static struct hits bits(uint32_t a, uint32_t b)
{
    struct hits hits = {0};

    if (a != UINT32_MAX)
        hits_set(&hits, a);
    if (b != UINT32_MAX)
        hits_set(&hits, b);
    return hits;
}

#define NO_BIT UINT32_MAX

/* Bits are OR-ed over all words; times, sizes and the root are folded; a start of 0 is no start. */
static void test_fold(void **state)
{
    const struct span_facts spans[] = {
        {bits(0, NO_BIT), 0, 50, 1, false, 0, 0, 0, {0}},
        {bits(63, 64), 20, 0, 2, false, 0, 0, 0, {0}},
        {bits(NO_BIT, NO_BIT), 10, 40, 3, true, 0, 0, 0, {0}},
        {bits(255, 0), 30, 60, 4, false, 0, 0, 0, {0}},
    };
    const struct hits headers[] = {
        bits(7, NO_BIT), bits(NO_BIT, NO_BIT), bits(130, 255), bits(7, NO_BIT)};
    static const uint8_t orders[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}, {2, 0, 3, 1}};
    struct hits all = bits(0, 7);

    (void)state;
    hits_set(&all, 63);
    hits_set(&all, 64);
    hits_set(&all, 130);
    hits_set(&all, 255);
    for (size_t i = 0; i < ARRAY_COUNT(orders); i++) {
        struct facts facts = {0};

        for (size_t j = 0; j < ARRAY_COUNT(spans); j++)
            facts_fold(&facts, &spans[orders[i][j]], &headers[orders[i][j]], 100 + orders[i][j]);
        assert_memory_equal(&facts.hits, &all, sizeof(all));
        assert_int_equal(facts.min_start_unix_ns, 10);
        assert_int_equal(facts.max_end_unix_ns, 60);
        assert_int_equal(facts.bytes, 406);
        assert_int_equal(facts.spans_count, 4);
        assert_true(facts.root_seen);
        assert_int_equal(facts.evidence_count, EVIDENCE_MAX);
    }
}

/* Without any start the smallest stays 0; without a root none was seen. */
static void test_nothing(void **state)
{
    const struct span_facts span = {.end_unix_ns = 5};
    const struct hits none = {0};
    struct facts facts = {0};

    (void)state;
    facts_fold(&facts, &span, &none, 0);
    facts_fold(&facts, &span, &none, 0);
    assert_int_equal(facts.min_start_unix_ns, 0);
    assert_int_equal(facts.max_end_unix_ns, 5);
    assert_int_equal(facts.spans_count, 2);
    assert_false(facts.root_seen);
    assert_int_equal(facts.evidence_count, 0);
}

/* The first to set a bit is its evidence: a span by its ID, a header with 0; later ones change nothing. */
static void test_evidence(void **state)
{
    const struct span_facts first = {.hits = bits(5, 70), .span_id = 111},
                            second = {.hits = bits(5, 6), .span_id = 222},
                            third = {.hits = bits(200, 201), .span_id = 333};
    const struct hits header = bits(70, 5), none = {0};
    struct facts facts = {0};

    (void)state;
    facts_fold(&facts, &second, &none, 1);
    facts_fold(&facts, &first, &header, 1);
    facts_fold(&facts, &third, &none, 1);
    assert_int_equal(facts.evidence_count, 4);
    assert_int_equal(facts.evidence[0].bit, 5);
    assert_int_equal(facts.evidence[0].span_id, 222);
    assert_int_equal(facts.evidence[1].bit, 6);
    assert_int_equal(facts.evidence[1].span_id, 222);
    assert_int_equal(facts.evidence[2].bit, 70);
    assert_int_equal(facts.evidence[2].span_id, 0);
    assert_int_equal(facts.evidence[3].bit, 200);
    assert_int_equal(facts.evidence[3].span_id, 333);
    assert_true(hits_has(&facts.hits, 201));
}

/* An ordered question keeps its first outcome: later spans with another one, or with none, change nothing. */
static void test_ordered(void **state)
{
    static const struct span_facts nothing = {.is_root = true}, yes = {.first_true = 1u << 3},
                                   error = {.first_error = 1u << 3},
                                   other = {.first_true = 1u << 31, .first_error = 1};
    const struct hits no_hits = {0};
    struct facts facts = {0};

    (void)state;
    facts_fold(&facts, &nothing, &no_hits, 1);
    facts_fold(&facts, &yes, &no_hits, 1);
    facts_fold(&facts, &error, &no_hits, 1);
    facts_fold(&facts, &other, &no_hits, 1);
    assert_int_equal(facts.first_true, 1u << 3 | 1u << 31);
    assert_int_equal(facts.first_error, 1);

    facts = (struct facts){0};
    facts_fold(&facts, &error, &no_hits, 1);
    facts_fold(&facts, &yes, &no_hits, 1);
    assert_int_equal(facts.first_true, 0);
    assert_int_equal(facts.first_error, 1u << 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fold),
        cmocka_unit_test(test_ordered),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_evidence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
