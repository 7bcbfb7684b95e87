/* What a trace costs a bytes limiter: its length as the Collector would encode it.
 *
 * Length  not that of the bytes received: that encoder writes a resource, a scope, a status, a value and the IDs even when
 *         they are empty, and leaves out what is unknown, a schema URL, and numbers that are 0.
 * Batches the Collector counts each batch of a request by itself, with its resource again. Here a trace is counted as if
 *         every resource had come once, with each of its scopes once: the same spans cost the same, however they came.
 * Bound   that is known for COST_HEADERS_MAX pairs of resource and scope of a trace; each span under a further pair
 *         counts as a batch by itself.
 * Life    on the heap, only for policy sets that ask (policy_needs.cost).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/otlp/span_walk.h"

#define COST_HEADERS_MAX 64u

struct cost;

/* Adds a span that was not there before; *cost begins as NULL. span and header are well-formed (span_view.h). Memory that
 * is out ends the program: it is small, and without it no right decision can be made. */
void cost_add(struct cost **cost, const struct span_header *header, struct slice span);
/* Of all spans together; NULL: 0. */
uint64_t cost_bytes(const struct cost *cost);
/* What it takes on the heap. */
size_t cost_memory(const struct cost *cost);
void cost_free(struct cost *cost);

/* The length of a Span's content as the Collector encodes it. */
uint64_t cost_of_span(struct slice span);
