/* Keep traces with an attribute, of a resource or a span, whose whole number lies in a range.
 *
 * A value of any other type reads as 0, doubles too. A bound of 0 is no bound, so `min_value: 0` cannot be said.
 * Differs from the Collector: without both bounds that one starts, and crashes at the first trace.
 * Source: tail_sampling `numeric_attribute`. */
#include "sampler/decide/policy.h"
#include "sampler/decide/predicate.h"

struct numeric_attribute {
    char *key;
    int64_t min_value, max_value;
    bool invert_match;
    uint32_t bit;
};

static const struct config_key numeric_attribute_keys[] = {
    CONFIG_KEY(struct numeric_attribute, key, CONFIG_STRING,
        "of the attribute; the first entry with it counts"),
    CONFIG_KEY(
        struct numeric_attribute, min_value, CONFIG_INT, "smallest number; 0 (default): no lower bound"),
    CONFIG_KEY(
        struct numeric_attribute, max_value, CONFIG_INT, "largest number; 0 (default): no upper bound"),
    CONFIG_KEY(struct numeric_attribute, invert_match, CONFIG_BOOL,
        "keep the traces in which nothing matches (default false)"),
    {0},
};

static int numeric_attribute_prepare(void *self, const struct policy_prepare *prepare)
{
    struct numeric_attribute *want = self;

    if (want->min_value == 0 && want->max_value == 0)
        return policy_error(prepare,
            "numeric_attribute needs min_value or max_value, and 0 is no bound; for any number write "
            "min_value: -9223372036854775808");
    want->bit = predicate_int_range(prepare->builder, want->key ? want->key : "",
        want->min_value != 0 ? want->min_value : INT64_MIN,
        want->max_value != 0 ? want->max_value : INT64_MAX);
    return policy_asked(prepare, want->bit);
}

static struct vote numeric_attribute_evaluate(const void *self, const struct verdict_input *input)
{
    const struct numeric_attribute *want = self;
    bool found = hits_has(&input->facts->hits, want->bit);

    return vote_filter(found != want->invert_match, found ? want->bit : UINT32_MAX);
}

static bool numeric_attribute_is_lasting(const void *self, const struct facts *facts)
{
    (void)facts;
    return !((const struct numeric_attribute *)self)->invert_match;
}

const struct policy_type policy_numeric_attribute = {
    .name = "numeric_attribute",
    .size = sizeof(struct numeric_attribute),
    .keys = numeric_attribute_keys,
    .prepare = numeric_attribute_prepare,
    .evaluate = numeric_attribute_evaluate,
    .is_lasting = numeric_attribute_is_lasting,
};
