/* Live reload of a sampler: what can change while it runs, and how its workers go over to it. */
#pragma once

#include "common/run/config_reload.h"
#include "sampler/settings.h"

struct sampler;
struct sampler_worker;

/* Patterns of config_diff.h, also for docs/configuration.md. */
extern const char *const sampler_live_keys[];

/* After sampler_new: from now on the files are watched. source: outlives the sampler. 0 or a negative. */
int sampler_reload_new(struct sampler *sampler, const struct config_source *source);
/* The worker's own share of new settings; on its thread. */
void sampler_worker_adopt(struct sampler_worker *home, struct sampler_settings *settings);
/* What the settings make of the memory limit; 0: it is what the machine has. */
uint64_t sampler_memory_limit(const struct sampler *sampler, const struct sampler_config *config);
/* Whether the oldest are decided early where memory runs short. */
bool sampler_decides_early(const struct sampler_config *config);
/* Whether bytes may lie in the journal alone before that. */
bool sampler_spills(const struct sampler_config *config);
/* Limits of the whole node that follow from the settings. */
void sampler_limits_set(struct sampler *sampler, const struct sampler_config *config);
struct decision_cache_options sampler_cache_options(const struct sampler *sampler, const struct sampler_config *config);
