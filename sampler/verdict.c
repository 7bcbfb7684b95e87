/* One decision a trace, and the record that stays of it. */
#include "sampler/verdict.h"

#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/run/clock.h"
#include "sampler/export/survivors.h"
#include "sampler/handoff/held.h"

#define DUE_PER_TURN 128u      /* decided each turn at the least: some 5 us each, cold; requests wait behind a turn */
#define EARLY_PER_TURN 128u
#define HASH_SCRATCH_KEEP (512u * 1024u) /* hashes */

uint64_t *worker_hash_scratch(struct sampler_worker *home, size_t count)
{
    if (count > home->hash_capacity) {
        home->hash_capacity = size_max(count, home->hash_capacity * 2);
        home->hash_scratch = realloc(home->hash_scratch, home->hash_capacity * sizeof(uint64_t));
        ASSERT(home->hash_scratch != NULL);
    }
    return home->hash_scratch;
}

static void record_keep(struct sampler_worker *home, struct trace *trace, const struct trace_info *info,
    struct decision_record *record, uint64_t now_ns)
{
    size_t hash_count = 0;

    if (record->decision == DECISION_SAMPLED) {
        trace_hashes(trace, worker_hash_scratch(home, info->span_count));
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

static void trace_settle(struct sampler_worker *home, struct trace *trace, struct decided decided, uint64_t now_ns)
{
    const struct trace_info info = trace_info(trace);
    const struct facts *facts = trace_facts(trace);
    struct decision_record record = {.decision = decided.decision,
        .policy = decided.policy,
        .threshold = decided.decision == DECISION_SAMPLED && home->settings->config.use_tracestate ? decided.threshold : 0};
    const struct sampling_note note = {.policy = policy_name(trace_policy_set(trace), decided.policy),
        .inner_policy = decided.inner_policy,
        .threshold = decided.threshold};

    if (UNLIKELY(home->handoff != NULL))
        handoff_on_decided(home, hash_trace(&info.id));
    policy_counts_credit(&home->policy_counts, trace_policy_set(trace), decided.policy);
    count(home, METRIC_POLICY_ERRORS, decided.error_count);
    record_evidence(facts, decided.evidence_bit, &record);
    record_keep(home, trace, &info, &record, now_ns);
    if (UNLIKELY(home->journal != NULL))
        worker_journal_verdict(home->journal, trace, &record);
    if (decided.decision == DECISION_SAMPLED && UNLIKELY(info.spilled_count > 0)) { /* leaves when its bytes are back */
        count(home, METRIC_DECIDED_SAMPLED, 1);
        trace_await_export(home->traces, trace);
        handoff_read_back(home, trace);
        return;
    }
    trace_table_take(home->traces, trace);
    if (decided.decision == DECISION_SAMPLED) {
        count(home, METRIC_DECIDED_SAMPLED, 1);
        handoff_leave(home, trace, &note, now_ns);
    } else {
        count(home, decided.decision == DECISION_DROPPED ? METRIC_DECIDED_DROPPED : METRIC_DECIDED_NOT_SAMPLED, 1);
        book(home, BOOK_DROPPED_NOT_SAMPLED, info.span_count);
        trace_free(home->traces, trace);
    }
}

/* It grew beyond maximum_trace_size_bytes while it might not be decided: span_path.c has counted. True: it is gone. */
static bool refused_size(struct sampler_worker *home, struct trace *trace, uint64_t now_ns)
{
    uint64_t most = home->settings->config.tail_sampling.maximum_trace_size_bytes;
    const struct facts *facts = trace_facts(trace);

    if (LIKELY(!home->handoff || most == 0) || facts->bytes + facts->header_bytes_most <= most)
        return false;
    trace_refuse_size(home, trace, now_ns);
    return true;
}

void trace_decide(struct sampler_worker *home, struct trace *trace, uint64_t now_ns)
{
    const struct policy_set *set = trace_policy_set(trace);
    struct verdict_input input;
    struct decided decided;

    if (UNLIKELY(refused_size(home, trace, now_ns)))
        return;
    input = verdict_input(trace_id_of(trace), trace, now_ns);
    decided = policy_set_decide_counted(set, &input, policy_counts_votes(&home->policy_counts, set));
    policy_counts_voted(&home->policy_counts, set);
    trace_settle(home, trace, decided, now_ns);
}

bool trace_decide_early(struct sampler_worker *home, struct trace *trace, uint64_t now_ns)
{
    const struct verdict_input input = verdict_input(trace_id_of(trace), trace, now_ns);
    struct decided decided;

    /* Of the set in force only: whether an older one may, its configuration said. */
    if (trace_policy_set(trace) != home->set ||
        !policy_set_decide_early(home->set, &input, policy_counts_votes(&home->policy_counts, home->set), &decided))
        return false;
    trace_settle(home, trace, decided, now_ns);
    return true;
}

void trace_refuse_size(struct sampler_worker *home, struct trace *trace, uint64_t now_ns)
{
    const struct trace_info info = trace_info(trace);
    struct decision_record record = {.decision = DECISION_NOT_SAMPLED, .policy = UINT16_MAX, .evidence_bit = UINT16_MAX,
        .too_large = true};

    count(home, METRIC_TRACES_TOO_LARGE, 1);
    record_keep(home, trace, &info, &record, now_ns);
    if (home->journal)
        worker_journal_verdict(home->journal, trace, &record);
    book(home, BOOK_DROPPED_TOO_LARGE, info.span_count);
    trace_table_take(home->traces, trace);
    trace_free(home->traces, trace);
}

/* -- when ------------------------------------------------------------------------------------------------------ */

/* Traces that are due are weighed against each other once a second, as the Collector does it on its tick. */
static void batch_decide(struct sampler_worker *home, uint64_t now_ns)
{
    const struct policy_set *set = trace_policy_set(home->batch.traces[0]);
    size_t count = home->batch.count;

    for (size_t i = 0; i < count; i++)
        home->batch.inputs[i] = verdict_input(trace_id_of(home->batch.traces[i]), home->batch.traces[i], now_ns);
    if (policy_set_decide_batch(set, home->batch.inputs, count, policy_counts_votes(&home->policy_counts, set), home->batch.decided)) {
        for (size_t i = 0; i < count; i++) /* no memory to weigh them: one by one, by the last thresholds */
            trace_decide(home, home->batch.traces[i], now_ns);
    } else {
        policy_counts_voted(&home->policy_counts, set);
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

/* A sampled trace that waited for its slot to be settled. */
static void waiting_export(struct sampler_worker *home, struct trace *trace, uint64_t now_ns)
{
    const struct trace_id *id = trace_id_of(trace);
    struct sampling_note note = {.policy = NULL};
    struct decision_record record;

    if (UNLIKELY(trace_info(trace).spilled_count > 0)) {
        handoff_read_back(home, trace);
        return;
    }

    if (decision_cache_find(home->cache, id, hash_trace(id), false, now_ns, &record))
        note = (struct sampling_note){.policy = record_policy_name(home, &record), .threshold = record.threshold};
    trace_table_take(home->traces, trace);
    handoff_leave(home, trace, &note, now_ns);
}

/* D1, D2: false: it may not be decided here and now, or it was before, and is on its way to the backend, or it just was, by its size. */
static bool due_for_decision(struct sampler_worker *home, struct trace *trace, uint64_t now_ns)
{
    if (LIKELY(!home->handoff))
        return true;
    if (!handoff_may_decide(home, hash_trace(trace_id_of(trace)))) {
        trace_hold(home->traces, trace);
        return false;
    }
    if (!trace_is_sampled(trace))
        return !refused_size(home, trace, now_ns);
    waiting_export(home, trace, now_ns);
    return false;
}

struct trace *oldest_that_may_be_decided(struct sampler_worker *home)
{
    struct trace *trace;

    while ((trace = trace_table_oldest(home->traces))) {
        if (handoff_may_decide(home, hash_trace(trace_id_of(trace))))
            return trace;
        trace_hold(home->traces, trace);
    }
    return NULL;
}

static void batch_tick(struct sampler_worker *home, uint64_t now_ns)
{
    struct trace *trace;

    if (now_ns < home->batch.next_ns)
        return;
    home->batch.next_ns = now_ns + BATCH_TICK_NS;
    while ((trace = trace_table_due(home->traces, now_ns))) {
        if (!due_for_decision(home, trace, now_ns))
            continue;
        if (home->batch.count > 0 && trace_policy_set(trace) != trace_policy_set(home->batch.traces[0]))
            batch_decide(home, now_ns);
        batch_add(home, trace);
    }
    if (home->batch.count > 0)
        batch_decide(home, now_ns);
}

bool decide_due(struct sampler_worker *home, uint64_t now_ns)
{
    struct trace *trace;

    if (UNLIKELY(policy_set_needs(home->set)->batch || now_ns < home->batch.until_ns)) {
        batch_tick(home, now_ns);
        return false;
    }
    /* And twice as many as began since the last turn, so that a flood cannot put decisions off. */
    for (uint64_t left = DUE_PER_TURN + 2 * home->begun; left > 0; left--) {
        trace = trace_table_due(home->traces, now_ns);
        if (!trace)
            return false;
        if (due_for_decision(home, trace, now_ns))
            trace_decide(home, trace, now_ns);
    }
    return true;
}

bool decide_early(struct sampler_worker *home, uint64_t now_ns)
{
    struct budget *budget = &home->sampler->budget;
    enum rung rung = budget_rung(budget);
    struct trace *trace;

    metric_set(home->worker.metrics, METRIC_LADDER_RUNG, home->worker.index == 0 ? (uint64_t)rung : 0);
    for (unsigned i = 0; i < EARLY_PER_TURN && budget_deciding_early(budget); i++) {
        trace = oldest_that_may_be_decided(home);
        if (!trace)
            return false;
        count(home, METRIC_DECIDED_EARLY, 1);
        trace_decide(home, trace, now_ns);
        if (i % 16 == 15)
            (void)budget_rung(budget);
    }
    return budget_deciding_early(budget) && trace_table_oldest(home->traces) != NULL;
}
