/* A page is read while its histogram grows, so the total is the sum of the counts that were read: the last bucket and the
 * count never differ. */
#include "common/metrics/histogram.h"

#include <inttypes.h>

#include "common/base/num.h"
#include "common/metrics/metrics.h"

static const uint64_t bounds_ms[HISTOGRAM_BOUNDS] = {5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000};

static void add(_Atomic uint64_t *value, uint64_t by)
{
    /* One writer: a plain add, stored so that readers never see it torn. */
    atomic_store_explicit(value, atomic_load_explicit(value, memory_order_relaxed) + by, memory_order_relaxed);
}

void histogram_note(struct histogram *histogram, uint64_t took_ns)
{
    size_t i = 0;

    while (i < HISTOGRAM_BOUNDS && took_ns > bounds_ms[i] * NS_PER_MS)
        i++;
    add(&histogram->counts[i], 1);
    add(&histogram->sum_ns, took_ns);
}

static void write_name(struct text *out, const char *name, const char *suffix, const char *label, const char *label_value)
{
    text_append(out, "%s%s{", name, suffix);
    metrics_write_label(out, label, label_value);
}

void histogram_write(const struct histogram *histogram, struct text *out, const char *name, const char *label, const char *label_value)
{
    uint64_t sum_ns = atomic_load_explicit(&histogram->sum_ns, memory_order_relaxed), count = 0;

    for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        count += atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
        write_name(out, name, "_bucket", label, label_value);
        if (i < HISTOGRAM_BOUNDS)
            text_append(out, ",le=\"%" PRIu64 "\"} %" PRIu64 "\n", bounds_ms[i], count);
        else
            text_append(out, ",le=\"+Inf\"} %" PRIu64 "\n", count);
    }
    write_name(out, name, "_sum", label, label_value);
    text_append(out, "} %" PRIu64 ".%06" PRIu64 "\n", (uint64_t)(sum_ns / NS_PER_MS), (uint64_t)(sum_ns % NS_PER_MS));
    write_name(out, name, "_count", label, label_value);
    text_append(out, "} %" PRIu64 "\n", count);
}
