/* Sampled traces on their way to the backends.
 *
 *   trace ──▶ survivors ──▶ backends (a queue an exporter)
 *
 * A trace leaves as one unit, or as several when its spans came with several sets of metadata: a tenant's spans never
 * travel in another's request. Its bytes are freed when the last unit was written, the trace itself when the last was settled.
 *
 * On the way out spans can be told why they are there (struct sampling_note): attributes tailsampling.policy,
 * tailsampling.composite_policy and tailsampling.cached_decision on the scope, as the Collector does, or on the span; and `th`
 * in the tracestate. Source: reference/tail-sampling section 9. Nothing is touched where nobody asked for it.
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
