/* The whole configuration of a sampler, read: keys as structs, policies compiled. */
#pragma once

#include "sampler/decide/policy_set.h"
#include "sampler/sampler_config.h"

struct sampler_setup {
    struct sampler_config config;
    struct policy_set *set; /* one reference; NULL after an error */
};

/* generation: of the policies. 0 or CONFIG_E_INVALID; sampler_setup_deinit is due in any case. */
int sampler_setup_read(struct config_context *context, const struct config_node *root, uint64_t generation, struct sampler_setup *out_setup);
void sampler_setup_deinit(struct sampler_setup *setup);
