/* Keep traces by several policies, each with spans per second of its own.   Source: tail_sampling `composite`.
 *
 * The first policy inside that wants a trace decides: the trace is kept when it still fits into that policy's spans of this
 * wall-clock second, and not kept otherwise, whatever stands behind. max_total_spans_per_second bounds each of them, not
 * their sum, and policy_order is read and has no effect: both as in the Collector.
 *
 * Differs from the Collector: a clock that reads one second less than before begins no new second. With several workers
 * that is one which read it a moment earlier. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/error.h"
#include "common/base/num.h"
#include "sampler/decide/policy.h"

struct composite {
    int64_t max_total_spans_per_second;
    struct config_strings policy_order;
    const struct config_node *composite_sub_policy, *rate_allocation;
    struct policy_list policies;
    struct composite_second *second;
};

struct share { /* of one policy inside */
    int64_t allocated_spans, kept_spans;
};

struct composite_second { /* all decisions of a node share it */
    atomic_uint refs; /* of policies, in the sets of several generations */
    uint64_t unix_s;
    struct share shares[];
};

static const struct config_key composite_keys[] = {
    CONFIG_KEY(struct composite, max_total_spans_per_second, CONFIG_INT,
        "what the percentages are of, and the most spans a second of each policy inside (default 0)"),
    CONFIG_KEY(struct composite, policy_order, CONFIG_STRINGS,
        "no effect, as in the Collector: policies are asked in the order of composite_sub_policy"),
    CONFIG_KEY(struct composite, composite_sub_policy, CONFIG_NODE,
        "list of policies, each with name, type and settings"),
    CONFIG_KEY(struct composite, rate_allocation, CONFIG_NODE,
        "list of {policy, percent}; a policy without has an equal share"),
    {0},
};

struct allocation {
    char *policy;
    int64_t percent;
};

static const struct config_key allocation_keys[] = {
    CONFIG_KEY(struct allocation, policy, CONFIG_STRING, "name of a policy inside"),
    CONFIG_KEY(struct allocation, percent, CONFIG_INT,
        "its share of max_total_spans_per_second; 0 or less: an equal share"),
    {0},
};

static int64_t whole_spans(double spans)
{
    if (spans >= 0x1p63)
        return INT64_MAX;
    return spans <= -0x1p63 ? INT64_MIN : (int64_t)spans;
}

/* The last entry for a name counts; names that no policy has say nothing. */
static void composite_allocate(struct composite *composite, const struct allocation *allocation)
{
    const char *name = allocation->policy ? allocation->policy : "";
    double total = (double)composite->max_total_spans_per_second;

    for (size_t i = 0; i < composite->policies.count; i++) {
        if (strcmp(composite->policies.items[i].name, name) != 0)
            continue;
        composite->second->shares[i].allocated_spans =
            whole_spans(allocation->percent > 0 ? (double)allocation->percent / 100 * total
                                                : total / (double)composite->policies.count);
    }
}

static int composite_read_allocations(
    struct composite *composite, const struct policy_prepare *prepare)
{
    const struct config_node *list = composite->rate_allocation;
    enum config_node_kind kind = config_node_kind(list);
    int result = 0;

    if (kind != CONFIG_NODE_SEQUENCE && kind != CONFIG_NODE_NULL)
        return config_error(prepare->context, list, "expected a list of {policy, percent}, found %s",
            config_node_kind_name(kind));
    for (size_t i = 0; i < composite->policies.count; i++)
        composite->second->shares[i].allocated_spans = whole_spans(
            (double)composite->max_total_spans_per_second / (double)composite->policies.count);
    for (size_t i = 0; i < config_node_count(list); i++) {
        struct allocation allocation = {0};

        if (config_read(prepare->context, config_node_at(list, i), allocation_keys, &allocation))
            result = CONFIG_E_INVALID;
        composite_allocate(composite, &allocation);
    }
    return result;
}

static void second_unref(struct composite_second *second)
{
    if (second && atomic_fetch_sub_explicit(&second->refs, 1, memory_order_acq_rel) == 1)
        free(second);
}

static void composite_inherit(void *self, const void *opaque)
{
    struct composite *composite = self;
    const struct composite *before = opaque;

    policy_list_inherit(&composite->policies, &before->policies);
    atomic_fetch_add_explicit(&before->second->refs, 1, memory_order_relaxed);
    second_unref(composite->second);
    composite->second = before->second;
}

static void composite_deinit(void *self)
{
    struct composite *composite = self;

    policy_list_deinit(&composite->policies);
    second_unref(composite->second);
}

static int composite_prepare(void *self, const struct policy_prepare *prepare)
{
    struct composite *composite = self;
    int r;

    prepare->needs->state = true;
    prepare->needs->wall_clock = true;
    r = policy_list_read(
        prepare, composite->composite_sub_policy, POLICY_IN_COMPOSITE, &composite->policies);
    if (r)
        return r;
    composite->second =
        calloc(1, sizeof(*composite->second) + composite->policies.count * sizeof(struct share));
    if (composite->second)
        atomic_init(&composite->second->refs, 1);
    r = composite->second ? composite_read_allocations(composite, prepare) : error_raise(-ENOMEM);
    if (r)
        composite_deinit(composite);
    return r;
}

static void composite_tick(const struct composite *composite, uint64_t now_unix_ns)
{
    struct composite_second *second = composite->second;
    uint64_t now_s = now_unix_ns / NS_PER_S;

    if (now_s == second->unix_s || now_s + 1 == second->unix_s)
        return;
    second->unix_s = now_s;
    for (size_t i = 0; i < composite->policies.count; i++)
        second->shares[i].kept_spans = 0;
}

static bool share_take(
    struct share *share, const struct composite *composite, const struct facts *facts)
{
    int64_t spans = share->kept_spans + facts->spans_count;

    if (spans > share->allocated_spans || spans > composite->max_total_spans_per_second)
        return false; /* a smaller trace may still fit */
    share->kept_spans = spans;
    return true;
}

static struct vote composite_evaluate(const void *self, const struct verdict_input *input)
{
    const struct composite *composite = self;

    composite_tick(composite, input->now_unix_ns);
    for (size_t i = 0; i < composite->policies.count; i++) {
        struct vote vote = policy_evaluate(&composite->policies.items[i], input);

        if (vote.decision == DECISION_ERROR)
            return vote;
        if (vote.decision == DECISION_SAMPLED) {
            vote = vote_filter(
                share_take(&composite->second->shares[i], composite, input->facts),
                vote.evidence_bit);
            if (vote.decision == DECISION_SAMPLED)
                vote.inner_policy = composite->policies.items[i].name;
            return vote;
        }
    }
    return vote_filter(false, UINT32_MAX);
}

/* Its own counters do not count as state, in the Collector's eyes. */
static bool composite_is_stateful(const void *self)
{
    return policy_list_is_stateful(&((const struct composite *)self)->policies);
}

const struct policy_type policy_composite = {
    .name = "composite",
    .places = POLICY_AT_TOP,
    .size = sizeof(struct composite),
    .keys = composite_keys,
    .prepare = composite_prepare,
    .evaluate = composite_evaluate,
    .is_stateful = composite_is_stateful,
    .inherit = composite_inherit,
    .deinit = composite_deinit,
};
