#include "tests/sim/fleet.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/assert.h"
#include "sampler/handoff/cluster_inside.h"
#include "sampler/handoff/membership.h"
#include "sampler/sampler_worker.h"
#include "tests/sim/backend.h"
#include "tests/sim/net.h"
#include "tests/sim/oracle.h"
#include "tests/sim/resolve.h"
#include "tests/sim/volume.h"

#define TICK_NS (100 * NS_PER_MS)
#define SNAPSHOTS_MAX 512u

struct fleet fleet;

/* -- what Kubernetes knows, and since when --------------------------------------------------------------------------------------- */

struct snapshot {
    uint64_t at_ns;
    bool there[SAMPLERS_MAX], ready[SAMPLERS_MAX];
    char address[SAMPLERS_MAX][64];
};
static struct snapshot snapshots[SNAPSHOTS_MAX];
static unsigned snapshot_count;

static bool node_ready(const struct node *node)
{
    const char *reason;
    bool ready;

    if (!node->process || !node->process->has_routes)
        return false;
    process_enter(node->process);
    ready = node->process->routes.ready(node->process->routes.context, &reason);
    process_leave();
    return ready;
}

static void snapshot_take(void)
{
    struct snapshot now = {.at_ns = world.now_ns};
    const struct snapshot *last = snapshot_count ? &snapshots[snapshot_count - 1] : NULL;

    for (unsigned i = 0; i < fleet.options.samplers_most; i++) {
        const struct node *node = fleet.samplers[i];

        now.there[i] = node->process != NULL || (last && last->there[i] && !node->stopped_cleanly);
        now.ready[i] = node_ready(node) && !fleet.terminating[i];
        (void)snprintf(now.address[i], sizeof(now.address[i]), "%s", node->address);
    }
    if (last && memcmp(last->there, now.there, sizeof(now.there)) == 0 && memcmp(last->ready, now.ready, sizeof(now.ready)) == 0 &&
        memcmp(last->address, now.address, sizeof(now.address)) == 0)
        return;
    ASSERT(snapshot_count < SNAPSHOTS_MAX);
    snapshots[snapshot_count++] = now;
}

static const struct snapshot *snapshot_at(uint64_t at_ns)
{
    unsigned i = snapshot_count;

    while (i > 1 && snapshots[i - 1].at_ns > at_ns)
        i--;
    return &snapshots[i - 1];
}

uint64_t resolve_period_ns(void)
{
    return rng_between(&world.net, 200, 500) * NS_PER_MS;
}

static uint64_t lag_of(const struct node *node)
{
    uint64_t lag_ns = rng_below(&world.net, fleet.lag_most_ns + 1);

    for (unsigned i = 0; i < fleet.options.lbs; i++)
        if (fleet.lbs[i] == node)
            lag_ns += fleet.lb_lag_ns[i];
    return lag_ns;
}

enum resolve_answer resolve_look(const struct node *node, struct resolved_address *out_list, size_t *out_count)
{
    const struct snapshot *view = snapshot_at(u64_sub_floor(node->frozen_resolver ? 0 : world.now_ns, lag_of(node)));
    bool partial = rng_chance(&world.net, fleet.resolve_partial);

    if (rng_chance(&world.net, fleet.resolve_fails))
        return RESOLVE_FAILED;
    if (rng_chance(&world.net, fleet.resolve_empty))
        return RESOLVE_OK;
    for (unsigned i = 0; i < fleet.options.samplers_most; i++) {
        struct resolved_address *entry = &out_list[*out_count];

        if (!view->there[i] || (partial && rng_chance(&world.net, 500)))
            continue;
        (void)snprintf(entry->address, sizeof(entry->address), "%s", view->address[i]);
        entry->ready = view->ready[i];
        if (node->kind == NODE_SAMPLER && !fleet.terminating[i])
            entry->ready = true; /* a headless service with publishNotReadyAddresses */
        if (node->kind == NODE_LB && !entry->ready) {
            memset(entry, 0, sizeof(*entry));
            continue;
        }
        (*out_count)++;
    }
    return RESOLVE_OK;
}

/* -- configurations ----------------------------------------------------------------------------------------------------------------- */

struct yaml {
    char text[6000];
    size_t len;
};

static void put(struct yaml *yaml, const char *format, ...) PRINTF_LIKE(2, 3);
static void put(struct yaml *yaml, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    yaml->len += (size_t)vsnprintf(yaml->text + yaml->len, sizeof(yaml->text) - yaml->len, format, arguments);
    va_end(arguments);
    ASSERT(yaml->len < sizeof(yaml->text));
}

static unsigned long long ms(uint64_t ns)
{
    return (unsigned long long)(ns / NS_PER_MS);
}

/* By version, whose meaning oracle.c knows. Each has its own order, so that an answer to another's questions is a wrong one. The first is
 * named for its version. */
static const char *const policies[POLICY_VERSIONS] = {
    "      - {name: noise, type: drop, drop: {drop_sub_policy: [{name: mark, type: string_attribute, string_attribute: {key: mark, "
    "values: [drop]}}]}}\n"
    "      - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}\n"
    "      - {name: wanted, type: string_attribute, string_attribute: {key: mark, values: [keep]}}\n",
    "      - {name: wanted-1, type: string_attribute, string_attribute: {key: mark, values: [keep]}}\n",
    "      - {name: wanted-2, type: string_attribute, string_attribute: {key: mark, values: [drop]}}\n"
    "      - {name: noise, type: drop, drop: {drop_sub_policy: [{name: mark, type: string_attribute, string_attribute: {key: mark, "
    "values: [keep]}}]}}\n"
    "      - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}\n",
};

static void put_receiver(struct yaml *yaml, const struct node *node)
{
    put(yaml, "receivers: { otlp: { protocols: { grpc: { endpoint: \"%s\"%s } } } }\n", node->address,
        fleet.options.tenants ? ", include_metadata: true" : "");
}

static void put_tenants(struct yaml *yaml)
{
    if (fleet.options.tenants)
        put(yaml, "  forward_headers: [x-tenant]\n");
}

/* Other versions change them too: their links are made anew. */
static void put_exporters(struct yaml *yaml, unsigned version)
{
    put(yaml, "exporters:\n");
    for (unsigned i = 0; i < fleet.options.backends; i++)
        put(yaml, "  otlp%s: { endpoint: \"%s\", tls: {insecure: true}, compression: none, timeout: %ums, sending_queue: {num_consumers: 4},\n"
            "    retry_on_failure: {initial_interval: 100ms, max_interval: 800ms, max_elapsed_time: 0s} }\n", i ? "/second" : "",
            fleet.backends[i]->address, 1000 - 100 * version);
    put(yaml, "service: { pipelines: { traces: { receivers: [otlp], processors: [tail_sampling], exporters: [otlp%s] } } }\n",
        fleet.options.backends > 1 ? ", otlp/second" : "");
}

static void sampler_yaml(const struct node *node, unsigned version, struct yaml *yaml)
{
    static const char *const syncs[] = {"none", "interval", "always"};
    const struct fleet_options *options = &fleet.options;

    put_receiver(yaml, node);
    put(yaml, "processors:\n  tail_sampling:\n    decision_wait: %llums\n", ms(options->decision_wait_ns));
    if (options->sampled_cache || options->non_sampled_cache)
        put(yaml, "    decision_cache: { sampled_cache_size: %d, non_sampled_cache_size: %d }\n", options->sampled_cache,
            options->non_sampled_cache);
    put(yaml, "    policies:\n%s", policies[version]);
    put_exporters(yaml, version);
    put(yaml, "tailrace:\n  admin: { endpoint: \"127.0.0.1:13133\" }\n  workers: %u\n  drain_timeout: %llums\n", options->workers,
        ms(options->drain_timeout_ns));
    put_tenants(yaml);
    if (options->verdict_keep_ns)
        put(yaml, "  verdict_keep: %llums\n", ms(options->verdict_keep_ns));
    put(yaml, "  memory: { limit_mib: %llu, at_limit: %s }\n", (unsigned long long)(options->memory_mib ? options->memory_mib : 256),
        options->at_limit ? options->at_limit : "decide_early");
    if (!options->clustered) {
        put(yaml, "  cluster: { self: %s }\n", node->name);
    } else {
        put(yaml, "  cluster: { self: %s, name: sim, advertise: \"%s\", resolver: { dns: { hostname: samplers.sim } },\n", node->name,
            node->address);
        put(yaml, "    status_interval: %llums, peer_timeout: %llums, handoff_timeout: %llums, hello_wait: %llums, ack_wait: %llums, "
            "forward_timeout: %llums }\n", ms(options->status_interval_ns), ms(3 * options->status_interval_ns),
            ms(options->handoff_timeout_ns), ms(3 * options->status_interval_ns), ms(2 * options->status_interval_ns),
            ms(2 * options->status_interval_ns));
    }
    if (options->journal)
        put(yaml, "  journal: { directory: /var/lib/%s, sync: %s, sync_interval: 200ms, segment_mib: 1, max_size_mib: 64%s }\n", node->name,
            syncs[options->sync], options->memory_on_error ? ", on_error: memory" : "");
}

static void lb_yaml(const struct node *node, struct yaml *yaml)
{
    put_receiver(yaml, node);
    put(yaml, "exporters:\n  loadbalancing:\n    routing_key: traceID\n"
        "    protocol: { otlp: { timeout: 2s, tls: {insecure: true} } }\n"
        "    resolver: { dns: { hostname: samplers.sim } }\n");
    put(yaml, "service: { pipelines: { traces: { receivers: [otlp], exporters: [loadbalancing] } } }\n");
    put(yaml, "tailrace:\n  admin: { endpoint: \"127.0.0.1:13134\" }\n  workers: %u\n  drain_timeout: 5s\n", fleet.options.workers);
    put_tenants(yaml);
}

/* -- life --------------------------------------------------------------------------------------------------------------------------- */

/* One that left something behind, and is away so long that the others may give it up. */
static void note_away(const struct node *node)
{
    uint64_t away_ns = world.now_ns - node->left_ns;

    if (node->kind != NODE_SAMPLER || node->lives == 0 || (node->stopped_cleanly && node->left_clean))
        return;
    if (away_ns + 5 * fleet.options.status_interval_ns > fleet.options.handoff_timeout_ns)
        oracle_cause(CAUSE_AWAY_LONG, node->left_ns, world.now_ns);
}

void fleet_start(struct node *node)
{
    struct yaml yaml = {.len = 0};

    if (node->process)
        return;
    note_away(node);
    node->mono_offset_ns = rng_below(&world.fault, 1000000) * NS_PER_S;
    if (node->kind == NODE_SAMPLER) {
        fleet.terminating[node->number] = false;
        sampler_yaml(node, fleet.version[node->number], &yaml);
        oracle_version(node, fleet.version[node->number]);
    } else {
        lb_yaml(node, &yaml);
    }
    process_start(node, yaml.text);
}

static uint64_t metric_of(const struct node *node, enum metric_id id)
{
    return metrics_sum(&node->process->sampler->metrics, id);
}

static void reload_broken(struct node *node)
{
    uint64_t generation = metric_of(node, METRIC_CONFIG_GENERATION);
    struct yaml yaml = {.len = 0};

    sampler_yaml(node, (fleet.version[node->number] + 1) % POLICY_VERSIONS, &yaml);
    put(&yaml, "  cluster_typo: 7\n");
    process_reload(node, yaml.text);
    if (metric_of(node, METRIC_CONFIG_LAST_SUCCESSFUL) != 0 || metric_of(node, METRIC_CONFIG_GENERATION) != generation)
        broken("%s took over a file that is not valid", node->name);
}

void fleet_reload(struct node *node, unsigned version, bool broken_too)
{
    struct yaml yaml = {.len = 0};
    uint64_t generation;

    if (node->process && broken_too)
        reload_broken(node);
    if (node->process) {
        generation = metric_of(node, METRIC_CONFIG_GENERATION);
        sampler_yaml(node, version, &yaml);
        oracle_version(node, version);
        process_reload(node, yaml.text);
        if (metric_of(node, METRIC_CONFIG_LAST_SUCCESSFUL) != 1 ||
            metric_of(node, METRIC_CONFIG_GENERATION) != generation + (version != fleet.version[node->number]))
            broken("%s did not take over a valid file", node->name);
    }
    fleet.version[node->number] = version;
}

static void all_drain_look(void)
{
    unsigned running = 0, draining = 0;

    for (unsigned i = 0; i < fleet.options.samplers_most; i++) {
        running += fleet.samplers[i]->process != NULL;
        draining += fleet.samplers[i]->process != NULL && fleet.terminating[i];
    }
    if (running > 0 && running == draining && !fleet.options.journal)
        oracle_cause(CAUSE_NOBODY_READY, world.now_ns - TICK_NS, world.now_ns);
}

void fleet_stop(struct node *node)
{
    if (!node->process || node->process->stop_asked_ns > 0) /* once: a second signal would cut it short */
        return;
    if (node->kind == NODE_SAMPLER)
        fleet.terminating[node->number] = true;
    all_drain_look(); /* the last of them may be gone before the next tick */
    process_term(node);
}

void fleet_kill(struct node *node, bool machine_too)
{
    if (!node->process)
        return;
    oracle_died(node);
    if (node->kind == NODE_SAMPLER && (!fleet.options.journal || (machine_too && fleet.options.sync != SYNC_ALWAYS)))
        oracle_cause(CAUSE_MEMORY_LOST, world.now_ns, world.now_ns);
    process_kill(node, machine_too);
}

static void start_later(void *context, uint64_t number)
{
    (void)number;
    fleet_start(context);
}

void fleet_crash(struct node *node, uint64_t back_after_ns, bool machine_too)
{
    fleet_kill(node, machine_too);
    if (back_after_ns > 0)
        plan_at(world.now_ns + back_after_ns, "restart", start_later, node, 0);
}

void fleet_succeeds(struct node *heir, struct node *node)
{
    heir->left_ns = node->left_ns;
    heir->lives++;
    heir->stopped_cleanly = false;
    node->stopped_cleanly = node->left_clean = true;
}

bool fleet_is_up(const struct node *node)
{
    return node->process != NULL;
}

void fleet_mend(void)
{
    net_heal_all();
    backends_begin();
    net.reset_per_mille = 0;
    net.extra_delay = NULL;
    fleet.resolve_fails = fleet.resolve_empty = fleet.resolve_partial = 0;
    memset(fleet.lb_lag_ns, 0, sizeof(fleet.lb_lag_ns));
    for (unsigned i = 0; i < net.node_count; i++) {
        struct node *node = net.nodes[i];

        node->slow_ns = 0;
        node->frozen_resolver = false;
        if ((node->kind == NODE_SAMPLER || node->kind == NODE_LB) && !node->process && node->lives > 0 && !node->stopped_cleanly)
            fleet_start(node);
    }
}

static bool any_runs(enum node_kind kind)
{
    for (unsigned i = 0; i < net.node_count; i++)
        if (net.nodes[i]->kind == kind && net.nodes[i]->process)
            return true;
    return false;
}

bool fleet_finish(void)
{
    static const enum node_kind order[] = {NODE_LB, NODE_SAMPLER};

    for (size_t k = 0; k < ARRAY_COUNT(order); k++) {
        for (unsigned i = 0; i < net.node_count; i++)
            if (net.nodes[i]->kind == order[k])
                fleet_stop(net.nodes[i]);
        for (unsigned i = 0; i < 100 && any_runs(order[k]); i++)
            world_run(world.now_ns + fleet.options.drain_timeout_ns / 50);
    }
    return !any_runs(NODE_LB) && !any_runs(NODE_SAMPLER);
}

/* Linked with --wrap: records get the room that the scenario gives them. */
int __real_decision_cache_new(const struct decision_cache_options *options, struct decision_cache **out_cache);
int __wrap_decision_cache_new(const struct decision_cache_options *options, struct decision_cache **out_cache);

int __wrap_decision_cache_new(const struct decision_cache_options *options, struct decision_cache **out_cache)
{
    struct decision_cache_options changed = *options;

    if (fleet.options.verdict_bytes > 0)
        changed.max_bytes = fleet.options.verdict_bytes;
    return __real_decision_cache_new(&changed, out_cache);
}

/* -- what is looked at all the time ------------------------------------------------------------------------------------------------ */

static uint64_t settle_timeouts(const struct sampler *sampler)
{
    return sampler->cluster && sampler->cluster->membership ? membership_counters(sampler->cluster->membership).settle_timeouts : 0;
}

/* Conditions that only the node can tell are broken: by its own counters, which other tests check. */
static void conditions_look(struct node *node)
{
    const struct sampler *sampler = node->process->sampler;
    uint64_t committed = extent_pool_committed_bytes(sampler->pool), limit = extent_pool_limit_bytes(sampler->pool);

    if (fleet.options.memory_on_error && metric_of(node, METRIC_REFUSED_JOURNAL) > 0)
        broken("%s refused requests for its journal, which is to go on in memory", node->name);
    if (committed > limit)
        broken("%s has committed %llu bytes of memory, %llu are its limit", node->name, (unsigned long long)committed, (unsigned long long)limit);
    static const struct {
        enum metric_id metric;
        enum cause cause;
    } conditions[] = {{METRIC_RECORDS_EVICTED_YOUNG, CAUSE_FORGOT}, {METRIC_TAKEN_OUT_OF_STEP, CAUSE_OVERRAN},
        {METRIC_DECIDED_APART, CAUSE_APART}};

    static_assert(ARRAY_COUNT(conditions) + 1 == ARRAY_COUNT(node->process->counted), "a counter each, and one");
    for (size_t i = 0; i < ARRAY_COUNT(conditions); i++) {
        uint64_t now = metric_of(node, conditions[i].metric);

        if (now > node->process->counted[i])
            oracle_cause(conditions[i].cause, world.now_ns - 2 * TICK_NS, world.now_ns);
        node->process->counted[i] = now;
    }
    if (settle_timeouts(sampler) > node->process->counted[ARRAY_COUNT(conditions)])
        oracle_cause(CAUSE_TIMED_OUT, world.now_ns - 2 * TICK_NS, world.now_ns);
    node->process->counted[ARRAY_COUNT(conditions)] = settle_timeouts(sampler);
}

static void on_end(struct node *node)
{
    if (node->kind != NODE_SAMPLER)
        return;
    conditions_look(node);
    node->left_clean = node->process->sampler->drain_run.drain.clean;
}

static void fleet_tick(struct sim_event *event)
{
    event_soon(event, TICK_NS);
    snapshot_take();
    oracle_books(false);
    all_drain_look();
    for (unsigned i = 0; i < fleet.options.samplers_most; i++)
        if (fleet.samplers[i]->process)
            conditions_look(fleet.samplers[i]);
        else
            note_away(fleet.samplers[i]);
}

void fleet_begin(const struct fleet_options *options)
{
    fleet = (struct fleet){.options = *options, .lag_most_ns = 300 * NS_PER_MS};
    snapshot_count = 0;
    process_on_end = on_end;
    oracle.handoff_timeout_ns = options->handoff_timeout_ns;
    oracle.decision_wait_ns = options->decision_wait_ns;
    oracle.late_most_ns = options->late_most_ns;
    oracle.verdict_keep_ns = options->verdict_keep_ns ? options->verdict_keep_ns
        : options->clustered ? 2 * options->handoff_timeout_ns + options->decision_wait_ns : 70 * NS_PER_S;
    oracle.backend_count = options->backends;
    for (unsigned i = 0; i < options->backends; i++) {
        char address[64];

        (void)snprintf(address, sizeof(address), BACKEND_ADDRESS, i + 1);
        fleet.backends[i] = net_node_add(NODE_BACKEND, i ? "backend-2" : "backend", address);
    }
    for (unsigned i = 0; i < options->lbs; i++) {
        char name[32], address[64];

        (void)snprintf(name, sizeof(name), "lb-%u", i);
        (void)snprintf(address, sizeof(address), "10.1.0.%u:4317", i + 1);
        fleet.lbs[i] = net_node_add(NODE_LB, name, address);
    }
    for (unsigned i = 0; i < options->samplers_most; i++) {
        char name[32], address[64];

        (void)snprintf(name, sizeof(name), "sampler-%u", i);
        (void)snprintf(address, sizeof(address), "10.2.0.%u:4317", i + 1);
        fleet.samplers[i] = net_node_add(NODE_SAMPLER, name, address);
        fleet.samplers[i]->volume = options->journal ? volume_new() : NULL;
        fleet.samplers[i]->wall_offset_ns = (int64_t)rng_below(&world.fault, 100) * (int64_t)NS_PER_MS;
    }
    snapshot_take();
    event_init(&fleet.tick, "tick", fleet_tick);
    event_soon(&fleet.tick, TICK_NS);
    for (unsigned i = 0; i < options->samplers; i++)
        fleet_start(fleet.samplers[i]);
    for (unsigned i = 0; i < options->lbs; i++)
        fleet_start(fleet.lbs[i]);
}

void fleet_end(void)
{
    event_cancel(&fleet.tick);
}
