/* Rings made lately, by the names of their members: a ring costs milliseconds, and the same few come and go.
 *
 * Key     the names alone. A ring from here has a fingerprint of names without states, so nobody compares it.
 * Bound   RING_CACHE_ENTRIES rings; the one asked for longest ago makes room.
 * Owner   one thread; the rings themselves are counted and may be given back anywhere.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/cluster/ring.h"

#define RING_CACHE_ENTRIES 8u /* a roll swaps between two; 1 MiB each */

struct ring_cache {
    struct ring *rings[RING_CACHE_ENTRIES]; /* latest first; NULL: free, as are all behind it */
    uint64_t hits, misses;
};

void ring_cache_init(struct ring_cache *cache);
void ring_cache_deinit(struct ring_cache *cache);
/* names: sorted, distinct. A reference for the caller. 0, RING_E_NO_MEMBERS, RING_E_TOO_MANY or -ENOMEM. */
int ring_cache_get(struct ring_cache *cache, const char *const *names, size_t count, struct ring **out_ring);
