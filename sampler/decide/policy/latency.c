/* Keep traces by how long they took.   Source: tail_sampling `latency`.
 *
 * The time from the smallest start to the largest end, in whole milliseconds, above the lower bound and not above the
 * upper one. A missing end reads as 0, so a trace of such spans only has a negative time; so it has when spans end before
 * they start.
 *
 * Differs from the Collector, where the answer follows the order of arrival: there the upper bound is tested after each
 * span, so a long trace is kept when its first spans were short, and a span without a start makes any trace look some
 * fifty years long. Here the trace is judged as a whole, once, and a missing start counts only when every start is missing. */
#include "common/base/num.h"
#include "common/metrics/text.h"
#include "sampler/decide/policy.h"

struct latency {
    int64_t threshold_ms, upper_threshold_ms;
};

static const struct config_key latency_keys[] = {
    CONFIG_KEY(struct latency, threshold_ms, CONFIG_INT,
        "kept traces take longer than this many ms (default 0)"),
    CONFIG_KEY(struct latency, upper_threshold_ms, CONFIG_INT,
        "and at most this many ms; 0 (default): no upper bound"),
    {0},
};

/* Modulo 2^64, read as signed, cut toward zero: as the Collector does it. */
static int64_t took_ms_of(const struct facts *facts)
{
    return (int64_t)(facts->max_end_unix_ns - facts->min_start_unix_ns) / (int64_t)NS_PER_MS;
}

static void latency_explain(const void *self, const struct facts *facts, struct text *out)
{
    (void)self;
    text_append(out, "the trace took %lld ms", (long long)took_ms_of(facts));
}

static struct vote latency_evaluate(const void *self, const struct verdict_input *input)
{
    const struct latency *want = self;
    int64_t took_ms = took_ms_of(input->facts);

    return vote_filter(took_ms > want->threshold_ms &&
                           (want->upper_threshold_ms == 0 || took_ms <= want->upper_threshold_ms),
        UINT32_MAX);
}

static bool latency_is_stateful(const void *self)
{
    return ((const struct latency *)self)->upper_threshold_ms > 0;
}

/* A first start makes a trace without one shorter; from then on it only grows. */
static bool latency_is_lasting(const void *self, const struct facts *facts)
{
    return ((const struct latency *)self)->upper_threshold_ms == 0 && facts->min_start_unix_ns > 0;
}

const struct policy_type policy_latency = {
    .name = "latency",
    .size = sizeof(struct latency),
    .keys = latency_keys,
    .evaluate = latency_evaluate,
    .is_stateful = latency_is_stateful,
    .is_lasting = latency_is_lasting,
    .explain = latency_explain,
};
