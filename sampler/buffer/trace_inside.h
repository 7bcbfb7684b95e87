/* How a trace lies in memory: only for the files that make it up, trace_table.c and trace_spans.c.
 *
 * A trace is one block of 512 bytes, ordered by use: what finding it and adding a span touch is the first
 * two cache lines. What is left of the block at its end takes its first span bytes, so that a trace of a
 * few small spans needs little more.
 *
 *   bytes    trace block's end -> block -> block ...     each full before the next begins (struct rope)
 *   records  four in the trace block, then a ring of record blocks, the last one pointed at
 *   places   where each span lies in the journal: of the first four behind the struct, of the others behind the records of their block.
 *            Without a journal there are none, and a trace is as small and as quick as if they had not been thought of
 *
 * Both chains are apart, so that comparing hashes reads no span bytes, and bytes can go before records.
 *
 * Spilled  a trace's bytes are freed, and it is laid out again, compact: what the trace's block has left takes records and places instead
 *          of bytes, and the rest of them one block that just fits. New spans have bytes again; so the first spilled_count spans have
 *          none and the others lie in the chain as ever.
 */
#pragma once

#include <assert.h>
#include <stddef.h>

#include "sampler/buffer/hash_index.h"
#include "sampler/buffer/hash_set.h"
#include "sampler/buffer/trace_table.h"

#define TRACE_CLASS BLOCK_CLASS_512
#define FIRST_RECORDS 4u  /* one cache line; a small trace needs no record block */

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
    uint8_t state; /* enum trace_state */
    bool in_table : 1;
    bool bytes_freed : 1;
    bool held : 1; /* its deadline's node is in the table's held or released */
    bool journaled : 1; /* its spans have places */
    bool spilled : 1;   /* some of its spans have no bytes */
    bool compact : 1;   /* first_bytes holds records */
    bool reading : 1;   /* its places were told: no further span is spilled */
    bool read_asked : 1;
    uint8_t delivered;

    struct span_record first_records[FIRST_RECORDS];
    struct facts facts;

    uint64_t first_ns;
    struct policy_set *set;
    const struct header_table *headers; /* what header_index counts in */
    union {
        struct {
            struct deadline deadline;
            struct list order; /* not linked while on hold */
            uint32_t mark;
            uint32_t spilled_count; /* valid while `spilled` */
            struct list spillable;  /* in the table's, while some span's bytes may go */
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
    struct list held, released;
    struct list spillable; /* first: whose bytes came first */
    bool journaled;
    void (*let_go)(void *context, uint32_t segment, uint64_t bytes);
    void *let_go_context;
    struct extent_store *store;
    struct header_table *headers;
    uint64_t held_count;
    uint64_t span_count, spilled_count;
    uint64_t cost_bytes; /* of facts' costs, on the heap */
    struct deadlines deadlines;
};

static inline struct block *trace_block(struct trace *trace)
{
    return (struct block *)(void *)trace;
}

#define PLACES_BYTES (FIRST_RECORDS * sizeof(struct journal_pos))
/* Records that a compact trace's own block takes beside the first ones. */
#define TAIL_RECORDS ((512u - sizeof(struct trace) - PLACES_BYTES) / (sizeof(struct span_record) + sizeof(struct journal_pos)))
static_assert(TAIL_RECORDS >= 4, "eight records need no further block");
static_assert(offsetof(struct trace, first_bytes) % 8 == 0, "records can follow");

static inline uint32_t trace_spilled_count(const struct trace *trace)
{
    return trace->spilled ? trace->as.waiting.spilled_count : 0;
}

/* Records in the trace's own block. */
static inline uint32_t records_own(const struct trace *trace)
{
    return UNLIKELY(trace->compact) ? FIRST_RECORDS + (uint32_t)TAIL_RECORDS : FIRST_RECORDS;
}

static inline const uint8_t *bytes_own(const struct trace *trace)
{
    return trace->first_bytes + (trace->journaled ? PLACES_BYTES : 0);
}

static inline struct span_record *tail_records(struct trace *trace)
{
    return (struct span_record *)(void *)(trace->first_bytes + PLACES_BYTES);
}

static inline struct span_record *record_own(struct trace *trace, uint32_t i)
{
    return i < FIRST_RECORDS ? &trace->first_records[i] : &tail_records(trace)[i - FIRST_RECORDS];
}

static inline struct journal_pos *place_own(struct trace *trace, uint32_t i)
{
    if (i < FIRST_RECORDS)
        return &((struct journal_pos *)(void *)trace->first_bytes)[i];
    return &((struct journal_pos *)(void *)(tail_records(trace) + TAIL_RECORDS))[i - FIRST_RECORDS];
}

/* trace_table.c */
struct trace *trace_new(struct trace_table *table, const struct trace_id *id, uint64_t now_ns, bool compact);
void trace_unref_headers(struct trace_table *table, const struct trace *trace);
void trace_free_records(struct trace_table *table, struct trace *trace);
void trace_let_go(struct trace_table *table, const struct journal_pos *at, uint64_t bytes);

/* -- a walk over its records -- */

struct record_walk {
    struct record_block *block; /* NULL: in the trace itself */
    const struct span_record *at;
    uint32_t here; /* records before the next block */
    uint32_t left; /* in all */
};

static inline uint32_t records_in(const struct trace *trace, const struct record_block *block)
{
    size_t each = sizeof(struct span_record) + (UNLIKELY(trace->journaled) ? sizeof(struct journal_pos) : 0);
    size_t room = block_capacity((const struct block *)(const void *)block) + sizeof(struct block);

    return (uint32_t)((room - sizeof(*block)) / each);
}

static inline struct journal_pos *place_in(const struct trace *trace, struct record_block *block, size_t i)
{
    return &((struct journal_pos *)(void *)(block->records + records_in(trace, block)))[i];
}

static inline struct record_walk record_walk_start(const struct trace *trace)
{
    return (struct record_walk){NULL, trace->first_records, FIRST_RECORDS, trace->span_count};
}

/* NULL at the end. */
static inline const struct span_record *record_next(const struct trace *trace, struct record_walk *walk)
{
    if (walk->left == 0)
        return NULL;
    if (walk->here == 0) {
        if (UNLIKELY(trace->compact) && !walk->block && walk->at == trace->first_records + FIRST_RECORDS) {
            walk->at = tail_records((struct trace *)(uintptr_t)trace);
            walk->here = TAIL_RECORDS;
        } else {
            walk->block = walk->block ? walk->block->next : trace->last_records->next;
            walk->at = walk->block->records;
            walk->here = records_in(trace, walk->block);
        }
    }
    walk->left--;
    walk->here--;
    return walk->at++;
}

/* Of the record that record_next gave last. */
static inline struct journal_pos *record_place(struct trace *trace, const struct record_walk *walk)
{
    const struct span_record *record = walk->at - 1;

    if (walk->block)
        return place_in(trace, walk->block, (size_t)(record - walk->block->records));
    if (record < trace->first_records + FIRST_RECORDS)
        return place_own(trace, (uint32_t)(record - trace->first_records));
    return place_own(trace, FIRST_RECORDS + (uint32_t)(record - tail_records(trace)));
}

static inline struct hash_set *trace_hash_set(const struct trace *trace)
{
    return trace->last_records ? trace->last_records->hashes : NULL;
}

/* -- from trace to trace: trace_spans.c -- */

struct spans_walk {
    struct record_walk records;
    uint32_t spilled_left;     /* spans to come that have no bytes */
    const struct block *block; /* the next span's bytes begin here, or in the one after it */
    const uint8_t *at;
    size_t here; /* bytes before the block's end */
};

struct spans_walk spans_walk_start(const struct trace *trace);
/* NULL at the end. out_bytes: `at` is NULL for a spilled one. */
const struct span_record *spans_walk_next(const struct trace *trace, struct spans_walk *walk, struct rope *out_bytes);
/* Adds a span that another trace held, unless it is there already; rope: `at` NULL: without its bytes. record_count: how many there
 * will be in all, 0: unknown. What was held before needs no more memory than was admitted. */
bool span_copy(struct trace_table *table, struct trace *trace, const struct span_record *span, struct header *header,
    const struct rope *rope, struct journal_pos at, uint32_t record_count);
/* Gives what `from`, a trace of its own, holds to `trace`, in the place of what it had. Places are not let go of. */
void trace_adopt(struct trace_table *table, struct trace *trace, struct trace *from);
