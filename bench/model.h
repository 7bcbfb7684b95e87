/* What trace number n of a run is: everything follows from (seed, n), so that the load generator, the
 * ledger and the judge agree without telling each other.
 *
 * Trace   an ID that looks random, a start, a duration, perhaps one failed span, a tenant.
 * Spans   a fixed tree: span i belongs to service i * services / spans_per_trace; span 0 is the root; the
 *         first span of each service is its entry, the others are children of that entry.
 * Span ID 6 bytes that follow from the trace ID, then the span's index + 1: who sees one span can say which
 *         of its trace's spans it is, and that it is one of ours.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/hash.h"
#include "common/base/slice.h"

#define MODEL_SPANS_MOST 1024
#define MODEL_TENANTS 32

struct model { /* as written into the ledger: fixed layout */
    uint64_t seed;
    uint32_t spans_per_trace, services;
    double error_percent, slow_percent; /* traces with a failed span; with a duration over slow_ms */
    uint64_t slow_ms;
    uint64_t base_unix_ns, step_ns; /* trace n starts at base + n * step */
};

struct model_trace {
    struct trace_id id;
    uint64_t span_prefix; /* the upper 48 bits of each of its span IDs */
    uint64_t start_unix_ns, duration_ns;
    uint32_t error_span; /* index of the failed span; UINT32_MAX: none */
    uint32_t tenant;
};

static inline uint64_t model_mix(uint64_t x) /* the finalizer of splitmix64: a bijection that looks random */
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ull;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

static inline uint64_t model_span_prefix(const struct trace_id *id)
{
    return hash_trace(id) & ~0xffffull;
}

/* Span IDs on the wire: big endian, index in the last two bytes. */
static inline uint64_t model_span_id(uint64_t prefix, uint32_t index)
{
    return __builtin_bswap64(prefix | (index + 1));
}

/* The index of a span of ours; -1: the span ID does not follow from the trace ID, it is a stranger's. */
static inline int model_span_index(const struct trace_id *id, const uint8_t span_id[8])
{
    uint64_t value;

    memcpy(&value, span_id, 8);
    value = __builtin_bswap64(value);
    if ((value & ~0xffffull) != model_span_prefix(id) || (value & 0xffff) == 0 ||
        (value & 0xffff) > MODEL_SPANS_MOST)
        return -1;
    return (int)(value & 0xffff) - 1;
}

struct model_trace model_trace(const struct model *model, uint64_t number);

/* First span index of a service; of service `services`: spans_per_trace. */
static inline uint32_t model_service_first(const struct model *model, uint32_t service)
{
    return (service * model->spans_per_trace + model->services - 1) / model->services;
}

static inline uint32_t model_span_service(const struct model *model, uint32_t index)
{
    return index * model->services / model->spans_per_trace;
}

/* Index of the parent; UINT32_MAX for the root. */
uint32_t model_span_parent(const struct model *model, uint32_t index);
