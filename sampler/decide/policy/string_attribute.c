/* Keep traces with an attribute, of a resource or a span, of one of the values or found by one of the patterns.
 * Source: tail_sampling `string_attribute`. */
#include "sampler/decide/policy.h"
#include "sampler/decide/predicate.h"

struct string_attribute {
    char *key;
    struct config_strings values;
    bool enabled_regex_matching, invert_match;
    uint32_t bit;
};

static const struct config_key string_attribute_keys[] = {
    CONFIG_KEY(struct string_attribute, key, CONFIG_STRING,
        "of the attribute; the first entry with it counts"),
    CONFIG_KEY(struct string_attribute, values, CONFIG_STRINGS,
        "any of them matches; whole values (empty ones are left out) or RE2 patterns"),
    CONFIG_KEY(struct string_attribute, enabled_regex_matching, CONFIG_BOOL,
        "values are patterns, found anywhere in the text (default false)"),
    CONFIG_IGNORE("cache_max_size", "how many regex results are remembered never changes a result; "
                                    "a cache of fixed size is used"),
    CONFIG_KEY(struct string_attribute, invert_match, CONFIG_BOOL,
        "keep the traces in which nothing matches (default false)"),
    {0},
};

static int string_attribute_prepare(void *self, const struct policy_prepare *prepare)
{
    struct string_attribute *want = self;
    const char *key = want->key ? want->key : "";
    const char *error = NULL;

    if (want->enabled_regex_matching)
        want->bit = predicate_string_regex(
            prepare->builder, key, want->values.items, want->values.count, &error);
    else
        want->bit =
            predicate_string_exact(prepare->builder, key, want->values.items, want->values.count);
    if (error)
        return policy_error(prepare, "%s", error);
    return policy_asked(prepare, want->bit);
}

static struct vote string_attribute_evaluate(const void *self, const struct verdict_input *input)
{
    const struct string_attribute *want = self;
    bool found = hits_has(&input->facts->hits, want->bit);

    return vote_filter(found != want->invert_match, found ? want->bit : UINT32_MAX);
}

static bool string_attribute_is_lasting(const void *self, const struct facts *facts)
{
    (void)facts;
    return !((const struct string_attribute *)self)->invert_match;
}

const struct policy_type policy_string_attribute = {
    .name = "string_attribute",
    .size = sizeof(struct string_attribute),
    .keys = string_attribute_keys,
    .prepare = string_attribute_prepare,
    .evaluate = string_attribute_evaluate,
    .is_lasting = string_attribute_is_lasting,
};
