/* A request's spans with their facts, found in one walk while the bytes are hot; nothing is stored yet.
 *
 * A request whose framing is broken is refused as a whole, so nothing may be stored before the walk has ended: what it
 * found waits in this scratch, one a worker, reused.
 */
#pragma once

#include <stdint.h>

#include "common/otlp/span_walk.h"
#include "sampler/buffer/header_table.h"
#include "sampler/decide/policy_set.h"

struct intake_header {
    struct span_header view; /* borrowed from the request */
    struct header *header;   /* interned at the worker that received it, one reference held until intake_release */
    bool malformed;
};

struct intake_span {
    struct slice bytes;      /* borrowed from the request */
    uint64_t id_hash;        /* hash_trace of its trace ID */
    uint64_t span_hash;      /* of its bytes */
    struct trace_id id;
    uint32_t header;         /* index in headers */
    struct span_facts facts;
};

struct intake {
    struct intake_span *spans;
    size_t span_count, span_capacity;
    struct intake_header *headers;
    size_t header_count, header_capacity;
    const struct metadata_set *metadata; /* of the request, borrowed until intake_release */
    uint32_t *rejected;      /* indices in the request, rising */
    size_t rejected_count, rejected_capacity;
    uint32_t fault_counts[4]; /* by enum span_fault */
};

void intake_init(struct intake *intake);
void intake_deinit(struct intake *intake);

/* False: the framing is broken, refuse the request. Ends with intake_release either way. metadata: of its client, or NULL. */
bool intake_read(struct intake *intake, struct slice request, const struct metadata_set *metadata, const struct policy_set *set, struct predicate_scratch *scratch,
    struct header_table *headers);
void intake_release(struct intake *intake, struct header_table *headers);
