/* What a journal's later records took away from earlier ones: spans, and verdicts, each with the last sequence at which it went.
 *
 * Shape   open addressing over 64-bit keys made of trace ID and span hash: two spans with one key would be one in 2^64 pairs.
 * Cost    16 bytes for each, at most twice that. Lives during recovery only.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/base/slice.h"

struct gone_entry {
    uint64_t key, sequence; /* key 0: free */
};

struct gone_table { /* all zero: empty */
    struct gone_entry *entries;
    size_t count, capacity;
};

void gone_deinit(struct gone_table *table);
uint64_t gone_span(const struct trace_id *id, uint64_t span_hash);
uint64_t gone_verdict(const struct trace_id *id);
/* It was decided as sampled: what is still here of it is on its way. */
uint64_t gone_to_backends(const struct trace_id *id);
/* One exporter has delivered it, by number: the others have not. */
uint64_t gone_from_exporter(const struct trace_id *id, uint64_t span_hash, unsigned exporter);
/* All of the trace's spans: a verdict dropped them. */
uint64_t gone_trace(const struct trace_id *id);
/* The highest sequence stays. */
void gone_add(struct gone_table *table, uint64_t key, uint64_t sequence);
/* 0: it never went. */
uint64_t gone_sequence(const struct gone_table *table, uint64_t key);
