/* A trace that may not be decided or exported yet waits without being due, and is found, joined and visited all the same; what
 * is taken out of a trace is gone, and only that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "sampler/buffer/trace_test_kit.h"

static struct trace *add(struct fixture *fixture, uint64_t number, uint64_t now_ns, uint64_t deadline_ns)
{
    struct trace_id id = id_of(number);
    struct trace *trace = trace_table_add(fixture->table, &id, hash_trace(&id), NULL, now_ns, deadline_ns);

    assert_non_null(trace);
    return trace;
}

static struct trace *find(struct fixture *fixture, uint64_t number)
{
    struct trace_id id = id_of(number);

    return trace_table_find(fixture->table, &id, hash_trace(&id));
}

/* -- from elsewhere --------------------------------------------------------------------------------- */

/* First spans and deadlines may lie in the past: it is due at once, and its age is the oldest that was told. */
static void test_the_past(void **state)
{
    struct fixture fixture;
    struct trace *trace;
    (void)state;

    fixture_init(&fixture, 64 * MIB);
    assert_null(trace_table_due(fixture.table, 100 * NS_PER_S));
    trace = add(&fixture, 1, 100 * NS_PER_S, 3 * NS_PER_S);
    trace_first_at(trace, 7);
    trace_first_at(trace, 9);
    assert_int_equal(trace_info(trace).first_ns, 7);
    assert_int_equal(trace_info(trace).deadline_ns, 3 * NS_PER_S);
    assert_ptr_equal(trace_table_due(fixture.table, 100 * NS_PER_S + DEADLINE_TICK_NS), trace);
    fixture_deinit(&fixture);
}

/* -- on hold ---------------------------------------------------------------------------------------- */

enum { TRACES = 300, STEPS = 60000 };

struct model_trace {
    struct trace *trace;
    uint64_t number, deadline_ns, came_ns;
    enum trace_state state;
    bool held;    /* and not released */
    bool given;   /* by trace_table_due, its deadline spent */
    bool all_along; /* in the table since the walk over all began */
    unsigned visits;
};

static void count_visit(void *context, struct trace *trace)
{
    struct model_trace *model = context;

    for (unsigned i = 0; i < TRACES; i++) {
        if (model[i].trace == trace)
            model[i].visits++;
    }
}

static void check_due(struct fixture *fixture, struct model_trace *model, uint64_t now_ns)
{
    struct trace *due;

    while ((due = trace_table_due(fixture->table, now_ns))) {
        struct model_trace *of = NULL;

        for (unsigned i = 0; i < TRACES; i++) {
            if (model[i].trace == due)
                of = &model[i];
        }
        assert_non_null(of);
        assert_false(of->held);
        assert_false(of->given);
        if (of->state == TRACE_PENDING)
            assert_true(of->deadline_ns <= now_ns);
        assert_false(trace_info(due).held);
        of->given = true;
    }
    for (unsigned i = 0; i < TRACES; i++) {
        const struct model_trace *at = &model[i];

        if (at->trace && !at->held && !at->given && (at->state != TRACE_PENDING || u64_max(at->deadline_ns, at->came_ns) + DEADLINE_TICK_NS <= now_ns))
            fail_msg("trace %u was not due", i);
    }
}

/* Against a plain array: no trace on hold is due; a release gives each once, the pending not before their time; and a walk
 * over all meets whoever was there throughout once. */
static void test_random(void **state)
{
    struct fixture fixture;
    struct model_trace *model = calloc(TRACES, sizeof(*model));
    uint64_t now_ns = NS_PER_S, numbers = 0, cursor = 0, in_table = 0, walks = 0;
    (void)state;

    fixture_init(&fixture, 256 * MIB);
    for (unsigned step = 0; step < STEPS; step++) {
        struct model_trace *at = &model[draw(&fixture) % TRACES];
        uint64_t dice = draw(&fixture) % 100;

        if (!at->trace) {
            *at = (struct model_trace){.number = ++numbers, .came_ns = now_ns, .deadline_ns = now_ns + draw(&fixture) % (3 * NS_PER_S)};
            if (dice < 20)
                at->deadline_ns = draw(&fixture) % now_ns; /* overdue, from elsewhere */
            at->trace = add(&fixture, at->number, now_ns, at->deadline_ns);
            (void)add_seed(&fixture, at->trace, (struct span_seed){(uint32_t)at->number, 40, 0});
            trace_mark(at->trace, (uint32_t)at->number);
            in_table++;
        } else if (dice < 20) {
            trace_hold(fixture.table, at->trace);
            at->held = true;
            at->given = false;
        } else if (dice < 21) {
            trace_release(fixture.table, at->trace); /* of one that is not on hold: nothing */
            at->held = false;
        } else if (dice < 22) {
            trace_table_release(fixture.table);
            for (unsigned i = 0; i < TRACES; i++)
                model[i].held = false;
        } else if (dice < 30) {
            uint64_t deadline_ns = now_ns + draw(&fixture) % (3 * NS_PER_S);

            trace_hasten(fixture.table, at->trace, deadline_ns);
            if (at->given) /* spent: this is a new one */
                at->deadline_ns = at->state == TRACE_PENDING ? deadline_ns : at->deadline_ns;
            else
                at->deadline_ns = u64_min(at->deadline_ns, deadline_ns);
            if (at->given && at->state != TRACE_PENDING)
                trace_hold(fixture.table, at->trace), at->held = true;
            at->given = false;
        } else if (dice < 35 && at->state == TRACE_PENDING) {
            trace_await_export(fixture.table, at->trace);
            at->state = TRACE_SAMPLED_WAITING;
            at->held = true;
            at->given = false;
        } else if (dice < 40) {
            trace_table_take(fixture.table, at->trace);
            assert_null(find(&fixture, at->number));
            assert_int_equal(trace_info(at->trace).state, TRACE_SAMPLED);
            assert_int_equal(trace_info(at->trace).mark, 0);
            if (dice < 38) {
                assert_ptr_equal(trace_table_put_back(fixture.table, at->trace, (uint8_t)dice), at->trace);
                assert_int_equal(trace_info(at->trace).delivered, dice);
                at->state = TRACE_SAMPLED_WAITING;
                at->held = true;
                at->given = at->all_along = false;
                continue;
            }
            trace_free(fixture.table, at->trace);
            *at = (struct model_trace){0};
            in_table--;
            continue;
        } else if (dice < 44) {
            trace_free(fixture.table, at->trace);
            *at = (struct model_trace){0};
            in_table--;
            continue;
        } else if (dice < 60) {
            now_ns += draw(&fixture) % (40 * NS_PER_MS);
            check_due(&fixture, model, now_ns);
        } else if (dice < 90) {
            bool began = cursor == 0;

            for (unsigned i = 0; i < TRACES && began; i++) {
                model[i].all_along = model[i].trace != NULL;
                model[i].visits = 0;
            }
            if (!trace_table_step(fixture.table, &cursor, count_visit, model)) {
                walks++;
                assert_int_equal(cursor, 0);
                for (unsigned i = 0; i < TRACES; i++) {
                    if (model[i].all_along && model[i].visits != 1)
                        fail_msg("walk %u: trace %u was visited %u times", (unsigned)walks, i, model[i].visits);
                }
            }
        }
        assert_ptr_equal(find(&fixture, at->number), at->trace);
        assert_int_equal(trace_info(at->trace).state, at->state);
        assert_int_equal(trace_table_count(fixture.table), in_table);
        assert_int_equal(trace_table_span_count(fixture.table), in_table);
    }
    assert_true(walks > 100);
    free(model);
    fixture_deinit(&fixture); /* the table frees what is on hold, too */
}

/* A table of many segments is walked in many steps, while they split and empty. */
struct walk_count {
    unsigned char *visits;
    unsigned most;
};

static void note_visit(void *context, struct trace *trace)
{
    struct walk_count *count = context;
    uint64_t number;

    memcpy(&number, trace_id_of(trace)->bytes + 8, sizeof(number));
    if (number < count->most)
        count->visits[number]++;
}

static void test_walk_of_many(void **state)
{
    enum { STAYING = 20000, COMING = 60000 };
    struct fixture fixture;
    struct walk_count count = {calloc(STAYING, 1), STAYING};
    uint64_t cursor = 0, next = STAYING;
    unsigned steps = 1;
    (void)state;

    fixture_init(&fixture, 256 * MIB);
    for (uint64_t n = 0; n < STAYING; n++)
        add(&fixture, n, 1, 1);
    for (; trace_table_step(fixture.table, &cursor, note_visit, &count); steps++) {
        for (unsigned i = 0; i < 2000 && next < STAYING + COMING; i++)
            add(&fixture, next++, 1, 1);
        for (unsigned i = 0; i < 500 && next > STAYING + 500; i++)
            trace_free(fixture.table, find(&fixture, next - 500 + i));
        if (next > STAYING + 500)
            next -= 500;
    }
    assert_true(steps > 20);
    for (unsigned n = 0; n < STAYING; n++)
        assert_int_equal(count.visits[n], 1);
    free(count.visits);
    fixture_deinit(&fixture);
}

/* -- union and difference ------------------------------------------------------------------------------ */

static struct span_seed seed_of(uint32_t i)
{
    return (struct span_seed){i, 30 + i * 37 % 1500, (uint8_t)(i % HEADERS)};
}

/* What comes back joins what waits already for the same exporters; for others it waits on its own. */
static void test_put_back(void **state)
{
    struct fixture fixture;
    struct trace_id id = id_of(1);
    struct span_seed expected[60];
    struct trace *first, *second, *third;
    (void)state;

    fixture_init(&fixture, 64 * MIB);
    first = trace_new_apart(fixture.table, &id, 50);
    second = trace_new_apart(fixture.table, &id, 40);
    third = trace_new_apart(fixture.table, &id, 40);
    for (uint32_t i = 0; i < 60; i++) {
        expected[i] = seed_of(i);
        if (i < 40)
            (void)add_seed(&fixture, first, expected[i]);
        if (i >= 20)
            (void)add_seed(&fixture, second, expected[i]);
        if (i < 3)
            (void)add_seed(&fixture, third, expected[i]);
    }
    assert_ptr_equal(trace_table_put_back(fixture.table, first, 2), first);
    assert_ptr_equal(trace_table_put_back(fixture.table, second, 2), first);
    assert_ptr_equal(trace_table_put_back(fixture.table, third, 1), third);
    check_trace(&fixture, first, expected, 60);
    check_trace(&fixture, third, expected, 3);
    assert_int_equal(trace_info(first).first_ns, 40);
    assert_int_equal(trace_table_count(fixture.table), 2);
    assert_int_equal(trace_table_span_count(fixture.table), 63);
    assert_null(trace_table_due(fixture.table, NS_PER_S));
    assert_null(trace_table_oldest(fixture.table));
    trace_table_release(fixture.table);
    assert_int_equal(trace_table_next_ns(fixture.table), 0);
    assert_ptr_equal(trace_table_due(fixture.table, NS_PER_S), first);
    trace_table_take(fixture.table, first);
    assert_ptr_equal(find(&fixture, 1), third);
    trace_free(fixture.table, first);
    fixture_deinit(&fixture);
}

/* Of `spans`, every one whose number gives `rest` modulo `of` is taken out; the rest stays in order, and what was taken out
 * may come again. */
static void test_remove(void **state)
{
    static const struct {
        const char *what;
        uint32_t spans, of, rest;
        bool in_table;
    } cases[] = {
        {"none", 20, 30, 25, true},
        {"the only one", 1, 1, 0, true},
        {"all of four", 4, 1, 0, false},
        {"the first of two", 2, 2, 0, true},
        {"the last of two", 2, 2, 1, true},
        {"every third", 31, 3, 1, true},
        {"every third of many", 700, 3, 2, false},
        {"one of many", 1000, 1000, 999, true},
        {"all of many", 1000, 1, 0, true},
    };
    struct fixture fixture;
    (void)state;

    fixture_init(&fixture, 256 * MIB);
    for (size_t c = 0; c < ARRAY_COUNT(cases); c++) {
        struct trace_id id = id_of(c);
        struct trace *trace = cases[c].in_table ? add(&fixture, c, 1, 1) : trace_new_apart(fixture.table, &id, 1);
        struct span_seed *left = calloc(2 * cases[c].spans, sizeof(*left));
        uint64_t *hashes = calloc(cases[c].spans + 1, sizeof(*hashes));
        uint32_t left_count = 0, removed = 0;

        for (uint32_t i = 0; i < cases[c].spans; i++) {
            (void)add_seed(&fixture, trace, seed_of(i));
            if (i % cases[c].of == cases[c].rest)
                hashes[removed++] = hash_of(seed_of(i));
            else
                left[left_count++] = seed_of(i);
        }
        hashes[removed] = 4711; /* of none */
        if (trace_remove_spans(fixture.table, trace, hashes, removed + 1) != removed)
            fail_msg("%s: another number went", cases[c].what);
        check_trace(&fixture, trace, left, left_count);
        if (cases[c].in_table)
            assert_int_equal(trace_table_span_count(fixture.table), left_count);
        for (uint32_t i = 0; i < cases[c].spans; i++) {
            bool gone = i % cases[c].of == cases[c].rest;

            assert_int_equal(add_seed(&fixture, trace, seed_of(i)), gone ? TRACE_SPAN_ADDED : TRACE_SPAN_DUPLICATE);
            if (gone)
                left[left_count++] = seed_of(i);
        }
        check_trace(&fixture, trace, left, left_count);
        trace_free(fixture.table, trace);
        assert_int_equal(trace_table_span_count(fixture.table), 0);
        free(left);
        free(hashes);
    }
    fixture_deinit(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_past), cmocka_unit_test(test_random), cmocka_unit_test(test_walk_of_many),
        cmocka_unit_test(test_put_back), cmocka_unit_test(test_remove),
    };

    int failed = cmocka_run_group_tests_name("without a journal", tests, NULL, NULL);

    with_journal = true;
    return failed + cmocka_run_group_tests_name("with a journal", tests, NULL, NULL);
}
