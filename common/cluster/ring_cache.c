/* A handful of entries, so a list in order of use and a look at each: comparing names is nothing beside making a ring. */
#include "common/cluster/ring_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/error.h"

void ring_cache_init(struct ring_cache *cache, size_t capacity)
{
    ASSERT(capacity > 0 && capacity <= RING_CACHE_ENTRIES_MAX);
    *cache = (struct ring_cache){.capacity = capacity};
}

void ring_cache_deinit(struct ring_cache *cache)
{
    for (size_t i = 0; i < cache->capacity; i++)
        ring_unref(cache->rings[i]);
    *cache = (struct ring_cache){.capacity = cache->capacity};
}

static bool same_names(const struct ring *ring, const char *const *names, size_t count)
{
    if (ring->member_count != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (strcmp(ring->names[i], names[i]) != 0)
            return false;
    return true;
}

/* Where the ring of these names stands, or else the place to put it: the last. */
static size_t place_of(const struct ring_cache *cache, const char *const *names, size_t count)
{
    for (size_t i = 0; i < cache->capacity; i++)
        if (!cache->rings[i] || same_names(cache->rings[i], names, count))
            return i;
    return cache->capacity - 1;
}

static int ring_of(const char *const *names, size_t count, struct ring **out_ring)
{
    struct ring_member *members = calloc(count ? count : 1, sizeof(*members));
    int r;

    if (!members)
        return error_raise(-ENOMEM);
    for (size_t i = 0; i < count; i++)
        members[i].name = names[i];
    r = ring_new(members, count, out_ring);
    free(members);
    return error_pass(r);
}

int ring_cache_get(struct ring_cache *cache, const char *const *names, size_t count, struct ring **out_ring)
{
    size_t place = place_of(cache, names, count);
    struct ring *ring = cache->rings[place];

    if (ring && same_names(ring, names, count)) {
        cache->hits++;
    } else {
        int r = ring_of(names, count, &ring);

        if (r)
            return error_pass(r);
        ring_unref(cache->rings[place]);
        cache->misses++;
    }
    memmove(&cache->rings[1], &cache->rings[0], place * sizeof(struct ring *));
    cache->rings[0] = ring;
    *out_ring = ring_ref(ring);
    return 0;
}
