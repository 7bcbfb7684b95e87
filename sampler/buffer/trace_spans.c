/* A trace's spans: their records, their bytes, and whether one was there before. How they lie: trace_inside.h. */
#include "sampler/buffer/trace_inside.h"

#include <string.h>

#include "common/base/assert.h"
#include "common/base/num.h"
#include "common/base/plant.h"

#define COMPARED_MOST 32u /* spans of a trace whose hashes are compared one by one: half a KiB */
/* What the last block of a trace may leave empty, at first: half a block of the second class; and as a
 * part of the trace: 3 % (measured with bench/micro/micro_buffer: less costs more in block headers). */
#define SLACK_BYTES 128u
#define SLACK_FRACTION 32u

/* -- records --------------------------------------------------------------------------------------- */

static bool trace_has(const struct trace *trace, uint64_t span_hash)
{
    struct hash_set *set = trace_hash_set(trace);
    struct record_walk walk;
    const struct span_record *record;

    if (set)
        return hash_set_has(set, span_hash);
    walk = record_walk_start(trace);
    while ((record = record_next(trace, &walk))) {
        if (record->hash == span_hash)
            return true;
    }
    return false;
}

/* From now on its hashes are looked up. */
static bool trace_index_hashes(struct trace_table *table, struct trace *trace)
{
    struct hash_set *set = hash_set_new(table->store);
    struct record_walk walk = record_walk_start(trace);
    struct record_block *block = trace->last_records;
    const struct span_record *record;

    if (!set)
        return false;
    while ((record = record_next(trace, &walk))) {
        if (!hash_set_add(set, record->hash)) {
            hash_set_free(set);
            return false;
        }
    }
    do {
        block->hashes = set;
        block = block->next;
    } while (block != trace->last_records);
    return true;
}

/* The class of the next block for records. record_count: how many there will be in all, 0: unknown. Larger traces take larger blocks. */
static unsigned record_class(const struct trace *trace, uint32_t record_count)
{
    size_t each = sizeof(struct span_record) + (trace->journaled ? sizeof(struct journal_pos) : 0);
    unsigned class_index = 0;

    if (record_count > trace->span_count) {
        size_t bytes = sizeof(struct record_block) + (record_count - trace->span_count) * each;

        while (class_index < BLOCK_CLASSES - 1 && block_class_bytes[class_index] < bytes)
            class_index++;
        return class_index;
    }
    if (trace->span_count < 16) /* with places 256 bytes take ten: few traces need a second block, and then not much of it */
        return trace->journaled && trace->last_records ? BLOCK_CLASS_128 : BLOCK_CLASS_256;
    return trace->span_count < 128 ? BLOCK_CLASS_512 : BLOCK_CLASS_4096;
}

/* Where the next record goes; NULL: no memory. */
static inline struct span_record *record_room(struct trace_table *table, struct trace *trace, uint32_t record_count)
{
    struct record_block *block;

    if (trace->span_count < records_own(trace))
        return record_own(trace, trace->span_count);
    if (trace->records_left == 0) {
        struct record_block *last = trace->last_records;

        block = (struct record_block *)(void *)block_new_class(table->store, record_class(trace, record_count));
        if (!block)
            return NULL;
        block->hashes = trace_hash_set(trace);
        block->next = last ? last->next : block;
        if (last)
            last->next = block;
        trace->last_records = block;
        trace->records_used = 0;
        trace->records_left = (uint16_t)records_in(trace, block);
    }
    return &trace->last_records->records[trace->records_used];
}

/* -- bytes ------------------------------------------------------------------------------- */

/* The class of the next block for `len` more bytes: the largest that these fill but for the slack allowed. */
static unsigned class_for(size_t len, uint64_t trace_bytes)
{
    size_t reach = len + size_max(SLACK_BYTES, trace_bytes / SLACK_FRACTION);
    unsigned class_index = BLOCK_CLASSES - 1;

    while (class_index > 0 && block_class_capacity(class_index) > reach)
        class_index--;
    return class_index;
}

/* Where a chain ended, to go back to. */
struct bytes_mark {
    struct block *tail;
    uint64_t bytes;
    uint16_t tail_used, tail_left;
};

static struct bytes_mark bytes_mark(const struct trace *trace)
{
    return (struct bytes_mark){trace->tail, trace->bytes, trace->tail_used, trace->tail_left};
}

static void bytes_back_to(struct trace_table *table, struct trace *trace, const struct bytes_mark *mark)
{
    block_free_chain(table->store, mark->tail->next);
    mark->tail->next = NULL;
    trace->tail = mark->tail;
    trace->bytes = mark->bytes;
    trace->tail_used = mark->tail_used;
    trace->tail_left = mark->tail_left;
}

/* Adds bytes to the chain. False: no memory, and some were added. */
static bool bytes_add(struct trace_table *table, struct trace *trace, struct slice bytes)
{
    trace->bytes += bytes.len;
    for (;;) {
        size_t n = size_min(bytes.len, trace->tail_left);
        struct block *block;
        unsigned class_index;

        if (n > 0)
            memcpy(trace->tail->bytes + trace->tail_used, bytes.at, n);
        trace->tail_used = (uint16_t)(trace->tail_used + n);
        trace->tail_left = (uint16_t)(trace->tail_left - n);
        if (n == bytes.len)
            return true;
        bytes.at += n;
        bytes.len -= n;

        class_index = class_for(bytes.len, trace->bytes);
        block = block_new_class(table->store, class_index);
        if (!block)
            return false;
        trace->tail->next = block;
        trace->tail = block;
        trace->tail_used = 0;
        trace->tail_left = (uint16_t)block_class_capacity(class_index);
    }
}

/* A span that lies in blocks: its pieces follow each other as one. */
static bool bytes_add_rope(struct trace_table *table, struct trace *trace, const struct rope *rope)
{
    size_t left = rope->len - rope->at_len;

    if (!bytes_add(table, trace, slice_make(rope->at, rope->at_len)))
        return false;
    for (const struct block *block = rope->more; left > 0; block = block->next) {
        size_t here = size_min(left, block_capacity(block));

        if (!bytes_add(table, trace, slice_make(block->bytes, here)))
            return false;
        left -= here;
    }
    return true;
}

/* -- spans ------------------------------------------------------------------------------------------ */

/* Is it new, and where would its record go? */
static inline enum trace_span_result span_begin(
    struct trace_table *table, struct trace *trace, uint64_t span_hash, uint32_t record_count, struct span_record **out_record)
{
    ASSERT(!trace->bytes_freed);
    if (!planted(PLANT_DEDUPE_OFF)) {
        if (trace_has(trace, span_hash))
            return TRACE_SPAN_DUPLICATE;
        if (trace->span_count == COMPARED_MOST && !trace_index_hashes(table, trace))
            return TRACE_SPAN_NO_MEMORY;
    }
    *out_record = record_room(table, trace, record_count);
    return *out_record ? TRACE_SPAN_ADDED : TRACE_SPAN_NO_MEMORY;
}

static inline bool span_index(struct trace *trace, uint64_t span_hash)
{
    struct hash_set *set = trace_hash_set(trace);

    return !set || hash_set_add(set, span_hash);
}

/* With a journal: where it lies there, and that its bytes may go. */
static void span_place(struct trace_table *table, struct trace *trace, struct journal_pos at)
{
    uint32_t i = trace->span_count;

    *(i < records_own(trace) ? place_own(trace, i) : place_in(trace, trace->last_records, trace->records_used)) = at;
    if (trace->in_table && !list_linked(&trace->as.waiting.spillable))
        list_add_tail(&table->spillable, &trace->as.waiting.spillable);
}

static inline void span_end(struct trace_table *table, struct trace *trace, struct span_record *record, const struct span_record *span,
    struct header *header, struct journal_pos at)
{
    header_ref(table->headers, header);
    *record = *span;
    if (UNLIKELY(trace->journaled))
        span_place(table, trace, at);
    if (trace->span_count >= records_own(trace)) {
        trace->records_used++;
        trace->records_left--;
    }
    trace->span_count++;
    if (trace->in_table)
        table->span_count++;
}

enum trace_span_result trace_add_span(struct trace_table *table, struct trace *trace, struct slice span,
    uint64_t span_hash, struct header *header, struct journal_pos at)
{
    struct bytes_mark mark = bytes_mark(trace);
    struct span_record *record;
    enum trace_span_result result;

    ASSERT(span.len <= UINT32_MAX);
    result = span_begin(table, trace, span_hash, 0, &record);
    if (result != TRACE_SPAN_ADDED)
        return result;
    if (!bytes_add(table, trace, span) || !span_index(trace, span_hash)) {
        bytes_back_to(table, trace, &mark);
        return TRACE_SPAN_NO_MEMORY;
    }
    span_end(table, trace, record, &(struct span_record){span_hash, header->index, (uint32_t)span.len}, header, at);
    return TRACE_SPAN_ADDED;
}

/* -- a walk over spans: records, and where their bytes lie ------------------------------------------ */

struct spans_walk spans_walk_start(const struct trace *trace)
{
    const uint8_t *at = bytes_own(trace), *end = (const uint8_t *)trace + block_class_bytes[TRACE_CLASS];

    return (struct spans_walk){
        .records = record_walk_start(trace),
        .spilled_left = trace_spilled_count(trace),
        .block = (const struct block *)(const void *)trace,
        .at = at,
        .here = trace->compact ? 0 : (size_t)(end - at),
    };
}

const struct span_record *spans_walk_next(const struct trace *trace, struct spans_walk *walk, struct rope *out_bytes)
{
    const struct span_record *record = record_next(trace, &walk->records);
    size_t left;

    if (!record)
        return NULL;
    if (UNLIKELY(walk->spilled_left > 0)) {
        walk->spilled_left--;
        *out_bytes = (struct rope){NULL, 0, 0, NULL};
        return record;
    }
    left = record->len;
    if (walk->here == 0 && left > 0) {
        walk->block = walk->block->next;
        walk->at = walk->block->bytes;
        walk->here = block_capacity(walk->block);
    }
    *out_bytes = (struct rope){walk->at, record->len, record->len, NULL};
    if (left > walk->here) {
        out_bytes->at_len = (uint32_t)walk->here;
        out_bytes->more = walk->block->next;
    }
    while (left > walk->here) {
        left -= walk->here;
        walk->block = walk->block->next;
        walk->at = walk->block->bytes;
        walk->here = block_capacity(walk->block);
    }
    walk->at += left;
    walk->here -= left;
    return record;
}

/* -- from trace to trace ------------------------------------------------------------------------------ */

bool span_copy(struct trace_table *table, struct trace *trace, const struct span_record *span, struct header *header,
    const struct rope *rope, struct journal_pos at, uint32_t record_count)
{
    struct span_record *record;

    switch (span_begin(table, trace, span->hash, record_count, &record)) {
    case TRACE_SPAN_ADDED:
        break;
    case TRACE_SPAN_DUPLICATE:
        return false;
    case TRACE_SPAN_NO_MEMORY:
        UNREACHABLE("there is memory for what was admitted");
    }
    if (rope->at)
        ASSERT(bytes_add_rope(table, trace, rope));
    else
        trace->bytes += span->len;
    ASSERT(span_index(trace, span->hash));
    span_end(table, trace, record, span, header, at);
    return true;
}

uint32_t trace_join_some(struct trace_table *table, struct trace *trace, struct trace *from,
    bool (*wanted)(void *context, const struct header *header), void *context)
{
    struct spans_walk walk = spans_walk_start(from);
    struct rope rope;
    const struct span_record *span;
    uint32_t added = 0;

    ASSERT(!from->spilled);
    while ((span = spans_walk_next(from, &walk, &rope))) {
        struct header *header = header_at(from->headers, span->header_index);

        struct journal_pos *at = from->journaled ? record_place(from, &walk.records) : NULL;

        if ((wanted && !wanted(context, header)) ||
            !span_copy(table, trace, span, header, &rope, at ? *at : (struct journal_pos){0, 0}, 0))
            continue;
        added++;
        if (at)
            at->segment = 0;
    }
    return added;
}

uint32_t trace_join(struct trace_table *table, struct trace *trace, struct trace *from)
{
    return trace_join_some(table, trace, from, NULL, NULL);
}

void trace_adopt(struct trace_table *table, struct trace *trace, struct trace *from)
{
    if (trace->in_table)
        table->span_count += (uint64_t)from->span_count - trace->span_count;
    trace_unref_headers(table, trace);
    trace_free_records(table, trace);
    block_free_chain_later(table->store, trace->next);

    trace->compact = from->compact;
    trace->next = from->next;
    trace->tail = from->tail == trace_block(from) ? trace_block(trace) : from->tail;
    trace->last_records = from->last_records;
    trace->bytes = from->bytes;
    trace->span_count = from->span_count;
    trace->tail_used = from->tail_used;
    trace->tail_left = from->tail_left;
    trace->records_used = from->records_used;
    trace->records_left = from->records_left;
    memcpy(trace->first_records, from->first_records, sizeof(trace->first_records));
    memcpy(trace->first_bytes, from->first_bytes, block_class_bytes[TRACE_CLASS] - sizeof(*trace));
    block_free(table->store, trace_block(from));
}

static bool is_among(const struct hash_set *set, const uint64_t *hashes, size_t count, uint64_t hash)
{
    if (set)
        return hash_set_has(set, hash);
    for (size_t i = 0; i < count; i++) {
        if (hashes[i] == hash)
            return true;
    }
    return false;
}

/* NULL: so few that they are compared, or no memory for more. */
static struct hash_set *set_of(struct trace_table *table, const uint64_t *hashes, size_t count)
{
    struct hash_set *set = count > COMPARED_MOST ? hash_set_new(table->store) : NULL;

    for (size_t i = 0; set && i < count; i++) {
        if (!hash_set_has(set, hashes[i]) && !hash_set_add(set, hashes[i])) {
            hash_set_free(set);
            return NULL;
        }
    }
    return set;
}

uint32_t trace_remove_spans(struct trace_table *table, struct trace *trace, const uint64_t *hashes, size_t count)
{
    struct hash_set *set = set_of(table, hashes, count);
    struct spans_walk walk = spans_walk_start(trace);
    struct trace *rest = trace_new(table, &trace->id, 0, trace->compact);
    uint32_t spilled = 0;
    const struct span_record *span;
    struct rope rope;
    uint32_t removed = 0;

    ASSERT(rest != NULL);
    while ((span = spans_walk_next(trace, &walk, &rope))) {
        const struct journal_pos at = trace->journaled ? *record_place(trace, &walk.records) : (struct journal_pos){0, 0};

        if (is_among(set, hashes, count, span->hash)) {
            removed++;
            trace_let_go(table, &at, span->len);
        } else {
            (void)span_copy(table, rest, span, header_at(trace->headers, span->header_index), &rope, at, 0);
            spilled += !rope.at && trace->spilled;
        }
    }
    hash_set_free(set);
    trace_adopt(table, trace, rest);
    if (trace->spilled) {
        table->spilled_count -= trace->as.waiting.spilled_count - spilled;
        trace->as.waiting.spilled_count = spilled;
    }
    return removed;
}

/* -- who looks at them ------------------------------------------------------------------------------- */

void trace_hashes(const struct trace *trace, uint64_t *out_hashes)
{
    struct record_walk walk = record_walk_start(trace);
    const struct span_record *record;

    while ((record = record_next(trace, &walk)))
        *out_hashes++ = record->hash;
}

int trace_spans(const struct trace *trace,
    int (*visit)(void *context, struct header *header, struct rope bytes), void *context)
{
    struct spans_walk walk = spans_walk_start(trace);
    const struct span_record *span;
    struct rope rope;

    ASSERT(!trace->bytes_freed);
    ASSERT(!trace->spilled);
    while ((span = spans_walk_next(trace, &walk, &rope))) {
        int r = visit(context, header_at(trace->headers, span->header_index), rope);

        if (r)
            return r;
    }
    return 0;
}

void trace_places(struct trace *trace, void (*visit)(void *context, uint64_t span_hash, uint32_t len, struct journal_pos *at), void *context)
{
    struct record_walk walk = record_walk_start(trace);
    const struct span_record *record;

    ASSERT(trace->journaled);
    while ((record = record_next(trace, &walk)))
        visit(context, record->hash, record->len, record_place(trace, &walk));
}
