/* In the place of common/ingest's listeners.c and the receivers below it: requests and calls of the peer protocol come from the
 * simulated network, each to a worker by lot, and go back there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/export/rpc_code.h"
#include "common/ingest/listeners.h"
#include "common/otlp/wire.h"
#include "tests/sim/memory.h"
#include "tests/sim/net.h"
#include "tests/sim/process.h"

struct listeners {
    struct process *process;
    struct tier_entry entry;
    struct worker *workers[PROCESS_WORKERS_MAX];
    unsigned worker_count;
    struct forward forward;
    bool open, shutting, draining;
    void (*on_done)(void *context);
    void *done_context;
    struct sim_event done;
};

struct served {
    struct list node;
    struct request request;
    struct process *process;
    struct worker *worker;
    struct net_call *call; /* NULL: the caller was told that it is cancelled */
    struct metadata_set *metadata; /* the process's copy */
};

/* -- answers ------------------------------------------------------------------------------------------------------------------ */

static void listeners_look(struct listeners *listeners)
{
    if (listeners->shutting && list_empty(&listeners->process->served))
        event_sooner(&listeners->done, world.now_ns + 20 * NS_PER_US);
}

static void served_over(struct served *served)
{
    struct process *process = served->process;

    list_del(&served->node);
    if (served->request.transport)
        metric_add(served->worker->metrics, METRIC_REQUESTS_IN_FLIGHT, UINT64_MAX);
    metadata_set_unref(served->metadata);
    sim_free(served);
    if (process->listeners)
        listeners_look(process->listeners);
}

/* As the receiver answers: whoever drains says so each time. */
static void call_answered(struct served *served)
{
    const struct listeners *listeners = served->process->listeners;

    served->call->draining = listeners && listeners->draining;
    net_call_answer(served->call);
}

static struct buffer *varints(const uint32_t *numbers, size_t count)
{
    uint32_t owner = memory_owner(0);
    struct buffer *bytes = buffer_new(count * 5);
    uint8_t *end = bytes->bytes;

    (void)memory_owner(owner);
    for (size_t i = 0; i < count; i++)
        end = wire_put_varint(end, numbers[i]);
    bytes->len = (size_t)(end - bytes->bytes);
    return bytes;
}

static void sim_settle(struct request *request, const uint32_t *rejected, size_t rejected_count, const char *message, bool send_trailer)
{
    struct served *served = container_of(request, struct served, request);

    (void)message;
    if (served->call) {
        if (send_trailer && rejected)
            served->call->rejected = varints(rejected, rejected_count);
        call_answered(served);
    }
    served_over(served);
}

static void sim_refuse(struct request *request, struct answer_status status)
{
    struct served *served = container_of(request, struct served, request);
    struct net_call *call = served->call;

    if (call) {
        call->code = status.code;
        call->has_retry = status.retry_ns > 0;
        call->retry_ns = status.retry_ns;
        (void)snprintf(call->message, sizeof(call->message), "%s", status.message);
        call_answered(served);
    }
    served_over(served);
}

static const struct transport sim_transport = {sim_settle, sim_refuse, METRIC_ACCEPTED_SPANS, METRIC_REFUSED_SPANS};

void peer_call_answer(void *opaque, int status, struct buffer *answer)
{
    struct served *served = opaque;
    struct net_call *call = served->call;

    if (call) {
        call->code = status;
        if (status == 0 && answer) {
            uint32_t owner = memory_owner(0);

            call->response = buffer_new(answer->len);
            (void)memory_owner(owner);
            memcpy(call->response->bytes, answer->bytes, answer->len);
            call->response->len = answer->len;
        }
        call_answered(served);
    }
    buffer_unref(answer);
    served_over(served);
}

/* -- arrivals ------------------------------------------------------------------------------------------------------------------- */

static void serve_export(struct listeners *listeners, struct served *served)
{
    struct net_call *call = served->call;
    const struct node *node = served->process->node;
    size_t len = call->bytes->len;
    uint8_t *bytes = malloc(size_max(len, 1)); /* goes when on_request returns: whoever borrows longer is found out */

    memcpy(bytes, call->bytes->bytes, len);
    served->worker->now_ns = local_of(node, world.now_ns);
    served->metadata = metadata_wanted(call->metadata, &listeners->forward);
    served->request = (struct request){
        .transport = &sim_transport,
        .worker = served->worker,
        .metadata = served->metadata,
        .bytes = slice_make(bytes, len),
        .received_ns = served->worker->now_ns,
        .deadline_ns = local_of(node, call->deadline_ns),
        .peer_ring = call->ring,
    };
    metric_add(served->worker->metrics, METRIC_REQUESTS, 1);
    metric_add(served->worker->metrics, METRIC_REQUESTS_IN_FLIGHT, 1);
    listeners->entry.on_request(listeners->entry.tier, &served->request); /* served may be gone now */
    memset(bytes, 0xdd, len);
    free(bytes);
}

static const struct peer_method *method_find(const struct listeners *listeners, const char *path)
{
    for (const struct peer_method *method = listeners->entry.methods; method && method->path; method++)
        if (strcmp(method->path, path) == 0)
            return method;
    return NULL;
}

static void serve_peer(struct listeners *listeners, struct served *served, const struct peer_method *method)
{
    size_t len = served->call->bytes->len;
    uint8_t *bytes = malloc(size_max(len, 1));
    struct buffer *answer = NULL;
    int code;

    memcpy(bytes, served->call->bytes->bytes, len);
    code = method->serve(listeners->entry.tier, served->worker, slice_make(bytes, len), served, &answer);
    memset(bytes, 0xdd, len);
    free(bytes);
    if (code != -1)
        peer_call_answer(served, code, answer);
}

bool listeners_serve(struct process *process, struct net_call *call)
{
    struct listeners *listeners = process->listeners;
    const struct peer_method *method;
    struct served *served;

    if (!listeners || !listeners->open)
        return false;
    method = method_find(listeners, call->method);
    served = sim_alloc(sizeof(*served));
    served->process = process;
    served->worker = listeners->workers[rng_below(&world.net, listeners->worker_count)];
    served->call = call;
    call->served = served;
    list_add_tail(&process->served, &served->node);
    process_enter(process);
    if (strcmp(call->method, LINK_EXPORT) == 0)
        serve_export(listeners, served);
    else if (method)
        serve_peer(listeners, served, method);
    else
        peer_call_answer(served, RPC_UNIMPLEMENTED, NULL);
    process_leave();
    worker_wake(sim_worker_of(listeners->workers[0]));
    for (unsigned i = 1; i < listeners->worker_count; i++)
        worker_wake(sim_worker_of(listeners->workers[i]));
    return true;
}

bool listeners_open(const struct process *process)
{
    return process->listeners && process->listeners->open;
}

/* -- listeners.h ------------------------------------------------------------------------------------------------------------------ */

static void shutdown_done(struct sim_event *event)
{
    struct listeners *listeners = container_of(event, struct listeners, done);

    if (!list_empty(&listeners->process->served))
        return;
    listeners->shutting = false;
    process_enter(listeners->process);
    listeners->on_done(listeners->done_context);
    process_leave();
}

int listeners_new(const struct listeners_options *options, const struct tier_entry *entry, struct listeners **out_listeners,
    char *out_error, size_t error_size)
{
    struct listeners *listeners = sim_alloc(sizeof(*listeners));

    (void)out_error;
    (void)error_size;
    listeners->process = process_now;
    listeners->entry = *entry;
    listeners->worker_count = options->worker_count;
    if (options->forward_headers && options->configs[0].grpc_include_metadata)
        listeners->forward =
            (struct forward){(const char *const *)options->forward_headers->items, options->forward_headers->count};
    for (unsigned i = 0; i < options->worker_count; i++)
        listeners->workers[i] = options->workers[i];
    event_init(&listeners->done, "closed", shutdown_done);
    process_now->listeners = listeners;
    *out_listeners = listeners;
    return 0;
}

void listeners_start(struct listeners *listeners)
{
    listeners->open = true;
}

void listeners_health(struct listeners *listeners, bool serving)
{
    (void)listeners;
    (void)serving;
}

void listeners_draining(struct listeners *listeners)
{
    listeners->draining = true;
}

const char *listeners_ports(const struct listeners *listeners, char *text, size_t size)
{
    (void)snprintf(text, size, "address=%s", listeners->process->node->address);
    return text;
}

int listeners_grpc_port(const struct listeners *listeners)
{
    (void)listeners;
    return 4317; /* of whatever address the node has */
}

void listeners_shutdown(struct listeners *listeners, void (*on_done)(void *context), void *context)
{
    listeners->open = false;
    listeners->shutting = true;
    listeners->on_done = on_done;
    listeners->done_context = context;
    links_peer_gone(listeners->process->node, listeners->process->owner, false); /* GOAWAY */
    listeners_look(listeners);
}

void listeners_cancel_all(struct listeners *listeners)
{
    LIST_FOR_EACH_SAFE(node, following, &listeners->process->served) {
        struct served *served = container_of(node, struct served, node);

        if (!served->call)
            continue;
        served->call->code = RPC_CANCELLED;
        net_call_answer(served->call);
        served->call = NULL;
    }
}

void listeners_stop(struct listeners *listeners)
{
    if (listeners)
        listeners->open = false;
}

void listeners_free(struct listeners *listeners)
{
    if (!listeners)
        return;
    event_cancel(&listeners->done);
    listeners->process->listeners = NULL;
    sim_free(listeners);
}

void listeners_forget(struct process *process)
{
    struct list *node;

    while ((node = list_take_first(&process->served))) {
        struct served *served = container_of(node, struct served, node);

        if (served->call)
            net_call_lost(served->call);
        sim_free(served);
    }
    listeners_free(process->listeners);
}
