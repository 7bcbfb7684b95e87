/* tailrace-load: sends realistic traces over OTLP/gRPC as fast as asked and keeps the ledger of what was acknowledged.
 *
 * One thread, one completion queue. Requests are encoded once (template.h); sending one patches IDs and times
 * into a parcel, a copy of a template that gRPC borrows until the bytes are on the wire. A parcel goes back to its
 * template's free list when both the call and gRPC let go of it.
 *
 * Lanes run side by side, each a little behind the one after it, so that the spans of one trace come in several
 * requests within --spread-ms; the root's lane is the last.
 *
 * Open loop (--rate): every request has a planned time, whatever the far side does, and its latency counts from
 * there. Closed loop: --in-flight calls on each connection, always.
 */
#include <errno.h>
#include <grpc/support/time.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "bench/histogram.h"
#include "bench/ledger.h"
#include "bench/options.h"
#include "bench/template.h"
#include "bench/transport.h"
#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/otlp/wire.h"
#include "common/run/clock.h"

#define BACKOFF_FIRST_NS (50 * NS_PER_MS)
#define BACKOFF_MOST_NS (2 * NS_PER_S)
#define FULL_SPEED_STEP_NS 12500 /* between trace starts when no rate says it: 80 000 traces a second */
#define CONNECT_NS (10 * NS_PER_S)

struct parcel {
    uint8_t *bytes;
    const struct template *template;
    struct parcel_list *home;
    atomic_uint refs;    /* the call's and gRPC's */
    struct parcel *next; /* in the free list or the returned stack */
};

struct parcel_list { /* one a template */
    struct template *template;
    struct parcel *free;
};

struct lane {
    uint32_t spans; /* of one trace */
    uint64_t next_cell;
    struct parcel_list *phases; /* one a phase */
};

struct connection {
    grpc_channel *channel;
    void *method;
    uint64_t in_flight;
};

struct call {
    grpc_call *call;
    struct connection *connection;
    struct parcel *parcel;
    uint64_t first_trace;
    uint64_t planned_ns, due_ns; /* due: of the next attempt */
    uint32_t attempts;
    bool resend; /* acknowledged before, sent again on purpose */
    struct call *next_free, *flying_next, **flying_at;

    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *response;
    grpc_status_code status;
    grpc_slice details;
};

struct options {
    struct option_list endpoints;
    uint64_t connections, in_flight, spans_per_trace, span_bytes, services, spans_per_request, slow_ms, traces;
    uint64_t seed, deadline_ms, retry_seconds, drain_seconds, spread_ms, resend_delay_ms;
    double error_percent, slow_percent, rate, seconds, resend_percent;
    const char *ledger, *summary;
    bool quiet;
};

static struct options options = {
    .connections = 4, .in_flight = 16, .spans_per_trace = 15, .span_bytes = 700, .services = 5, .spans_per_request = 68,
    .slow_ms = 1000, .seed = 1, .deadline_ms = 10000, .retry_seconds = 60, .drain_seconds = 30, .spread_ms = 500,
    .error_percent = 2, .slow_percent = 1,
};

static const struct option_def option_table[] = {
    {"endpoint", OPTION_LIST, &options.endpoints, "host:port to send to; several share the load in turn"},
    {"connections", OPTION_U64, &options.connections, "TCP connections for each endpoint"},
    {"in-flight", OPTION_U64, &options.in_flight, "calls under way on each connection, at most"},
    {"rate", OPTION_DOUBLE, &options.rate, "spans a second, open loop; 0: full speed, closed loop"},
    {"seconds", OPTION_DOUBLE, &options.seconds, "begin new traces for so long; 0: until --traces"},
    {"traces", OPTION_U64, &options.traces, "number of traces; 0: as many as --seconds gives"},
    {"spans-per-trace", OPTION_U64, &options.spans_per_trace, "spans of one trace"},
    {"span-bytes", OPTION_U64, &options.span_bytes, "mean bytes of a span"},
    {"services", OPTION_U64, &options.services, "services a trace runs through; each sends its own requests"},
    {"spans-per-request", OPTION_U64, &options.spans_per_request, "spans of one request"},
    {"spread-ms", OPTION_U64, &options.spread_ms, "about the time from a trace's first to its last request"},
    {"error-percent", OPTION_DOUBLE, &options.error_percent, "traces with a span of status ERROR"},
    {"slow-percent", OPTION_DOUBLE, &options.slow_percent, "traces longer than --slow-ms"},
    {"slow-ms", OPTION_U64, &options.slow_ms, "slow traces last 1.5 to 2.5 times this, others at most 0.51 times"},
    {"seed", OPTION_U64, &options.seed, "what trace IDs and fates follow from"},
    {"deadline-ms", OPTION_U64, &options.deadline_ms, "of one call"},
    {"retry-seconds", OPTION_U64, &options.retry_seconds, "give a request up after this time"},
    {"drain-seconds", OPTION_U64, &options.drain_seconds, "wait for the last answers, at most"},
    {"resend-percent", OPTION_DOUBLE, &options.resend_percent, "acknowledged requests that are sent once more"},
    {"resend-delay-ms", OPTION_U64, &options.resend_delay_ms, "time until then"},
    {"ledger", OPTION_TEXT, &options.ledger, "file for what was acknowledged, span by span"},
    {"summary", OPTION_TEXT, &options.summary, "file for the JSON summary; default standard output"},
    {"quiet", OPTION_FLAG, &options.quiet, "no progress lines"},
    {NULL, OPTION_FLAG, NULL, NULL},
};

struct totals {
    uint64_t spans_begun;                     /* put into a first attempt */
    uint64_t spans_acknowledged, spans_failed; /* failed: given up or refused for good */
    uint64_t spans_rejected;                  /* of acknowledged requests, by partial_success */
    uint64_t requests, requests_acknowledged, requests_failed, attempts, retries, resends, resends_acknowledged;
    uint64_t by_status[17];
    uint64_t request_bytes, generate_ns;
};

struct load {
    struct model model;
    struct lane *lanes;
    struct connection *connections;
    uint64_t connection_count, connection_next;
    grpc_completion_queue *queue;
    struct call *free_calls;
    struct call *flying;
    struct call **waiting; /* heap by due_ns */
    uint64_t waiting_count, waiting_capacity;
    uint64_t in_flight, in_flight_most;
    _Atomic(struct parcel *) returned; /* let go of by gRPC, perhaps on a thread of its own */
    struct model_trace *traces;        /* scratch, of the request being filled */
    struct ledger ledger;
    bool keeps_ledger;
    uint64_t trace_limit;
    double traces_a_second; /* measured, or as --rate says */
    struct totals totals;
    struct histogram latency, second_latency, send_lag;
    uint64_t random;
    uint64_t started_ns, last_answer_ns;
};

static struct load load;
static volatile sig_atomic_t stop_signals;

static void on_signal(int signal_number)
{
    (void)signal_number;
    stop_signals++;
}

static uint64_t draw(void)
{
    load.random += 0x9e3779b97f4a7c15ull;
    return model_mix(load.random);
}

static bool draw_percent(double percent)
{
    return percent > 0 && (double)(draw() >> 11) / 9007199254740992.0 * 100 < percent;
}

/* -- parcels ------------------------------------------------------------------------------------------- */

static void parcel_drop(struct parcel *parcel)
{
    if (atomic_fetch_sub_explicit(&parcel->refs, 1, memory_order_acq_rel) != 1)
        return;
    parcel->next = atomic_load_explicit(&load.returned, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(
        &load.returned, &parcel->next, parcel, memory_order_release, memory_order_relaxed))
        continue;
}

static void parcel_drop_by_grpc(void *parcel)
{
    parcel_drop(parcel);
}

static void parcels_collect(void)
{
    struct parcel *parcel = atomic_exchange_explicit(&load.returned, NULL, memory_order_acquire), *next;

    for (; parcel; parcel = next) {
        next = parcel->next;
        parcel->next = parcel->home->free;
        parcel->home->free = parcel;
    }
}

static struct parcel *parcel_get(struct parcel_list *home)
{
    struct parcel *parcel;

    if (!home->free)
        parcels_collect();
    parcel = home->free;
    if (parcel) {
        home->free = parcel->next;
    } else {
        parcel = calloc(1, sizeof(*parcel));
        ASSERT(parcel);
        parcel->bytes = malloc(home->template->len);
        ASSERT(parcel->bytes);
        memcpy(parcel->bytes, home->template->bytes, home->template->len);
        parcel->template = home->template;
        parcel->home = home;
    }
    atomic_store_explicit(&parcel->refs, 1, memory_order_relaxed);
    return parcel;
}

/* -- lanes ---------------------------------------------------------------------------------------------- */

static void lanes_init(void)
{
    uint32_t spans_per_request = (uint32_t)options.spans_per_request;

    load.lanes = calloc(load.model.services, sizeof(*load.lanes));
    load.traces = calloc((size_t)spans_per_request + 2, sizeof(*load.traces));
    ASSERT(load.lanes && load.traces);
    for (uint32_t i = 0; i < load.model.services; i++) {
        struct lane *lane = &load.lanes[i];

        lane->spans = lane_spans(&load.model, i);
        lane->phases = calloc(lane->spans, sizeof(*lane->phases));
        ASSERT(lane->phases);
        for (uint32_t phase = 0; phase < lane->spans; phase++) {
            lane->phases[phase].template =
                template_new(&load.model, i, phase, spans_per_request, (uint32_t)options.span_bytes);
        }
    }
}

/* The lane whose turn it is, NULL when all traces are out. Lanes far from the root run ahead of it. */
static struct lane *lane_pick(void)
{
    struct lane *best = NULL;
    double best_at = 0;

    for (uint32_t i = 0; i < load.model.services; i++) {
        struct lane *lane = &load.lanes[i];
        double share = (double)(load.model.services - 1 - i) / load.model.services;
        double behind = share * (double)options.spread_ms / 1e3 * load.traces_a_second;
        double at = (double)lane->next_cell / lane->spans + behind;

        if (lane->next_cell >= load.trace_limit * lane->spans)
            continue;
        if (!best || at < best_at) {
            best = lane;
            best_at = at;
        }
    }
    return best;
}

/* -- the ledger ------------------------------------------------------------------------------------------ */

static void ledger_begin(const struct call *call)
{
    const struct template *template = call->parcel->template;

    ledger_reach(&load.ledger, call->first_trace + template->trace_count);
    for (uint32_t i = 0; i < template->span_count; i++) {
        const struct patch *patch = &template->patches[i];
        uint64_t trace = call->first_trace + patch->trace_delta;

        load.ledger.content[trace] += hash_bytes(call->parcel->bytes + patch->span_at, patch->span_len);
        ledger_sent(&load.ledger, trace, patch->index);
    }
}

static void ledger_settle(const struct call *call)
{
    const struct template *template = call->parcel->template;

    for (uint32_t i = 0; i < template->span_count; i++) {
        const struct patch *patch = &template->patches[i];

        ledger_acknowledged(&load.ledger, call->first_trace + patch->trace_delta, patch->index);
    }
}

/* -- calls that wait for their next attempt: a heap by due_ns ---------------------------------------------- */

static void waiting_push(struct call *call)
{
    uint64_t at = load.waiting_count++;

    if (load.waiting_count > load.waiting_capacity) {
        load.waiting_capacity = load.waiting_capacity * 2 + 256;
        load.waiting = realloc(load.waiting, load.waiting_capacity * sizeof(*load.waiting));
        ASSERT(load.waiting);
    }
    while (at > 0 && load.waiting[(at - 1) / 2]->due_ns > call->due_ns) {
        load.waiting[at] = load.waiting[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    load.waiting[at] = call;
}

static struct call *waiting_pop(void)
{
    struct call *first = load.waiting[0], *last = load.waiting[--load.waiting_count];
    uint64_t at = 0;

    for (;;) {
        uint64_t child = at * 2 + 1;

        if (child >= load.waiting_count)
            break;
        if (child + 1 < load.waiting_count && load.waiting[child + 1]->due_ns < load.waiting[child]->due_ns)
            child++;
        if (load.waiting[child]->due_ns >= last->due_ns)
            break;
        load.waiting[at] = load.waiting[child];
        at = child;
    }
    load.waiting[at] = last;
    return first;
}

/* -- sending --------------------------------------------------------------------------------------------- */

static bool has_room(void)
{
    return load.in_flight < load.in_flight_most;
}

/* New requests stand back while twice the room is taken: a far side that refuses must not fill our memory. */
static bool may_begin(void)
{
    return has_room() && load.in_flight + load.waiting_count < load.in_flight_most * 2;
}

static struct connection *connection_pick(void)
{
    for (;;) {
        struct connection *connection = &load.connections[load.connection_next];

        load.connection_next = (load.connection_next + 1) % load.connection_count;
        if (connection->in_flight < options.in_flight)
            return connection;
    }
}

/* One attempt. There is room. */
static void call_start(struct call *call, uint64_t now_ns)
{
    struct parcel *parcel = call->parcel;
    grpc_op ops[6];
    grpc_slice slice;
    grpc_byte_buffer *message;
    grpc_call_error error;

    call->connection = connection_pick();
    call->connection->in_flight++;
    load.in_flight++;
    call->attempts++;
    load.totals.attempts++;
    call->call = grpc_channel_create_registered_call(call->connection->channel, NULL, GRPC_PROPAGATE_DEFAULTS, load.queue,
        call->connection->method, transport_deadline(now_ns + options.deadline_ms * NS_PER_MS), NULL);
    grpc_metadata_array_init(&call->initial);
    grpc_metadata_array_init(&call->trailing);
    call->response = NULL;
    call->flying_next = load.flying;
    call->flying_at = &load.flying;
    if (load.flying)
        load.flying->flying_at = &call->flying_next;
    load.flying = call;

    atomic_fetch_add_explicit(&parcel->refs, 1, memory_order_relaxed);
    slice = grpc_slice_new_with_user_data(parcel->bytes, parcel->template->len, parcel_drop_by_grpc, parcel);
    message = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    memset(ops, 0, sizeof(ops));
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = message;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &call->initial;
    ops[4].op = GRPC_OP_RECV_MESSAGE;
    ops[4].data.recv_message.recv_message = &call->response;
    ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[5].data.recv_status_on_client.trailing_metadata = &call->trailing;
    ops[5].data.recv_status_on_client.status = &call->status;
    ops[5].data.recv_status_on_client.status_details = &call->details;
    error = grpc_call_start_batch(call->call, ops, 6, call, NULL);
    ASSERT(error == GRPC_CALL_OK);
    grpc_byte_buffer_destroy(message);
}

static void begin_request(struct lane *lane, uint64_t planned_ns, uint64_t now_ns)
{
    struct call *call = load.free_calls;
    struct parcel_list *home = &lane->phases[lane->next_cell % lane->spans], tail = {0};
    uint64_t left = load.trace_limit * lane->spans - lane->next_cell, t0, t1;
    const struct template *template;

    if (call)
        load.free_calls = call->next_free;
    else
        call = malloc(sizeof(*call));
    ASSERT(call);
    if (left < options.spans_per_request) { /* the lane's last request is shorter */
        struct parcel_list *kept = malloc(sizeof(*kept));

        ASSERT(kept);
        tail.template = template_new(&load.model, home->template->lane, home->template->phase, (uint32_t)left,
            (uint32_t)options.span_bytes);
        *kept = tail;
        home = kept;
    }
    template = home->template;
    t0 = clock_now_ns();
    *call = (struct call){.planned_ns = planned_ns, .first_trace = lane->next_cell / lane->spans, .parcel = parcel_get(home)};
    for (uint32_t i = 0; i < template->trace_count; i++)
        load.traces[i] = model_trace(&load.model, call->first_trace + i);
    template_fill(template, load.traces, call->parcel->bytes);
    t1 = clock_now_ns();
    load.totals.generate_ns += t1 - t0;
    lane->next_cell += template->span_count;
    if (load.keeps_ledger)
        ledger_begin(call);
    load.totals.requests++;
    load.totals.spans_begun += template->span_count;
    load.totals.request_bytes += template->len;
    histogram_add(&load.send_lag, u64_sub_floor(now_ns, planned_ns));
    call_start(call, now_ns);
}

/* -- answers ---------------------------------------------------------------------------------------------- */

static bool is_retryable(grpc_status_code status, bool has_retry_info)
{
    return status == GRPC_STATUS_CANCELLED || status == GRPC_STATUS_DEADLINE_EXCEEDED || status == GRPC_STATUS_ABORTED ||
           status == GRPC_STATUS_OUT_OF_RANGE || status == GRPC_STATUS_UNAVAILABLE || status == GRPC_STATUS_DATA_LOSS ||
           (status == GRPC_STATUS_RESOURCE_EXHAUSTED && has_retry_info);
}

static void call_finish(struct call *call)
{
    parcel_drop(call->parcel);
    call->next_free = load.free_calls;
    load.free_calls = call;
}

static void on_acknowledged(struct call *call, uint64_t rejected, uint64_t now_ns)
{
    struct totals *totals = &load.totals;
    uint32_t spans = call->parcel->template->span_count;

    load.last_answer_ns = now_ns;
    if (call->resend) {
        totals->resends_acknowledged++;
        call_finish(call);
        return;
    }
    totals->requests_acknowledged++;
    totals->spans_rejected += rejected;
    totals->spans_acknowledged += spans - u64_min(rejected, spans);
    histogram_add(&load.latency, u64_sub_floor(now_ns, call->planned_ns));
    histogram_add(&load.second_latency, u64_sub_floor(now_ns, call->planned_ns));
    /* Which spans were rejected is not said: all of the request stay unknown. */
    if (load.keeps_ledger && rejected == 0)
        ledger_settle(call);
    if (!draw_percent(options.resend_percent)) {
        call_finish(call);
        return;
    }
    totals->resends++;
    call->resend = true;
    call->due_ns = now_ns + options.resend_delay_ms * NS_PER_MS;
    waiting_push(call);
}

static void on_refused(struct call *call, bool has_retry_info, uint64_t asked_ns, uint64_t now_ns)
{
    uint64_t backoff = BACKOFF_FIRST_NS << (call->attempts < 7 ? call->attempts - 1 : 6);

    backoff = u64_min(backoff, BACKOFF_MOST_NS);
    backoff = backoff / 2 + draw() % (backoff + 1);
    call->due_ns = now_ns + u64_max(backoff, asked_ns);
    if (call->resend) { /* its spans are acknowledged already */
        call_finish(call);
        return;
    }
    if (!is_retryable(call->status, has_retry_info) ||
        call->due_ns > call->planned_ns + options.retry_seconds * NS_PER_S) {
        load.totals.requests_failed++;
        load.totals.spans_failed += call->parcel->template->span_count;
        call_finish(call);
        return;
    }
    load.totals.retries++;
    waiting_push(call);
}

static void on_completion(struct call *call)
{
    static uint8_t *scratch;
    static size_t scratch_size;
    uint64_t now_ns = clock_now_ns(), asked_ns = 0, rejected = 0;
    bool has_retry_info = false;

    call->connection->in_flight--;
    load.in_flight--;
    *call->flying_at = call->flying_next;
    if (call->flying_next)
        call->flying_next->flying_at = call->flying_at;
    load.totals.by_status[call->status > 16 ? 2 : call->status]++;
    if (call->status == GRPC_STATUS_OK && call->response && grpc_byte_buffer_length(call->response) > 0) {
        struct message message = message_open(call->response, &scratch, &scratch_size);

        rejected = partial_success_read(message.bytes);
        message_close(&message);
    }
    if (call->status != GRPC_STATUS_OK)
        has_retry_info = retry_info_read(&call->trailing, &asked_ns);
    grpc_byte_buffer_destroy(call->response);
    grpc_metadata_array_destroy(&call->initial);
    grpc_metadata_array_destroy(&call->trailing);
    grpc_slice_unref(call->details);
    grpc_call_unref(call->call);
    if (call->status == GRPC_STATUS_OK)
        on_acknowledged(call, rejected, now_ns);
    else
        on_refused(call, has_retry_info, asked_ns, now_ns);
}

/* Waits until deadline_ns for the first answer, then takes what is there. */
static void pump(uint64_t deadline_ns)
{
    gpr_timespec deadline = transport_deadline(deadline_ns);

    for (unsigned i = 0; i < 64; i++) {
        grpc_event event = grpc_completion_queue_next(load.queue, deadline, NULL);

        if (event.type != GRPC_OP_COMPLETE)
            return;
        on_completion(event.tag);
        deadline = gpr_inf_past(GPR_CLOCK_MONOTONIC);
    }
}

/* -- the run ---------------------------------------------------------------------------------------------- */

static void connect_all(void)
{
    uint64_t until_ns = clock_now_ns() + CONNECT_NS;

    load.connection_count = options.endpoints.count * options.connections;
    load.connections = calloc(load.connection_count, sizeof(*load.connections));
    ASSERT(load.connections);
    for (uint64_t i = 0; i < load.connection_count; i++) {
        char target[256];
        grpc_channel_credentials *credentials = grpc_insecure_credentials_create();

        transport_target(options.endpoints.items[i % options.endpoints.count], target);
        load.connections[i].channel = grpc_channel_create(target, credentials, transport_channel_args());
        load.connections[i].method = grpc_channel_register_call(load.connections[i].channel, EXPORT_METHOD, NULL, NULL);
        grpc_channel_credentials_release(credentials);
    }
    for (uint64_t i = 0; i < load.connection_count; i++) {
        while (grpc_channel_check_connectivity_state(load.connections[i].channel, 1) != GRPC_CHANNEL_READY) {
            if (clock_now_ns() > until_ns || stop_signals) {
                fprintf(stderr, "tailrace-load: %s: not connected yet, going on\n",
                    options.endpoints.items[i % options.endpoints.count]);
                return;
            }
            pump(clock_now_ns() + 5 * NS_PER_MS);
        }
    }
}

/* No new traces: those begun are completed. */
static void close_intake(void)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < load.model.services; i++)
        most = u64_max(most, (load.lanes[i].next_cell + load.lanes[i].spans - 1) / load.lanes[i].spans);
    load.trace_limit = u64_min(load.trace_limit, most);
}

static void progress(uint64_t now_ns)
{
    static uint64_t last_ns, last_acknowledged;
    double seconds = (double)(now_ns - (last_ns ? last_ns : load.started_ns)) / 1e9;
    const struct totals *totals = &load.totals;

    fprintf(stderr,
        "t=%.0fs sent_spans=%" PRIu64 " acknowledged_spans=%" PRIu64 " spans_per_s=%.0f in_flight=%" PRIu64
        " waiting=%" PRIu64 " retries=%" PRIu64 " failed_spans=%" PRIu64 " p50_ms=%.2f p99_ms=%.2f\n",
        (double)(now_ns - load.started_ns) / 1e9, totals->spans_begun, totals->spans_acknowledged,
        (double)(totals->spans_acknowledged - last_acknowledged) / seconds, load.in_flight, load.waiting_count,
        totals->retries, totals->spans_failed, (double)histogram_quantile(&load.second_latency, 0.5) / 1e6,
        (double)histogram_quantile(&load.second_latency, 0.99) / 1e6);
    memset(&load.second_latency, 0, sizeof(load.second_latency));
    last_ns = now_ns;
    last_acknowledged = totals->spans_acknowledged;
}

/* Starts what is due; returns when it next wants to. */
static uint64_t send_due(uint64_t now_ns, uint64_t *planned_requests)
{
    double request_ns = options.rate > 0 ? 1e9 * (double)options.spans_per_request / options.rate : 0;

    while (load.waiting_count && load.waiting[0]->due_ns <= now_ns && has_room())
        call_start(waiting_pop(), now_ns);
    while (may_begin()) {
        uint64_t planned_ns = now_ns;
        struct lane *lane;

        if (options.rate > 0) {
            planned_ns = load.started_ns + (uint64_t)((double)*planned_requests * request_ns);
            if (planned_ns > now_ns)
                return load.waiting_count && has_room() ? u64_min(planned_ns, load.waiting[0]->due_ns) : planned_ns;
        }
        lane = lane_pick();
        if (!lane)
            break;
        begin_request(lane, planned_ns, now_ns);
        ++*planned_requests;
    }
    return load.waiting_count && has_room() ? load.waiting[0]->due_ns : UINT64_MAX;
}

static void run(void)
{
    uint64_t tick_ns, planned_requests = 0, intake_end_ns = UINT64_MAX, drain_end_ns = UINT64_MAX, tick_requests = 0;
    bool intake_open = true;

    load.started_ns = load.last_answer_ns = clock_now_ns();
    tick_ns = load.started_ns + NS_PER_S;
    if (options.seconds > 0)
        intake_end_ns = load.started_ns + (uint64_t)(options.seconds * 1e9);
    for (;;) {
        uint64_t now_ns = clock_now_ns(), next_ns;

        if (intake_open && (now_ns >= intake_end_ns || stop_signals)) {
            close_intake();
            intake_open = false;
        }
        next_ns = send_due(now_ns, &planned_requests);
        if (!intake_open || !lane_pick()) {
            if (load.in_flight + load.waiting_count == 0 && !lane_pick())
                return;
            if (drain_end_ns == UINT64_MAX)
                drain_end_ns = now_ns + options.drain_seconds * NS_PER_S;
            if (now_ns > drain_end_ns)
                break;
        }
        if (stop_signals > 1)
            break;
        if (now_ns >= tick_ns) {
            if (!options.quiet)
                progress(now_ns);
            if (options.rate <= 0) /* the lanes' distance follows the speed reached */
                load.traces_a_second = load.traces_a_second / 2 +
                    (double)((planned_requests - tick_requests) * options.spans_per_request) / load.model.spans_per_trace / 2;
            tick_requests = planned_requests;
            tick_ns += NS_PER_S;
        }
        pump(u64_min(next_ns, tick_ns));
    }
    /* Time is up: what is still out stays unknown. */
    for (struct call *call = load.flying; call; call = call->flying_next)
        (void)grpc_call_cancel(call->call, NULL);
    options.retry_seconds = 0;
    options.resend_percent = 0;
    while (load.in_flight)
        pump(clock_now_ns() + NS_PER_S);
    while (load.waiting_count) {
        struct call *call = waiting_pop();

        if (!call->resend) {
            load.totals.requests_failed++;
            load.totals.spans_failed += call->parcel->template->span_count;
        }
        call_finish(call);
    }
}

static void summary(FILE *out)
{
    const struct totals *t = &load.totals;
    double seconds = (double)(load.last_answer_ns - load.started_ns) / 1e9;
    struct rusage usage;
    double cpu;

    (void)getrusage(RUSAGE_SELF, &usage);
    cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
          (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    fprintf(out, "{\"spans_sent\": %" PRIu64 ", \"spans_acknowledged\": %" PRIu64 ", \"spans_failed\": %" PRIu64
        ", \"spans_rejected\": %" PRIu64 ", \"traces\": %" PRIu64 ",\n", t->spans_begun, t->spans_acknowledged,
        t->spans_failed, t->spans_rejected, load.trace_limit);
    fprintf(out, " \"requests\": %" PRIu64 ", \"requests_acknowledged\": %" PRIu64 ", \"requests_failed\": %" PRIu64
        ", \"attempts\": %" PRIu64 ", \"retries\": %" PRIu64 ", \"resends\": %" PRIu64 ", \"resends_acknowledged\": %" PRIu64
        ",\n \"by_status\": {", t->requests, t->requests_acknowledged, t->requests_failed, t->attempts, t->retries,
        t->resends, t->resends_acknowledged);
    for (unsigned i = 0, shown = 0; i < ARRAY_COUNT(t->by_status); i++) {
        if (t->by_status[i])
            fprintf(out, "%s\"%u\": %" PRIu64, shown++ ? ", " : "", i, t->by_status[i]);
    }
    fprintf(out, "},\n \"request_bytes\": %" PRIu64 ", \"bytes_per_span\": %.1f, \"seconds\": %.3f, "
        "\"spans_per_second\": %.0f,\n", t->request_bytes,
        t->spans_begun ? (double)t->request_bytes / (double)t->spans_begun : 0, seconds,
        seconds > 0 ? (double)t->spans_acknowledged / seconds : 0);
    fprintf(out, " \"ack_ms\": {\"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"max\": %.3f}, \"send_lag_p99_ms\": %.3f,\n",
        (double)histogram_quantile(&load.latency, 0.5) / 1e6, (double)histogram_quantile(&load.latency, 0.9) / 1e6,
        (double)histogram_quantile(&load.latency, 0.99) / 1e6, (double)load.latency.most / 1e6,
        (double)histogram_quantile(&load.send_lag, 0.99) / 1e6);
    fprintf(out, " \"cpu_seconds\": %.3f, \"cpu_ns_per_span\": %.1f, \"generate_ns_per_span\": %.1f}\n", cpu,
        t->spans_begun ? cpu * 1e9 / (double)t->spans_begun : 0,
        t->spans_begun ? (double)t->generate_ns / (double)t->spans_begun : 0);
}

static void check_options(void)
{
    const char *wrong = NULL;

    if (options.endpoints.count == 0)
        wrong = "--endpoint is missing";
    else if (options.spans_per_trace == 0 || options.spans_per_trace > MODEL_SPANS_MOST)
        wrong = "--spans-per-trace: 1 to 1024";
    else if (options.services == 0 || options.services > options.spans_per_trace || options.services > 256)
        wrong = "--services: 1 to 256, at most --spans-per-trace";
    else if (options.spans_per_request == 0 || options.spans_per_request > 100000)
        wrong = "--spans-per-request: 1 to 100000";
    else if (options.span_bytes < 100 || options.span_bytes > 1 << 20)
        wrong = "--span-bytes: 100 to 1048576";
    else if (options.connections == 0 || options.in_flight == 0 || options.connections > 1024)
        wrong = "--connections and --in-flight: at least 1";
    else if (options.seconds <= 0 && options.traces == 0)
        wrong = "say --seconds or --traces";
    if (wrong) {
        fprintf(stderr, "tailrace-load: %s (try --help)\n", wrong);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    FILE *out = stdout;
    int r = 0;

    options_parse(argc, argv, "sends realistic traces over OTLP/gRPC and keeps the ledger", option_table, NULL);
    check_options();
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);
    transport_init();

    load.model = (struct model){.seed = options.seed, .spans_per_trace = (uint32_t)options.spans_per_trace,
        .services = (uint32_t)options.services, .error_percent = options.error_percent,
        .slow_percent = options.slow_percent, .slow_ms = options.slow_ms, .base_unix_ns = clock_now_unix_ns(),
        .step_ns = FULL_SPEED_STEP_NS};
    if (options.rate > 0) {
        load.traces_a_second = options.rate / (double)options.spans_per_trace;
        load.model.step_ns = (uint64_t)(1e9 / load.traces_a_second);
    }
    load.random = options.seed;
    load.trace_limit = options.traces ? options.traces : UINT64_MAX >> 16;
    load.in_flight_most = options.endpoints.count * options.connections * options.in_flight;
    load.keeps_ledger = options.ledger != NULL;
    ledger_init(&load.ledger, &load.model);
    lanes_init();
    load.queue = grpc_completion_queue_create_for_next(NULL);
    connect_all();
    run();

    if (options.ledger) {
        r = ledger_write(&load.ledger, options.ledger);
        if (r)
            fprintf(stderr, "tailrace-load: %s: %s\n", options.ledger, strerror(-r));
    }
    if (options.summary)
        out = fopen(options.summary, "w");
    if (!out) {
        fprintf(stderr, "tailrace-load: %s: %s\n", options.summary, strerror(errno));
        return 2;
    }
    summary(out);
    if (fclose(out) != 0 || r)
        return 2;
    /* Parcels, templates and channels end with the process: nothing here is worth the time of undoing. */
    return load.totals.spans_failed + load.totals.spans_rejected ? 1 : 0;
}
