/* The journal as a part of the process: opened before anything that writes to it, its threads and its recovery started with the rest.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/metrics/text.h"

struct sampler;

/* Takes the directory. 0, or < 0 with a line in out_error. */
int sampler_journal_open(struct sampler *sampler, char *out_error, size_t error_size);
/* The workers run. 0 or < 0. */
int sampler_journal_start(struct sampler *sampler);
/* Live reload: times that follow from the settings. */
void sampler_journal_keep(struct sampler *sampler);
/* For /status and /metrics. */
void sampler_journal_status(struct sampler *sampler, struct text *out);
void sampler_journal_gauges(struct sampler *sampler);
