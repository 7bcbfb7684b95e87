/* Distinct resource and scope contexts, one copy each, reference-counted: a thousand traces share a few. The metadata that
 * the spans' client sent along (a tenant, say) is part of what makes them distinct: spans of unequal sets stay apart.
 *
 * Unused  a header without references stays a while (the last 1024, 1 MiB), so that a service whose traces come one at a time
 *         does not have it copied anew each time.
 * Owner   one worker. Cost: a find is one hash look-up and one compare per ScopeSpans of a request, not per span.
 */
#pragma once

#include <stdint.h>

#include "common/base/list.h"
#include "common/base/metadata.h"
#include "common/otlp/span_walk.h"
#include "sampler/decide/facts.h"

struct header {
    const struct metadata_set *metadata; /* a reference; NULL: none */
    struct span_header view;   /* both parts made of this header's own bytes */
    struct list idle;          /* linked while refs is 0 */
    uint32_t index;            /* header_at finds it by this, as long as it has references */
    uint32_t refs;             /* spans that hang on it, and the caller's */
    uint32_t bytes_len;
    uint64_t last_trace_hash;  /* the trace that a span of it was last added to, for trace sizes */
    uint64_t hits_generation;  /* policy generation that `hits` answers for; 0: none yet */
    struct hits hits;          /* header predicates, answered once */
    uint8_t bytes[];
};

struct header_table;
struct header_table *header_table_new(void);
void header_table_free(struct header_table *table); /* all references must be gone; accepts NULL */
/* Finds or copies; one reference for the caller. metadata: borrowed, a reference is taken. NULL: no memory. */
struct header *header_table_get(struct header_table *table, const struct span_header *header, const struct metadata_set *metadata);
/* One more reference. */
void header_ref(struct header_table *table, struct header *header);
void header_unref(struct header_table *table, struct header *header, uint32_t count);
struct header *header_at(const struct header_table *table, uint32_t index);
uint64_t header_table_count(const struct header_table *table); /* with the unused ones still kept */
uint64_t header_table_bytes(const struct header_table *table); /* of all of it, heap included */
