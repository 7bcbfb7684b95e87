/* Where buffered spans live: blocks in size classes, cut from 2 MiB extents.
 *
 * Shape   an extent_pool per node hands out 2 MiB aligned extents; an extent_store per worker cuts
 *         each into blocks of one class. A trace's bytes are a chain of blocks; freeing the trace
 *         frees exactly its blocks. An extent whose last block is freed goes back to the pool, but
 *         the one that its class is being filled from: an empty store holds at most one a class.
 * Bound   pool limit in bytes, counted in committed extents: it bounds RSS. Admission looks at it
 *         before a request is taken (sampler/buffer/budget.h); a block that is asked for is given.
 * Owner   pool: shared, one lock, taken once per extent. Store: one worker.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXTENT_BYTES (2ull * 1024 * 1024) /* one huge page */

/* Few, because a class in use holds an extent of its own in every worker. 128 keeps the last block of
 * a small trace from being mostly empty, 768 is the size of many a span. */
enum {
    BLOCK_CLASS_128,
    BLOCK_CLASS_256,
    BLOCK_CLASS_512,
    BLOCK_CLASS_768,
    BLOCK_CLASS_1024,
    BLOCK_CLASS_2048,
    BLOCK_CLASS_4096,
    BLOCK_CLASSES
};

/* A block of a trace's bytes, on a border of 64. The class is known from the extent's header. */
struct block {
    struct block *next;
    uint8_t bytes[];
};

/* Bytes that may cross blocks: `at` has `at_len` of them here, the rest follow in at most
 * `more`, then more->next and so on, each full up to its capacity (block_capacity). */
struct rope {
    const uint8_t *at;
    uint32_t at_len;
    uint32_t len; /* in all */
    const struct block *more;
};

struct extent_pool;
struct extent_store;

/* limit_bytes: what extents may be committed in all; the pool goes over it only for bytes that were
 * admitted before (counted: extent_pool_over). */
int extent_pool_new(uint64_t limit_bytes, struct extent_pool **out_pool);
/* All stores must be gone. Accepts NULL. */
void extent_pool_free(struct extent_pool *pool);
uint64_t extent_pool_committed_bytes(const struct extent_pool *pool); /* any thread */
uint64_t extent_pool_idle_bytes(const struct extent_pool *pool);      /* committed, in no store */
uint64_t extent_pool_limit_bytes(const struct extent_pool *pool);
/* Any thread. What is committed above a lower limit goes back as it becomes idle. */
void extent_pool_set_limit(struct extent_pool *pool, uint64_t limit_bytes);
/* Extents given out over the limit since the start. */
uint64_t extent_pool_over(const struct extent_pool *pool);
/* Control thread, every 100 ms or when asked: populates up to `ahead` idle extents, gives memory of
 * idle ones beyond that back to the system after 10 s. */
void extent_pool_tend(struct extent_pool *pool, unsigned ahead, uint64_t now_ns);

int extent_store_new(struct extent_pool *pool, struct extent_store **out_store);
/* Blocks still in use go with it. Accepts NULL. */
void extent_store_free(struct extent_store *store);
uint64_t extent_store_used_bytes(const struct extent_store *store); /* in blocks handed out, and put off */

/* NULL only when the system has no memory. Its bytes are not cleared, next is NULL. */
struct block *block_new_class(struct extent_store *store, unsigned class_index);
void block_free(struct extent_store *store, struct block *block);
/* Frees block and all that follow it. Both accept NULL. */
void block_free_chain(struct extent_store *store, struct block *first);
/* The same a little later, a block of this chain and one of the others given before in turn: so the memory that
 * each needs comes while another is freed, and freeing scattered blocks takes a third of the time. Accepts NULL. */
void block_free_chain_later(struct extent_store *store, struct block *first);
/* Frees all that was put off. */
void extent_store_settle(struct extent_store *store);
/* Payload bytes of a block. */
size_t block_capacity(const struct block *block);

extern const uint16_t block_class_bytes[BLOCK_CLASSES];

/* Payload bytes of a class. */
static inline size_t block_class_capacity(unsigned class_index)
{
    return block_class_bytes[class_index] - sizeof(struct block);
}

/* Copies all of a rope to out (len bytes). */
void rope_copy(const struct rope *rope, uint8_t *out);

static inline struct rope rope_of(const void *at, size_t len)
{
    return (struct rope){at, (uint32_t)len, (uint32_t)len, NULL};
}
