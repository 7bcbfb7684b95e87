/* Rings made lately, by the names of their members: a ring costs milliseconds, and the same few come and go.
 *
 * Key     the names alone. A ring from here has a fingerprint of names without states, so nobody compares it.
 * Bound   `capacity` rings; the one asked for longest ago makes room.
 * Owner   one thread; the rings themselves are counted and may be given back anywhere.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/cluster/ring.h"

#define RING_CACHE_ENTRIES 8u      /* for one node: a roll swaps between two; 1 MiB each */
#define RING_CACHE_ENTRIES_MAX 64u /* for many nodes in one process */

struct ring_cache {
    size_t capacity;
    struct ring *rings[RING_CACHE_ENTRIES_MAX]; /* latest first; NULL: free, as are all behind it */
    uint64_t hits, misses;
};

/* capacity: 1 to RING_CACHE_ENTRIES_MAX. */
void ring_cache_init(struct ring_cache *cache, size_t capacity);
void ring_cache_deinit(struct ring_cache *cache);
/* names: sorted, distinct. A reference for the caller. 0, RING_E_NO_MEMBERS, RING_E_TOO_MANY or -ENOMEM. */
int ring_cache_get(struct ring_cache *cache, const char *const *names, size_t count, struct ring **out_ring);
