/* What was decided is remembered as long as the sizes allow and at least verdict_keep, never past the bytes; a
 * span of a sampled trace that was there before is recognised for resend_window. */
#include "sampler/decide/decision_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/hash.h"
#include "common/base/num.h"

#define KEEP_NS (70 * NS_PER_S)
#define WINDOW_NS (300 * NS_PER_S)

static struct trace_id id_of(uint64_t n)
{
    struct trace_id id;
    uint64_t words[2] = {n * 0x9e3779b97f4a7c15ull + 1, n};

    memcpy(id.bytes, words, sizeof(words));
    return id;
}

static struct decision_cache *cache_of(struct decision_cache_options options)
{
    struct decision_cache *cache = NULL;

    assert_int_equal(decision_cache_new(&options, &cache), 0);
    return cache;
}

static struct decision_cache_options large(void)
{
    return (struct decision_cache_options){.sampled_cache_size = 1000,
        .non_sampled_cache_size = 1000,
        .verdict_keep_ns = KEEP_NS,
        .resend_window_ns = WINDOW_NS,
        .max_bytes = 64 * MIB,
        .hash_bytes = 64 * MIB};
}

static void put(struct decision_cache *cache, uint64_t n, enum decision decision, uint64_t now_ns)
{
    struct decision_record record = {.decision = decision, .decided_ns = now_ns};
    struct trace_id id = id_of(n);

    decision_cache_put(cache, &id, hash_trace(&id), &record, NULL, 0, now_ns);
}

static bool has(struct decision_cache *cache, uint64_t n, bool refresh, uint64_t now_ns)
{
    struct decision_record record;
    struct trace_id id = id_of(n);

    return decision_cache_find(cache, &id, hash_trace(&id), refresh, now_ns, &record);
}

static bool seen(struct decision_cache *cache, uint64_t n, uint64_t span_hash, uint64_t now_ns)
{
    struct trace_id id = id_of(n);

    return decision_cache_seen(cache, &id, hash_trace(&id), span_hash, now_ns);
}

/* What is found is what was put, in each field; a second put replaces the first. */
static void test_fields(void **state)
{
    static const struct decision_record records[] = {
        {DECISION_SAMPLED, true, false, 3, 7, 15, 0x1122334455667788ull, 0, 200, 5},
        {DECISION_NOT_SAMPLED, false, true, UINT16_MAX, UINT32_MAX, UINT32_MAX, 0, 0, UINT16_MAX, 6},
        {DECISION_DROPPED, false, false, 0, 0, 1, 1, 0, 0, 7},
        {DECISION_SAMPLED, true, true, 1, 2, 3, 4, 0, 5, 8},
        {DECISION_SAMPLED, true, false, 1, 2, 3, 0, 0xffffffffffffff, 5, 8},
    };
    struct decision_cache_options options = large();
    struct decision_cache *cache;
    struct trace_id id = id_of(1), other = id_of(2);
    (void)state;

    options.non_sampled_cache_size = 0; /* so that `cached` differs by kind */
    cache = cache_of(options);
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        struct decision_record got = {0};

        decision_cache_put(cache, &id, hash_trace(&id), &records[i], NULL, 0, records[i].decided_ns);
        assert_true(decision_cache_find(cache, &id, hash_trace(&id), false, 9, &got));
        assert_int_equal(got.decision, records[i].decision);
        assert_int_equal(got.cached, records[i].cached);
        assert_int_equal(got.too_large, records[i].too_large);
        assert_int_equal(got.policy, records[i].policy);
        assert_int_equal(got.generation, records[i].generation);
        assert_int_equal(got.span_count, records[i].span_count);
        assert_int_equal(got.evidence_span_id, records[i].evidence_span_id);
        assert_int_equal(got.threshold, records[i].threshold);
        assert_int_equal(got.evidence_bit, records[i].evidence_bit);
        assert_int_equal(got.decided_ns, records[i].decided_ns);
        assert_false(decision_cache_find(cache, &other, hash_trace(&other), true, 9, &got));
        assert_int_equal(decision_cache_stats(cache).records, 1);
        assert_int_equal(decision_cache_stats(cache).oldest_ns, records[i].decided_ns);
    }
    decision_cache_free(cache);
    decision_cache_free(NULL);
}

/* IDs that agree in their last eight bytes are two traces (in the Collector's cache they are one). */
static void test_whole_id(void **state)
{
    struct decision_cache *cache = cache_of(large());
    struct trace_id a = id_of(1), b = a;
    struct decision_record record = {.decision = DECISION_SAMPLED, .decided_ns = 1};
    (void)state;

    b.bytes[0] ^= 1;
    decision_cache_put(cache, &a, hash_trace(&a), &record, NULL, 0, 1);
    assert_true(decision_cache_find(cache, &a, hash_trace(&a), true, 2, &record));
    assert_false(decision_cache_find(cache, &b, hash_trace(&b), true, 2, &record));
    decision_cache_free(cache);
}

/* A full cache lets go of the one used longest ago, once it is old enough; a hit with refresh is a use. */
static void test_lru(void **state)
{
    struct decision_cache_options options = large();
    struct decision_cache *cache;
    (void)state;

    options.sampled_cache_size = 3;
    cache = cache_of(options);
    for (uint64_t n = 1; n <= 3; n++)
        put(cache, n, DECISION_SAMPLED, n);
    for (uint64_t n = 1; n <= 10; n++)
        put(cache, 100 + n, DECISION_NOT_SAMPLED, n);
    assert_true(has(cache, 1, true, 10));
    assert_true(has(cache, 2, false, 11));
    put(cache, 4, DECISION_SAMPLED, 12); /* all too young to go */
    assert_int_equal(decision_cache_stats(cache).records, 14);
    decision_cache_tend(cache, 0, KEEP_NS + 1);
    assert_int_equal(decision_cache_stats(cache).records, 14);
    decision_cache_tend(cache, 0, KEEP_NS + 2);
    assert_false(has(cache, 2, false, KEEP_NS + 2));
    assert_true(has(cache, 1, false, KEEP_NS + 2) && has(cache, 3, false, KEEP_NS + 2));
    put(cache, 5, DECISION_SAMPLED, 2 * KEEP_NS);
    assert_false(has(cache, 3, false, 2 * KEEP_NS));
    assert_true(has(cache, 1, false, 2 * KEEP_NS) && has(cache, 4, false, 2 * KEEP_NS));
    for (uint64_t n = 1; n <= 10; n++) /* the other kind has room */
        assert_true(has(cache, 100 + n, false, 2 * KEEP_NS));
    assert_int_equal(decision_cache_stats(cache).evicted_young, 0);
    decision_cache_free(cache);
}

/* Without a cache of their kind records share num_traces with the traces held, and leave oldest first. */
static void test_num_traces(void **state)
{
    struct decision_cache_options options = large();
    struct decision_cache *cache;
    (void)state;

    options.sampled_cache_size = options.non_sampled_cache_size = 0;
    options.num_traces = 10;
    cache = cache_of(options);
    for (uint64_t n = 0; n < 10; n++)
        put(cache, n, n % 2 ? DECISION_SAMPLED : DECISION_NOT_SAMPLED, n);
    assert_true(has(cache, 0, true, 20)); /* a use does not help */
    decision_cache_tend(cache, 4, KEEP_NS + 2);
    for (uint64_t n = 0; n < 10; n++)
        assert_int_equal(has(cache, n, false, KEEP_NS), n >= 3); /* 3 is too young by 1 ns */
    decision_cache_tend(cache, 4, 2 * KEEP_NS);
    assert_int_equal(decision_cache_stats(cache).records, 6);
    assert_false(has(cache, 3, false, 2 * KEEP_NS));
    assert_int_equal(decision_cache_stats(cache).oldest_ns, 4);
    decision_cache_tend(cache, 100, 2 * KEEP_NS);
    assert_int_equal(decision_cache_stats(cache).records, 0);
    assert_int_equal(decision_cache_stats(cache).oldest_ns, 0);
    decision_cache_free(cache);

    options.num_traces = 0; /* unset: bytes only */
    cache = cache_of(options);
    for (uint64_t n = 0; n < 5000; n++)
        put(cache, n, DECISION_NOT_SAMPLED, n);
    decision_cache_tend(cache, 100000, 10 * KEEP_NS);
    assert_int_equal(decision_cache_stats(cache).records, 5000);
    decision_cache_free(cache);
}

/* max_bytes holds whatever comes; who left young is counted. */
static void test_max_bytes(void **state)
{
    struct decision_cache_options options = large();
    struct decision_cache *cache;
    uint64_t records;
    (void)state;

    options.max_bytes = 1 * MIB;
    options.sampled_cache_size = options.non_sampled_cache_size = 1000000;
    cache = cache_of(options);
    for (uint64_t n = 0; n < 50000; n++)
        put(cache, n, n % 3 ? DECISION_SAMPLED : DECISION_NOT_SAMPLED, n);
    records = decision_cache_stats(cache).records;
    assert_in_range(records, 1 * MIB / 128, 1 * MIB / 64);
    assert_int_equal(decision_cache_stats(cache).evicted_young, 50000 - records);
    for (uint64_t n = 0; n < 50000; n++)
        assert_int_equal(has(cache, n, false, n), n >= 50000 - records);
    for (uint64_t n = 0; n < 1000; n++)
        put(cache, 100000 + n, DECISION_SAMPLED, 2 * KEEP_NS);
    assert_int_equal(decision_cache_stats(cache).evicted_young, 50000 - records);
    assert_int_equal(decision_cache_stats(cache).records, records);
    decision_cache_free(cache);
}

/* The hashes of a trace of any size, and those of its late spans, are recognised: for the window, not longer. */
static void test_hashes(void **state)
{
    static const size_t counts[] = {0, 1, 15, 32, 33, 100, 5000, 300000};
    (void)state;

    for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
        struct decision_cache *cache = cache_of(large());
        struct decision_record record = {.decision = DECISION_SAMPLED, .decided_ns = 1};
        struct trace_id id = id_of(1);
        uint64_t *hashes = calloc(counts[c] + 1, sizeof(*hashes));

        for (size_t i = 0; i < counts[c]; i++)
            hashes[i] = (i + 1) * 0x9e3779b97f4a7c15ull;
        decision_cache_put(cache, &id, hash_trace(&id), &record, hashes, counts[c], 1);
        put(cache, 2, DECISION_SAMPLED, 1);
        put(cache, 3, DECISION_NOT_SAMPLED, 1);
        assert_int_equal(decision_cache_stats(cache).hashes, counts[c]);
        for (size_t i = 0; i < counts[c]; i++) {
            if (!seen(cache, 1, hashes[i], WINDOW_NS + 1))
                fail_msg("hash %zu of %zu is lost", i, counts[c]);
        }
        for (uint64_t late = 1; late <= 3000; late++) {
            assert_false(seen(cache, 1, late, WINDOW_NS));
            assert_true(seen(cache, 1, late, WINDOW_NS));
            if (counts[c] > 0) /* of another trace, or of one that is not sampled or not known */
                assert_false(seen(cache, 3 + late % 2, hashes[late % counts[c]], 2));
        }
        assert_int_equal(decision_cache_stats(cache).hashes, counts[c] + 3000);
        for (uint64_t late = 1; late <= 3000; late++)
            assert_true(seen(cache, 1, late, 2 * WINDOW_NS));
        if (counts[c] > 0) {
            assert_false(seen(cache, 2, hashes[0], 5));
            assert_false(seen(cache, 1, hashes[0], WINDOW_NS + 2)); /* over, so a first time again */
            assert_true(seen(cache, 1, hashes[0], WINDOW_NS + 2));
        }
        for (unsigned i = 0; i < 1000; i++)
            decision_cache_tend(cache, 0, 10 * WINDOW_NS);
        assert_int_equal(decision_cache_stats(cache).hashes, 0);
        assert_int_equal(decision_cache_stats(cache).records, 3);
        free(hashes);
        decision_cache_free(cache);
    }
}

/* Within hash_bytes the newest stay; a trace too large for it is kept in part; nothing is ever mistaken. */
static void test_hash_bytes(void **state)
{
    static const uint64_t bytes[] = {0, 100, 1000, 5000, 64 * KIB, 1 * MIB};
    (void)state;

    for (size_t b = 0; b < sizeof(bytes) / sizeof(bytes[0]); b++) {
        struct decision_cache_options options = large();
        struct decision_cache *cache;
        uint64_t last_seen = 0, hashes_most;
        uint64_t *many = calloc(200000, sizeof(*many));

        options.hash_bytes = bytes[b];
        options.sampled_cache_size = 30000;
        cache = cache_of(options);
        hashes_most = bytes[b] / 8;
        for (uint64_t n = 1; n <= 20000; n++) {
            struct decision_record record = {.decision = DECISION_SAMPLED, .decided_ns = n};
            struct trace_id id = id_of(n);
            uint64_t hashes[10];

            for (uint64_t i = 0; i < 10; i++)
                hashes[i] = n * 100 + i;
            decision_cache_put(cache, &id, hash_trace(&id), &record, hashes, n % 10, n);
            if (n % 50 == 0)
                seen(cache, n / 2, 5, n);
            assert_true(decision_cache_stats(cache).hashes <= hashes_most);
        }
        for (uint64_t n = 20000; n > 0 && bytes[b] > 10000; n--) {
            struct trace_id id = id_of(n);
            struct decision_record record;

            if (n % 10 == 0)
                continue;
            assert_true(decision_cache_find(cache, &id, hash_trace(&id), false, n, &record));
            if (!seen(cache, n, n * 100, 20000))
                break;
            assert_true(seen(cache, n, n * 100 + n % 10 - 1, 20000));
            last_seen++;
        }
        /* About 4.5 hashes and an entry's head of 3 words each: at least half of the room holds them. */
        assert_true(bytes[b] <= 10000 || last_seen >= u64_min(bytes[b] / 8 / 8 / 2, 17000));

        for (uint64_t i = 0; i < 200000; i++)
            many[i] = i + 7;
        for (unsigned round = 0; round < 3; round++) {
            struct decision_record record = {.decision = DECISION_SAMPLED, .decided_ns = 20001};
            struct trace_id id = id_of(30000);

            decision_cache_put(cache, &id, hash_trace(&id), &record, many, 200000, 20001);
            assert_true(decision_cache_stats(cache).hashes <= hashes_most);
        }
        if (bytes[b] >= 5000)
            assert_true(decision_cache_stats(cache).hashes >= bytes[b] / 8 / 2);
        for (uint64_t i = 0; i < 5000; i++)
            assert_false(seen(cache, 29999, i, 20001)); /* not known at all */
        free(many);
        decision_cache_free(cache);
    }
}

struct model_record {
    bool there;
    enum decision decision;
    unsigned list; /* 0 sampled, 1 not sampled, 2 without cache */
    uint64_t used, decided_ns;
    uint64_t hashes[64], hash_ns[64];
    unsigned hash_count;
};

struct model {
    struct model_record records[600];
    uint64_t uses, held;
    const struct decision_cache_options *options;
};

static void model_trim(struct model *model, unsigned most, uint64_t now_ns)
{
    for (unsigned list = 0; list < 3; list++) {
        for (unsigned i = 0; i < most; i++) {
            struct model_record *oldest = NULL;
            uint64_t count = 0;
            uint64_t size = list == 0 ? (uint64_t)model->options->sampled_cache_size
                            : list == 1 ? (uint64_t)model->options->non_sampled_cache_size
                                        : u64_sub_floor(model->options->num_traces, model->held);

            for (unsigned n = 0; n < 600; n++) {
                struct model_record *record = &model->records[n];

                if (!record->there || record->list != list)
                    continue;
                count++;
                if (!oldest || record->used < oldest->used)
                    oldest = record;
            }
            if (count <= size || now_ns - oldest->decided_ns < model->options->verdict_keep_ns)
                break;
            oldest->there = false;
        }
    }
}

/* Against a plain array: puts, finds, resends and time, with caches of either kind on or off. */
static void test_random(void **state)
{
    static const struct {
        int64_t sampled, non_sampled;
        uint64_t num_traces;
    } cases[] = {{100, 150, 1}, {100, 0, 200}, {0, 100, 200}, {-1, 0, 300}};
    (void)state;

    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct decision_cache_options options = large();
        struct decision_cache *cache;
        struct model *model = calloc(1, sizeof(*model));
        uint64_t random = c, now_ns = 1000 * NS_PER_S;

        options.sampled_cache_size = cases[c].sampled;
        options.non_sampled_cache_size = cases[c].non_sampled;
        options.num_traces = cases[c].num_traces;
        options.verdict_keep_ns = 5 * NS_PER_S;
        options.resend_window_ns = 20 * NS_PER_S;
        cache = cache_of(options);
        model->options = &options;
        for (unsigned step = 0; step < 60000; step++) {
            struct trace_id id;
            struct model_record *record;
            struct decision_record got;
            uint64_t n, dice;
            uint64_t count = 0;

            random = random * 6364136223846793005ull + 1442695040888963407ull;
            n = (random >> 32) % 600;
            dice = random >> 52;
            id = id_of(n);
            record = &model->records[n];
            if (dice % 10 < 3) {
                struct decision_record put_record = {.policy = (uint16_t)step, .decided_ns = now_ns};
                unsigned new_hashes = (unsigned)(dice / 10 % 12);

                put_record.decision = dice / 128 % 3 ? DECISION_NOT_SAMPLED : DECISION_SAMPLED;
                if (!record->there || record->decision != DECISION_SAMPLED ||
                    put_record.decision != DECISION_SAMPLED || record->hash_count + new_hashes > 64)
                    record->hash_count = 0;
                else if (record->hash_count + new_hashes > 60)
                    new_hashes = 0;
                if (put_record.decision != DECISION_SAMPLED)
                    new_hashes = 0;
                for (unsigned i = 0; i < new_hashes; i++) {
                    record->hashes[record->hash_count] = 1000000 + step * 16 + i;
                    record->hash_ns[record->hash_count++] = now_ns;
                }
                record->there = true;
                record->decision = put_record.decision;
                record->decided_ns = now_ns;
                record->used = ++model->uses;
                record->list = put_record.decision == DECISION_SAMPLED ? (options.sampled_cache_size > 0 ? 0 : 2)
                               : options.non_sampled_cache_size > 0    ? 1
                                                                       : 2;
                decision_cache_put(cache, &id, hash_trace(&id), &put_record,
                    record->hashes + record->hash_count - new_hashes, new_hashes, now_ns);
                model_trim(model, 2, now_ns);
            } else if (dice % 10 < 6) {
                bool refresh = dice / 10 % 2;
                bool found = decision_cache_find(cache, &id, hash_trace(&id), refresh, now_ns, &got);

                assert_int_equal(found, record->there);
                if (found) {
                    assert_int_equal(got.decision, record->decision);
                    assert_int_equal(got.decided_ns, record->decided_ns);
                    assert_int_equal(got.cached, record->list != 2);
                    if (refresh && record->list != 2)
                        record->used = ++model->uses;
                }
            } else if (dice % 10 < 8) {
                bool known = record->there && record->decision == DECISION_SAMPLED;
                bool old = known && record->hash_count > 0 && dice / 10 % 2;
                unsigned at = record->hash_count ? (unsigned)(dice % record->hash_count) : 0;
                uint64_t hash = old ? record->hashes[at] : 1000 + step;
                bool was = decision_cache_seen(cache, &id, hash_trace(&id), hash, now_ns);

                if (!old)
                    assert_false(was);
                else if (now_ns - record->hash_ns[at] <= options.resend_window_ns)
                    assert_true(was);
                if (old && !was) {
                    record->hash_ns[at] = now_ns;
                } else if (known && !old && record->hash_count < 64) {
                    record->hashes[record->hash_count] = hash;
                    record->hash_ns[record->hash_count++] = now_ns;
                }
            } else if (dice % 10 == 8) {
                now_ns += dice * NS_PER_MS / 10;
            } else {
                model->held = dice / 10 % 100;
                decision_cache_tend(cache, model->held, now_ns);
                model_trim(model, 256, now_ns);
            }
            if (step % 64 == 0) {
                for (unsigned i = 0; i < 600; i++)
                    count += model->records[i].there;
                assert_int_equal(decision_cache_stats(cache).records, count);
            }
        }
        assert_int_equal(decision_cache_stats(cache).evicted_young, 0);
        decision_cache_free(cache);
        free(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),     cmocka_unit_test(test_whole_id),  cmocka_unit_test(test_lru),
        cmocka_unit_test(test_num_traces), cmocka_unit_test(test_max_bytes), cmocka_unit_test(test_hashes),
        cmocka_unit_test(test_hash_bytes), cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
