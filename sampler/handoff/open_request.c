#include "sampler/handoff/open_request.h"

#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/export/rpc_code.h"
#include "sampler/handoff/inside.h"

struct open_request *open_begin(struct worker_handoff *handoff, enum open_kind kind, void *request_or_call, struct buffer *bytes,
    const struct metadata_set *metadata, uint64_t now_ns)
{
    struct open_request *open = calloc(1, sizeof(*open));

    ASSERT(open != NULL); /* its bytes were admitted: a worker without memory for this cannot go on */
    open->handoff = handoff;
    open->kind = kind;
    if (kind == OPEN_CLIENT)
        open->request = request_or_call;
    else
        open->call = request_or_call;
    open->bytes = bytes;
    open->metadata = metadata_set_ref(metadata);
    open->received_ns = now_ns;
    open->counted_bytes = bytes->len;
    open->outcome = TRANSFER_ACCEPTED;
    open->waits = 1;
    (void)atomic_fetch_add_explicit(&handoff->home->sampler->admission.bytes, open->counted_bytes, memory_order_relaxed);
    list_add_tail(&handoff->open, &open->node);
    handoff->open_count++;
    return open;
}

static void answer_client(struct open_request *open)
{
    if (open->refused) {
        request_refuse(open->request, open->refusal, open->status);
        return;
    }
    count(open->handoff->home, open->request->transport->accepted_spans, open->span_count);
    request_settle(open->request, open->rejected, open->rejected_count, "spans without a valid trace ID or span ID, or malformed inside", true);
}

/* A peer that gets no answer for want of memory asks again. */
static void answer_peer(struct open_request *open, struct buffer *answer)
{
    peer_call_answer(open->call, answer ? RPC_OK : RPC_RESOURCE_EXHAUSTED, answer);
}

static void answer(struct open_request *open)
{
    const struct view *view = open->handoff->view;
    const struct transfer_answer words = {.fingerprint = view ? view->fingerprint : 0,
        .retry_ms = open->retry_ms,
        .outcome = open->outcome,
        .outcomes = {open->outcomes, open->outcome_count}};

    switch (open->kind) {
    case OPEN_CLIENT:
        answer_client(open);
        break;
    case OPEN_FORWARD:
        answer_peer(open, transfer_forward_answer(&words));
        break;
    case OPEN_GIVE:
        answer_peer(open, transfer_give_answer(&words));
        break;
    }
}

void open_done(struct open_request *open)
{
    ASSERT(open->waits > 0);
    if (--open->waits > 0)
        return;
    answer(open);
    list_del(&open->node);
    open->handoff->open_count--;
    admission_give(&open->handoff->home->sampler->admission, open->counted_bytes);
    buffer_unref(open->bytes);
    metadata_set_unref(open->metadata);
    free(open->rejected);
    free(open->outcomes);
    free(open);
}

void open_refuse(struct open_request *open, enum refusal refusal, struct answer_status status)
{
    if (open->refused)
        return;
    open->refused = true;
    open->refusal = refusal;
    open->status = status;
}

void open_outcome(struct open_request *open, enum transfer_outcome outcome, uint64_t retry_ms)
{
    if (open->outcome != TRANSFER_ACCEPTED)
        return;
    open->outcome = outcome;
    open->retry_ms = retry_ms;
}

void open_not_accepted(struct open_request *open)
{
    for (size_t i = 0; i < open->outcome_count; i++)
        if (open->outcomes[i] == TRANSFER_ACCEPTED)
            open->outcomes[i] = TRANSFER_BUSY;
}
