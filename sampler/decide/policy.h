/* A policy type: how a rule is configured, what it wants to know of spans, how it votes. One file in policy/ each. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/cleanup.h"
#include "common/config/config.h"
#include "sampler/decide/facts.h"

enum decision { DECISION_PENDING, DECISION_SAMPLED, DECISION_NOT_SAMPLED, DECISION_DROPPED, DECISION_ERROR };

const char *decision_name(enum decision decision); /* "sampled" … */

/* What a policy votes on. Which of two limits wins depends on the times: tests give what they like. */
struct verdict_input {
    const struct trace_id *trace_id;
    const struct facts *facts;
    uint64_t now_ns;      /* monotonic: token buckets */
    uint64_t now_unix_ns; /* wall clock: whole seconds of composite policies; read only when policy_needs.wall_clock */
};

struct text;
struct predicate_builder; /* predicate.h: a policy asks its questions there, once, when the set is compiled */

/* What the policies of a set need beside facts. */
struct policy_needs {
    bool state;      /* something one decision leaves to the next (buckets, counters): decide under the set's lock */
    bool wall_clock; /* verdict_input.now_unix_ns */
    bool cost;       /* facts.cost: it is folded only for sets that ask */
    bool batch;      /* traces that are due together are weighed against each other: policy_set_decide_batch */
};

/* What a policy has at hand while its set is compiled. */
struct policy_prepare {
    struct config_context *context;
    const struct config_node *node; /* its settings, or the policy itself when it has none: where errors point */
    const char *name;               /* of the top-level policy: errors name it, also for what stands inside */
    struct predicate_builder *builder;
    struct policy_needs *needs;
    bool use_tracestate; /* the Collector's gate usetracestate */
};

/* Reports that the policy cannot be made, in the Collector's words: `failed to create policy evaluator for "NAME": …`.
 * Returns CONFIG_E_INVALID. */
int policy_error(const struct policy_prepare *prepare, const char *format, ...) PRINTF_LIKE(2, 3);
/* After asking a predicate: 0, or the error that there are too many. */
int policy_asked(const struct policy_prepare *prepare, uint32_t bit);

#define SAMPLING_NEVER (1ull << 56)
struct vote {
    enum decision decision;
    uint64_t threshold; /* 56 bit; a filter's is 0; of several that say sampled the smallest takes the credit */
    uint32_t evidence_bit; /* predicate that matched; UINT32_MAX: none (an aggregate or the ID) */
    const char *inner_policy; /* of a composite that says yes: the policy inside that it did so by; else NULL */
};

/* Where a policy can stand. */
enum policy_place {
    POLICY_AT_TOP = 1,
    POLICY_IN_AND = 2,
    POLICY_IN_NOT = 4,
    POLICY_IN_DROP = 8,
    POLICY_IN_COMPOSITE = 16,
};

struct policy_type {
    const char *name;
    bool goes_first;                   /* judged before the others, wherever it is listed: it drops */
    unsigned places;                   /* enum policy_place; 0: anywhere */
    size_t size;                       /* of its struct; zeroed before defaults and keys */
    const struct config_key *keys;     /* may be NULL: no settings */
    void (*defaults)(void *self);      /* may be NULL */
    /* Checks settings and asks its predicates; their texts and lists are gone afterwards. 0, or CONFIG_E_INVALID after
     * policy_error. May be NULL. */
    int (*prepare)(void *self, const struct policy_prepare *prepare);
    struct vote (*evaluate)(const void *self, const struct verdict_input *input); /* reads facts only */
    /* Under usetracestate: looks at all traces that are to be judged together, before any of them is. NULL: no need. */
    void (*weigh)(const void *self, const struct verdict_input *const *inputs, size_t count);
    /* Whether it must; NULL: whenever there is a weigh. */
    bool (*is_weighed)(const void *self);
    /* Whether a further span can turn a vote around in the Collector's eyes: such policies are refused under
     * `sampling_strategy: span-ingest`. NULL: it cannot. */
    bool (*is_stateful)(const void *self);
    /* Whether a yes on these facts outlives whatever spans may come: then a trace may be decided before it is complete.
     * NULL: it does not. */
    bool (*is_lasting)(const void *self, const struct facts *facts);
    /* What a yes that no predicate gave rests on, for people: "the trace took 812 ms". NULL: the type's name says it. */
    void (*explain)(const void *self, const struct facts *facts, struct text *out);
    /* A policy of equal settings is in force until now: what one decision leaves to the next is shared with it from here on. NULL:
     * there is no such thing. */
    void (*inherit)(void *self, const void *before);
    void (*deinit)(void *self);        /* may be NULL; called only after prepare went well */
};

/* A policy as it was configured. */
struct policy {
    const struct policy_type *type;
    char *name;    /* "" and repeated ones are fine inside another policy */
    void *self;    /* its type's struct */
    bool is_ready; /* prepare went well: deinit is due */
};

/* Policies inside another one. */
struct policy_list {
    struct policy *items;
    size_t count;
};

/* Reads name, type and settings of one policy. outer: who it stands in (of the top-level policy: whatever but its name).
 * 0, CONFIG_E_INVALID or a failure; policy_deinit is due in any case. */
int policy_read(const struct policy_prepare *outer, const struct config_node *node, enum policy_place place,
    struct policy *out_policy);
void policy_deinit(struct policy *policy);
/* A list of them; NULL: empty. After an error nothing is left to free. */
int policy_list_read(const struct policy_prepare *outer, const struct config_node *list, enum policy_place place,
    struct policy_list *out_list);
void policy_list_deinit(struct policy_list *list);
/* policy_type.inherit, of policies of equal settings. */
void policy_inherit(struct policy *policy, const struct policy *before);
void policy_list_inherit(struct policy_list *list, const struct policy_list *before);
bool policy_list_is_stateful(const struct policy_list *list);
bool policy_list_is_lasting(const struct policy_list *list, const struct facts *facts);
/* Whether all say yes, asked in order; the first that does not ends it. Sampled: with the largest threshold. */
struct vote policy_list_agree(const struct policy_list *list, const struct verdict_input *input);

/* What a trace is compared with thresholds by: the randomness that its spans name, else its ID's. */
uint64_t verdict_randomness(const struct verdict_input *input);

static inline struct vote policy_evaluate(const struct policy *policy, const struct verdict_input *input)
{
    return policy->type->evaluate(policy->self, input);
}

static inline bool policy_is_weighed(const struct policy *policy)
{
    return policy->type->weigh && (!policy->type->is_weighed || policy->type->is_weighed(policy->self));
}

static inline bool policy_is_stateful(const struct policy *policy)
{
    return policy->type->is_stateful && policy->type->is_stateful(policy->self);
}

static inline bool policy_is_lasting(const struct policy *policy, const struct facts *facts)
{
    return policy->type->is_lasting && policy->type->is_lasting(policy->self, facts);
}

/* For types whose yes always lasts. */
bool policy_always_lasting(const void *self, const struct facts *facts);

/* Votes of a filter: it says yes with threshold 0, or no. */
static inline struct vote vote_filter(bool sampled, uint32_t evidence_bit)
{
    return (struct vote){sampled ? DECISION_SAMPLED : DECISION_NOT_SAMPLED, 0, sampled ? evidence_bit : UINT32_MAX, NULL};
}

/* All types, generated from policy/meson.build's list; ends with NULL. */
extern const struct policy_type *const policy_types[];
const struct policy_type *policy_type_find(const char *name);
