/* Sampled traces on their way to the backends.
 *
 *   trace ──▶ survivors ──▶ backends (a queue an exporter)
 *
 * A trace leaves as one unit, or as several when its spans came with several sets of metadata: a tenant's spans never
 * travel in another's request. Its bytes are freed when the last unit was written, the trace itself when the last was settled.
 */
#pragma once

#include <stdint.h>

#include "common/export/exporter.h"

struct sampler_worker;
struct trace;

/* Whom a worker's exporters ask about its units; context: the worker. */
struct exporter_owner survivors_owner(struct sampler_worker *home);
/* Takes a sampled trace that is out of the table; it may be settled, and freed, inside. */
void survivors_take(struct sampler_worker *home, struct trace *trace, uint64_t now_ns);
