/* The middle of the back tier: a trace whose time has come, or whose place is needed, gets its one decision.
 *
 * One worker's, on its own thread. Decided is settled at once: a record remembers it, a sampled trace goes on to the
 * survivors, any other is freed.
 */
#pragma once

#include "sampler/sampler_worker.h"

/* Its time has come, or its place is needed. */
void trace_decide(struct sampler_worker *home, struct trace *trace, uint64_t now_ns);
/* With `sampling_strategy: span-ingest` or tailrace.early_keep: at once, when nothing that may still come can change it. True: it was. */
bool trace_decide_early(struct sampler_worker *home, struct trace *trace, uint64_t now_ns);
/* Over maximum_trace_size_bytes: not sampled at once, whatever the policies would say. */
void trace_refuse_size(struct sampler_worker *home, struct trace *trace, uint64_t now_ns);

/* Once a turn: those that are due. True: there is more to do. */
bool decide_due(struct sampler_worker *home, uint64_t now_ns);
/* Once a turn: the ladder (sampler/buffer/budget.h), the oldest first. True: there is more to do. */
bool decide_early(struct sampler_worker *home, uint64_t now_ns);

/* The first of the undecided traces, if it may be decided here and now; what may not is put on hold on the way. NULL: none. */
struct trace *oldest_that_may_be_decided(struct sampler_worker *home);

/* For people; NULL: none is credited. */
static inline const char *policy_name(const struct policy_set *set, uint16_t policy)
{
    return policy == UINT16_MAX ? NULL : policy_set_name(set, policy);
}
/* The same of what is remembered, another node's policies too; NULL too when the set of that time is past knowing. The text stays. */
static inline const char *record_policy_name(const struct sampler_worker *home, const struct decision_record *record)
{
    if (decision_policy_is_foreign(record->policy))
        return decision_cache_policy_name(home->cache, record->policy);
    return settings_policy_name(home->settings, record->generation, record->policy);
}
