#include "sampler/handoff/join.h"

#include "common/base/assert.h"
#include "common/base/num.h"
#include "sampler/handoff/held.h"
#include "sampler/handoff/inside.h"

static bool wants(enum decision decision)
{
    return decision == DECISION_SAMPLED;
}

static uint64_t apart(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}

enum join_outcome join_choose(const struct decision_record *mine, const struct join_verdict *theirs, uint64_t verdict_keep_ns)
{
    if (!mine)
        return JOIN_TAKE;
    if (wants(mine->decision) == wants(theirs->decision))
        return JOIN_KEEP;
    if (apart(mine->decided_ns, theirs->decided_ns) >= verdict_keep_ns)
        return theirs->decided_ns > mine->decided_ns ? JOIN_TAKE : JOIN_KEEP;
    return wants(theirs->decision) ? JOIN_CONFLICT_TAKE : JOIN_CONFLICT_KEEP;
}

/* What is read back from it is there. */
static bool is_news_to_journal(const struct sampler_worker *home)
{
    return home->journal && !home->handoff->recovering;
}

static void remember(struct sampler_worker *home, uint64_t id_hash, const struct join_verdict *verdict, uint64_t now_ns)
{
    const struct decision_record record = {.decision = verdict->decision,
        .too_large = verdict->too_large,
        .policy = verdict->policy.len ? decision_cache_policy(home->cache, verdict->policy) : UINT16_MAX,
        .span_count = verdict->span_count,
        .evidence_span_id = verdict->evidence_span_id,
        .evidence_bit = UINT16_MAX,
        .threshold = verdict->threshold,
        .decided_ns = verdict->decided_ns};
    struct trace *traces[TRACES_OF_ID_MOST];

    decision_cache_put(home->cache, &verdict->id, id_hash, &record, verdict->hashes, verdict->hash_count, now_ns);
    if (is_news_to_journal(home))
        worker_journal_learned(home->journal, &verdict->id, &record, traces, trace_table_find_all(home->traces, &verdict->id, id_hash, traces));
}

/* T5: what was undecided here. */
static void trace_follow(struct sampler_worker *home, struct trace *trace, uint64_t id_hash, const struct join_verdict *verdict, uint64_t now_ns)
{
    uint32_t repeats;
    struct trace_info info;
    uint64_t *hashes;

    if (!wants(verdict->decision)) {
        book(home, verdict->too_large ? BOOK_DROPPED_TOO_LARGE : BOOK_DROPPED_NOT_SAMPLED, trace_info(trace).span_count);
        trace_free(home->traces, trace);
        return;
    }
    repeats = verdict->hash_count > 0 ? trace_remove_spans(home->traces, trace, verdict->hashes, verdict->hash_count) : 0;
    book(home, BOOK_DUPLICATE, repeats);
    info = trace_info(trace);
    if (info.span_count == 0) {
        trace_free(home->traces, trace);
        return;
    }
    hashes = worker_hash_scratch(home, info.span_count);
    trace_hashes(trace, hashes);
    decision_cache_join(home->cache, &verdict->id, id_hash, hashes, info.span_count, now_ns);
    trace_await_export(home->traces, trace);
    if (handoff_may_decide(home, id_hash))
        trace_release(home->traces, trace);
}

/* T4: exported beats held, of what waits for its backend too: another has sent it meanwhile. */
static void waiting_follow(struct sampler_worker *home, struct trace *trace, const struct join_verdict *verdict)
{
    if (!wants(verdict->decision) || verdict->hash_count == 0)
        return;
    book(home, BOOK_DUPLICATE, trace_remove_spans(home->traces, trace, verdict->hashes, verdict->hash_count));
    if (trace_info(trace).span_count == 0)
        trace_free(home->traces, trace);
}

static void traces_follow(struct sampler_worker *home, uint64_t id_hash, const struct join_verdict *verdict, uint64_t now_ns)
{
    struct trace *traces[TRACES_OF_ID_MOST];
    size_t count = trace_table_find_all(home->traces, &verdict->id, id_hash, traces);
    struct trace *pending = NULL;

    for (size_t i = 0; i < count; i++) {
        if (trace_is_sampled(traces[i]))
            waiting_follow(home, traces[i], verdict);
        else
            pending = traces[i];
    }
    if (pending) /* last: it uses the scratch that the hashes may lie in */
        trace_follow(home, pending, id_hash, verdict, now_ns);
}

void join_verdict(struct sampler_worker *home, uint64_t id_hash, const struct join_verdict *verdict, uint64_t now_ns)
{
    struct decision_record record;
    bool known = decision_cache_find(home->cache, &verdict->id, id_hash, false, now_ns, &record);
    enum join_outcome outcome = join_choose(known ? &record : NULL, verdict, home->handoff->options.verdict_keep_ns);

    if (outcome == JOIN_CONFLICT_TAKE || outcome == JOIN_CONFLICT_KEEP)
        count(home, METRIC_VERDICT_CONFLICTS, 1);
    if (outcome == JOIN_TAKE || outcome == JOIN_CONFLICT_TAKE)
        remember(home, id_hash, verdict, now_ns);
    else if (wants(verdict->decision))
        decision_cache_join(home->cache, &verdict->id, id_hash, verdict->hashes, verdict->hash_count, now_ns);
    if (wants(verdict->decision) && is_news_to_journal(home))
        worker_journal_exported_there(home->journal, &verdict->id, verdict->hashes, verdict->hash_count);
    traces_follow(home, id_hash, verdict, now_ns);
    handoff_on_record(home, &verdict->id, id_hash);
}
