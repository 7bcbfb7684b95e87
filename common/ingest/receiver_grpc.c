/* OTLP/gRPC in, on gRPC C-core.
 *
 * Each worker posts its own requests on its own queue, so a call lives and ends on one worker. Export is a
 * registered method whose whole message arrives with the call (generic matching costs 9-15 % more CPU); everything else,
 * health and the peer protocol, comes through a small generic pool, which also answers UNIMPLEMENTED: without it an
 * unknown method hangs until its client's deadline.
 *
 *   Export call:   POSTED --arrived--> TAKEN --settle/refuse--> ANSWERING --replied--> freed
 *   generic call:  POSTED --arrived--> (READING -->) ANSWERING --replied--> freed
 *                                 Watch: WATCHING <--> sending, until closed or shut down
 *
 * A message of one slice is served in place; several are gathered into the worker's scratch buffer. Slices are let go
 * when on_request returns. Compressed messages are not inflated by the library (it would inflate a bomb whole before
 * it looks at the limit): inflate.h does it, bounded.
 */
#include "common/ingest/receiver.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/forward.h"
#include "common/base/list.h"
#include "common/base/num.h"
#include "common/ingest/grpc_message.h"
#include "common/ingest/http_listen.h"
#include "common/ingest/inflate.h"
#include "common/metrics/metrics.h"
#include "common/otlp/rpc_status.h"
#include "common/otlp/wire.h"
#include "common/run/clock.h"
#include "common/run/grpc_pump.h"
#include "common/security/auth.h"
#include "common/security/tls.h"

#define EXPORT_PATH "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
#define TRACE_SERVICE "opentelemetry.proto.collector.trace.v1.TraceService"
#define EXPORT_POSTED 64           /* per worker; 8 to 1024 made no difference in CPU, an idle one costs its struct */
#define GENERIC_POSTED 8
#define STREAMS_DEFAULT 1024       /* per connection: messages wait in the library's memory before we see them */
#define CALL_METADATA_BYTES_MAX (16 * 1024)
#define DEADLINE_SECONDS_MAX 86400 /* later is never: and no sum overflows */
#define SCRATCH_KEEP_BYTES (4 * MIB) /* a larger scratch is let go after use */
#define REJECTED_TRAILER_MAX 6000  /* bytes: metadata is limited to 8 KiB by default at most clients */

struct receiver_worker {
    struct receiver *receiver;
    struct worker *worker;
    struct list free_calls;
    struct list watchers;
    struct buffer *scratch;
    struct mail health_mail;
    atomic_bool health_mail_posted;
};

struct receiver {
    grpc_server *server;
    void *export_method;
    struct tier_entry entry;
    uint64_t max_recv_msg_bytes;
    struct auth *auth;
    const struct forward *forward;
    unsigned worker_count;
    int port;
    atomic_bool serving, shut_down, draining;
    /* Calls posted or under way, and one for the server itself until its shutdown tag has come. The tag alone does not
     * say that all is answered: it comes when the connections are gone, and clients may leave before their answers. */
    atomic_uint_fast64_t live;
    bool stopped; /* the server was told to shut down */
    struct mail shutdown_mail;
    struct pump_op shutdown_op;
    void (*on_done)(void *context);
    void *done_context;
    struct receiver_worker homes[];
};

enum call_kind { CALL_EXPORT, CALL_GENERIC };

struct call {
    struct request request;
    struct list node;
    enum call_kind kind;
    struct receiver_worker *home;
    struct pump_op arrived, read, replied, closed;
    grpc_call *call;
    gpr_timespec deadline;
    grpc_metadata_array metadata;
    grpc_byte_buffer *payload;
    bool taken, answered;
    int cancelled;
    /* generic only */
    grpc_call_details details;
    const struct peer_method *method;
    bool metadata_sent;
    bool watching, watch_sending, watch_dirty, watch_ending, watch_closed, watch_replied;
};

static void call_post(struct receiver_worker *home, enum call_kind kind);
static void call_on_arrived(struct pump_op *op, bool ok);
static void call_on_replied(struct pump_op *op, bool ok);

/* -- life of a call -------------------------------------------------------------------------------- */

static struct call *call_new(struct receiver_worker *home, enum call_kind kind)
{
    struct list *node = kind == CALL_EXPORT ? list_take_first(&home->free_calls) : NULL;
    struct call *call = node ? container_of(node, struct call, node) : malloc(sizeof(*call));

    ASSERT(call != NULL); /* a worker without memory for a call cannot go on */
    memset(call, 0, sizeof(*call));
    call->kind = kind;
    call->home = home;
    call->arrived.done = call_on_arrived;
    call->replied.done = call_on_replied;
    grpc_metadata_array_init(&call->metadata);
    if (kind == CALL_GENERIC)
        grpc_call_details_init(&call->details);
    atomic_fetch_add(&home->receiver->live, 1);
    return call;
}

static void call_drop_payload(struct call *call)
{
    if (call->payload)
        grpc_byte_buffer_destroy(call->payload);
    call->payload = NULL;
    buffer_unref(call->request.body);
    call->request.body = NULL;
}

static void receiver_release(struct receiver *receiver)
{
    if (atomic_fetch_sub(&receiver->live, 1) == 1 && receiver->on_done)
        receiver->on_done(receiver->done_context);
}

static void call_free(struct call *call)
{
    struct receiver *receiver = call->home->receiver;

    call_drop_payload(call);
    metadata_set_unref(call->request.metadata);
    grpc_metadata_array_destroy(&call->metadata);
    if (call->kind == CALL_GENERIC)
        grpc_call_details_destroy(&call->details);
    if (call->call)
        grpc_call_unref(call->call);
    if (call->kind == CALL_EXPORT)
        list_add_head(&call->home->free_calls, &call->node);
    else
        free(call);
    receiver_release(receiver);
}

static void call_post(struct receiver_worker *home, enum call_kind kind)
{
    struct call *call = call_new(home, kind);
    grpc_completion_queue *queue = pump_queue(home->worker->pump);
    grpc_call_error r;

    if (kind == CALL_EXPORT)
        r = grpc_server_request_registered_call(home->receiver->server, home->receiver->export_method,
            &call->call, &call->deadline, &call->metadata, &call->payload, queue, queue, &call->arrived);
    else
        r = grpc_server_request_call(home->receiver->server, &call->call, &call->details,
            &call->metadata, queue, queue, &call->arrived);
    ASSERT(r == GRPC_CALL_OK);
}

/* -- answers ------------------------------------------------------------------------------------------ */

struct reply {
    int code;
    const char *message;
    const uint8_t *response;   /* message bytes; NULL with code != 0 */
    size_t response_len;
    const uint8_t *details;    /* grpc-status-details-bin */
    size_t details_len;
    const uint8_t *rejected;   /* tailrace-rejected-bin */
    size_t rejected_len;
};

/* Everything in one batch: initial metadata, message, status, and the close. */
static void call_reply(struct call *call, const struct reply *reply)
{
    grpc_op ops[4];
    grpc_metadata trailers[3];
    size_t op_count = 0, trailer_count = 0;
    grpc_byte_buffer *response = NULL;
    grpc_slice message = grpc_empty_slice();
    grpc_call_error r;

    ASSERT(!call->answered);
    call->answered = true;
    memset(ops, 0, sizeof(ops));
    memset(trailers, 0, sizeof(trailers));
    if (!call->metadata_sent)
        ops[op_count++].op = GRPC_OP_SEND_INITIAL_METADATA;
    if (reply->code == 0) {
        grpc_slice body = grpc_slice_from_copied_buffer((const char *)reply->response, reply->response_len);

        response = grpc_raw_byte_buffer_create(&body, reply->response_len > 0 ? 1 : 0);
        grpc_slice_unref(body);
        ops[op_count].op = GRPC_OP_SEND_MESSAGE;
        ops[op_count++].data.send_message.send_message = response;
    }
    if (reply->details_len > 0) {
        trailers[trailer_count].key = grpc_slice_from_static_string("grpc-status-details-bin");
        trailers[trailer_count++].value =
            grpc_slice_from_copied_buffer((const char *)reply->details, reply->details_len);
    }
    if (reply->rejected_len > 0) {
        trailers[trailer_count].key = grpc_slice_from_static_string("tailrace-rejected-bin");
        trailers[trailer_count++].value =
            grpc_slice_from_copied_buffer((const char *)reply->rejected, reply->rejected_len);
    }
    if (UNLIKELY(atomic_load_explicit(&call->home->receiver->draining, memory_order_relaxed))) {
        trailers[trailer_count].key = grpc_slice_from_static_string("tailrace-state");
        trailers[trailer_count++].value = grpc_slice_from_static_string("draining");
    }
    ops[op_count].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[op_count].data.send_status_from_server.status = (grpc_status_code)reply->code;
    ops[op_count].data.send_status_from_server.trailing_metadata_count = trailer_count;
    ops[op_count].data.send_status_from_server.trailing_metadata = trailers;
    if (reply->message) {
        message = grpc_slice_from_copied_string(reply->message);
        ops[op_count].data.send_status_from_server.status_details = &message;
    }
    op_count++;
    if (!call->watching) {
        ops[op_count].op = GRPC_OP_RECV_CLOSE_ON_SERVER;
        ops[op_count++].data.recv_close_on_server.cancelled = &call->cancelled;
    }
    r = grpc_call_start_batch(call->call, ops, op_count, &call->replied, NULL);
    ASSERT(r == GRPC_CALL_OK);
    if (response)
        grpc_byte_buffer_destroy(response);
    for (size_t i = 0; i < trailer_count; i++)
        grpc_slice_unref(trailers[i].value);
    grpc_slice_unref(message);
    if (call->taken) {
        call->taken = false;
        metric_add(call->home->worker->metrics, METRIC_REQUESTS_IN_FLIGHT, (uint64_t)0 - 1);
    }
}

static void call_on_replied(struct pump_op *op, bool ok)
{
    struct call *call = container_of(op, struct call, replied);

    (void)ok; /* false: the client had gone; it will resend, and duplicates are recognised */
    call->watch_replied = true;
    if (!call->watching || call->watch_closed)
        call_free(call);
}

static struct call *call_of(struct request *request)
{
    return container_of(request, struct call, request);
}

static void call_settle(struct request *request, const uint32_t *rejected, size_t rejected_count, const char *message,
    bool send_trailer)
{
    struct reply reply = {0};
    uint8_t response[RPC_STATUS_BYTES_MAX];
    uint8_t trailer[REJECTED_TRAILER_MAX + 8];

    if (rejected_count > 0) {
        reply.response = response;
        reply.response_len = partial_success_write(rejected_count, message, response);
        if (send_trailer) {
            uint8_t *end = trailer;

            /* What does not fit is left out: the count in partial_success still holds for all. */
            for (size_t i = 0; i < rejected_count && end < trailer + REJECTED_TRAILER_MAX; i++)
                end = wire_put_varint(end, rejected[i]);
            reply.rejected = trailer;
            reply.rejected_len = (size_t)(end - trailer);
        }
    }
    call_reply(call_of(request), &reply);
}

static void call_refuse(struct request *request, struct answer_status status)
{
    struct call *call = call_of(request);
    uint8_t details[RPC_STATUS_BYTES_MAX];
    struct reply reply = {.code = status.code, .message = status.message};

    reply.details = details;
    reply.details_len = rpc_status_write(status.code, status.message, status.retry_ns, details);
    call_reply(call, &reply);
}

static const struct transport transport_grpc = {
    .settle = call_settle,
    .refuse = call_refuse,
    .accepted_spans = METRIC_ACCEPTED_SPANS,
    .refused_spans = METRIC_REFUSED_SPANS,
};

/* -- Export ------------------------------------------------------------------------------------------- */

static uint64_t deadline_of(gpr_timespec deadline, uint64_t now_ns)
{
    gpr_timespec left;

    if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0)
        return UINT64_MAX;
    left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
    if (left.tv_sec < 0)
        return now_ns;
    if (left.tv_sec > DEADLINE_SECONDS_MAX)
        return UINT64_MAX;
    return now_ns + (uint64_t)left.tv_sec * NS_PER_S + (uint64_t)(uint32_t)left.tv_nsec;
}

/* Other nodes tell us how they see the ring; 16 hex digits. */
static uint64_t ring_of(const grpc_metadata_array *metadata)
{
    static const char key[] = "tailrace-ring";

    for (size_t i = 0; i < metadata->count; i++) {
        const grpc_metadata *entry = &metadata->metadata[i];

        if (GRPC_SLICE_LENGTH(entry->key) == sizeof(key) - 1 &&
            memcmp(GRPC_SLICE_START_PTR(entry->key), key, sizeof(key) - 1) == 0 &&
            GRPC_SLICE_LENGTH(entry->value) == 16) {
            char text[17];

            memcpy(text, GRPC_SLICE_START_PTR(entry->value), 16);
            text[16] = '\0';
            return strtoull(text, NULL, 16);
        }
    }
    return 0;
}

static struct slice slice_of(const grpc_slice *slice)
{
    return slice_make(GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice));
}

/* Before anything of the message is looked at. Several values of the header are no credential. */
static bool call_authenticated(const struct call *call)
{
    struct auth *auth = call->home->receiver->auth;
    struct slice value = {NULL, 0}, name;
    unsigned found = 0;

    if (!auth)
        return true;
    name = slice_text(auth_header_name(auth));
    for (size_t i = 0; i < call->metadata.count; i++) {
        const grpc_metadata *entry = &call->metadata.metadata[i];

        if (slice_equal(slice_of(&entry->key), name)) {
            value = slice_of(&entry->value);
            found++;
        }
    }
    return found == 1 && auth_check(auth, value);
}

/* The client's headers that go on to the backend. False when the call was refused: they are part of what keeps tenants apart, so
 * none is left out. */
static bool call_metadata(struct call *call)
{
    const struct forward *forward = call->home->receiver->forward;
    struct answer_status refusal = {GRPC_STATUS_RESOURCE_EXHAUSTED, 0, "the forwarded metadata is larger than 8 KiB or 32 pairs"};
    struct metadata_entry entries[METADATA_PAIRS_MAX + 1];
    struct metadata_set *set = NULL;
    size_t count = 0;

    for (size_t i = 0; forward && i < call->metadata.count && count <= METADATA_PAIRS_MAX; i++) {
        const grpc_metadata *entry = &call->metadata.metadata[i];

        if (forward_wants(forward, slice_of(&entry->key)))
            entries[count++] = (struct metadata_entry){slice_of(&entry->key), slice_of(&entry->value)};
    }
    switch (count > 0 ? metadata_set_new(entries, count, &set) : 0) {
    case 0:
        call->request.metadata = set;
        return true;
    case METADATA_E_TOO_LARGE:
        request_refuse(&call->request, REFUSED_TOO_LARGE, refusal);
        return false;
    default:
        request_refuse(&call->request, REFUSED_MEMORY, refusal_status(REFUSED_MEMORY));
        return false;
    }
}

static struct buffer *scratch_take(struct receiver_worker *home, size_t len)
{
    struct buffer *buffer = home->scratch;

    home->scratch = NULL;
    if (buffer && (buffer->capacity < len || atomic_load(&buffer->refs) != 1)) {
        buffer_unref(buffer);
        buffer = NULL;
    }
    return buffer ? buffer : buffer_new(size_max(len, 64 * KIB));
}

static void scratch_give(struct receiver_worker *home, struct buffer *buffer)
{
    if (buffer && !home->scratch && atomic_load(&buffer->refs) == 1 && buffer->capacity <= SCRATCH_KEEP_BYTES)
        home->scratch = buffer;
    else
        buffer_unref(buffer);
}

static struct buffer *payload_gather(struct receiver_worker *home, const grpc_slice_buffer *slices)
{
    struct buffer *buffer = scratch_take(home, slices->length);
    uint8_t *out;

    if (!buffer)
        return NULL;
    out = buffer->bytes;
    for (size_t i = 0; i < slices->count; i++) {
        size_t len = GRPC_SLICE_LENGTH(slices->slices[i]);

        memcpy(out, GRPC_SLICE_START_PTR(slices->slices[i]), len);
        out += len;
    }
    buffer->len = slices->length;
    return buffer;
}

/* Makes request.bytes; false when the call was refused. */
static bool call_bytes(struct call *call)
{
    struct receiver *receiver = call->home->receiver;
    grpc_byte_buffer *payload = call->payload;
    grpc_slice_buffer *slices;
    grpc_compression_algorithm compression;

    if (!payload) { /* half-closed without a message */
        request_refuse(&call->request, REFUSED_MALFORMED, refusal_status(REFUSED_MALFORMED));
        return false;
    }
    slices = &payload->data.raw.slice_buffer;
    compression = payload->data.raw.compression;
    if (slices->length > receiver->max_recv_msg_bytes) {
        request_refuse(&call->request, REFUSED_TOO_LARGE, refusal_status(REFUSED_TOO_LARGE));
        return false;
    }
    if (compression == GRPC_COMPRESS_NONE && grpc_message_is_compressed(call->call)) {
        const struct answer_status unknown = {GRPC_STATUS_UNIMPLEMENTED, 0, "unknown grpc-encoding: gzip, deflate and identity are known"};

        request_refuse(&call->request, REFUSED_ENCODING, unknown);
        return false;
    }
    if (compression == GRPC_COMPRESS_NONE && slices->count <= 1) {
        if (slices->count == 1)
            call->request.bytes = slice_make(GRPC_SLICE_START_PTR(slices->slices[0]), GRPC_SLICE_LENGTH(slices->slices[0]));
        return true;
    }
    call->request.body = payload_gather(call->home, slices);
    if (!call->request.body) {
        request_refuse(&call->request, REFUSED_MEMORY, refusal_status(REFUSED_MEMORY));
        return false;
    }
    if (compression != GRPC_COMPRESS_NONE) {
        struct buffer *inflated = NULL;
        int r = compression == GRPC_COMPRESS_GZIP
            ? inflate_gzip(buffer_slice(call->request.body), receiver->max_recv_msg_bytes, &inflated)
            : inflate_zlib(buffer_slice(call->request.body), receiver->max_recv_msg_bytes, &inflated);

        scratch_give(call->home, steal(&call->request.body));
        if (r) {
            enum refusal why = r == INFLATE_E_TOO_LARGE ? REFUSED_TOO_LARGE
                : r < 0                                 ? REFUSED_MEMORY
                                                        : REFUSED_ENCODING;

            request_refuse(&call->request, why, refusal_status(why));
            return false;
        }
        call->request.body = inflated;
    }
    call->request.bytes = buffer_slice(call->request.body);
    return true;
}

static void export_arrived(struct call *call)
{
    struct receiver_worker *home = call->home;
    struct request *request = &call->request;
    uint64_t now_ns = clock_now_ns();

    home->worker->now_ns = now_ns; /* the turn's is of before the sleep that this call ended */
    call->taken = true;
    request->transport = &transport_grpc;
    metric_add(home->worker->metrics, METRIC_REQUESTS, 1);
    metric_add(home->worker->metrics, METRIC_REQUESTS_IN_FLIGHT, 1);
    request->worker = home->worker;
    request->received_ns = now_ns;
    request->deadline_ns = deadline_of(call->deadline, now_ns);
    request->peer_ring = call->metadata.count > 0 ? ring_of(&call->metadata) : 0;
    if (!call_authenticated(call))
        request_refuse(request, REFUSED_UNAUTHENTICATED, refusal_status(REFUSED_UNAUTHENTICATED));
    else if (request->deadline_ns <= now_ns)
        request_refuse(request, REFUSED_EXPIRED, refusal_status(REFUSED_EXPIRED));
    else if (call_metadata(call) && call_bytes(call)) {
        metric_add(home->worker->metrics, METRIC_REQUEST_BYTES, request->bytes.len);
        home->receiver->entry.on_request(home->receiver->entry.tier, request);
    }
    /* The bytes go now; the call stays until it is answered and the answer is on its way (call_on_replied). */
    request->bytes = (struct slice){NULL, 0};
    scratch_give(home, steal(&call->request.body));
    call_drop_payload(call);
}

/* -- everything else: health, peer methods, unknown ---------------------------------------------------- */

static void generic_fail(struct call *call, int code, const char *message)
{
    struct reply reply = {.code = code, .message = message};

    call_reply(call, &reply);
}

static void generic_answer(struct call *call, const uint8_t *bytes, size_t len)
{
    struct reply reply = {.response = bytes, .response_len = len};

    call_reply(call, &reply);
}

void peer_call_answer(void *opaque, int status, struct buffer *answer)
{
    struct call *call = opaque;

    if (status)
        generic_fail(call, status, "the peer call failed");
    else
        generic_answer(call, answer->bytes, answer->len);
    buffer_unref(answer);
}

static void watch_send(struct call *call);

/* The status waits for the message before it. */
static void watch_end(struct call *call)
{
    if (call->answered)
        return;
    call->watch_ending = true;
    if (!call->watch_sending)
        generic_fail(call, GRPC_STATUS_UNAVAILABLE, "this node is shutting down");
}

static void watch_on_sent(struct pump_op *op, bool ok)
{
    struct call *call = container_of(op, struct call, arrived);

    call->watch_sending = false;
    if (!ok || call->watch_closed)
        watch_end(call);
    else if (call->watch_dirty)
        watch_send(call);
    else if (call->watch_ending)
        watch_end(call);
}

/* HealthCheckResponse{status}: SERVING 1, NOT_SERVING 2. */
static void watch_send(struct call *call)
{
    uint8_t bytes[2] = {0x08, atomic_load(&call->home->receiver->serving) ? 1 : 2};
    grpc_slice slice = grpc_slice_from_copied_buffer((const char *)bytes, sizeof(bytes));
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_op ops[2];
    size_t op_count = 0;
    grpc_call_error r;

    grpc_slice_unref(slice);
    memset(ops, 0, sizeof(ops));
    if (!call->metadata_sent)
        ops[op_count++].op = GRPC_OP_SEND_INITIAL_METADATA;
    call->metadata_sent = true;
    ops[op_count].op = GRPC_OP_SEND_MESSAGE;
    ops[op_count++].data.send_message.send_message = message;
    call->watch_dirty = false;
    call->watch_sending = true;
    call->arrived.done = watch_on_sent;
    r = grpc_call_start_batch(call->call, ops, op_count, &call->arrived, NULL);
    ASSERT(r == GRPC_CALL_OK);
    grpc_byte_buffer_destroy(message);
}

/* A watch is freed when both have come: its close, and the end of its answer. */
static void watch_on_closed(struct pump_op *op, bool ok)
{
    struct call *call = container_of(op, struct call, closed);

    (void)ok;
    list_del(&call->node);
    call->watch_closed = true;
    if (call->watch_replied)
        call_free(call);
    else
        watch_end(call); /* the client has gone: the status reaches nobody, but ends the call */
}

static void watch_begin(struct call *call)
{
    grpc_op op;
    grpc_call_error r;

    call->watching = true;
    list_add_tail(&call->home->watchers, &call->node);
    call->closed.done = watch_on_closed;
    memset(&op, 0, sizeof(op));
    op.op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    op.data.recv_close_on_server.cancelled = &call->cancelled;
    r = grpc_call_start_batch(call->call, &op, 1, &call->closed, NULL);
    ASSERT(r == GRPC_CALL_OK);
    watch_send(call);
    call->watch_ending = atomic_load(&call->home->receiver->shut_down); /* the round that ends watches may be over */
}

/* HealthCheckRequest{service}: only "" and the trace service are known. */
static bool health_knows(struct slice request)
{
    struct wire w = wire_of(request);
    struct slice service = {NULL, 0};

    while (wire_more(&w)) {
        uint32_t tag = wire_tag(&w);

        if (tag == WIRE_TAG(1, WIRE_BYTES))
            service = wire_bytes(&w);
        else
            wire_skip(&w, tag);
    }
    return !w.bad && (service.len == 0 || slice_equal(service, SLICE_LITERAL(TRACE_SERVICE)));
}

static int health_check(void *tier, struct worker *worker, struct slice request, void *opaque, struct buffer **out_answer)
{
    struct call *call = opaque;
    struct buffer *answer;

    (void)tier;
    (void)worker;
    if (!health_knows(request))
        return GRPC_STATUS_NOT_FOUND;
    answer = buffer_new(2);
    if (!answer)
        return GRPC_STATUS_RESOURCE_EXHAUSTED;
    answer->bytes[0] = 0x08;
    answer->bytes[1] = atomic_load(&call->home->receiver->serving) ? 1 : 2;
    answer->len = 2;
    *out_answer = answer;
    return 0;
}

static int health_watch(void *tier, struct worker *worker, struct slice request, void *opaque, struct buffer **out_answer)
{
    struct call *call = opaque;

    (void)tier;
    (void)worker;
    (void)out_answer;
    if (!health_knows(request))
        return GRPC_STATUS_NOT_FOUND;
    watch_begin(call);
    return -1;
}

static const struct peer_method health_methods[] = {
    {"/grpc.health.v1.Health/Check", health_check},
    {"/grpc.health.v1.Health/Watch", health_watch},
    {NULL, NULL},
};

static const struct peer_method *method_find(const struct peer_method *methods, grpc_slice path)
{
    for (; methods && methods->path; methods++) {
        if (grpc_slice_str_cmp(path, methods->path) == 0)
            return methods;
    }
    return NULL;
}

static void generic_on_read(struct pump_op *op, bool ok)
{
    struct call *call = container_of(op, struct call, read);
    struct buffer *answer = NULL, *gathered = NULL;
    struct slice request = {NULL, 0};
    int r;

    if (!ok || !call->payload) {
        generic_fail(call, GRPC_STATUS_INVALID_ARGUMENT, "no message");
        return;
    }
    if (call->payload->data.raw.compression != GRPC_COMPRESS_NONE || grpc_message_is_compressed(call->call)) {
        generic_fail(call, GRPC_STATUS_UNIMPLEMENTED, "this method takes uncompressed messages");
        return;
    }
    gathered = payload_gather(call->home, &call->payload->data.raw.slice_buffer);
    if (gathered)
        request = buffer_slice(gathered);
    r = call->method->serve(call->home->receiver->entry.tier, call->home->worker, request, call, &answer);
    scratch_give(call->home, gathered);
    if (r == 0)
        generic_answer(call, answer->bytes, answer->len);
    else if (r > 0)
        generic_fail(call, r, r == GRPC_STATUS_NOT_FOUND ? "unknown service" : "refused");
    buffer_unref(answer);
}

static void generic_arrived(struct call *call)
{
    grpc_op op;
    grpc_call_error r;
    bool open;

    call->method = method_find(health_methods, call->details.method);
    open = call->method != NULL; /* probes carry no credentials */
    if (!call->method)
        call->method = method_find(call->home->receiver->entry.methods, call->details.method);
    if (!open && !call_authenticated(call)) {
        metric_add(call->home->worker->metrics, refusal_metric(REFUSED_UNAUTHENTICATED), 1);
        generic_fail(call, GRPC_STATUS_UNAUTHENTICATED, refusal_status(REFUSED_UNAUTHENTICATED).message);
        return;
    }
    if (!call->method) {
        metric_add(call->home->worker->metrics, METRIC_UNKNOWN_METHOD, 1);
        generic_fail(call, GRPC_STATUS_UNIMPLEMENTED, "unknown method: this node serves the OTLP trace service");
        return;
    }
    memset(&op, 0, sizeof(op));
    op.op = GRPC_OP_RECV_MESSAGE;
    op.data.recv_message.recv_message = &call->payload;
    call->read.done = generic_on_read;
    r = grpc_call_start_batch(call->call, &op, 1, &call->read, NULL);
    ASSERT(r == GRPC_CALL_OK);
}

static void call_on_arrived(struct pump_op *op, bool ok)
{
    struct call *call = container_of(op, struct call, arrived);

    if (!ok) { /* the server is shutting down: nothing is posted again */
        call_free(call);
        return;
    }
    call_post(call->home, call->kind); /* the replacement first, then the work */
    if (call->kind == CALL_EXPORT)
        export_arrived(call);
    else
        generic_arrived(call);
}

/* -- the receiver -------------------------------------------------------------------------------------- */

static void home_on_health(struct mail *mail, void *receiver)
{
    struct receiver_worker *home = container_of(mail, struct receiver_worker, health_mail);
    bool ending = atomic_load(&home->receiver->shut_down);

    (void)receiver;
    atomic_store(&home->health_mail_posted, false);
    LIST_FOR_EACH_SAFE(node, following, &home->watchers) {
        struct call *call = container_of(node, struct call, node);

        if (call->answered)
            continue;
        call->watch_ending |= ending; /* after it has said NOT_SERVING */
        if (call->watch_sending)
            call->watch_dirty = true;
        else
            watch_send(call);
    }
}

static void receiver_tell_homes(struct receiver *receiver)
{
    for (unsigned i = 0; i < receiver->worker_count; i++) {
        struct receiver_worker *home = &receiver->homes[i];

        if (!atomic_exchange(&home->health_mail_posted, true))
            worker_post(home->worker, &home->health_mail);
    }
}

void receiver_health(struct receiver *receiver, bool serving)
{
    if (atomic_exchange(&receiver->serving, serving) != serving)
        receiver_tell_homes(receiver);
}

void receiver_draining(struct receiver *receiver)
{
    atomic_store(&receiver->draining, true);
}

struct arguments {
    grpc_arg args[24];
    size_t count;
};

static void argument_add(struct arguments *arguments, const char *key, uint64_t value)
{
    ASSERT(arguments->count < ARRAY_COUNT(arguments->args));
    arguments->args[arguments->count++] = (grpc_arg){
        .type = GRPC_ARG_INTEGER,
        .key = (char *)(uintptr_t)key,
        .value.integer = (int)u64_min(value, INT32_MAX),
    };
}

static void argument_add_ms(struct arguments *arguments, const char *key, uint64_t ns)
{
    if (ns > 0)
        argument_add(arguments, key, u64_max(ns / NS_PER_MS, 1));
}

static void receiver_arguments(const struct receiver_options *options, struct arguments *out)
{
    /* Two processes must not share a port silently: the second bind shall fail. */
    argument_add(out, "grpc.so_reuseport", 0);
    /* Up to half as much again passes the library, so that we refuse and count it; beyond, the library refuses. */
    argument_add(out, "grpc.max_receive_message_length", options->max_recv_msg_bytes + options->max_recv_msg_bytes / 2);
    argument_add(out, "grpc.max_concurrent_streams",
        options->max_concurrent_streams ? options->max_concurrent_streams : STREAMS_DEFAULT);
    argument_add(out, "grpc.max_metadata_size", CALL_METADATA_BYTES_MAX);
    argument_add(out, "grpc.per_message_decompression", 0);
    argument_add(out, "grpc.http2.lookahead_bytes", options->internal ? 4 * MIB : 1 * MIB);
    argument_add(out, "grpc.http2.max_frame_size", 1 * MIB);
    if (options->internal) {
        argument_add(out, "grpc.http2.bdp_probe", 0);
        argument_add(out, "grpc.http2.max_ping_strikes", 0); /* balancers ping every 10 s, idle too */
    }
    argument_add_ms(out, "grpc.max_connection_age_ms", options->max_connection_age_ns);
    argument_add_ms(out, "grpc.max_connection_age_grace_ms", options->max_connection_age_grace_ns);
    argument_add_ms(out, "grpc.max_connection_idle_ms", options->max_connection_idle_ns);
    argument_add_ms(out, "grpc.keepalive_time_ms", options->keepalive_time_ns);
    argument_add_ms(out, "grpc.keepalive_timeout_ms", options->keepalive_timeout_ns);
    argument_add_ms(out, "grpc.http2.min_ping_interval_without_data_ms",
        options->internal ? 5 * NS_PER_S : options->keepalive_min_time_ns);
    if (options->internal || options->keepalive_permit_without_stream)
        argument_add(out, "grpc.keepalive_permit_without_calls", 1);
}

/* C-core does not say why it could not listen; the same attempt, made here, does. */
static const char *listen_why(const char *endpoint)
{
    int fds[HTTP_LISTEN_MAX], port, r;
    size_t count = 0;
    char ignored[256];

    r = http_listen(endpoint, fds, &count, &port, ignored, sizeof(ignored));
    while (count > 0)
        close(fds[--count]);
    return r < 0 ? strerror(-r) : "it was taken for a moment, or gRPC refuses it";
}

int receiver_new(const struct receiver_options *options, struct worker *const *workers, unsigned count,
    const struct tier_entry *entry, struct receiver **out_receiver, char *out_error, size_t error_size)
{
    struct receiver *receiver = calloc(1, sizeof(*receiver) + count * sizeof(receiver->homes[0]));
    struct arguments arguments = {.count = 0};
    grpc_channel_args channel_args;
    grpc_server_credentials *credentials;

    if (!receiver)
        return error_raise(-ENOMEM);
    atomic_init(&receiver->live, 1);
    receiver->entry = *entry;
    receiver->worker_count = count;
    receiver->max_recv_msg_bytes = options->max_recv_msg_bytes;
    receiver->auth = options->auth;
    receiver->forward = options->forward;
    receiver_arguments(options, &arguments);
    channel_args = (grpc_channel_args){arguments.count, arguments.args};
    if (options->quota_bytes > 0) {
        grpc_resource_quota *quota = grpc_resource_quota_create("tailrace");

        grpc_resource_quota_resize(quota, options->quota_bytes);
        arguments.args[arguments.count++] = (grpc_arg){
            .type = GRPC_ARG_POINTER,
            .key = (char *)(uintptr_t)GRPC_ARG_RESOURCE_QUOTA,
            .value.pointer = {quota, grpc_resource_quota_arg_vtable()},
        };
        channel_args.num_args = arguments.count;
        receiver->server = grpc_server_create(&channel_args, NULL);
        grpc_resource_quota_unref(quota);
    } else {
        receiver->server = grpc_server_create(&channel_args, NULL);
    }
    receiver->export_method = grpc_server_register_method(receiver->server, EXPORT_PATH, NULL,
        GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
    for (unsigned i = 0; i < count; i++) {
        struct receiver_worker *home = &receiver->homes[i];

        home->receiver = receiver;
        home->worker = workers[i];
        home->health_mail.deliver = home_on_health;
        list_init(&home->free_calls);
        list_init(&home->watchers);
        grpc_server_register_completion_queue(receiver->server, pump_queue(workers[i]->pump), NULL);
    }
    credentials = options->tls ? tls_grpc_server_credentials(options->tls) : grpc_insecure_server_credentials_create();
    receiver->port = grpc_server_add_http2_port(receiver->server, options->endpoint, credentials);
    grpc_server_credentials_release(credentials);
    if (receiver->port == 0) {
        (void)snprintf(out_error, error_size, "receivers.otlp.protocols.grpc.endpoint: cannot listen on %s: %s", options->endpoint,
            listen_why(options->endpoint));
        receiver_free(receiver);
        return error_raise(-EADDRINUSE);
    }
    *out_receiver = receiver;
    return 0;
}

int receiver_port(const struct receiver *receiver)
{
    return receiver->port;
}

void receiver_start(struct receiver *receiver)
{
    grpc_server_start(receiver->server);
    for (unsigned i = 0; i < receiver->worker_count; i++) {
        for (int k = 0; k < EXPORT_POSTED; k++)
            call_post(&receiver->homes[i], CALL_EXPORT);
        for (int k = 0; k < GENERIC_POSTED; k++)
            call_post(&receiver->homes[i], CALL_GENERIC);
    }
}

static void receiver_on_shut_down(struct pump_op *op, bool ok)
{
    struct receiver *receiver = container_of(op, struct receiver, shutdown_op);

    (void)ok;
    receiver_release(receiver);
}

static void receiver_do_shutdown(struct mail *mail, void *opaque)
{
    struct receiver *receiver = container_of(mail, struct receiver, shutdown_mail);
    struct worker *worker = opaque;

    (void)worker;
    receiver_stop(receiver);
}

void receiver_stop(struct receiver *receiver)
{
    if (!receiver || receiver->stopped)
        return;
    receiver->stopped = true;
    receiver->shutdown_op.done = receiver_on_shut_down;
    grpc_server_shutdown_and_notify(receiver->server, pump_queue(receiver->homes[0].worker->pump), &receiver->shutdown_op);
}

void receiver_shutdown(struct receiver *receiver, void (*on_done)(void *context), void *context)
{
    receiver->on_done = on_done;
    receiver->done_context = context;
    atomic_store(&receiver->serving, false);
    atomic_store(&receiver->shut_down, true);
    receiver_tell_homes(receiver); /* health watches end: they would hold the shutdown up for ever */
    receiver->shutdown_mail.deliver = receiver_do_shutdown;
    worker_post(receiver->homes[0].worker, &receiver->shutdown_mail);
}

void receiver_cancel_all(struct receiver *receiver)
{
    grpc_server_cancel_all_calls(receiver->server);
}

void receiver_free(struct receiver *receiver)
{
    if (!receiver)
        return;
    for (unsigned i = 0; i < receiver->worker_count; i++) {
        struct receiver_worker *home = &receiver->homes[i];
        struct list *node;

        while ((node = list_take_first(&home->free_calls)))
            free(container_of(node, struct call, node));
        buffer_unref(home->scratch);
    }
    grpc_server_destroy(receiver->server);
    free(receiver);
}
