/* A trace is one block of 512 bytes, ordered by use: what finding it and adding a span touch is the first
 * two cache lines. What is left of the block at its end takes its first span bytes, so that a trace of a
 * few small spans needs little more.
 *
 *   bytes    trace block's end -> block -> block ...     each full before the next begins (struct rope)
 *   records  four in the trace block, then a ring of record blocks, the last one pointed at
 *
 * Both chains are apart, so that comparing hashes reads no span bytes, and bytes can go before records.
 */
#include "sampler/buffer/trace_table.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/error.h"
#include "common/base/num.h"
#include "common/base/plant.h"
#include "sampler/buffer/hash_index.h"
#include "sampler/buffer/hash_set.h"
#include "sampler/decide/cost.h"
#include "sampler/decide/policy_set.h"

#define TRACE_CLASS BLOCK_CLASS_512
#define FIRST_RECORDS 4   /* one cache line; a small trace needs no record block */
#define COMPARED_MOST 32u /* spans of a trace whose hashes are compared one by one: half a KiB */
/* What the last block of a trace may leave empty, at first: half a block of the second class; and as a
 * part of the trace: 3 % (measured with bench/micro/micro_buffer: less costs more in block headers). */
#define SLACK_BYTES 128u
#define SLACK_FRACTION 32u

struct record_block { /* a block, seen as what it holds */
    struct record_block *next;
    struct hash_set *hashes; /* of the trace's spans; NULL while they are few. The same in all. */
    struct span_record records[];
};

struct trace {
    struct block *next; /* the byte blocks after this one */
    struct trace_id id;
    struct block *tail; /* where bytes are added; this trace's own block at first */
    struct record_block *last_records;
    uint64_t bytes;
    uint32_t span_count;
    uint16_t tail_used, tail_left;
    uint16_t records_used, records_left; /* in last_records */
    uint8_t state;         /* enum trace_state */
    bool in_table;
    bool bytes_freed;

    struct span_record first_records[FIRST_RECORDS];
    struct facts facts;

    uint64_t first_ns;
    struct policy_set *set;
    const struct header_table *headers; /* what header_index counts in */
    union {
        struct {
            struct deadline deadline;
            struct list order;
        } waiting; /* while in the table */
        struct trace_way_out out;
    } as;
    uint8_t first_bytes[];
};

static_assert(offsetof(struct trace, next) == offsetof(struct block, next), "a trace is a block");
static_assert(offsetof(struct record_block, next) == offsetof(struct block, next), "records are blocks");
static_assert(offsetof(struct trace, first_records) == 64, "what a find and an append touch: two lines");
static_assert(sizeof(struct trace) < 512 - 128, "room for span bytes in a trace's own block");
static_assert(sizeof(struct span_record) == 16, "four on a cache line");
static_assert(sizeof(struct trace) == offsetof(struct trace, first_bytes), "bytes begin where the struct ends");

struct trace_table {
    struct hash_index index;
    struct list order; /* first: arrived first */
    struct extent_store *store;
    struct header_table *headers;
    uint64_t span_count;
    uint64_t cost_bytes; /* of facts' costs, on the heap */
    struct deadlines deadlines;
};

static struct block *trace_block(struct trace *trace)
{
    return (struct block *)(void *)trace;
}

/* -- the table ------------------------------------------------------------------------------------- */

int trace_table_new(
    struct extent_store *store, struct header_table *headers, uint64_t now_ns, struct trace_table **out_table)
{
    struct trace_table *table = calloc(1, sizeof(*table));
    int r;

    if (!table)
        return error_raise(-ENOMEM);
    r = hash_index_init(&table->index);
    if (r) {
        free(table);
        return error_pass(r);
    }
    list_init(&table->order);
    table->store = store;
    table->headers = headers;
    deadlines_init(&table->deadlines, now_ns);
    *out_table = table;
    return 0;
}

void trace_table_free(struct trace_table *table)
{
    struct trace *trace;

    if (!table)
        return;
    while ((trace = trace_table_oldest(table)))
        trace_free(table, trace);
    extent_store_settle(table->store);
    hash_index_deinit(&table->index);
    free(table);
}

struct trace *trace_table_find(struct trace_table *table, const struct trace_id *id, uint64_t id_hash)
{
    struct hash_probe probe = hash_index_probe(&table->index, id_hash);
    uint64_t value;

    while ((value = hash_probe_next(&probe)) != 0) {
        struct trace *trace = (struct trace *)(uintptr_t)value;

        if (LIKELY(trace_id_equal(&trace->id, id)))
            return trace;
    }
    return NULL;
}

void trace_table_prefetch(const struct trace_table *table, uint64_t id_hash)
{
    hash_index_prefetch(&table->index, id_hash);
}

static void trace_prefetch(const struct trace *trace)
{
    for (size_t line = 0; line < sizeof(*trace); line += 64)
        __builtin_prefetch((const char *)trace + line);
}

void trace_table_prefetch_trace(const struct trace_table *table, uint64_t id_hash)
{
    struct hash_probe probe = hash_index_probe(&table->index, id_hash);
    const struct trace *trace = (const struct trace *)(uintptr_t)hash_probe_next(&probe);

    if (trace)
        trace_prefetch(trace);
}

static struct trace *trace_new(struct trace_table *table, const struct trace_id *id, uint64_t now_ns)
{
    struct block *block = block_new_class(table->store, TRACE_CLASS);
    struct trace *trace = (struct trace *)(void *)block;
    size_t used = sizeof(*trace) - offsetof(struct block, bytes);

    if (!trace)
        return NULL;
    memset(trace, 0, sizeof(*trace));
    trace->id = *id;
    trace->first_ns = now_ns;
    trace->headers = table->headers;
    trace->tail = block;
    trace->tail_used = (uint16_t)used;
    trace->tail_left = (uint16_t)(block_class_capacity(TRACE_CLASS) - used);
    return trace;
}

struct trace *trace_table_add(struct trace_table *table, const struct trace_id *id, uint64_t id_hash,
    struct policy_set *set, uint64_t now_ns, uint64_t deadline_ns)
{
    struct trace *trace;

    ASSERT_SLOW(id_hash == hash_trace(id));
    ASSERT_SLOW(!trace_table_find(table, id, id_hash));
    trace = trace_new(table, id, now_ns);
    if (!trace)
        return NULL;
    if (!hash_index_add(&table->index, id_hash, (uintptr_t)trace)) {
        block_free(table->store, trace_block(trace));
        return NULL;
    }
    trace->state = TRACE_PENDING;
    trace->in_table = true;
    if (set)
        trace->set = policy_set_ref(set);
    deadline_add(&table->deadlines, &trace->as.waiting.deadline, deadline_ns);
    list_add_tail(&table->order, &trace->as.waiting.order);
    return trace;
}

struct trace *trace_new_apart(struct trace_table *table, const struct trace_id *id, uint64_t now_ns)
{
    struct trace *trace = trace_new(table, id, now_ns);

    if (trace)
        trace->state = TRACE_SAMPLED;
    return trace;
}

void trace_hasten(struct trace_table *table, struct trace *trace, uint64_t deadline_ns)
{
    struct deadline *deadline = &trace->as.waiting.deadline;

    ASSERT(trace->in_table);
    if (list_linked(&deadline->node)) {
        if (deadline->at_ns <= deadline_ns)
            return;
        deadline_remove(&table->deadlines, deadline);
    }
    deadline_add(&table->deadlines, deadline, deadline_ns);
}

struct trace *trace_table_due(struct trace_table *table, uint64_t now_ns)
{
    struct deadline *deadline = deadlines_take_due(&table->deadlines, now_ns);
    struct deadline *next;
    struct trace *trace;

    if (!deadline) {
        extent_store_settle(table->store); /* the turn's traces are done with */
        return NULL;
    }
    /* Seconds have passed since it was touched: the next one's memory comes while this one is decided. */
    next = deadlines_peek(&table->deadlines);
    if (next)
        trace_prefetch(container_of(next, struct trace, as.waiting.deadline));
    trace = container_of(deadline, struct trace, as.waiting.deadline);
    __builtin_prefetch(trace->last_records);
    return trace;
}

uint64_t trace_table_next_ns(const struct trace_table *table)
{
    return deadlines_next_ns(&table->deadlines);
}

struct trace *trace_table_oldest(struct trace_table *table)
{
    struct list *node = list_first(&table->order);

    return node ? container_of(node, struct trace, as.waiting.order) : NULL;
}

void trace_table_take(struct trace_table *table, struct trace *trace)
{
    struct hash_probe probe = hash_index_probe(&table->index, hash_trace(&trace->id));
    uint64_t value;

    ASSERT(trace->in_table);
    do {
        value = hash_probe_next(&probe);
        ASSERT(value != 0);
    } while (value != (uintptr_t)trace);
    hash_index_remove(&table->index, &probe);

    deadline_remove(&table->deadlines, &trace->as.waiting.deadline);
    list_del(&trace->as.waiting.order);
    table->span_count -= trace->span_count;
    memset(&trace->as, 0, sizeof(trace->as));
    trace->in_table = false;
    trace->state = TRACE_SAMPLED;
}

uint64_t trace_table_count(const struct trace_table *table)
{
    return table->index.count;
}

uint64_t trace_table_span_count(const struct trace_table *table)
{
    return table->span_count;
}

void trace_add_cost(
    struct trace_table *table, struct trace *trace, const struct header *header, struct slice span)
{
    table->cost_bytes -= cost_memory(trace->facts.cost);
    cost_add(&trace->facts.cost, &header->view, span);
    table->cost_bytes += cost_memory(trace->facts.cost);
}

uint64_t trace_table_cost_bytes(const struct trace_table *table)
{
    return table->cost_bytes;
}

uint64_t trace_table_index_bytes(const struct trace_table *table)
{
    return sizeof(*table) + table->index.bytes;
}

/* -- a trace's records --------------------------------------------------------------------------- */

struct record_walk {
    const struct record_block *block; /* NULL: in the trace itself */
    const struct span_record *at;
    uint32_t here; /* records before the next block */
    uint32_t left; /* in all */
};

static uint32_t records_in(const struct record_block *block)
{
    size_t room = block_capacity((const struct block *)(const void *)block) + sizeof(struct block);

    return (uint32_t)((room - sizeof(*block)) / sizeof(struct span_record));
}

static struct record_walk record_walk_start(const struct trace *trace)
{
    return (struct record_walk){NULL, trace->first_records, FIRST_RECORDS, trace->span_count};
}

/* NULL at the end. */
static const struct span_record *record_next(const struct trace *trace, struct record_walk *walk)
{
    if (walk->left == 0)
        return NULL;
    if (walk->here == 0) {
        walk->block = walk->block ? walk->block->next : trace->last_records->next;
        walk->at = walk->block->records;
        walk->here = records_in(walk->block);
    }
    walk->left--;
    walk->here--;
    return walk->at++;
}

static struct hash_set *trace_hash_set(const struct trace *trace)
{
    return trace->last_records ? trace->last_records->hashes : NULL;
}

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

/* -- a trace's bytes ------------------------------------------------------------------------------- */

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

/* -- a trace's end --------------------------------------------------------------------------------- */

void trace_free_bytes(struct trace_table *table, struct trace *trace)
{
    block_free_chain_later(table->store, trace->next);
    trace->next = NULL;
    trace->tail = NULL;
    trace->bytes_freed = true;
}

static void unref_headers(struct trace_table *table, const struct trace *trace)
{
    struct record_walk walk = record_walk_start(trace);
    const struct span_record *record = record_next(trace, &walk);

    while (record) {
        uint32_t index = record->header_index;
        uint32_t count = 0;

        do { /* spans come in runs of one header: one look-up a run */
            count++;
            record = record_next(trace, &walk);
        } while (record && record->header_index == index);
        header_unref(table->headers, header_at(table->headers, index), count);
    }
}

void trace_free(struct trace_table *table, struct trace *trace)
{
    struct record_block *first;

    if (!trace)
        return;
    __builtin_prefetch(trace->next);
    if (trace->in_table)
        trace_table_take(table, trace);
    unref_headers(table, trace);
    if (UNLIKELY(trace->facts.cost)) {
        table->cost_bytes -= cost_memory(trace->facts.cost);
        cost_free(trace->facts.cost);
    }
    if (trace->last_records) {
        hash_set_free(trace_hash_set(trace));
        first = trace->last_records->next;
        trace->last_records->next = NULL;
        block_free_chain_later(table->store, (struct block *)(void *)first);
    }
    if (trace->set)
        policy_set_unref(trace->set);
    block_free_chain_later(table->store, trace_block(trace));
}

/* -- what it knows --------------------------------------------------------------------------------- */

struct facts *trace_facts(struct trace *trace)
{
    return &trace->facts;
}

struct policy_set *trace_policy_set(struct trace *trace)
{
    return trace->set;
}

const struct trace_id *trace_id_of(const struct trace *trace)
{
    return &trace->id;
}

struct trace_info trace_info(const struct trace *trace)
{
    return (struct trace_info){
        .id = trace->id,
        .first_ns = trace->first_ns,
        .deadline_ns = trace->in_table ? trace->as.waiting.deadline.at_ns : 0,
        .state = (enum trace_state)trace->state,
        .span_count = trace->span_count,
        .bytes = trace->bytes,
    };
}

struct trace_way_out *trace_way_out(struct trace *trace)
{
    ASSERT(!trace->in_table);
    return &trace->as.out;
}

struct trace *trace_of_way_out(struct trace_way_out *out)
{
    return container_of(out, struct trace, as.out);
}

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
