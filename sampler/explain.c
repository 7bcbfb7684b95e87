/* /traces/{id}: where a trace is and what became of it. The owner by this node's ring is asked, once and no further; what it
 * cannot say, this node says of itself.
 *
 *   HTTP, or a balancer --> control: who owns it? --another--> Explain there --> answer
 *                                      '--I, or it does not answer--> the worker that has it --> answer
 */
#include "sampler/explain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/export/rpc_code.h"
#include "common/run/clock.h"
#include "proto/peer.h"
#include "sampler/handoff/cluster.h"
#include "sampler/handoff/peer_link.h"
#include "sampler/sampler_worker.h"
#include "sampler/verdict.h"

#define ASK_TIMEOUT_NS (2 * NS_PER_S)

struct explain {
    struct mail mail;
    struct sampler *sampler;
    struct trace_id id;
    struct admin_call *admin_call; /* asked over HTTP … */
    void *peer_call;               /* … or by a peer: then answered on its own worker */
    struct worker *peer_worker;
    struct peer_call ask;          /* the owner */
    char owner[264];               /* "": this node, as far as it knows */
    char *json;
    bool found;
};

static const char *yes_no(bool value)
{
    return value ? "true" : "false";
}

/* -- what this node knows ------------------------------------------------------------------------------------------- */

static void explain_held(struct sampler_worker *home, struct trace *trace, struct text *out)
{
    const struct trace_info info = trace_info(trace);
    const struct facts *facts = trace_facts(trace);
    uint64_t now_ns = home->worker.now_ns;

    text_append(out, ", \"state\": \"%s\", \"spans\": %u, \"bytes\": %llu, \"age_ns\": %llu, \"decided_in_ns\": %llu, \"root_seen\": %s",
        info.state == TRACE_SAMPLED_WAITING ? "sampled, waits to be exported" : "pending",
        info.span_count, (unsigned long long)info.bytes, (unsigned long long)u64_sub_floor(now_ns, info.first_ns),
        (unsigned long long)u64_sub_floor(info.deadline_ns, now_ns), yes_no(facts->root_seen));
}

static void explain_record(struct sampler_worker *home, const struct decision_record *record, struct text *out)
{
    const char *policy = record_policy_name(home, record);
    struct text because = {0};
    uint8_t span_id[8];

    text_append(out, ", \"state\": \"%s\", \"policy\": ", decision_name(record->decision));
    text_append_json(out, slice_text(policy ? policy : ""));
    memcpy(span_id, &record->evidence_span_id, sizeof(span_id));
    if (record->too_large)
        text_append(out, ", \"evidence\": \"the trace was larger than maximum_trace_size_bytes\"");
    else if (record->evidence_span_id != 0)
        text_append(out, ", \"evidence\": \"span %02x%02x%02x%02x%02x%02x%02x%02x\"", span_id[0], span_id[1], span_id[2], span_id[3],
            span_id[4], span_id[5], span_id[6], span_id[7]);
    else if (record->evidence_bit != UINT16_MAX)
        text_append(out, ", \"evidence\": \"its resource, or a span among many\"");
    else if (record->policy != UINT16_MAX)
        text_append(out, ", \"evidence\": \"the trace as a whole\"");
    else
        text_append(out, ", \"evidence\": \"no policy wanted it\"");
    /* A set that is gone may have numbered its questions otherwise. */
    if (record->generation == (uint32_t)policy_set_generation(home->set) && !decision_policy_is_foreign(record->policy))
        policy_set_explain(home->set, record->policy, record->evidence_bit, NULL, &because);
    if (because.len > 0) {
        text_append(out, ", \"because\": ");
        text_append_json(out, slice_make(because.at, because.len));
    }
    text_deinit(&because);
    text_append(out, ", \"spans\": %u, \"decided_ago_ns\": %llu", record->span_count,
        (unsigned long long)u64_sub_floor(home->worker.now_ns, record->decided_ns));
}

static char *explain_json(struct sampler_worker *home, const struct trace_id *id, const char *owner, bool *out_found)
{
    struct text out = {0};
    uint64_t hash = hash_trace(id);
    struct trace *trace = trace_table_find(home->traces, id, hash);
    struct decision_record record;

    *out_found = true;
    text_append(&out, "{\"trace_id\": \"");
    for (size_t i = 0; i < sizeof(id->bytes); i++)
        text_append(&out, "%02x", id->bytes[i]);
    text_append(&out, "\", \"owner\": ");
    text_append_json(&out, slice_text(owner[0] ? owner : home->sampler->name));
    text_append(&out, ", \"answered_by\": ");
    text_append_json(&out, slice_text(home->sampler->name));
    if (trace) {
        explain_held(home, trace, &out);
    } else if (decision_cache_find(home->cache, id, hash, false, home->worker.now_ns, &record)) {
        explain_record(home, &record, &out);
    } else {
        *out_found = false;
        text_append(&out, ", \"state\": \"unknown\", \"evidence\": \"never seen here, or its record is gone\"");
    }
    text_append(&out, "}\n");
    return out.failed ? NULL : out.at;
}

/* -- answers --------------------------------------------------------------------------------------------------------- */

static void explain_free(struct explain *explain)
{
    free(explain->json);
    free(explain);
}

static void control_on_explained(struct mail *mail, void *receiver)
{
    struct explain *explain = container_of(mail, struct explain, mail);

    (void)receiver;
    admin_answer(explain->admin_call, explain->json ? explain->found ? 200 : 404 : 500, explain->json ? explain->json : "{}\n");
    explain_free(explain);
}

static void peer_on_explained(struct mail *mail, void *receiver)
{
    struct explain *explain = container_of(mail, struct explain, mail);
    Tailrace__V1__ExplainResponse response;
    struct buffer *answer = NULL;

    (void)receiver;
    tailrace__v1__explain_response__init(&response);
    response.json = explain->json;
    response.unknown = !explain->found;
    if (explain->json)
        answer = buffer_new(tailrace__v1__explain_response__get_packed_size(&response));
    if (answer)
        answer->len = tailrace__v1__explain_response__pack(&response, answer->bytes);
    peer_call_answer(explain->peer_call, answer ? RPC_OK : RPC_INTERNAL, answer);
    explain_free(explain);
}

static void explain_answer(struct explain *explain)
{
    if (explain->admin_call) {
        explain->mail.deliver = control_on_explained;
        control_post(&explain->sampler->control, &explain->mail);
    } else {
        explain->mail.deliver = peer_on_explained;
        worker_post(explain->peer_worker, &explain->mail);
    }
}

/* -- asking ------------------------------------------------------------------------------------------------------------ */

static void worker_on_explain(struct mail *mail, void *receiver)
{
    struct explain *explain = container_of(mail, struct explain, mail);
    struct sampler_worker *home = container_of((struct worker *)receiver, struct sampler_worker, worker);

    explain->json = explain_json(home, &explain->id, explain->owner, &explain->found);
    explain_answer(explain);
}

static void ask_here(struct explain *explain)
{
    struct sampler *sampler = explain->sampler;

    explain->mail.deliver = worker_on_explain;
    worker_post(&sampler->workers[sampler_owner(sampler, hash_trace(&explain->id))].worker, &explain->mail);
}

static void owner_on_answer(struct peer_call *call)
{
    struct explain *explain = container_of(call, struct explain, ask);
    Tailrace__V1__ExplainResponse *answer = NULL;

    if (call->code == RPC_OK)
        answer = tailrace__v1__explain_response__unpack(NULL, call->response->len, call->response->bytes);
    peer_call_release(call);
    if (!answer) {
        ask_here(explain);
        return;
    }
    explain->json = strdup(answer->json);
    explain->found = !answer->unknown;
    tailrace__v1__explain_response__free_unpacked(answer, NULL);
    explain_answer(explain);
}

static void ask_owner(struct explain *explain, struct peer_link *link)
{
    Tailrace__V1__ExplainRequest request;
    struct buffer *bytes;

    tailrace__v1__explain_request__init(&request);
    request.trace_id.data = explain->id.bytes;
    request.trace_id.len = sizeof(explain->id.bytes);
    request.here = 1;
    bytes = buffer_new(tailrace__v1__explain_request__get_packed_size(&request));
    ASSERT(bytes != NULL);
    bytes->len = tailrace__v1__explain_request__pack(&request, bytes->bytes);
    explain->ask = (struct peer_call){.method = "/tailrace.v1.Peer/Explain",
        .message = bytes,
        .deadline_ns = clock_now_ns() + ASK_TIMEOUT_NS,
        .done = owner_on_answer};
    peer_link_call(link, &explain->ask);
    buffer_unref(bytes);
}

/* On the control thread, which knows the ring. */
static void explain_begin(struct explain *explain)
{
    struct cluster *cluster = explain->sampler->cluster;
    const char *owner = NULL;
    struct peer_link *link = cluster ? cluster_owner(cluster, &explain->id, &owner) : NULL;

    if (owner)
        (void)snprintf(explain->owner, sizeof(explain->owner), "%s", owner);
    if (link)
        ask_owner(explain, link);
    else
        ask_here(explain);
    peer_link_unref(link);
}

static struct explain *explain_new(struct sampler *sampler, const struct trace_id *id)
{
    struct explain *explain = calloc(1, sizeof(*explain));

    ASSERT(explain != NULL);
    explain->sampler = sampler;
    explain->id = *id;
    return explain;
}

void explain_ask(void *sampler, const struct trace_id *id, struct admin_call *call)
{
    struct explain *explain = explain_new(sampler, id);

    explain->admin_call = call;
    explain_begin(explain);
}

static void control_on_explain(struct mail *mail, void *receiver)
{
    (void)receiver;
    explain_begin(container_of(mail, struct explain, mail));
}

int explain_serve(void *tier, struct worker *worker, struct slice request, void *call, struct buffer **out_answer)
{
    Tailrace__V1__ExplainRequest *asked = tailrace__v1__explain_request__unpack(NULL, request.len, request.at);
    struct sampler *sampler = tier;
    struct explain *explain = NULL;
    struct trace_id id;
    bool here = false;

    (void)out_answer;
    if (asked && asked->trace_id.len == sizeof(id.bytes)) {
        memcpy(id.bytes, asked->trace_id.data, sizeof(id.bytes));
        explain = explain_new(sampler, &id);
        here = asked->here || !sampler->cluster;
    }
    if (asked)
        tailrace__v1__explain_request__free_unpacked(asked, NULL);
    if (!explain)
        return RPC_INVALID_ARGUMENT;
    explain->peer_call = call;
    explain->peer_worker = worker;
    if (here) {
        ask_here(explain);
        return -1;
    }
    explain->mail.deliver = control_on_explain;
    control_post(&sampler->control, &explain->mail);
    return -1; /* answered when the owner has */
}
