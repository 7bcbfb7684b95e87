/* The hashes. XXH3-64 places traces and recognises spans; FNV-1a is what the Collector's
 * probabilistic policy computes. Both are part of interfaces: changing one splits traces. */
#pragma once

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "common/base/slice.h"

static inline uint64_t hash_bytes(const void *at, size_t len)
{
    return XXH3_64bits(at, len);
}

static inline uint64_t hash_seeded(const void *at, size_t len, uint64_t seed)
{
    return XXH3_64bits_withSeed(at, len, seed);
}

/* Where a trace belongs: the top bits pick its slot, the low bits its worker and table slot. */
static inline uint64_t hash_trace(const struct trace_id *id)
{
    return XXH3_64bits(id->bytes, sizeof(id->bytes));
}

#define FNV1A_64_START 0xcbf29ce484222325ull

/* FNV-1a 64 over bytes, going on from `hash` (FNV1A_64_START at first). */
static inline uint64_t hash_fnv1a(uint64_t hash, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ at[i]) * 0x100000001b3ull;
    return hash;
}
