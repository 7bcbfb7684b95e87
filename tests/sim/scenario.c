#include "tests/sim/scenario.h"

#include <string.h>

#include "common/base/assert.h"
#include "tests/sim/backend.h"
#include "tests/sim/clients.h"
#include "tests/sim/fleet.h"
#include "tests/sim/net.h"
#include "tests/sim/oracle.h"

#define SCENARIO(name_, about_) {.name = #name_, .about = about_, .setup = name_##_setup, .plan = name_##_plan}

/* -- standalone: one sampler, no ring to change ---------------------------------------------------------------------------------- */

static void alone_setup(struct fleet_options *options, struct workload *load)
{
    (void)load;
    options->samplers = options->samplers_most = 1;
}

static void alone_plan(void)
{
    net.slow_per_mille = 50;
    net.reset_per_mille = 30;
}

static void backend_toggle(void *context, uint64_t away)
{
    (void)context;
    backend_set_away(away != 0);
}

static void backend_outage_setup(struct fleet_options *options, struct workload *load)
{
    (void)load;
    options->samplers = options->samplers_most = 1;
}

static void backend_outage_plan(void)
{
    uint64_t at_ns = world.now_ns + rng_below(&world.fault, 10) * NS_PER_S;

    backend.refuse_per_mille = 100;
    backend.mute_per_mille = 60;
    plan_at(at_ns, "outage", backend_toggle, NULL, 1);
    plan_at(at_ns + rng_between(&world.fault, 1, 8) * NS_PER_S, "outage", backend_toggle, NULL, 0);
}

/* -- the list ------------------------------------------------------------------------------------------------------------------------ */

const struct scenario scenarios[] = {
    SCENARIO(alone, "one sampler without a cluster; slow messages, lost answers"),
    SCENARIO(backend_outage, "one sampler; the backend is away, refuses, takes without answering"),
};
const size_t scenario_count = ARRAY_COUNT(scenarios);

const struct scenario *scenario_find(const char *name)
{
    for (size_t i = 0; i < scenario_count; i++)
        if (strcmp(scenarios[i].name, name) == 0)
            return &scenarios[i];
    return NULL;
}
