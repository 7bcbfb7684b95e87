/* Counters and gauges, documented where they are declared (metrics.def).
 *
 * Each worker (and the control thread) writes its own cells, plainly; readers sum them, relaxed.
 * metrics.def makes this enum, /metrics and docs/metrics.md.
 */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* METRIC(id, name, kind, tiers, labels, help): `labels` is a fixed label set of this cell, such as
 * "reason=\"malformed\"" ("" for none); cells of one name stand together. */
enum metric_id {
#define METRIC(id, name, kind, tiers, labels, help) METRIC_##id,
#include "common/metrics/metrics.def"
#undef METRIC
    METRIC_COUNT
};

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
    struct metrics_cell *cells; /* one a worker, the last is the control thread's */
    unsigned cell_count;
};

int metrics_init(struct metrics *metrics, unsigned worker_count);
void metrics_deinit(struct metrics *metrics);
uint64_t metrics_sum(const struct metrics *metrics, enum metric_id id);

/* Prometheus text of all metrics whose name fits the program: those with TIER "lb" are left out of a sampler's page and so on. */
struct text;
enum metrics_tier { METRICS_LB = 1, METRICS_SAMPLER = 2 };
void metrics_write(const struct metrics *metrics, enum metrics_tier tier, struct text *out);

/* A growing text, for pages. After a failed growth it stays as it is and `failed` is set. */
struct text {
    char *at;
    size_t len, capacity;
    int failed;
};
void text_append(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_deinit(struct text *text);
