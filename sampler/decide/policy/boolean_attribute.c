/* Keep traces with an attribute, of a resource or a span, that is true, or that is false.
 *
 * A value of any other type reads as false.   Source: tail_sampling `boolean_attribute`. */
#include "sampler/decide/policy.h"
#include "sampler/decide/predicate.h"

struct boolean_attribute {
    char *key;
    bool value, invert_match;
    uint32_t bit;
};

static const struct config_key boolean_attribute_keys[] = {
    CONFIG_KEY(struct boolean_attribute, key, CONFIG_STRING,
        "of the attribute; the first entry with it counts"),
    CONFIG_KEY(struct boolean_attribute, value, CONFIG_BOOL, "what it must be (default false)"),
    CONFIG_KEY(struct boolean_attribute, invert_match, CONFIG_BOOL,
        "keep the traces in which nothing matches (default false)"),
    {0},
};

static int boolean_attribute_prepare(void *self, const struct policy_prepare *prepare)
{
    struct boolean_attribute *want = self;

    want->bit = predicate_bool(prepare->builder, want->key ? want->key : "", want->value);
    return policy_asked(prepare, want->bit);
}

static struct vote boolean_attribute_evaluate(const void *self, const struct verdict_input *input)
{
    const struct boolean_attribute *want = self;
    bool found = hits_has(&input->facts->hits, want->bit);

    return vote_filter(found != want->invert_match, found ? want->bit : UINT32_MAX);
}

static bool boolean_attribute_is_lasting(const void *self, const struct facts *facts)
{
    (void)facts;
    return !((const struct boolean_attribute *)self)->invert_match;
}

const struct policy_type policy_boolean_attribute = {
    .name = "boolean_attribute",
    .size = sizeof(struct boolean_attribute),
    .keys = boolean_attribute_keys,
    .prepare = boolean_attribute_prepare,
    .evaluate = boolean_attribute_evaluate,
    .is_lasting = boolean_attribute_is_lasting,
};
