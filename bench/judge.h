/* Compares what was acknowledged (ledger) with what arrived (arrivals), by a rule that says what is kept.
 *
 * whole            every acknowledged span arrived, all from one node
 * partial          some acknowledged spans arrived, others did not
 * split            decided apart: partial, or its spans came from more than one node
 * lost             spans acknowledged that never arrived though their trace was kept, or must be by the rule
 * doubled          arrivals of a span beyond its first
 * wrongly_kept     the rule drops it, something of it arrived
 * wrongly_dropped  the rule keeps it, nothing of it arrived
 * unjudged         not every span was acknowledged, so what the node saw, and so its decision, is open
 * altered          all arrived, but the bytes are not those that were sent
 * invented         spans that arrived and were never sent
 *
 * All of it comes from the two ends of the wire, nothing from the counters of what is between them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bench/arrivals.h"
#include "bench/ledger.h"

#define RULE_TENANTS_MOST 8

struct rule { /* keeps a trace when any part says so */
    bool all, errors;
    bool latency_set;
    int64_t latency_ms; /* kept when its duration in whole ms is above */
    bool percent_set;
    uint64_t percent_limit; /* of the trace ID's FNV-1a hash */
    char salt[64];
    uint32_t tenants[RULE_TENANTS_MOST], tenant_count;
};

/* "all", "none", or parts joined by '|': errors, latency>MS, tenant=tenant-07, percent=5 or percent=5:SALT.
 * False: not readable. */
bool rule_parse(struct rule *rule, const char *text);
bool rule_keeps(const struct rule *rule, const struct model_trace *trace);

/* Decisions from a file of lines `<32 hex digits> sampled|not`; they go before the rule. */
struct decision_line {
    struct trace_id id;
    bool sampled;
};
struct decision_file {
    struct decision_line *lines;
    uint64_t count;
};
/* 0 or a negative errno; -EINVAL: a line is not readable. */
int decision_file_read(struct decision_file *file, const char *path);

struct judgement {
    uint64_t traces;  /* of which at least one span was acknowledged */
    uint64_t whole, partial, split, wrongly_kept, wrongly_dropped, altered; /* traces */
    uint64_t rightly_dropped, absent_unjudged;                               /* traces of which nothing arrived */
    uint64_t unknown, unjudged;                                              /* traces */
    uint64_t acknowledged_spans, unknown_spans, arrived_spans;
    uint64_t lost, doubled, invented;                                        /* spans */
    uint64_t split_by_node;                                                  /* of split: came from several nodes */
    uint64_t matched_groups;                                                 /* of the arrivals, known to this ledger */
};

/* Adds to *judgement. file may be NULL. examples > 0: prints that many trace IDs of each kind of fault on stderr. */
void judge(const struct ledger *ledger, const struct arrivals *arrivals, const struct rule *rule,
    const struct decision_file *file, unsigned examples, struct judgement *judgement);

/* True when no trace and no span has a fault, and there was something to judge. */
bool judgement_good(const struct judgement *judgement, const struct arrivals *arrivals);
