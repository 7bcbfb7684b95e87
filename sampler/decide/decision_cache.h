/* What was decided, for as long as it is remembered: late spans follow it, resends are recognised, people ask.
 *
 * Record  at most 64 B: all 16 ID bytes as key, decision, policy, evidence. (The Collector keys by the last 8 bytes, so
 *         that two IDs may share a decision: differs from the Collector, docs/compatibility.md.)
 * Caches  sampled and non-sampled, LRU, sizes as configured; a hit refreshes. Size <= 0: no cache of that kind, then its
 *         records count in num_traces and leave oldest first. num_traces unset: bounded by max_bytes only.
 * Young   a record lives at least verdict_keep, whatever the sizes, within max_bytes; evicting a younger one is counted.
 * Hashes  of a sampled trace's spans, kept for resend_window, bounded by hash_bytes; oldest leave first.
 * Travel  records go to another node with their trace's slot, and come from one: walked over, joined, removed. While a member of the ring
 *         is silent all are kept, within max_bytes (decision_cache_keep_all).
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
    uint16_t policy;              /* index in the set of `generation`; or decision_cache_policy's; UINT16_MAX: none */
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
    uint64_t newest_ns; /* decided_ns of the latest decision that was ever put; 0: none */
};

#define DECISION_POLICY_FOREIGN 0x8000u /* policies from here on are decision_cache_policy's */

struct decision_cache;
int decision_cache_new(const struct decision_cache_options *options, struct decision_cache **out_cache);
/* Live reload: sizes and times change, the bounds in bytes stay. What is over a smaller size leaves bit by bit. */
void decision_cache_change(struct decision_cache *cache, const struct decision_cache_options *options);
void decision_cache_free(struct decision_cache *cache);
/* Remembers; replaces what was there for the ID, but for the hashes of one that was and stays sampled. hashes: of the spans, copied
 * (sampled only). decided_ns may be long before now_ns. */
void decision_cache_put(struct decision_cache *cache, const struct trace_id *id, uint64_t id_hash, const struct decision_record *record,
    const uint64_t *hashes, size_t hash_count, uint64_t now_ns);
/* False: nothing remembered. refresh: count as a use (LRU). */
bool decision_cache_find(struct decision_cache *cache, const struct trace_id *id, uint64_t id_hash, bool refresh, uint64_t now_ns,
    struct decision_record *out_record);
/* For late spans of a remembered sampled trace: true when the hash was there (a resend); else it is added. */
bool decision_cache_seen(struct decision_cache *cache, const struct trace_id *id, uint64_t id_hash, uint64_t span_hash, uint64_t now_ns);
/* Lets go of what is over its time; bounded work, call once a turn. held_traces: undecided ones, which share num_traces. */
void decision_cache_tend(struct decision_cache *cache, uint64_t held_traces, uint64_t now_ns);

/* Verdicts that travel. Visits all records, some 1500 a step: *cursor is 0 at first, and false is the end. A record that is there all
 * the time is visited once, whatever is put and removed between the steps; visit itself changes nothing. */
bool decision_cache_step(struct decision_cache *cache, uint64_t *cursor,
    void (*visit)(void *context, const struct trace_id *id, uint64_t id_hash, const struct decision_record *record), void *context);
/* Writes the hashes known of the trace's spans, at most `capacity`; returns how many there are. */
size_t decision_cache_hashes(const struct decision_cache *cache, const struct trace_id *id, uint64_t id_hash, uint64_t *out_hashes, size_t capacity);
/* The hashes become known of a sampled trace whose record is there; otherwise nothing happens. */
void decision_cache_join(struct decision_cache *cache, const struct trace_id *id, uint64_t id_hash, const uint64_t *hashes, size_t count, uint64_t now_ns);
/* False: there was none. */
bool decision_cache_remove(struct decision_cache *cache, const struct trace_id *id, uint64_t id_hash);
/* Records and hashes stay whatever their age and the cache sizes, within max_bytes and hash_bytes: then who leaves is counted as young. */
void decision_cache_keep_all(struct decision_cache *cache, bool keep);
/* Policies of other nodes' sets. A number for decision_record.policy, the same for the same name; UINT16_MAX: there are too many. */
uint16_t decision_cache_policy(struct decision_cache *cache, struct slice name);
static inline bool decision_policy_is_foreign(uint16_t policy)
{
    return policy >= DECISION_POLICY_FOREIGN && policy != UINT16_MAX;
}
/* policy: a foreign one. */
const char *decision_cache_policy_name(const struct decision_cache *cache, uint16_t policy);
struct decision_cache_stats decision_cache_stats(const struct decision_cache *cache);
