/* How long something took, counted by size: a histogram of Prometheus, in milliseconds.
 *
 * Bounds  those of the Collector's otelcol_loadbalancer_backend_latency
 * Owner   one thread notes, any thread reads
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "common/metrics/text.h"

#define HISTOGRAM_BOUNDS 10

struct histogram {
    _Atomic uint64_t counts[HISTOGRAM_BOUNDS + 1]; /* up to each bound, and above the last */
    _Atomic uint64_t sum_ns;
};

void histogram_note(struct histogram *histogram, uint64_t took_ns);
/* The lines of one label's value. label_value: any bytes, escaped here. The head is metrics_write_head's. */
void histogram_write(const struct histogram *histogram, struct text *out, const char *name, const char *label, const char *label_value);
