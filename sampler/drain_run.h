/* The drain carried out: facts gathered on the control thread, acts given to listeners, workers, cluster and journal. */
#pragma once

#include <stdint.h>

struct sampler;

/* A signal: the first, the second … Whoever else wants the end says 1. */
void sampler_on_stop(void *sampler, unsigned signal_count);
/* From the sampler's timer, and whenever something of it happened. */
void sampler_drain_tend(struct sampler *sampler, uint64_t now_ns);
void sampler_drain_deinit(struct sampler *sampler);
