/* How a trace lies in memory: only for the files that make it up, trace_table.c and trace_spans.c.
 *
 * A trace is one block of 512 bytes, ordered by use: what finding it and adding a span touch is the first
 * two cache lines. What is left of the block at its end takes its first span bytes, so that a trace of a
 * few small spans needs little more.
 *
 *   bytes    trace block's end -> block -> block ...     each full before the next begins (struct rope)
 *   records  four in the trace block, then a ring of record blocks, the last one pointed at
 *
 * Both chains are apart, so that comparing hashes reads no span bytes, and bytes can go before records.
 */
#pragma once

#include <assert.h>
#include <stddef.h>

#include "sampler/buffer/hash_index.h"
#include "sampler/buffer/hash_set.h"
#include "sampler/buffer/trace_table.h"

#define TRACE_CLASS BLOCK_CLASS_512
#define FIRST_RECORDS 4   /* one cache line; a small trace needs no record block */

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
    struct extent_store *store;
    struct header_table *headers;
    uint64_t span_count;
    uint64_t cost_bytes; /* of facts' costs, on the heap */
    struct deadlines deadlines;
};

static inline struct block *trace_block(struct trace *trace)
{
    return (struct block *)(void *)trace;
}

/* trace_table.c */
struct trace *trace_new(struct trace_table *table, const struct trace_id *id, uint64_t now_ns);
void trace_unref_headers(struct trace_table *table, const struct trace *trace);
void trace_free_records(struct trace_table *table, struct trace *trace);

/* -- a walk over its records -- */

struct record_walk {
    const struct record_block *block; /* NULL: in the trace itself */
    const struct span_record *at;
    uint32_t here; /* records before the next block */
    uint32_t left; /* in all */
};

static inline uint32_t records_in(const struct record_block *block)
{
    size_t room = block_capacity((const struct block *)(const void *)block) + sizeof(struct block);

    return (uint32_t)((room - sizeof(*block)) / sizeof(struct span_record));
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
        walk->block = walk->block ? walk->block->next : trace->last_records->next;
        walk->at = walk->block->records;
        walk->here = records_in(walk->block);
    }
    walk->left--;
    walk->here--;
    return walk->at++;
}

static inline struct hash_set *trace_hash_set(const struct trace *trace)
{
    return trace->last_records ? trace->last_records->hashes : NULL;
}
