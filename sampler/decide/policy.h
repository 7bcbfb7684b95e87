/* A policy type: how a rule is configured, what it wants to know of spans, how it votes. One file in policy/ each. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

#define SAMPLING_NEVER (1ull << 56)
struct vote {
    enum decision decision;
    uint64_t threshold; /* 56 bit; a filter's is 0; of several that say sampled the smallest takes the credit */
    uint32_t evidence_bit; /* predicate that matched; UINT32_MAX: none (an aggregate or the ID) */
};

struct policy_type {
    const char *name;
    size_t size;                       /* of its struct; zeroed before defaults and keys */
    const struct config_key *keys;     /* may be NULL: no settings */
    void (*defaults)(void *self);      /* may be NULL */
    /* Checks settings and asks its predicates. 0, or CONFIG_E_INVALID after config_error. May be NULL. */
    int (*prepare)(void *self, struct config_context *context, const struct config_node *node, struct predicate_builder *builder);
    struct vote (*evaluate)(const void *self, const struct verdict_input *input); /* reads facts only */
    void (*deinit)(void *self);        /* may be NULL */
};

/* All types, generated from policy/meson.build's list; ends with NULL. */
extern const struct policy_type *const policy_types[];
const struct policy_type *policy_type_find(const char *name);
