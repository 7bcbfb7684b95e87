/* One run: everything starts, spans are sent while things go wrong, all is mended, and what was promised is looked at. */
#include <stdio.h>
#include <string.h>

#include "tests/sim/backend.h"
#include "tests/sim/clients.h"
#include "tests/sim/fleet.h"
#include "tests/sim/memory.h"
#include "tests/sim/net.h"
#include "tests/sim/oracle.h"
#include "tests/sim/scenario.h"

#define START_NS (3 * NS_PER_S) /* until the first spans */

static struct fleet_options usual_fleet(void)
{
    return (struct fleet_options){
        .samplers = 3,
        .samplers_most = 3,
        .lbs = 2,
        .backends = 1,
        .workers = rng_chance(&world.fault, 500) ? 1 : 2,
        .decision_wait_ns = 2 * NS_PER_S,
        .handoff_timeout_ns = 6 * NS_PER_S,
        .status_interval_ns = 200 * NS_PER_MS,
        .drain_timeout_ns = 20 * NS_PER_S,
        .sampled_cache = 1000,
        .non_sampled_cache = 1000,
    };
}

static struct workload usual_load(void)
{
    return (struct workload){
        .traces = 40,
        .begin_ns = world.now_ns + START_NS,
        .end_ns = world.now_ns + START_NS + 15 * NS_PER_S,
        .trace_length_ns = 1500 * NS_PER_MS,
        .late_most_ns = 6 * NS_PER_S,
        .late_per_mille = 100,
        .resend_per_mille = 60,
        .give_up_ns = 20 * NS_PER_S,
    };
}

static void run_end(struct run_result *out)
{
    fleet_end();
    net_end();
    clients_end();
    oracle_end();
    world_end();
    *out = (struct run_result){.failed = world.failed, .digest = world.digest, .steps = world.steps, .explained = oracle.explained,
        .latest_ns = oracle.latest_ns, .acked = oracle.spans_acked, .exported = oracle.spans_exported};
    (void)snprintf(out->failure, sizeof(out->failure), "%s", world.failure);
}

/* How long after the last fault all must be over: a member given up, a transfer, a decision, retries. */
static uint64_t settle_ns(const struct fleet_options *options)
{
    return 2 * options->handoff_timeout_ns + 2 * options->decision_wait_ns + 6 * NS_PER_S;
}

void scenario_run(const struct scenario *scenario, uint64_t seed, bool tracing, struct run_result *out_result)
{
    struct fleet_options options;
    struct workload load;

    world_begin(seed, scenario->name, tracing);
    net_begin();
    backends_begin();
    oracle_begin();
    clients_begin();
    options = usual_fleet();
    load = usual_load();
    scenario->setup(&options, &load);
    fleet_begin(&options);
    clients_plan(&load);
    world_run(load.begin_ns);
    if (scenario->plan)
        scenario->plan();
    world_run(u64_max(load.end_ns + load.late_most_ns, load.end_ns + options.decision_wait_ns) + 2 * NS_PER_S);
    story(NULL, "all is mended");
    fleet_mend();
    world_run(world.now_ns + load.give_up_ns);
    clients.stopped = true;
    world_run(world.now_ns + settle_ns(&options));
    oracle_books(true);
    if (clients.under_way > 0)
        broken("%u requests were never answered", clients.under_way);
    oracle_judge();
    if (!fleet_finish())
        broken("a process that was told to end still runs");
    run_end(out_result);
}
