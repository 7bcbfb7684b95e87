/* A turn: deadlines, the ladder, the backends, the books. */
#include "sampler/turn.h"

#include "common/base/num.h"
#include "sampler/handoff/turn.h"
#include "sampler/sampler_worker.h"
#include "sampler/verdict.h"

#define FINISH_PER_TURN 4096u
#define IDLE_TURN_NS NS_PER_S  /* records run out while nothing arrives */

/* SIGTERM: everything held is decided, or dropped as drop_pending_traces_on_shutdown says; then the backend gets what is kept. */
static bool finish_some(struct sampler_worker *home, uint64_t now_ns)
{
    struct trace *trace;

    for (unsigned i = 0; i < FINISH_PER_TURN; i++) {
        trace = trace_table_oldest(home->traces);
        if (!trace)
            break;
        if (home->settings->config.tail_sampling.drop_pending_traces_on_shutdown) {
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
    if (home->journal)
        home->books[BOOK_HELD] += worker_journal_spans(home->journal);
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

static void gauges_publish(struct sampler_worker *home, uint64_t now_ns)
{
    struct metrics_cell *cell = home->worker.metrics;
    struct decision_cache_stats cache = decision_cache_stats(home->cache);

    metric_set(cell, METRIC_TRACES_HELD, trace_table_count(home->traces));
    metric_set(cell, METRIC_SPANS_SPILLED, trace_table_spilled_count(home->traces));
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

uint64_t sampler_worker_run(struct turn_hook *hook, uint64_t now_ns)
{
    struct sampler_worker *home = container_of(hook, struct sampler_worker, hook);
    bool more = decide_due(home, now_ns);
    uint64_t next_ns, handoff_ns;

    home->begun = 0;
    more |= decide_early(home, now_ns);
    if (home->finishing)
        more |= finish_some(home, now_ns);
    decision_cache_tend(home->cache, trace_table_count(home->traces), now_ns);
    next_ns = worker_backends_run(home->backends, now_ns);
    handoff_ns = home->handoff ? worker_handoff_run(home->handoff, now_ns) : UINT64_MAX;
    if (home->journal)
        handoff_ns = u64_min(handoff_ns, worker_journal_run(home->journal, now_ns));
    policy_counts_publish(&home->policy_counts);
    past_sets_tend(&home->past, now_ns);
    gauges_publish(home, now_ns);
    books_publish(home);
    if (home->finishing && !more && worker_backends_units(home->backends) == 0 && (!home->journal || worker_journal_spans(home->journal) == 0))
        sampler_worker_finished(home);
    if (more)
        return now_ns;
    next_ns = u64_min(next_ns, handoff_ns);
    return u64_min(u64_min(next_ns, u64_max(trace_table_next_ns(home->traces), home->batch.next_ns)), now_ns + IDLE_TURN_NS);
}
