/* What a tier does with a request, whatever brought it. */
#include "common/ingest/receiver.h"

#include <assert.h>
#include <string.h>

#include "common/base/num.h"
#include "common/export/rpc_code.h"

void request_settle(struct request *request, const uint32_t *rejected, size_t rejected_count, const char *message, bool send_trailer)
{
    request->transport->settle(request, rejected, rejected_count, message, send_trailer);
}

void request_settle_count(struct request *request, size_t rejected_count, const char *message)
{
    request_settle(request, NULL, rejected_count, message, false);
}

struct answer_status refusal_status(enum refusal refusal)
{
    static const struct answer_status statuses[REFUSAL_COUNT] = {
        [REFUSED_MALFORMED] = {RPC_INVALID_ARGUMENT, 0, "the request is not a valid ExportTraceServiceRequest"},
        [REFUSED_ENCODING] = {RPC_INVALID_ARGUMENT, 0, "the compressed message cannot be inflated"},
        [REFUSED_TOO_LARGE] = {RPC_RESOURCE_EXHAUSTED, 0, "the message is larger than max_recv_msg_size_mib"},
        [REFUSED_MEMORY] = {RPC_RESOURCE_EXHAUSTED, 1 * NS_PER_S, "memory budget reached, try again later"},
        [REFUSED_OUTBOX_FULL] = {RPC_RESOURCE_EXHAUSTED, 200 * NS_PER_MS,
            "too much is on its way to the samplers, try again later"},
        [REFUSED_NO_MEMBER] = {RPC_UNAVAILABLE, 1 * NS_PER_S, "no sampler is reachable"},
        [REFUSED_DELIVERY] = {RPC_UNAVAILABLE, 1 * NS_PER_S, "a sampler did not take its part in time"},
        [REFUSED_EXPIRED] = {RPC_DEADLINE_EXCEEDED, 0, "the deadline had passed on arrival"},
        [REFUSED_UNAUTHENTICATED] = {RPC_UNAUTHENTICATED, 0, "credentials are missing or wrong"},
        [REFUSED_CONTENT_TYPE] = {RPC_INVALID_ARGUMENT, 0, "the content type is neither application/x-protobuf nor application/json"},
        [REFUSED_TIMEOUT] = {RPC_INVALID_ARGUMENT, 0, "the request did not arrive in time"},
        [REFUSED_JOURNAL] = {RPC_UNAVAILABLE, 1 * NS_PER_S, "the journal cannot be written"},
    };

    return statuses[refusal];
}

/* The refusal counters stand in metrics.def in the order of enum refusal. */
static_assert((int)METRIC_REFUSED_JOURNAL - (int)METRIC_REFUSED_MALFORMED == (int)REFUSED_JOURNAL,
    "refusal counters follow enum refusal");
static_assert((int)REFUSED_JOURNAL == (int)REFUSAL_COUNT - 1, "a counter each");

void request_refuse(struct request *request, enum refusal refusal, struct answer_status status)
{
    metric_add(request->worker->metrics, refusal_metric(refusal), 1);
    request->transport->refuse(request, status);
}

struct buffer *request_hold(struct request *request)
{
    struct buffer *copy;

    if (request->body)
        return buffer_ref(request->body);
    copy = buffer_new(request->bytes.len);
    if (!copy)
        return NULL;
    if (request->bytes.len > 0)
        memcpy(copy->bytes, request->bytes.at, request->bytes.len);
    copy->len = request->bytes.len;
    return copy;
}

uint64_t ingest_accepted_spans(const struct metrics *metrics)
{
    return metrics_sum(metrics, METRIC_ACCEPTED_SPANS) + metrics_sum(metrics, METRIC_ACCEPTED_SPANS_HTTP);
}

uint64_t ingest_refused_spans(const struct metrics *metrics)
{
    return metrics_sum(metrics, METRIC_REFUSED_SPANS) + metrics_sum(metrics, METRIC_REFUSED_SPANS_HTTP);
}
