/* One generation of the configuration, as it is in force: immutable, reference-counted. The control thread makes one at the start
 * and one a reload; each worker goes from one to the next between two turns.
 *
 * Policies  a trace is decided by the policy set of its first span, which its trace holds. For what is said of policies later
 *           each name has a number for as long as the process lives: records name a policy by generation and index, counters go on
 *           under the same name.
 */
#pragma once

#include <stdatomic.h>

#include "sampler/decide/policy_set.h"
#include "sampler/sampler_config.h"

#define PAST_POLICIES 16u /* sets whose policies' names are still known after they were replaced */

/* All names of policies there ever were, by number. The control thread's; a name stays where it is. */
struct policy_roll {
    char **names;
    uint32_t count;
};
void policy_roll_deinit(struct policy_roll *roll);

/* The policies of one set: who they are beyond it. */
struct policy_numbers {
    atomic_uint refs;
    uint64_t generation; /* of the set */
    size_t count;
    struct policy_number {
        const char *name; /* the roll's */
        uint32_t number;
    } each[];
};

struct tls;
struct auth;
struct config_context;

struct sampler_settings {
    atomic_uint refs;
    uint64_t generation;
    struct sampler_config config;
    struct config_context *context;  /* whose memory config borrows; NULL: it outlives this */
    struct sampler_settings *lender; /* config borrows from an older one too; NULL: it does not */
    struct policy_set *set;
    bool decides_early;
    struct policy_numbers *policies;
    struct policy_numbers *past[PAST_POLICIES]; /* newest first */
    uint32_t policy_names; /* on the roll by now */
    /* By exporter: a version that rises when its configuration changes, and what security made of it. */
    uint32_t versions[OTLP_EXPORTERS_MAX];
    struct tls *tls[OTLP_EXPORTERS_MAX];
    struct auth *auth[OTLP_EXPORTERS_MAX];
};

/* config: copied; context: taken; set: one reference is taken. before: NULL: the first. Never NULL. */
struct sampler_settings *sampler_settings_new(const struct sampler_config *config, struct config_context *context, struct policy_set *set,
    const struct sampler_settings *before, struct policy_roll *roll);
struct sampler_settings *sampler_settings_ref(struct sampler_settings *settings);
void sampler_settings_unref(struct sampler_settings *settings); /* any thread; accepts NULL */

/* NULL: that set is long gone. */
const struct policy_numbers *settings_policies(const struct sampler_settings *settings, uint64_t set_generation);
/* Stays as long as the process; NULL: it is not known, or there is none. */
const char *settings_policy_name(const struct sampler_settings *settings, uint64_t set_generation, uint16_t policy);
