/* In the order of handoff section 11, whose numbers stand in the comments. */
#include "tests/sim/scenario.h"

#include <string.h>

#include "common/base/assert.h"
#include "tests/sim/backend.h"
#include "tests/sim/clients.h"
#include "tests/sim/faults.h"
#include "tests/sim/fleet.h"
#include "tests/sim/memory.h"
#include "tests/sim/net.h"
#include "tests/sim/oracle.h"
#include "tests/sim/volume.h"

#define SCENARIO(name_, about_) {.name = #name_, .about = about_, .setup = name_##_setup, .plan = name_##_plan}
#define SCENARIO_EVERY(every_, name_, about_) \
    {.name = #name_, .about = about_, .every = every_, .setup = name_##_setup, .plan = name_##_plan}

static uint64_t pick(const uint64_t *numbers, size_t count)
{
    return numbers[rng_below(&world.fault, count)];
}
#define PICK(...) pick((const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

/* Lost answers, slow messages, repeats: in every scenario of a cluster, to some degree. */
static void weather(void)
{
    net.slow_per_mille = (unsigned)PICK(0, 10, 30);
    net.slow_most_ns = PICK(20, 200) * NS_PER_MS;
    net.reset_per_mille = (unsigned)PICK(0, 0, 10);
    net.repeat_per_mille = (unsigned)PICK(0, 0, 50);
}

static void clustered_setup(struct fleet_options *options, struct workload *load)
{
    options->clustered = true;
    options->journal = true;
    options->sync = (enum fleet_sync)rng_below(&world.fault, 3);
    load->direct_per_mille = (unsigned)PICK(0, 100);
}

/* -- without a cluster ------------------------------------------------------------------------------------------------------------ */

static void alone_setup(struct fleet_options *options, struct workload *load)
{
    (void)load;
    options->samplers = options->samplers_most = 1;
    options->late_most_ns = 100 * NS_PER_MS;
}

static void alone_plan(void)
{
    net.slow_per_mille = 50;
    net.reset_per_mille = 30;
}

/* Nothing goes wrong, and nothing is sent twice. */
static void quiet_setup(struct fleet_options *options, struct workload *load)
{
    alone_setup(options, load);
    load->resend_per_mille = 0;
}

static void quiet_plan(void)
{
}

#define backend_outage_setup alone_setup

static void backend_outage_plan(void)
{
    backends[0].refuse_per_mille = 100;
    backends[0].mute_per_mille = 60;
    backend_away_at(0, in_units(rng_below(&world.fault, 50)), rng_between(&world.fault, 5, 40) * unit_ns());
}

/* More than fits: clients are refused, or the oldest are decided early; no span goes elsewhere for it, which would split its trace. */
static void heavy(struct fleet_options *options, struct workload *load)
{
    options->workers = 1;
    options->memory_mib = 32;
    options->at_limit = rng_chance(&world.fault, 700) ? "refuse" : "decide_early";
    options->decision_wait_ns = 4 * NS_PER_S;
    load->traces = 100;
    load->end_ns = load->begin_ns + 3 * NS_PER_S;
    load->pad_bytes = 130 * 1024;
    load->resend_per_mille = 0;
}

static void overload_setup(struct fleet_options *options, struct workload *load)
{
    options->samplers = options->samplers_most = 2;
    heavy(options, load);
}

static void overload_plan(void)
{
}

/* More than fits into memory, and a journal that takes the rest: all is decided and exported all the same, over restarts too. */
static void spill_setup(struct fleet_options *options, struct workload *load)
{
    options->samplers = options->samplers_most = 1;
    heavy(options, load);
    options->journal = true;
    options->at_limit = "spill";
}

static void spill_plan(void)
{
    backend_away_at(0, in_units(5), PICK(1, 20) * unit_ns());
    if (rng_chance(&world.fault, 500))
        crash_at(in_units(rng_between(&world.fault, 5, 40)), fleet.samplers[0], 2 * unit_ns());
}

/* Survivors of a long outage lie between spans that were dropped: segments are cleaned, and what is copied comes back after a crash. */
static void clean_setup(struct fleet_options *options, struct workload *load)
{
    alone_setup(options, load);
    options->late_most_ns = 0;
    options->journal = true;
    options->decision_wait_ns = 500 * NS_PER_MS;
    load->traces = 250;
    load->trace_length_ns = 300 * NS_PER_MS;
    load->pad_bytes = 40 * 1024;
    load->plain_per_mille = 850;
    load->end_ns = load->begin_ns + 5 * NS_PER_S;
    load->late_per_mille = load->resend_per_mille = 0;
    load->late_most_ns = 25 * NS_PER_S; /* how long the run goes on */
}

static void clean_plan(void)
{
    backend_away_at(0, in_units(2), 150 * unit_ns());
    for (uint64_t at = rng_between(&world.fault, 30, 200); at < 150; at += rng_between(&world.fault, 20, 100))
        crash_at(in_units(at), fleet.samplers[0], rng_between(&world.fault, 1, 3) * unit_ns());
}

/* Balancers are restarted while requests are under way: each is answered. */
static void balancers_roll_setup(struct fleet_options *options, struct workload *load)
{
    alone_setup(options, load);
    load->traces = 120;
}

static void balancers_roll_plan(void)
{
    net.slow_per_mille = 200;
    for (uint64_t at = 2; at < 80; at += rng_between(&world.fault, 6, 12))
        restart_at(in_units(at), any_lb());
}

/* A restart costs nothing that was written down. */
static void alone_restart_setup(struct fleet_options *options, struct workload *load)
{
    alone_setup(options, load);
    options->late_most_ns = 0;
    options->journal = true;
    options->sync = (enum fleet_sync)rng_below(&world.fault, 3);
}

static void alone_restart_plan(void)
{
    weather();
    for (uint64_t at = 5; at < 70; at += rng_between(&world.fault, 5, 25))
        crash_at(in_units(at), fleet.samplers[0], rng_between(&world.fault, 1, 20) * unit_ns());
}

/* -- with one: a quiet day ------------------------------------------------------------------------------------------------------------ */

static void calm_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    options->late_most_ns = 200 * NS_PER_MS;
}

static void calm_plan(void)
{
    weather();
}

/* -- 1: scale 3 -> 5 -> 2 under load ---------------------------------------------------------------------------------------------------- */

static void scale_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    options->samplers_most = 5;
    options->late_most_ns = 1 * NS_PER_S;
}

static void scale_plan(void)
{
    weather();
    start_at(in_units(5), fleet.samplers[3]);
    start_at(in_units(5 + PICK(0, 0, 8)), fleet.samplers[4]);
    for (unsigned i = 0; i < 3; i++)
        stop_at(in_units(25 + i * PICK(0, 3, 15)), fleet.samplers[i + PICK(0, 2) ]);
}

/* -- 2: all are restarted, one at a time ------------------------------------------------------------------------------------------------- */

static void roll_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    options->late_most_ns = 1 * NS_PER_S;
}

static void roll_plan(void)
{
    weather();
    for (unsigned i = 0; i < fleet.options.samplers; i++)
        restart_at(in_units(3 + 22 * i), fleet.samplers[i]);
}

/* -- 3: kill -9 of a member, of a joiner in its first second, of a drainer halfway --------------------------------------------------------- */

#define crash_setup clustered_setup

static void crash_plan(void)
{
    weather();
    crash_at(in_units(rng_between(&world.fault, 1, 40)), any_sampler(), PICK(1, 10, 25, 29, 31, 90) * unit_ns());
}

static void crash_joiner_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    options->samplers_most = 4;
}

static void crash_joiner_plan(void)
{
    uint64_t at_ns = in_units(rng_between(&world.fault, 1, 20));

    weather();
    start_at(at_ns, fleet.samplers[3]);
    crash_at(at_ns + rng_below(&world.fault, NS_PER_S), fleet.samplers[3], PICK(1, 10, 25, 31, 90) * unit_ns());
}

#define crash_drainer_setup clustered_setup

static void crash_drainer_plan(void)
{
    uint64_t at_ns = in_units(rng_between(&world.fault, 1, 40));
    struct node *node = any_sampler();

    weather();
    stop_at(at_ns, node);
    crash_at(at_ns + rng_between(&world.fault, 1, 400) * NS_PER_MS, node, PICK(1, 10, 25, 31, 90) * unit_ns());
}

/* -- 4: kill at every step between span, journal, verdict, export ------------------------------------------------------------------------ */

#define crash_often_setup clustered_setup

static void crash_often_plan(void)
{
    struct node *node = any_sampler(); /* one of them: two at once are another scenario */

    weather();
    for (uint64_t at = 3; at < 75; at += rng_between(&world.fault, 4, 14))
        crash_at(in_units(at), node, rng_between(&world.fault, 1, 3) * unit_ns());
}

static void killed_in_write(void *node, uint64_t zero)
{
    (void)zero;
    fleet_crash(node, rng_between(&world.fault, 1, 20) * unit_ns(), false);
}

static void arm(void *context, uint64_t number)
{
    struct node *node = context;

    (void)number;
    volume_faults(node->volume)->die_in_write = killed_in_write;
}

#define crash_in_write_setup clustered_setup

static void crash_in_write_plan(void)
{
    weather();
    plan_at(in_units(rng_between(&world.fault, 1, 40)), "armed", arm, any_sampler(), 0);
}

#define machine_dies_setup machine_setup

static void machine_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    options->sync = SYNC_ALWAYS;
}

static void machine_dies_plan(void)
{
    weather();
    machine_crash_at(in_units(rng_between(&world.fault, 1, 40)), any_sampler(), PICK(5, 10, 20) * unit_ns());
}

/* -- 5: balancers with old and wrong rings --------------------------------------------------------------------------------------------------- */

static void stale_balancers_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    options->lbs = 3;
    options->samplers_most = 4;
}

static void stale_balancers_plan(void)
{
    weather();
    fleet.lb_lag_ns[0] = rng_below(&world.fault, 60) * unit_ns();
    fleet.lb_lag_ns[1] = rng_below(&world.fault, 60) * unit_ns();
    fleet.resolve_partial = 200;
    start_at(in_units(5), fleet.samplers[3]);
    stop_at(in_units(35), any_sampler());
}

/* -- 6: joins and drains at once ----------------------------------------------------------------------------------------------------------------- */

static void joins_and_drains_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    options->samplers_most = 6;
}

static void joins_and_drains_plan(void)
{
    uint64_t at_ns = in_units(rng_between(&world.fault, 2, 20));

    weather();
    for (unsigned i = 3; i < 6; i++)
        start_at(at_ns + rng_below(&world.fault, 3 * unit_ns()), fleet.samplers[i]);
    stop_at(at_ns + rng_below(&world.fault, 3 * unit_ns()), fleet.samplers[0]);
    stop_at(at_ns + rng_below(&world.fault, 3 * unit_ns()), fleet.samplers[PICK(1, 3, 4)]);
}

/* -- 7: join, drain, join of one name; a new address; a new name with the same volume ------------------------------------------------------------ */

#define flapping_setup crash_joiner_setup

static void flapping_plan(void)
{
    struct node *node = fleet.samplers[3];
    uint64_t at_ns = in_units(rng_between(&world.fault, 1, 10));

    weather();
    start_at(at_ns, node);
    for (unsigned i = 0; i < 3; i++)
        restart_at(at_ns + (1 + 8 * i) * unit_ns() + rng_below(&world.fault, unit_ns()), node);
}

static void moved(void *context, uint64_t number)
{
    struct node *node = context;

    (void)number;
    fleet_kill(node, false);
    node->address[strlen("10.2.")] = '7'; /* the same name, elsewhere */
    start_at(world.now_ns + rng_between(&world.fault, 1, 20) * unit_ns(), node);
}

#define new_address_setup clustered_setup

static void new_address_plan(void)
{
    weather();
    plan_at(in_units(rng_between(&world.fault, 1, 30)), "moved", moved, any_sampler(), 0);
}

static void renamed(void *context, uint64_t number)
{
    struct node *node = context, *heir = fleet.samplers[3];

    (void)number;
    fleet_kill(node, false);
    volume_free(heir->volume);
    heir->volume = node->volume;
    node->volume = volume_new();
    fleet_succeeds(heir, node);
    start_at(world.now_ns + rng_between(&world.fault, 1, 20) * unit_ns(), heir);
}

#define new_name_setup crash_joiner_setup

static void new_name_plan(void)
{
    weather();
    plan_at(in_units(rng_between(&world.fault, 1, 30)), "renamed", renamed, any_sampler(), 0);
}

/* -- 8: clients send again, to other balancers, before and after the decision ------------------------------------------------------------------------ */

static void resends_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    load->resend_per_mille = 500;
    load->late_per_mille = 300;
    options->lbs = 3;
}

static void resends_plan(void)
{
    weather();
    net.reset_per_mille = 60;
    if (rng_chance(&world.fault, 500))
        crash_at(in_units(rng_between(&world.fault, 5, 40)), any_sampler(), 5 * unit_ns());
}

/* -- 9: answers of Give come after two more rings ------------------------------------------------------------------------------------------------------ */

static uint64_t late_answers(const struct net_call *call)
{
    if (call->phase != CALL_BACK || !strstr(call->method, "Peer/Give"))
        return 0;
    return rng_below(&world.net, 3 * NS_PER_S);
}

#define late_gives_setup joins_and_drains_setup

static void late_gives_plan(void)
{
    joins_and_drains_plan();
    net.extra_delay = late_answers;
    restart_at(in_units(30), fleet.samplers[2]);
}

/* -- 10: cuts ------------------------------------------------------------------------------------------------------------------------------------------- */

#define cut_pair_setup clustered_setup

static void cut_pair_plan(void)
{
    struct node *a = any_sampler();

    weather();
    cut_at(in_units(rng_between(&world.fault, 1, 20)), a, any_sampler_but(a), rng_chance(&world.fault, 700), PICK(5, 20, 60) * unit_ns());
}

static void cut_one_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    options->samplers = options->samplers_most = 4;
}

static void cut_one_plan(void)
{
    weather();
    cut_sets_at(in_units(rng_between(&world.fault, 1, 20)), 1, 0xe, PICK(5, 20, 60) * unit_ns());
}

#define cut_halves_setup cut_one_setup

static void cut_halves_plan(void)
{
    weather();
    cut_sets_at(in_units(rng_between(&world.fault, 1, 20)), 3, 0xc, PICK(5, 20, 60) * unit_ns());
}

/* Balancers and samplers: no condition of the samplers' is broken. */
#define cut_balancer_setup clustered_setup

static void cut_balancer_plan(void)
{
    weather();
    for (unsigned i = 0; i < 4; i++)
        cut_at(in_units(rng_between(&world.fault, 1, 50)), any_lb(), any_sampler(), rng_chance(&world.fault, 500), PICK(3, 10, 40) * unit_ns());
}

#define resets_setup calm_setup

static void resets_plan(void)
{
    weather();
    for (unsigned i = 0; i < 20; i++) {
        struct node *a = any_sampler();

        reset_at(in_units(rng_between(&world.fault, 1, 70)), a, rng_chance(&world.fault, 500) ? any_lb() : any_sampler_but(a));
    }
}

/* -- 11: clocks off by an hour, stepping back at a restart ------------------------------------------------------------------------------------------------ */

static void clock_steps(void *context, uint64_t back_after_ns)
{
    struct node *node = context;

    fleet_crash(node, back_after_ns, false);
    node->wall_offset_ns += (int64_t)(PICK(1, 60, 3600) * NS_PER_S) * (rng_chance(&world.fault, 500) ? 1 : -1);
}

#define clocks_setup clustered_setup

static void clocks_plan(void)
{
    weather();
    for (unsigned i = 0; i < fleet.options.samplers; i++)
        fleet.samplers[i]->wall_offset_ns = ((int64_t)rng_below(&world.fault, 7200) - 3600) * (int64_t)NS_PER_S;
    plan_at(in_units(rng_between(&world.fault, 2, 40)), "clock", clock_steps, any_sampler(), PICK(1, 10, 20) * unit_ns());
}

/* -- 12: at the budget during handoff ----------------------------------------------------------------------------------------------------- */

static void budget_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    heavy(options, load);
    if (rng_chance(&world.fault, 300))
        options->at_limit = "spill";
    options->samplers_most = 4;
    load->traces = 150;
}

static void budget_plan(void)
{
    weather();
    start_at(in_units(2), fleet.samplers[3]);
    stop_at(in_units(10), fleet.samplers[0]);
}

/* -- 13: the backend is away while members leave ------------------------------------------------------------------------------------------------------------- */

static void backend_scale_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    options->samplers = options->samplers_most = 4;
}

static void backend_scale_plan(void)
{
    weather();
    backends[0].mute_per_mille = 20;
    backend_away_at(0, in_units(3), PICK(10, 40) * unit_ns());
    stop_at(in_units(12), fleet.samplers[0]);
    stop_at(in_units(PICK(12, 18)), fleet.samplers[1]);
}

/* -- 14: the last one leaves; to none and back; all killed at once ------------------------------------------------------------------------------------------------ */

#define to_none_setup clustered_setup

static void to_none_plan(void)
{
    uint64_t at_ns = in_units(rng_between(&world.fault, 5, 30));

    weather();
    for (unsigned i = 0; i < fleet.options.samplers; i++)
        stop_at(at_ns + i * PICK(0, 1, 10) * unit_ns(), fleet.samplers[i]);
    for (unsigned i = 0; i < fleet.options.samplers; i++)
        start_at(at_ns + (PICK(160, 170) + 3 * i) * unit_ns(), fleet.samplers[i]);
}

#define all_killed_setup clustered_setup

static void all_killed_plan(void)
{
    uint64_t at_ns = in_units(rng_between(&world.fault, 5, 30));

    weather();
    for (unsigned i = 0; i < fleet.options.samplers; i++)
        crash_at(at_ns, fleet.samplers[i], rng_between(&world.fault, 1, 24) * unit_ns());
}

/* As a StatefulSet or a node pool is taken down, and is back at once: whoever drains finds nobody to give to, and its volume has the rest. */
static void all_leave_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    options->drain_timeout_ns = PICK(3, 5, 20) * NS_PER_S;
    options->decision_wait_ns = PICK(200, 2000, 5000) * NS_PER_MS;
    load->late_per_mille = 300;
}

static void all_leave_plan(void)
{
    uint64_t at_ns = in_units(rng_between(&world.fault, 3, 50));

    weather();
    if (rng_chance(&world.fault, 500))
        backend_away_at(0, at_ns - rng_below(&world.fault, 2 * unit_ns()), PICK(5, 30) * unit_ns());
    for (unsigned i = 0; i < fleet.options.samplers; i++)
        restart_at(at_ns + i * PICK(0, 1, 5) * unit_ns(), fleet.samplers[i]);
}

/* -- 15: a member that hardly answers; resolvers that lie ---------------------------------------------------------------------------------------------------------------- */

#define mute_member_setup crash_joiner_setup

static void mute_member_plan(void)
{
    weather();
    start_at(in_units(5), fleet.samplers[3]);
    stall_at(in_units(4), any_sampler(), PICK(300, 1000, 3000) * NS_PER_MS, PICK(5, 20, 60) * unit_ns());
}

static void bad_resolvers_setup(struct fleet_options *options, struct workload *load)
{
    scale_setup(options, load);
    options->late_most_ns = 4 * NS_PER_S; /* who joins waits for an answer of its own resolver */
}

static void bad_resolvers_plan(void)
{
    weather();
    fleet.resolve_empty = 200;
    fleet.resolve_partial = 300;
    fleet.resolve_fails = 200;
    any_sampler()->frozen_resolver = true;
    start_at(in_units(5), fleet.samplers[3]);
    start_at(in_units(15), fleet.samplers[4]);
    stop_at(in_units(30), any_sampler());
}

/* -- 16: a volume is lost; a journal's tail is torn -------------------------------------------------------------------------------------------------------------------------- */

#define volume_lost_setup clustered_setup

static void volume_lost_plan(void)
{
    weather();
    volume_lost_at(in_units(rng_between(&world.fault, 5, 40)), any_sampler(), PICK(1, 10, 40) * unit_ns());
}

static void torn(void *context, uint64_t back_after_ns)
{
    struct node *node = context;

    fleet_kill(node, false);
    if (node->volume && volume_damage(node->volume))
        oracle_cause(CAUSE_MEMORY_LOST, world.now_ns, world.now_ns);
    start_at(world.now_ns + back_after_ns, node);
}

#define torn_journal_setup clustered_setup

static void torn_journal_plan(void)
{
    weather();
    plan_at(in_units(rng_between(&world.fault, 5, 40)), "torn", torn, any_sampler(), PICK(1, 10) * unit_ns());
}

static void disk_fails(void *context, uint64_t number)
{
    struct volume_faults *faults = volume_faults(((struct node *)context)->volume);

    if (number == 0)
        *faults = (struct volume_faults){.slow_ns = 0};
    else if (number == 1)
        *faults = (struct volume_faults){.write_per_mille = 300, .sync_per_mille = 300};
    else if (number == 2)
        *faults = (struct volume_faults){.full = true};
    else
        *faults = (struct volume_faults){.slow_ns = 300 * NS_PER_MS};
}

#define bad_disk_setup clustered_setup

static void bad_disk_plan(void)
{
    struct node *node = any_sampler();
    uint64_t at_ns = in_units(rng_between(&world.fault, 1, 40));

    weather();
    plan_at(at_ns, "disk", disk_fails, node, rng_between(&world.fault, 1, 3));
    plan_at(at_ns + PICK(5, 30) * unit_ns(), "disk", disk_fails, node, 0);
}

/* -- 17: hardly any room for verdicts ------------------------------------------------------------------------------------------------------------------------------------------ */

static void few_verdicts_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    options->verdict_bytes = 1500;
    load->late_per_mille = 300;
}

#define few_verdicts_plan crash_plan

/* -- 18: caches off, one on, both on, with late spans ------------------------------------------------------------------------------------------------------------------------------ */

static void caches_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    options->sampled_cache = (int)PICK(0, 1000);
    options->non_sampled_cache = (int)PICK(0, 1000);
    options->samplers_most = 4;
    load->late_per_mille = 400;
    load->late_most_ns = 10 * NS_PER_S;
}

static void caches_plan(void)
{
    weather();
    start_at(in_units(10), fleet.samplers[3]);
    crash_at(in_units(30), any_sampler(), PICK(5, 10) * unit_ns());
}

/* -- 19: a decision_wait shorter than a transfer -------------------------------------------------------------------------------------------------------------------------------------- */

static void short_wait_setup(struct fleet_options *options, struct workload *load)
{
    joins_and_drains_setup(options, load);
    options->decision_wait_ns = 50 * NS_PER_MS;
}

#define short_wait_plan joins_and_drains_plan

/* -- 20: many members, and one comes or goes all the time: nobody waits for it ------------------------------------------------------------- */

static void many_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    options->samplers = 14;
    options->samplers_most = 18;
    options->workers = 1;
    options->status_interval_ns = 500 * NS_PER_MS;
    options->late_most_ns = 4 * NS_PER_S; /* a slot may move twice while a trace is due: hello_wait, a status and a transfer each */
    load->traces = 120;
}

static void many_plan(void)
{
    for (unsigned i = 0; i < 4; i++) {
        start_at(in_units(2 + 20 * i), fleet.samplers[14 + i]);
        restart_at(in_units(12 + 20 * i), fleet.samplers[3 * i + rng_below(&world.fault, 3)]);
    }
}

/* A hundred, of which some come, go, restart and die; few traces, as it is the rings that are many. */
static void hundred_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    options->samplers = 100;
    options->samplers_most = 101;
    options->workers = 1;
    options->status_interval_ns = 1 * NS_PER_S;
    load->traces = 60;
    load->end_ns = load->begin_ns + 6 * NS_PER_S;
    load->late_most_ns = 2 * NS_PER_S;
    load->give_up_ns = 5 * NS_PER_S;
    load->direct_per_mille = 300;
}

static void hundred_plan(void)
{
    struct node *node = any_sampler();

    start_at(in_units(rng_between(&world.fault, 1, 30)), fleet.samplers[100]);
    restart_at(in_units(rng_between(&world.fault, 1, 30)), node);
    crash_at(in_units(rng_between(&world.fault, 1, 30)), any_sampler_but(node), PICK(1, 5) * unit_ns());
}

/* -- rings that are known here and not yet there: what "in step" and hello_wait are for --------------------------------------------------- */

/* Statuses take their time, everything else does not; never so long that a member would seem silent. */
static uint64_t late_statuses(const struct net_call *call)
{
    return strstr(call->method, "Peer/Tell") ? rng_below(&world.net, fleet.options.status_interval_ns) : 0;
}

static void slow_words_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    options->samplers_most = 5;
    options->decision_wait_ns = PICK(150, 400) * NS_PER_MS;
    load->trace_length_ns = 500 * NS_PER_MS;
    load->traces = 150;
    load->direct_per_mille = 600;
}

static void slow_words_plan(void)
{
    struct node *node = any_sampler();
    uint64_t at_ns = in_units(5);

    net.extra_delay = late_statuses;
    start_at(at_ns, fleet.samplers[3]);
    if (rng_chance(&world.fault, 500))
        crash_at(at_ns + rng_below(&world.fault, 2 * unit_ns()), node, rng_between(&world.fault, 1, 20) * unit_ns());
    start_at(at_ns + rng_between(&world.fault, 1, 15) * unit_ns(), fleet.samplers[4]);
    restart_at(in_units(30), any_sampler());
    stop_at(in_units(45), fleet.samplers[3]);
    crash_at(in_units(55), any_sampler(), rng_between(&world.fault, 1, 10) * unit_ns());
}

/* -- several backends, and whose spans they are ---------------------------------------------------------------------------------------- */

static void members_come_and_go(void)
{
    start_at(in_units(rng_between(&world.fault, 3, 15)), fleet.samplers[3]);
    stop_at(in_units(rng_between(&world.fault, 15, 40)), any_sampler());
    crash_at(in_units(rng_between(&world.fault, 1, 60)), any_sampler(), PICK(1, 5, 20) * unit_ns());
}

/* Each sampled trace once at each: one is away or slow while the other is not, members leave with what only one of them has, and die
 * between the answers of the two. */
static void two_backends_setup(struct fleet_options *options, struct workload *load)
{
    crash_joiner_setup(options, load);
    options->backends = 2;
}

static void two_backends_plan(void)
{
    unsigned one = (unsigned)PICK(0, 1);

    weather();
    backends[one].mute_per_mille = (unsigned)PICK(0, 20);
    backends[one].refuse_per_mille = (unsigned)PICK(0, 100);
    backends[one].service_most_ns = PICK(5, 400, 900) * NS_PER_MS;
    if (rng_chance(&world.fault, 700))
        backend_away_at(one, in_units(rng_between(&world.fault, 1, 30)), PICK(5, 20, 60) * unit_ns());
    members_come_and_go();
}

/* Likewise without a cluster: what one backend has lies in the journal for the other, is cleaned, and read back after a crash. */
static void two_backends_alone_setup(struct fleet_options *options, struct workload *load)
{
    clean_setup(options, load);
    options->backends = 2;
    options->verdict_keep_ns = 3 * NS_PER_S; /* so that what names those that have it goes, too, once its segments were cleaned */
    options->tenants = rng_chance(&world.fault, 300);
    load->tenants = options->tenants ? 2 : 0;
}

static void two_backends_alone_plan(void)
{
    unsigned one = (unsigned)PICK(0, 1);

    backends[1 - one].service_most_ns = PICK(5, 400) * NS_PER_MS;
    backend_away_at(one, in_units(2), PICK(20, 150) * unit_ns());
    for (uint64_t at = rng_between(&world.fault, 10, 80); at < 150; at += rng_between(&world.fault, 20, 100))
        crash_at(in_units(at), fleet.samplers[0], rng_between(&world.fault, 1, 3) * unit_ns());
}

/* A tenant's spans are under its own header at the backend, whichever way they took: forwarded, given away, read back, recovered. */
static void tenants_setup(struct fleet_options *options, struct workload *load)
{
    crash_joiner_setup(options, load);
    if (rng_chance(&world.fault, 300)) {
        heavy(options, load);
        options->at_limit = "spill";
    }
    options->tenants = true;
    options->backends = (unsigned)PICK(1, 2);
    load->tenants = 3;
    load->direct_per_mille = 300;
}

static void tenants_plan(void)
{
    weather();
    if (rng_chance(&world.fault, 300))
        backend_away_at(0, in_units(rng_between(&world.fault, 1, 30)), PICK(5, 20) * unit_ns());
    members_come_and_go();
}

/* -- a disk that fails, and a sampler that goes on without it ------------------------------------------------------------------------------- */

static void disk_memory_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    options->memory_on_error = true;
}

static void disk_fails_all(void *context, uint64_t number)
{
    struct volume_faults *faults = volume_faults(((struct node *)context)->volume);

    *faults = (struct volume_faults){.write_per_mille = number == 0 ? 300 : 1000, .sync_per_mille = 300, .full = number == 2};
}

/* What was acknowledged since its disk failed is in its memory alone, until it is decided and exported; verdicts and hashes still are then. */
static void memory_dies(void *context, uint64_t failed_ns)
{
    struct node *node = context;

    oracle_cause(CAUSE_MEMORY_LOST, failed_ns, world.now_ns);
    fleet_crash(node, rng_between(&world.fault, 1, 10) * unit_ns(), false);
}

static void memory_forgets(void *context, uint64_t failed_ns)
{
    struct node *node = context;

    oracle_cause(CAUSE_FORGOT, failed_ns, world.now_ns);
    fleet_crash(node, rng_between(&world.fault, 1, 10) * unit_ns(), false);
}

static void disk_memory_plan(void)
{
    struct node *node = any_sampler();
    uint64_t at_ns = in_units(rng_between(&world.fault, 1, 40)), until_ns = at_ns + PICK(5, 15, 40) * unit_ns();

    weather();
    plan_at(at_ns, "disk", disk_fails_all, node, rng_below(&world.fault, 3));
    plan_at(until_ns, "disk", disk_fails, node, 0);
    switch (rng_below(&world.fault, 5)) {
    case 0:
        crash_at(at_ns + rng_below(&world.fault, until_ns - at_ns), any_sampler_but(node), PICK(1, 10, 20) * unit_ns());
        break;
    case 1:
        restart_at(at_ns + rng_below(&world.fault, until_ns - at_ns), node);
        break;
    case 2:
        plan_at(at_ns + rng_below(&world.fault, until_ns - at_ns), "crash", memory_dies, node, at_ns);
        break;
    case 3:
        plan_at(until_ns + 2 * fleet.options.decision_wait_ns + 4 * NS_PER_S, "crash", memory_forgets, node, at_ns);
        break;
    default:
        break;
    }
}

/* -- policies change while traces are held, and move ------------------------------------------------------------------------------------------ */

struct rollout {
    struct node *node;
    unsigned version;
    bool broken_too;
};

static void reload(void *context, uint64_t zero)
{
    struct rollout *rollout = context;

    (void)zero;
    fleet_reload(rollout->node, rollout->version, rollout->broken_too);
    sim_free(rollout);
}

/* As a ConfigMap reaches its pods: each in its own time. */
static void roll_out_at(uint64_t at_ns, unsigned version, uint64_t spread_ns)
{
    for (unsigned i = 0; i < fleet.options.samplers_most; i++) {
        struct rollout *rollout = sim_alloc(sizeof(*rollout));

        *rollout = (struct rollout){fleet.samplers[i], version, rng_chance(&world.fault, 300)};
        plan_at(at_ns + rng_below(&world.fault, spread_ns + 1), "reload", reload, rollout, 0);
    }
}

static void roll_out_some(void)
{
    unsigned version = 0;

    for (uint64_t at = 4; at < 75; at += rng_between(&world.fault, 4, 25)) {
        version = (version + (unsigned)rng_between(&world.fault, 1, POLICY_VERSIONS - 1)) % POLICY_VERSIONS;
        roll_out_at(in_units(at), version, PICK(0, 1, 8) * unit_ns());
    }
}

static void reload_alone_setup(struct fleet_options *options, struct workload *load)
{
    alone_setup(options, load);
    load->traces = 80;
    load->plain_per_mille = 0;
}

static void reload_alone_plan(void)
{
    alone_plan();
    roll_out_some();
}

static void reload_setup(struct fleet_options *options, struct workload *load)
{
    crash_joiner_setup(options, load);
    options->journal = rng_chance(&world.fault, 800);
    options->backends = (unsigned)PICK(1, 1, 2);
    load->traces = 80;
}

static void reload_plan(void)
{
    weather();
    roll_out_some();
    start_at(in_units(rng_between(&world.fault, 3, 15)), fleet.samplers[3]);
    stop_at(in_units(rng_between(&world.fault, 15, 40)), any_sampler());
    if (rng_chance(&world.fault, 500))
        crash_at(in_units(rng_between(&world.fault, 1, 60)), any_sampler(), PICK(1, 5, 20) * unit_ns());
}

/* -- all of it --------------------------------------------------------------------------------------------------------------------------------------------------------------------- */

static void mix_setup(struct fleet_options *options, struct workload *load)
{
    clustered_setup(options, load);
    options->samplers = (unsigned)rng_between(&world.fault, 2, 4);
    options->samplers_most = options->samplers + 2;
    options->journal = rng_chance(&world.fault, 800);
    options->decision_wait_ns = PICK(200, 1000, 2000, 4000) * NS_PER_MS;
    options->sampled_cache = (int)PICK(0, 1000);
    options->non_sampled_cache = (int)PICK(0, 1000);
    load->late_per_mille = (unsigned)PICK(50, 300);
    load->resend_per_mille = (unsigned)PICK(0, 200);
}

static void mix_fault(void)
{
    uint64_t at_ns = in_units(rng_below(&world.fault, 70)), for_ns = PICK(1, 5, 12, 29, 31, 60) * unit_ns();
    struct node *node = any_sampler();

    switch (rng_below(&world.fault, 10)) {
    case 0:
        crash_at(at_ns, node, for_ns);
        break;
    case 1:
        restart_at(at_ns, node);
        break;
    case 2:
        stop_at(at_ns, node);
        break;
    case 3:
        start_at(at_ns, fleet.samplers[fleet.options.samplers + rng_below(&world.fault, 2)]);
        break;
    case 4:
        stop_at(at_ns, fleet.samplers[fleet.options.samplers + rng_below(&world.fault, 2)]);
        break;
    case 5:
        cut_at(at_ns, node, any_sampler_but(node), rng_chance(&world.fault, 700), for_ns);
        break;
    case 6:
        backend_away_at(0, at_ns, for_ns);
        break;
    case 7:
        reset_at(at_ns, node, any_sampler_but(node));
        break;
    case 8:
        crash_at(at_ns, any_lb(), for_ns);
        break;
    default:
        stall_at(at_ns, node, PICK(20, 100, 1000) * NS_PER_MS, for_ns);
        break;
    }
}

static void mix_plan(void)
{
    weather();
    for (uint64_t left = rng_between(&world.fault, 1, 6); left > 0; left--)
        mix_fault();
}

static void mix_more_setup(struct fleet_options *options, struct workload *load)
{
    mix_setup(options, load);
    options->backends = (unsigned)PICK(1, 2);
    options->tenants = rng_chance(&world.fault, 500);
    load->tenants = options->tenants ? 3 : 0;
}

static void mix_more_plan(void)
{
    mix_plan();
    if (rng_chance(&world.fault, 500))
        roll_out_some();
    if (fleet.options.backends > 1 && rng_chance(&world.fault, 500))
        backend_away_at(1, in_units(rng_below(&world.fault, 70)), PICK(1, 12, 40) * unit_ns());
}

/* -- the list ------------------------------------------------------------------------------------------------------------------------ */

const struct scenario scenarios[] = {
    SCENARIO(quiet, "one sampler without a cluster, and nothing goes wrong"),
    SCENARIO(alone, "one sampler without a cluster; slow messages, lost answers"),
    SCENARIO(backend_outage, "one sampler; the backend is away, refuses, takes without answering"),
    SCENARIO(overload, "two samplers without a cluster, and more spans than they have memory for"),
    SCENARIO(spill, "more spans than there is memory for: the journal takes them"),
    SCENARIO(clean, "a long outage of the backend: a journal's segments are cleaned of what was dropped, and a crash now and then"),
    SCENARIO(balancers_roll, "balancers are restarted while requests are under way"),
    SCENARIO(alone_restart, "one sampler with a journal, killed again and again"),
    SCENARIO(calm, "a cluster in which nothing happens but slow messages, lost answers and misrouted spans"),
    SCENARIO(scale, "3 samplers become 5, then fewer, under load"),
    SCENARIO(roll, "every sampler is restarted, one at a time"),
    SCENARIO(crash, "kill -9 of a member that comes back soon, late, or too late"),
    SCENARIO(crash_joiner, "kill -9 of a member in its first second"),
    SCENARIO(crash_drainer, "kill -9 of a member that drains"),
    SCENARIO(crash_often, "kill -9 of one member again and again: at every step of a span's way"),
    SCENARIO(crash_in_write, "kill -9 in the middle of a write to the journal"),
    SCENARIO(machine_dies, "a machine dies; with sync: always nothing is lost"),
    SCENARIO(stale_balancers, "balancers with old and with wrong rings"),
    SCENARIO(joins_and_drains, "members come and go at the same moment"),
    SCENARIO(flapping, "one name joins, drains and joins again"),
    SCENARIO(new_address, "a member comes back at another address"),
    SCENARIO(new_name, "a volume comes back under another name"),
    SCENARIO(resends, "clients send again what was acknowledged, over other balancers"),
    SCENARIO(late_gives, "answers of Give come after two more rings"),
    SCENARIO(cut_pair, "two members are cut from each other, or one from the other"),
    SCENARIO(cut_one, "one member is cut from all others"),
    SCENARIO(cut_halves, "half is cut from half"),
    SCENARIO(cut_balancer, "balancers are cut from members"),
    SCENARIO(resets, "connections are reset, again and again"),
    SCENARIO(clocks, "clocks are off by an hour, and step at a restart"),
    SCENARIO_EVERY(2, budget, "members come and go while all are at their memory budget"),
    SCENARIO(backend_scale, "the backend is away while members leave"),
    SCENARIO(to_none, "all members leave, and come back"),
    SCENARIO(all_leave, "all members leave at once and are back, with their volumes, before the last has left"),
    SCENARIO(all_killed, "all are killed at once, and come back in some order"),
    SCENARIO(mute_member, "a member hardly gets the CPU while another joins"),
    SCENARIO(bad_resolvers, "resolvers fail, find nothing, find half, or nothing new"),
    SCENARIO(volume_lost, "a member comes back without its volume"),
    SCENARIO(torn_journal, "the end of a journal is damaged"),
    SCENARIO(bad_disk, "a disk fails, is full, is slow"),
    SCENARIO(few_verdicts, "hardly any room for verdicts"),
    SCENARIO(caches, "decision caches off, one on, both on, with late spans"),
    SCENARIO(short_wait, "decision_wait is shorter than a transfer"),
    SCENARIO_EVERY(3, many, "fourteen members and more, one of which comes or goes all the time"),
    SCENARIO_EVERY(75, hundred, "a hundred members, some of which come, go, restart and die"),
    SCENARIO(slow_words, "statuses are slow while members come, go and die, and clients send where they like"),
    SCENARIO(two_backends, "two backends, one away, slow or silent, while members come, go and die"),
    SCENARIO(two_backends_alone, "one sampler, one of two backends away for long, its journal cleaned, and a crash now and then"),
    SCENARIO(tenants, "spans of several tenants, while members come, go and die"),
    SCENARIO(disk_memory, "a disk fails, and its sampler goes on in memory"),
    SCENARIO(reload_alone, "policies change under one sampler without a cluster"),
    SCENARIO(reload, "policies change, node by node, while members come, go and die"),
    SCENARIO(mix, "several faults by lot"),
    SCENARIO(mix_more, "several faults by lot, with tenants, two backends and changing policies"),
};
const size_t scenario_count = ARRAY_COUNT(scenarios);

const struct scenario *scenario_find(const char *name)
{
    for (size_t i = 0; i < scenario_count; i++)
        if (strcmp(scenarios[i].name, name) == 0)
            return &scenarios[i];
    return NULL;
}
