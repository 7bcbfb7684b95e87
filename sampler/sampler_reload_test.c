/* A worker goes over to new settings without touching what it holds: a trace is decided by the set of its first span and at that
 * set's time, also on what later spans say, which were read with another; counters and names go on by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "sampler/handoff/handoff_test_kit.h"

#include "sampler/sampler_reload.h"

#define SLOTS "p: [{ name: slow, type: latency, latency: { threshold_ms: 60000 } }]"
#define NAMED "p: [{ name: carts, type: string_attribute, string_attribute: { key: service.name, values: [cart] } }, " ERRORS "]"
#define ERRORS "{ name: errors, type: status_code, status_code: { status_codes: [ERROR] } }"
#define OK "p: [{ name: fine, type: status_code, status_code: { status_codes: [OK] } }, " ERRORS "]"

static struct node *node;
static struct config_context *kept[64]; /* of all settings made here */
static size_t kept_count;
static uint64_t generation;

static int setup(void **state)
{
    (void)state;
    now_ns = START_NS;
    generation = 1;
    node = calloc(1, sizeof(*node));
    assert_non_null(node);
    node_open(node, "a", (struct handoff_options){0});
    node->sampler.settings = node->home.settings;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    past_sets_deinit(&node->home.past);
    node_close(node);
    free(node);
    while (kept_count > 0)
        config_context_free(kept[--kept_count]);
    return 0;
}

/* The worker adopts these policies and this decision_wait. */
static void go_over(const char *policies, uint64_t wait_ns)
{
    struct config_context *own = kept[kept_count++] = config_context_new();
    const struct config_node *root = config_load_text(own, "test.yaml", policies, strlen(policies));
    struct sampler_config config = node->home.settings->config;
    struct sampler_settings *settings;
    struct policy_set *next = NULL;

    assert_true(kept_count < ARRAY_COUNT(kept));
    assert_int_equal(policy_set_new(own, config_node_get(root, "p"), false, ++generation, &next), 0);
    config.tail_sampling.decision_wait_ns = (int64_t)wait_ns;
    settings = sampler_settings_new(&config, NULL, next, node->home.settings, &node->roll);
    policy_set_unref(next);
    node->home.worker.now_ns = now_ns;
    sampler_worker_adopt(&node->home, settings);
    sampler_settings_unref(settings);
}

static void arrive_as(uint64_t trace, uint64_t span, bool error, struct policy_set *read_with, struct predicate_scratch *scratch)
{
    struct sampler_worker *home = &node->home;
    struct arrival arrival = arrival_now(home, now_ns);
    struct otlp_build build = {0};

    home->worker.now_ns = now_ns;
    otlp_spans(&build, trace, span, 1, error);
    assert_true(intake_read(&home->intake, otlp_slice(&build), NULL, read_with, scratch, home->headers));
    spans_take(home, NULL, &arrival);
    intake_release(&home->intake, home->headers);
    otlp_build_deinit(&build);
}

static void arrive(uint64_t trace, uint64_t span, bool error)
{
    arrive_as(trace, span, error, node->home.set, node->home.scratch);
}

static void turn(uint64_t at_ns)
{
    now_ns = at_ns;
    node->home.worker.now_ns = now_ns;
    (void)decide_due(&node->home, now_ns);
    policy_counts_publish(&node->home.policy_counts);
    past_sets_tend(&node->home.past, now_ns);
    (void)worker_backends_run(node->home.backends, now_ns);
    node_balances(node);
}

/* "": undecided; else the policy's name, or "no". */
static const char *verdict_of(uint64_t trace)
{
    const struct trace_id id = otlp_trace_id(trace);
    struct decision_record record;
    const char *name;

    if (!decision_cache_find(node->home.cache, &id, hash_trace(&id), false, now_ns, &record))
        return "";
    name = record_policy_name(&node->home, &record);
    return record.decision != DECISION_SAMPLED ? "no" : name ? name : "?";
}

static struct policy_sum sum_of(const char *name)
{
    for (uint32_t i = 0; i < node->roll.count; i++)
        if (strcmp(node->roll.names[i], name) == 0)
            return policy_counts_shown(&node->home.policy_counts, i);
    return (struct policy_sum){.credited = UINT64_MAX};
}

/* The first set is { errors }. Its question has the same number as another one of each set that follows. */
static void held_traces_keep_their_set(void **state)
{
    (void)state;
    arrive(1, 10, false);
    arrive(2, 20, false);
    arrive(3, 30, true);
    go_over(NAMED, 2 * WAIT_NS); /* whatever comes from this service */
    arrive(1, 11, true);  /* asked by the old set: an error */
    arrive(2, 21, false); /* not an error; the new set would keep it */
    arrive(4, 40, false); /* of the new set */
    turn(now_ns + WAIT_NS + NS_PER_S);
    assert_string_equal(verdict_of(1), "errors");
    assert_string_equal(verdict_of(2), "no");
    assert_string_equal(verdict_of(3), "errors");
    assert_string_equal(verdict_of(4), ""); /* its wait is longer */
    turn(now_ns + WAIT_NS + NS_PER_S);
    assert_string_equal(verdict_of(4), "carts");
    assert_int_equal(sum_of("errors").votes.sampled, 2);
    assert_int_equal(sum_of("errors").votes.not_sampled, 2);
    assert_int_equal(sum_of("errors").credited, 2);
    assert_int_equal(sum_of("carts").credited, 1);
}

/* A worker that received the request is a turn ahead of the trace's owner, or behind. */
static void spans_read_with_another_set(void **state)
{
    struct policy_set *first = policy_set_ref(node->home.set);
    struct predicate_scratch *scratch = predicate_scratch_new(policy_set_predicates(first));

    (void)state;
    go_over(OK, WAIT_NS);
    arrive_as(1, 10, true, first, scratch); /* began under the new set, read with the old: an error is its bit 0, there it is bit 1 */
    arrive_as(2, 20, false, first, scratch);
    arrive(2, 21, false);
    turn(now_ns + WAIT_NS + NS_PER_S);
    assert_string_equal(verdict_of(1), "errors");
    assert_string_equal(verdict_of(2), "no");
    predicate_scratch_free(scratch);
    policy_set_unref(first);
}

/* Sets that no trace holds any more go; names of policies stay known for records, for a while; counters for ever. */
static void many_generations(void **state)
{
    struct policy_set *first = policy_set_ref(node->home.set);

    (void)state;
    arrive(1, 10, true);
    turn(now_ns + WAIT_NS + NS_PER_S);
    for (unsigned i = 0; i < PAST_POLICIES + 4; i++) {
        const char *want = i == 0 || i <= PAST_POLICIES ? "errors" : "?";

        if (strcmp(verdict_of(1), want) != 0)
            fail_msg("after %u generations: %s, want %s", i, verdict_of(1), want);
        go_over(i % 2 ? NAMED : SLOTS, WAIT_NS);
        assert_true(node->home.past.count <= PAST_SETS_MAX);
    }
    turn(now_ns + 200 * NS_PER_S);
    assert_int_equal(node->home.past.count, 0);
    go_over(OK, WAIT_NS);
    arrive(5, 50, true);
    turn(now_ns + WAIT_NS + NS_PER_S);
    assert_int_equal(sum_of("errors").credited, 2);
    assert_int_equal(node->roll.count, 4); /* errors, slow, carts, fine */
    policy_set_unref(first);
}

/* A trace may be held over more reloads than sets are kept ready. */
static void held_over_many_reloads(void **state)
{
    (void)state;
    arrive(1, 10, false);
    for (unsigned i = 0; i < PAST_SETS_MAX + 3; i++)
        go_over(i % 2 ? NAMED : SLOTS, WAIT_NS);
    arrive(1, 11, true);
    turn(now_ns + WAIT_NS + NS_PER_S);
    assert_string_equal(verdict_of(1), "errors");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(held_traces_keep_their_set),
        CASE(spans_read_with_another_set),
        CASE(many_generations),
        CASE(held_over_many_reloads),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
