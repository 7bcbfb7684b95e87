#include "tests/sim/faults.h"

#include <stdio.h>
#include <string.h>

#include "common/base/assert.h"
#include "tests/sim/backend.h"
#include "tests/sim/fleet.h"
#include "tests/sim/memory.h"
#include "tests/sim/net.h"
#include "tests/sim/oracle.h"
#include "tests/sim/volume.h"

uint64_t unit_ns(void)
{
    return fleet.options.handoff_timeout_ns / 30;
}

uint64_t in_units(uint64_t units)
{
    return world.now_ns + units * unit_ns() + rng_below(&world.fault, unit_ns());
}

struct node *any_sampler(void)
{
    return fleet.samplers[rng_below(&world.fault, fleet.options.samplers)];
}

struct node *any_sampler_but(const struct node *node)
{
    struct node *other;

    do
        other = any_sampler();
    while (other == node);
    return other;
}

struct node *any_lb(void)
{
    return fleet.lbs[rng_below(&world.fault, fleet.options.lbs)];
}

/* -- lives ---------------------------------------------------------------------------------------------------------------------- */

static void crash(void *node, uint64_t back_after_ns)
{
    fleet_crash(node, back_after_ns, false);
}

void crash_at(uint64_t at_ns, struct node *node, uint64_t back_after_ns)
{
    plan_at(at_ns, "crash", crash, node, back_after_ns);
}

static void machine_crash(void *node, uint64_t back_after_ns)
{
    fleet_crash(node, back_after_ns, true);
}

void machine_crash_at(uint64_t at_ns, struct node *node, uint64_t back_after_ns)
{
    plan_at(at_ns, "machine crash", machine_crash, node, back_after_ns);
}

static void stop(void *node, uint64_t number)
{
    (void)number;
    fleet_stop(node);
}

void stop_at(uint64_t at_ns, struct node *node)
{
    plan_at(at_ns, "stop", stop, node, 0);
}

static void start(void *node, uint64_t number)
{
    (void)number;
    fleet_start(node);
}

void start_at(uint64_t at_ns, struct node *node)
{
    plan_at(at_ns, "start", start, node, 0);
}

/* number: the life that must have ended. */
static void start_when_ended(void *context, uint64_t number)
{
    struct node *node = context;

    if (node->lives != number)
        return;
    if (node->process)
        plan_at(world.now_ns + 100 * NS_PER_MS, "restart", start_when_ended, node, number);
    else
        plan_at(world.now_ns + rng_between(&world.fault, 1, 4) * unit_ns(), "start", start, node, 0);
}

static void restart(void *context, uint64_t number)
{
    struct node *node = context;

    (void)number;
    fleet_stop(node);
    start_when_ended(node, node->lives);
}

void restart_at(uint64_t at_ns, struct node *node)
{
    plan_at(at_ns, "restart", restart, node, 0);
}

static void lose_volume(void *context, uint64_t back_after_ns)
{
    struct node *node = context;

    fleet_kill(node, true);
    if (!node->volume)
        return;
    volume_free(node->volume);
    node->volume = volume_new();
    oracle_cause(CAUSE_MEMORY_LOST, world.now_ns, world.now_ns);
    if (back_after_ns > 0)
        start_at(world.now_ns + back_after_ns, node);
}

void volume_lost_at(uint64_t at_ns, struct node *node, uint64_t back_after_ns)
{
    plan_at(at_ns, "volume lost", lose_volume, node, back_after_ns);
}

/* -- the network ------------------------------------------------------------------------------------------------------------------ */

struct cut {
    struct node *a, *b;
    bool both;
    uint64_t for_ns;
};

static void heal(void *context, uint64_t number)
{
    struct cut *cut = context;

    (void)number;
    net_heal(cut->a, cut->b);
    sim_free(cut);
}

static void cut_begins(void *context, uint64_t number)
{
    struct cut *cut = context;
    uint64_t until_ns = world.now_ns + cut->for_ns;

    (void)number;
    net_cut(cut->a, cut->b, cut->both);
    if (cut->a->kind == NODE_SAMPLER && cut->b->kind == NODE_SAMPLER) {
        /* They know each other again when they have dialled and told. */
        oracle_cause(CAUSE_CUT, world.now_ns, until_ns + 2 * NS_PER_S);
        if (cut->for_ns + 5 * fleet.options.status_interval_ns > fleet.options.handoff_timeout_ns)
            oracle_cause(CAUSE_CUT_LONG, world.now_ns, until_ns + 2 * NS_PER_S);
    }
    plan_at(until_ns, "heal", heal, cut, 0);
}

void cut_at(uint64_t at_ns, struct node *a, struct node *b, bool both, uint64_t for_ns)
{
    struct cut *cut = sim_alloc(sizeof(*cut));

    *cut = (struct cut){a, b, both, for_ns};
    plan_at(at_ns, "cut", cut_begins, cut, 0);
}

void cut_sets_at(uint64_t at_ns, uint32_t set, uint32_t other, uint64_t for_ns)
{
    for (unsigned i = 0; i < fleet.options.samplers_most; i++)
        for (unsigned k = 0; k < fleet.options.samplers_most; k++)
            if (((set >> i) & 1) && ((other >> k) & 1) && i != k)
                cut_at(at_ns, fleet.samplers[i], fleet.samplers[k], true, for_ns);
}

struct pair {
    struct node *a, *b;
};

static void reset(void *context, uint64_t number)
{
    struct pair *pair = context;

    (void)number;
    net_reset(pair->a, pair->b);
    sim_free(pair);
}

void reset_at(uint64_t at_ns, struct node *a, struct node *b)
{
    struct pair *pair = sim_alloc(sizeof(*pair));

    *pair = (struct pair){a, b};
    plan_at(at_ns, "reset", reset, pair, 0);
}

/* -- slowness ------------------------------------------------------------------------------------------------------------------------ */

static void set_slow(void *context, uint64_t slow_ns)
{
    struct node *node = context;

    if (slow_ns > 0)
        story(node->name, "is slow: %llu ms a turn", (unsigned long long)(slow_ns / NS_PER_MS));
    node->slow_ns = slow_ns;
}

void stall_at(uint64_t at_ns, struct node *node, uint64_t slow_ns, uint64_t for_ns)
{
    plan_at(at_ns, "slow", set_slow, node, slow_ns);
    plan_at(at_ns + for_ns, "slow", set_slow, node, 0);
    if (slow_ns >= fleet.options.status_interval_ns) /* it falls silent, and lives */
        oracle_cause(CAUSE_CUT, at_ns, at_ns + for_ns + slow_ns + 2 * NS_PER_S);
    if (slow_ns >= fleet.options.status_interval_ns && for_ns + slow_ns > fleet.options.handoff_timeout_ns / 2)
        oracle_cause(CAUSE_CUT_LONG, at_ns, at_ns + for_ns + slow_ns + 2 * NS_PER_S);
}

static void away(void *backend, uint64_t for_ns)
{
    backend_set_away(((struct node *)backend)->number, for_ns > 0);
    if (for_ns > 0)
        plan_at(world.now_ns + for_ns, "backend", away, backend, 0);
}

void backend_away_at(unsigned index, uint64_t at_ns, uint64_t for_ns)
{
    plan_at(at_ns, "backend", away, fleet.backends[index], for_ns);
}
