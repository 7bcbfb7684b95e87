/* An extent starts with a header that its blocks are found from by their address alone. The header lies
 * a few cache lines into the extent, how many depends on the address: were it always at the start, the
 * headers of all extents would share one set of the processor's caches, and every free would miss.
 *
 * Free blocks are bits in the header rather than a list through the blocks. So taking a block touches
 * none of its memory before the caller writes it, memory never used is never touched, blocks come in
 * order of address, and freeing twice is caught.
 *
 * A store fills one extent a class until it is full, then takes the fullest of those with room, so that
 * sparse ones drain and go back. One with less than a 256th of its blocks free is left alone until it
 * has more: hunting single holes would cost more than it saves.
 */
#include "common/base/extent.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "common/base/error.h"
#include "common/base/list.h"
#include "common/base/num.h"

#if defined(__SANITIZE_ADDRESS__)
#define EXTENT_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EXTENT_POISONS 1
#endif
#endif
#ifdef EXTENT_POISONS
#include <sanitizer/asan_interface.h>
#define POISON(at, len) ASAN_POISON_MEMORY_REGION((at), (len))
#define UNPOISON(at, len) ASAN_UNPOISON_MEMORY_REGION((at), (len))
#else
#define POISON(at, len) ((void)(at), (void)(len))
#define UNPOISON(at, len) ((void)(at), (void)(len))
#endif

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14; older kernels answer EINVAL */
#endif

#define CACHE_LINE 64u
#define HEADER_COLOURS 64u           /* cache lines a header may be moved by: all sets of an L1 */
#define IDLE_KEEP_NS (10 * NS_PER_S)       /* longer than the swings of a steady load */
#define FULLNESS_BUCKETS 8u
#define LEAST_FREE 256u                    /* part of its blocks that an extent must have free to be filled */
#define DYING_CHAINS 16u                   /* misses to memory that a core has under way, and some more */
#define RECIPROCAL_SHIFT 20                /* exact for every offset in an extent: see extent_index */

const uint16_t block_class_bytes[BLOCK_CLASSES] = {128, 256, 512, 768, 1024, 2048, 4096};

struct extent {
    struct list node; /* in the pool's idle list, or in one of the store's lists; current: in none */
    struct extent_store *store;
    uint64_t idle_since_ns; /* 0: idle, but not seen by tend yet */
    uint32_t class_index;
    uint32_t block_bytes;
    uint32_t reciprocal;  /* of the block size in cache lines */
    uint32_t first_block; /* offset from the extent's start */
    uint32_t block_count;
    uint32_t live_count;
    uint32_t move_below; /* live_count under which it belongs into another list */
    uint32_t cursor;     /* word of `free` to look at first */
    uint32_t word_count;
    uint64_t free[]; /* a bit a block, set: free */
};

struct extent_pool {
    pthread_mutex_t lock;
    struct list idle; /* head: used last */
    _Atomic uint64_t limit_bytes;
    /* Written under the lock, read by anybody. */
    _Atomic uint64_t committed_bytes, idle_bytes, over_count;
};

struct extent_class {
    struct extent *current;
    struct list partial[FULLNESS_BUCKETS]; /* by live_count, fullest last */
    struct list full;                      /* less than a 256th free */
};

struct extent_store {
    struct extent_pool *pool;
    uint64_t used_bytes;
    struct block *dying[DYING_CHAINS]; /* chains to be freed */
    uint32_t dying_count;
    struct extent_class classes[BLOCK_CLASSES];
};

/* -- an extent and its address ----------------------------------------------------------------- */

static char *extent_base(const void *inside)
{
    return (char *)((uintptr_t)inside & ~(uintptr_t)(EXTENT_BYTES - 1));
}

static struct extent *extent_of(const void *inside)
{
    char *base = extent_base(inside);
    size_t colour = ((uintptr_t)base / EXTENT_BYTES) % HEADER_COLOURS;

    return (struct extent *)(void *)(base + colour * CACHE_LINE);
}

static char *map_bytes(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return at == MAP_FAILED ? NULL : at;
}

/* 2 MiB of address space on their border, or NULL. */
static struct extent *extent_map(void)
{
    char *at = map_bytes(EXTENT_BYTES);
    char *base;

    if (!at)
        return NULL;
    if (at != extent_base(at)) {
        /* Off the border: take twice as much and give back the ends. The kernel places the next
         * mapping under this one, so most later ones come out right at once. */
        munmap(at, EXTENT_BYTES);
        at = map_bytes(2 * EXTENT_BYTES);
        if (!at)
            return NULL;
        base = extent_base(at + EXTENT_BYTES - 1);
        if (base > at)
            munmap(at, (size_t)(base - at));
        if (base < at + EXTENT_BYTES)
            munmap(base + EXTENT_BYTES, (size_t)(at + EXTENT_BYTES - base));
        at = base;
    }
    /* Fewer faults and TLB misses; without huge pages all works the same, slower. */
    (void)madvise(at, EXTENT_BYTES, MADV_HUGEPAGE);
    return extent_of(at);
}

static void extent_unmap(struct extent *extent)
{
    char *base = extent_base(extent);

    UNPOISON(base, EXTENT_BYTES);
    munmap(base, EXTENT_BYTES);
}

static void extent_populate(struct extent *extent)
{
    char *base = extent_base(extent);

    if (madvise(base, EXTENT_BYTES, MADV_POPULATE_WRITE) == 0)
        return;
    for (size_t at = 0; at < EXTENT_BYTES; at += 4096)
        *(volatile char *)(base + at) = 0;
}

/* -- the pool ------------------------------------------------------------------------------------ */

int extent_pool_new(uint64_t limit_bytes, struct extent_pool **out_pool)
{
    struct extent_pool *pool = calloc(1, sizeof(*pool));

    if (!pool)
        return error_raise(-ENOMEM);
    pthread_mutex_init(&pool->lock, NULL);
    list_init(&pool->idle);
    atomic_init(&pool->limit_bytes, limit_bytes);
    *out_pool = pool;
    return 0;
}

void extent_pool_free(struct extent_pool *pool)
{
    struct list *node;

    if (!pool)
        return;
    ASSERT(pool->committed_bytes == pool->idle_bytes);
    while ((node = list_take_first(&pool->idle)))
        extent_unmap(container_of(node, struct extent, node));
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

uint64_t extent_pool_committed_bytes(const struct extent_pool *pool)
{
    return atomic_load_explicit(&pool->committed_bytes, memory_order_relaxed);
}

uint64_t extent_pool_idle_bytes(const struct extent_pool *pool)
{
    return atomic_load_explicit(&pool->idle_bytes, memory_order_relaxed);
}

uint64_t extent_pool_limit_bytes(const struct extent_pool *pool)
{
    return atomic_load_explicit(&pool->limit_bytes, memory_order_relaxed);
}

void extent_pool_set_limit(struct extent_pool *pool, uint64_t limit_bytes)
{
    atomic_store_explicit(&pool->limit_bytes, limit_bytes, memory_order_relaxed);
}

uint64_t extent_pool_over(const struct extent_pool *pool)
{
    return atomic_load_explicit(&pool->over_count, memory_order_relaxed);
}

/* The lock is held by the one writer of these. */
static void count_add(_Atomic uint64_t *counter, uint64_t by)
{
    atomic_store_explicit(
        counter, atomic_load_explicit(counter, memory_order_relaxed) + by, memory_order_relaxed);
}

static void pool_push_idle(struct extent_pool *pool, struct extent *extent, uint64_t since_ns)
{
    extent->idle_since_ns = since_ns;
    list_add_head(&pool->idle, &extent->node);
    count_add(&pool->idle_bytes, EXTENT_BYTES);
}

static struct extent *pool_take(struct extent_pool *pool)
{
    struct list *node;
    struct extent *extent;

    pthread_mutex_lock(&pool->lock);
    node = list_take_first(&pool->idle);
    if (node)
        count_add(&pool->idle_bytes, -EXTENT_BYTES);
    pthread_mutex_unlock(&pool->lock);
    if (node)
        return container_of(node, struct extent, node);

    extent = extent_map();
    if (!extent)
        return NULL;
    pthread_mutex_lock(&pool->lock);
    count_add(&pool->committed_bytes, EXTENT_BYTES);
    if (pool->committed_bytes > pool->limit_bytes)
        count_add(&pool->over_count, 1);
    pthread_mutex_unlock(&pool->lock);
    return extent;
}

static void pool_give(struct extent_pool *pool, struct extent *extent)
{
    UNPOISON(extent_base(extent), EXTENT_BYTES);
    extent->store = NULL;
    pthread_mutex_lock(&pool->lock);
    pool_push_idle(pool, extent, 0);
    pthread_mutex_unlock(&pool->lock);
}

/* Workers push at the head and have no clock: those that tend has not seen yet come first. */
static void pool_stamp(struct extent_pool *pool, uint64_t now_ns)
{
    LIST_FOR_EACH (node, &pool->idle) {
        struct extent *extent = container_of(node, struct extent, node);

        if (extent->idle_since_ns != 0)
            break;
        extent->idle_since_ns = u64_max(now_ns, 1);
    }
}

void extent_pool_tend(struct extent_pool *pool, unsigned ahead, uint64_t now_ns)
{
    uint64_t ahead_bytes = ahead * EXTENT_BYTES;
    struct list leaving;
    struct list *node;
    bool room;

    list_init(&leaving);
    pthread_mutex_lock(&pool->lock);
    pool_stamp(pool, now_ns);
    /* Over the limit nothing waits its 10 s. */
    while (pool->idle_bytes > ahead_bytes ||
           (pool->idle_bytes > 0 && pool->committed_bytes > pool->limit_bytes)) {
        struct extent *oldest = container_of(pool->idle.prev, struct extent, node);

        if (u64_sub_floor(now_ns, oldest->idle_since_ns) < IDLE_KEEP_NS &&
            pool->committed_bytes <= pool->limit_bytes)
            break;
        list_del(&oldest->node);
        list_add_tail(&leaving, &oldest->node);
        count_add(&pool->idle_bytes, -EXTENT_BYTES);
        count_add(&pool->committed_bytes, -EXTENT_BYTES);
    }
    pthread_mutex_unlock(&pool->lock);
    while ((node = list_take_first(&leaving)))
        extent_unmap(container_of(node, struct extent, node));

    for (unsigned i = 0; i < ahead; i++) {
        struct extent *extent;

        pthread_mutex_lock(&pool->lock);
        room = pool->idle_bytes < ahead_bytes &&
               pool->committed_bytes + EXTENT_BYTES <= pool->limit_bytes;
        if (room) /* counted before it exists, so that workers and we together stay inside the limit */
            count_add(&pool->committed_bytes, EXTENT_BYTES);
        pthread_mutex_unlock(&pool->lock);
        if (!room)
            return;

        extent = extent_map();
        if (extent)
            extent_populate(extent);
        pthread_mutex_lock(&pool->lock);
        if (extent) {
            pool_stamp(pool, now_ns);
            pool_push_idle(pool, extent, u64_max(now_ns, 1));
        } else {
            count_add(&pool->committed_bytes, -EXTENT_BYTES);
        }
        pthread_mutex_unlock(&pool->lock);
        if (!extent)
            return;
    }
}

/* -- a store's extents --------------------------------------------------------------------------- */

/* Cuts a fresh extent into blocks of a class. */
static void extent_cut(struct extent *extent, struct extent_store *store, unsigned class_index)
{
    uint32_t block_bytes = block_class_bytes[class_index];
    uint32_t lines = block_bytes / CACHE_LINE;
    size_t header_at = (size_t)((char *)extent - extent_base(extent));
    size_t most = EXTENT_BYTES / block_bytes;
    size_t first, moved_most;

    extent->word_count = (uint32_t)((most + 63) / 64);
    first = header_at + sizeof(*extent) + extent->word_count * sizeof(uint64_t);
    first = (first + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    moved_most = first - header_at + (HEADER_COLOURS - 1) * CACHE_LINE;

    extent->node.next = extent->node.prev = NULL;
    extent->store = store;
    extent->class_index = class_index;
    extent->block_bytes = block_bytes;
    extent->reciprocal = ((1u << RECIPROCAL_SHIFT) + lines - 1) / lines;
    extent->first_block = (uint32_t)first;
    extent->block_count = (uint32_t)((EXTENT_BYTES - moved_most) / block_bytes); /* wherever it lies: what fits depends on no address */
    extent->live_count = 0;
    extent->move_below = 0;
    extent->cursor = 0;
    for (uint32_t word = 0; word < extent->word_count; word++) {
        uint32_t from = word * 64;

        if (from + 64 <= extent->block_count)
            extent->free[word] = UINT64_MAX;
        else if (from < extent->block_count)
            extent->free[word] = (1ull << (extent->block_count - from)) - 1;
        else
            extent->free[word] = 0;
    }
    POISON(extent_base(extent) + first, EXTENT_BYTES - first);
}

static struct block *extent_block(struct extent *extent, uint32_t index)
{
    size_t at = extent->first_block + (size_t)index * extent->block_bytes;

    return (struct block *)(void *)(extent_base(extent) + at);
}

/* lines < 2^15 and reciprocal is too large by less than 2^-20 of itself times 12 (the only class that is
 * no power of two), so the product is never a whole block off. */
static uint32_t extent_index(const struct extent *extent, const struct block *block)
{
    size_t offset = (size_t)((const char *)block - extent_base(block)) - extent->first_block;
    uint32_t lines = (uint32_t)(offset / CACHE_LINE);

    return (uint32_t)(((uint64_t)lines * extent->reciprocal) >> RECIPROCAL_SHIFT);
}

static uint32_t extent_least_free(const struct extent *extent)
{
    return (extent->block_count + LEAST_FREE - 1) / LEAST_FREE;
}

/* Puts an extent that is not current into the list its fullness asks for. */
static void extent_file(struct extent_class *class, struct extent *extent)
{
    uint32_t count = extent->block_count;
    uint32_t bucket;

    if (list_linked(&extent->node))
        list_del(&extent->node);
    if (count - extent->live_count < extent_least_free(extent)) {
        list_add_tail(&class->full, &extent->node);
        extent->move_below = count - extent_least_free(extent) + 1;
        return;
    }
    bucket = extent->live_count * FULLNESS_BUCKETS / count;
    list_add_tail(&class->partial[bucket], &extent->node);
    /* The smallest live_count that still belongs here. */
    extent->move_below = (bucket * count + FULLNESS_BUCKETS - 1) / FULLNESS_BUCKETS;
}

/* Gives the class an extent with room. False: no memory. */
static bool class_refill(struct extent_store *store, unsigned class_index)
{
    struct extent_class *class = &store->classes[class_index];
    struct extent *extent = NULL;

    for (uint32_t i = FULLNESS_BUCKETS; i > 0 && !extent; i--) {
        struct list *node = list_take_first(&class->partial[i - 1]);

        if (node)
            extent = container_of(node, struct extent, node);
    }
    if (!extent) {
        extent = pool_take(store->pool);
        if (!extent)
            return false;
        extent_cut(extent, store, class_index);
    }
    if (class->current)
        extent_file(class, class->current);
    class->current = extent;
    extent->move_below = 0;
    return true;
}

/* -- the store ------------------------------------------------------------------------------------- */

int extent_store_new(struct extent_pool *pool, struct extent_store **out_store)
{
    struct extent_store *store = calloc(1, sizeof(*store));

    if (!store)
        return error_raise(-ENOMEM);
    store->pool = pool;
    for (unsigned i = 0; i < BLOCK_CLASSES; i++) {
        list_init(&store->classes[i].full);
        for (unsigned bucket = 0; bucket < FULLNESS_BUCKETS; bucket++)
            list_init(&store->classes[i].partial[bucket]);
    }
    *out_store = store;
    return 0;
}

static void give_all(struct extent_pool *pool, struct list *extents)
{
    struct list *node;

    while ((node = list_take_first(extents)))
        pool_give(pool, container_of(node, struct extent, node));
}

void extent_store_free(struct extent_store *store)
{
    if (!store)
        return;
    for (unsigned i = 0; i < BLOCK_CLASSES; i++) {
        struct extent_class *class = &store->classes[i];

        give_all(store->pool, &class->full);
        for (unsigned bucket = 0; bucket < FULLNESS_BUCKETS; bucket++)
            give_all(store->pool, &class->partial[bucket]);
        if (class->current)
            pool_give(store->pool, class->current);
    }
    free(store);
}

uint64_t extent_store_used_bytes(const struct extent_store *store)
{
    return store->used_bytes;
}

#ifdef SLOW_ASSERTS
static uint64_t extent_check(const struct extent *extent, const struct extent_store *store, unsigned class_index)
{
    uint64_t free_count = 0;

    ASSERT(extent->store == store);
    ASSERT(extent->class_index == class_index);
    for (uint32_t word = 0; word < extent->word_count; word++)
        free_count += (uint64_t)__builtin_popcountll(extent->free[word]);
    ASSERT(free_count + extent->live_count == extent->block_count);
    return (uint64_t)extent->live_count * extent->block_bytes;
}

static bool store_sound(const struct extent_store *store)
{
    uint64_t used_bytes = 0;

    for (unsigned i = 0; i < BLOCK_CLASSES; i++) {
        const struct extent_class *class = &store->classes[i];

        if (class->current)
            used_bytes += extent_check(class->current, store, i);
        LIST_FOR_EACH (node, &class->full)
            used_bytes += extent_check(container_of(node, struct extent, node), store, i);
        for (unsigned bucket = 0; bucket < FULLNESS_BUCKETS; bucket++) {
            LIST_FOR_EACH (node, &class->partial[bucket])
                used_bytes += extent_check(container_of(node, struct extent, node), store, i);
        }
    }
    return used_bytes == store->used_bytes;
}
#endif

struct block *block_new_class(struct extent_store *store, unsigned class_index)
{
    struct extent_class *class = &store->classes[class_index];
    struct extent *extent = class->current;
    struct block *block;
    uint32_t bit;

    if (UNLIKELY(!extent || extent->live_count == extent->block_count)) {
        ASSERT_SLOW(store_sound(store));
        if (!class_refill(store, class_index))
            return NULL;
        extent = class->current;
    }
    while (extent->free[extent->cursor] == 0) {
        extent->cursor++;
        if (extent->cursor == extent->word_count)
            extent->cursor = 0;
    }
    bit = (uint32_t)__builtin_ctzll(extent->free[extent->cursor]);
    extent->free[extent->cursor] &= ~(1ull << bit);
    extent->live_count++;
    store->used_bytes += extent->block_bytes;
    block = extent_block(extent, extent->cursor * 64 + bit);
    UNPOISON(block, extent->block_bytes);
    block->next = NULL;
    return block;
}

void block_free(struct extent_store *store, struct block *block)
{
    struct extent *extent;
    struct extent_class *class;
    uint32_t index;

    if (!block)
        return;
    extent = extent_of(block);
    ASSERT(extent->store == store);
    index = extent_index(extent, block);
    ASSERT(extent_block(extent, index) == block);
    ASSERT(!(extent->free[index / 64] >> (index % 64) & 1));

    extent->free[index / 64] |= 1ull << (index % 64);
    extent->live_count--;
    store->used_bytes -= extent->block_bytes;
    POISON(block, extent->block_bytes);

    class = &store->classes[extent->class_index];
    if (extent == class->current)
        return;
    if (UNLIKELY(extent->live_count == 0)) {
        list_del(&extent->node);
        pool_give(store->pool, extent);
        ASSERT_SLOW(store_sound(store));
    } else if (UNLIKELY(extent->live_count < extent->move_below)) {
        extent_file(class, extent);
    }
}

void block_free_chain(struct extent_store *store, struct block *first)
{
    while (first) {
        struct block *next = first->next;

        __builtin_prefetch(next);
        block_free(store, first);
        first = next;
    }
}

/* Frees one block of each chain. */
static void dying_step(struct extent_store *store)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < store->dying_count; i++) {
        struct block *block = store->dying[i];
        struct block *next = block->next;

        if (next) {
            __builtin_prefetch(next);
            __builtin_prefetch(extent_of(next), 1);
            store->dying[kept++] = next;
        }
        block_free(store, block);
    }
    store->dying_count = kept;
}

void block_free_chain_later(struct extent_store *store, struct block *first)
{
    if (!first)
        return;
    __builtin_prefetch(first);
    __builtin_prefetch(extent_of(first), 1);
    while (store->dying_count == DYING_CHAINS)
        dying_step(store);
    store->dying[store->dying_count++] = first;
}

void extent_store_settle(struct extent_store *store)
{
    while (store->dying_count > 0)
        dying_step(store);
}

size_t block_capacity(const struct block *block)
{
    return extent_of(block)->block_bytes - sizeof(struct block);
}

void rope_copy(const struct rope *rope, uint8_t *out)
{
    const struct block *block = rope->more;
    size_t left = rope->len - rope->at_len;

    if (rope->at_len > 0)
        memcpy(out, rope->at, rope->at_len);
    out += rope->at_len;
    while (left > 0) {
        size_t n = size_min(left, block_capacity(block));

        memcpy(out, block->bytes, n);
        out += n;
        left -= n;
        block = block->next;
    }
}
