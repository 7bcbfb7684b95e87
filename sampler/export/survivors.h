/* Sampled traces on their way to the backends.
 *
 *   trace ──▶ survivors ──▶ backends (a queue an exporter)
 *
 * A trace leaves as one unit, or as several when its spans came with several sets of metadata: a tenant's spans never
 * travel in another's request. Its bytes are freed when the last unit was written, the trace itself when the last was settled.
 *
 * On losing its slot a trace comes back, as TRACE_SAMPLED_WAITING in the table (trace_table_put_back): with those of its spans that some exporter
 * has not delivered, and a bit for each that has. Spans of several sets of metadata come back as a trace for each set.
 *
 * On the way out spans can be told why they are there (struct sampling_note): attributes tailsampling.policy,
 * tailsampling.composite_policy and tailsampling.cached_decision on the scope, as the Collector does, or on the span; and `th`
 * in the tracestate. Source: tail_sampling processor, gates recordpolicy and usetracestate. Nothing is touched where nobody asked for it.
 */
#pragma once

#include <stdint.h>

#include "common/export/exporter.h"
#include "sampler/buffer/trace.h"

struct sampler_worker;

/* Whom a worker's exporters ask about its units; context: the worker. */
struct exporter_owner survivors_owner(struct sampler_worker *home);
/* Takes a sampled trace that is out of the table; it may be settled, and freed, inside. note: what its spans are told where
 * tailrace.record_policy or the gates recordpolicy and usetracestate want it; its texts stay as long as the process. */
void survivors_take(struct sampler_worker *home, struct trace *trace, const struct sampling_note *note, uint64_t now_ns);
/* Takes back the traces that match, each now or when the calls that it is in have failed (exporter_withdraw); of each
 * home->on_survivor_back is told. What is delivered meanwhile is settled. Its note is gone: the record says what it needs again. */
void survivors_withdraw(struct sampler_worker *home, bool (*matches)(void *context, const struct trace_id *id), void *context);
/* Visits the traces that are in running calls, some more than once. */
void survivors_running(struct sampler_worker *home, void (*visit)(void *context, const struct trace_id *id), void *context);
/* Visits all traces on their way to a backend, some more than once; visit itself takes none. */
void survivors_each(struct sampler_worker *home, void (*visit)(void *context, struct trace *trace), void *context);
