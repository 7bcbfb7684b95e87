/* Counters and gauges, documented where they are declared (metrics.def).
 *
 * Each worker (and the control thread) writes its own cells, plainly; readers sum them, relaxed.
 * metrics.def makes this enum, /metrics and docs/metrics.md.
 *
 * A gauge may be moved by several threads, one adding what another takes away (metric_add with a
 * negated number): only its sum means something, and that is shown as a signed number.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "common/metrics/text.h"

/* METRIC(id, name, kind, tiers, labels, help): `labels` is a fixed label set of this cell, such as
 * "reason=\"malformed\"" ("" for none); cells of one name stand together. */
enum metric_id {
#define METRIC(id, name, kind, tiers, labels, help) METRIC_##id,
#include "common/metrics/metrics.def"
#undef METRIC
    METRIC_COUNT
};

enum metric_kind { METRIC_KIND_COUNTER, METRIC_KIND_GAUGE, METRIC_KIND_HISTOGRAM };

const char *metric_kind_text(enum metric_kind kind);

/* Whose page shows a metric: one bit a program. */
enum metrics_tier { METRICS_LB = 1, METRICS_SAMPLER = 2, METRICS_SAMPLER_NAMED = 4, METRICS_LB_NAMED = 8 };

struct metric_info {
    const char *name, *labels, *help;
    enum metric_kind kind;
    unsigned tiers;
};

/* By metric_id. */
extern const struct metric_info metric_infos[METRIC_COUNT];

struct metrics_cell {
    _Alignas(64) _Atomic uint64_t values[METRIC_COUNT];
};

static inline void metric_add(struct metrics_cell *cell, enum metric_id id, uint64_t by)
{
    /* One writer: a plain add, stored so that readers never see it torn. */
    uint64_t value = atomic_load_explicit(&cell->values[id], memory_order_relaxed);

    atomic_store_explicit(&cell->values[id], value + by, memory_order_relaxed);
}

static inline void metric_set(struct metrics_cell *cell, enum metric_id id, uint64_t value)
{
    atomic_store_explicit(&cell->values[id], value, memory_order_relaxed);
}

struct metrics {
    struct metrics_cell *cells; /* one a worker, then the control thread's, then one an HTTP thread */
    unsigned cell_count;
};

/* All cells zero. worker_count: threads beside the control thread. 0, or -ENOMEM. */
int metrics_init(struct metrics *metrics, unsigned worker_count);
void metrics_deinit(struct metrics *metrics);
/* The sum over all cells, wrapping at 64 bits. */
uint64_t metrics_sum(const struct metrics *metrics, enum metric_id id);

/* Prometheus text of all metrics of that program. */
void metrics_write(const struct metrics *metrics, enum metrics_tier tier, struct text *out);

/* Families whose labels are only known while running, such as one cell a policy or a member: the
 * head once, then a line each. label_value: any bytes, escaped here. The name must not be in
 * metrics.def. */
void metrics_write_head(
    struct text *out, const char *name, enum metric_kind kind, const char *help);
/* label="value", the value escaped. */
void metrics_write_label(struct text *out, const char *label, const char *label_value);
void metrics_write_labeled(struct text *out, const char *name, enum metric_kind kind,
    const char *label, const char *label_value, uint64_t value);
