/* Reading one policy, wherever it stands.
 *
 * Refused here: what the Collector refuses, in its words, with file and line before them; and by name what we do not have:
 * types that extensions bring. What it accepts without effect (settings of another type beside a policy's own) is
 * accepted with a warning, because it is nearly always a slip.
 */
#include "sampler/decide/policy.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/assert.h"
#include "common/base/cleanup.h"
#include "common/base/error.h"
#include "common/base/nearest.h"
#include "common/base/num.h"
#include "common/config/yaml.h"
#include "common/otlp/ot_tracestate.h"
#include "sampler/decide/predicate.h"

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

uint64_t verdict_randomness(const struct verdict_input *input)
{
    const struct ot_facts *ot = &input->facts->ot;

    return ot->has_randomness ? ot->randomness : ot_randomness_of(input->trace_id);
}

int policy_asked(const struct policy_prepare *prepare, uint32_t bit)
{
    if (bit != PREDICATE_NONE)
        return 0;
    return policy_error(prepare,
        "all policies together ask more than %d different questions about spans", PREDICATES_MAX);
}

/* The known type that was probably meant; NULL when nothing is close. */
static const char *type_nearest(const char *name)
{
    struct nearest nearest = nearest_start(name, false);

    for (size_t i = 0; policy_types[i]; i++)
        nearest_offer(&nearest, policy_types[i]->name);
    return nearest.found;
}

static const char *place_name(enum policy_place place)
{
    switch (place) {
    case POLICY_AT_TOP:
        return "the list of policies";
    case POLICY_IN_AND:
        return "and";
    case POLICY_IN_NOT:
        return "not";
    case POLICY_IN_DROP:
        return "drop";
    case POLICY_IN_COMPOSITE:
        return "composite";
    }
    return "";
}

static bool type_fits(const struct policy_type *type, enum policy_place place)
{
    return type->places == 0 || (type->places & place);
}

static void known_types(enum policy_place place, char *text, size_t size)
{
    size_t len = 0;

    text[0] = '\0';
    for (size_t i = 0; policy_types[i] && len < size; i++)
        if (type_fits(policy_types[i], place))
            len += (size_t)snprintf(
                text + len, size - len, "%s%s", len > 0 ? ", " : "", policy_types[i]->name);
}

static int refuse_type(const struct policy_prepare *prepare, const struct config_node *node,
    const char *type, enum policy_place place)
{
    const char *nearest = type_nearest(type);
    char known[512];

    known_types(place, known, sizeof(known));
    if (type[0] == '\0')
        return policy_error(
            prepare, "unknown sampling policy type: none is given; known are %s", known);
    if (policy_type_find(type))
        return policy_error(prepare, "unknown sampling policy type %s inside %s; there can be %s",
            type, place_name(place), known);
    if (nearest)
        return policy_error(
            prepare, "unknown sampling policy type %s; did you mean %s?", type, nearest);
    if (config_node_kind(config_node_get(node, type)) == CONFIG_NODE_MAP)
        return policy_error(prepare,
            "unknown sampling policy type %s; were it an extension's: those are Go code, which "
            "is not run here; say it with %s",
            type, known);
    return policy_error(prepare, "unknown sampling policy type %s; known are %s", type, known);
}

/* -- reading --------------------------------------------------------------------------------- */

/* Settings of a type that the policy is not of: read, as the Collector does, and used by nobody. */
static int read_unused(
    struct config_context *context, const struct config_node *value, const struct policy_type *type)
{
    void *unused = calloc(1, type->size);
    int r;

    if (!unused)
        return error_raise(-ENOMEM);
    r = config_read(context, value, type->keys, unused);
    free(unused);
    return r;
}

/* What stands beside name, type and the policy's own settings. The Collector takes a map under an unknown key for an
 * extension's settings. */
static int read_bystanders(struct config_context *context, const struct config_node *node,
    enum policy_place place, const struct policy *policy)
{
    int result = 0, r;

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
        if (other && other->keys && type_fits(other, place)) {
            r = read_unused(context, value, other);
            if (r < 0)
                return r;
            if (r > 0)
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

/* The text of name or type: nothing there is "". */
static int read_word(
    struct config_context *context, const struct config_node *node, const char **out_text)
{
    enum config_node_kind kind = config_node_kind(node);

    *out_text = config_node_text(node);
    if (kind == CONFIG_NODE_STRING || kind == CONFIG_NODE_NULL)
        return 0;
    return config_error(context, node, "expected text, found %s", config_node_kind_name(kind));
}

int policy_read(const struct policy_prepare *outer, const struct config_node *node,
    enum policy_place place, struct policy *out_policy)
{
    const struct config_node *type = config_node_get(node, "type"), *settings;
    enum config_node_kind kind = config_node_kind(node);
    struct policy_prepare prepare = *outer;
    const char *name, *type_name;
    int named, r;

    if (kind != CONFIG_NODE_MAP && (kind != CONFIG_NODE_NULL || place == POLICY_AT_TOP))
        return config_error(outer->context, node,
            "expected a policy (a map with name and type), found %s", config_node_kind_name(kind));
    named = read_word(outer->context, config_node_get(node, "name"), &name);
    out_policy->name = strdup(name);
    if (!out_policy->name)
        return error_raise(-ENOMEM);
    if (node)
        prepare.node = node;
    if (place == POLICY_AT_TOP)
        prepare.name = out_policy->name;
    r = read_word(outer->context, type, &type_name);
    if (r)
        return r;
    out_policy->type = policy_type_find(type_name);
    if (!out_policy->type || !type_fits(out_policy->type, place)) {
        if (type)
            prepare.node = type;
        return refuse_type(&prepare, node, type_name, place);
    }
    r = read_bystanders(outer->context, node, place, out_policy);
    if (r < 0)
        return r;
    if (r > 0)
        named = r;
    settings = config_node_get(node, out_policy->type->name);
    if (config_node_kind(settings) != CONFIG_NODE_NULL)
        prepare.node = settings;
    r = read_settings(&prepare, settings, out_policy);
    return r ? r : named;
}

void policy_deinit(struct policy *policy)
{
    if (policy->is_ready && policy->type->deinit)
        policy->type->deinit(policy->self);
    free(policy->self);
    free(policy->name);
    *policy = (struct policy){0};
}

/* -- policies inside policies ------------------------------------------------------------------- */

int policy_list_read(const struct policy_prepare *outer, const struct config_node *list,
    enum policy_place place, struct policy_list *out_list)
{
    enum config_node_kind kind = config_node_kind(list);
    struct policy_list read = {.count = config_node_count(list)};
    int result = 0;

    *out_list = (struct policy_list){0};
    if (kind != CONFIG_NODE_SEQUENCE && kind != CONFIG_NODE_NULL)
        return config_error(outer->context, list, "expected a list of policies, found %s",
            config_node_kind_name(kind));
    read.items = calloc(read.count + 1, sizeof(*read.items));
    if (!read.items)
        return error_raise(-ENOMEM);
    /* All of them, so that all errors are seen at once. */
    for (size_t i = 0; i < read.count && result >= 0; i++) {
        int r = policy_read(outer, config_node_at(list, i), place, &read.items[i]);

        if (r)
            result = r;
    }
    if (result)
        policy_list_deinit(&read);
    *out_list = read;
    return result;
}

void policy_list_deinit(struct policy_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        policy_deinit(&list->items[i]);
    free(list->items);
    *list = (struct policy_list){0};
}

void policy_inherit(struct policy *policy, const struct policy *before)
{
    if (policy->type == before->type && policy->type->inherit)
        policy->type->inherit(policy->self, before->self);
}

void policy_list_inherit(struct policy_list *list, const struct policy_list *before)
{
    ASSERT(list->count == before->count);
    for (size_t i = 0; i < list->count; i++)
        policy_inherit(&list->items[i], &before->items[i]);
}

bool policy_list_is_stateful(const struct policy_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (policy_is_stateful(&list->items[i]))
            return true;
    return false;
}

bool policy_list_is_lasting(const struct policy_list *list, const struct facts *facts)
{
    for (size_t i = 0; i < list->count; i++)
        if (!policy_is_lasting(&list->items[i], facts))
            return false;
    return true;
}

bool policy_always_lasting(const void *self, const struct facts *facts)
{
    (void)self;
    (void)facts;
    return true;
}

struct vote policy_list_agree(const struct policy_list *list, const struct verdict_input *input)
{
    struct vote all = vote_filter(true, UINT32_MAX);

    for (size_t i = 0; i < list->count; i++) {
        struct vote vote = policy_evaluate(&list->items[i], input);

        if (vote.decision != DECISION_SAMPLED)
            return vote; /* no, or an error: the others are not asked, so they spend nothing */
        all.threshold = u64_max(all.threshold, vote.threshold);
        if (all.evidence_bit == UINT32_MAX)
            all.evidence_bit = vote.evidence_bit;
    }
    return all;
}
