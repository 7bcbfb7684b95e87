/* Walks an ExportTraceServiceRequest in place and yields its spans as borrowed slices.
 *
 * Checks  lengths, varints, nesting, wire types, and each span's own fields (1-16). What is inside
 *         attributes, events and links is span_view.h's work.
 * Law     no input makes it read out of bounds, loop or allocate.
 * Order   fields may come in any order, be repeated (last wins for scalars; a header keeps all its
 *         pieces, so messages merge) and include unknown ones, carried through untouched, except
 *         those of the request itself: they belong to no span and end here. Groups are refused.
 * Faults  inside a span's own fields: that span's (span_ref.fault). Anywhere above: the request's
 *         (span_walk.bad). Resource and scope spans without spans yield nothing.
 * Source  opentelemetry/proto/trace/v1/trace.proto
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/otlp/wire.h"

/* Fragments of a header that are kept apart; past this they are found again by scanning the body. */
#define HEADER_FRAGMENTS 4

/* One level of a span's context: all fields of a ResourceSpans or ScopeSpans but the repeated child
 * (field 2 in both), borrowed from the request, with tags, in order. */
struct header_part {
    struct slice body;                        /* the message it was found in, children and all */
    struct slice fragments[HEADER_FRAGMENTS]; /* its own fields, in order */
    uint32_t fragment_count;                  /* HEADER_FRAGMENTS + 1: scan body instead */
    uint32_t len;                             /* of all fragments together */
    uint64_t hash;                            /* of the fragments' bytes in order; 0 length: of "" */
};

struct span_header {
    struct header_part resource; /* ResourceSpans without field 2 (scope_spans) */
    struct header_part scope;    /* ScopeSpans without field 2 (spans) */
    uint64_t hash;               /* of both */
};

enum span_fault {
    SPAN_OK,
    SPAN_NO_TRACE_ID,  /* absent, all zero, or not 16 bytes */
    SPAN_NO_SPAN_ID,   /* absent, all zero, or not 8 bytes */
    SPAN_MALFORMED,    /* a field of its own has a wrong wire type or length, or a parent ID not of 0 or 8 bytes */
};

struct span_ref {
    struct slice bytes;               /* the Span message's content, without tag and length */
    const struct span_header *header; /* valid until the next span_walk_next */
    uint32_t header_index;            /* 1 at first, +1 whenever the header changes: compare to reuse work */
    uint32_t index;                   /* of the span in the request, from 0 */
    enum span_fault fault;
    struct trace_id trace_id;         /* zero when fault is SPAN_NO_TRACE_ID or SPAN_MALFORMED */
};

/* Requests of more bytes are refused as bad: protobuf's own limit, and what keeps lengths in 32 bits. */
#define REQUEST_BYTES_MAX INT32_MAX

struct span_walk {
    struct wire request, resource_spans, scope_spans;
    struct span_header header;
    uint32_t header_index;
    uint32_t span_index;
    bool bad; /* the framing is broken: refuse the whole request */
};

void span_walk_init(struct span_walk *walk, struct slice request);

/* False at the end and on bad framing (look at walk->bad). Bad framing may be found after spans were
 * yielded, so act on none of them before the walk has ended. */
bool span_walk_next(struct span_walk *walk, struct span_ref *out_span);

/* Calls for each fragment of a part, also past HEADER_FRAGMENTS: writes len bytes at out and returns out + len. */
uint8_t *header_part_write(const struct header_part *part, uint8_t *out);

/* Same bytes, wherever they lie and however they are cut: equal parts have equal hashes, not the reverse. */
bool header_part_equal(const struct header_part *a, const struct header_part *b);

/* A part made of bytes that are already nothing but header fields (as header_part_write wrote). */
struct header_part header_part_of(struct slice fields, uint64_t hash);

/* The hash that span_walk gives to a part of these bytes, and to a header of two parts. */
uint64_t header_part_hash(struct slice fields);
uint64_t span_header_hash(const struct header_part *resource, const struct header_part *scope);
