/* What was decided, for as long as it is remembered: late spans follow it, resends are recognised, people ask.
 *
 * Record  at most 64 B: all 16 ID bytes as key, decision, policy, evidence. (The Collector keys by the last 8 bytes, so
 *         that two IDs may share a decision: differs from the Collector, docs/compatibility.md.)
 * Caches  sampled and non-sampled, LRU, sizes as configured; a hit refreshes. Size <= 0: no cache of that kind, then its
 *         records count in num_traces and leave oldest first. num_traces unset: bounded by max_bytes only.
 * Young   a record lives at least verdict_keep, whatever the sizes, within max_bytes; evicting a younger one is counted.
 * Hashes  of a sampled trace's spans, kept for resend_window, bounded by hash_bytes; oldest leave first.
 * Owner   one worker. No clock: now_ns is passed in.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "sampler/decide/policy.h"

struct decision_record {          /* as found; borrowed until the next call */
    enum decision decision;
    bool cached;                  /* its kind has a decision cache (tailsampling.cached_decision) */
    bool too_large;
    uint16_t policy;              /* index in the set of `generation`; UINT16_MAX: none */
    uint32_t generation;
    uint32_t span_count;          /* when decided */
    uint64_t evidence_span_id;    /* 0: none, or threshold is not 0: there is room for one of them */
    uint64_t threshold;           /* of a sampled trace, for the tracestate of its late spans */
    uint16_t evidence_bit;        /* UINT16_MAX: none */
    uint64_t decided_ns;
};

struct decision_cache_options {
    int64_t sampled_cache_size, non_sampled_cache_size;
    uint64_t num_traces;          /* 0: unset */
    uint64_t verdict_keep_ns, resend_window_ns;
    uint64_t max_bytes;           /* of records */
    uint64_t hash_bytes;          /* of span hashes */
};

struct decision_cache_stats {
    uint64_t records, evicted_young, hashes, oldest_ns; /* oldest_ns: decided_ns of the oldest record; 0: none */
};

struct decision_cache;
int decision_cache_new(const struct decision_cache_options *options, struct decision_cache **out_cache);
void decision_cache_free(struct decision_cache *cache);
/* Remembers; replaces what was there for the ID. hashes: of the spans, copied (sampled only). */
void decision_cache_put(struct decision_cache *cache, const struct trace_id *id, uint64_t id_hash, const struct decision_record *record,
    const uint64_t *hashes, size_t hash_count, uint64_t now_ns);
/* False: nothing remembered. refresh: count as a use (LRU). */
bool decision_cache_find(struct decision_cache *cache, const struct trace_id *id, uint64_t id_hash, bool refresh, uint64_t now_ns,
    struct decision_record *out_record);
/* For late spans of a remembered sampled trace: true when the hash was there (a resend); else it is added. */
bool decision_cache_seen(struct decision_cache *cache, const struct trace_id *id, uint64_t id_hash, uint64_t span_hash, uint64_t now_ns);
/* Lets go of what is over its time; bounded work, call once a turn. held_traces: undecided ones, which share num_traces. */
void decision_cache_tend(struct decision_cache *cache, uint64_t held_traces, uint64_t now_ns);
struct decision_cache_stats decision_cache_stats(const struct decision_cache *cache);
