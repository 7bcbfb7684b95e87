/* The walk: each message of the two upper levels is scanned once when it is entered, because its own
 * fields may follow its children; then its children are yielded one by one.
 *
 * The scan of a ScopeSpans steps from span to span by their lengths, so it costs a few ns a span and
 * brings each span's first line into the cache. It has checked all framing: the second pass cannot fail.
 */
#include "common/otlp/span_walk.h"

#include "common/base/hash.h"

enum {
    FIELD_RESOURCE_SPANS = 1, /* of the request */
    FIELD_OWN_MESSAGE = 1,    /* resource, scope */
    FIELD_CHILDREN = 2,       /* scope_spans, spans */
    FIELD_SCHEMA_URL = 3,
};

#define TAG_CHILD WIRE_TAG(FIELD_CHILDREN, WIRE_BYTES)

/* -- header parts ---------------------------------------------------------------------------------- */

/* Steps over one field of a ResourceSpans or ScopeSpans. Returns whether it is a child. */
HOT_INLINE bool part_field(struct wire *w, struct slice *out_child)
{
    uint32_t tag = wire_tag(w);

    if (LIKELY(tag == TAG_CHILD)) {
        *out_child = wire_bytes(w);
        return true;
    }
    if (WIRE_FIELD(tag) >= FIELD_OWN_MESSAGE && WIRE_FIELD(tag) <= FIELD_SCHEMA_URL &&
        (tag & 7) != WIRE_BYTES)
        wire_fail(w);
    else
        wire_skip(w, tag);
    return false;
}

/* Runs of own fields in a message, found by scanning it: each call gives the next one. */
static bool run_next(struct wire *w, struct slice *out_run)
{
    struct slice child;

    while (wire_more(w)) {
        const uint8_t *start = w->at, *end = start;

        while (wire_more(w) && !part_field(w, &child))
            end = w->at;
        if (end > start) {
            *out_run = slice_make(start, (size_t)(end - start));
            return true;
        }
    }
    return false;
}

/* A part's fragments, one after the other, however many. */
struct fragments {
    const struct header_part *part;
    struct wire body;
    uint32_t index;
};

static struct fragments fragments_of(const struct header_part *part)
{
    return (struct fragments){part, wire_of(part->body), 0};
}

static bool fragments_next(struct fragments *fragments, struct slice *out_fragment)
{
    const struct header_part *part = fragments->part;

    if (UNLIKELY(part->fragment_count > HEADER_FRAGMENTS))
        return run_next(&fragments->body, out_fragment);
    if (fragments->index == part->fragment_count)
        return false;
    *out_fragment = part->fragments[fragments->index++];
    return true;
}

uint64_t header_part_hash(struct slice fields)
{
    return hash_bytes(fields.at, fields.len);
}

/* What header_part_hash gives for the fragments put together. */
static uint64_t fragments_hash(const struct header_part *part)
{
    uint8_t joined[512]; /* most headers: one copy is cheaper than a stream's set-up */
    struct fragments fragments;
    struct slice fragment;
    XXH3_state_t state;

    if (part->len == 0)
        return header_part_hash(SLICE_LITERAL(""));
    if (part->fragment_count == 1)
        return header_part_hash(part->fragments[0]);
    if (part->len <= sizeof(joined)) {
        (void)header_part_write(part, joined);
        return header_part_hash(slice_make(joined, part->len));
    }
    (void)XXH3_64bits_reset(&state);
    for (fragments = fragments_of(part); fragments_next(&fragments, &fragment);)
        (void)XXH3_64bits_update(&state, fragment.at, fragment.len);
    return XXH3_64bits_digest(&state);
}

uint64_t span_header_hash(const struct header_part *resource, const struct header_part *scope)
{
    uint64_t both[2] = {resource->hash, scope->hash};

    return hash_bytes(both, sizeof(both));
}

static void part_add(struct header_part *part, const uint8_t *start, const uint8_t *end)
{
    if (start == end)
        return;
    part->len += (uint32_t)(end - start);
    if (part->fragment_count < HEADER_FRAGMENTS)
        part->fragments[part->fragment_count++] = slice_make(start, (size_t)(end - start));
    else
        part->fragment_count = HEADER_FRAGMENTS + 1;
}

/* Scans a ResourceSpans or ScopeSpans: its framing, and its own fields into a part, not hashed yet.
 * Returns the number of children; on bad framing sets *bad. */
static size_t part_scan(struct slice body, struct header_part *part, bool *bad)
{
    struct wire w = wire_of(body);
    const uint8_t *run = w.at; /* where the current run of own fields began */
    size_t children = 0;
    struct slice child;

    part->body = body;
    part->fragment_count = 0;
    part->len = 0;
    while (wire_more(&w)) {
        const uint8_t *field = w.at;

        if (!part_field(&w, &child))
            continue;
        part_add(part, run, field);
        run = w.at;
        children++;
    }
    if (UNLIKELY(w.bad))
        *bad = true;
    else
        part_add(part, run, w.at);
    return children;
}

uint8_t *header_part_write(const struct header_part *part, uint8_t *out)
{
    struct fragments fragments = fragments_of(part);
    struct slice fragment;

    while (fragments_next(&fragments, &fragment)) {
        memcpy(out, fragment.at, fragment.len);
        out += fragment.len;
    }
    return out;
}

bool header_part_equal(const struct header_part *a, const struct header_part *b)
{
    struct fragments of_a = fragments_of(a), of_b = fragments_of(b);
    struct slice left = {NULL, 0}, right = {NULL, 0};

    if (a->len != b->len)
        return false;
    if (a->body.at == b->body.at && a->body.len == b->body.len)
        return true;
    for (;;) {
        size_t step;

        if (left.len == 0 && !fragments_next(&of_a, &left))
            return true; /* the lengths are equal: b has ended too */
        if (right.len == 0 && !fragments_next(&of_b, &right))
            return true;
        step = left.len < right.len ? left.len : right.len;
        if (memcmp(left.at, right.at, step) != 0)
            return false;
        left = slice_make(left.at + step, left.len - step);
        right = slice_make(right.at + step, right.len - step);
    }
}

struct header_part header_part_of(struct slice fields, uint64_t hash)
{
    return (struct header_part){
        .body = fields,
        .fragments = {fields},
        .fragment_count = fields.len > 0 ? 1 : 0,
        .len = (uint32_t)fields.len,
        .hash = hash,
    };
}

/* -- a span's own fields ----------------------------------------------------------------------------- */

#define SPAN_FIELDS_MAX 16

/* trace.proto, Span: the wire type of each field. */
static const uint8_t span_field_types[SPAN_FIELDS_MAX + 1] = {
    [1] = WIRE_BYTES,   /* trace_id */
    [2] = WIRE_BYTES,   /* span_id */
    [3] = WIRE_BYTES,   /* trace_state */
    [4] = WIRE_BYTES,   /* parent_span_id */
    [5] = WIRE_BYTES,   /* name */
    [6] = WIRE_VARINT,  /* kind */
    [7] = WIRE_FIXED64, /* start_time_unix_nano */
    [8] = WIRE_FIXED64, /* end_time_unix_nano */
    [9] = WIRE_BYTES,   /* attributes */
    [10] = WIRE_VARINT, /* dropped_attributes_count */
    [11] = WIRE_BYTES,  /* events */
    [12] = WIRE_VARINT, /* dropped_events_count */
    [13] = WIRE_BYTES,  /* links */
    [14] = WIRE_VARINT, /* dropped_links_count */
    [15] = WIRE_BYTES,  /* status */
    [16] = WIRE_FIXED32, /* flags */
};

struct span_ids {
    struct slice trace_id, span_id, parent_span_id;
};

/* Any field in any legal spelling. */
static void span_field(struct wire *w, struct span_ids *ids)
{
    uint32_t tag = wire_tag(w), field = WIRE_FIELD(tag);

    if (field <= SPAN_FIELDS_MAX && (tag & 7) != span_field_types[field]) {
        wire_fail(w);
        return;
    }
    switch (field) {
    case 1:
        ids->trace_id = wire_bytes(w);
        break;
    case 2:
        ids->span_id = wire_bytes(w);
        break;
    case 4:
        ids->parent_span_id = wire_bytes(w);
        break;
    default:
        wire_skip(w, tag);
    }
}

/* Scans all fields, since the last occurrence of an ID wins. Fields as encoders write them, a one-byte tag
 * and a length below 2^14, are stepped over in line; span_field takes the rest. */
static bool span_scan(struct slice span, struct span_ids *ids)
{
    const uint8_t *at = span.at, *end = span.at + span.len;
    struct wire w;

    /* 0a 10 trace_id 12 08 span_id: how nearly every span begins */
    if (LIKELY(span.len >= 28 && at[0] == 0x0a && at[1] == 16 && at[18] == 0x12 && at[19] == 8)) {
        ids->trace_id = slice_make(at + 2, 16);
        ids->span_id = slice_make(at + 20, 8);
        at += 28;
    }
    while (LIKELY(end - at >= 3)) {
        size_t len = at[1], head = 2;

        switch (at[0]) {
        case WIRE_TAG(9, WIRE_BYTES):
            /* Attributes come in rows: the branch below stays predicted. */
            while (len < 0x80 && (size_t)(end - at) >= len + 5 && at[2 + len] == WIRE_TAG(9, WIRE_BYTES)) {
                at += 2 + len;
                len = at[1];
            }
            goto bytes;
        case WIRE_TAG(3, WIRE_BYTES):
        case WIRE_TAG(5, WIRE_BYTES):
        case WIRE_TAG(11, WIRE_BYTES):
        case WIRE_TAG(13, WIRE_BYTES):
        case WIRE_TAG(15, WIRE_BYTES):
        bytes:
            if (len >= 0x80) {
                if (UNLIKELY(at[2] >= 0x80))
                    break;
                len = (len & 0x7f) | (size_t)at[2] << 7;
                head = 3;
            }
            if (UNLIKELY(len > (size_t)(end - at) - head))
                return false;
            at += head + len;
            continue;
        case WIRE_TAG(4, WIRE_BYTES):
            if (UNLIKELY(len != 8 || end - at < 10))
                break;
            ids->parent_span_id = slice_make(at + 2, 8);
            at += 10;
            continue;
        case WIRE_TAG(7, WIRE_FIXED64):
        case WIRE_TAG(8, WIRE_FIXED64):
            if (UNLIKELY(end - at < 9))
                return false;
            at += 9;
            continue;
        case WIRE_TAG(6, WIRE_VARINT):
        case WIRE_TAG(10, WIRE_VARINT):
        case WIRE_TAG(12, WIRE_VARINT):
        case WIRE_TAG(14, WIRE_VARINT):
            if (UNLIKELY(len >= 0x80))
                break;
            at += 2;
            continue;
        case (WIRE_TAG(16, WIRE_FIXED32) & 0x7f) | 0x80:
            if (UNLIKELY(len != WIRE_TAG(16, WIRE_FIXED32) >> 7 || end - at < 6))
                break;
            at += 6;
            continue;
        default:
            break;
        }
        w = (struct wire){at, end, false};
        span_field(&w, ids);
        if (UNLIKELY(w.bad))
            return false;
        at = w.at;
    }
    w = (struct wire){at, end, false};
    while (wire_more(&w))
        span_field(&w, ids);
    return !w.bad;
}

static bool span_id_is_good(struct slice id)
{
    uint64_t word;

    if (id.len != 8)
        return false;
    memcpy(&word, id.at, 8);
    return word != 0;
}

HOT_INLINE enum span_fault span_judge(struct slice span, struct trace_id *out_trace_id)
{
    struct span_ids ids = {{NULL, 0}, {NULL, 0}, {NULL, 0}};

    *out_trace_id = (struct trace_id){{0}};
    if (UNLIKELY(span.len > 0 && !span_scan(span, &ids)))
        return SPAN_MALFORMED;
    if (UNLIKELY(ids.parent_span_id.len != 0 && ids.parent_span_id.len != 8))
        return SPAN_MALFORMED;
    if (UNLIKELY(ids.trace_id.len != sizeof(*out_trace_id)))
        return SPAN_NO_TRACE_ID;
    memcpy(out_trace_id, ids.trace_id.at, sizeof(*out_trace_id));
    if (UNLIKELY(trace_id_is_zero(out_trace_id)))
        return SPAN_NO_TRACE_ID;
    if (UNLIKELY(!span_id_is_good(ids.span_id)))
        return SPAN_NO_SPAN_ID;
    return SPAN_OK;
}

/* -- the walk ----------------------------------------------------------------------------------------- */

void span_walk_init(struct span_walk *walk, struct slice request)
{
    static const struct wire nothing = {NULL, NULL, false};

    walk->request = wire_of(request);
    walk->resource_spans = nothing;
    walk->scope_spans = nothing;
    walk->header_index = 0;
    walk->span_index = 0;
    walk->bad = false;
    if (request.len > REQUEST_BYTES_MAX) {
        wire_fail(&walk->request);
        walk->bad = true;
    }
}

/* Ends the walk: no level has anything left. */
static bool walk_fail(struct span_walk *walk)
{
    wire_fail(&walk->request);
    wire_fail(&walk->resource_spans);
    wire_fail(&walk->scope_spans);
    walk->bad = true;
    return false;
}

/* Enters the next ResourceSpans that has scope spans. */
static bool walk_next_resource(struct span_walk *walk)
{
    struct wire *request = &walk->request;

    while (wire_more(request)) {
        uint32_t tag = wire_tag(request);
        size_t children;
        struct slice body;

        if (WIRE_FIELD(tag) != FIELD_RESOURCE_SPANS) {
            wire_skip(request, tag);
            continue;
        }
        if ((tag & 7) != WIRE_BYTES)
            return walk_fail(walk);
        body = wire_bytes(request);
        if (request->bad)
            return walk_fail(walk);
        children = part_scan(body, &walk->header.resource, &walk->bad);
        if (walk->bad)
            return walk_fail(walk);
        if (children == 0)
            continue;
        walk->header.resource.hash = fragments_hash(&walk->header.resource);
        walk->resource_spans = wire_of(body);
        return true;
    }
    return request->bad ? walk_fail(walk) : false;
}

/* Enters the next ScopeSpans that has spans. */
static bool walk_next_scope(struct span_walk *walk)
{
    struct slice body;
    size_t children;

    do {
        while (wire_more(&walk->resource_spans)) {
            if (!part_field(&walk->resource_spans, &body))
                continue;
            children = part_scan(body, &walk->header.scope, &walk->bad);
            if (walk->bad)
                return walk_fail(walk);
            if (children == 0)
                continue;
            walk->header.scope.hash = fragments_hash(&walk->header.scope);
            walk->header.hash = span_header_hash(&walk->header.resource, &walk->header.scope);
            walk->header_index++;
            walk->scope_spans = wire_of(body);
            return true;
        }
    } while (walk_next_resource(walk));
    return false;
}

bool span_walk_next(struct span_walk *walk, struct span_ref *out_span)
{
    struct slice span;

    for (;;) {
        while (wire_more(&walk->scope_spans)) {
            if (!part_field(&walk->scope_spans, &span))
                continue;
            out_span->bytes = span;
            out_span->header = &walk->header;
            out_span->header_index = walk->header_index;
            out_span->index = walk->span_index++;
            out_span->fault = span_judge(span, &out_span->trace_id);
            return true;
        }
        if (!walk_next_scope(walk))
            return false;
    }
}
