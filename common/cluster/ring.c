/* Two tables of one member index a slot, filled by hashing every name with every slot. That is N hashes a slot,
 * done once a change and off the data path, so that a look-up is one load. Names are short, so a hash costs a few
 * nanoseconds; the loop goes by slot because then all it touches is the names, which stay in the cache.
 *
 * Two names with equal hashes at a slot are ranked by their order, so that the order of the input can play no part. */
#include "common/cluster/ring.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/assert.h"
#include "common/base/error.h"

static_assert(RING_MEMBERS_MAX < RING_NONE, "RING_NONE is no member");
static_assert(RING_SLOT_BITS <= 32, "a slot is a uint32_t");

static uint64_t rank_hash(struct slice name, uint32_t slot)
{
    return hash_seeded(name.at, name.len, slot);
}

static int by_name(const void *a, const void *b)
{
    const struct ring_member *left = a, *right = b;

    return strcmp(left->name, right->name);
}

static void ring_fill(struct ring *ring, const struct slice *names)
{
    for (uint32_t slot = 0; slot < RING_SLOTS; slot++) {
        uint64_t best_hash = 0, second_hash = 0;
        uint16_t best = RING_NONE, second = RING_NONE;

        for (uint32_t i = 0; i < ring->member_count; i++) {
            uint64_t hash = rank_hash(names[i], slot);

            if (best == RING_NONE || hash > best_hash) {
                second = best;
                second_hash = best_hash;
                best = (uint16_t)i;
                best_hash = hash;
            } else if (second == RING_NONE || hash > second_hash) {
                second = (uint16_t)i;
                second_hash = hash;
            }
        }
        ring->owner[slot] = best;
        ring->fallback[slot] = second;
    }
}

/* Of each field's length and bytes, little endian, so that no two lists read as the same bytes. */
uint64_t ring_fingerprint(const struct ring_member *members, size_t count)
{
    XXH3_state_t state;
    uint64_t hash;

    XXH3_64bits_reset(&state);
    for (size_t i = 0; i <= count; i++) {
        uint32_t number[2] = {RING_HASH_VERSION, (uint32_t)count};
        size_t len = 0;

        if (i > 0) {
            len = strlen(members[i - 1].name);
            number[0] = (uint32_t)members[i - 1].state;
            number[1] = (uint32_t)len;
        }
        for (size_t k = 0; k < 2; k++) {
            uint8_t bytes[4] = {(uint8_t)number[k], (uint8_t)(number[k] >> 8), (uint8_t)(number[k] >> 16),
                (uint8_t)(number[k] >> 24)};

            XXH3_64bits_update(&state, bytes, sizeof(bytes));
        }
        if (i > 0)
            XXH3_64bits_update(&state, members[i - 1].name, len);
    }
    hash = XXH3_64bits_digest(&state);
    return hash ? hash : 1; /* 0 means "none" where fingerprints travel */
}

CLEANUP_DEFINE(struct ring, ring_unref);

int ring_new(const struct ring_member *members, size_t count, struct ring **out_ring)
{
    CLEANUP(ring_unref) struct ring *ring = NULL;
    struct ring_member *sorted = NULL;
    struct slice *names = NULL;

    if (count == 0)
        return RING_E_NO_MEMBERS;
    if (count > RING_MEMBERS_MAX)
        return RING_E_TOO_MANY;

    ring = calloc(1, sizeof(*ring));
    if (!ring)
        return error_raise(-ENOMEM);
    atomic_init(&ring->refs, 1);
    ring->names = calloc(count, sizeof(*ring->names));
    sorted = malloc(count * sizeof(*sorted));
    names = malloc(count * sizeof(*names));
    if (!ring->names || !sorted || !names)
        goto no_memory;

    memcpy(sorted, members, count * sizeof(*sorted));
    qsort(sorted, count, sizeof(*sorted), by_name);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            ASSERT(strcmp(sorted[i - 1].name, sorted[i].name) != 0);
        ring->names[i] = strdup(sorted[i].name);
        if (!ring->names[i])
            goto no_memory;
        ring->member_count++; /* counts what ring_unref has to free */
        names[i] = slice_text(ring->names[i]);
    }
    ring->fingerprint = ring_fingerprint(sorted, count);
    ring_fill(ring, names);
    free(sorted);
    free(names);
    *out_ring = steal(&ring);
    return 0;

no_memory:
    free(sorted);
    free(names);
    return error_raise(-ENOMEM);
}

struct ring *ring_ref(struct ring *ring)
{
    atomic_fetch_add_explicit(&ring->refs, 1, memory_order_relaxed);
    return ring;
}

void ring_unref(struct ring *ring)
{
    if (!ring || atomic_fetch_sub_explicit(&ring->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < ring->member_count; i++)
        free(ring->names[i]);
    free(ring->names);
    free(ring);
}

uint16_t ring_rank(const struct ring *ring, uint32_t slot, unsigned rank)
{
    uint64_t hashes[RING_MEMBERS_MAX];
    uint64_t last_hash = UINT64_MAX;
    uint16_t last = RING_NONE;

    ASSERT(slot < RING_SLOTS);
    if (rank >= ring->member_count)
        return RING_NONE;
    for (uint32_t i = 0; i < ring->member_count; i++)
        hashes[i] = rank_hash(slice_text(ring->names[i]), slot);

    /* Each round finds the first below the last one, in the order of (hash falling, index rising). */
    for (unsigned round = 0; round <= rank; round++) {
        uint64_t best_hash = 0;
        uint16_t best = RING_NONE;

        for (uint32_t i = 0; i < ring->member_count; i++) {
            bool below = last == RING_NONE || hashes[i] < last_hash || (hashes[i] == last_hash && i > last);

            if (below && (best == RING_NONE || hashes[i] > best_hash)) {
                best = (uint16_t)i;
                best_hash = hashes[i];
            }
        }
        last = best;
        last_hash = best_hash;
    }
    return last;
}

uint32_t ring_share(const struct ring *ring, uint16_t member)
{
    uint32_t share = 0;

    for (uint32_t slot = 0; slot < RING_SLOTS; slot++)
        share += ring->owner[slot] == member;
    return share;
}
