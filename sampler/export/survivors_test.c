/* A sampled trace that another node is to export comes back into the table with all its spans, unless it is in a running call;
 * no span is lost or counted on the way, whatever sets of metadata they came with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/run/grpc_pump.h"
#include "sampler/export/survivors.h"
#include "sampler/sampler_worker.h"

#define NOW_NS (100 * NS_PER_S)
#define TRACES 8u
#define SPANS 6u

struct fixture {
    struct sampler sampler;
    struct sampler_worker home;
    struct metrics metrics;
    struct policy_set *set;
    struct policy_roll roll;
    struct metadata_set *sets[3];
    struct header *headers[3];
    unsigned back;
};

static struct fixture *of_home; /* the callback has no context but the worker */

static void on_back(struct sampler_worker *home, struct trace *trace)
{
    assert_ptr_equal(home, &of_home->home);
    assert_int_equal(trace_info(trace).state, TRACE_SAMPLED_WAITING);
    assert_true(trace_info(trace).held);
    of_home->back++;
}

static struct fixture *open_fixture(bool forwards)
{
    static const char *const names[] = {"x-tenant"};
    struct fixture *f = calloc(1, sizeof(*f));
    struct backends_options options = {.workers = 1, .keeps_units = true};
    struct config_context *context = config_context_new();
    struct sampler_config config = sampler_config_defaults();
    const struct exporter_owner owner = survivors_owner(&f->home);
    char error[256];

    assert_non_null(f);
    of_home = f;
    config.tailrace.forward_headers.items = (char **)(uintptr_t)names;
    config.tailrace.forward_headers.count = forwards ? 1 : 0;
    config.exporter_count = 1;
    config.exporters[0] = (struct otlp_exporter_config){.id = (char *)(uintptr_t)"nop", .kind = EXPORTER_NOP, .num_consumers = 1};
    assert_int_equal(policy_set_new(context, NULL, false, 1, &f->set), 0);
    config_context_free(context);
    f->home.settings = sampler_settings_new(&config, NULL, f->set, NULL, &f->roll);
    options.settings = f->home.settings;
    f->home.sampler = &f->sampler;
    f->home.on_survivor_back = on_back;
    assert_int_equal(metrics_init(&f->metrics, 1), 0);
    assert_int_equal(worker_init(&f->home.worker, 0, 1, &f->metrics.cells[0]), 0);
    assert_int_equal(extent_pool_new(64 * MIB, &f->sampler.pool), 0);
    assert_int_equal(extent_store_new(f->sampler.pool, &f->home.store), 0);
    f->home.headers = header_table_new();
    assert_int_equal(trace_table_new(f->home.store, f->home.headers, NOW_NS, &f->home.traces), 0);
    assert_int_equal(backends_new(&options, &f->sampler.backends, error, sizeof(error)), 0);
    assert_int_equal(worker_backends_new(f->sampler.backends, f->home.settings, &f->home.worker, &owner, &f->home.backends), 0);
    for (size_t i = 0; i < 3; i++) {
        const struct metadata_entry entry = {SLICE_LITERAL("x-tenant"), i == 1 ? SLICE_LITERAL("a") : SLICE_LITERAL("b")};
        struct span_header header = {.hash = i + 1};

        if (i > 0)
            assert_int_equal(metadata_set_new(&entry, 1, &f->sets[i]), 0);
        header.resource = header.scope = header_part_of(slice_make("", 0), i);
        f->headers[i] = header_table_get(f->home.headers, &header, f->sets[i]);
        assert_non_null(f->headers[i]);
    }
    return f;
}

static void close_fixture(struct fixture *f)
{
    worker_backends_stop(f->home.backends);
    (void)mailbox_deliver(&f->home.worker.mailbox, &f->home.worker);
    worker_backends_free(f->home.backends);
    trace_table_free(f->home.traces);
    assert_int_equal(extent_store_used_bytes(f->home.store), 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(f->headers[i]->refs, 1);
        header_unref(f->home.headers, f->headers[i], 1);
        metadata_set_unref(f->sets[i]);
    }
    worker_deinit(&f->home.worker);
    header_table_free(f->home.headers);
    extent_store_free(f->home.store);
    extent_pool_free(f->sampler.pool);
    backends_free(f->sampler.backends);
    sampler_settings_unref(f->home.settings);
    policy_set_unref(f->set);
    policy_roll_deinit(&f->roll);
    metrics_deinit(&f->metrics);
    free(f);
}

static struct trace_id id_of(uint8_t n)
{
    return (struct trace_id){{n, 1, 2, 3}};
}

/* A trace whose spans came with `sets` sets in turn. */
static void take(struct fixture *f, uint8_t n, size_t sets)
{
    const struct sampling_note note = {0};
    struct trace_id id = id_of(n);
    struct trace *trace = trace_new_apart(f->home.traces, &id, NOW_NS);

    assert_non_null(trace);
    for (uint8_t i = 0; i < SPANS; i++) {
        uint8_t bytes[200] = {n, i};

        assert_int_equal(trace_add_span(f->home.traces, trace, slice_make(bytes, sizeof(bytes)), hash_bytes(bytes, 2), f->headers[i % sets], (struct journal_pos){0, 0}),
            TRACE_SPAN_ADDED);
    }
    survivors_take(&f->home, trace, &note, NOW_NS);
}

static bool is_even(void *context, const struct trace_id *id)
{
    (void)context;
    return id->bytes[0] % 2 == 0;
}

static void count_visit(void *context, const struct trace_id *id)
{
    (void)id;
    ++*(unsigned *)context;
}

static uint64_t settled_spans(const struct fixture *f)
{
    return f->home.books[BOOK_EXPORTED] + f->home.books[BOOK_DROPPED_EXPORT] + f->home.books[BOOK_DROPPED_SHUTDOWN];
}

static void check_waiting(struct fixture *f, uint8_t n)
{
    struct trace_id id = id_of(n);
    struct trace *trace = trace_table_find(f->home.traces, &id, hash_trace(&id));

    assert_non_null(trace);
    assert_int_equal(trace_info(trace).state, TRACE_SAMPLED_WAITING);
    assert_int_equal(trace_info(trace).delivered, 0);
    assert_int_equal(trace_info(trace).span_count, SPANS);
}

/* From the queue: at once, all sets joined again; and once more on their way they arrive. */
static void test_queued(void **state)
{
    (void)state;
    for (size_t sets = 1; sets <= 3; sets++) {
        struct fixture *f = open_fixture(sets > 1);
        const struct sampling_note note = {0};
        struct trace *trace;

        for (uint8_t n = 0; n < TRACES; n++)
            take(f, n, sets);
        assert_int_equal(worker_backends_spans(f->home.backends), TRACES * SPANS);
        survivors_withdraw(&f->home, is_even, NULL);
        assert_int_equal(worker_backends_spans(f->home.backends), TRACES * SPANS / 2);
        assert_int_equal(trace_table_span_count(f->home.traces), TRACES * SPANS / 2);
        assert_int_equal(trace_table_count(f->home.traces), TRACES / 2);
        assert_int_equal(f->back, TRACES / 2 * sets);
        assert_int_equal(settled_spans(f), 0);
        for (uint8_t n = 0; n < TRACES; n += 2)
            check_waiting(f, n);
        assert_null(trace_table_due(f->home.traces, NOW_NS));
        trace_table_release(f->home.traces);
        while ((trace = trace_table_due(f->home.traces, NOW_NS))) {
            trace_table_take(f->home.traces, trace);
            survivors_take(&f->home, trace, &note, NOW_NS);
        }
        for (unsigned turn = 0; turn < 200 && worker_backends_units(f->home.backends) > 0; turn++) {
            (void)worker_backends_run(f->home.backends, NOW_NS + turn * NS_PER_S);
            (void)mailbox_deliver(&f->home.worker.mailbox, &f->home.worker);
        }
        assert_int_equal(f->home.books[BOOK_EXPORTED], TRACES * SPANS);
        assert_int_equal(trace_table_count(f->home.traces), 0);
        close_fixture(f);
    }
}

/* The same spans twice, as when their hashes were forgotten before a resend: back in the table they are there once, and in the books twice. */
static void test_twice(void **state)
{
    struct fixture *f = open_fixture(false);
    (void)state;

    take(f, 2, 1);
    take(f, 2, 1);
    survivors_withdraw(&f->home, is_even, NULL);
    assert_int_equal(trace_table_span_count(f->home.traces), SPANS);
    assert_int_equal(f->home.books[BOOK_DUPLICATE], SPANS);
    check_waiting(f, 2);
    close_fixture(f);
}

/* From a running call: not before it has ended, and an answer that is yes settles it. */
static void test_running(void **state)
{
    struct fixture *f = open_fixture(false);
    unsigned running = 0;
    (void)state;

    take(f, 2, 1);
    (void)worker_backends_run(f->home.backends, NOW_NS);
    take(f, 4, 1);
    survivors_withdraw(&f->home, is_even, NULL);
    assert_int_equal(f->back, 1);
    check_waiting(f, 4);
    survivors_running(&f->home, count_visit, &running);
    assert_int_equal(running, 1);
    (void)mailbox_deliver(&f->home.worker.mailbox, &f->home.worker);
    assert_int_equal(f->back, 1);
    assert_int_equal(f->home.books[BOOK_EXPORTED], SPANS);
    assert_int_equal(worker_backends_units(f->home.backends), 0);
    close_fixture(f);
}

static void say_partly(void *context, struct trace *trace)
{
    struct fixture *f = context;

    survivors_owner(&f->home).partly(&f->home, &trace_way_out(trace)->unit, 3);
    assert_int_equal(trace_info(trace).delivered, trace_way_out(trace)->parts ? 0 : 1u << 3);
}

/* What one exporter has stands at the trace, for who copies it meanwhile: of a trace that leaves as one unit. */
static void test_partly(void **state)
{
    (void)state;
    for (size_t sets = 1; sets <= 2; sets++) {
        struct fixture *f = open_fixture(true);

        take(f, 1, sets);
        survivors_each(&f->home, say_partly, f);
        close_fixture(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_queued),
        cmocka_unit_test(test_twice),
        cmocka_unit_test(test_running),
        cmocka_unit_test(test_partly),
    };

    int failed;

    pump_library_init();
    failed = cmocka_run_group_tests_name("survivors", tests, NULL, NULL);
    pump_library_deinit();
    return failed;
}
