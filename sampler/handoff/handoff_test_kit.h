/* A sampler of one worker for tests of the handoff and the journal: the real modules, without threads, listeners and a process around
 * them; turned by hand on time that the test tells. For one test's only source, which
 * includes cmocka first. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/run/grpc_pump.h"
#include "sampler/export/survivors.h"
#include "sampler/handoff/inside.h"
#include "sampler/handoff/turn.h"
#include "sampler/span_path.h"
#include "sampler/verdict.h"
#include "tests/kit/otlp_build.h"
/* Last: what it defines has names that headers use for their arguments. */
#include "sampler/handoff/policies_test_kit.h"

#define START_NS (1000 * NS_PER_S)
#define WAIT_NS (10 * NS_PER_S)
#define VERDICT_KEEP_NS (70 * NS_PER_S)

struct node {
    struct sampler sampler;
    struct sampler_worker home;
    struct metrics metrics;
    struct policy_roll roll;
    char name[16];
};

static uint64_t now_ns;
static uint64_t pool_bytes = 256 * MIB; /* of the next node */

/* memset before; what handoff.journal needs is set in node->sampler. */
static void node_open(struct node *node, const char *name, struct handoff_options handoff)
{
    struct backends_options options = {.workers = 1, .keeps_units = true};
    struct sampler_config config = sampler_config_defaults();
    const struct exporter_owner owner = survivors_owner(&node->home);
    const struct decision_cache_options cache = {.verdict_keep_ns = VERDICT_KEEP_NS,
        .resend_window_ns = 300 * NS_PER_S,
        .max_bytes = MIB,
        .hash_bytes = MIB,
        .sampled_cache_size = 1000,
        .non_sampled_cache_size = 1000};
    char error[256];

    (void)snprintf(node->name, sizeof(node->name), "%s", name);
    config.exporter_count = 1;
    config.exporters[0] = (struct otlp_exporter_config){.id = (char *)(uintptr_t)"nop", .kind = EXPORTER_NOP, .num_consumers = 1};
    node->sampler.workers = &node->home;
    node->sampler.worker_count = 1;
    config.tail_sampling.decision_wait_ns = (int64_t)WAIT_NS;
    node->home.settings = options.settings = sampler_settings_new(&config, NULL, set, NULL, &node->roll);
    node->sampler.big_trace_bytes = 32 * MIB;
    node->sampler.admission.limit_bytes = 16 * MIB;
    node->home.sampler = &node->sampler;
    node->home.set = set;
    intake_init(&node->home.intake);
    assert_int_equal(metrics_init(&node->metrics, 1), 0);
    assert_int_equal(worker_init(&node->home.worker, 0, 1, &node->metrics.cells[0]), 0);
    assert_int_equal(extent_pool_new(pool_bytes, &node->sampler.pool), 0);
    node->sampler.budget = (struct budget){.pool = node->sampler.pool, .workers = 1};
    assert_int_equal(extent_store_new(node->sampler.pool, &node->home.store), 0);
    node->home.headers = header_table_new();
    node->home.scratch = predicate_scratch_new(policy_set_predicates(set));
    assert_int_equal(policy_counts_init(&node->home.policy_counts, node->home.settings), 0);
    assert_int_equal(trace_table_new(node->home.store, node->home.headers, now_ns, &node->home.traces), 0);
    assert_int_equal(decision_cache_new(&cache, &node->home.cache), 0);
    assert_int_equal(backends_new(&options, &node->sampler.backends, error, sizeof(error)), 0);
    assert_int_equal(worker_backends_new(node->sampler.backends, node->home.settings, &node->home.worker, &owner, &node->home.backends), 0);
    handoff.name = node->name;
    handoff.ack_wait_ns = handoff.forward_timeout_ns = NS_PER_S;
    handoff.handoff_timeout_ns = 30 * NS_PER_S;
    handoff.verdict_keep_ns = VERDICT_KEEP_NS;
    node->sampler.handoff = handoff;
    assert_int_equal(worker_handoff_new(&node->home, &handoff, &node->home.handoff), 0);
    node->home.worker.now_ns = now_ns;
}

static void node_close(struct node *node)
{
    worker_journal_end(node->home.journal);
    worker_backends_stop(node->home.backends);
    (void)mailbox_deliver(&node->home.worker.mailbox, &node->home.worker);
    worker_handoff_free(node->home.handoff);
    worker_backends_free(node->home.backends);
    trace_table_free(node->home.traces);
    worker_journal_free(node->home.journal);
    decision_cache_free(node->home.cache);
    predicate_scratch_free(node->home.scratch);
    intake_deinit(&node->home.intake);
    worker_deinit(&node->home.worker);
    header_table_free(node->home.headers);
    assert_int_equal(extent_store_used_bytes(node->home.store), 0);
    extent_store_free(node->home.store);
    extent_pool_free(node->sampler.pool);
    backends_free(node->sampler.backends);
    policy_counts_deinit(&node->home.policy_counts);
    sampler_settings_unref(node->home.settings);
    policy_roll_deinit(&node->roll);
    free(node->home.hash_scratch);
    metrics_deinit(&node->metrics);
}

/* A sum of spans. */
static uint64_t held(const struct node *node)
{
    uint64_t waiting = node->home.journal ? worker_journal_spans(node->home.journal) : 0;

    return trace_table_span_count(node->home.traces) + worker_backends_spans(node->home.backends) + waiting;
}

static void node_balances(const struct node *node)
{
    const uint64_t *books = node->home.books;
    uint64_t in = books[BOOK_RECEIVED] + books[BOOK_RECOVERED] + books[BOOK_TAKEN_OVER], out = held(node);

    for (int k = BOOK_EXPORTED; k < BOOK_HELD; k++)
        out += books[k];
    assert_int_equal(in, out);
}

/* A request of spans of one trace. */
static void otlp_spans(struct otlp_build *build, uint64_t trace, uint64_t first_span, unsigned count, bool error)
{
    otlp_resource_spans(build);
    otlp_resource(build, 1, (struct otlp_attribute[]){OTLP_TEXT("service.name", "cart")});
    otlp_scope_spans(build);
    for (unsigned i = 0; i < count; i++)
        otlp_span(build, &(struct otlp_span){.trace_id = otlp_trace_id(trace), .span_id = otlp_span_id(first_span + i), .name = "GET", .status = error ? 2 : 0});
    otlp_end(build);
    otlp_end(build);
}

static int group_setup(void **state)
{
    (void)state;
    pump_library_init();
    policies_open();
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    policies_close();
    pump_library_deinit();
    return 0;
}
