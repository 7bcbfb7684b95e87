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

/* Where the next record goes; NULL: no memory. Larger traces take larger blocks. */
static struct span_record *record_room(struct trace_table *table, struct trace *trace)
{
    unsigned class_index = BLOCK_CLASS_4096;
    struct record_block *block;

    if (trace->span_count < FIRST_RECORDS)
        return &trace->first_records[trace->span_count];
    if (trace->records_left == 0) {
        struct record_block *last = trace->last_records;

        if (trace->span_count < 16)
            class_index = BLOCK_CLASS_256;
        else if (trace->span_count < 128)
            class_index = BLOCK_CLASS_512;
        block = (struct record_block *)(void *)block_new_class(table->store, class_index);
        if (!block)
            return NULL;
        block->hashes = trace_hash_set(trace);
        block->next = last ? last->next : block;
        if (last)
            last->next = block;
        trace->last_records = block;
        trace->records_used = 0;
        trace->records_left = (uint16_t)records_in(block);
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

enum trace_span_result trace_add_span(struct trace_table *table, struct trace *trace, struct slice span,
    uint64_t span_hash, struct header *header)
{
    struct bytes_mark mark = bytes_mark(trace);
    struct span_record *record;
    struct hash_set *set;

    ASSERT(!trace->bytes_freed);
    ASSERT(span.len <= UINT32_MAX);
    if (!planted(PLANT_DEDUPE_OFF)) {
        if (trace_has(trace, span_hash))
            return TRACE_SPAN_DUPLICATE;
        if (trace->span_count == COMPARED_MOST && !trace_index_hashes(table, trace))
            return TRACE_SPAN_NO_MEMORY;
    }
    record = record_room(table, trace);
    if (!record)
        return TRACE_SPAN_NO_MEMORY;
    set = trace_hash_set(trace);
    if (!bytes_add(table, trace, span) || (set && !hash_set_add(set, span_hash))) {
        bytes_back_to(table, trace, &mark);
        return TRACE_SPAN_NO_MEMORY;
    }

    header_ref(table->headers, header);
    *record = (struct span_record){span_hash, header->index, (uint32_t)span.len};
    if (trace->span_count >= FIRST_RECORDS) {
        trace->records_used++;
        trace->records_left--;
    }
    trace->span_count++;
    if (trace->in_table)
        table->span_count++;
    return TRACE_SPAN_ADDED;
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
    struct record_walk walk = record_walk_start(trace);
    const struct block *block = (const struct block *)(const void *)trace;
    const uint8_t *at = trace->first_bytes;
    size_t here = block_class_capacity(TRACE_CLASS) - (sizeof(*trace) - sizeof(struct block));
    const struct span_record *record;

    ASSERT(!trace->bytes_freed);
    while ((record = record_next(trace, &walk))) {
        struct rope rope = {at, record->len, record->len, NULL};
        size_t left = record->len;
        int r;

        if (here == 0 && left > 0) {
            block = block->next;
            rope.at = at = block->bytes;
            here = block_capacity(block);
        }
        if (left > here) {
            rope.at_len = (uint32_t)here;
            rope.more = block->next;
        }
        while (left > here) {
            left -= here;
            block = block->next;
            at = block->bytes;
            here = block_capacity(block);
        }
        at += left;
        here -= left;
        r = visit(context, header_at(trace->headers, record->header_index), rope);
        if (r)
            return r;
    }
    return 0;
}
