/* Finds things by a 64-bit hash: many may share one, so the caller compares what it finds.
 *
 * Shape   segments of open-addressed slots under a directory. A full segment is split in two, so that
 *         growing never stops for more than one segment (tens of microseconds) and memory never doubles
 *         at once. It does not shrink: about 30 bytes for each entry of the fullest moment.
 * Cost    find: the directory (hot) and one cache line expected. Removal moves what follows back, so
 *         nothing decays.
 * Worst   hashes chosen to collide make a segment grow instead, and finds in it slow; the directory
 *         stays in proportion to the count.
 * Owner   one worker. No I/O, no clock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/cleanup.h"

struct hash_slot {
    uint64_t hash;
    uint64_t value; /* 0: empty */
};

struct hash_segment {
    uint32_t count;
    uint32_t mask;  /* slots - 1 */
    uint32_t depth; /* leading bits of the mixed hash that all here share */
    uint32_t pad[13];
    struct hash_slot slots[]; /* on a cache line's border */
};

struct hash_index {
    struct hash_segment **directory; /* 2^depth; a segment fills 2^(depth - its own) neighbours */
    uint32_t depth;
    uint64_t count;
    uint64_t bytes; /* of segments and directory */
};

/* A walk over the values that were added with one hash. */
struct hash_probe {
    struct hash_segment *segment;
    uint64_t hash;
    uint32_t at; /* slot to look at next */
};

int hash_index_init(struct hash_index *index);
void hash_index_deinit(struct hash_index *index);
/* value: not 0. False: no memory. */
bool hash_index_add(struct hash_index *index, uint64_t hash, uint64_t value);
/* Removes what the probe found last; the probe is spent. */
void hash_index_remove(struct hash_index *index, struct hash_probe *probe);
/* Walks everything; true when it holds together. Slow: tests and ASSERT_SLOW. */
bool hash_index_sound(const struct hash_index *index);

/* Visits everything there is, a segment (mostly of 2048 slots) a step: *cursor is 0 at first, and false is the end. What was there before
 * the first step and stays is visited once, whatever comes and goes between the steps; visit itself adds and removes nothing. */
bool hash_index_step(const struct hash_index *index, uint64_t *cursor,
    void (*visit)(void *context, uint64_t hash, uint64_t value), void *context);

/* The worker is picked by low bits of the hash and the cluster slot by its top ones, so that within one
 * worker's table neither end varies freely: multiplying spreads what does vary over the upper bits. */
HOT_INLINE uint64_t hash_index_mix(uint64_t hash)
{
    return hash * 0x9e3779b97f4a7c15ull;
}

HOT_INLINE uint32_t hash_index_home(const struct hash_segment *segment, uint64_t hash)
{
    return (uint32_t)(hash_index_mix(hash) >> 16) & segment->mask;
}

HOT_INLINE struct hash_segment *hash_index_segment(const struct hash_index *index, uint64_t hash)
{
    return index->directory[hash_index_mix(hash) >> 1 >> (63 - index->depth)];
}

HOT_INLINE struct hash_probe hash_index_probe(const struct hash_index *index, uint64_t hash)
{
    struct hash_segment *segment = hash_index_segment(index, hash);

    return (struct hash_probe){segment, hash, hash_index_home(segment, hash)};
}

/* The next value added with this hash; 0: no more. */
HOT_INLINE uint64_t hash_probe_next(struct hash_probe *probe)
{
    struct hash_segment *segment = probe->segment;

    for (;;) {
        const struct hash_slot *slot = &segment->slots[probe->at];

        if (slot->value == 0)
            return 0;
        probe->at = (probe->at + 1) & segment->mask;
        if (slot->hash == probe->hash)
            return slot->value;
    }
}

HOT_INLINE void hash_index_prefetch(const struct hash_index *index, uint64_t hash)
{
    const struct hash_segment *segment = hash_index_segment(index, hash);

    __builtin_prefetch(&segment->slots[hash_index_home(segment, hash)]);
}
