/* A verdict that goes to another node goes whole: all records are met, with every hash; what comes from there is joined, and
 * what was given away is gone. While somebody is silent, nothing leaves but for want of memory. */
#include "sampler/decide/decision_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/hash.h"
#include "common/base/num.h"

#define KEEP_NS (70 * NS_PER_S)
#define NOW_NS (1000 * NS_PER_S)

static struct trace_id id_of(uint64_t n)
{
    struct trace_id id;
    uint64_t words[2] = {n * 0x9e3779b97f4a7c15ull + 1, n};

    memcpy(id.bytes, words, sizeof(words));
    return id;
}

static struct decision_cache *cache_of(uint64_t max_bytes, uint64_t hash_bytes, int64_t size)
{
    const struct decision_cache_options options = {.sampled_cache_size = size,
        .non_sampled_cache_size = size,
        .verdict_keep_ns = KEEP_NS,
        .resend_window_ns = 300 * NS_PER_S,
        .max_bytes = max_bytes,
        .hash_bytes = hash_bytes};
    struct decision_cache *cache = NULL;

    assert_int_equal(decision_cache_new(&options, &cache), 0);
    return cache;
}

static void put(struct decision_cache *cache, uint64_t n, enum decision decision, const uint64_t *hashes, size_t count, uint64_t decided_ns)
{
    struct decision_record record = {.decision = decision, .decided_ns = decided_ns, .span_count = (uint32_t)n};
    struct trace_id id = id_of(n);

    decision_cache_put(cache, &id, hash_trace(&id), &record, hashes, count, NOW_NS);
}

static bool has(struct decision_cache *cache, uint64_t n)
{
    struct decision_record record;
    struct trace_id id = id_of(n);

    return decision_cache_find(cache, &id, hash_trace(&id), false, NOW_NS, &record);
}

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* The record's hashes are exactly `expected`, sorted, each once. */
static void check_hashes(struct decision_cache *cache, uint64_t n, const uint64_t *expected, size_t count)
{
    struct trace_id id = id_of(n);
    uint64_t *got = calloc(count + 1, sizeof(*got));

    assert_int_equal(decision_cache_hashes(cache, &id, hash_trace(&id), got, count), count);
    qsort(got, count, sizeof(*got), by_number);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(got[i], expected[i]);
    free(got);
}

static void join(struct decision_cache *cache, uint64_t n, const uint64_t *hashes, size_t count)
{
    struct trace_id id = id_of(n);

    decision_cache_join(cache, &id, hash_trace(&id), hashes, count, NOW_NS);
}

/* -- hashes ---------------------------------------------------------------------------------------- */

/* The first `put` of 1, 2, 3 … are there, then [from, to) come: their union is known, whatever the sizes. */
static void test_join(void **state)
{
    static const struct {
        size_t put, from, to;
    } cases[] = {
        {0, 1, 1}, {0, 1, 4}, {3, 1, 4}, {3, 2, 9}, {3, 10, 12}, {100, 1, 101}, {100, 50, 200}, {5, 1, 5000}, {5000, 4990, 5010},
    };
    struct trace_id id = id_of(1);
    (void)state;

    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct decision_cache *cache = cache_of(1 * MIB, 1 * MIB, 100);
        uint64_t *numbers = calloc(6000, sizeof(*numbers)), few[2];
        size_t count = 0;

        for (size_t i = 0; i < 6000; i++)
            numbers[i] = i + 1;
        put(cache, 1, DECISION_SAMPLED, numbers, cases[c].put, NOW_NS);
        join(cache, 1, numbers + cases[c].from - 1, cases[c].to - cases[c].from);
        join(cache, 1, numbers + cases[c].from - 1, cases[c].to - cases[c].from); /* a repeat changes nothing */
        for (size_t i = 1; i <= 6000; i++) {
            if (i <= cases[c].put || (i >= cases[c].from && i < cases[c].to))
                numbers[count++] = i;
        }
        check_hashes(cache, 1, numbers, count);
        assert_int_equal(decision_cache_stats(cache).hashes, count);
        assert_int_equal(decision_cache_hashes(cache, &id, hash_trace(&id), few, count ? 1 : 0), count);
        for (size_t i = 0; i < count; i++)
            assert_true(decision_cache_seen(cache, &id, hash_trace(&id), numbers[i], NOW_NS));
        assert_false(decision_cache_seen(cache, &id, hash_trace(&id), 7777, NOW_NS));
        numbers[count++] = 7777;
        check_hashes(cache, 1, numbers, count);
        free(numbers);
        decision_cache_free(cache);
    }
}

/* Nothing is joined to what was not sampled, or is not there; and hash_bytes hold. */
static void test_join_to_none(void **state)
{
    struct decision_cache *cache = cache_of(1 * MIB, 8 * KIB, 100);
    uint64_t hashes[2000];
    struct trace_id id = id_of(2);
    (void)state;

    for (uint64_t i = 0; i < 2000; i++)
        hashes[i] = i + 1;
    join(cache, 1, hashes, 3);
    put(cache, 1, DECISION_NOT_SAMPLED, NULL, 0, NOW_NS);
    join(cache, 1, hashes, 3);
    assert_int_equal(decision_cache_stats(cache).hashes, 0);
    put(cache, 2, DECISION_SAMPLED, hashes, 40, NOW_NS);
    for (unsigned i = 0; i < 50; i++) /* each pushes out what came before */
        join(cache, 2, hashes + 30 * i, 60);
    assert_true(decision_cache_hashes(cache, &id, hash_trace(&id), NULL, 0) <= 8 * KIB / sizeof(uint64_t));
    decision_cache_free(cache);
}

/* -- records --------------------------------------------------------------------------------------- */

struct visits {
    unsigned char *count;
    uint64_t most;
};

static void note_visit(void *context, const struct trace_id *id, uint64_t id_hash, const struct decision_record *record)
{
    struct visits *visits = context;
    uint64_t n;

    memcpy(&n, id->bytes + 8, sizeof(n));
    assert_int_equal(id_hash, hash_trace(id));
    assert_int_equal(record->span_count, n);
    assert_int_equal(record->decision, n % 2 ? DECISION_SAMPLED : DECISION_NOT_SAMPLED);
    if (n < visits->most)
        visits->count[n]++;
}

/* A walk meets each that stays once, while others come and go. */
static void test_walk(void **state)
{
    enum { STAYING = 20000 };
    struct decision_cache *cache = cache_of(64 * MIB, 1 * MIB, 1000000);
    struct visits visits = {calloc(STAYING, 1), STAYING};
    uint64_t cursor = 0, next = STAYING, gone = STAYING;
    (void)state;

    for (uint64_t n = 0; n < STAYING; n++)
        put(cache, n, n % 2 ? DECISION_SAMPLED : DECISION_NOT_SAMPLED, NULL, 0, NOW_NS);
    while (decision_cache_step(cache, &cursor, note_visit, &visits)) {
        for (unsigned i = 0; i < 3000; i++, next++)
            put(cache, next, next % 2 ? DECISION_SAMPLED : DECISION_NOT_SAMPLED, NULL, 0, NOW_NS);
        for (unsigned i = 0; i < 1000; i++, gone++) {
            struct trace_id id = id_of(gone);

            assert_true(decision_cache_remove(cache, &id, hash_trace(&id)));
            assert_false(decision_cache_remove(cache, &id, hash_trace(&id)));
            assert_false(has(cache, gone));
        }
    }
    for (uint64_t n = 0; n < STAYING; n++)
        assert_int_equal(visits.count[n], 1);
    assert_int_equal(decision_cache_stats(cache).records, next - (gone - STAYING));
    free(visits.count);
    decision_cache_free(cache);
}

/* A verdict of long ago is remembered; it is not young, so a full cache lets it go first. */
static void test_decided_before(void **state)
{
    struct decision_cache *cache = cache_of(64 * MIB, 1 * MIB, 2);
    (void)state;

    put(cache, 1, DECISION_SAMPLED, NULL, 0, NOW_NS - KEEP_NS);
    put(cache, 3, DECISION_SAMPLED, NULL, 0, 0);
    assert_true(has(cache, 1) && has(cache, 3));
    put(cache, 5, DECISION_SAMPLED, NULL, 0, NOW_NS);
    assert_false(has(cache, 1));
    assert_true(has(cache, 3) && has(cache, 5));
    assert_int_equal(decision_cache_stats(cache).evicted_young, 0);
    decision_cache_free(cache);
}

/* Nothing leaves by age or size while somebody is silent; for want of memory it does, and is counted, however old. */
static void test_keep_all(void **state)
{
    struct decision_cache *cache = cache_of(100 * (64 + 43), 1 * MIB, 10);
    uint64_t hash = 5, kept;
    struct trace_id id = id_of(1);
    (void)state;

    decision_cache_keep_all(cache, true);
    put(cache, 1, DECISION_SAMPLED, &hash, 1, 0);
    for (uint64_t n = 1; n < 50; n++)
        put(cache, 2 * n + 1, DECISION_SAMPLED, NULL, 0, 0);
    decision_cache_tend(cache, 0, 10 * NOW_NS);
    assert_int_equal(decision_cache_stats(cache).records, 50);
    assert_true(decision_cache_seen(cache, &id, hash_trace(&id), hash, 10 * NOW_NS));
    for (uint64_t n = 50; n < 200; n++)
        put(cache, 2 * n + 1, DECISION_SAMPLED, NULL, 0, 0);
    kept = decision_cache_stats(cache).records;
    assert_true(kept < 110);
    assert_int_equal(decision_cache_stats(cache).evicted_young, 200 - kept);

    decision_cache_keep_all(cache, false);
    decision_cache_tend(cache, 0, 10 * NOW_NS);
    assert_int_equal(decision_cache_stats(cache).records, 10);
    assert_int_equal(decision_cache_stats(cache).evicted_young, 200 - kept);
    decision_cache_free(cache);
}

/* Names of policies that this node does not have: one number a name, a bounded number of them. */
static void test_policies(void **state)
{
    struct decision_cache *cache = cache_of(1 * MIB, 1 * MIB, 10);
    uint16_t errors = decision_cache_policy(cache, SLICE_LITERAL("errors")), other = decision_cache_policy(cache, SLICE_LITERAL(""));
    char name[16];
    (void)state;

    assert_true(decision_policy_is_foreign(errors) && decision_policy_is_foreign(other));
    assert_false(decision_policy_is_foreign(UINT16_MAX) || decision_policy_is_foreign(0x7fff));
    assert_int_not_equal(errors, other);
    assert_int_equal(decision_cache_policy(cache, SLICE_LITERAL("errors")), errors);
    assert_string_equal(decision_cache_policy_name(cache, errors), "errors");
    assert_string_equal(decision_cache_policy_name(cache, other), "");
    for (unsigned i = 0; i < 2000; i++) {
        snprintf(name, sizeof(name), "p%u", i);
        assert_int_equal(decision_cache_policy(cache, slice_text(name)) == UINT16_MAX, i >= 1022);
    }
    assert_int_equal(decision_cache_policy(cache, SLICE_LITERAL("errors")), errors);
    decision_cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_join), cmocka_unit_test(test_join_to_none), cmocka_unit_test(test_walk),
        cmocka_unit_test(test_decided_before), cmocka_unit_test(test_keep_all), cmocka_unit_test(test_policies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
