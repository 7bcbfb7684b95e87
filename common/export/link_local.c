#include "common/export/link_local.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/export/rpc_code.h"
#include "common/run/worker.h"

struct local_link {
    struct link link;
    struct worker *worker;
    struct local_sink sink;
    unsigned refs; /* the owner's and one a call */
};

struct local_call {
    struct mail mail;
    struct local_link *link;
    struct link_call *caller;
    bool cancelled;
};

static void local_unref(struct local_link *link)
{
    if (--link->refs > 0)
        return;
    if (link->sink.drop)
        link->sink.drop(link->sink.context);
    free(link);
}

static void local_on_mail(struct mail *mail, void *receiver)
{
    struct local_call *call = container_of(mail, struct local_call, mail);
    const struct link_result result = {.code = call->cancelled ? RPC_CANCELLED : RPC_OK};

    (void)receiver;
    call->caller->done(call->caller, &result);
    local_unref(call->link);
    free(call);
}

static void local_send(struct link *base, const struct link_message *message, struct link_call *caller)
{
    struct local_link *link = container_of(base, struct local_link, link);
    struct local_call *call = malloc(sizeof(*call));

    ASSERT(call != NULL);
    if (link->sink.take)
        link->sink.take(link->sink.context, message);
    *call = (struct local_call){.mail = {.deliver = local_on_mail}, .link = link, .caller = caller};
    caller->transport = call;
    link->refs++;
    worker_post(link->worker, &call->mail);
}

static void local_cancel(struct link *base, struct link_call *caller)
{
    (void)base;
    ((struct local_call *)caller->transport)->cancelled = true;
}

static void local_free(struct link *base)
{
    local_unref(container_of(base, struct local_link, link));
}

static const struct link_ops local_ops = {local_send, local_cancel, local_free};

int link_local_new(struct worker *worker, const struct local_sink *sink, struct link **out_link)
{
    struct local_link *link = calloc(1, sizeof(*link));

    if (!link)
        return error_raise(-ENOMEM);
    link->link = (struct link){.ops = &local_ops, .state = LINK_UP};
    link->worker = worker;
    link->sink = *sink;
    link->refs = 1;
    *out_link = &link->link;
    return 0;
}

int link_nop_new(struct worker *worker, struct link **out_link)
{
    const struct local_sink nothing = {NULL, NULL, NULL};

    return link_local_new(worker, &nothing, out_link);
}
