/* Three arrays: resources, headers (a scope under a resource), spans. Each resource chains its headers and
 * each header its spans, in order of arrival, so that writing follows the chains and nothing is sorted.
 * Sizes are kept per header as spans come in: the exact size costs a step a header, not a step a span.
 *
 * Equal parts are found by hash, then compared byte by byte: no hash collision can give a span a header
 * that is not its own.
 */
#include "common/otlp/regroup.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/base/error.h"
#include "common/otlp/wire.h"

#define NONE REGROUP_NO_HEADER /* also ends a chain */
#define TAG_RESOURCE_SPANS WIRE_TAG(1, WIRE_BYTES) /* of the request */
#define TAG_CHILD WIRE_TAG(2, WIRE_BYTES)          /* scope_spans, spans */

/* Room for a one-byte tag and length of a level: five bytes of length reach 32 GiB. */
#define LEVEL_BYTES_MAX 6

struct group_resource {
    struct header_part part;
    uint32_t first_header, last_header;
    size_t body_size; /* set by regroup_size */
    bool has_spans;   /* likewise */
};

struct group_header {
    struct header_part scope;
    uint32_t resource;
    uint32_t next; /* of the same resource */
    uint32_t first_span, last_span;
    size_t spans_size; /* of its spans with tags and lengths */
};

struct group_span {
    struct rope bytes;
    uint32_t next; /* of the same header */
};

/* Numbers of an array's items by hash: open addressing, at most half full. */
struct group_slot {
    uint64_t hash;
    uint32_t number;
    uint32_t generation; /* another than the index's: free */
};

struct group_index {
    struct group_slot *slots;
    size_t size; /* a power of two, or 0 */
    uint32_t generation;
};

/* Memory lent until the next reset; the newest first. */
struct group_lent {
    struct group_lent *next;
    size_t capacity, used;
    uint8_t bytes[];
};

struct regroup {
    struct group_resource *resources;
    struct group_header *headers;
    struct group_span *spans;
    size_t resource_count, header_count, span_count;
    size_t resource_capacity, header_capacity, span_capacity;
    struct group_index resource_index, header_index;
    struct group_lent *lent;
    size_t size_bound;
    bool sized; /* regroup_size ran after the last change */
};

/* -- scratch that grows ------------------------------------------------------------------------------ */

#define LENT_BYTES (64 * KIB)        /* a piece at least */
#define SCRATCH_KEEP_BYTES (4 * MIB) /* of spans: more than a request of usual size needs by far */

/* Doubles an array that is full. False: no memory, nothing changed. */
static bool array_grow(void **items, size_t *capacity, size_t item_size)
{
    size_t more = *capacity > 0 ? *capacity * 2 : 64;
    void *grown;

    if (more >= NONE)
        return false;
    grown = realloc(*items, more * item_size);
    if (!grown)
        return false;
    *items = grown;
    *capacity = more;
    return true;
}

/* Forgets all without touching the slots: a large request once must not make each small one pay. */
static void index_reset(struct group_index *index)
{
    index->generation++;
    if (index->generation == 0 && index->size > 0) {
        memset(index->slots, 0, index->size * sizeof(*index->slots));
        index->generation = 1;
    }
}

/* The number of the next item with this hash, or NONE with *at at the free slot where it would go. *at: the hash at
 * first, then as the last call left it. */
HOT_INLINE uint32_t index_next(const struct group_index *index, uint64_t hash, size_t *at)
{
    for (;; (*at)++) {
        const struct group_slot *slot = &index->slots[*at & (index->size - 1)];

        if (slot->generation != index->generation)
            return NONE;
        if (slot->hash == hash) {
            (*at)++;
            return slot->number;
        }
    }
}

static void index_put(struct group_index *index, size_t at, uint64_t hash, uint32_t number)
{
    index->slots[at & (index->size - 1)] = (struct group_slot){hash, number, index->generation};
}

/* Makes room for one item more than count. */
static bool index_reserve(struct group_index *index, size_t count)
{
    struct group_index grown = {NULL, index->size > 0 ? index->size * 2 : 64, 1};

    if (LIKELY((count + 1) * 2 <= index->size))
        return true;
    grown.slots = calloc(grown.size, sizeof(*grown.slots));
    if (!grown.slots)
        return false;
    for (size_t i = 0; i < index->size; i++) {
        const struct group_slot *slot = &index->slots[i];
        size_t at = (size_t)slot->hash;

        if (slot->generation != index->generation)
            continue;
        while (index_next(&grown, slot->hash, &at) != NONE)
            continue;
        index_put(&grown, at, slot->hash, slot->number);
    }
    free(index->slots);
    *index = grown;
    return true;
}

/* -- life -------------------------------------------------------------------------------------------- */

struct regroup *regroup_new(void)
{
    struct regroup *regroup = calloc(1, sizeof(*regroup));

    if (!regroup)
        return NULL;
    regroup->resource_index.generation = 1;
    regroup->header_index.generation = 1;
    return regroup;
}

/* Takes back all that was lent; keeps one piece of usual size. */
static void lent_shrink(struct regroup *regroup, bool keep)
{
    struct group_lent *lent = regroup->lent, *kept = NULL, *next;

    for (; lent; lent = next) {
        next = lent->next;
        if (keep && !kept && lent->capacity == LENT_BYTES)
            kept = lent;
        else
            free(lent);
    }
    if (kept) {
        kept->next = NULL;
        kept->used = 0;
    }
    regroup->lent = kept;
}

uint8_t *regroup_lend(struct regroup *regroup, size_t size)
{
    struct group_lent *lent = regroup->lent;

    if (!lent || lent->capacity - lent->used < size) {
        size_t capacity = size_max(size, LENT_BYTES);

        lent = malloc(sizeof(*lent) + capacity);
        if (!lent)
            return NULL;
        *lent = (struct group_lent){.next = regroup->lent, .capacity = capacity};
        regroup->lent = lent;
    }
    lent->used += size;
    return lent->bytes + lent->used - size;
}

void regroup_free(struct regroup *regroup)
{
    if (!regroup)
        return;
    free(regroup->resources);
    free(regroup->headers);
    free(regroup->spans);
    free(regroup->resource_index.slots);
    free(regroup->header_index.slots);
    lent_shrink(regroup, false);
    free(regroup);
}

/* One huge request must not cost its scratch for ever. */
static void spans_shrink(struct regroup *regroup)
{
    if (regroup->span_capacity * sizeof(*regroup->spans) <= SCRATCH_KEEP_BYTES)
        return;
    free(regroup->spans);
    regroup->spans = NULL;
    regroup->span_capacity = 0;
}

void regroup_reset(struct regroup *regroup)
{
    spans_shrink(regroup);
    lent_shrink(regroup, true);
    index_reset(&regroup->resource_index);
    index_reset(&regroup->header_index);
    regroup->resource_count = 0;
    regroup->header_count = 0;
    regroup->span_count = 0;
    regroup->size_bound = 0;
    regroup->sized = false;
}

/* -- adding ------------------------------------------------------------------------------------------ */

static uint32_t resource_get(struct regroup *regroup, const struct header_part *part)
{
    size_t at = (size_t)part->hash;
    struct group_resource *resource;
    uint32_t number;

    if (!index_reserve(&regroup->resource_index, regroup->resource_count))
        return NONE;
    while ((number = index_next(&regroup->resource_index, part->hash, &at)) != NONE)
        if (header_part_equal(&regroup->resources[number].part, part))
            return number;
    if (regroup->resource_count == regroup->resource_capacity &&
        !array_grow((void **)&regroup->resources, &regroup->resource_capacity, sizeof(*resource)))
        return NONE;
    number = (uint32_t)regroup->resource_count++;
    resource = &regroup->resources[number];
    *resource = (struct group_resource){.part = *part, .first_header = NONE, .last_header = NONE};
    index_put(&regroup->resource_index, at, part->hash, number);
    regroup->size_bound += LEVEL_BYTES_MAX + part->len;
    return number;
}

/* A header known to be new, into the free slot `at`. */
static uint32_t header_add(struct regroup *regroup, const struct span_header *view, size_t at)
{
    struct group_resource *resource;
    uint32_t number, resource_number;

    if (regroup->header_count == regroup->header_capacity &&
        !array_grow((void **)&regroup->headers, &regroup->header_capacity, sizeof(*regroup->headers)))
        return NONE;
    resource_number = resource_get(regroup, &view->resource);
    if (resource_number == NONE)
        return NONE;
    number = (uint32_t)regroup->header_count++;
    regroup->headers[number] = (struct group_header){
        .scope = view->scope,
        .resource = resource_number,
        .next = NONE,
        .first_span = NONE,
        .last_span = NONE,
    };
    resource = &regroup->resources[resource_number];
    if (resource->first_header == NONE)
        resource->first_header = number;
    else
        regroup->headers[resource->last_header].next = number;
    resource->last_header = number;
    index_put(&regroup->header_index, at, view->hash, number);
    regroup->size_bound += LEVEL_BYTES_MAX + view->scope.len;
    regroup->sized = false;
    return number;
}

uint32_t regroup_header(struct regroup *regroup, const struct span_header *header)
{
    size_t at = (size_t)header->hash;
    uint32_t number;

    if (!index_reserve(&regroup->header_index, regroup->header_count))
        return NONE;
    while ((number = index_next(&regroup->header_index, header->hash, &at)) != NONE) {
        const struct group_header *known = &regroup->headers[number];

        if (header_part_equal(&known->scope, &header->scope) &&
            header_part_equal(&regroup->resources[known->resource].part, &header->resource))
            return number;
    }
    return header_add(regroup, header, at);
}

int regroup_span(struct regroup *regroup, uint32_t header_number, struct rope bytes)
{
    size_t size = wire_bytes_size(TAG_CHILD, bytes.len);
    struct group_header *header;
    uint32_t number;

    if (UNLIKELY(header_number == REGROUP_NO_HEADER))
        return error_raise(-ENOMEM);
    ASSERT(header_number < regroup->header_count);
    if (UNLIKELY(regroup->span_count == regroup->span_capacity) &&
        !array_grow((void **)&regroup->spans, &regroup->span_capacity, sizeof(*regroup->spans)))
        return error_raise(-ENOMEM);
    number = (uint32_t)regroup->span_count++;
    regroup->spans[number] = (struct group_span){.bytes = bytes, .next = NONE};
    header = &regroup->headers[header_number];
    if (header->first_span == NONE)
        header->first_span = number;
    else
        regroup->spans[header->last_span].next = number;
    header->last_span = number;
    header->spans_size += size;
    regroup->size_bound += size;
    regroup->sized = false;
    return 0;
}

/* -- sizes, then bytes ------------------------------------------------------------------------------- */

size_t regroup_span_count(const struct regroup *regroup)
{
    return regroup->span_count;
}

size_t regroup_size_bound(const struct regroup *regroup)
{
    return regroup->size_bound;
}

static size_t header_body_size(const struct group_header *header)
{
    return header->scope.len + header->spans_size;
}

size_t regroup_size(struct regroup *regroup)
{
    size_t size = 0;

    for (size_t i = 0; i < regroup->resource_count; i++) {
        struct group_resource *resource = &regroup->resources[i];
        uint32_t number = resource->first_header;

        resource->body_size = resource->part.len;
        resource->has_spans = false;
        for (; number != NONE; number = regroup->headers[number].next) {
            const struct group_header *header = &regroup->headers[number];

            if (header->first_span == NONE)
                continue;
            resource->body_size += wire_bytes_size(TAG_CHILD, header_body_size(header));
            resource->has_spans = true;
        }
        if (resource->has_spans)
            size += wire_bytes_size(TAG_RESOURCE_SPANS, resource->body_size);
    }
    regroup->sized = true;
    return size;
}

/* One ScopeSpans: its own fields, then its spans. The next span's bytes are asked for while this one's are copied:
 * spans of a trace lie apart and, when the trace was kept for long, in no cache. */
static uint8_t *scope_write(const struct regroup *regroup, const struct group_header *header, uint8_t *out)
{
    const struct group_span *span = &regroup->spans[header->first_span];

    out = wire_put_varint(out, TAG_CHILD);
    out = wire_put_varint(out, header_body_size(header));
    out = header_part_write(&header->scope, out);
    for (;;) {
        const struct group_span *next = span->next == NONE ? NULL : &regroup->spans[span->next];

        if (next)
            __builtin_prefetch(next->bytes.at);
        *out++ = (uint8_t)TAG_CHILD;
        out = wire_put_varint(out, span->bytes.len);
        if (LIKELY(span->bytes.at_len == span->bytes.len)) {
            if (LIKELY(span->bytes.len > 0))
                memcpy(out, span->bytes.at, span->bytes.len);
        } else {
            rope_copy(&span->bytes, out);
        }
        out += span->bytes.len;
        if (!next)
            return out;
        span = next;
    }
}

uint8_t *regroup_write(struct regroup *regroup, uint8_t *out)
{
    ASSERT(regroup->sized);
    for (size_t i = 0; i < regroup->resource_count; i++) {
        const struct group_resource *resource = &regroup->resources[i];
        uint32_t number = resource->first_header;

        if (!resource->has_spans)
            continue;
        out = wire_put_varint(out, TAG_RESOURCE_SPANS);
        out = wire_put_varint(out, resource->body_size);
        out = header_part_write(&resource->part, out);
        for (; number != NONE; number = regroup->headers[number].next) {
            const struct group_header *header = &regroup->headers[number];

            if (header->first_span != NONE)
                out = scope_write(regroup, header, out);
        }
    }
    return out;
}
