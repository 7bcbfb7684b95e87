#include "tests/sim/net.h"

#include <stdio.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/hash.h"
#include "common/export/rpc_code.h"
#include "tests/sim/memory.h"
#include "tests/sim/volume.h"

#define HELD_BACK_NS (40 * NS_PER_MS) /* a cut is looked at again after so long: as a retransmission */

struct net net;

/* -- hosts -------------------------------------------------------------------------------------------------------------------- */

void net_begin(void)
{
    net = (struct net){.slow_per_mille = 10, .slow_most_ns = 50 * NS_PER_MS};
    list_init(&net.calls);
    list_init(&net.links);
}

struct node *net_node_add(enum node_kind kind, const char *name, const char *address)
{
    struct node *node = sim_alloc(sizeof(*node));

    ASSERT(net.node_count < NODES_MAX);
    node->kind = kind;
    node->index = net.node_count;
    for (unsigned i = 0; i < net.node_count; i++)
        node->number += net.nodes[i]->kind == kind;
    (void)snprintf(node->name, sizeof(node->name), "%s", name);
    (void)snprintf(node->address, sizeof(node->address), "%s", address);
    net.nodes[net.node_count++] = node;
    return node;
}

struct node *net_find(const char *address)
{
    for (unsigned i = 0; i < net.node_count; i++)
        if (strcmp(net.nodes[i]->address, address) == 0)
            return net.nodes[i];
    return NULL;
}

bool net_is_cut(const struct node *from, const struct node *to)
{
    return net.cut[from->index][to->index];
}

void net_cut(struct node *a, struct node *b, bool both)
{
    story(NULL, "cut: %s %s %s", a->name, both ? "<-/->" : "-/->", b->name);
    net.cut[a->index][b->index] = true;
    if (both)
        net.cut[b->index][a->index] = true;
    links_cut(a, b);
}

void net_heal(struct node *a, struct node *b)
{
    if (!net_is_cut(a, b) && !net_is_cut(b, a))
        return;
    story(NULL, "healed: %s, %s", a->name, b->name);
    net.cut[a->index][b->index] = net.cut[b->index][a->index] = false;
}

void net_heal_all(void)
{
    for (unsigned a = 0; a < net.node_count; a++)
        for (unsigned b = 0; b < a; b++)
            net_heal(net.nodes[a], net.nodes[b]);
}

void net_reset(struct node *a, struct node *b)
{
    story(NULL, "connections reset: %s, %s", a->name, b->name);
    links_reset(a, b);
}

/* -- calls ----------------------------------------------------------------------------------------------------------------------- */

static uint64_t delay_ns(const struct net_call *call)
{
    uint64_t ns = rng_between(&world.net, 80, 700) * NS_PER_US;

    if (rng_chance(&world.net, net.slow_per_mille))
        ns += rng_between(&world.net, 0, net.slow_most_ns);
    return ns + (net.extra_delay ? net.extra_delay(call) : 0);
}

static void call_free(struct net_call *call)
{
    event_cancel(&call->travel);
    event_cancel(&call->expiry);
    list_del(&call->all);
    buffer_unref(call->bytes);
    buffer_unref(call->response);
    buffer_unref(call->rejected);
    metadata_set_unref(call->metadata);
    sim_free(call);
}

/* Both ends are over. */
static void call_settle(struct net_call *call)
{
    if (!call->ended && call->phase == CALL_OVER)
        call_free(call);
}

static void caller_over(struct net_call *call, const struct link_result *result)
{
    void (*ended)(struct net_call *call, const struct link_result *result) = call->ended;

    event_cancel(&call->expiry);
    if (list_linked(&call->node))
        list_del(&call->node);
    call->ended = NULL;
    if (call->watch)
        call->watch(call, result->code);
    if (ended)
        ended(call, result);
    if (call->phase == CALL_WAITING)
        call->phase = CALL_OVER;
}

void net_call_end(struct net_call *call, int code, const char *message)
{
    const struct link_result result = {.code = code, .message = slice_text(message)};

    caller_over(call, &result);
    call_settle(call);
}

void net_call_orphan(struct net_call *call)
{
    call->ended = NULL;
    event_cancel(&call->expiry);
    if (list_linked(&call->node))
        list_del(&call->node);
    if (call->phase == CALL_WAITING || call->phase == CALL_BACK)
        call->phase = CALL_OVER;
    call_settle(call);
}

static void call_expired(struct sim_event *event)
{
    net_call_end(container_of(event, struct net_call, expiry), RPC_DEADLINE_EXCEEDED, "the deadline passed");
}

static void call_back(struct net_call *call)
{
    struct link_result result = {.code = call->code, .has_retry = call->has_retry, .retry_ns = call->retry_ns,
        .too_large = call->too_large, .draining = call->draining, .message = slice_text(call->message)};

    if (call->response)
        result.response = buffer_slice(call->response);
    if (call->rejected)
        result.rejected = buffer_slice(call->rejected);
    call->phase = CALL_OVER;
    caller_over(call, &result);
    call_settle(call);
}

/* Nobody is there, or another than it was connected to: the host says so. */
static void call_refused(struct net_call *call, const char *message)
{
    call->code = RPC_UNAVAILABLE;
    (void)snprintf(call->message, sizeof(call->message), "%s", message);
    net_call_answer(call);
}

static void call_arrived(struct net_call *call)
{
    struct process *process = call->to->process;

    world_fold(call->method, strlen(call->method));
    world_fold(call->bytes->bytes, call->bytes->len);
    if (strstr(call->method, "Peer/") && !strstr(call->method, "/Tell") && !strstr(call->method, "/Hello"))
        story(call->to->name, "gets %s from %s, %zu bytes", strrchr(call->method, '/') + 1, call->from->name, call->bytes->len);
    call->phase = CALL_SERVED;
    if (call->to->kind == NODE_BACKEND) {
        backend_serve(call);
        return;
    }
    if (!process || (call->to_life != 0 && process->owner != call->to_life)) {
        call_refused(call, "connection reset by peer");
        return;
    }
    if (!listeners_serve(process, call))
        call_refused(call, "nobody serves");
}

static void call_travels(struct sim_event *event)
{
    struct net_call *call = container_of(event, struct net_call, travel);
    bool out = call->phase == CALL_OUT;

    if (out ? net_is_cut(call->from, call->to) : net_is_cut(call->to, call->from)) {
        if (call->ended)
            event_soon(&call->travel, HELD_BACK_NS);
        else { /* its connection is gone, and so is what it carried */
            call->phase = CALL_OVER;
            call_settle(call);
        }
        return;
    }
    if (out)
        call_arrived(call);
    else
        call_back(call);
}

struct net_call *net_call_new(struct node *from, const char *method, struct buffer *const *pieces, size_t count, uint64_t deadline_ns,
    void (*ended)(struct net_call *call, const struct link_result *result), void *context)
{
    uint32_t owner = memory_owner(0);
    struct net_call *call = sim_alloc(sizeof(*call));
    size_t len = 0;

    for (size_t i = 0; i < count; i++)
        len += pieces[i]->len;
    call->bytes = buffer_new(len);
    for (size_t i = 0; i < count; i++) {
        memcpy(call->bytes->bytes + call->bytes->len, pieces[i]->bytes, pieces[i]->len);
        call->bytes->len += pieces[i]->len;
    }
    (void)memory_owner(owner);
    (void)snprintf(call->method, sizeof(call->method), "%s", method);
    call->from = from;
    call->sent_ns = world.now_ns;
    call->deadline_ns = deadline_ns;
    call->ended = ended;
    call->context = context;
    event_init(&call->travel, "message", call_travels);
    event_init(&call->expiry, "deadline", call_expired);
    if (deadline_ns != UINT64_MAX)
        event_at(&call->expiry, u64_max(deadline_ns, world.now_ns + 1));
    list_add_tail(&net.calls, &call->all);
    return call;
}

struct metadata_set *metadata_wanted(const struct metadata_set *set, const struct forward *forward)
{
    struct metadata_entry wanted[METADATA_PAIRS_MAX];
    struct metadata_set *copy;
    size_t count = 0;

    for (size_t i = 0; set && i < set->count; i++)
        if (forward_wants(forward, set->entries[i].key))
            wanted[count++] = set->entries[i];
    ASSERT(metadata_set_new(wanted, count, &copy) == 0);
    return copy;
}

static bool repeats(const struct net_call *call)
{
    return strstr(call->method, "Peer/Give") || strstr(call->method, "Peer/Tell") || strstr(call->method, "Peer/Forward");
}

void net_call_send(struct net_call *call, struct node *to, uint32_t to_life)
{
    call->to = to;
    call->to_life = to_life;
    call->phase = CALL_OUT;
    event_soon(&call->travel, delay_ns(call));
    if (repeats(call) && rng_chance(&world.net, net.repeat_per_mille)) {
        struct net_call *again = net_call_new(call->from, call->method, &call->bytes, 1, UINT64_MAX, NULL, NULL);

        again->to = to;
        again->to_life = to_life;
        again->phase = CALL_OUT;
        again->ring = call->ring;
        event_soon(&again->travel, delay_ns(call) + rng_between(&world.net, 0, net.slow_most_ns));
    }
}

/* Outcomes stand in the first field: a byte a trace. */
static void story_give(const struct net_call *call)
{
    char text[200] = "";

    for (size_t i = 2; call->response && i < call->response->len && i < 60; i++)
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), " %02x", call->response->bytes[i]);
    story(call->to->name, "answers Give of %s: %d%s", call->from->name, call->code, text);
}

void net_call_answer(struct net_call *call)
{
    ASSERT(call->phase == CALL_SERVED);
    call->served = NULL;
    if (strstr(call->method, "Peer/Give"))
        story_give(call);
    if (!call->ended) {
        call->phase = CALL_OVER;
        call_settle(call);
        return;
    }
    if (rng_chance(&world.net, net.reset_per_mille)) {
        story(call->to->name, "its answer to %s's %s is lost", call->from->name, call->method);
        call->code = RPC_UNAVAILABLE;
        call->has_retry = call->draining = false;
        (void)snprintf(call->message, sizeof(call->message), "connection reset");
    }
    call->phase = CALL_BACK;
    event_soon(&call->travel, delay_ns(call));
}

void net_call_lost(struct net_call *call)
{
    call->served = NULL;
    if (call->ended && !list_linked(&call->node)) { /* a client without a link, which would tell it */
        call->code = RPC_UNAVAILABLE;
        call->phase = CALL_BACK;
        event_soon(&call->travel, delay_ns(call));
        return;
    }
    call->phase = CALL_OVER;
    call_settle(call);
}

void net_process_gone(struct process *process, bool machine_too)
{
    links_peer_gone(process->node, process->owner, machine_too);
}

void net_end(void)
{
    for (unsigned i = 0; i < net.node_count; i++)
        if (net.nodes[i]->process)
            process_kill(net.nodes[i], false);
    LIST_FOR_EACH_SAFE(node, following, &net.calls)
        call_free(container_of(node, struct net_call, all));
    for (unsigned i = 0; i < net.node_count; i++) {
        volume_free(net.nodes[i]->volume);
        sim_free(net.nodes[i]);
    }
    net.node_count = 0;
}
