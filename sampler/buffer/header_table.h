/* Distinct resource and scope contexts, one copy each, reference-counted: a thousand traces share a few.
 *
 * Owner   one worker. Cost: a find is one hash look-up per ScopeSpans of a request, not per span.
 */
#pragma once

#include <stdint.h>

#include "common/otlp/span_walk.h"
#include "sampler/decide/facts.h"

struct header {
    struct span_header view;   /* both parts made of this header's own bytes */
    struct header *next;       /* in the bucket */
    uint32_t refs;             /* spans that hang on it, and the caller's */
    uint32_t bytes_len;
    uint64_t hits_generation;  /* policy generation that `hits` answers for; 0: none yet */
    struct hits hits;          /* header predicates, answered once */
    uint8_t bytes[];
};

struct header_table;
struct header_table *header_table_new(void);
void header_table_free(struct header_table *table); /* all references must be gone */
/* Finds or copies; one reference for the caller. NULL: no memory. */
struct header *header_table_get(struct header_table *table, const struct span_header *header);
void header_unref(struct header_table *table, struct header *header, uint32_t count);
uint64_t header_table_count(const struct header_table *table);
uint64_t header_table_bytes(const struct header_table *table);
