/* A trace gives back the spans it was given, in order and byte for byte, each once; traces are found, come due and
 * leave as they should; and when all are gone, so is their memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "sampler/buffer/trace_test_kit.h"

/* Spans of every size around the borders of blocks and record blocks. */
static void test_bytes(void **state)
{
    static const struct {
        const char *what;
        uint32_t spans, len, step; /* span i has len + i * step bytes */
    } cases[] = {
        {"nothing", 0, 0, 0},
        {"empty spans", 40, 0, 0},
        {"one small", 1, 1, 0},
        {"one that fills the trace's block and more", 1, 200, 0},
        {"one of 4 KiB", 1, 4096, 0},
        {"one huge", 1, 3000000, 0},
        {"growing by one", 600, 1, 1},
        {"growing by 64", 100, 60, 64},
        {"fifteen usual", 15, 730, 3},
        {"shrinking blocks", 50, 4088, 0},
        {"many small", 3000, 33, 0},
    };
    struct fixture fixture;
    (void)state;

    fixture_init(&fixture, 256 * MIB);
    for (size_t c = 0; c < ARRAY_COUNT(cases); c++) {
        struct trace_id id = id_of(c);
        struct trace *trace = trace_new_apart(fixture.table, &id, 5);
        struct span_seed *spans = calloc(cases[c].spans + 1, sizeof(*spans));

        assert_non_null(trace);
        for (uint32_t i = 0; i < cases[c].spans; i++) {
            spans[i] = (struct span_seed){i, cases[c].len + i * cases[c].step, (uint8_t)(i / 3 % HEADERS)};
            assert_int_equal(add_seed(&fixture, trace, spans[i]), TRACE_SPAN_ADDED);
            if (i % 97 == 0)
                check_trace(&fixture, trace, spans, i + 1);
        }
        check_trace(&fixture, trace, spans, cases[c].spans);
        for (uint32_t i = 0; i < cases[c].spans; i++)
            assert_int_equal(add_seed(&fixture, trace, spans[i]), TRACE_SPAN_DUPLICATE);
        check_trace(&fixture, trace, spans, cases[c].spans);
        assert_int_equal(trace_table_count(fixture.table), 0);
        assert_int_equal(trace_table_span_count(fixture.table), 0);
        trace_free(fixture.table, trace);
        assert_null(trace_table_due(fixture.table, 1));
        if (extent_store_used_bytes(fixture.store) != 0)
            fail_msg("%s: blocks are left", cases[c].what);
        free(spans);
    }
    trace_free(fixture.table, NULL);
    fixture_deinit(&fixture);
}

/* A visitor that has enough is not called again. */
static void test_visit_stops(void **state)
{
    struct fixture fixture;
    struct span_seed spans[30];
    struct expected expected = {&fixture, spans, 0, 7};
    struct trace_id id = id_of(1);
    struct trace *trace;
    (void)state;

    fixture_init(&fixture, 64 * MIB);
    trace = trace_new_apart(fixture.table, &id, 5);
    for (uint32_t i = 0; i < 30; i++) {
        spans[i] = (struct span_seed){i, 300, 0};
        assert_int_equal(add_seed(&fixture, trace, spans[i]), TRACE_SPAN_ADDED);
    }
    assert_int_equal(trace_spans(trace, check_span, &expected), 17);
    assert_int_equal(expected.at, 7);
    trace_free(fixture.table, trace);
    fixture_deinit(&fixture);
}

/* Freeing the bytes gives their blocks back and leaves what is known of the trace. */
static void test_free_bytes(void **state)
{
    struct fixture fixture;
    struct trace_id id = id_of(1);
    struct trace *trace;
    uint64_t hashes[100], used_bytes;
    (void)state;

    fixture_init(&fixture, 64 * MIB);
    trace = trace_table_add(fixture.table, &id, hash_trace(&id), NULL, 3, 4);
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(add_seed(&fixture, trace, (struct span_seed){i, 700, 1}), TRACE_SPAN_ADDED);
    trace_table_take(fixture.table, trace);
    used_bytes = extent_store_used_bytes(fixture.store);
    trace_free_bytes(fixture.table, trace);
    assert_null(trace_table_due(fixture.table, 1));
    assert_true(extent_store_used_bytes(fixture.store) + 100 * 700 <= used_bytes + 512);
    trace_hashes(trace, hashes);
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(hashes[i], hash_of((struct span_seed){i, 700, 1}));
    assert_int_equal(trace_info(trace).span_count, 100);
    assert_int_equal(trace_info(trace).bytes, 70000);
    assert_int_equal(fixture.headers[1]->refs, 101);
    trace_free(fixture.table, trace);
    fixture_deinit(&fixture);
}

/* A million spans in one trace: each recognised when it comes again, none mistaken. */
static void test_million(void **state)
{
    enum { SPANS = 1000000 };
    struct fixture fixture;
    struct trace_id id = id_of(1);
    struct trace *trace;
    uint8_t bytes[40] = {0};
    (void)state;

    fixture_init(&fixture, 512 * MIB);
    trace = trace_table_add(fixture.table, &id, hash_trace(&id), NULL, 3, 4);
    for (uint64_t i = 0; i < SPANS; i++) {
        enum trace_span_result result;

        memcpy(bytes, &i, sizeof(i));
        result = trace_add_span(fixture.table, trace, slice_make(bytes, sizeof(bytes)),
            hash_bytes(bytes, sizeof(bytes)), fixture.headers[0], (struct journal_pos){0, 7});
        assert_int_equal(result, TRACE_SPAN_ADDED);
    }
    for (uint64_t i = 0; i < SPANS; i++) {
        memcpy(bytes, &i, sizeof(i));
        assert_int_equal(trace_add_span(fixture.table, trace, slice_make(bytes, sizeof(bytes)),
                             hash_bytes(bytes, sizeof(bytes)), fixture.headers[0], (struct journal_pos){0, 7}),
            TRACE_SPAN_DUPLICATE);
    }
    assert_int_equal(trace_info(trace).span_count, SPANS);
    assert_int_equal(trace_table_span_count(fixture.table), SPANS);
    /* 40 bytes, a record of 16, its place of 8, at most 20 in the index, and headers of blocks. */
    assert_true(extent_store_used_bytes(fixture.store) <= SPANS * (with_journal ? 87ull : 78ull));
    trace_free(fixture.table, trace);
    assert_int_equal(trace_table_span_count(fixture.table), 0);
    fixture_deinit(&fixture);
}

struct model_trace {
    struct trace *trace;
    struct span_seed spans[80];
    uint32_t count;
    uint64_t number;  /* of its ID: never used again */
    uint64_t arrival; /* order */
    uint64_t deadline_ns, set_ns;
    bool in_table, waits;
};

/* Against a plain array of traces: arrivals, resends, hastened deadlines, decisions, exports, in any order. */
static void test_random(void **state)
{
    enum { TRACES = 400, STEPS = 150000 };
    struct fixture fixture;
    struct model_trace *model = calloc(TRACES, sizeof(*model));
    uint64_t now_ns = NS_PER_S, numbers = 0, arrivals = 0, pending = 0, pending_spans = 0;
    (void)state;

    fixture_init(&fixture, 256 * MIB);
    for (unsigned step = 0; step < STEPS; step++) {
        struct model_trace *at = &model[draw(&fixture) % TRACES];
        uint64_t dice = draw(&fixture) % 100;
        struct trace_id id = id_of(at->number);
        struct trace *found = trace_table_find(fixture.table, &id, hash_trace(&id));

        assert_ptr_equal(found, at->in_table ? at->trace : NULL);
        if (dice % 2) {
            trace_table_prefetch(fixture.table, hash_trace(&id));
            trace_table_prefetch_trace(fixture.table, hash_trace(&id));
        }
        if (!at->trace) {
            memset(at, 0, sizeof(*at));
            at->number = ++numbers;
            id = id_of(at->number);
            if (dice < 90) {
                at->set_ns = now_ns;
                at->deadline_ns = now_ns + draw(&fixture) % (5 * NS_PER_S);
                at->trace =
                    trace_table_add(fixture.table, &id, hash_trace(&id), NULL, now_ns, at->deadline_ns);
                at->in_table = at->waits = true;
                at->arrival = ++arrivals;
                pending++;
            } else {
                at->trace = trace_new_apart(fixture.table, &id, now_ns);
                assert_int_equal(trace_info(at->trace).state, TRACE_SAMPLED);
                assert_int_equal(trace_way_out(at->trace)->unit.size_bytes, 0);
            }
            assert_true(trace_id_equal(trace_id_of(at->trace), &id));
            assert_int_equal(trace_info(at->trace).first_ns, now_ns);
            assert_null(trace_policy_set(at->trace));
            assert_int_equal(trace_facts(at->trace)->spans_count, 0);
        } else if (dice < 60) {
            struct span_seed span = {
                (uint32_t)(draw(&fixture) % 90), 1 + (uint32_t)(draw(&fixture) % 3 * 400), (uint8_t)(dice % HEADERS)};
            enum trace_span_result want = TRACE_SPAN_ADDED;

            for (uint32_t i = 0; i < at->count; i++) {
                if (at->spans[i].seed == span.seed && at->spans[i].len == span.len)
                    want = TRACE_SPAN_DUPLICATE;
            }
            if (at->count == 80 && want == TRACE_SPAN_ADDED)
                continue;
            assert_int_equal(add_seed(&fixture, at->trace, span), want);
            if (want == TRACE_SPAN_ADDED) {
                at->spans[at->count++] = span;
                if (at->in_table)
                    pending_spans++;
            }
        } else if (dice < 65 && at->in_table) {
            uint64_t deadline_ns = now_ns + draw(&fixture) % (5 * NS_PER_S);

            trace_hasten(fixture.table, at->trace, deadline_ns);
            if (!at->waits || deadline_ns < at->deadline_ns) {
                at->deadline_ns = deadline_ns;
                at->set_ns = now_ns;
            }
            at->waits = true;
            assert_int_equal(trace_info(at->trace).deadline_ns, at->deadline_ns);
        } else if (dice < 75) {
            struct model_trace *oldest = NULL;

            for (unsigned i = 0; i < TRACES; i++) {
                if (model[i].in_table && (!oldest || model[i].arrival < oldest->arrival))
                    oldest = &model[i];
            }
            assert_ptr_equal(trace_table_oldest(fixture.table), oldest ? oldest->trace : NULL);
        } else if (dice < 80 && at->in_table) {
            trace_table_take(fixture.table, at->trace);
            at->in_table = at->waits = false;
            pending--;
            pending_spans -= at->count;
            assert_int_equal(trace_info(at->trace).state, TRACE_SAMPLED);
            assert_int_equal(trace_info(at->trace).deadline_ns, 0);
            assert_int_equal(trace_way_out(at->trace)->unit.size_bytes, 0);
            trace_way_out(at->trace)->unit.size_bytes = UINT64_MAX;
            trace_way_out(at->trace)->unit.span_count = UINT32_MAX;
            assert_ptr_equal(trace_of_way_out(trace_way_out(at->trace)), at->trace);
        } else if (dice < 85) {
            check_trace(&fixture, at->trace, at->spans, at->count);
            if (at->in_table) {
                pending--;
                pending_spans -= at->count;
            } else if (dice < 83) {
                trace_free_bytes(fixture.table, at->trace);
            }
            trace_free(fixture.table, at->trace);
            at->trace = NULL;
            at->in_table = at->waits = false;
        } else {
            struct trace *due;

            now_ns += draw(&fixture) % (50 * NS_PER_MS);
            if (trace_table_next_ns(fixture.table) > now_ns)
                assert_null(trace_table_due(fixture.table, now_ns));
            while ((due = trace_table_due(fixture.table, now_ns))) {
                struct model_trace *of = NULL;

                for (unsigned i = 0; i < TRACES; i++) {
                    if (model[i].trace == due)
                        of = &model[i];
                }
                assert_non_null(of);
                assert_true(of->waits && of->deadline_ns <= now_ns);
                of->waits = false;
            }
            for (unsigned i = 0; i < TRACES; i++) {
                uint64_t due_ns = u64_max(model[i].deadline_ns, model[i].set_ns);

                if (model[i].waits && due_ns + DEADLINE_TICK_NS <= now_ns)
                    fail_msg("step %u: trace %u was not due", step, i);
            }
        }
        assert_int_equal(trace_table_count(fixture.table), pending);
        assert_int_equal(trace_table_span_count(fixture.table), pending_spans);
    }
    for (unsigned i = 0; i < TRACES; i++) {
        if (!model[i].trace)
            continue;
        check_trace(&fixture, model[i].trace, model[i].spans, model[i].count);
        if (i % 2 || !model[i].in_table) /* the others are the table's to free */
            trace_free(fixture.table, model[i].trace);
    }
    free(model);
    fixture_deinit(&fixture);
}

/* Two hundred thousand traces: every one found, none that is not there, the index in proportion; and when they are
 * gone in another order than they came, their memory is back. */
static void test_many(void **state)
{
    enum { TRACES = 200000 };
    struct fixture fixture;
    uint64_t in_use;
    (void)state;

    fixture_init(&fixture, 512 * MIB);
    for (uint64_t i = 0; i < TRACES; i++) {
        struct trace_id id = id_of(i);
        struct trace *trace = trace_table_add(fixture.table, &id, hash_trace(&id), NULL, i, i);

        assert_non_null(trace);
        assert_int_equal(add_seed(&fixture, trace, (struct span_seed){(uint32_t)i, 300, 2}), TRACE_SPAN_ADDED);
    }
    assert_true(trace_table_index_bytes(fixture.table) < 48 * TRACES + 128 * KIB);
    for (uint64_t i = 0; i < TRACES; i++) {
        struct trace_id id = id_of(i), other = id_of(i + TRACES);

        assert_non_null(trace_table_find(fixture.table, &id, hash_trace(&id)));
        assert_null(trace_table_find(fixture.table, &other, hash_trace(&other)));
    }
    for (uint64_t i = 0; i < TRACES; i++) {
        struct trace_id id = id_of(i * 7919 % TRACES);
        struct trace *trace = trace_table_find(fixture.table, &id, hash_trace(&id));

        assert_non_null(trace);
        if (i % 3 == 0)
            trace_table_take(fixture.table, trace);
        trace_free(fixture.table, trace);
    }
    assert_int_equal(trace_table_count(fixture.table), 0);
    assert_null(trace_table_oldest(fixture.table));
    assert_null(trace_table_due(fixture.table, 1));
    in_use = extent_pool_committed_bytes(fixture.pool) - extent_pool_idle_bytes(fixture.pool);
    assert_true(in_use <= BLOCK_CLASSES * EXTENT_BYTES);
    fixture_deinit(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),   cmocka_unit_test(test_visit_stops), cmocka_unit_test(test_free_bytes),
        cmocka_unit_test(test_million), cmocka_unit_test(test_random),      cmocka_unit_test(test_many),
    };

    int failed = cmocka_run_group_tests_name("without a journal", tests, NULL, NULL);

    with_journal = true;
    return failed + cmocka_run_group_tests_name("with a journal", tests, NULL, NULL);
}
