#include "tests/sim/backend.h"

#include <stdio.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/export/rpc_code.h"
#include "common/otlp/span_walk.h"
#include "common/otlp/span_view.h"
#include "tests/sim/fleet.h"
#include "tests/sim/net.h"
#include "tests/sim/oracle.h"

struct backend backends[BACKENDS_MAX];

void backends_begin(void)
{
    for (unsigned i = 0; i < BACKENDS_MAX; i++)
        backends[i] = (struct backend){.service_most_ns = 5 * NS_PER_MS};
}

bool backend_open(const struct node *node)
{
    return !backends[node->number].away;
}

void backend_set_away(unsigned index, bool away)
{
    struct node *node = fleet.backends[index];

    if (backends[index].away == away)
        return;
    story(node->name, away ? "goes away" : "is back");
    backends[index].away = away;
    for (unsigned i = 0; away && i < net.node_count; i++)
        if (net.nodes[i] != node)
            net_reset(net.nodes[i], node);
}

static void answer(void *context, uint64_t number)
{
    (void)number;
    net_call_answer(context);
}

static void answer_later(struct net_call *call, uint64_t in_ns)
{
    plan_at(world.now_ns + in_ns, "backend", answer, call, 0);
}

static void refuse(struct net_call *call)
{
    bool full = rng_chance(&world.net, 300);

    call->code = full ? RPC_RESOURCE_EXHAUSTED : RPC_UNAVAILABLE;
    call->has_retry = full;
    call->retry_ns = 300 * NS_PER_MS;
    (void)snprintf(call->message, sizeof(call->message), "%s", full ? "too much" : "not now");
    answer_later(call, rng_between(&world.net, 1, 5) * NS_PER_MS);
}

static void on_ended(struct net_call *call, int code)
{
    oracle_export_ended(call->number, code);
}

static void take(struct net_call *call)
{
    struct span_walk walk;
    struct span_ref ref;

    call->number = oracle_export_begins(call->from, call->to->number, call->sent_ns);
    call->watch = on_ended;
    if (!call->ended) /* its caller is away already */
        oracle_export_ended(call->number, RPC_UNAVAILABLE);
    span_walk_init(&walk, buffer_slice(call->bytes));
    while (span_walk_next(&walk, &ref)) {
        struct span_view view;

        ASSERT(span_view_read(ref.bytes, NULL, NULL, &view));
        oracle_exported(call->number, &view.trace_id, view.span_id, call->metadata);
    }
    if (walk.bad)
        broken("%s exported what is no OTLP request", call->from->name);
}

void backend_serve(struct net_call *call)
{
    const struct backend *backend = &backends[call->to->number];

    if (backend->away || rng_chance(&world.net, backend->refuse_per_mille)) {
        refuse(call);
        return;
    }
    take(call);
    if (rng_chance(&world.net, backend->mute_per_mille)) {
        story(call->to->name, "takes an export of %s and never answers", call->from->name);
        answer_later(call, 3600 * NS_PER_S);
        return;
    }
    answer_later(call, rng_between(&world.net, 100 * NS_PER_US, backend->service_most_ns));
}
