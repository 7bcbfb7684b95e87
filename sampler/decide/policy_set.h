/* The policies of one configuration, compiled; and how their votes become one decision.
 *
 * Source  tail_sampling processor: drop policies first, then config order; Dropped ends; sample_on_first_match;
 *         credit goes to the first policy of those with the smallest threshold.
 * Life    immutable and reference-counted: a trace is decided by the set of its first span.
 */
#pragma once

#include <stdint.h>

#include "common/base/num.h"
#include "sampler/decide/policy.h"
#include "sampler/decide/predicate.h"

struct policy_set;

struct decided {
    enum decision decision;      /* never PENDING or ERROR */
    uint16_t policy;             /* index of the credited policy; UINT16_MAX: none */
    uint32_t evidence_bit;       /* UINT32_MAX: none */
    uint64_t threshold;
    uint32_t error_count;        /* policies that failed */
    const char *inner_policy;    /* by which a composite policy said yes, credited or not; NULL: none did. The set's */
};

/* policies: the YAML list (NULL: empty). Errors name file, line and policy. */
int policy_set_new(struct config_context *context, const struct config_node *policies, bool sample_on_first_match,
    uint64_t generation, struct policy_set **out_set);
/* Live reload: buckets and counters of policies that have not changed go on, shared by both sets; before: in force until now. policies and
 * policies_before: the lists that they were made of. */
void policy_set_inherit(struct policy_set *set, const struct config_node *policies, const struct policy_set *before,
    const struct config_node *policies_before);
struct policy_set *policy_set_ref(struct policy_set *set);
void policy_set_unref(struct policy_set *set);

const struct predicates *policy_set_predicates(const struct policy_set *set);
uint64_t policy_set_generation(const struct policy_set *set);
size_t policy_set_count(const struct policy_set *set);
const char *policy_set_name(const struct policy_set *set, uint16_t policy); /* "" for UINT16_MAX */
uint16_t policy_set_find(const struct policy_set *set, struct slice name); /* UINT16_MAX: there is none */

struct decided policy_set_decide(const struct policy_set *set, const struct verdict_input *input);

/* What the credited policy's vote rests on, for people: a predicate's question, an aggregate, or the policy's type; nothing
 * when no policy is credited. facts: NULL when they are gone. */
void policy_set_explain(const struct policy_set *set, uint16_t policy, uint32_t evidence_bit, const struct facts *facts, struct text *out);

/* What verdict_input and facts must hold for this set. */
const struct policy_needs *policy_set_needs(const struct policy_set *set);
/* The first policy that the Collector calls stateful (reference section 7); NULL: none. */
const char *policy_set_stateful(const struct policy_set *set);

/* Per policy, for metrics: how often each voted what. votes: array of policy_set_count rows, may be NULL. */
struct policy_votes {
    uint64_t sampled, not_sampled, dropped, errors;
};
struct decided policy_set_decide_counted(const struct policy_set *set, const struct verdict_input *input, struct policy_votes *votes);
/* How long such traces are gathered: the Collector's tick. */
#define BATCH_TICK_NS (1 * NS_PER_S)
/* Traces that are due together, for sets that need it (policy_needs.batch): first the policies that drop, then all left are
 * weighed against each other, then the others decide. out_decided: one a trace. 0 or -ENOMEM. */
int policy_set_decide_batch(const struct policy_set *set, const struct verdict_input *inputs, size_t count,
    struct policy_votes *votes, struct decided *out_decided);
/* Whether the trace can be decided on what came so far, whatever may come: a policy says yes that no span can undo, and no
 * policy that drops could still do so (or one drops it now). The answer does not depend on the order of spans. The
 * first such policy takes the credit. False: it must wait. */
bool policy_set_decide_early(const struct policy_set *set, const struct verdict_input *input, struct policy_votes *votes,
    struct decided *out_decided);
