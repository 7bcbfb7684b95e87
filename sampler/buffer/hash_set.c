/* Extendible hashing over blocks. The first segment starts small and moves into larger blocks; from
 * 2 KiB on segments split. Where splitting would make the directory outgrow the count (hashes chosen
 * to agree in their leading bits), a segment gets a chain of further blocks instead. */
#include "sampler/buffer/hash_set.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cleanup.h"

#define CLASS_FIRST BLOCK_CLASS_512
#define CLASS_SPLIT BLOCK_CLASS_2048
#define DIRECTORY_FREE 16u
#define ENTRIES_PER_DIRECTORY_SLOT 16u /* evenly spread hashes need one in 60 or more */

struct set_segment {
    struct set_segment *next; /* overflow, seldom; in the place of struct block's */
    uint32_t count;
    uint16_t slots_count;
    uint16_t depth; /* of the first of a chain */
    uint64_t slots[]; /* 0: empty */
};

static_assert(offsetof(struct set_segment, next) == offsetof(struct block, next), "segments are blocks");

struct hash_set {
    struct extent_store *store;
    struct set_segment **directory;
    uint32_t depth;
    bool has_zero; /* the hash that cannot stand in a slot */
    uint64_t count;
};

static uint64_t mix(uint64_t hash)
{
    return hash * 0x9e3779b97f4a7c15ull;
}

static uint64_t prefix_of(uint64_t hash, uint32_t depth)
{
    return mix(hash) >> 1 >> (63 - depth);
}

static uint32_t home_of(const struct set_segment *segment, uint64_t hash)
{
    return (uint32_t)(((mix(hash) & UINT32_MAX) * segment->slots_count) >> 32);
}

static bool segment_full(const struct set_segment *segment)
{
    return segment->count >= segment->slots_count * 13u / 16;
}

static struct set_segment *segment_new(struct extent_store *store, unsigned class_index, uint32_t depth)
{
    struct block *block = block_new_class(store, class_index);
    struct set_segment *segment = (struct set_segment *)(void *)block;
    size_t bytes = block_class_bytes[class_index];

    if (!block)
        return NULL;
    memset(segment, 0, bytes);
    segment->slots_count = (uint16_t)((bytes - sizeof(*segment)) / sizeof(uint64_t));
    segment->depth = (uint16_t)depth;
    return segment;
}

static void segment_free_chain(struct hash_set *set, struct set_segment *segment)
{
    block_free_chain(set->store, (struct block *)(void *)segment);
}

static void segment_put(struct set_segment *segment, uint64_t hash)
{
    uint32_t at = home_of(segment, hash);

    while (segment->slots[at] != 0)
        at = at + 1 == segment->slots_count ? 0 : at + 1;
    segment->slots[at] = hash;
    segment->count++;
}

/* Into the first of the chain with room. */
static bool chain_put(struct hash_set *set, struct set_segment *segment, uint64_t hash)
{
    while (segment_full(segment)) {
        if (!segment->next) {
            segment->next = segment_new(set->store, BLOCK_CLASS_4096, segment->depth);
            if (!segment->next)
                return false;
        }
        segment = segment->next;
    }
    segment_put(segment, hash);
    return true;
}

/* Puts what `from` and its chain hold into the one or two segments of `to`, by the bit under depth. */
static bool chain_move(struct hash_set *set, const struct set_segment *from, struct set_segment *to[2])
{
    uint32_t depth = from->depth;

    for (const struct set_segment *segment = from; segment; segment = segment->next) {
        for (uint32_t i = 0; i < segment->slots_count; i++) {
            uint64_t hash = segment->slots[i];

            if (hash != 0 && !chain_put(set, to[mix(hash) >> (63 - depth) & 1], hash))
                return false;
        }
    }
    return true;
}

static void directory_set(struct hash_set *set, uint64_t prefix, struct set_segment *segment)
{
    uint64_t span = 1ull << (set->depth - segment->depth);

    for (uint64_t i = 0; i < span; i++)
        set->directory[prefix * span + i] = segment;
}

static bool directory_double(struct hash_set *set)
{
    uint64_t size = 1ull << set->depth;
    struct set_segment **directory = malloc(2 * size * sizeof(struct set_segment *));

    if (!directory)
        return false;
    for (uint64_t i = 0; i < size; i++)
        directory[2 * i] = directory[2 * i + 1] = set->directory[i];
    free(set->directory);
    set->directory = directory;
    set->depth++;
    return true;
}

/* Makes room where hash belongs: a larger block, or two. False: it did not, the chain takes it. */
static bool set_grow(struct hash_set *set, struct set_segment *segment, uint64_t hash)
{
    uint64_t prefix = prefix_of(hash, segment->depth);
    uint64_t directory = 2ull << set->depth;
    size_t bytes = sizeof(*segment) + segment->slots_count * sizeof(uint64_t);
    struct set_segment *to[2];

    if (bytes < block_class_bytes[CLASS_SPLIT]) {
        unsigned class_index = CLASS_FIRST;

        while (block_class_bytes[class_index] <= bytes)
            class_index++;
        to[0] = to[1] = segment_new(set->store, class_index, segment->depth);
        if (!to[0])
            return false;
    } else {
        if (segment->depth == set->depth) {
            if (directory > DIRECTORY_FREE && directory > set->count / ENTRIES_PER_DIRECTORY_SLOT)
                return false;
            if (!directory_double(set))
                return false;
        }
        to[0] = segment_new(set->store, CLASS_SPLIT, segment->depth + 1u);
        to[1] = segment_new(set->store, CLASS_SPLIT, segment->depth + 1u);
    }
    if (!to[0] || !to[1] || !chain_move(set, segment, to)) {
        segment_free_chain(set, to[0]);
        if (to[1] != to[0])
            segment_free_chain(set, to[1]);
        return false;
    }
    if (to[0] == to[1]) {
        directory_set(set, prefix, to[0]);
    } else {
        directory_set(set, prefix * 2, to[0]);
        directory_set(set, prefix * 2 + 1, to[1]);
    }
    segment_free_chain(set, segment);
    return true;
}

struct hash_set *hash_set_new(struct extent_store *store)
{
    struct hash_set *set = calloc(1, sizeof(*set));

    if (!set)
        return NULL;
    set->store = store;
    set->directory = malloc(sizeof(struct set_segment *));
    if (!set->directory) {
        free(set);
        return NULL;
    }
    set->directory[0] = segment_new(store, CLASS_FIRST, 0);
    if (!set->directory[0]) {
        free(set->directory);
        free(set);
        return NULL;
    }
    return set;
}

void hash_set_free(struct hash_set *set)
{
    uint64_t at = 0;

    if (!set)
        return;
    while (at < 1ull << set->depth) {
        struct set_segment *segment = set->directory[at];

        at += 1ull << (set->depth - segment->depth);
        segment_free_chain(set, segment);
    }
    free(set->directory);
    free(set);
}

bool hash_set_has(const struct hash_set *set, uint64_t hash)
{
    const struct set_segment *segment = set->directory[prefix_of(hash, set->depth)];

    if (UNLIKELY(hash == 0))
        return set->has_zero;
    for (; segment; segment = segment->next) {
        uint32_t at = home_of(segment, hash);

        while (segment->slots[at] != 0) {
            if (segment->slots[at] == hash)
                return true;
            at = at + 1 == segment->slots_count ? 0 : at + 1;
        }
    }
    return false;
}

bool hash_set_add(struct hash_set *set, uint64_t hash)
{
    struct set_segment *segment = set->directory[prefix_of(hash, set->depth)];

    if (UNLIKELY(hash == 0)) {
        set->has_zero = true;
        set->count++;
        return true;
    }
    while (segment_full(segment) && set_grow(set, segment, hash))
        segment = set->directory[prefix_of(hash, set->depth)];
    if (!chain_put(set, segment, hash))
        return false;
    set->count++;
    return true;
}

uint64_t hash_set_count(const struct hash_set *set)
{
    return set->count;
}
