/* Spans into their traces: sampler_on_request is the way in.
 *
 * Threads. A worker owns the traces that hash to it. The one that received a request walks it, computes each span's facts and
 * sends one message per other owner (one reference to the request's buffer, the facts beside it): pushed is taken, an
 * owner cannot refuse. Without a journal the answer needs to wait for nobody.
 */
#include "sampler/span_path.h"

#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "sampler/export/survivors.h"
#include "sampler/handoff/gate.h"
#include "sampler/handoff/held.h"
#include "sampler/handoff/worker_journal.h"
#include "sampler/verdict.h"

#define PREFETCH_SLOT 8u
#define PREFETCH_TRACE 4u

/* -- into their traces ----------------------------------------------------------------------------------------- */

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

/* Trace size = span bytes + each distinct header once (differs from the Collector, whose sum depends on
 * how spans came in requests). facts->header_bytes_most counts a header again when others came in between; only when that could
 * make the difference is it counted exactly. */
static bool trace_is_too_large(const struct sampler_worker *home, const struct trace *trace, struct facts *facts, struct header *header,
    uint64_t id_hash)
{
    uint64_t most = home->settings->config.tail_sampling.maximum_trace_size_bytes;

    if (LIKELY(most == 0))
        return false;
    id_hash ^= trace_info(trace).first_ns * 0x9e3779b97f4a7c15ull; /* an ID may come again after its record was forgotten */
    if (facts->spans_count == 1 || header->last_trace_hash != id_hash)
        facts->header_bytes_most = (uint32_t)u64_min((uint64_t)facts->header_bytes_most + header->bytes_len, UINT32_MAX);
    header->last_trace_hash = id_hash;
    if (facts->bytes + facts->header_bytes_most <= most)
        return false;
    if (home->handoff && trace_info(trace).spilled_count > 0)
        return true; /* its headers cannot be walked over without its bytes: at most that much is near enough */
    facts->header_bytes_most = (uint32_t)u64_min(distinct_header_bytes(trace, facts->spans_count), UINT32_MAX);
    return facts->bytes + facts->header_bytes_most > most;
}

static struct trace *trace_begin(struct sampler_worker *home, const struct intake_span *span, const struct arrival *arrival)
{
    const struct tail_sampling_config *config = &home->settings->config.tail_sampling;
    uint64_t share = config->num_traces / home->sampler->worker_count;
    struct trace *trace, *oldest;

    if (config->num_traces_set && !config->block_on_overflow && trace_table_count(home->traces) >= u64_max(share, 1)) {
        /* The Collector throws the oldest away undecided; it is decided here, early (docs/compatibility.md). */
        oldest = oldest_that_may_be_decided(home);
        if (oldest) {
            count(home, METRIC_EVICTED_NUM_TRACES, 1);
            trace_decide(home, oldest, arrival->now_ns);
        }
    }
    trace = trace_table_add(home->traces, &span->id, span->id_hash, home->set, arrival->first_ns, arrival->deadline_ns);
    ASSERT(trace != NULL); /* admitted: budget.h keeps room */
    count(home, METRIC_NEW_TRACES, 1);
    home->begun++;
    return trace;
}

/* Not kept. What was recovered in vain was never recovered: it is in no book. */
static void span_gone(struct sampler_worker *home, const struct intake_span *span, const struct arrival *arrival, enum book why)
{
    if (UNLIKELY(arrival->book == BOOK_RECOVERED))
        home->books[BOOK_RECOVERED]--;
    else
        book(home, why, 1);
    if (arrival->at.segment)
        worker_journal_let_go(home->journal, arrival->at.segment, span->bytes.len);
}

/* It is here already, or was exported. What is here may lie in no journal: then the place of this one counts (what was
 * recovered does lie there). */
static void span_known(struct sampler_worker *home, const struct intake_span *span, const struct arrival *arrival)
{
    const struct repeat repeat = {
        .id = span->id, .span_hash = span->span_hash, .at = arrival_place(arrival, span->bytes), .len = (uint32_t)span->bytes.len};

    if (LIKELY(arrival->at.segment == 0) || arrival->book == BOOK_RECOVERED) {
        span_gone(home, span, arrival, BOOK_DUPLICATE);
        return;
    }
    book(home, BOOK_DUPLICATE, 1);
    handoff_on_known(home, &repeat);
}

/* A span of a sampled trace that may not leave yet: it waits with the others of its trace. */
static void span_await_export(struct sampler_worker *home, const struct intake_span *span, struct header *header, const struct arrival *arrival)
{
    struct trace *trace = trace_new_apart(home->traces, &span->id, arrival->first_ns);

    ASSERT(trace != NULL);
    ASSERT(trace_add_span(home->traces, trace, span->bytes, span->span_hash, header, arrival_place(arrival, span->bytes)) == TRACE_SPAN_ADDED);
    handoff_await_export(home, trace, span->id_hash, arrival->delivered);
}

/* A span of a trace that was decided: it follows the decision. */
static void span_late(struct sampler_worker *home, const struct intake_span *span, struct header *header,
    const struct decision_record *record, const struct arrival *arrival)
{
    bool fresh = arrival->book == BOOK_RECEIVED; /* else it came in time, and meets its verdict only now: D3 */
    const struct sampling_note note = {
        .policy = record->cached || !fresh ? record_policy_name(home, record) : NULL,
        .cached = record->cached && fresh,
        .threshold = record->threshold};
    struct trace *trace;

    if (arrival->at.segment && arrival->book != BOOK_RECOVERED)
        worker_journal_late(home->journal, &span->id, record, arrival->at.segment);
    if (record->decision != DECISION_SAMPLED) {
        count(home, METRIC_LATE_NOT_SAMPLED_SPANS, fresh);
        span_gone(home, span, arrival, record->too_large ? BOOK_DROPPED_TOO_LARGE : fresh ? BOOK_DROPPED_LATE : BOOK_DROPPED_NOT_SAMPLED);
        return;
    }
    if (decision_cache_seen(home->cache, &span->id, span->id_hash, span->span_hash, arrival->now_ns)) {
        span_known(home, span, arrival);
        return;
    }
    count(home, METRIC_LATE_SAMPLED_SPANS, fresh);
    if (UNLIKELY(arrival->delivered || !handoff_may_decide(home, span->id_hash))) {
        span_await_export(home, span, header, arrival);
        return;
    }
    trace = trace_new_apart(home->traces, &span->id, arrival->now_ns);
    ASSERT(trace != NULL);
    ASSERT(trace_add_span(home->traces, trace, span->bytes, span->span_hash, header, arrival_place(arrival, span->bytes)) == TRACE_SPAN_ADDED);
    handoff_leave(home, trace, &note, arrival->now_ns);
}

/* What it says to the set that will decide its trace: usually the one that its request was read with. */
static void span_fold(struct sampler_worker *home, struct trace *trace, const struct intake_span *span, struct header *header)
{
    struct policy_set *set = trace_policy_set(trace);
    uint64_t generation = policy_set_generation(set);
    struct span_facts asked;
    struct hits header_hits;

    if (LIKELY(span->facts.generation == (uint32_t)generation && header->hits_generation == generation)) {
        facts_fold(trace_facts(trace), &span->facts, &header->hits, (uint32_t)span->bytes.len);
        return;
    }
    past_set_ask(home, set, span, header, &asked, &header_hits);
    facts_fold(trace_facts(trace), &asked, &header_hits, (uint32_t)span->bytes.len);
}

/* What a span that was just added makes due. */
static void span_added(struct sampler_worker *home, struct trace *trace, const struct intake_span *span, struct header *header,
    const struct arrival *arrival)
{
    const struct tail_sampling_config *config = &home->settings->config.tail_sampling;
    struct facts *facts = trace_facts(trace);
    bool too_large;

    span_fold(home, trace, span, header);
    if (UNLIKELY(policy_set_needs(trace_policy_set(trace))->cost))
        trace_add_cost(home->traces, trace, header, span->bytes);
    if (span->facts.is_root && config->decision_wait_after_root_received_ns > 0)
        trace_hasten(home->traces, trace, arrival->came_ns + (uint64_t)config->decision_wait_after_root_received_ns);
    too_large = trace_is_too_large(home, trace, facts, header, span->id_hash);
    if (UNLIKELY(!handoff_may_decide(home, span->id_hash)))
        return; /* another's, or not settled: its size is looked at again when it is due, and so is all that the policies say */
    if (UNLIKELY(too_large))
        trace_refuse_size(home, trace, arrival->now_ns);
    else if (UNLIKELY(home->settings->decides_early) && trace_decide_early(home, trace, arrival->now_ns))
        return; /* its further spans follow the decision, as of any that is decided */
    else if (UNLIKELY(facts->bytes > atomic_load_explicit(&home->sampler->big_trace_bytes, memory_order_relaxed)))
        trace_decide(home, trace, arrival->now_ns); /* its further spans follow the decision: streamed */
}

/* It is there already. */
static void span_again(struct sampler_worker *home, struct trace *trace, const struct intake_span *span, const struct arrival *arrival)
{
    if (UNLIKELY(home->handoff != NULL))
        handoff_on_held(home, trace, span->id_hash, arrival); /* it may have been elsewhere before it was here */
    span_known(home, span, arrival);
}

void span_take(struct sampler_worker *home, const struct intake_span *span, struct header *header, const struct arrival *arrival)
{
    struct trace *trace = trace_table_find(home->traces, &span->id, span->id_hash);
    struct decision_record record;

    book(home, arrival->book, 1);
    if (!trace || UNLIKELY(home->handoff && trace_is_sampled(trace))) {
        if (decision_cache_find(home->cache, &span->id, span->id_hash, true, arrival->now_ns, &record)) {
            span_late(home, span, header, &record, arrival);
            return;
        }
        if (!trace)
            trace = trace_begin(home, span, arrival);
    }
    switch (trace_add_span(home->traces, trace, span->bytes, span->span_hash, header, arrival_place(arrival, span->bytes))) {
    case TRACE_SPAN_ADDED:
        break;
    case TRACE_SPAN_DUPLICATE:
        span_again(home, trace, span, arrival);
        return;
    case TRACE_SPAN_NO_MEMORY:
        UNREACHABLE("there is memory for what was admitted");
    }
    if (UNLIKELY(home->handoff != NULL)) {
        handoff_on_held(home, trace, span->id_hash, arrival);
        if (trace_is_sampled(trace))
            return; /* its record was forgotten: it goes with those that wait for their backend */
    }
    span_added(home, trace, span, header, arrival);
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
    struct arrival arrival;
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
        span_take(home, span, header, &news->arrival);
    }
    if (header)
        header_unref(home->headers, header, 1);
    admission_give(&news->sampler->admission, news->counted_bytes);
    buffer_unref(news->bytes);
    metadata_set_unref(news->metadata);
    free(news);
}

static void spans_post(struct sampler_worker *from, struct sampler_worker *owner, struct buffer *bytes, size_t span_count,
    const struct arrival *arrival)
{
    const struct intake *intake = &from->intake;
    size_t headers_bytes = intake->header_count * sizeof(struct span_header);
    struct intake_mail *news = malloc(sizeof(*news) + headers_bytes + span_count * sizeof(struct intake_span));
    size_t k = 0;

    ASSERT(news != NULL);
    news->mail.deliver = owner_on_spans;
    news->sampler = from->sampler;
    news->arrival = *arrival;
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
static void spans_share_out(struct sampler_worker *home, struct buffer *bytes, const struct arrival *arrival)
{
    const struct intake *intake = &home->intake;
    uint32_t counts[WORKERS_MAX] = {0};

    for (size_t i = 0; i < intake->span_count; i++) {
        const struct intake_span *span = &intake->spans[i];
        unsigned owner = sampler_owner(home->sampler, span->id_hash);

        counts[owner]++;
        if (owner == home->worker.index)
            span_take(home, span, intake->headers[span->header].header, arrival);
    }
    for (unsigned i = 0; i < home->sampler->worker_count; i++) {
        if (counts[i] > 0 && i != home->worker.index)
            spans_post(home, &home->sampler->workers[i], bytes, counts[i], arrival);
    }
}

static void spans_take_all(struct sampler_worker *home, const struct arrival *arrival)
{
    const struct intake *intake = &home->intake;

    for (size_t i = 0; i < intake->span_count; i++) {
        const struct intake_span *span = &intake->spans[i];

        if (i + PREFETCH_SLOT < intake->span_count)
            trace_table_prefetch(home->traces, intake->spans[i + PREFETCH_SLOT].id_hash);
        if (i + PREFETCH_TRACE < intake->span_count)
            trace_table_prefetch_trace(home->traces, intake->spans[i + PREFETCH_TRACE].id_hash);
        span_take(home, span, intake->headers[span->header].header, arrival);
    }
}

void spans_take(struct sampler_worker *home, struct buffer *held, const struct arrival *arrival)
{
    if (home->sampler->worker_count > 1)
        spans_share_out(home, held, arrival);
    else
        spans_take_all(home, arrival);
}

uint64_t intake_span_bytes(const struct sampler_worker *home)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < home->intake.span_count; i++)
        bytes += home->intake.spans[i].bytes.len;
    return bytes;
}

struct arrival arrival_now(const struct sampler_worker *home, uint64_t now_ns)
{
    int64_t wait_ns = home->settings->config.tail_sampling.decision_wait_ns;

    return (struct arrival){
        .now_ns = now_ns, .came_ns = now_ns, .first_ns = now_ns, .deadline_ns = now_ns + (uint64_t)(wait_ns > 0 ? wait_ns : 0), .book = BOOK_RECEIVED};
}

/* -- one request; runs on the worker that received it ---------------------------------------------------------- */

static void refuse(struct request *request, enum refusal refusal)
{
    request_refuse(request, refusal, refusal_status(refusal));
}

/* Does the balancer see the ring that we see? Standalone, we see none: do balancers agree with each other? */
static void note_ring(struct sampler_worker *home, uint64_t ring)
{
    uint64_t own;

    if (ring == 0)
        return;
    if (home->sampler->cluster) {
        own = atomic_load_explicit(&home->sampler->ring_fingerprint, memory_order_relaxed);
        if (own != 0 && ring != own)
            count(home, METRIC_RING_DISAGREEMENTS, 1);
        return;
    }
    if (ring == home->last_ring)
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
static bool overflows(const struct sampler_worker *home)
{
    const struct tail_sampling_config *config = &home->settings->config.tail_sampling;

    if (LIKELY(!config->block_on_overflow) || !config->num_traces_set)
        return false;
    return metrics_sum(&home->sampler->metrics, METRIC_TRACES_HELD) >= u64_max(config->num_traces, 1);
}

void request_count_faults(struct sampler_worker *home)
{
    const struct intake *intake = &home->intake;

    count(home, METRIC_REJECTED_NO_TRACE_ID, intake->fault_counts[SPAN_NO_TRACE_ID]);
    count(home, METRIC_REJECTED_NO_SPAN_ID, intake->fault_counts[SPAN_NO_SPAN_ID]);
    count(home, METRIC_REJECTED_MALFORMED, intake->fault_counts[SPAN_MALFORMED]);
}

bool request_read(struct sampler_worker *home, struct slice bytes, const struct metadata_set *metadata, enum refusal *out_why)
{
    *out_why = REFUSED_MALFORMED;
    if (!intake_read(&home->intake, bytes, metadata, home->set, home->scratch, home->headers)) /* walk and facts; nothing stored yet */
        return false;
    *out_why = REFUSED_MEMORY;
    if (!intake_fits(home, bytes.len))
        return false;
    ottl_errors_log(home);
    return true;
}

/* Alone in the world: everything is this node's, and the answer waits for nothing. */
static void request_take(struct sampler_worker *home, struct request *request, struct buffer *held)
{
    const struct arrival arrival = arrival_now(home, request->received_ns);
    struct intake *intake = &home->intake;
    enum refusal why;

    if (request_read(home, held ? buffer_slice(held) : request->bytes, request->metadata, &why)) {
        request_count_faults(home);
        count(home, request->transport->accepted_spans, intake->span_count);
        spans_take(home, held, &arrival); /* sampler/buffer: into their traces */
        request_settle(request, intake->rejected, intake->rejected_count,
            "spans without a valid trace ID or span ID, or malformed inside", true);
    } else {
        refuse(request, why);
    }
    intake_release(intake, home->headers);
}

void sampler_on_request(void *tier, struct request *request)
{
    struct sampler *sampler = tier;
    struct sampler_worker *home = &sampler->workers[request->worker->index];
    struct buffer *held = NULL;
    uint64_t len = request->bytes.len;

    note_ring(home, request->peer_ring);
    if (overflows(home) || budget_rung(&sampler->budget) == RUNG_REFUSE) { /* sampler/buffer: the ladder's last rung */
        refuse(request, REFUSED_MEMORY);
        return;
    }
    if (sampler->worker_count == 1 && !home->handoff) {
        request_take(home, request, NULL);
        return;
    }
    if (!admission_take(&sampler->admission, len)) {
        refuse(request, REFUSED_MEMORY);
        return;
    }
    held = request_hold(request); /* spans go to their owners by reference; the journal, and what waits, borrow from it */
    if (!held)
        refuse(request, REFUSED_MEMORY);
    else if (home->handoff)
        gate_request(home, request, held);
    else
        request_take(home, request, held);
    admission_give(&sampler->admission, len);
    buffer_unref(held);
}
