/* Extendible hashing: the directory is indexed by the leading bits of the mixed hash, the place in a
 * segment comes from bits further down. A segment is split when more than three quarters full. When a
 * split would make the directory outgrow the count (hashes that agree in their leading bits), the
 * segment itself is made larger. */
#include "sampler/buffer/hash_index.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/error.h"

#define SLOTS_FIRST 64u   /* an idle worker's table is small */
#define SLOTS_SPLIT 2048u /* from here segments split: 32 KiB, so that one split stays short */
#define DIRECTORY_FREE 64u
#define ENTRIES_PER_DIRECTORY_SLOT 64u /* evenly spread hashes need one in 700 or more */

static_assert(offsetof(struct hash_segment, slots) % 64 == 0, "slots begin on a cache line");

static size_t segment_bytes(uint32_t slots)
{
    return sizeof(struct hash_segment) + slots * sizeof(struct hash_slot);
}

static struct hash_segment *segment_new(struct hash_index *index, uint32_t slots, uint32_t depth)
{
    struct hash_segment *segment = aligned_alloc(64, segment_bytes(slots));

    if (!segment)
        return NULL;
    memset(segment, 0, segment_bytes(slots));
    segment->mask = slots - 1;
    segment->depth = depth;
    index->bytes += segment_bytes(slots);
    return segment;
}

static void segment_free(struct hash_index *index, struct hash_segment *segment)
{
    if (!segment)
        return;
    index->bytes -= segment_bytes(segment->mask + 1);
    free(segment);
}

static bool segment_crowded(const struct hash_segment *segment, uint32_t count)
{
    return count > (segment->mask + 1) / 4 * 3;
}

static void segment_put(struct hash_segment *segment, uint64_t hash, uint64_t value)
{
    uint32_t at = hash_index_home(segment, hash);

    while (segment->slots[at].value != 0)
        at = (at + 1) & segment->mask;
    segment->slots[at] = (struct hash_slot){hash, value};
    segment->count++;
}

static bool bit_below(uint64_t hash, uint32_t depth)
{
    return hash_index_mix(hash) >> (63 - depth) & 1;
}

/* Points the directory at `segment` wherever the leading bits are `prefix`. */
static void directory_set(struct hash_index *index, uint64_t prefix, struct hash_segment *segment)
{
    uint64_t span = 1ull << (index->depth - segment->depth);

    for (uint64_t i = 0; i < span; i++)
        index->directory[prefix * span + i] = segment;
}

static uint64_t prefix_of(uint64_t hash, uint32_t depth)
{
    return hash_index_mix(hash) >> 1 >> (63 - depth);
}

static bool directory_double(struct hash_index *index)
{
    uint64_t size = 1ull << index->depth;
    struct hash_segment **directory = malloc(2 * size * sizeof(struct hash_segment *));

    if (!directory)
        return false;
    for (uint64_t i = 0; i < size; i++)
        directory[2 * i] = directory[2 * i + 1] = index->directory[i];
    free(index->directory);
    index->directory = directory;
    index->depth++;
    index->bytes += size * sizeof(struct hash_segment *);
    return true;
}

static bool segment_enlarge(struct hash_index *index, struct hash_segment *segment, uint64_t hash)
{
    struct hash_segment *larger;

    if (segment->mask > UINT32_MAX / 4)
        return false;
    larger = segment_new(index, (segment->mask + 1) * 2, segment->depth);
    if (!larger)
        return false;
    for (uint32_t i = 0; i <= segment->mask; i++) {
        if (segment->slots[i].value != 0)
            segment_put(larger, segment->slots[i].hash, segment->slots[i].value);
    }
    directory_set(index, prefix_of(hash, segment->depth), larger);
    segment_free(index, segment);
    return true;
}

static bool segment_split(struct hash_index *index, struct hash_segment *segment, uint64_t hash)
{
    struct hash_segment *halves[2] = {NULL, NULL};
    uint32_t counts[2] = {0, 0};
    uint64_t prefix = prefix_of(hash, segment->depth);

    if (segment->depth == index->depth && !directory_double(index))
        return false;
    for (uint32_t i = 0; i <= segment->mask; i++) {
        if (segment->slots[i].value != 0)
            counts[bit_below(segment->slots[i].hash, segment->depth)]++;
    }
    for (unsigned half = 0; half < 2; half++) {
        uint32_t slots = SLOTS_SPLIT;

        while (counts[half] > slots / 4 * 3)
            slots *= 2;
        halves[half] = segment_new(index, slots, segment->depth + 1);
        if (!halves[half]) {
            segment_free(index, halves[0]);
            return false;
        }
    }
    for (uint32_t i = 0; i <= segment->mask; i++) {
        const struct hash_slot *slot = &segment->slots[i];

        if (slot->value != 0)
            segment_put(halves[bit_below(slot->hash, segment->depth)], slot->hash, slot->value);
    }
    directory_set(index, prefix * 2, halves[0]);
    directory_set(index, prefix * 2 + 1, halves[1]);
    segment_free(index, segment);
    return true;
}

static bool split_allowed(const struct hash_index *index, const struct hash_segment *segment)
{
    uint64_t directory = 2ull << index->depth;

    if (segment->mask + 1 < SLOTS_SPLIT)
        return false;
    return segment->depth < index->depth || directory <= DIRECTORY_FREE ||
           directory <= index->count / ENTRIES_PER_DIRECTORY_SLOT;
}

int hash_index_init(struct hash_index *index)
{
    struct hash_segment *segment;

    memset(index, 0, sizeof(*index));
    index->directory = malloc(sizeof(struct hash_segment *));
    if (!index->directory)
        return error_raise(-ENOMEM);
    segment = segment_new(index, SLOTS_FIRST, 0);
    if (!segment) {
        free(index->directory);
        index->directory = NULL;
        return error_raise(-ENOMEM);
    }
    index->directory[0] = segment;
    index->bytes += sizeof(struct hash_segment *);
    return 0;
}

void hash_index_deinit(struct hash_index *index)
{
    uint64_t at = 0;

    if (!index->directory)
        return;
    while (at < 1ull << index->depth) {
        struct hash_segment *segment = index->directory[at];

        at += 1ull << (index->depth - segment->depth);
        segment_free(index, segment);
    }
    free(index->directory);
    memset(index, 0, sizeof(*index));
}

bool hash_index_add(struct hash_index *index, uint64_t hash, uint64_t value)
{
    struct hash_segment *segment = hash_index_segment(index, hash);

    while (UNLIKELY(segment_crowded(segment, segment->count + 1))) {
        bool grown = split_allowed(index, segment) ? segment_split(index, segment, hash)
                                                   : segment_enlarge(index, segment, hash);

        segment = hash_index_segment(index, hash);
        if (!grown) {
            /* No memory to grow: crowded is slow, full is the end. One slot stays empty to stop at. */
            if (segment->count + 1 > segment->mask)
                return false;
            break;
        }
        ASSERT_SLOW(hash_index_sound(index));
    }
    segment_put(segment, hash, value);
    index->count++;
    return true;
}

void hash_index_remove(struct hash_index *index, struct hash_probe *probe)
{
    struct hash_segment *segment = probe->segment;
    uint32_t mask = segment->mask;
    uint32_t hole = (probe->at - 1) & mask;
    uint32_t at = hole;

    ASSERT(segment->slots[hole].value != 0);
    for (;;) {
        uint32_t home;

        at = (at + 1) & mask;
        if (segment->slots[at].value == 0)
            break;
        home = hash_index_home(segment, segment->slots[at].hash);
        /* It may move back when its home is not after the hole. */
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            segment->slots[hole] = segment->slots[at];
            hole = at;
        }
    }
    segment->slots[hole].value = 0;
    segment->count--;
    index->count--;
}

/* The cursor is the first mixed hash that was not looked at. Segments split and never join, so it stays a segment's border. */
bool hash_index_step(const struct hash_index *index, uint64_t *cursor,
    void (*visit)(void *context, uint64_t hash, uint64_t value), void *context)
{
    const struct hash_segment *segment = index->directory[*cursor >> 1 >> (63 - index->depth)];
    uint64_t following = (*cursor >> 1 >> (63 - segment->depth)) + 1;

    for (uint32_t i = 0; i <= segment->mask; i++) {
        const struct hash_slot *slot = &segment->slots[i];

        if (slot->value != 0)
            visit(context, slot->hash, slot->value);
    }
    if (following == 1ull << segment->depth) {
        *cursor = 0;
        return false;
    }
    *cursor = following << (64 - segment->depth);
    return true;
}

bool hash_index_sound(const struct hash_index *index)
{
    uint64_t count = 0;
    uint64_t bytes = sizeof(struct hash_segment *) << index->depth;
    uint64_t at = 0;

    while (at < 1ull << index->depth) {
        const struct hash_segment *segment = index->directory[at];
        uint64_t span = 1ull << (index->depth - segment->depth);
        uint32_t filled = 0;

        if (at % span != 0)
            return false;
        for (uint64_t i = 0; i < span; i++) {
            if (index->directory[at + i] != segment)
                return false;
        }
        for (uint32_t i = 0; i <= segment->mask; i++) {
            const struct hash_slot *slot = &segment->slots[i];

            if (slot->value == 0)
                continue;
            filled++;
            if (prefix_of(slot->hash, segment->depth) != at / span)
                return false;
            for (uint32_t j = hash_index_home(segment, slot->hash); j != i; j = (j + 1) & segment->mask) {
                if (segment->slots[j].value == 0)
                    return false;
            }
        }
        if (filled != segment->count || filled > segment->mask)
            return false;
        count += filled;
        bytes += segment_bytes(segment->mask + 1);
        at += span;
    }
    return count == index->count && bytes == index->bytes;
}
