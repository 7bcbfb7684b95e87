/* Latencies in buckets of at most 1.6 % width: constant cost, no allocation, quantiles at the end. */
#pragma once

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 6 /* 64 buckets for each power of two */
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total, most;
};

static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
    unsigned shift = 0;

    if (value >> HISTOGRAM_SUB_BITS)
        shift = (unsigned)(63 - __builtin_clzll(value)) - HISTOGRAM_SUB_BITS + 1;
    /* Values below 64 are their own bucket; above, the top 6 bits below the leading one pick it. */
    histogram->counts[(shift << HISTOGRAM_SUB_BITS) + (value >> (shift ? shift - 1 : 0)) -
                      (shift ? 1u << HISTOGRAM_SUB_BITS : 0)]++;
    histogram->total++;
    if (value > histogram->most)
        histogram->most = value;
}

static inline void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->counts[i] += from->counts[i];
    into->total += from->total;
    if (from->most > into->most)
        into->most = from->most;
}

/* The upper edge of the bucket where the quantile lies, never above the greatest value seen. */
static inline uint64_t histogram_quantile(const struct histogram *histogram, double quantile)
{
    uint64_t rank = (uint64_t)(quantile * (double)histogram->total), seen = 0;

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen > rank) {
            unsigned shift = i >> HISTOGRAM_SUB_BITS;
            uint64_t low = i & ((1u << HISTOGRAM_SUB_BITS) - 1), edge = low;

            if (shift)
                edge = ((low + (1u << HISTOGRAM_SUB_BITS) + 1) << (shift - 1)) - 1;
            return edge < histogram->most ? edge : histogram->most;
        }
    }
    return histogram->most;
}
