/* A trace whose bytes went to the journal keeps everything else: it knows its spans, takes new ones, and is whole again, byte for
 * byte, when they are read back. What it holds of the journal is let go of once, whatever way a span goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "sampler/buffer/trace_test_kit.h"

static struct trace *add(struct fixture *fixture, uint64_t number)
{
    struct trace_id id = id_of(number);
    struct trace *trace = trace_table_add(fixture->table, &id, hash_trace(&id), NULL, 1, 1);

    assert_non_null(trace);
    return trace;
}

static struct span_seed seed_of(uint32_t i)
{
    return (struct span_seed){i, 30 + i * 37 % 1500, (uint8_t)(i / 3 % HEADERS)};
}

/* The journal: bytes by hash, of the seeds 0 .. count - 1; some cannot be read. */
struct disk {
    uint32_t count, unreadable; /* every so manieth; 0: none */
    uint8_t *bytes;
    size_t told;
    uint64_t told_bytes;
};

static struct slice disk_read(void *context, uint64_t span_hash)
{
    struct disk *disk = context;

    for (uint32_t i = 0; i < disk->count; i++) {
        struct span_seed span = seed_of(i);

        if (hash_of(span) != span_hash)
            continue;
        if (disk->unreadable > 0 && i % disk->unreadable == 0)
            return (struct slice){NULL, 0};
        return span_of(span.seed, span.len, disk->bytes);
    }
    fail_msg("nobody wrote this span");
    return (struct slice){NULL, 0};
}

static void disk_tell(void *context, uint64_t span_hash, uint32_t len, struct journal_pos at)
{
    struct disk *disk = context;

    (void)span_hash;
    assert_int_not_equal(at.segment, 0);
    disk->told++;
    disk->told_bytes += len;
}

static struct disk disk_of(uint32_t count, uint32_t unreadable)
{
    struct disk disk = {.count = count, .unreadable = unreadable, .bytes = malloc(4096)};

    assert_non_null(disk.bytes);
    return disk;
}

static uint64_t used(struct fixture *fixture)
{
    extent_store_settle(fixture->store);
    return extent_store_used_bytes(fixture->store);
}

/* Spans before it is spilled, spans after; then some are spilled again, or read back. */
static void test_there_and_back(void **state)
{
    static const struct {
        uint32_t before, after, then; /* spans, spans, and once more spilled and then spans */
    } cases[] = {{1, 0, 0}, {3, 1, 0}, {4, 5, 0}, {8, 0, 1}, {9, 3, 0}, {15, 0, 0}, {15, 15, 15}, {32, 1, 0}, {33, 40, 3}, {400, 400, 10}};
    struct fixture fixture;
    (void)state;

    fixture_init(&fixture, 256 * MIB);
    for (size_t c = 0; c < ARRAY_COUNT(cases); c++) {
        uint32_t n = cases[c].before, spilled = n;
        struct trace *trace = add(&fixture, c);
        struct disk disk = disk_of(2000, 0);
        struct span_seed spans[1000];

        for (uint32_t i = 0; i < 1000; i++)
            spans[i] = seed_of(i);
        for (uint32_t i = 0; i < n; i++)
            (void)add_seed(&fixture, trace, spans[i]);
        assert_ptr_equal(trace_table_spillable(fixture.table), trace);
        assert_true(trace_spill(fixture.table, trace));
        assert_null(trace_table_spillable(fixture.table));
        for (uint32_t i = 0; i < cases[c].after; i++, n++)
            assert_int_equal(add_seed(&fixture, trace, spans[n]), TRACE_SPAN_ADDED);
        if (cases[c].then > 0) {
            assert_true(trace_spill(fixture.table, trace));
            spilled = n;
            for (uint32_t i = 0; i < cases[c].then; i++, n++)
                assert_int_equal(add_seed(&fixture, trace, spans[n]), TRACE_SPAN_ADDED);
        }
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(add_seed(&fixture, trace, spans[i]), TRACE_SPAN_DUPLICATE);
        assert_ptr_equal(trace_table_spillable(fixture.table), n > spilled ? trace : NULL);
        assert_int_equal(trace_info(trace).span_count, n);
        assert_int_equal(trace_info(trace).spilled_count, spilled);
        assert_int_equal(trace_table_spilled_count(fixture.table), spilled);
        assert_int_equal(trace_table_span_count(fixture.table), n);

        trace_spilled(trace, disk_tell, &disk);
        assert_int_equal(disk.told, spilled);
        assert_false(trace_spill(fixture.table, trace)); /* they are being read */
        assert_int_equal(trace_unspill(fixture.table, trace, disk_read, &disk), 0);
        check_trace(&fixture, trace, spans, n);
        assert_int_equal(trace_table_spilled_count(fixture.table), 0);
        assert_ptr_equal(trace_table_spillable(fixture.table), trace);
        assert_int_equal(add_seed(&fixture, trace, spans[n]), TRACE_SPAN_ADDED);
        check_trace(&fixture, trace, spans, n + 1);
        trace_free(fixture.table, trace);
        assert_int_equal(used(&fixture), 0);
        free(disk.bytes);
    }
    fixture_deinit(&fixture);
}

/* What cannot be read is lost, and only that. */
static void test_lost(void **state)
{
    struct fixture fixture;
    struct disk disk = disk_of(50, 3);
    struct span_seed left[50];
    uint32_t left_count = 0, lost = 0;
    struct trace *trace;
    (void)state;

    fixture_init(&fixture, 64 * MIB);
    trace = add(&fixture, 1);
    for (uint32_t i = 0; i < 50; i++) {
        (void)add_seed(&fixture, trace, seed_of(i));
        if (i == 39)
            assert_true(trace_spill(fixture.table, trace));
        if (i < 40 && i % 3 == 0)
            lost++;
        else
            left[left_count++] = seed_of(i);
    }
    trace_spilled(trace, disk_tell, &disk);
    assert_int_equal(trace_unspill(fixture.table, trace, disk_read, &disk), lost);
    check_trace(&fixture, trace, left, left_count);
    free(disk.bytes);
    fixture_deinit(&fixture);
}

/* A span that the journal does not have keeps its trace in memory. */
static void test_lies_nowhere(void **state)
{
    struct fixture fixture;
    struct trace *trace;
    uint64_t before;
    (void)state;

    fixture_init(&fixture, 64 * MIB);
    trace = add(&fixture, 1);
    (void)add_seed(&fixture, trace, seed_of(1));
    assert_int_equal(
        trace_add_span(fixture.table, trace, slice_text("nowhere"), 5, fixture.headers[0], (struct journal_pos){0, 0}), TRACE_SPAN_ADDED);
    before = used(&fixture);
    assert_false(trace_spill(fixture.table, trace));
    assert_int_equal(used(&fixture), before);
    assert_int_equal(trace_info(trace).spilled_count, 0);
    assert_null(trace_table_spillable(fixture.table)); /* nobody tries again and again */
    (void)add_seed(&fixture, trace, seed_of(2));
    assert_ptr_equal(trace_table_spillable(fixture.table), trace);
    fixture_deinit(&fixture);
}

static void move_place(void *context, uint64_t span_hash, uint32_t len, struct journal_pos *at)
{
    struct fixture *fixture = context;

    (void)span_hash;
    if (at->segment != 2)
        return;
    fixture_let_go(fixture, 2, len);
    fixture->journal_held[5] += len;
    *at = (struct journal_pos){5, 1000 + at->offset};
}

static void count_moved(void *context, uint64_t span_hash, uint32_t len, struct journal_pos *at)
{
    unsigned *moved = context;

    (void)span_hash;
    (void)len;
    assert_int_not_equal(at->segment, 2);
    *moved += at->offset >= 1000;
}

/* A segment was emptied: places change, in memory and spilled. */
static void test_moved(void **state)
{
    struct fixture fixture;
    (void)state;

    fixture_init(&fixture, 64 * MIB);
    for (unsigned spill = 0; spill < 2; spill++) {
        struct trace *trace = add(&fixture, spill);
        unsigned moved = 0;

        for (uint32_t i = 0; i < 60; i++)
            (void)add_seed(&fixture, trace, seed_of(i));
        if (spill)
            assert_true(trace_spill(fixture.table, trace));
        trace_places(trace, move_place, &fixture);
        trace_places(trace, count_moved, &moved);
        assert_int_equal(moved, 12); /* four of every 24, from 4 on */
        assert_int_equal(fixture.journal_held[2], 0);
    }
    fixture_deinit(&fixture);
}

/* Against a model: traces are spilled, read back, joined, relieved of spans and freed, in any order. */
struct model_trace {
    struct trace *trace;
    uint32_t seeds[120]; /* in order */
    uint32_t count, spilled;
};

static void model_check(const struct fixture *fixture, const struct model_trace *model)
{
    struct span_seed spans[120];

    for (uint32_t i = 0; i < model->count; i++)
        spans[i] = seed_of(model->seeds[i]);
    check_trace(fixture, model->trace, spans, model->count);
}

static void model_remove(struct fixture *fixture, struct model_trace *model, uint32_t of)
{
    uint64_t hashes[120];
    uint32_t left = 0, removed = 0, spilled = 0;

    for (uint32_t i = 0; i < model->count; i++) {
        if (model->seeds[i] % of == 0) {
            hashes[removed++] = hash_of(seed_of(model->seeds[i]));
        } else {
            spilled += i < model->spilled;
            model->seeds[left++] = model->seeds[i];
        }
    }
    assert_int_equal(trace_remove_spans(fixture->table, model->trace, hashes, removed), removed);
    model->count = left;
    model->spilled = spilled;
}

static void test_random(void **state)
{
    enum { TRACES = 50, STEPS = 60000 };
    struct fixture fixture;
    struct model_trace *model = calloc(TRACES, sizeof(*model));
    struct disk disk = disk_of(150, 0);
    uint64_t numbers = 0, spills = 0;
    (void)state;

    fixture_init(&fixture, 256 * MIB);
    for (unsigned step = 0; step < STEPS; step++) {
        struct model_trace *at = &model[draw(&fixture) % TRACES];
        uint64_t dice = draw(&fixture) % 100;
        uint64_t spilled = 0, spans = 0;

        if (!at->trace) {
            *at = (struct model_trace){.trace = add(&fixture, ++numbers)};
        } else if (dice < 70) {
            uint32_t seed = (uint32_t)(draw(&fixture) % 150);
            enum trace_span_result want = TRACE_SPAN_ADDED;

            for (uint32_t i = 0; i < at->count; i++) {
                if (at->seeds[i] == seed)
                    want = TRACE_SPAN_DUPLICATE;
            }
            if (at->count == 120)
                continue;
            assert_int_equal(add_seed(&fixture, at->trace, seed_of(seed)), want);
            if (want == TRACE_SPAN_ADDED)
                at->seeds[at->count++] = seed;
        } else if (dice < 80) {
            struct trace *trace = trace_table_spillable(fixture.table);

            for (unsigned i = 0; i < TRACES && trace; i++) {
                if (model[i].trace != trace)
                    continue;
                assert_true(trace_spill(fixture.table, trace));
                model[i].spilled = model[i].count;
                spills++;
            }
        } else if (dice < 84) {
            model_remove(&fixture, at, 2 + (uint32_t)draw(&fixture) % 10);
        } else if (dice < 94) {
            trace_spilled(at->trace, disk_tell, &disk);
            if (dice < 87) /* meanwhile something was given away */
                model_remove(&fixture, at, 7);
            assert_int_equal(trace_unspill(fixture.table, at->trace, disk_read, &disk), 0);
            at->spilled = 0;
            model_check(&fixture, at);
            if (dice == 93) { /* out, and back in */
                trace_table_take(fixture.table, at->trace);
                model_check(&fixture, at);
                assert_ptr_equal(trace_table_put_back(fixture.table, at->trace, 0), at->trace);
            }
        } else if (dice < 96) {
            trace_free(fixture.table, at->trace);
            at->trace = NULL;
            at->count = at->spilled = 0;
        }
        for (unsigned i = 0; i < TRACES; i++) {
            spilled += model[i].spilled;
            spans += model[i].count;
        }
        assert_int_equal(trace_table_spilled_count(fixture.table), spilled);
        assert_int_equal(trace_table_span_count(fixture.table), spans);
    }
    assert_true(spills > 1000);
    free(disk.bytes);
    free(model);
    fixture_deinit(&fixture);
}

/* What a spilled span costs, at 15 a trace: blocks and index, at most 64 bytes. */
static void test_memory(void **state)
{
    enum { TRACES = 20000, SPANS = 15 };
    struct fixture fixture;
    uint64_t bytes;
    (void)state;

    fixture_init(&fixture, 512 * MIB);
    for (uint64_t n = 0; n < TRACES; n++) {
        struct trace *trace = add(&fixture, n);

        for (uint32_t i = 0; i < SPANS; i++)
            (void)add_seed(&fixture, trace, (struct span_seed){(uint32_t)n * SPANS + i, 730, 0});
        assert_true(trace_spill(fixture.table, trace));
    }
    bytes = used(&fixture) + trace_table_index_bytes(fixture.table);
    if (bytes > 64ull * TRACES * SPANS)
        fail_msg("%g bytes a span", (double)bytes / (TRACES * SPANS));
    fixture_deinit(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_lost), cmocka_unit_test(test_lies_nowhere),
        cmocka_unit_test(test_moved), cmocka_unit_test(test_random), cmocka_unit_test(test_memory),
    };

    with_journal = true;
    return cmocka_run_group_tests_name("trace_spill", tests, NULL, NULL);
}
