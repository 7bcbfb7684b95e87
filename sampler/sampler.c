/* The back tier on one screen: sampler_on_request is the way in, trace_decide the middle, the unit_* callbacks the way out.
 *
 * Threads. A worker owns the traces that hash to it. The one that received a request walks it, computes each span's facts and
 * sends one message per other owner (one reference to the request's buffer, the facts beside it): pushed is taken, an
 * owner cannot refuse. Without a journal the answer needs to wait for nobody.
 */
#include "sampler/sampler.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/log.h"
#include "common/base/num.h"
#include "common/run/clock.h"
#include "common/security/security.h"
#include "sampler/export/survivors.h"
#include "sampler/sampler_worker.h"

#define DUE_PER_TURN 128u      /* decided each turn at the least: some 5 us each, cold; requests wait behind a turn */
#define EARLY_PER_TURN 128u
#define FINISH_PER_TURN 4096u
#define IDLE_TURN_NS NS_PER_S  /* records run out while nothing arrives */
#define TEND_PERIOD_NS (100 * NS_PER_MS)
#define READY_EXTENTS 4u       /* populated ahead of need, per worker */
#define RECORD_SHARE 20u       /* records may take a twentieth of the memory limit (verdict_memory) … */
#define HASH_SHARE 20u         /* … and so may hashes of exported spans */
#define BIG_TRACE_SHARE 20u
#define HASH_SCRATCH_KEEP (512u * 1024u) /* hashes */
#define TRACE_BYTES_MOST 1024u /* of a trace beside its spans' bytes: its block, a record, a table slot, what is left over */
#define PREFETCH_SLOT 8u
#define PREFETCH_TRACE 4u

static void book(struct sampler_worker *home, enum book which, uint64_t spans)
{
    home->books[which] += spans;
}

static void count(struct sampler_worker *home, enum metric_id id, uint64_t by)
{
    metric_add(home->worker.metrics, id, by);
}

/* -- decide --------------------------------------------------------------------------------------------------- */

static void record_keep(struct sampler_worker *home, struct trace *trace, const struct trace_info *info,
    struct decision_record *record, uint64_t now_ns)
{
    size_t hash_count = 0;

    if (record->decision == DECISION_SAMPLED) {
        if (info->span_count > home->hash_capacity) {
            home->hash_capacity = size_max(info->span_count, home->hash_capacity * 2);
            home->hash_scratch = realloc(home->hash_scratch, home->hash_capacity * sizeof(uint64_t));
            ASSERT(home->hash_scratch != NULL);
        }
        trace_hashes(trace, home->hash_scratch);
        hash_count = info->span_count;
    }
    record->generation = (uint32_t)policy_set_generation(trace_policy_set(trace));
    record->span_count = info->span_count;
    record->decided_ns = now_ns;
    decision_cache_put(home->cache, &info->id, hash_trace(&info->id), record, home->hash_scratch, hash_count, now_ns);
    if (home->hash_capacity > HASH_SCRATCH_KEEP) { /* one huge trace must not cost it for ever */
        free(home->hash_scratch);
        home->hash_scratch = NULL;
        home->hash_capacity = 0;
    }
}

/* The span that set the credited policy's bit first, where it is still known. */
static void record_evidence(const struct facts *facts, uint32_t bit, struct decision_record *record)
{
    record->evidence_bit = bit < UINT16_MAX ? (uint16_t)bit : UINT16_MAX;
    for (uint16_t i = 0; i < facts->evidence_count; i++) {
        if (facts->evidence[i].bit == bit) {
            record->evidence_span_id = facts->evidence[i].span_id;
            return;
        }
    }
}

static struct verdict_input verdict_input(const struct trace_id *id, struct trace *trace, uint64_t now_ns)
{
    return (struct verdict_input){
        .trace_id = id,
        .facts = trace_facts(trace),
        .now_ns = now_ns,
        .now_unix_ns = policy_set_needs(trace_policy_set(trace))->wall_clock ? clock_now_unix_ns() : 0,
    };
}

static const char *policy_name(const struct policy_set *set, uint16_t policy)
{
    return policy == UINT16_MAX ? NULL : policy_set_name(set, policy);
}

static void trace_settle(struct sampler_worker *home, struct trace *trace, struct decided decided, uint64_t now_ns)
{
    const struct trace_info info = trace_info(trace);
    const struct facts *facts = trace_facts(trace);
    struct decision_record record = {.decision = decided.decision,
        .policy = decided.policy,
        .threshold = decided.decision == DECISION_SAMPLED && home->sampler->config.use_tracestate ? decided.threshold : 0};
    const struct sampling_note note = {.policy = policy_name(trace_policy_set(trace), decided.policy),
        .inner_policy = decided.inner_policy,
        .threshold = decided.threshold};

    home->votes_changed = true;
    if (decided.policy != UINT16_MAX)
        home->credits[decided.policy]++;
    count(home, METRIC_POLICY_ERRORS, decided.error_count);
    record_evidence(facts, decided.evidence_bit, &record);
    record_keep(home, trace, &info, &record, now_ns);
    trace_table_take(home->traces, trace);
    if (decided.decision == DECISION_SAMPLED) {
        count(home, METRIC_DECIDED_SAMPLED, 1);
        survivors_take(home, trace, &note, now_ns);
    } else {
        count(home, decided.decision == DECISION_DROPPED ? METRIC_DECIDED_DROPPED : METRIC_DECIDED_NOT_SAMPLED, 1);
        book(home, BOOK_DROPPED_NOT_SAMPLED, info.span_count);
        trace_free(home->traces, trace);
    }
}

/* Its time has come, or its place is needed. */
static void trace_decide(struct sampler_worker *home, struct trace *trace, uint64_t now_ns)
{
    const struct verdict_input input = verdict_input(trace_id_of(trace), trace, now_ns);

    trace_settle(home, trace, policy_set_decide_counted(trace_policy_set(trace), &input, home->votes), now_ns);
}

/* With `sampling_strategy: span-ingest` or tailrace.early_keep: at once, when nothing that may still come can change it. */
static bool trace_decide_early(struct sampler_worker *home, struct trace *trace, uint64_t now_ns)
{
    const struct verdict_input input = verdict_input(trace_id_of(trace), trace, now_ns);
    struct decided decided;

    if (!policy_set_decide_early(trace_policy_set(trace), &input, home->votes, &decided))
        return false;
    trace_settle(home, trace, decided, now_ns);
    return true;
}

/* Over maximum_trace_size_bytes: not sampled at once, whatever the policies would say. */
static void trace_refuse_size(struct sampler_worker *home, struct trace *trace, uint64_t now_ns)
{
    const struct trace_info info = trace_info(trace);
    struct decision_record record = {.decision = DECISION_NOT_SAMPLED, .policy = UINT16_MAX, .evidence_bit = UINT16_MAX,
        .too_large = true};

    count(home, METRIC_TRACES_TOO_LARGE, 1);
    record_keep(home, trace, &info, &record, now_ns);
    book(home, BOOK_DROPPED_TOO_LARGE, info.span_count);
    trace_table_take(home->traces, trace);
    trace_free(home->traces, trace);
}

/* -- in: spans into their traces ---------------------------------------------------------------------------- */

/* The distinct headers of a trace, counted exactly. */
struct sizing {
    const struct header **seen; /* open addressing */
    size_t capacity;
    uint64_t bytes;
};

static int sizing_span(void *context, struct header *header, struct rope bytes)
{
    struct sizing *sizing = context;
    size_t i = hash_bytes(&header, sizeof(header)) & (sizing->capacity - 1);

    (void)bytes;
    while (sizing->seen[i] && sizing->seen[i] != header)
        i = (i + 1) & (sizing->capacity - 1);
    if (!sizing->seen[i]) {
        sizing->seen[i] = header;
        sizing->bytes += header->bytes_len;
    }
    return 0;
}

static uint64_t distinct_header_bytes(const struct trace *trace, uint32_t spans_count)
{
    struct sizing sizing = {.capacity = 64};

    while (sizing.capacity < 2 * (size_t)spans_count)
        sizing.capacity *= 2;
    sizing.seen = calloc(sizing.capacity, sizeof(sizing.seen[0]));
    ASSERT(sizing.seen != NULL);
    (void)trace_spans(trace, sizing_span, &sizing);
    free(sizing.seen);
    return sizing.bytes;
}

/* Trace size = span bytes + each distinct header once (design.md section 7: differs from the Collector, whose sum depends on
 * how spans came in requests). facts->header_bytes_most counts a header again when others came in between; only when that could
 * make the difference is it counted exactly. */
static bool trace_is_too_large(const struct sampler_worker *home, const struct trace *trace, struct facts *facts, struct header *header,
    uint64_t id_hash)
{
    uint64_t most = home->sampler->config.tail_sampling.maximum_trace_size_bytes;

    if (LIKELY(most == 0))
        return false;
    id_hash ^= trace_info(trace).first_ns * 0x9e3779b97f4a7c15ull; /* an ID may come again after its record was forgotten */
    if (facts->spans_count == 1 || header->last_trace_hash != id_hash)
        facts->header_bytes_most = (uint32_t)u64_min((uint64_t)facts->header_bytes_most + header->bytes_len, UINT32_MAX);
    header->last_trace_hash = id_hash;
    if (facts->bytes + facts->header_bytes_most <= most)
        return false;
    facts->header_bytes_most = (uint32_t)u64_min(distinct_header_bytes(trace, facts->spans_count), UINT32_MAX);
    return facts->bytes + facts->header_bytes_most > most;
}

static struct trace *trace_begin(struct sampler_worker *home, const struct intake_span *span, uint64_t now_ns)
{
    const struct tail_sampling_config *config = &home->sampler->config.tail_sampling;
    uint64_t share = config->num_traces / home->sampler->worker_count;
    struct trace *trace;

    if (config->num_traces_set && !config->block_on_overflow && trace_table_count(home->traces) >= u64_max(share, 1)) {
        /* The Collector throws the oldest away undecided; it is decided here, early (docs/compatibility.md). */
        count(home, METRIC_EVICTED_NUM_TRACES, 1);
        trace_decide(home, trace_table_oldest(home->traces), now_ns);
    }
    trace = trace_table_add(home->traces, &span->id, span->id_hash, home->set, now_ns,
        now_ns + (uint64_t)(config->decision_wait_ns > 0 ? config->decision_wait_ns : 0));
    ASSERT(trace != NULL); /* admitted: budget.h keeps room */
    count(home, METRIC_NEW_TRACES, 1);
    home->begun++;
    return trace;
}

/* A span of a trace that was decided: it follows the decision. */
static void span_late(struct sampler_worker *home, const struct intake_span *span, struct header *header,
    const struct decision_record *record, uint64_t now_ns)
{
    const struct sampling_note note = {
        .policy = record->cached && record->generation == policy_set_generation(home->set) ? policy_name(home->set, record->policy) : NULL,
        .cached = record->cached,
        .threshold = record->threshold};
    struct trace *trace;

    if (record->decision != DECISION_SAMPLED) {
        count(home, METRIC_LATE_NOT_SAMPLED_SPANS, 1);
        book(home, record->too_large ? BOOK_DROPPED_TOO_LARGE : BOOK_DROPPED_LATE, 1);
        return;
    }
    if (decision_cache_seen(home->cache, &span->id, span->id_hash, span->span_hash, now_ns)) {
        book(home, BOOK_DUPLICATE, 1);
        return;
    }
    count(home, METRIC_LATE_SAMPLED_SPANS, 1);
    trace = trace_new_apart(home->traces, &span->id, now_ns);
    ASSERT(trace != NULL);
    ASSERT(trace_add_span(home->traces, trace, span->bytes, span->span_hash, header) == TRACE_SPAN_ADDED);
    survivors_take(home, trace, &note, now_ns);
}

static void span_take(struct sampler_worker *home, const struct intake_span *span, struct header *header, uint64_t now_ns)
{
    const struct tail_sampling_config *config = &home->sampler->config.tail_sampling;
    struct trace *trace = trace_table_find(home->traces, &span->id, span->id_hash);
    struct decision_record record;
    struct facts *facts;

    book(home, BOOK_RECEIVED, 1);
    if (!trace) {
        if (decision_cache_find(home->cache, &span->id, span->id_hash, true, now_ns, &record)) {
            span_late(home, span, header, &record, now_ns);
            return;
        }
        trace = trace_begin(home, span, now_ns);
    }
    switch (trace_add_span(home->traces, trace, span->bytes, span->span_hash, header)) {
    case TRACE_SPAN_ADDED:
        break;
    case TRACE_SPAN_DUPLICATE:
        book(home, BOOK_DUPLICATE, 1);
        return;
    case TRACE_SPAN_NO_MEMORY:
        UNREACHABLE("there is memory for what was admitted");
    }
    facts = trace_facts(trace);
    facts_fold(facts, &span->facts, &header->hits, (uint32_t)span->bytes.len);
    if (UNLIKELY(policy_set_needs(trace_policy_set(trace))->cost))
        trace_add_cost(home->traces, trace, header, span->bytes);
    if (span->facts.is_root && config->decision_wait_after_root_received_ns > 0)
        trace_hasten(home->traces, trace, now_ns + (uint64_t)config->decision_wait_after_root_received_ns);
    if (UNLIKELY(trace_is_too_large(home, trace, facts, header, span->id_hash)))
        trace_refuse_size(home, trace, now_ns);
    else if (UNLIKELY(home->sampler->decides_early) && trace_decide_early(home, trace, now_ns))
        return; /* its further spans follow the decision, as of any that is decided */
    else if (UNLIKELY(facts->bytes > home->sampler->big_trace_bytes))
        trace_decide(home, trace, now_ns); /* its further spans follow the decision: streamed */
}

/* -- between workers ------------------------------------------------------------------------------------------- */

/* Spans of one request for one owner, in one piece of memory. */
struct intake_mail {
    struct mail mail;
    struct sampler *sampler;
    struct buffer *bytes; /* what spans and headers borrow from */
    size_t span_count, header_count;
    struct intake_span *spans;
    struct span_header *headers;
    const struct metadata_set *metadata; /* a reference */
    uint64_t counted_bytes; /* in admission */
};

static void owner_on_spans(struct mail *mail, void *receiver)
{
    struct intake_mail *news = container_of(mail, struct intake_mail, mail);
    struct sampler_worker *home = container_of((struct worker *)receiver, struct sampler_worker, worker);
    const struct predicates *predicates = policy_set_predicates(home->set);
    uint64_t generation = policy_set_generation(home->set);
    uint32_t last = UINT32_MAX;
    struct header *header = NULL;

    for (size_t i = 0; i < news->span_count; i++) {
        struct intake_span *span = &news->spans[i];

        if (span->header != last) {
            if (header)
                header_unref(home->headers, header, 1);
            header = header_table_get(home->headers, &news->headers[span->header], news->metadata);
            ASSERT(header != NULL);
            if (header->hits_generation != generation) {
                (void)predicates_header(predicates, home->scratch, &header->view, &header->hits);
                header->hits_generation = generation;
            }
            last = span->header;
        }
        span_take(home, span, header, home->worker.now_ns);
    }
    if (header)
        header_unref(home->headers, header, 1);
    admission_give(&news->sampler->admission, news->counted_bytes);
    buffer_unref(news->bytes);
    metadata_set_unref(news->metadata);
    free(news);
}

static void spans_post(struct sampler_worker *from, struct sampler_worker *owner, struct buffer *bytes, size_t span_count)
{
    const struct intake *intake = &from->intake;
    size_t headers_bytes = intake->header_count * sizeof(struct span_header);
    struct intake_mail *news = malloc(sizeof(*news) + headers_bytes + span_count * sizeof(struct intake_span));
    size_t k = 0;

    ASSERT(news != NULL);
    news->mail.deliver = owner_on_spans;
    news->sampler = from->sampler;
    news->bytes = buffer_ref(bytes);
    news->metadata = metadata_set_ref(intake->metadata);
    news->span_count = span_count;
    news->header_count = intake->header_count;
    news->headers = (struct span_header *)(news + 1);
    news->spans = (struct intake_span *)(news->headers + intake->header_count);
    for (size_t i = 0; i < intake->header_count; i++)
        news->headers[i] = intake->headers[i].view;
    for (size_t i = 0; i < intake->span_count; i++) {
        if (sampler_owner(from->sampler, intake->spans[i].id_hash) == owner->worker.index)
            news->spans[k++] = intake->spans[i];
    }
    news->counted_bytes = bytes->len + sizeof(*news) + headers_bytes + span_count * sizeof(struct intake_span);
    (void)atomic_fetch_add_explicit(&from->sampler->admission.bytes, news->counted_bytes, memory_order_relaxed);
    worker_post(&owner->worker, &news->mail);
}

/* With several workers: what is mine I take, the rest goes to its owners. */
static void spans_share_out(struct sampler_worker *home, struct buffer *bytes, uint64_t now_ns)
{
    const struct intake *intake = &home->intake;
    uint32_t counts[WORKERS_MAX] = {0};

    for (size_t i = 0; i < intake->span_count; i++) {
        const struct intake_span *span = &intake->spans[i];
        unsigned owner = sampler_owner(home->sampler, span->id_hash);

        counts[owner]++;
        if (owner == home->worker.index)
            span_take(home, span, intake->headers[span->header].header, now_ns);
    }
    for (unsigned i = 0; i < home->sampler->worker_count; i++) {
        if (counts[i] > 0 && i != home->worker.index)
            spans_post(home, &home->sampler->workers[i], bytes, counts[i]);
    }
}

static void spans_take_all(struct sampler_worker *home, uint64_t now_ns)
{
    const struct intake *intake = &home->intake;

    for (size_t i = 0; i < intake->span_count; i++) {
        const struct intake_span *span = &intake->spans[i];

        if (i + PREFETCH_SLOT < intake->span_count)
            trace_table_prefetch(home->traces, intake->spans[i + PREFETCH_SLOT].id_hash);
        if (i + PREFETCH_TRACE < intake->span_count)
            trace_table_prefetch_trace(home->traces, intake->spans[i + PREFETCH_TRACE].id_hash);
        span_take(home, span, intake->headers[span->header].header, now_ns);
    }
}

/* -- one request through the back tier; runs on the worker that received it --------------------------------------- */

static void refuse(struct request *request, enum refusal refusal)
{
    request_refuse(request, refusal, refusal_status(refusal));
}

static void note_ring(struct sampler_worker *home, uint64_t ring)
{
    if (ring == 0 || ring == home->last_ring)
        return;
    if (home->last_ring != 0)
        count(home, METRIC_RING_DISAGREEMENTS, 1);
    home->last_ring = ring;
}

/* Conditions whose error_mode is `ignore` have their errors logged: one a period, and how many requests had some. */
static void ottl_errors_log(struct sampler_worker *home)
{
    struct ottl_noted_error error;
    uint64_t suppressed;

    if (LIKELY(!predicates_take_error(home->scratch, &error)) || !log_limit_pass(&home->ottl_log, home->worker.now_ns, &suppressed))
        return;
    log_event(LOG_WARN, "ottl_condition_failed", "policy=\"%s\" condition=\"%s\" error=\"%s\" suppressed=%llu", error.policy,
        error.condition, error.text, (unsigned long long)suppressed);
}

/* The rung was looked at before the walk; what one large request of small spans needs is known only now: at worst a trace of its own
 * for each span. */
static bool intake_fits(struct sampler_worker *home, size_t request_bytes)
{
    uint64_t under_way = atomic_load_explicit(&home->sampler->admission.bytes, memory_order_relaxed);

    return under_way + request_bytes + home->intake.span_count * TRACE_BYTES_MOST < budget_room(&home->sampler->budget);
}

/* With block_on_overflow: no more is taken in while there are num_traces. The number is that of the turns before, so that
 * what comes within a turn goes beyond it. */
static bool overflows(const struct sampler *sampler)
{
    const struct tail_sampling_config *config = &sampler->config.tail_sampling;

    if (LIKELY(!config->block_on_overflow) || !config->num_traces_set)
        return false;
    return metrics_sum(&sampler->metrics, METRIC_TRACES_HELD) >= u64_max(config->num_traces, 1);
}

static void sampler_on_request(void *tier, struct request *request)
{
    struct sampler *sampler = tier;
    struct sampler_worker *home = &sampler->workers[request->worker->index];
    struct intake *intake = &home->intake;
    struct buffer *held = NULL;
    struct slice bytes = request->bytes;

    note_ring(home, request->peer_ring);
    if (overflows(sampler) || budget_rung(&sampler->budget) == RUNG_REFUSE) { /* sampler/buffer: the ladder's last rung */
        refuse(request, REFUSED_MEMORY);
        return;
    }
    if (sampler->worker_count > 1) {
        if (!admission_take(&sampler->admission, bytes.len)) {
            refuse(request, REFUSED_MEMORY);
            return;
        }
        held = request_hold(request); /* spans go to their owners by reference */
        if (!held) {
            admission_give(&sampler->admission, bytes.len);
            refuse(request, REFUSED_MEMORY);
            return;
        }
        bytes = buffer_slice(held);
    }
    if (!intake_read(intake, bytes, request->metadata, home->set, home->scratch, home->headers)) { /* walk and facts; nothing stored yet */
        refuse(request, REFUSED_MALFORMED);
    } else if (!intake_fits(home, bytes.len)) {
        refuse(request, REFUSED_MEMORY);
    } else {
        ottl_errors_log(home);
        count(home, request->transport->accepted_spans, intake->span_count);
        count(home, METRIC_REJECTED_NO_TRACE_ID, intake->fault_counts[SPAN_NO_TRACE_ID]);
        count(home, METRIC_REJECTED_NO_SPAN_ID, intake->fault_counts[SPAN_NO_SPAN_ID]);
        count(home, METRIC_REJECTED_MALFORMED, intake->fault_counts[SPAN_MALFORMED]);
        if (held)
            spans_share_out(home, held, request->received_ns);
        else
            spans_take_all(home, request->received_ns); /* sampler/buffer: into their traces */
        request_settle(request, intake->rejected, intake->rejected_count,
            "spans without a valid trace ID or span ID, or malformed inside", true);
    }
    intake_release(intake, home->headers);
    if (held) {
        admission_give(&sampler->admission, bytes.len);
        buffer_unref(held);
    }
}

/* -- a turn: deadlines, the ladder, the backend, the books -------------------------------------------------------- */

/* Traces that are due are weighed against each other once a second, as the Collector does it on its tick. */
static void batch_decide(struct sampler_worker *home, uint64_t now_ns)
{
    const struct policy_set *set = trace_policy_set(home->batch.traces[0]);
    size_t count = home->batch.count;

    for (size_t i = 0; i < count; i++)
        home->batch.inputs[i] = verdict_input(trace_id_of(home->batch.traces[i]), home->batch.traces[i], now_ns);
    if (policy_set_decide_batch(set, home->batch.inputs, count, home->votes, home->batch.decided)) {
        for (size_t i = 0; i < count; i++) /* no memory to weigh them: one by one, by the last thresholds */
            trace_decide(home, home->batch.traces[i], now_ns);
    } else {
        for (size_t i = 0; i < count; i++)
            trace_settle(home, home->batch.traces[i], home->batch.decided[i], now_ns);
    }
    home->batch.count = 0;
}

static void batch_add(struct sampler_worker *home, struct trace *trace)
{
    struct decision_batch *batch = &home->batch;

    if (batch->count == batch->capacity) {
        batch->capacity = batch->capacity ? batch->capacity * 2 : 256;
        batch->traces = realloc(batch->traces, batch->capacity * sizeof(batch->traces[0]));
        batch->inputs = realloc(batch->inputs, batch->capacity * sizeof(batch->inputs[0]));
        batch->decided = realloc(batch->decided, batch->capacity * sizeof(batch->decided[0]));
        ASSERT(batch->traces && batch->inputs && batch->decided);
    }
    batch->traces[batch->count++] = trace;
}

static void batch_tick(struct sampler_worker *home, uint64_t now_ns)
{
    struct trace *trace;

    if (now_ns < home->batch.next_ns)
        return;
    home->batch.next_ns = now_ns + BATCH_TICK_NS;
    while ((trace = trace_table_due(home->traces, now_ns))) {
        if (home->batch.count > 0 && trace_policy_set(trace) != trace_policy_set(home->batch.traces[0]))
            batch_decide(home, now_ns);
        batch_add(home, trace);
    }
    if (home->batch.count > 0)
        batch_decide(home, now_ns);
}

static bool decide_due(struct sampler_worker *home, uint64_t now_ns)
{
    struct trace *trace;

    if (UNLIKELY(policy_set_needs(home->set)->batch)) {
        batch_tick(home, now_ns);
        return false;
    }
    /* And twice as many as began since the last turn, so that a flood cannot put decisions off. */
    for (uint64_t left = DUE_PER_TURN + 2 * home->begun; left > 0; left--) {
        trace = trace_table_due(home->traces, now_ns);
        if (!trace)
            return false;
        trace_decide(home, trace, now_ns);
    }
    return true;
}

/* True: there is more to do. */
static bool decide_early(struct sampler_worker *home, uint64_t now_ns)
{
    struct budget *budget = &home->sampler->budget;
    enum rung rung = budget_rung(budget);
    struct trace *trace;

    metric_set(home->worker.metrics, METRIC_LADDER_RUNG, home->worker.index == 0 ? (uint64_t)rung : 0);
    for (unsigned i = 0; i < EARLY_PER_TURN && budget_deciding_early(budget); i++) {
        trace = trace_table_oldest(home->traces);
        if (!trace)
            return false;
        count(home, METRIC_DECIDED_EARLY, 1);
        trace_decide(home, trace, now_ns);
        if (i % 16 == 15)
            (void)budget_rung(budget);
    }
    return budget_deciding_early(budget) && trace_table_count(home->traces) > 0;
}

static void finish_report(struct sampler_worker *home);

/* SIGTERM: everything held is decided, or dropped as drop_pending_traces_on_shutdown says; then the backend gets what is kept. */
static bool finish_some(struct sampler_worker *home, uint64_t now_ns)
{
    struct trace *trace;

    for (unsigned i = 0; i < FINISH_PER_TURN; i++) {
        trace = trace_table_oldest(home->traces);
        if (!trace)
            break;
        if (home->sampler->config.tail_sampling.drop_pending_traces_on_shutdown) {
            book(home, BOOK_DROPPED_SHUTDOWN, trace_info(trace).span_count);
            trace_free(home->traces, trace);
        } else {
            trace_decide(home, trace, now_ns);
        }
    }
    worker_backends_hurry(home->backends);
    return trace_table_count(home->traces) > 0;
}

/* All at once under a version, so that a reader never sees half a turn: who sees a new number sees the odd version too. */
static void books_publish(struct sampler_worker *home)
{
    unsigned version = atomic_load_explicit(&home->book_version, memory_order_relaxed);

    home->books[BOOK_HELD] = trace_table_span_count(home->traces) + worker_backends_spans(home->backends);
    atomic_store_explicit(&home->book_version, version + 1, memory_order_relaxed);
    for (int i = 0; i < BOOK_COUNT; i++)
        atomic_store_explicit(&home->published_books[i], home->books[i], memory_order_release);
    atomic_store_explicit(&home->book_version, version + 2, memory_order_release);
}

void sampler_books_read(struct sampler_worker *home, uint64_t out_books[BOOK_COUNT])
{
    unsigned before, after;

    do {
        before = atomic_load_explicit(&home->book_version, memory_order_acquire);
        for (int i = 0; i < BOOK_COUNT; i++)
            out_books[i] = atomic_load_explicit(&home->published_books[i], memory_order_acquire);
        after = atomic_load_explicit(&home->book_version, memory_order_relaxed);
    } while (before != after || (before & 1));
}

static void votes_publish(struct sampler_worker *home)
{
    if (!home->votes_changed)
        return;
    home->votes_changed = false;
    for (size_t i = 0; i < policy_set_count(home->set); i++) {
        struct policy_count *out = &home->policy_counts[i];

        atomic_store_explicit(&out->sampled, home->votes[i].sampled, memory_order_relaxed);
        atomic_store_explicit(&out->not_sampled, home->votes[i].not_sampled, memory_order_relaxed);
        atomic_store_explicit(&out->dropped, home->votes[i].dropped, memory_order_relaxed);
        atomic_store_explicit(&out->errors, home->votes[i].errors, memory_order_relaxed);
        atomic_store_explicit(&out->credited, home->credits[i], memory_order_relaxed);
    }
}

static void gauges_publish(struct sampler_worker *home, uint64_t now_ns)
{
    struct metrics_cell *cell = home->worker.metrics;
    struct decision_cache_stats cache = decision_cache_stats(home->cache);

    metric_set(cell, METRIC_TRACES_HELD, trace_table_count(home->traces));
    metric_set(cell, METRIC_HEADERS, header_table_count(home->headers));
    budget_beside(&home->sampler->budget, &home->beside_bytes,
        header_table_bytes(home->headers) + trace_table_cost_bytes(home->traces) + worker_backends_bytes(home->backends));
    metric_set(cell, METRIC_STORE_USED_BYTES, extent_store_used_bytes(home->store));
    metric_set(cell, METRIC_RECORDS, cache.records);
    if (home->worker.index == 0)
        metric_set(cell, METRIC_RECORD_HORIZON_NS, cache.oldest_ns ? u64_sub_floor(now_ns, cache.oldest_ns) : 0);
    metric_set(cell, METRIC_RECORDS_EVICTED_YOUNG, cache.evicted_young);
    metric_set(cell, METRIC_RESEND_HASHES, cache.hashes);
}

static uint64_t sampler_worker_run(struct turn_hook *hook, uint64_t now_ns)
{
    struct sampler_worker *home = container_of(hook, struct sampler_worker, hook);
    bool more = decide_due(home, now_ns);
    uint64_t next_ns;

    home->begun = 0;
    more |= decide_early(home, now_ns);
    if (home->finishing)
        more |= finish_some(home, now_ns);
    decision_cache_tend(home->cache, trace_table_count(home->traces), now_ns);
    next_ns = worker_backends_run(home->backends, now_ns);
    votes_publish(home);
    gauges_publish(home, now_ns);
    books_publish(home);
    if (home->finishing && !more && worker_backends_units(home->backends) == 0)
        finish_report(home);
    if (more)
        return now_ns;
    return u64_min(u64_min(next_ns, u64_max(trace_table_next_ns(home->traces), home->batch.next_ns)), now_ns + IDLE_TURN_NS);
}

/* -- life --------------------------------------------------------------------------------------------------------- */

static void control_on_drained(struct mail *mail, void *receiver)
{
    (void)mail;
    control_break(receiver);
}

static void finish_report(struct sampler_worker *home)
{
    struct sampler *sampler = home->sampler;

    if (home->finished)
        return;
    home->finished = true;
    if (atomic_fetch_add(&sampler->workers_finished, 1) + 1 == sampler->worker_count) {
        sampler->drained_mail.deliver = control_on_drained;
        control_post(&sampler->control, &sampler->drained_mail);
    }
}

static void worker_on_finish(struct mail *mail, void *receiver)
{
    (void)receiver;
    container_of(mail, struct sampler_worker, finish_mail)->finishing = true;
}

/* The last request was answered: from here on nothing comes in. */
static void sampler_on_listeners_done(void *context)
{
    struct sampler *sampler = context;

    atomic_store(&sampler->listeners_done, true);
    if (atomic_load(&sampler->cut_short)) {
        control_break(&sampler->control);
        return;
    }
    for (unsigned i = 0; i < sampler->worker_count; i++) {
        sampler->workers[i].finish_mail.deliver = worker_on_finish;
        worker_post(&sampler->workers[i].worker, &sampler->workers[i].finish_mail);
    }
}

static void sampler_cut_short(struct sampler *sampler, const char *why)
{
    if (atomic_exchange(&sampler->cut_short, true))
        return;
    log_event(LOG_WARN, "drain_cut_short", "reason=%s", why);
    if (atomic_load(&sampler->listeners_done))
        control_break(&sampler->control);
    else
        listeners_cancel_all(sampler->listeners); /* sampler_on_listeners_done breaks the loop */
}

static void sampler_on_stop(void *context, unsigned signal_count)
{
    struct sampler *sampler = context;

    if (signal_count == 1) {
        sampler->draining = true;
        sampler->drain_began_ns = clock_now_ns();
        log_event(LOG_INFO, "draining", "traces_held=%llu", (unsigned long long)metrics_sum(&sampler->metrics, METRIC_TRACES_HELD));
        listeners_shutdown(sampler->listeners, sampler_on_listeners_done, sampler);
    } else {
        sampler_cut_short(sampler, "second_signal");
    }
}

static void sampler_on_hangup(void *context)
{
    (void)context;
    log_event(LOG_WARN, "reload_not_supported", "remedy=\"restart: live reload comes in a later release\"");
}

static void sampler_tend(void *context, uint64_t now_ns)
{
    struct sampler *sampler = context;
    struct metrics_cell *cell = &sampler->metrics.cells[sampler->worker_count];

    security_tend(sampler->security, now_ns);
    extent_pool_tend(sampler->pool, READY_EXTENTS * sampler->worker_count, now_ns);
    metric_set(cell, METRIC_STORE_COMMITTED_BYTES, extent_pool_committed_bytes(sampler->pool));
    metric_set(cell, METRIC_STORE_IDLE_BYTES, extent_pool_idle_bytes(sampler->pool));
    metric_set(cell, METRIC_STORE_LIMIT_BYTES, extent_pool_limit_bytes(sampler->pool));
    if (sampler->draining && now_ns - sampler->drain_began_ns >= (uint64_t)sampler->config.tailrace.drain_timeout_ns)
        sampler_cut_short(sampler, "drain_timeout");
}

static int sampler_listen(struct sampler *sampler, char *out_error, size_t error_size)
{
    const struct tier_entry entry = {.tier = sampler, .on_request = sampler_on_request, .methods = sampler_peer_methods};
    struct worker *workers[WORKERS_MAX];
    const struct listeners_options options = {
        .configs = sampler->config.receivers,
        .config_count = sampler->config.receiver_count,
        .workers = workers,
        .worker_count = sampler->worker_count,
        .loops = sampler->loops,
        .loop_cells = &sampler->metrics.cells[sampler->worker_count + 1],
        .loop_count = sampler->loop_count,
        .security = sampler->security,
        .forward_headers = &sampler->config.tailrace.forward_headers,
        .internal = true,
        .memory_bytes = sampler->limits.memory_bytes,
        .store_limit_bytes = sampler->config.tailrace.memory_limit_bytes,
    };

    for (unsigned i = 0; i < sampler->worker_count; i++)
        workers[i] = &sampler->workers[i].worker;
    return listeners_new(&options, &entry, &sampler->listeners, out_error, error_size);
}

static int64_t share_of(int64_t size, unsigned workers)
{
    return size > 0 ? (size + workers - 1) / workers : size;
}

static int sampler_worker_init(struct sampler_worker *home, struct sampler *sampler, unsigned index)
{
    const struct tail_sampling_config *config = &sampler->config.tail_sampling;
    const struct exporter_owner owner = survivors_owner(home);
    uint64_t limit = extent_pool_limit_bytes(sampler->pool);
    const struct decision_cache_options cache = {
        .sampled_cache_size = share_of(config->sampled_cache_size, sampler->worker_count),
        .non_sampled_cache_size = share_of(config->non_sampled_cache_size, sampler->worker_count),
        .num_traces = config->num_traces_set ? u64_max(config->num_traces / sampler->worker_count, 1) : 0,
        .verdict_keep_ns = (uint64_t)sampler->config.tailrace.verdict_keep_ns,
        .resend_window_ns = (uint64_t)sampler->config.tailrace.resend_window_ns,
        .max_bytes = limit / RECORD_SHARE / sampler->worker_count,
        .hash_bytes = limit / HASH_SHARE / sampler->worker_count,
    };
    size_t policies = size_max(policy_set_count(sampler->set), 1);
    int r;

    home->sampler = sampler;
    home->set = policy_set_ref(sampler->set);
    intake_init(&home->intake);
    home->hook.run = sampler_worker_run;
    r = worker_init(&home->worker, index, sampler->worker_count, &sampler->metrics.cells[index]);
    if (r)
        return error_pass(r);
    r = extent_store_new(sampler->pool, &home->store);
    if (r)
        return error_fold(r);
    home->headers = header_table_new();
    home->scratch = predicate_scratch_new(policy_set_predicates(home->set));
    home->votes = calloc(policies, sizeof(*home->votes));
    home->credits = calloc(policies, sizeof(*home->credits));
    home->policy_counts = calloc(policies, sizeof(*home->policy_counts));
    if (!home->headers || !home->scratch || !home->votes || !home->credits || !home->policy_counts)
        return error_raise(-ENOMEM);
    r = trace_table_new(home->store, home->headers, clock_now_ns(), &home->traces);
    if (r)
        return error_fold(r);
    r = decision_cache_new(&cache, &home->cache);
    if (r)
        return error_fold(r);
    r = worker_backends_new(sampler->backends, &home->worker, &owner, &home->backends);
    if (r)
        return error_pass(r);
    worker_hook(&home->worker, &home->hook);
    return 0;
}

static int sampler_pool(struct sampler *sampler, char *out_error, size_t error_size)
{
    uint64_t limit = sampler->config.tailrace.memory_limit_bytes;
    uint64_t least = budget_least_bytes(sampler->worker_count);

    if (limit == 0)
        limit = sampler->limits.memory_bytes / 100 * 65;
    if (limit < least) {
        (void)snprintf(out_error, error_size,
            "tailrace.memory.limit_mib: %llu MiB is too little for %u workers, they need at least %llu MiB",
            (unsigned long long)(limit / MIB), sampler->worker_count, (unsigned long long)((least + MIB - 1) / MIB));
        return error_raise(-EINVAL);
    }
    sampler->big_trace_bytes = limit / BIG_TRACE_SHARE;
    sampler->admission.limit_bytes = u64_min(limit / 4, 64 * MIB);
    return extent_pool_new(limit, &sampler->pool);
}

static int sampler_backends(struct sampler *sampler, char *out_error, size_t error_size)
{
    const struct backends_options options = {
        .configs = sampler->config.exporters,
        .count = sampler->config.exporter_count,
        .workers = sampler->worker_count,
        .loops = sampler->loops,
        .loop_count = sampler->loop_count,
        .security = sampler->security,
    };

    return backends_new(&options, &sampler->backends, out_error, error_size);
}

int sampler_new(const struct sampler_config *config, struct policy_set *set, struct sampler **out_sampler, char *out_error,
    size_t error_size)
{
    struct sampler *sampler = calloc(1, sizeof(*sampler));
    int r;

    if (!sampler)
        return error_raise(-ENOMEM);
    *out_sampler = sampler;
    sampler->config = *config;
    sampler->set = policy_set_ref(set);
    sampler->security = security_new();
    if (!sampler->security)
        return error_raise(-ENOMEM);
    sampler->started_unix_ns = sampler->incarnation = clock_now_unix_ns();
    cgroup_limits_read(&sampler->limits);
    sampler->worker_count = worker_count_of(config->tailrace.workers, sampler->limits.cpu_count);
    if (config->tailrace.cluster_self && config->tailrace.cluster_self[0])
        (void)snprintf(sampler->name, sizeof(sampler->name), "%s", config->tailrace.cluster_self);
    else if (gethostname(sampler->name, sizeof(sampler->name) - 1) != 0)
        (void)snprintf(sampler->name, sizeof(sampler->name), "sampler");
    sampler->loop_count = http_loop_count_of(config->tailrace.http_threads);
    r = metrics_init(&sampler->metrics, sampler->worker_count + sampler->loop_count);
    if (r)
        return error_pass(r);
    r = control_init(&sampler->control, sampler_on_stop, sampler_on_hangup, sampler);
    if (r)
        return error_pass(r);
    r = sampler_pool(sampler, out_error, error_size);
    if (r)
        return error_fold(r);
    /* A rate is spent by decisions that wait: with one in the set the others wait too, or it would be spent otherwise. */
    sampler->decides_early = config->tail_sampling.span_ingest || (config->tailrace.early_keep && !policy_set_needs(set)->state);
    sampler->budget = (struct budget){.pool = sampler->pool, .decide_early_allowed = config->tailrace.at_limit == AT_LIMIT_DECIDE_EARLY && !config->tail_sampling.block_on_overflow,
        .workers = sampler->worker_count};
    r = http_loops_new(sampler->loops, sampler->loop_count);
    if (r)
        return error_pass(r);
    r = sampler_backends(sampler, out_error, error_size);
    if (r)
        return error_pass(r);
    sampler->workers = calloc(sampler->worker_count, sizeof(*sampler->workers));
    if (!sampler->workers)
        return error_raise(-ENOMEM);
    for (unsigned i = 0; i < sampler->worker_count; i++) {
        r = sampler_worker_init(&sampler->workers[i], sampler, i);
        if (r)
            return error_pass(r);
    }
    r = sampler_listen(sampler, out_error, error_size);
    if (r)
        return error_pass(r);
    r = sampler_admin_new(sampler, out_error, error_size);
    if (r)
        return error_pass(r);
    sampler_tend(sampler, clock_now_ns());
    return control_timer_new(&sampler->control, TEND_PERIOD_NS, sampler_tend, sampler, &sampler->tend_timer);
}

int sampler_run(struct sampler *sampler)
{
    uint64_t books[BOOK_COUNT], held = 0;
    char ports[LISTENERS_PORTS_SIZE];
    int r;

    for (unsigned i = 0; i < sampler->worker_count; i++) {
        r = worker_start(&sampler->workers[i].worker);
        if (r)
            return error_pass(r);
    }
    r = http_loops_start(sampler->loops, sampler->loop_count);
    if (r)
        return error_pass(r);
    listeners_start(sampler->listeners);
    listeners_health(sampler->listeners, true);
    log_event(LOG_INFO, "started", "member=%s %s admin_port=%d workers=%u policies=%zu memory_limit_bytes=%llu",
        sampler->name, listeners_ports(sampler->listeners, ports, sizeof(ports)), sampler->admin ? admin_port(sampler->admin) : 0, sampler->worker_count,
        policy_set_count(sampler->set), (unsigned long long)extent_pool_limit_bytes(sampler->pool));
    log_event(LOG_INFO, "standalone", "text=\"traces are not handed over\"");
    control_run(&sampler->control);
    http_loops_stop(sampler->loops, sampler->loop_count);
    for (unsigned i = 0; i < sampler->worker_count; i++)
        worker_stop(&sampler->workers[i].worker);
    for (unsigned i = 0; i < sampler->worker_count; i++) {
        sampler_books_read(&sampler->workers[i], books);
        held += books[BOOK_HELD];
    }
    log_event(held ? LOG_WARN : LOG_INFO, "stopped", "spans_left=%llu clean=%s", (unsigned long long)held,
        atomic_load(&sampler->cut_short) ? "false" : "true");
    return atomic_load(&sampler->cut_short) ? 1 : 0;
}

static void sampler_worker_deinit(struct sampler_worker *home)
{
    worker_backends_free(home->backends);
    trace_table_free(home->traces);
    decision_cache_free(home->cache);
    header_table_free(home->headers);
    extent_store_free(home->store);
    predicate_scratch_free(home->scratch);
    policy_set_unref(home->set);
    intake_deinit(&home->intake);
    free(home->batch.traces);
    free(home->batch.inputs);
    free(home->batch.decided);
    free(home->hash_scratch);
    free(home->votes);
    free(home->credits);
    free(home->policy_counts);
}

/* In reverse order of sampler_new; also after it failed halfway. */
void sampler_free(struct sampler *sampler)
{
    if (!sampler)
        return;
    /* Mail that came after a loop had ended: twice, because an answer goes back to the worker that asked. */
    for (unsigned i = 0; sampler->workers && i < 2 * sampler->worker_count; i++) {
        struct worker *worker = &sampler->workers[i % sampler->worker_count].worker;

        (void)mailbox_deliver(&worker->mailbox, worker);
    }
    http_loops_stop(sampler->loops, sampler->loop_count); /* a start that failed halfway */
    listeners_stop(sampler->listeners);
    for (unsigned i = 0; sampler->workers && i < sampler->worker_count; i++)
        worker_backends_stop(sampler->workers[i].backends); /* what was not delivered is settled as stopped */
    http_loops_drain(sampler->loops, sampler->loop_count); /* calls cancelled */
    for (unsigned i = 0; sampler->workers && i < sampler->worker_count; i++) {
        struct worker *worker = &sampler->workers[i].worker;

        (void)mailbox_deliver(&worker->mailbox, worker); /* ... and ended; their links may say so to the loops once more */
        worker_deinit(worker);                           /* runs what gRPC still has for us */
    }
    listeners_free(sampler->listeners);
    http_loops_free(sampler->loops, sampler->loop_count);
    for (unsigned i = 0; sampler->workers && i < sampler->worker_count; i++)
        sampler_worker_deinit(&sampler->workers[i]);
    admin_free(sampler->admin);
    control_timer_free(sampler->tend_timer);
    (void)mailbox_deliver(&sampler->control.mailbox, &sampler->control);
    control_deinit(&sampler->control);
    extent_pool_free(sampler->pool);
    policy_set_unref(sampler->set);
    security_free(sampler->security); /* after all that connects */
    metrics_deinit(&sampler->metrics);
    backends_free(sampler->backends);
    free(sampler->workers);
    free(sampler);
}
