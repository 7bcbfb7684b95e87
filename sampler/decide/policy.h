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

/* What a policy votes on. */
struct verdict_input {
    const struct trace_id *trace_id;
    const struct facts *facts;
    uint64_t now_ns;
};

struct predicate_builder; /* predicate.h: a policy asks its questions there, once, when the set is compiled */

/* What a policy has at hand while its set is compiled. */
struct policy_prepare {
    struct config_context *context;
    const struct config_node *node; /* its settings, or the policy itself when it has none: where errors point */
    const char *name;
    struct predicate_builder *builder;
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
};

struct policy_type {
    const char *name;
    bool goes_first;                   /* judged before the others, wherever it is listed: it drops */
    size_t size;                       /* of its struct; zeroed before defaults and keys */
    const struct config_key *keys;     /* may be NULL: no settings */
    void (*defaults)(void *self);      /* may be NULL */
    /* Checks settings and asks its predicates; their texts and lists are gone afterwards. 0, or CONFIG_E_INVALID after
     * policy_error. May be NULL. */
    int (*prepare)(void *self, const struct policy_prepare *prepare);
    struct vote (*evaluate)(const void *self, const struct verdict_input *input); /* reads facts only */
    void (*deinit)(void *self);        /* may be NULL */
};

/* Votes of a filter: it says yes with threshold 0, or no. */
static inline struct vote vote_filter(bool sampled, uint32_t evidence_bit)
{
    return (struct vote){sampled ? DECISION_SAMPLED : DECISION_NOT_SAMPLED, 0, sampled ? evidence_bit : UINT32_MAX};
}

/* All types, generated from policy/meson.build's list; ends with NULL. */
extern const struct policy_type *const policy_types[];
const struct policy_type *policy_type_find(const char *name);
