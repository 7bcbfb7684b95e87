/* Keep traces by their number of spans, both bounds inclusive.   Source: tail_sampling `span_count`.
 *
 * A bound beyond 32 bits is what it says; in the Collector it wraps around. */
#include "common/metrics/text.h"
#include "sampler/decide/policy.h"

struct span_count {
    int64_t min_spans, max_spans;
};

static const struct config_key span_count_keys[] = {
    CONFIG_KEY(struct span_count, min_spans, CONFIG_INT, "fewest spans a kept trace has (default 0)"),
    CONFIG_KEY(
        struct span_count, max_spans, CONFIG_INT, "most spans it has; 0 (default): no upper bound"),
    {0},
};

static struct vote span_count_evaluate(const void *self, const struct verdict_input *input)
{
    const struct span_count *want = self;
    int64_t count = input->facts->spans_count;

    return vote_filter(
        count >= want->min_spans && (want->max_spans == 0 || count <= want->max_spans), UINT32_MAX);
}

static void span_count_explain(const void *self, const struct facts *facts, struct text *out)
{
    (void)self;
    text_append(out, "%u spans", facts->spans_count);
}

static bool span_count_is_stateful(const void *self)
{
    return ((const struct span_count *)self)->max_spans > 0;
}

static bool span_count_is_lasting(const void *self, const struct facts *facts)
{
    (void)facts;
    return ((const struct span_count *)self)->max_spans == 0;
}

const struct policy_type policy_span_count = {
    .name = "span_count",
    .size = sizeof(struct span_count),
    .keys = span_count_keys,
    .evaluate = span_count_evaluate,
    .is_stateful = span_count_is_stateful,
    .is_lasting = span_count_is_lasting,
    .explain = span_count_explain,
};
