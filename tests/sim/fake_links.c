/* In the place of common/export's link_grpc.c, link_http.c, link_debug.c and link_local.c: a link is a connection of the simulated
 * network. It dials, is refused or kept waiting, breaks, and dials again, as gRPC's channel does with quick reconnects. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/export/rpc_code.h"
#include "tests/sim/memory.h"
#include "tests/sim/net.h"
#include "tests/sim/process.h"

#define BACKOFF_MOST_NS (300 * NS_PER_MS) /* scaled, as handoff_timeout is: a connection must come back well within it */

struct sim_link {
    struct link link;
    struct list node; /* of the net's links */
    struct list mine; /* of its process's */
    struct process *process;
    struct worker *worker;
    char address[264];
    struct forward forward; /* borrowed for as long as the link */
    bool wait_for_ready, freed;
    struct node *peer;      /* when it is up */
    uint32_t peer_life;
    unsigned failures;      /* to connect, one after the other */
    struct sim_event dial, lost;
    struct list calls;      /* net_call.node: not over for the caller */
    struct list over;       /* struct over: ended, to be told on the worker */
    struct sim_event tell;
    unsigned refs;          /* the owner's and one a call */
};

/* How a call ended, until the worker hears of it. */
struct over {
    struct list node;
    struct link_call *caller;
    struct link_result result;
    struct buffer *message, *response, *rejected;
};

static void link_unref(struct sim_link *link)
{
    if (--link->refs > 0)
        return;
    event_cancel(&link->dial);
    event_cancel(&link->lost);
    event_cancel(&link->tell);
    list_del(&link->node);
    list_del(&link->mine);
    sim_free(link);
}

/* -- answers reach the worker ------------------------------------------------------------------------------------------------- */

static struct buffer *copy_of(struct slice bytes)
{
    uint32_t owner = memory_owner(0);
    struct buffer *copy = buffer_new(bytes.len);

    (void)memory_owner(owner);
    if (bytes.len > 0)
        memcpy(copy->bytes, bytes.at, bytes.len);
    copy->len = bytes.len;
    return copy;
}

static void over_free(struct over *over)
{
    buffer_unref(over->message);
    buffer_unref(over->response);
    buffer_unref(over->rejected);
    sim_free(over);
}

/* With the process entered. */
static void link_tell_all(struct sim_link *link)
{
    struct list *node;

    link->refs++;
    while ((node = list_take_first(&link->over))) {
        struct over *over = container_of(node, struct over, node);

        over->caller->done(over->caller, &over->result);
        over_free(over);
        link_unref(link); /* the call's */
    }
    link_unref(link);
}

static void link_tell(struct sim_event *event)
{
    struct sim_link *link = container_of(event, struct sim_link, tell);
    struct process *process = link->process;
    struct sim_worker *worker = sim_worker_of(link->worker);

    process_enter(process);
    link_tell_all(link);
    process_leave();
    worker_wake(worker);
}

static void link_call_over(struct sim_link *link, struct link_call *caller, const struct link_result *result)
{
    struct over *over = sim_alloc(sizeof(*over));

    over->caller = caller;
    over->result = *result;
    over->message = copy_of(result->message);
    over->response = copy_of(result->response);
    over->rejected = copy_of(result->rejected);
    over->result.message = buffer_slice(over->message);
    over->result.response = buffer_slice(over->response);
    over->result.rejected = buffer_slice(over->rejected);
    list_add_tail(&link->over, &over->node);
    event_sooner(&link->tell, world.now_ns + rng_between(&world.net, 1, 40) * NS_PER_US);
}

struct linked_call { /* net_call.context */
    struct sim_link *link;
    struct link_call *caller;
};

static void on_ended(struct net_call *call, const struct link_result *result)
{
    struct linked_call *linked = call->context;

    linked->caller->transport = NULL;
    link_call_over(linked->link, linked->caller, result);
    sim_free(linked);
}

/* -- the connection -------------------------------------------------------------------------------------------------------------- */

static void link_set_state(struct sim_link *link, enum link_state state)
{
    struct process *process = link->process;

    if (link->freed)
        return;
    if (state == LINK_CONNECTING && link->link.state == LINK_DOWN)
        state = LINK_DOWN; /* until it is up */
    if (state == LINK_DOWN && link->wait_for_ready)
        state = LINK_CONNECTING;
    if (state == link->link.state)
        return;
    story(process->node->name, "link to %s is %s", link->address, state == LINK_UP ? "up" : state == LINK_DOWN ? "down" : "connecting");
    process_enter(process);
    link->worker->now_ns = local_of(process->node, world.now_ns);
    link->link.state = state;
    if (link->link.on_state)
        link->link.on_state(&link->link, link->link.context, state);
    process_leave();
    worker_wake(sim_worker_of(link->worker));
}

static void calls_fail(struct sim_link *link, bool waiting, const char *message)
{
    LIST_FOR_EACH_SAFE(node, following, &link->calls) {
        struct net_call *call = container_of(node, struct net_call, node);

        if ((call->phase == CALL_WAITING) == waiting)
            net_call_end(call, RPC_UNAVAILABLE, message);
    }
}

static bool peer_answers(const struct node *peer)
{
    if (peer->kind == NODE_BACKEND)
        return backend_open(peer);
    return peer->process && listeners_open(peer->process);
}

static void link_dial_again(struct sim_link *link)
{
    uint64_t wait_ns = u64_min((uint64_t)50 * NS_PER_MS << (link->failures < 5 ? link->failures : 5), BACKOFF_MOST_NS);

    link->failures++;
    event_soon(&link->dial, wait_ns / 2 + rng_below(&world.net, wait_ns));
}

static void link_dials(struct sim_event *event)
{
    struct sim_link *link = container_of(event, struct sim_link, dial);
    struct node *peer = net_find(link->address);
    bool cut = peer && (net_is_cut(link->process->node, peer) || net_is_cut(peer, link->process->node));

    if (link->freed)
        return;
    if (!peer || cut || !peer_answers(peer)) {
        link_dial_again(link);
        if (!link->wait_for_ready)
            calls_fail(link, true, "failed to connect");
        link_set_state(link, LINK_DOWN); /* the link may be gone now */
        return;
    }
    link->failures = 0;
    link->peer = peer;
    link->peer_life = peer->process ? peer->process->owner : 0;
    LIST_FOR_EACH_SAFE(node, following, &link->calls) {
        struct net_call *call = container_of(node, struct net_call, node);

        if (call->phase == CALL_WAITING)
            net_call_send(call, link->peer, link->peer_life);
    }
    link_set_state(link, LINK_UP); /* the link may be gone now */
}

static void link_breaks(struct sim_link *link, const char *why)
{
    if (!link->peer)
        return;
    link->peer = NULL;
    event_cancel(&link->lost);
    calls_fail(link, false, why);
    event_soon(&link->dial, rng_between(&world.net, 200, 1500) * NS_PER_US);
    link_set_state(link, LINK_CONNECTING);
}

/* What link->lost waited for has come. */
static void link_lost(struct sim_event *event)
{
    struct sim_link *link = container_of(event, struct sim_link, lost);
    struct node *me = link->process->node;

    if (!link->peer)
        return;
    if (net_is_cut(me, link->peer) || net_is_cut(link->peer, me) || !peer_answers(link->peer) ||
        (link->peer->process && link->peer->process->owner != link->peer_life))
        link_breaks(link, "connection lost");
}

/* -- link.h ------------------------------------------------------------------------------------------------------------------------- */

static void sim_send(struct link *base, const struct link_message *message, struct link_call *caller)
{
    struct sim_link *link = container_of(base, struct sim_link, link);
    struct node *me = link->process->node;
    struct linked_call *linked = sim_alloc(sizeof(*linked));
    struct net_call *call;
    uint32_t owner;

    *linked = (struct linked_call){link, caller};
    call = net_call_new(me, message->method, message->pieces, message->piece_count, sim_of(me, message->deadline_ns), on_ended, linked);
    caller->transport = call;
    call->ring = message->ring;
    ASSERT(message->encoding == COMPRESS_NONE);
    owner = memory_owner(0); /* it outlives the process */
    call->metadata = metadata_wanted(message->metadata, &link->forward);
    (void)memory_owner(owner);
    list_add_tail(&link->calls, &call->node);
    link->refs++;
    if (link->peer)
        net_call_send(call, link->peer, link->peer_life);
    else if (link->link.state == LINK_DOWN)
        net_call_end(call, RPC_UNAVAILABLE, "not connected");
}

static void sim_cancel(struct link *base, struct link_call *caller)
{
    struct net_call *call = caller->transport;

    (void)base;
    if (call)
        net_call_end(call, RPC_CANCELLED, "cancelled");
}

static void sim_link_free(struct link *base)
{
    struct sim_link *link = container_of(base, struct sim_link, link);

    link->freed = true;
    link->peer = NULL;
    event_cancel(&link->dial);
    event_cancel(&link->lost);
    LIST_FOR_EACH_SAFE(node, following, &link->calls)
        net_call_end(container_of(node, struct net_call, node), RPC_CANCELLED, "the link was closed");
    link_unref(link);
}

static const struct link_ops sim_ops = {sim_send, sim_cancel, sim_link_free};

int link_grpc_new(struct worker *worker, const struct link_options *options, void (*on_state)(struct link *, void *, enum link_state),
    void *context, struct link **out_link)
{
    struct sim_link *link = sim_alloc(sizeof(*link));

    link->link = (struct link){.ops = &sim_ops, .state = LINK_CONNECTING, .on_state = on_state, .context = context};
    link->process = process_now;
    link->worker = worker;
    link->forward = options->forward;
    link->wait_for_ready = options->wait_for_ready;
    link->refs = 1;
    (void)snprintf(link->address, sizeof(link->address), "%s", options->address);
    list_init(&link->calls);
    list_init(&link->over);
    list_add_tail(&net.links, &link->node);
    list_add_tail(&process_now->links, &link->mine);
    event_init(&link->dial, "dial", link_dials);
    event_init(&link->lost, "lost", link_lost);
    event_init(&link->tell, "told", link_tell);
    event_soon(&link->dial, rng_between(&world.net, 200, 3000) * NS_PER_US);
    *out_link = &link->link;
    return 0;
}

int link_http_new(struct worker *worker, struct http_loop *loop, const struct link_options *options,
    void (*on_state)(struct link *, void *, enum link_state), void *context, struct link **out_link)
{
    (void)loop;
    return link_grpc_new(worker, options, on_state, context, out_link);
}

int link_debug_new(struct worker *worker, const char *name, enum debug_verbosity verbosity, struct link **out_link)
{
    (void)worker;
    (void)name;
    (void)verbosity;
    (void)out_link;
    UNREACHABLE("no scenario has a debug exporter");
}

int link_nop_new(struct worker *worker, struct link **out_link)
{
    (void)worker;
    (void)out_link;
    UNREACHABLE("no scenario has a nop exporter");
}

/* -- what happens to them -------------------------------------------------------------------------------------------------------------- */

void links_drain(struct worker *worker)
{
    bool again = true;

    while (again) {
        again = false;
        LIST_FOR_EACH_SAFE(node, following, &net.links) {
            struct sim_link *link = container_of(node, struct sim_link, node);

            if (link->worker != worker || link->process != process_now || list_empty(&link->over))
                continue;
            again = true;
            link_tell_all(link);
            break; /* the list may be another one now */
        }
    }
}

void links_forget(struct process *process)
{
    LIST_FOR_EACH_SAFE(mine, following, &process->links) {
        struct sim_link *link = container_of(mine, struct sim_link, mine);
        struct list *node;

        link->freed = true;
        LIST_FOR_EACH_SAFE(at, next, &link->calls) {
            struct net_call *call = container_of(at, struct net_call, node);

            sim_free(call->context);
            net_call_orphan(call);
        }
        while ((node = list_take_first(&link->over)))
            over_free(container_of(node, struct over, node));
        link->refs = 1;
        link_unref(link);
    }
}

static bool joins(const struct sim_link *link, const struct node *a, const struct node *b)
{
    const struct node *me = link->process->node;

    return link->peer && ((me == a && link->peer == b) || (me == b && link->peer == a));
}

/* Keepalive's time: how long one end hears nothing before it gives up. */
static uint64_t keepalive_ns(void)
{
    return rng_between(&world.net, 800, 2500) * NS_PER_MS;
}

void links_peer_gone(const struct node *node, uint32_t life, bool slow)
{
    LIST_FOR_EACH(at, &net.links) {
        struct sim_link *link = container_of(at, struct sim_link, node);

        if (link->peer == node && link->peer_life == life && !link->freed)
            event_sooner(&link->lost, world.now_ns + (slow ? keepalive_ns() : rng_between(&world.net, 100, 900) * NS_PER_US));
    }
}

void links_cut(const struct node *a, const struct node *b)
{
    LIST_FOR_EACH(at, &net.links) {
        struct sim_link *link = container_of(at, struct sim_link, node);

        if (joins(link, a, b) && !link->freed)
            event_sooner(&link->lost, world.now_ns + keepalive_ns());
    }
}

void links_reset(const struct node *a, const struct node *b)
{
    LIST_FOR_EACH_SAFE(at, following, &net.links) {
        struct sim_link *link = container_of(at, struct sim_link, node);

        if (joins(link, a, b) && !link->freed)
            link_breaks(link, "connection reset");
    }
}
