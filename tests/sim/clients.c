#include "tests/sim/clients.h"

#include <stdio.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/export/rpc_code.h"
#include "tests/kit/otlp_build.h"
#include "tests/sim/memory.h"
#include "tests/sim/net.h"

#define REQUEST_SPANS_MAX 16u
#define ATTEMPT_NS (8 * NS_PER_S)

struct clients clients;

/* One request of a client, tried until it is acknowledged or given up. */
struct sending {
    struct list node;
    struct sim_event next;
    struct net_call *call;  /* NULL: it waits */
    uint64_t until_ns;
    unsigned tries;
    bool resent;            /* it was acknowledged before: sent once more */
    unsigned tenant;        /* of all its spans */
    unsigned count;
    struct {
        struct sim_trace *trace;
        unsigned span;
    } spans[REQUEST_SPANS_MAX];
};

static struct list sendings;

void clients_begin(void)
{
    clients = (struct clients){.node = net_node_add(NODE_CLIENTS, "clients", "10.8.0.1:1")};
    list_init(&sendings);
}

static void sending_free(struct sending *sending)
{
    event_cancel(&sending->next);
    list_del(&sending->node);
    sim_free(sending);
}

void clients_end(void)
{
    while (!list_empty(&sendings))
        sending_free(container_of(list_first(&sendings), struct sending, node));
}

/* -- what is sent ---------------------------------------------------------------------------------------------------------------- */

static char padding[256 * 1024];

static void write_span(struct otlp_build *build, const struct sim_trace *trace, unsigned i)
{
    static const char *const marks[] = {"plain", "keep", "error", "drop"};
    const struct sim_span *span = &trace->spans[i];
    const struct otlp_attribute attributes[] = {OTLP_TEXT("mark", marks[span->mark]), OTLP_INT("span.number", (int64_t)i),
        OTLP_BYTES("pad", padding, clients.load.pad_bytes)};

    otlp_span(build, &(struct otlp_span){
        .trace_id = trace->id,
        .span_id = otlp_span_id(trace->number * 100 + i + 1),
        .parent_span_id = i > 0 ? otlp_span_id(trace->number * 100 + 1) : (struct otlp_span_id){{0}},
        .name = "operation",
        .start_unix_ns = 1800000000ull * NS_PER_S + span->planned_ns,
        .end_unix_ns = 1800000000ull * NS_PER_S + span->planned_ns + NS_PER_MS,
        .attributes = attributes,
        .attributes_count = clients.load.pad_bytes ? 3 : 2,
        .status = span->mark == SPAN_ERROR ? 2 : 0,
    });
}

static struct buffer *request_bytes(const struct sending *sending)
{
    struct otlp_build build = {0};
    struct buffer *bytes;

    otlp_resource_spans(&build);
    otlp_resource(&build, 1, (struct otlp_attribute[]){OTLP_TEXT("service.name", "shop")});
    otlp_scope_spans(&build);
    otlp_scope(&build, "sim", "1");
    for (unsigned i = 0; i < sending->count; i++)
        write_span(&build, sending->spans[i].trace, sending->spans[i].span);
    otlp_end(&build);
    otlp_end(&build);
    bytes = buffer_new(build.len);
    memcpy(bytes->bytes, build.bytes, build.len);
    bytes->len = build.len;
    otlp_build_deinit(&build);
    return bytes;
}

/* -- tries --------------------------------------------------------------------------------------------------------------------------- */

/* Its tenant, and another header that nobody is to carry on. */
static struct metadata_set *request_metadata(const struct sending *sending)
{
    const char tenant = (char)('0' + sending->tenant);
    const struct metadata_entry entries[] = {{slice_text("X-Tenant"), slice_make((const uint8_t *)&tenant, 1)},
        {slice_text("user-agent"), slice_text("sim")}};
    struct metadata_set *set;

    if (sending->tenant == 0)
        return NULL;
    ASSERT(metadata_set_new(entries, ARRAY_COUNT(entries), &set) == 0);
    return set;
}

static struct node *pick(enum node_kind kind)
{
    struct node *some[NODES_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < net.node_count; i++)
        if (net.nodes[i]->kind == kind && net.nodes[i]->process)
            some[count++] = net.nodes[i];
    return count ? some[rng_below(&world.work, count)] : NULL;
}

static struct sending *sending_again(const struct sending *of)
{
    struct sending *again = sim_alloc(sizeof(*again));

    *again = *of;
    again->call = NULL;
    again->resent = true;
    again->tries = 0;
    again->next.place = 0;
    list_add_tail(&sendings, &again->node);
    return again;
}

static void on_answered(struct net_call *call, const struct link_result *result)
{
    struct sending *sending = call->context;

    sending->call = NULL;
    clients.under_way--;
    if (result->code == 0) {
        for (unsigned i = 0; i < sending->count; i++)
            oracle_acked(sending->spans[i].trace, sending->spans[i].span);
        if (!sending->resent && rng_chance(&world.work, clients.load.resend_per_mille)) {
            struct sending *again = sending_again(sending);

            event_soon(&again->next, rng_between(&world.work, 1, clients.load.late_most_ns / NS_PER_MS + 1) * NS_PER_MS);
        }
        sending_free(sending);
        return;
    }
    story("clients", "a request with trace %llu ends with %d: %.*s", (unsigned long long)sending->spans[0].trace->number, result->code,
        (int)result->message.len, (const char *)result->message.at);
    if (result->code == RPC_INVALID_ARGUMENT || result->code == RPC_UNIMPLEMENTED)
        broken("a good request was refused for good, with %d", result->code);
    if (result->code == RPC_CANCELLED) /* who drains answers what is under way */
        broken("a request was cancelled by %s", call->to->name);
    if (clients.stopped || world.now_ns >= sending->until_ns) {
        sending_free(sending);
        return;
    }
    event_soon(&sending->next, u64_max(result->has_retry ? result->retry_ns : 0, rng_between(&world.work, 20, 400) * NS_PER_MS));
}

static void sending_try(struct sim_event *event)
{
    struct sending *sending = container_of(event, struct sending, next);
    bool direct = rng_chance(&world.work, clients.load.direct_per_mille);
    struct node *to = pick(direct ? NODE_SAMPLER : NODE_LB);
    struct buffer *bytes;

    if (clients.stopped || world.now_ns >= sending->until_ns) {
        sending_free(sending);
        return;
    }
    if (!to || net_is_cut(clients.node, to)) {
        event_soon(event, rng_between(&world.work, 50, 300) * NS_PER_MS);
        return;
    }
    for (unsigned i = 0; i < sending->count; i++)
        oracle_sent(sending->spans[i].trace, sending->spans[i].span);
    bytes = request_bytes(sending);
    sending->tries++;
    clients.under_way++;
    sending->call = net_call_new(clients.node, LINK_EXPORT, &bytes, 1, world.now_ns + ATTEMPT_NS, on_answered, sending);
    buffer_unref(bytes);
    sending->call->metadata = request_metadata(sending);
    net_call_send(sending->call, to, 0);
}

/* -- the plan -------------------------------------------------------------------------------------------------------------------------- */

static enum span_mark pick_mark(unsigned kind)
{
    switch (kind) { /* of the trace */
    case 0:
        return rng_chance(&world.work, 350) ? SPAN_ERROR : SPAN_PLAIN;
    case 1:
        return rng_chance(&world.work, 350) ? SPAN_KEEP : SPAN_PLAIN;
    case 2:
        return rng_chance(&world.work, 200) ? SPAN_DROP : rng_chance(&world.work, 300) ? SPAN_ERROR : SPAN_PLAIN;
    default:
        return SPAN_PLAIN;
    }
}

/* Some spans are nobody's. */
static unsigned pick_tenant(const struct sim_trace *trace, unsigned i)
{
    if (clients.load.tenants == 0)
        return 0;
    if (i > 0 && rng_chance(&world.work, 800))
        return trace->spans[i - 1].tenant;
    return (unsigned)rng_below(&world.work, clients.load.tenants + 1);
}

static void plan_trace(struct sim_trace *trace, unsigned number)
{
    const struct workload *load = &clients.load;
    uint64_t begin_ns = rng_between(&world.work, load->begin_ns, load->end_ns);
    unsigned kind = rng_chance(&world.work, load->plain_per_mille) ? 3 : (unsigned)rng_below(&world.work, 4);

    *trace = (struct sim_trace){.id = otlp_trace_id(number + 1), .number = number};
    trace->span_count = (unsigned)rng_between(&world.work, 1, 7);
    for (unsigned i = 0; i < trace->span_count; i++) {
        uint64_t after_ns = i == 0 ? 0 : rng_below(&world.work, load->trace_length_ns);

        if (i > 0 && rng_chance(&world.work, load->late_per_mille))
            after_ns = rng_below(&world.work, load->late_most_ns);
        trace->spans[i].mark = pick_mark(kind);
        trace->spans[i].tenant = pick_tenant(trace, i);
        trace->spans[i].planned_ns = begin_ns + after_ns;
    }
}

/* Spans that come at about the same time share a request, as an SDK's batches do. */
static void plan_sending(struct sim_trace *trace, unsigned span)
{
    uint64_t at_ns = trace->spans[span].planned_ns;
    struct sending *sending = NULL;

    LIST_FOR_EACH(node, &sendings) {
        struct sending *other = container_of(node, struct sending, node);

        if (other->tenant == trace->spans[span].tenant && other->next.at_ns >= at_ns && other->next.at_ns - at_ns < 60 * NS_PER_MS && other->count < REQUEST_SPANS_MAX &&
            rng_chance(&world.work, 600)) {
            sending = other;
            break;
        }
    }
    if (!sending) {
        sending = sim_alloc(sizeof(*sending));
        event_init(&sending->next, "client", sending_try);
        list_add_tail(&sendings, &sending->node);
        event_at(&sending->next, at_ns + rng_below(&world.work, 50) * NS_PER_MS);
        sending->until_ns = sending->next.at_ns + clients.load.give_up_ns;
        sending->tenant = trace->spans[span].tenant;
    }
    sending->spans[sending->count].trace = trace;
    sending->spans[sending->count++].span = span;
}

void clients_plan(const struct workload *load)
{
    clients.load = *load;
    ASSERT(load->traces <= TRACES_MAX && load->pad_bytes <= sizeof(padding));
    oracle.trace_count = load->traces;
    for (unsigned i = 0; i < load->traces; i++) {
        plan_trace(&oracle.traces[i], i);
        for (unsigned k = 0; k < oracle.traces[i].span_count; k++)
            plan_sending(&oracle.traces[i], k);
    }
}
