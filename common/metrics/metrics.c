#include "common/metrics/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "common/base/error.h"
#include "common/base/json_escape.h"

/* The words of the kind and tiers columns of metrics.def. */
#define COUNTER METRIC_KIND_COUNTER
#define GAUGE   METRIC_KIND_GAUGE
#define HISTOGRAM METRIC_KIND_HISTOGRAM
#define LB      METRICS_LB
#define SAMPLER METRICS_SAMPLER
#define BOTH    (METRICS_LB | METRICS_SAMPLER)
#define SAMPLER_NAMED METRICS_SAMPLER_NAMED
#define LB_NAMED METRICS_LB_NAMED

const struct metric_info metric_infos[METRIC_COUNT] = {
#define METRIC(id, name, kind, tiers, labels, help)                                                \
    [METRIC_##id] = {name, labels, help, kind, tiers},
#include "common/metrics/metrics.def"
#undef METRIC
};

const char *metric_kind_text(enum metric_kind kind)
{
    static const char *const texts[] = {"counter", "gauge", "histogram"};

    return texts[kind];
}

int metrics_init(struct metrics *metrics, unsigned worker_count)
{
    unsigned cell_count = worker_count + 1;

    metrics->cells =
        aligned_alloc(_Alignof(struct metrics_cell), cell_count * sizeof(*metrics->cells));
    metrics->cell_count = metrics->cells ? cell_count : 0;
    if (!metrics->cells)
        return error_raise(-ENOMEM);
    for (unsigned i = 0; i < cell_count; i++)
        for (size_t id = 0; id < METRIC_COUNT; id++)
            atomic_init(&metrics->cells[i].values[id], 0);
    return 0;
}

void metrics_deinit(struct metrics *metrics)
{
    free(metrics->cells);
    *metrics = (struct metrics){0};
}

uint64_t metrics_sum(const struct metrics *metrics, enum metric_id id)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < metrics->cell_count; i++)
        sum += atomic_load_explicit(&metrics->cells[i].values[id], memory_order_relaxed);
    return sum;
}

/* -- text exposition format 0.0.4 -----------------------------------------------------------------
 */

/* HELP escapes backslash and line end; a label value also its quote. */
static void write_escaped(struct text *out, struct slice value, bool in_label)
{
    while (value.len > 0) {
        size_t len = utf8_length(value);

        if (len == 0)
            text_append_slice(out, SLICE_LITERAL("\xef\xbf\xbd")); /* the page must be UTF-8 */
        else if (value.at[0] == '\n')
            text_append_slice(out, SLICE_LITERAL("\\n"));
        else if (value.at[0] == '\\')
            text_append_slice(out, SLICE_LITERAL("\\\\"));
        else if (value.at[0] == '"' && in_label)
            text_append_slice(out, SLICE_LITERAL("\\\""));
        else
            text_append_slice(out, slice_make(value.at, len));
        len = len > 0 ? len : 1;
        value = slice_make(value.at + len, value.len - len);
    }
}

static void write_value(struct text *out, enum metric_kind kind, uint64_t value)
{
    switch (kind) {
    case METRIC_KIND_COUNTER:
        text_append(out, " %" PRIu64 "\n", value);
        break;
    case METRIC_KIND_GAUGE:
        text_append(out, " %" PRId64 "\n", (int64_t)value);
        break;
    case METRIC_KIND_HISTOGRAM:
        break; /* no single value: histogram_write */
    }
}

void metrics_write_head(struct text *out, const char *name, enum metric_kind kind, const char *help)
{
    text_append(out, "# HELP %s ", name);
    write_escaped(out, slice_text(help), false);
    text_append(out, "\n# TYPE %s %s\n", name, metric_kind_text(kind));
}

void metrics_write_label(struct text *out, const char *label, const char *label_value)
{
    text_append(out, "%s=\"", label);
    write_escaped(out, slice_text(label_value), true);
    text_append(out, "\"");
}

void metrics_write_labeled(struct text *out, const char *name, enum metric_kind kind,
    const char *label, const char *label_value, uint64_t value)
{
    text_append(out, "%s{", name);
    metrics_write_label(out, label, label_value);
    text_append(out, "}");
    write_value(out, kind, value);
}

void metrics_write(const struct metrics *metrics, enum metrics_tier tier, struct text *out)
{
    const char *family = "";

    for (size_t id = 0; id < METRIC_COUNT; id++) {
        const struct metric_info *info = &metric_infos[id];

        if (!(info->tiers & (unsigned)tier))
            continue;
        if (strcmp(family, info->name) != 0)
            metrics_write_head(out, info->name, info->kind, info->help);
        family = info->name;
        text_append(out, "%s", info->name);
        if (info->labels[0])
            text_append(out, "{%s}", info->labels);
        write_value(out, info->kind, metrics_sum(metrics, (enum metric_id)id));
    }
}
