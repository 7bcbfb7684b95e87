#include "sampler/sampler_setup.h"

int sampler_setup_read(struct config_context *context, const struct config_node *root, uint64_t generation, struct sampler_setup *out_setup)
{
    const struct tail_sampling_config *config = &out_setup->config.tail_sampling;
    int r = sampler_config_read(context, root, &out_setup->config);
    const char *stateful;
    int policies;

    /* Policies too, also after another error: one look shows all there is to mend. */
    policies = policy_set_new(context, config->policies, config->sample_on_first_match, generation, &out_setup->set);
    if (r || policies)
        return r ? r : policies;
    stateful = policy_set_stateful(out_setup->set);
    if (config->span_ingest && stateful)
        return config_error(context, config->policies,
            "sampling_strategy \"span-ingest\" requires all policies to be stateless, but policy \"%s\" is stateful", stateful);
    return 0;
}

void sampler_setup_deinit(struct sampler_setup *setup)
{
    policy_set_unref(setup->set);
    setup->set = NULL;
}
