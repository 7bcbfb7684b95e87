/* The resolver that a configuration asks for, the same for both tiers. */
#pragma once

#include "common/cluster/resolver.h"
#include "common/config/resolver_config.h"

/* What the configuration says, for as long as the resolver lives. */
struct resolver_plan {
    struct control *control;
    const struct resolver_config *resolver;
    const struct resolver_config *fallback; /* name NULL: none */
    const struct dns_config *dns;
    const struct k8s_config *kubernetes;
};

/* The plan is kept too. 0, or an outcome of resolver.h or a failure, with a reason in out_error for the outcome. */
int resolver_new(const struct resolver_plan *plan, const struct resolver_events *events, struct resolver **out_resolver, char *out_error,
    size_t error_size);
