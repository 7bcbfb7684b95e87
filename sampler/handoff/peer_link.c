/* Whatever is made on another thread hops to the owner worker and back; there, calls under way stand in a list, so that a link
 * that closes can cancel them. It is closed when that list is empty: only then does its worker forget it. */
#include "sampler/handoff/peer_link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/export/rpc_code.h"
#include "common/run/control.h"

struct peer_link {
    atomic_uint refs;
    atomic_bool up;
    unsigned index;
    char address[264];
    struct worker *worker;
    struct control *control;
    const struct link_options *options;
    struct peer_link_events events;
    struct mail open_mail, close_mail, closed_mail;
    /* the owner worker's own */
    struct link *link; /* NULL: not open yet, or no more */
    struct list calls; /* under way */
    bool closing, stopped;
};

struct peer_link *peer_link_ref(struct peer_link *link)
{
    (void)atomic_fetch_add_explicit(&link->refs, 1, memory_order_relaxed);
    return link;
}

void peer_link_unref(struct peer_link *link)
{
    if (!link || atomic_fetch_sub_explicit(&link->refs, 1, memory_order_acq_rel) > 1)
        return;
    ASSERT(!link->link);
    free(link);
}

/* -- calls ---------------------------------------------------------------------------------------------- */

static void call_come_home(struct mail *mail, void *receiver)
{
    struct peer_call *call = container_of(mail, struct peer_call, mail);
    struct peer_link *link = call->link;

    (void)receiver;
    call->link = NULL;
    call->done(call); /* it may be gone now */
    peer_link_unref(link);
}

/* By mail even on its own worker when the call never reached the wire: done never runs inside peer_link_call. */
static void call_send_home(struct peer_call *call)
{
    buffer_unref(call->message);
    call->message = NULL;
    call->mail.deliver = call_come_home;
    if (call->home)
        worker_post(call->home, &call->mail);
    else
        control_post(call->link->control, &call->mail);
}

static void call_fail(struct peer_call *call, int code, const char *text)
{
    call->code = code;
    call->has_retry = false;
    (void)snprintf(call->text, sizeof(call->text), "%s", text);
    call_send_home(call);
}

static void keep_response(struct peer_call *call, struct slice response)
{
    if (response.len > PEER_RESPONSE_MAX) {
        call->code = RPC_RESOURCE_EXHAUSTED;
        (void)snprintf(call->text, sizeof(call->text), "an answer of %zu bytes is too large", response.len);
        return;
    }
    call->response = buffer_new(response.len);
    ASSERT(call->response != NULL);
    if (response.len > 0)
        memcpy(call->response->bytes, response.at, response.len);
    call->response->len = response.len;
}

static void link_closed(struct peer_link *link);

static void wire_on_done(struct link_call *wire, const struct link_result *result)
{
    struct peer_call *call = container_of(wire, struct peer_call, wire);
    struct peer_link *link = call->link;

    list_del(&call->node);
    call->code = result->code;
    call->has_retry = result->has_retry;
    call->retry_ns = result->retry_ns;
    if (result->code == RPC_OK)
        keep_response(call, result->response);
    else
        (void)snprintf(call->text, sizeof(call->text), "%.*s", (int)size_min(result->message.len, sizeof(call->text) - 1),
            result->message.len ? (const char *)result->message.at : "");
    call_send_home(call);
    if (link->closing && list_empty(&link->calls))
        link_closed(link);
}

static void worker_on_call(struct mail *mail, void *receiver)
{
    struct peer_call *call = container_of(mail, struct peer_call, mail);
    struct peer_link *link = call->link;
    const struct link_message message = {
        .method = call->method, .pieces = &call->message, .piece_count = 1, .deadline_ns = call->deadline_ns};

    (void)receiver;
    if (!link->link || link->closing) {
        call_fail(call, RPC_UNAVAILABLE, "the connection to this address has ended");
        return;
    }
    call->wire.done = wire_on_done;
    list_add_tail(&link->calls, &call->node);
    link_send(link->link, &message, &call->wire);
}

void peer_link_call(struct peer_link *link, struct peer_call *call)
{
    ASSERT(call->message && call->done);
    call->link = peer_link_ref(link);
    call->message = buffer_ref(call->message);
    call->response = NULL;
    call->code = RPC_UNKNOWN;
    if (call->home == link->worker) {
        worker_on_call(&call->mail, link->worker);
        return;
    }
    call->mail.deliver = worker_on_call;
    worker_post(link->worker, &call->mail);
}

void peer_call_release(struct peer_call *call)
{
    buffer_unref(call->response);
    call->response = NULL;
}

/* -- the connection ---------------------------------------------------------------------------------------- */

struct state_mail {
    struct mail mail;
    struct peer_link *link; /* a reference */
    bool up;
};

static void control_on_state(struct mail *mail, void *receiver)
{
    struct state_mail *news = container_of(mail, struct state_mail, mail);
    struct peer_link *link = news->link;

    (void)receiver;
    link->events.state(link->events.context, link, news->up);
    peer_link_unref(link);
    free(news);
}

static void link_on_state(struct link *base, void *context, enum link_state state)
{
    struct peer_link *link = context;
    struct state_mail *news;

    (void)base;
    atomic_store_explicit(&link->up, state == LINK_UP, memory_order_relaxed);
    if (link->closing || link->stopped)
        return;
    news = calloc(1, sizeof(*news));
    ASSERT(news != NULL);
    news->mail.deliver = control_on_state;
    news->link = peer_link_ref(link);
    news->up = state == LINK_UP;
    control_post(link->control, &news->mail);
}

static void worker_on_open(struct mail *mail, void *receiver)
{
    struct peer_link *link = container_of(mail, struct peer_link, open_mail);
    struct link_options options = {.tls = NULL};

    (void)receiver;
    if (!link->closing && !link->stopped) {
        if (link->options)
            options = *link->options;
        options.address = link->address;
        options.internal = true;
        ASSERT(link_grpc_new(link->worker, &options, link_on_state, link, &link->link) == 0);
    }
    peer_link_unref(link); /* the mail's */
}

static void control_on_closed(struct mail *mail, void *receiver)
{
    struct peer_link *link = container_of(mail, struct peer_link, closed_mail);

    (void)receiver;
    link->events.closed(link->events.context, link);
    peer_link_unref(link); /* the mail's */
}

static void link_closed(struct peer_link *link)
{
    link_free(link->link);
    link->link = NULL;
    atomic_store_explicit(&link->up, false, memory_order_relaxed);
    if (link->stopped)
        return;
    link->closed_mail.deliver = control_on_closed;
    control_post(link->control, &link->closed_mail); /* takes over the reference of the mail that closed it */
}

static void calls_cancel(struct peer_link *link)
{
    LIST_FOR_EACH_SAFE(node, following, &link->calls)
        link_cancel(link->link, &container_of(node, struct peer_call, node)->wire);
}

static void worker_on_close(struct mail *mail, void *receiver)
{
    struct peer_link *link = container_of(mail, struct peer_link, close_mail);

    (void)receiver;
    if (link->stopped) {
        peer_link_unref(link);
        return;
    }
    link->closing = true;
    if (list_empty(&link->calls))
        link_closed(link);
    else
        calls_cancel(link);
}

void peer_link_close(struct peer_link *link)
{
    link->close_mail.deliver = worker_on_close;
    (void)peer_link_ref(link);
    worker_post(link->worker, &link->close_mail);
}

void peer_link_stop(struct peer_link *link)
{
    if (link->stopped)
        return;
    link->stopped = true;
    if (!link->link)
        return;
    if (link->closing) { /* waits for its last call, which was cancelled, and would say `closed` to nobody */
        peer_link_unref(link);
        return;
    }
    calls_cancel(link);
    link->closing = true;
    if (list_empty(&link->calls))
        link_closed(link);
}

struct peer_link *peer_link_new(const char *address, unsigned index, struct worker *worker, struct control *control,
    const struct link_options *options, const struct peer_link_events *events)
{
    struct peer_link *link = calloc(1, sizeof(*link));

    if (!link)
        return NULL;
    atomic_init(&link->refs, 2); /* the caller's, and the mail's */
    atomic_init(&link->up, false);
    link->index = index;
    (void)snprintf(link->address, sizeof(link->address), "%s", address);
    link->worker = worker;
    link->control = control;
    link->options = options;
    link->events = *events;
    list_init(&link->calls);
    link->open_mail.deliver = worker_on_open;
    worker_post(worker, &link->open_mail);
    return link;
}

bool peer_link_is_up(const struct peer_link *link)
{
    return atomic_load_explicit(&link->up, memory_order_relaxed);
}

const char *peer_link_address(const struct peer_link *link)
{
    return link->address;
}

unsigned peer_link_index(const struct peer_link *link)
{
    return link->index;
}
