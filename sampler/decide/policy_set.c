/* Reading the list of policies, and counting their votes.
 *
 * Refused here: what the Collector refuses, in its words, with file and line before them; and by name the policy types
 * that it has and we do not have yet. What it accepts without effect (settings of another type beside a policy's own) is
 * accepted with a warning, because it is nearly always a slip.
 */
#include "sampler/decide/policy_set.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "common/base/error.h"
#include "common/config/yaml.h"

struct policy {
    const struct policy_type *type;
    char *name;
    void *self;
    bool is_ready; /* its prepare went well: deinit is due */
};

struct policy_set {
    atomic_uint refs; /* traces of all workers hold it */
    uint64_t generation;
    bool sample_on_first_match;
    struct predicates *predicates;
    size_t count;
    uint16_t *order; /* in which they are judged: those that drop, then the others */
    struct policy policies[];
};

/* Types of the Collector that a later release brings. */
static const char *const later_types[] = {
    "and",
    "boolean_attribute",
    "bytes_limiting",
    "composite",
    "drop",
    "not",
    "numeric_attribute",
    "ottl_condition",
    "rate_limiting",
    "span_count",
    "trace_flags",
    "trace_state",
};

const char *decision_name(enum decision decision)
{
    switch (decision) {
    case DECISION_PENDING:
        return "pending";
    case DECISION_SAMPLED:
        return "sampled";
    case DECISION_NOT_SAMPLED:
        return "not_sampled";
    case DECISION_DROPPED:
        return "dropped";
    case DECISION_ERROR:
        return "error";
    }
    return "unknown";
}

const struct policy_type *policy_type_find(const char *name)
{
    for (size_t i = 0; policy_types[i]; i++)
        if (strcmp(policy_types[i]->name, name) == 0)
            return policy_types[i];
    return NULL;
}

/* -- errors ---------------------------------------------------------------------------------- */

int policy_error(const struct policy_prepare *prepare, const char *format, ...)
{
    char text[1024]; /* longer reasons are cut: they quote the user's own text */
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return config_error(prepare->context, prepare->node,
        "failed to create policy evaluator for \"%s\": %s", prepare->name, text);
}

int policy_asked(const struct policy_prepare *prepare, uint32_t bit)
{
    if (bit != PREDICATE_NONE)
        return 0;
    return policy_error(prepare,
        "all policies together ask more than %d different questions about spans", PREDICATES_MAX);
}

#define TYPE_NAME_MAX 48

/* Levenshtein's distance; words beyond TYPE_NAME_MAX are far from everything. */
static size_t word_distance(const char *a, const char *b)
{
    size_t row[TYPE_NAME_MAX + 1], a_len = strlen(a), b_len = strlen(b);

    if (a_len > TYPE_NAME_MAX || b_len > TYPE_NAME_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);

            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[b_len];
}

/* The known type that was probably meant; NULL when nothing is close. */
static const char *type_nearest(const char *name)
{
    size_t least = strlen(name) / 3 + 2; /* a few slips in a long name, one in a short one */
    const char *nearest = NULL;

    for (size_t i = 0; policy_types[i]; i++) {
        size_t distance = word_distance(name, policy_types[i]->name);

        if (distance < least) {
            least = distance;
            nearest = policy_types[i]->name;
        }
    }
    return nearest;
}

static bool type_comes_later(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(later_types); i++)
        if (strcmp(later_types[i], name) == 0)
            return true;
    return false;
}

static int refuse_type(const struct policy_prepare *prepare, const char *type)
{
    const char *nearest = type_nearest(type);
    char known[256] = "";
    size_t len = 0;

    for (size_t i = 0; policy_types[i] && len < sizeof(known); i++)
        len += (size_t)snprintf(
            known + len, sizeof(known) - len, "%s%s", i > 0 ? ", " : "", policy_types[i]->name);
    if (type_comes_later(type))
        return policy_error(
            prepare, "sampling policy type %s is not in this release, which has %s", type, known);
    if (nearest)
        return policy_error(
            prepare, "unknown sampling policy type %s; did you mean %s?", type, nearest);
    return policy_error(prepare, "unknown sampling policy type %s; known are %s", type, known);
}

/* -- reading --------------------------------------------------------------------------------- */

/* What stands beside name, type and the policy's own settings. The Collector takes a map under an unknown key for an
 * extension's settings; settings of other types are read, then nobody uses them. */
static int read_bystanders(
    struct config_context *context, const struct config_node *node, const struct policy *policy)
{
    int result = 0;

    for (size_t i = 0; i < config_node_count(node); i++) {
        const char *key = config_node_key(node, i);
        const struct config_node *value = config_node_at(node, i);
        const struct policy_type *other = policy_type_find(key);

        if (strcmp(key, "name") == 0 || strcmp(key, "type") == 0)
            continue;
        if (strcmp(key, policy->type->name) == 0 && policy->type->keys)
            continue;
        if (config_node_kind(value) != CONFIG_NODE_MAP &&
            config_node_kind(value) != CONFIG_NODE_NULL) {
            result = config_error(context, value,
                "expected a map: beside name and type a policy has only the settings of its type "
                "(%s)",
                policy->type->name);
            continue;
        }
        if (other && other->keys) {
            void *unused = calloc(1, other->size);
            int r;

            if (!unused)
                return error_raise(-ENOMEM);
            r = config_read(context, value, other->keys, unused);
            free(unused);
            if (r)
                result = r;
        }
        if (config_node_count(value) > 0)
            config_warn(context, value, "has no effect: the policy's type is %s%s",
                policy->type->name, policy->type->keys ? "" : ", which has no settings");
    }
    return result;
}

static int read_settings(
    const struct policy_prepare *prepare, const struct config_node *settings, struct policy *policy)
{
    const struct policy_type *type = policy->type;
    int r = 0;

    policy->self = calloc(1, type->size > 0 ? type->size : 1);
    if (!policy->self)
        return error_raise(-ENOMEM);
    if (type->defaults)
        type->defaults(policy->self);
    if (type->keys)
        r = config_read(prepare->context, settings, type->keys, policy->self);
    if (r == 0 && type->prepare)
        r = type->prepare(policy->self, prepare);
    policy->is_ready = r == 0;
    return r;
}

static int read_name(struct config_context *context, const struct config_node *node,
    struct policy_set *set, size_t index)
{
    const struct config_node *name = config_node_get(node, "name");
    const char *text = config_node_text(name);

    set->policies[index].name = strdup(text);
    if (!set->policies[index].name)
        return error_raise(-ENOMEM);
    if (config_node_kind(name) != CONFIG_NODE_STRING && config_node_kind(name) != CONFIG_NODE_NULL)
        return config_error(context, name, "expected text, found %s",
            config_node_kind_name(config_node_kind(name)));
    if (text[0] == '\0')
        return config_error(context, node, "policy name cannot be empty");
    for (size_t i = 0; i < index; i++)
        if (set->policies[i].name && strcmp(set->policies[i].name, text) == 0)
            return config_error(context, name, "duplicate policy name \"%s\"", text);
    return 0;
}

static int read_policy(struct config_context *context, const struct config_node *node,
    struct predicate_builder *builder, struct policy_set *set, size_t index)
{
    struct policy *policy = &set->policies[index];
    const struct config_node *type = config_node_get(node, "type"), *settings;
    struct policy_prepare prepare = {context, node, "", builder};
    int named, r;

    if (config_node_kind(node) != CONFIG_NODE_MAP)
        return config_error(context, node, "expected a policy (a map with name and type), found %s",
            config_node_kind_name(config_node_kind(node)));
    named = read_name(context, node, set, index);
    if (named < 0)
        return named;
    prepare.name = policy->name;
    if (config_node_kind(type) != CONFIG_NODE_STRING && config_node_kind(type) != CONFIG_NODE_NULL)
        return config_error(context, type, "expected text, found %s",
            config_node_kind_name(config_node_kind(type)));
    policy->type = policy_type_find(config_node_text(type));
    if (!policy->type) {
        if (type)
            prepare.node = type;
        return refuse_type(&prepare, config_node_text(type));
    }
    r = read_bystanders(context, node, policy);
    if (r < 0)
        return r;
    if (r > 0)
        named = r;
    settings = config_node_get(node, policy->type->name);
    if (config_node_kind(settings) != CONFIG_NODE_NULL)
        prepare.node = settings;
    r = read_settings(&prepare, settings, policy);
    return r ? r : named;
}

static void policy_set_free(struct policy_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        struct policy *policy = &set->policies[i];

        if (policy->is_ready && policy->type->deinit)
            policy->type->deinit(policy->self);
        free(policy->self);
        free(policy->name);
    }
    predicates_free(set->predicates);
    free(set->order);
    free(set);
}

CLEANUP_DEFINE(struct policy_set, policy_set_free);
CLEANUP_DEFINE(struct predicate_builder, predicate_builder_free);

static void policy_set_order(struct policy_set *set)
{
    uint16_t at = 0;

    for (uint16_t i = 0; i < set->count; i++)
        if (set->policies[i].type->goes_first)
            set->order[at++] = i;
    for (uint16_t i = 0; i < set->count; i++)
        if (!set->policies[i].type->goes_first)
            set->order[at++] = i;
}

int policy_set_new(struct config_context *context, const struct config_node *policies,
    bool sample_on_first_match, uint64_t generation, struct policy_set **out_set)
{
    CLEANUP(predicate_builder_free) struct predicate_builder *builder = NULL;
    CLEANUP(policy_set_free) struct policy_set *set = NULL;
    enum config_node_kind kind = config_node_kind(policies);
    size_t count = config_node_count(policies);
    int result = 0, r;

    if (kind != CONFIG_NODE_SEQUENCE && kind != CONFIG_NODE_NULL)
        return config_error(context, policies, "expected a list of policies, found %s",
            config_node_kind_name(kind));
    if (count >= UINT16_MAX)
        return config_error(
            context, policies, "%zu policies are too many; at most %d", count, UINT16_MAX - 1);

    builder = predicate_builder_new();
    set = calloc(1, sizeof(*set) + count * sizeof(set->policies[0]));
    if (!builder || !set)
        return error_raise(-ENOMEM);
    atomic_init(&set->refs, 1);
    set->generation = generation;
    set->sample_on_first_match = sample_on_first_match;
    set->order = calloc(count + 1, sizeof(*set->order));
    if (!set->order)
        return error_raise(-ENOMEM);

    /* All of them are read, so that all errors are seen at once. */
    for (size_t i = 0; i < count; i++) {
        set->count = i + 1;
        r = read_policy(context, config_node_at(policies, i), builder, set, i);
        if (r < 0)
            return error_pass(r);
        if (r > 0)
            result = r;
    }
    if (result)
        return result;
    policy_set_order(set);
    r = predicates_new(builder, &set->predicates);
    if (r)
        return error_fold(r);
    *out_set = steal(&set);
    return 0;
}

struct policy_set *policy_set_ref(struct policy_set *set)
{
    atomic_fetch_add_explicit(&set->refs, 1, memory_order_relaxed);
    return set;
}

void policy_set_unref(struct policy_set *set)
{
    if (set && atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) == 1)
        policy_set_free(set);
}

const struct predicates *policy_set_predicates(const struct policy_set *set)
{
    return set->predicates;
}

uint64_t policy_set_generation(const struct policy_set *set)
{
    return set->generation;
}

size_t policy_set_count(const struct policy_set *set)
{
    return set->count;
}

const char *policy_set_name(const struct policy_set *set, uint16_t policy)
{
    if (policy == UINT16_MAX)
        return "";
    ASSERT(policy < set->count);
    return set->policies[policy].name;
}

/* -- deciding ---------------------------------------------------------------------------------- */

static void votes_count(struct policy_votes *votes, enum decision decision)
{
    switch (decision) {
    case DECISION_SAMPLED:
        votes->sampled++;
        break;
    case DECISION_NOT_SAMPLED:
        votes->not_sampled++;
        break;
    case DECISION_DROPPED:
        votes->dropped++;
        break;
    case DECISION_ERROR:
        votes->errors++;
        break;
    case DECISION_PENDING:
        break;
    }
}

struct decided policy_set_decide_counted(
    const struct policy_set *set, const struct verdict_input *input, struct policy_votes *votes)
{
    struct decided decided = {.decision = DECISION_NOT_SAMPLED,
        .policy = UINT16_MAX,
        .evidence_bit = UINT32_MAX,
        .threshold = SAMPLING_NEVER};

    for (size_t at = 0; at < set->count; at++) {
        const uint16_t index = set->order[at];
        const struct policy *policy = &set->policies[index];
        const struct vote vote = policy->type->evaluate(policy->self, input);

        if (votes)
            votes_count(&votes[index], vote.decision);
        switch (vote.decision) {
        case DECISION_DROPPED:
            decided.decision = DECISION_DROPPED;
            decided.policy = index;
            decided.evidence_bit = vote.evidence_bit;
            decided.threshold = SAMPLING_NEVER;
            return decided;
        case DECISION_ERROR:
            decided.error_count++; /* and the others decide */
            break;
        case DECISION_SAMPLED:
            /* The smallest threshold takes the credit, so that a filter goes before a share; ties go to the earlier. */
            if (decided.decision != DECISION_SAMPLED || vote.threshold < decided.threshold) {
                decided.decision = DECISION_SAMPLED;
                decided.policy = index;
                decided.evidence_bit = vote.evidence_bit;
                decided.threshold = vote.threshold;
            }
            if (set->sample_on_first_match)
                return decided;
            break;
        case DECISION_NOT_SAMPLED:
        case DECISION_PENDING:
            break;
        }
    }
    return decided;
}

struct decided policy_set_decide(const struct policy_set *set, const struct verdict_input *input)
{
    return policy_set_decide_counted(set, input, NULL);
}
