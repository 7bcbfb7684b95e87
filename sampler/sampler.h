/* The back tier: buffers each trace for the decision period, decides once, remembers, exports the survivors. */
#pragma once

#include "sampler/decide/policy_set.h"
#include "sampler/sampler_config.h"

struct sampler;

/* Builds everything and listens; traffic begins with sampler_run. set: compiled policies, one reference is taken.
 * 0, or -errno with a line in out_error. */
int sampler_new(const struct sampler_config *config, struct policy_set *set, struct sampler **out_sampler, char *out_error,
    size_t error_size);
/* Serves until SIGTERM and the drain that follows. 0: all that was held is decided and delivered; 1: cut short. */
int sampler_run(struct sampler *sampler);
/* sampler_run in its two halves, for who turns the control loop itself: between them is control_run. 0 or -errno; and as sampler_run. */
int sampler_start(struct sampler *sampler);
int sampler_stop(struct sampler *sampler);
void sampler_free(struct sampler *sampler);
